//! How keys and values stand in a segment.

use std::borrow::Borrow;

use bytemuck::Pod;

use crate::error::CodecError;
use crate::identity::TypeShape;

/// A way of storing keys or values in a [`SharedHashMap`](crate::SharedHashMap).
///
/// | type | handed in as | comes out as | stored as |
/// |---|---|---|---|
/// | any plain data ([`bytemuck::Pod`]): integers, floats, arrays, `#[derive(Pod)]` structs, `()` | `&T` | `T` | its bytes; of eight bytes fastest |
/// | `str` | `&str` | [`String`] | UTF-8 |
/// | `[u8]` | `&[u8]` | [`Vec<u8>`] | the bytes |
/// | `Serde<T>`, with the feature `serde` | `&T` | `T` | postcard |
///
/// **Keys are compared by their stored bytes.** So `0.0` and `-0.0` are two keys, a `NaN` is found again,
/// and a key with a `HashMap` in it may be two keys to serde.
///
/// Another encoding is an `impl` of this trait for a type of yours, which may be an empty one that only
/// stands for it. Nothing that it does wrong can break more than its own keys and values.
pub trait Stored: 'static {
    /// What is handed in, by reference.
    type Item: ?Sized;
    /// What comes out.
    type Owned: Borrow<Self::Item>;
    /// What the stored bytes are copied into before they are decoded: often the value itself, or a
    /// `Vec<u8>`.
    type Image: Default;
    /// The stored form: often the item itself, borrowed.
    type Encoded<'i>: AsRef<[u8]>;

    /// How many bytes each has, if all have the same number; `None` if they vary, up to the limit that
    /// the map was created with.
    const LENGTH: Option<usize>;
    /// What must be the same for all programs that share a map.
    const SHAPE: TypeShape;

    /// The stored form of `item`.
    ///
    /// # Errors
    /// If it has none.
    fn encode(item: &Self::Item) -> Result<Self::Encoded<'_>, CodecError>;

    /// Room for `len` stored bytes in `image`. (Of what it returns, as much is filled as is there.)
    fn room(image: &mut Self::Image, len: usize) -> &mut [u8];

    /// What the bytes in `image` stand for.
    ///
    /// # Errors
    /// If they stand for nothing.
    fn decode(image: Self::Image) -> Result<Self::Owned, CodecError>;

    /// An image that uses the memory of `owned`, if there is a point in that.
    #[inline]
    fn reuse(owned: &mut Self::Owned) -> Self::Image {
        let _ = owned;
        Self::Image::default()
    }
}

/// The image of plain data: zeros at first.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Plain<T>(T);

impl<T: Pod> Default for Plain<T> {
    #[inline(always)]
    fn default() -> Self {
        Self(T::zeroed())
    }
}

impl<T: Pod> Stored for T {
    type Item = T;
    type Owned = T;
    type Image = Plain<T>;
    type Encoded<'i> = &'i [u8];

    const LENGTH: Option<usize> = Some(size_of::<T>());
    const SHAPE: TypeShape = TypeShape::of::<T>();

    #[inline(always)]
    fn encode(item: &T) -> Result<&[u8], CodecError> {
        Ok(bytemuck::bytes_of(item))
    }

    #[inline(always)]
    fn room(image: &mut Plain<T>, _: usize) -> &mut [u8] {
        bytemuck::bytes_of_mut(&mut image.0)
    }

    #[inline(always)]
    fn decode(image: Plain<T>) -> Result<T, CodecError> {
        Ok(image.0)
    }
}

fn room_in(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
    image.resize(len, 0);
    image
}

impl Stored for str {
    type Item = str;
    type Owned = String;
    type Image = Vec<u8>;
    type Encoded<'i> = &'i [u8];

    const LENGTH: Option<usize> = None;
    const SHAPE: TypeShape = TypeShape::varying(1);

    #[inline]
    fn encode(item: &str) -> Result<&[u8], CodecError> {
        Ok(item.as_bytes())
    }

    #[inline]
    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        room_in(image, len)
    }

    #[inline]
    fn decode(image: Vec<u8>) -> Result<String, CodecError> {
        Ok(String::from_utf8(image)?)
    }

    #[inline]
    fn reuse(owned: &mut String) -> Vec<u8> {
        std::mem::take(owned).into_bytes()
    }
}

impl Stored for [u8] {
    type Item = [u8];
    type Owned = Vec<u8>;
    type Image = Vec<u8>;
    type Encoded<'i> = &'i [u8];

    const LENGTH: Option<usize> = None;
    const SHAPE: TypeShape = TypeShape::varying(2);

    #[inline]
    fn encode(item: &[u8]) -> Result<&[u8], CodecError> {
        Ok(item)
    }

    #[inline]
    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        room_in(image, len)
    }

    #[inline]
    fn decode(image: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(image)
    }

    #[inline]
    fn reuse(owned: &mut Vec<u8>) -> Vec<u8> {
        std::mem::take(owned)
    }
}

#[cfg(feature = "serde")]
mod with_serde {
    use std::marker::PhantomData;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{Stored, room_in};
    use crate::error::CodecError;
    use crate::identity::TypeShape;

    /// Stands for keys or values of any type that serde knows: `SharedHashMap<str, Serde<Job>>` takes
    /// `&Job` and gives `Job`. Needs the feature `serde`.
    ///
    /// They are stored by [postcard](https://docs.rs/postcard), which keeps no names of fields: all
    /// programs that share a map must have the same type. Say so with
    /// [`Options::schema`](crate::Options::schema), and change the number with the type.
    ///
    /// ```
    /// use forkmap::{Serde, SharedHashMap};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, PartialEq, Debug)]
    /// enum Mixed {
    ///     None,
    ///     Int(i64),
    ///     Text(String),
    /// }
    ///
    /// let map = SharedHashMap::<str, Serde<Mixed>>::anonymous(100)?;
    /// map.insert("a", &Mixed::Int(1))?;
    /// map.insert("b", &Mixed::Text("two".into()))?;
    /// assert_eq!(map.get("b")?, Some(Mixed::Text("two".into())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Debug)]
    pub struct Serde<T>(PhantomData<fn() -> T>);

    impl<T: Serialize + DeserializeOwned + 'static> Stored for Serde<T> {
        type Item = T;
        type Owned = T;
        type Image = Vec<u8>;
        type Encoded<'i> = Vec<u8>;

        const LENGTH: Option<usize> = None;
        const SHAPE: TypeShape = TypeShape::varying(3);

        fn encode(item: &T) -> Result<Vec<u8>, CodecError> {
            Ok(postcard::to_stdvec(item)?)
        }

        fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
            room_in(image, len)
        }

        fn decode(image: Vec<u8>) -> Result<T, CodecError> {
            Ok(postcard::from_bytes(&image)?)
        }
    }
}

#[cfg(feature = "serde")]
pub use self::with_serde::Serde;
