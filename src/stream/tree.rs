//! Nested content by itself: what a process takes out of a dictionary, or puts into it.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;

use hashlink::LinkedHashMap;
use hashlink::linked_hash_map;

use super::{KeyChange, ValueChange};

/// What a key holds, by itself: a value, or a map with everything in it.
///
/// What [`StreamDict::remove_node`](crate::StreamDict::remove_node) returns can be given to
/// [`set_node`](crate::StreamDict::set_node) of another place.
pub enum Node<K, V> {
    /// A value.
    Value(V),
    /// A map.
    Map(Tree<K, V>),
}

impl<K: Eq + Hash + Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Value(value) => Self::Value(value.clone()),
            Self::Map(map) => Self::Map(map.clone()),
        }
    }
}

impl<K: Eq + Hash, V: PartialEq> PartialEq for Node<K, V> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(one), Self::Value(other)) => one == other,
            (Self::Map(one), Self::Map(other)) => one == other,
            _ => false,
        }
    }
}

impl<K: Eq + Hash, V: Eq> Eq for Node<K, V> {}

impl<K, V> Node<K, V> {
    /// The value, if it is one.
    pub fn value(&self) -> Option<&V> {
        match self {
            Self::Value(value) => Some(value),
            Self::Map(_) => None,
        }
    }

    /// The map, if it is one.
    pub fn map(&self) -> Option<&Tree<K, V>> {
        match self {
            Self::Value(_) => None,
            Self::Map(map) => Some(map),
        }
    }
}

impl<K, V> From<Tree<K, V>> for Node<K, V> {
    fn from(map: Tree<K, V>) -> Self {
        Self::Map(map)
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Node<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Map(map) => map.fmt(f),
        }
    }
}

/// A map of values and maps, by itself: a copy of a part of a [`StreamDict`](crate::StreamDict), or what is to become
/// one. It keeps the order in which its keys were inserted.
///
/// Two are equal if they have the same keys with equal nodes, in whatever order.
///
/// ```
/// use forkmap::{Node, Tree};
///
/// let mut settings = Tree::from_iter([("verbose", 1)]);
/// settings.insert("net", Node::Map(Tree::from_iter([("port", 80), ("retries", 3)])));
/// assert_eq!(format!("{settings:?}"), r#"{"verbose": 1, "net": {"port": 80, "retries": 3}}"#);
/// ```
pub struct Tree<K, V> {
    entries: LinkedHashMap<K, Node<K, V>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Clone for Tree<K, V> {
    fn clone(&self) -> Self {
        fn copy<K: Eq + Hash + Clone, V: Clone>(from: &Tree<K, V>, to: &mut Tree<K, V>) {
            for (key, node) in from {
                match node {
                    Node::Value(value) => to.put(key.clone(), value),
                    Node::Map(map) => copy(map, to.nest(key.clone())),
                }
            }
        }
        let mut new = Self::new();
        copy(self, &mut new);
        new
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self {
            entries: LinkedHashMap::new(),
        }
    }
}

impl<K, V> Drop for Tree<K, V> {
    /// One map after the other, however deep they are: nothing calls itself.
    fn drop(&mut self) {
        let mut maps = vec![std::mem::take(&mut self.entries)];
        while let Some(map) = maps.pop() {
            for (_, node) in map {
                if let Node::Map(mut nested) = node {
                    maps.push(std::mem::take(&mut nested.entries));
                }
            }
        }
    }
}

impl<K, V> Tree<K, V> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of keys: those of maps in it do not count.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and what they hold, in the order in which the keys were inserted.
    pub fn iter(&self) -> TreeIter<'_, K, V> {
        TreeIter {
            entries: self.entries.iter(),
        }
    }
}

// Not inlined: else values would stand on the stack for each level of what calls itself.
impl<K: Eq + Hash, V> Tree<K, V> {
    #[inline(never)]
    pub(super) fn put(&mut self, key: K, value: &V)
    where
        V: Clone,
    {
        self.entries.insert(key, Node::Value(value.clone()));
    }

    /// An empty map that `key` holds from now on.
    #[inline(never)]
    pub(super) fn nest(&mut self, key: K) -> &mut Self {
        let node = self
            .entries
            .entry(key)
            .or_insert_with(|| Node::Map(Self::new()));
        if let Node::Value(_) = node {
            // (Two keys that decode to the same.)
            *node = Node::Map(Self::new());
        }
        match node {
            Node::Map(map) => map,
            Node::Value(_) => unreachable!("it is a map"),
        }
    }
}

