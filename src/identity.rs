//! What a segment is for: the facts that both sides of an attach must agree on.

/// Which structure a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// [`AtomicDict`](crate::AtomicDict)
    AtomicDict,
}

impl Kind {
    /// The number that stands for it in a segment.
    pub(crate) fn code(self) -> u64 {
        match self {
            Kind::AtomicDict => 1,
        }
    }

    /// The structure of that number, if this version knows it.
    pub(crate) fn from_code(code: u64) -> Option<Self> {
        match code {
            1 => Some(Kind::AtomicDict),
            _ => None,
        }
    }
}

/// Size and alignment of a type as they stand in a segment. No name: what the compiler calls a type
/// is no contract between two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeShape {
    /// Bytes of one value.
    pub size: u32,
    /// Alignment in bytes.
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
        write!(f, "{} bytes aligned to {}", self.size, self.align)
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
