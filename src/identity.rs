//! What a segment is for: the facts that both sides of an attach must agree on.

/// Which structure a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// [`AtomicDict`](crate::AtomicDict)
    AtomicDict,
    /// [`SharedHashMap`](crate::SharedHashMap)
    SharedHashMap,
    /// [`StreamDict`](crate::StreamDict): its control, which has its name.
    StreamDict,
    /// One generation of a [`StreamDict`](crate::StreamDict): a log and the dump before it.
    StreamGeneration,
}

impl Kind {
    /// The number that stands for it in a segment.
    pub(crate) fn code(self) -> u64 {
        match self {
            Kind::AtomicDict => 1,
            Kind::SharedHashMap => 2,
            Kind::StreamDict => 3,
            Kind::StreamGeneration => 4,
        }
    }

    /// The structure of that number, if this version knows it.
    pub(crate) fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Kind::AtomicDict),
            2 => Some(Kind::SharedHashMap),
            3 => Some(Kind::StreamDict),
            4 => Some(Kind::StreamGeneration),
            _ => None,
        }
    }
}

/// Size and alignment of a type as they stand in a segment. No name: what the compiler calls a type
/// is no contract between two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeShape {
    /// Bytes of one value; [`u32::MAX`] if they vary.
    pub size: u32,
    /// Alignment in bytes; if the size varies, what the bytes are.
    pub align: u32,
}

impl TypeShape {
    /// The shape of `T`.
    pub const fn of<T>() -> Self {
        // No type of ours comes near 4 GiB; one that did would be cut to another shape, and refused.
        Self {
            size: size_of::<T>() as u32,
            align: align_of::<T>() as u32,
        }
    }

    /// The shape of what varies in length: `code` tells what the bytes are.
    ///
    /// Text is 1, plain bytes are 2, `Serde` is 3; take numbers from 1,000 on for
    /// encodings of your own.
    pub const fn varying(code: u32) -> Self {
        Self {
            size: u32::MAX,
            align: code,
        }
    }

    pub(crate) fn word(self) -> u64 {
        u64::from(self.size) << 32 | u64::from(self.align)
    }

    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            size: (word >> 32) as u32,
            align: word as u32,
        }
    }
}

impl std::fmt::Display for TypeShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.size, self.align) {
            (u32::MAX, 1) => f.write_str("text (str)"),
            (u32::MAX, 2) => f.write_str("bytes of any length ([u8])"),
            (u32::MAX, 3) => f.write_str("serde types (Serde<T>)"),
            (u32::MAX, code) => write!(f, "an encoding of their own (code {code})"),
            (size, align) => write!(f, "{size} bytes aligned to {align}"),
        }
    }
}

/// What one side expects of a segment: the part of the header that must be equal on attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) kind: Kind,
    pub(crate) key: TypeShape,
    pub(crate) value: TypeShape,
    pub(crate) schema: u64,
}