impl<K: Eq + Hash, V> Tree<K, V> {
    /// What `key` holds.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Node<K, V>>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Whether `key` is there.
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    /// What `key` holds, to be changed.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut Node<K, V>>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key)
    }

    /// Has `key` hold that, and returns what it held. A key that is there keeps its place.
    pub fn insert(&mut self, key: K, node: Node<K, V>) -> Option<Node<K, V>> {
        match self.entries.get_mut(&key) {
            Some(there) => Some(std::mem::replace(there, node)),
            None => self.entries.insert(key, node),
        }
    }

    /// Removes `key`, and returns what it held.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<Node<K, V>>
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key)
    }
}

impl<K: Eq + Hash, V> Tree<K, V> {
    /// Makes a change that a [`Watch`](crate::Watch) has told of: so a copy of what is watched is kept up to date. If
    /// the path of the change leads to no map here, it changes nothing and returns `false`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use forkmap::{StreamDict, Tree, WatchEvent};
    /// # let settings = StreamDict::<str, u64>::options().unlink_on_drop(true).create_unique()?;
    /// let view = settings.view()?;
    /// let (mut copy, mut watch) = (view.tree()?, settings.watch()?.since(view.position())?);
    /// drop(view);
    /// settings.nested("net")?.set("port", &80)?;
    /// while let Some(event) = watch.next_within(Duration::ZERO)? {
    ///     let changes = match event {
    ///         WatchEvent::Changed { change, .. } => vec![change],
    ///         WatchEvent::Lagged => continue,
    ///         WatchEvent::Resync { changes, is_whole, .. } => {
    ///             if is_whole {
    ///                 copy = Tree::new();
    ///             }
    ///             changes
    ///         }
    ///     };
    ///     for change in changes {
    ///         assert!(copy.apply(change));
    ///     }
    /// }
    /// assert_eq!(settings.view()?, copy);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(&mut self, change: KeyChange<K, V>) -> bool {
        let KeyChange { path, key, value } = change;
        let mut map = self;
        for key in path.iter() {
            map = match map.get_mut(key) {
                Some(Node::Map(map)) => map,
                _ => return false,
            };
        }
        match value {
            ValueChange::Inserted(value) | ValueChange::Updated(value) => {
                map.insert(key, Node::Value(value));
            }
            ValueChange::Nested => _ = map.insert(key, Node::Map(Self::new())),
            ValueChange::Removed => _ = map.remove(&key),
        }
        true
    }
}

impl<K: Eq + Hash, V: PartialEq> PartialEq for Tree<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let mut all = self.iter();
        self.len() == other.len() && all.all(|(key, node)| other.entries.get(key) == Some(node))
    }
}

impl<K: Eq + Hash, V: Eq> Eq for Tree<K, V> {}

impl<K: Eq + Hash, V> FromIterator<(K, V)> for Tree<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let nodes = entries.into_iter();
        nodes
            .map(|(key, value)| (key, Node::Value(value)))
            .collect()
    }
}

impl<K: Eq + Hash, V> FromIterator<(K, Node<K, V>)> for Tree<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, Node<K, V>)>>(entries: I) -> Self {
        let mut tree = Self::new();
        for (key, node) in entries {
            tree.insert(key, node);
        }
        tree
    }
}

impl<K, V> IntoIterator for Tree<K, V> {
    type Item = (K, Node<K, V>);
    type IntoIter = TreeIntoIter<K, V>;

    fn into_iter(mut self) -> TreeIntoIter<K, V> {
        TreeIntoIter {
            entries: std::mem::take(&mut self.entries).into_iter(),
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a, K, V> IntoIterator for &'a Tree<K, V> {
    type Item = (&'a K, &'a Node<K, V>);
    type IntoIter = TreeIter<'a, K, V>;

    fn into_iter(self) -> TreeIter<'a, K, V> {
        self.iter()
    }
}

/// What is in a [`Tree`], one after the other.
pub struct TreeIter<'a, K, V> {
    entries: linked_hash_map::Iter<'a, K, Node<K, V>>,
}

impl<'a, K, V> Iterator for TreeIter<'a, K, V> {
    type Item = (&'a K, &'a Node<K, V>);

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<K, V> ExactSizeIterator for TreeIter<'_, K, V> {}

impl<K, V> fmt::Debug for TreeIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeIter").finish_non_exhaustive()
    }
}

/// What was in a [`Tree`], one after the other.
pub struct TreeIntoIter<K, V> {
    entries: linked_hash_map::IntoIter<K, Node<K, V>>,
}

impl<K, V> Iterator for TreeIntoIter<K, V> {
    type Item = (K, Node<K, V>);

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<K, V> ExactSizeIterator for TreeIntoIter<K, V> {}

impl<K, V> fmt::Debug for TreeIntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeIntoIter").finish_non_exhaustive()
    }
}
