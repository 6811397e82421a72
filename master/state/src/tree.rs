//! An ordered map whose copies cost nothing: they share everything until one of them changes, and a change copies
//! only the way to it. What is not shared is changed in place.
//!
//! A B+ tree. Invariant: keys ascend, no node but the root is empty, and the key beside a child is not above any
//! key in it and above every key before it.

use std::borrow::Borrow;
use std::sync::Arc;

/// Entries of a node before it is split.
const WIDE: usize = 32;
/// Neighbors that have so many entries together become one.
const NARROW: usize = WIDE / 2;

/// See the module.
#[derive(Debug, Clone)]
pub struct Tree<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Debug, Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Vec<(K, Arc<Node<K, V>>)>),
}

/// The other half of a node that was split, with its lowest key.
type Split<K, V> = Option<(K, Arc<Node<K, V>>)>;

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Tree { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of a key.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let mut node = &*self.root;
        loop {
            step();
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
                    return entries.get(at).map(|(key, value)| (key, value));
                }
                Node::Inner(children) => node = &children.get(child_of(children, key))?.1,
            }
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).is_some()
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // What is not there must not cost a copy.
        if !self.contains_key(key) {
            return None;
        }
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
                    return entries.get_mut(at).map(|(_, value)| value);
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    node = Arc::make_mut(&mut children.get_mut(at)?.1);
                }
            }
        }
    }

    /// The last entry.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.newest().next()
    }

    /// The first entry.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Puts a value in and gives the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (old, split) = Arc::make_mut(&mut self.root).insert(key, value);
        if let Some((key, right)) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            // The first key of an inner node is never compared with.
            self.root = Arc::new(Node::Inner(vec![(key.clone(), left), (key, right)]));
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        let old = Arc::make_mut(&mut self.root).remove(key)?;
        self.len -= 1;
        loop {
            let only = match &*self.root {
                Node::Inner(children) if children.is_empty() => Arc::new(Node::Leaf(Vec::new())),
                Node::Inner(children) if children.len() == 1 => children[0].1.clone(),
                _ => return Some(old),
            };
            self.root = only;
        }
    }

    /// All entries in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { stack: vec![(&self.root, 0)] }
    }

    /// Entries from a key on, in order.
    pub fn starting_at<Q: Ord + ?Sized>(&self, key: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut stack = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = entries.partition_point(|(known, _)| known.borrow() < key);
                    stack.push((node, at));
                    return Iter { stack };
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    stack.push((node, at + 1));
                    let Some((_, child)) = children.get(at) else { return Iter { stack } };
                    node = child;
                }
            }
        }
    }

    /// All entries, the last one first.
    pub fn newest(&self) -> Newest<'_, K, V> {
        Newest { stack: vec![(&self.root, self.root.len())] }
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

/// Counts what is looked at, for the test that guards it.
#[inline]
fn step() {
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + 1));
}

#[cfg(test)]
thread_local! {
    /// Nodes and entries that this thread has looked at.
    pub(crate) static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The child in which the key is, if it is anywhere.
fn child_of<K: Borrow<Q>, Q: Ord + ?Sized, N>(children: &[(K, N)], key: &Q) -> usize {
    let rest = children.get(1..).unwrap_or_default();
    rest.partition_point(|(lowest, _)| lowest.borrow() <= key)
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn insert(&mut self, key: K, value: V) -> (Option<V>, Split<K, V>) {
        step();
        match self {
            Node::Leaf(entries) => {
                let at = match entries.binary_search_by(|(known, _)| known.cmp(&key)) {
                    Ok(at) => return (Some(std::mem::replace(&mut entries[at].1, value)), None),
                    Err(at) => at,
                };
                let last = at == entries.len();
                entries.insert(at, (key, value));
                let right = half(entries, last);
                let split = right.and_then(|right| {
                    let lowest = right.first()?.0.clone();
                    Some((lowest, Arc::new(Node::Leaf(right))))
                });
                (None, split)
            }
            Node::Inner(children) => {
                let at = child_of(children, &key);
                let (old, split) = Arc::make_mut(&mut children[at].1).insert(key, value);
                let Some(new) = split else { return (old, None) };
                let last = at + 1 == children.len();
                children.insert(at + 1, new);
                let right = half(children, last);
                let split = right.and_then(|right| {
                    let lowest = right.first()?.0.clone();
                    Some((lowest, Arc::new(Node::Inner(right))))
                });
                (old, split)
            }
        }
    }

    fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        step();
        match self {
            Node::Leaf(entries) => {
                let at = entries.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
                Some(entries.remove(at).1)
            }
            Node::Inner(children) => {
                let at = child_of(children, key);
                let old = Arc::make_mut(&mut children.get_mut(at)?.1).remove(key);
                match children[at].1.len() {
                    0 => {
                        children.remove(at);
                    }
                    len if len <= NARROW / 2 => join(children, at),
                    _ => {}
                }
                old
            }
        }
    }
}

