//! Arithmetic by key.

use super::SharedHashMap;
use crate::error::WriteError;
use crate::stored::Stored;

macro_rules! integers {
    ($($integer:ty)+) => {
        $(
            /// Integer operations by key. A key that is not there counts as 0, and is inserted; all wrap
            /// around as those of std's atomics do, and return the previous value. Lock-free.
            impl<K: Stored + ?Sized> SharedHashMap<K, $integer> {
                #[inline]
                fn fetch(
                    &self,
                    key: &K::Item,
                    f: impl Fn($integer) -> $integer,
                ) -> Result<$integer, WriteError> {
                    let key = super::write::encoded::<K>(key, "key")?;
                    let writing = self.writing(key.as_ref())?;
                    loop {
                        let found = writing.read()?;
                        let old = found.map_or(0, |(_, old)| old);
                        let new = f(old).to_le_bytes();
                        let done = match found {
                            Some((at, _)) => writing.replace(at, &new)?.is_some(),
                            None => writing.insert(&new)?,
                        };
                        if done {
                            return Ok(old);
                        }
                    }
                }

                /// Adds `n`, and returns the previous value.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_add(&self, key: &K::Item, n: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old.wrapping_add(n))
                }

                /// Subtracts `n`, and returns the previous value.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_sub(&self, key: &K::Item, n: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old.wrapping_sub(n))
                }

                /// Clears the bits that are not in `bits`, and returns the previous value.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_and(&self, key: &K::Item, bits: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old & bits)
                }

                /// Sets `bits`, and returns the previous value.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_or(&self, key: &K::Item, bits: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old | bits)
                }

                /// Flips `bits`, and returns the previous value.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_xor(&self, key: &K::Item, bits: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old ^ bits)
                }

                /// Sets the value to `n` if that is less, and returns the previous one.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_min(&self, key: &K::Item, n: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old.min(n))
                }

                /// Sets the value to `n` if that is more, and returns the previous one.
                ///
                /// # Errors
                /// [`WriteError`]; the map is as it was before.
                #[inline]
                pub fn fetch_max(&self, key: &K::Item, n: $integer) -> Result<$integer, WriteError> {
                    self.fetch(key, |old| old.max(n))
                }
            }
        )+
    };
}
integers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);
