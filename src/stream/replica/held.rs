//! Values, as a replica holds them.

use std::borrow::Borrow;

use crate::error::CodecError;
use crate::stored::Stored;

/// A value, or what could not be made one.
pub(in crate::stream) enum Held<V: Stored + ?Sized> {
    Value {
        value: V::Owned,
        /// How many bytes its stored form has.
        bytes: usize,
    },
    /// Somebody else wrote it in another form than this program does.
    Foreign { value: V::Owned, stored: Box<[u8]> },
    /// Somebody else wrote what this program cannot decode.
    Unreadable(Box<[u8]>),
}

impl<V: Stored + ?Sized> Held<V> {
    /// What arrives from somebody else.
    pub(super) fn new(stored: &[u8]) -> Self {
        Self::readable(stored).unwrap_or_else(|_| Self::Unreadable(stored.into()))
    }

    /// What can be decoded.
    pub(in crate::stream) fn readable(stored: &[u8]) -> Result<Self, CodecError> {
        let value = decode::<V>(stored)?;
        // What goes into the dump is what was written: found out now, because in the middle of a switch it
        // would be too late.
        let encoded = V::encode(value.borrow());
        let is_own = encoded.is_ok_and(|bytes| bytes.as_ref() == stored);
        Ok(match is_own {
            true => Self::Value {
                value,
                bytes: stored.len(),
            },
            false => Self::Foreign {
                value,
                stored: stored.into(),
            },
        })
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Value { bytes, .. } => *bytes,
            Self::Foreign { stored, .. } | Self::Unreadable(stored) => stored.len(),
        }
    }

    /// The value, or why it is none.
    pub(in crate::stream) fn value(&self) -> Result<&V::Owned, CodecError> {
        match self {
            Self::Value { value, .. } | Self::Foreign { value, .. } => Ok(value),
            Self::Unreadable(bytes) => match decode::<V>(bytes) {
                Err(error) => Err(error),
                // It makes up its mind.
                Ok(_) => Err("it could not be decoded when it arrived".into()),
            },
        }
    }

    /// Hands the stored bytes to `f`.
    pub(super) fn stored<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Result<R, CodecError> {
        match self {
            Self::Value { value, .. } => Ok(f(V::encode(value.borrow())?.as_ref())),
            Self::Foreign { stored, .. } | Self::Unreadable(stored) => Ok(f(stored)),
        }
    }
}

/// What the stored bytes stand for.
pub(in crate::stream) fn decode<T: Stored + ?Sized>(bytes: &[u8]) -> Result<T::Owned, CodecError> {
    if T::LENGTH.is_some_and(|len| len != bytes.len()) {
        return Err("it has another length than all values of its type".into());
    }
    let mut image = T::Image::default();
    let room = T::room(&mut image, bytes.len());
    let len = room.len().min(bytes.len());
    room[..len].copy_from_slice(&bytes[..len]);
    T::decode(image)
}