/// Cuts an overfull node. What grows at its end leaves full nodes behind.
fn half<T>(entries: &mut Vec<T>, last: bool) -> Option<Vec<T>> {
    let at = if last { entries.len() - 1 } else { entries.len() / 2 };
    (entries.len() > WIDE).then(|| entries.split_off(at))
}

/// Makes a child and a neighbor one when they are small.
fn join<K: Ord + Clone, V: Clone>(children: &mut Vec<(K, Arc<Node<K, V>>)>, at: usize) {
    let left = at.min(children.len().saturating_sub(2));
    let (Some((_, first)), Some((key, second))) = (children.get(left), children.get(left + 1)) else {
        return;
    };
    if first.len() + second.len() > NARROW {
        return;
    }
    let (key, second) = (key.clone(), second.clone());
    match (Arc::make_mut(&mut children[left].1), &*second) {
        (Node::Leaf(into), Node::Leaf(from)) => into.extend(from.iter().cloned()),
        (Node::Inner(into), Node::Inner(from)) => {
            // Its first key was never compared with and may be anything; the key beside it holds.
            let first = from.iter().take(1).map(|(_, child)| (key.clone(), child.clone()));
            into.extend(first.chain(from.iter().skip(1).cloned()));
        }
        // Children of one node are of one kind.
        _ => return,
    }
    children.remove(left + 1);
}

/// Entries in order.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    stack: Vec<(&'a Node<K, V>, usize)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            step();
            let (node, at) = self.stack.last_mut()?;
            match node {
                Node::Leaf(entries) => match entries.get(*at) {
                    Some((key, value)) => {
                        *at += 1;
                        return Some((key, value));
                    }
                    None => self.stack.pop(),
                },
                Node::Inner(children) => match children.get(*at) {
                    Some((_, child)) => {
                        *at += 1;
                        self.stack.push((child, 0));
                        continue;
                    }
                    None => self.stack.pop(),
                },
            };
        }
    }
}

/// Entries, the last one first.
#[derive(Debug)]
pub struct Newest<'a, K, V> {
    /// Nodes with how many of their entries are left.
    stack: Vec<(&'a Node<K, V>, usize)>,
}

impl<'a, K: Ord + Clone, V: Clone> Iterator for Newest<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            step();
            let (node, left) = self.stack.last_mut()?;
            if *left == 0 {
                self.stack.pop();
                continue;
            }
            *left -= 1;
            match node {
                Node::Leaf(entries) => return entries.get(*left).map(|(key, value)| (key, value)),
                Node::Inner(children) => {
                    let child = &*children.get(*left)?.1;
                    self.stack.push((child, child.len()));
                }
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for Tree<K, V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.root, &other.root) || self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for Tree<K, V> {}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Tree<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut tree = Tree::default();
        for (key, value) in entries {
            tree.insert(key, value);
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    /// Numbers that look like chance and are the same every time.
    struct Chance(u64);

    impl Chance {
        fn next(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    fn same(tree: &Tree<u64, u64>, map: &BTreeMap<u64, u64>) {
        assert_eq!(tree.len(), map.len());
        assert!(tree.iter().eq(map.iter()));
        assert!(tree.newest().eq(map.iter().rev()));
        assert_eq!(tree.last(), map.last_key_value());
    }

    #[test]
    fn it_holds_what_an_ordinary_map_holds_and_copies_keep_what_they_had() {
        for (seed, keys) in [(1, 50), (2, 700), (3, 20_000)] {
            let mut chance = Chance(seed);
            let (mut tree, mut map) = (Tree::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for step in 0..12_000u64 {
                let key = chance.next(keys);
                // It grows, shrinks and grows again.
                let grows = chance.next(10) < if step / 3_000 % 2 == 0 { 8 } else { 2 };
                match grows {
                    true => assert_eq!(tree.insert(key, step), map.insert(key, step)),
                    false => assert_eq!(tree.remove(&key), map.remove(&key)),
                }
                assert_eq!(tree.get(&key), map.get(&key));
                if step % 1_500 == 0 {
                    copies.push((tree.clone(), map.clone()));
                }
            }
            same(&tree, &map);
            copies.iter().for_each(|(tree, map)| same(tree, map));
            for from in 0..100 {
                let from = from * keys / 90;
                assert!(tree.starting_at(&from).eq(map.range(from..)));
            }
            for key in map.keys() {
                *tree.get_mut(key).unwrap() += 1;
            }
            assert!(tree.values().eq(map.values().map(|v| v + 1).collect::<Vec<_>>().iter()));
            for key in map.keys() {
                tree.remove(key).unwrap();
            }
            assert!(tree.is_empty() && tree.iter().next().is_none());
        }
    }

    #[test]
    fn a_change_after_a_copy_copies_the_way_to_it_only() {
        let mut tree: Tree<u64, Arc<u64>> = (0..100_000).map(|key| (key, Arc::new(key))).collect();
        let copy = tree.clone();
        tree.insert(50_000, Arc::new(0));
        let copied = copy.values().filter(|value| Arc::strong_count(value) > 1).count();
        assert!((1..=WIDE).contains(&copied), "{copied} entries were copied");
    }
}
