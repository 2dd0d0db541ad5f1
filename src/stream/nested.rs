//! Nested maps, and whole parts of a dictionary at once.

use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use super::record::MapId;
use super::replica::{Content, Replica};
use super::tree::{Node, Tree};
use super::view::{encoded_key, key_of, value_of};
use super::{StreamDict, StreamError, Transaction, View};
use crate::stored::Stored;

/// What a key of such a dictionary holds, by itself.
type NodeOf<K, V> = Node<<K as Stored>::Owned, <V as Stored>::Owned>;
type TreeOf<K, V> = Tree<<K as Stored>::Owned, <V as Stored>::Owned>;

/// Nested maps. A key holds a value or a map, whose keys do again: keys and values are of the same types everywhere.
///
/// A handle to a nested map is a `StreamDict` as any other: everything it says of keys is about those of its map, and
/// everything else (positions, [`dump`](Self::dump), [`status`](Self::status), waiting) about the whole dictionary, in
/// whose files it is. A change of it is one small record. Once its map is removed from where it was, or replaced,
/// everything about keys is [`StreamError::Gone`], also when there is another map at the same place. Maps may be nested
/// 128 levels deep.
///
/// [`get`](Self::get) of a key that holds a map, and whatever else looks at the value, is [`StreamError::IsMap`].
/// [`set`](Self::set), [`insert`](Self::insert) and [`remove`](Self::remove) do not look: a map goes with everything
/// in it, at once.
impl<K: Stored + ?Sized, V: Stored + ?Sized> StreamDict<K, V> {
    /// The map that `key` holds; an empty one if the key is not there.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::IsValue`].
    ///
    /// ```
    /// use forkmap::StreamDict;
    ///
    /// let settings = StreamDict::<str, u64>::options().unlink_on_drop(true).create_unique()?;
    /// let tcp = settings.nested("net")?.nested("tcp")?;
    /// tcp.set("retries", &3)?;
    /// assert_eq!(settings.nested("net")?.nested("tcp")?.get("retries")?, Some(3));
    /// assert_eq!(format!("{:?}", settings.view()?), r#"{"net": {"tcp": {"retries": 3}}}"#);
    ///
    /// // Any number of levels in one transaction.
    /// settings.transaction(|tx| {
    ///     tx.set("version", &2)?;
    ///     let mut net = tx.nested("net")?;
    ///     net.remove("tcp")?;
    ///     net.nested("udp")?.set("retries", &5)
    /// })?;
    /// assert!(tcp.get("retries").is_err(), "it is gone");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nested(&self, key: &K::Item) -> Result<Self, StreamError> {
        if let Some(found) = self.get_nested(key)? {
            return Ok(found);
        }
        let map = self.transaction(|tx| tx.nested(key).map(|nested| nested.map()))?;
        Ok(self.below(map))
    }

    /// The map that `key` holds; `None` if the key is not there.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::IsValue`].
    pub fn get_nested(&self, key: &K::Item) -> Result<Option<Self>, StreamError> {
        let map = self.view()?.get_nested(key)?.map(|nested| nested.map());
        Ok(map.map(|map| self.below(map)))
    }

    /// One of a map that a key of this one holds.
    fn below(&self, map: MapId) -> Self {
        let mut path = self.path.clone();
        path.push(map);
        Self {
            shared: Arc::clone(&self.shared),
            path,
            keys: PhantomData,
        }
    }
}

/// Values and whole maps alike. Each of these happens at one instant, however large the map is.
impl<K, V> StreamDict<K, V>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    /// A copy of what `key` holds; `None` if it is not there.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn get_node(&self, key: &K::Item) -> Result<Option<NodeOf<K, V>>, StreamError> {
        let view = self.view()?;
        node_of::<K, V>(&view.state().replica, view.map(), key)
    }

    /// Has `key` hold that, whatever it held.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn set_node(&self, key: &K::Item, node: &NodeOf<K, V>) -> Result<(), StreamError> {
        self.transaction(|tx| tx.set_node(key, node))
    }

    /// Removes `key`, and returns what it held.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn remove_node(&self, key: &K::Item) -> Result<Option<NodeOf<K, V>>, StreamError> {
        self.transaction(|tx| tx.remove_node(key))
    }

    /// A copy of everything in this map.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn tree(&self) -> Result<TreeOf<K, V>, StreamError> {
        self.view()?.tree()
    }
}

