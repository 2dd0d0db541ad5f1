//! Directories that tell what is left over, and encodings of all tempers.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;

use bytemuck::{Pod, Zeroable};
use forkmap::{CodecError, Options, Stored, StreamDict, TypeShape};
use tempfile::TempDir;

/// A directory of its own in shared memory.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn options<K: Stored + ?Sized, V: Stored + ?Sized>(
        &self,
    ) -> Options<StreamDict<K, V>> {
        let mut options = StreamDict::options();
        options.dir(self.path()).participants(8);
        options
    }

    /// A dictionary with a log of so many bytes.
    pub(crate) fn dict<K: Stored + ?Sized, V: Stored + ?Sized>(
        &self,
        log_bytes: u64,
    ) -> StreamDict<K, V> {
        let mut options = self.options();
        options.log_bytes(log_bytes).create("dict").unwrap()
    }

    /// Another attachment of that.
    pub(crate) fn open<K: Stored + ?Sized, V: Stored + ?Sized>(&self) -> StreamDict<K, V> {
        self.options().open("dict").unwrap()
    }

    /// The names of all files, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The names of the generations of a dictionary.
    pub(crate) fn generations(&self, name: &str) -> Vec<String> {
        let mut names = self.files();
        names.retain(|file| file.strip_prefix(name).is_some_and(|rest| rest.len() == 34));
        names
    }

    /// The name of the only generation.
    pub(crate) fn generation(&self, name: &str) -> String {
        let [generation] = &self.generations(name)[..] else {
            panic!("not one generation: {:?}", self.files());
        };
        generation.clone()
    }
}

/// Keys and values, in their order.
pub(crate) fn entries<K, V>(dict: &StreamDict<K, V>) -> Vec<(K::Owned, V::Owned)>
where
    K: Stored + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    let view = dict.view().unwrap();
    let entries = view.iter().map(|entry| {
        let (key, value) = entry.unwrap();
        (key, value.clone())
    });
    entries.collect()
}

/// The same of text, to be compared with literals.
pub(crate) fn texts(dict: &StreamDict<str, str>) -> String {
    let pairs = entries(dict).into_iter();
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(" ")
}

/// The stored form.
pub(crate) fn bytes<T: Stored + ?Sized>(item: &T::Item) -> Vec<u8> {
    T::encode(item).unwrap().as_ref().to_vec()
}

/// The stored form of what came out.
pub(crate) fn owned_bytes<T: Stored + ?Sized>(owned: &T::Owned) -> Vec<u8> {
    bytes::<T>(owned.borrow())
}

/// Twelve bytes: no whole number of words.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub(crate) struct Odd {
    pub(crate) worker: u32,
    pub(crate) tries: [u16; 4],
}

/// Bytes that stand in a `Vec`, whatever they are called.
macro_rules! vector_image {
    () => {
        type Image = Vec<u8>;

        const LENGTH: Option<usize> = None;

        fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
            image.resize(len, 0);
            image
        }
    };
}

/// An encoding of its own: numbers by name, in a notation for people.
#[derive(Debug)]
pub(crate) struct Json;

impl Stored for Json {
    type Item = BTreeMap<String, i64>;
    type Owned = BTreeMap<String, i64>;
    type Encoded<'i> = String;
    vector_image!();

    const SHAPE: TypeShape = TypeShape::varying(1001);

    fn encode(item: &Self::Item) -> Result<String, CodecError> {
        if item.keys().any(|key| key.contains(['"', '\\'])) {
            return Err("a name with a quote".into());
        }
        let pairs = item.iter().map(|(key, value)| format!("\"{key}\":{value}"));
        let pairs: Vec<_> = pairs.collect();
        Ok(format!("{{{}}}", pairs.join(",")))
    }

    fn decode(image: Vec<u8>) -> Result<Self::Owned, CodecError> {
        let text = String::from_utf8(image)?;
        let inner = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        let inner = inner.ok_or("no braces")?;
        let pair = |pair: &str| {
            let (key, value) = pair.split_once("\":").ok_or("no colon")?;
            let key = key.strip_prefix('"').ok_or("no quote")?;
            Ok((key.to_owned(), value.parse()?))
        };
        let pairs = inner.split(',').filter(|pair| !pair.is_empty());
        pairs.map(pair).collect()
    }
}

pub(crate) fn json<const N: usize>(pairs: [(&str, i64); N]) -> BTreeMap<String, i64> {
    pairs.map(|(key, n)| (key.to_owned(), n)).into()
}

/// An encoding that claims to be that of `str` and takes any bytes; but some that it refuses to encode.
#[derive(Debug)]
pub(crate) struct Lie;

pub(crate) const UNSPEAKABLE: &[u8] = b"unspeakable";

impl Stored for Lie {
    type Item = [u8];
    type Owned = Vec<u8>;
    type Encoded<'i> = &'i [u8];
    vector_image!();

    const SHAPE: TypeShape = <str as Stored>::SHAPE;

    fn encode(item: &[u8]) -> Result<&[u8], CodecError> {
        match item == UNSPEAKABLE {
            true => Err("it cannot be said".into()),
            false => Ok(item),
        }
    }

    fn decode(image: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(image)
    }
}

/// As `Lie`, but it understands nothing with an exclamation mark.
#[derive(Debug)]
pub(crate) struct Deaf;

impl Stored for Deaf {
    type Item = [u8];
    type Owned = Vec<u8>;
    type Encoded<'i> = &'i [u8];
    vector_image!();

    const SHAPE: TypeShape = <str as Stored>::SHAPE;

    fn encode(item: &[u8]) -> Result<&[u8], CodecError> {
        Ok(item)
    }

    fn decode(image: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        match image.contains(&b'!') {
            true => Err("too loud".into()),
            false => Ok(image),
        }
    }
}