impl<K, V> Transaction<'_, K, V>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    /// A copy of what `key` holds, with the changes so far; `None` if it is not there.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::Decode`].
    pub fn get_node(&self, key: &K::Item) -> Result<Option<NodeOf<K, V>>, StreamError> {
        node_of::<K, V>(self.replica(), self.map(), key)
    }

    /// Has `key` hold that, whatever it held.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`StreamError::TooDeep`].
    pub fn set_node(&mut self, key: &K::Item, node: &NodeOf<K, V>) -> Result<(), StreamError> {
        let mark = self.mark();
        let done = self.put_node(key, node);
        if done.is_err() {
            self.back_to(mark);
        }
        done
    }

    /// The same, and after an error a part of it may be there.
    fn put_node(&mut self, key: &K::Item, node: &NodeOf<K, V>) -> Result<(), StreamError> {
        match node {
            Node::Value(value) => self.set(key, value.borrow()),
            Node::Map(map) => {
                let nested = self.nest(encoded_key::<K>(key)?.as_ref())?;
                let mut nested = self.of(nested);
                let mut entries = map.iter();
                entries.try_for_each(|(key, node)| nested.put_node(key.borrow(), node))
            }
        }
    }

    /// Removes `key`, and returns what it held.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::Decode`].
    pub fn remove_node(&mut self, key: &K::Item) -> Result<Option<NodeOf<K, V>>, StreamError> {
        let node = self.get_node(key)?;
        self.remove(key)?;
        Ok(node)
    }

    /// A copy of everything in this map, with the changes so far.
    ///
    /// # Errors
    /// [`StreamError::Decode`].
    pub fn tree(&self) -> Result<TreeOf<K, V>, StreamError> {
        tree_of::<K, V>(self.replica(), self.map())
    }
}

impl<K, V> View<'_, K, V>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    /// A copy of everything in this map.
    ///
    /// # Errors
    /// [`StreamError::Decode`].
    pub fn tree(&self) -> Result<TreeOf<K, V>, StreamError> {
        tree_of::<K, V>(&self.state().replica, self.map())
    }
}

impl<K, V> PartialEq<TreeOf<K, V>> for View<'_, K, V>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: PartialEq> + ?Sized,
{
    /// Whether all keys are the same and hold the same, in whatever order.
    fn eq(&self, other: &TreeOf<K, V>) -> bool {
        let holds = |key: &K::Owned, node: &NodeOf<K, V>| match node {
            Node::Value(value) => self
                .get(key.borrow())
                .is_ok_and(|found| found == Some(value)),
            // (No deeper than maps are nested.)
            Node::Map(map) => match self.get_nested(key.borrow()) {
                Ok(Some(nested)) => nested == *map,
                _ => false,
            },
        };
        self.len() == other.len() && other.iter().all(|(key, node)| holds(key, node))
    }
}

fn node_of<K, V>(
    replica: &Replica<V>,
    map: MapId,
    key: &K::Item,
) -> Result<Option<NodeOf<K, V>>, StreamError>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    let map = replica.map(map).ok_or(StreamError::Gone)?;
    let content = map.get(encoded_key::<K>(key)?.as_ref());
    content
        .map(|content| copy_of::<K, V>(replica, content))
        .transpose()
}

fn copy_of<K, V>(replica: &Replica<V>, content: &Content<V>) -> Result<NodeOf<K, V>, StreamError>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    match content.map() {
        Some(map) => tree_of::<K, V>(replica, map).map(Node::Map),
        None => value_of::<V>(content).cloned().map(Node::Value),
    }
}

fn tree_of<K, V>(replica: &Replica<V>, map: MapId) -> Result<TreeOf<K, V>, StreamError>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    let mut tree = Tree::new();
    copy_into::<K, V>(replica, map, &mut tree)?;
    Ok(tree)
}

/// (No deeper than maps are nested; and no value is on the stack while it goes deeper.)
fn copy_into<K, V>(
    replica: &Replica<V>,
    map: MapId,
    tree: &mut TreeOf<K, V>,
) -> Result<(), StreamError>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    let map = replica.map(map).ok_or(StreamError::Gone)?;
    for (key, content) in map.iter() {
        match content.map() {
            Some(map) => copy_into::<K, V>(replica, map, tree.nest(key_of::<K>(key)?))?,
            None => tree.put(key_of::<K>(key)?, value_of::<V>(content)?),
        }
    }
    Ok(())
}
