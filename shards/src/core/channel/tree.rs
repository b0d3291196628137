//! The subscriptions of a shard: a tree of segments, with the subscribers where patterns end.
//!
//! A name is matched by walking down its segments, at each along the branch of that segment and along that of `*`. A
//! node without subscribers and branches is taken away again.

use std::collections::BTreeMap;

use super::name::Pattern;

/// The root's place, which also stands for "no node" where there can't be the root.
const ROOT: u32 = 0;

/// Patterns and who subscribed to them.
#[derive(Debug)]
pub struct Tree<K> {
    nodes: Vec<Node<K>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<K> {
    branches: BTreeMap<Box<str>, u32>,
    /// The branch of a `*` that is not the last segment.
    star: u32,
    /// Subscribers of the pattern that ends here, sorted.
    here: Vec<K>,
    /// Subscribers of the pattern that ends with a `*` below, sorted.
    rest: Vec<K>,
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self { branches: BTreeMap::new(), star: ROOT, here: Vec::new(), rest: Vec::new() }
    }
}

impl<K> Default for Tree<K> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl<K: Copy + Ord> Tree<K> {
    /// Adds a subscription; false when there was the same.
    pub fn insert(&mut self, pattern: &Pattern, who: K) -> bool {
        let mut at = ROOT;
        let mut segments = pattern.as_str().split(':').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            if segment == "*" && last {
                return add(&mut self.nodes[at as usize].rest, who);
            }
            at = self.branch(at, segment);
        }
        add(&mut self.nodes[at as usize].here, who)
    }

    /// Takes a subscription away; false when there was none.
    pub fn remove(&mut self, pattern: &Pattern, who: K) -> bool {
        let mut path = vec![ROOT];
        let segments: Vec<&str> = pattern.as_str().split(':').collect();
        let rest = segments.last() == Some(&"*");
        for segment in &segments[..segments.len() - usize::from(rest)] {
            let node = &self.nodes[path[path.len() - 1] as usize];
            let next = if *segment == "*" {
                node.star
            } else {
                node.branches.get(*segment).copied().unwrap_or(ROOT)
            };
            if next == ROOT {
                return false;
            }
            path.push(next);
        }
        let node = &mut self.nodes[path[path.len() - 1] as usize];
        let subscribers = if rest { &mut node.rest } else { &mut node.here };
        let Ok(place) = subscribers.binary_search(&who) else { return false };
        subscribers.remove(place);
        if subscribers.is_empty() {
            *subscribers = Vec::new();
        }
        self.prune(&path, &segments);
        true
    }

    /// Everyone who subscribed to something that names this channel, each once, in order.
    pub fn matching(&self, channel: &str, into: &mut Vec<K>) {
        let before = into.len();
        let mut sets = 0;
        self.walk(ROOT, Some(channel), into, &mut sets);
        if sets > 1 {
            into[before..].sort_unstable();
            into.dedup();
        }
    }

    /// Everyone who subscribed to something that may name a channel of this stream, each once, in order.
    pub fn concerned(&self, stream: &str, into: &mut Vec<K>) {
        let before = into.len();
        self.descend(ROOT, Some(stream), into);
        into[before..].sort_unstable();
        into.dedup();
    }

    /// Along a stream's name and then everywhere below it.
    fn descend(&self, at: u32, left: Option<&str>, into: &mut Vec<K>) {
        let node = &self.nodes[at as usize];
        into.extend_from_slice(&node.rest);
        let star = Some(node.star).filter(|&star| star != ROOT);
        let Some(left) = left else {
            into.extend_from_slice(&node.here);
            return node
                .branches
                .values()
                .copied()
                .chain(star)
                .for_each(|next| self.descend(next, None, into));
        };
        let (segment, left) = left.split_once(':').map_or((left, None), |(one, left)| (one, Some(left)));
        let next = node.branches.get(segment).copied();
        next.into_iter().chain(star).for_each(|next| self.descend(next, left, into));
    }

    fn walk(&self, at: u32, left: Option<&str>, into: &mut Vec<K>, sets: &mut usize) {
        let node = &self.nodes[at as usize];
        let Some(left) = left else { return gather(&node.here, into, sets) };
        gather(&node.rest, into, sets);
        let (segment, left) = match left.split_once(':') {
            Some((segment, left)) => (segment, Some(left)),
            None => (left, None),
        };
        if let Some(&next) = node.branches.get(segment) {
            self.walk(next, left, into, sets);
        }
        if node.star != ROOT {
            self.walk(node.star, left, into, sets);
        }
    }

    fn branch(&mut self, at: u32, segment: &str) -> u32 {
        let node = &self.nodes[at as usize];
        let known =
            if segment == "*" { node.star } else { node.branches.get(segment).copied().unwrap_or(ROOT) };
        if known != ROOT {
            return known;
        }
        let new = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() as u32 - 1
        });
        let node = &mut self.nodes[at as usize];
        if segment == "*" {
            node.star = new;
        } else {
            node.branches.insert(segment.into(), new);
        }
        new
    }

    /// Takes away what has become empty at the end of a path.
    fn prune(&mut self, path: &[u32], segments: &[&str]) {
        for depth in (1..path.len()).rev() {
            let node = &self.nodes[path[depth] as usize];
            if !(node.here.is_empty()
                && node.rest.is_empty()
                && node.branches.is_empty()
                && node.star == ROOT)
            {
                return;
            }
            let parent = &mut self.nodes[path[depth - 1] as usize];
            if segments[depth - 1] == "*" {
                parent.star = ROOT;
            } else {
                parent.branches.remove(segments[depth - 1]);
            }
            self.free.push(path[depth]);
        }
    }
}

fn add<K: Ord>(subscribers: &mut Vec<K>, who: K) -> bool {
    match subscribers.binary_search(&who) {
        Ok(_) => false,
        Err(place) => {
            subscribers.insert(place, who);
            true
        }
    }
}

fn gather<K: Copy>(subscribers: &[K], into: &mut Vec<K>, sets: &mut usize) {
    if !subscribers.is_empty() {
        into.extend_from_slice(subscribers);
        *sets += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::name::stream_of;
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    #[test]
    fn whoever_matches_by_several_patterns_is_named_once() {
        let mut tree = Tree::default();
        for text in ["a:*", "a:b", "a:*:c", "a:b:*"] {
            assert!(tree.insert(&pattern(text), 7));
            assert!(!tree.insert(&pattern(text), 7), "{text} is there");
        }
        tree.insert(&pattern("a:b:c"), 3);
        let found = |tree: &Tree<i32>, name: &str| {
            let mut found = Vec::new();
            tree.matching(name, &mut found);
            found
        };
        assert_eq!(
            (found(&tree, "a:b:c"), found(&tree, "a:b"), found(&tree, "a")),
            (vec![3, 7], vec![7], vec![])
        );
        for text in ["a:*", "a:b", "a:*:c", "a:b:*"] {
            assert!(tree.remove(&pattern(text), 7) && !tree.remove(&pattern(text), 7), "{text}");
        }
        assert!(tree.remove(&pattern("a:b:c"), 3));
        assert_eq!(tree.free.len() + 1, tree.nodes.len(), "only the root is left");
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert(Pattern, u8),
        Remove(usize),
    }

    fn text(stars: bool) -> impl Strategy<Value = String> {
        let segment = if stars { "[ab*]" } else { "[ab]" };
        (proptest::string::string_regex("[ab]").expect("a class"), proptest::collection::vec(segment, 0..4))
            .prop_map(|(first, more)| [vec![first], more].concat().join(":"))
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            3 => (text(true), 0..5_u8).prop_map(|(text, who)| Change::Insert(pattern(&text), who)),
            1 => (0..64_usize).prop_map(Change::Remove),
        ];
        proptest::collection::vec(change, 1..64)
    }

    proptest! {
        #[test]
        fn it_finds_whom_a_look_at_every_pattern_finds(changes in changes(), names in proptest::collection::vec(text(false), 1..16)) {
            let mut tree = Tree::default();
            let mut all: Vec<(Pattern, u8)> = Vec::new();
            for change in changes {
                match change {
                    Change::Insert(pattern, who) => {
                        let new = !all.contains(&(pattern.clone(), who));
                        prop_assert_eq!(tree.insert(&pattern, who), new);
                        if new {
                            all.push((pattern, who));
                        }
                    }
                    Change::Remove(which) if !all.is_empty() => {
                        let (pattern, who) = all.swap_remove(which % all.len());
                        prop_assert!(tree.remove(&pattern, who));
                        prop_assert!(!tree.remove(&pattern, who));
                    }
                    Change::Remove(_) => {}
                }
                for name in &names {
                    let mut naive: Vec<u8> =
                        all.iter().filter(|(pattern, _)| pattern.names(name)).map(|(_, who)| *who).collect();
                    naive.sort_unstable();
                    naive.dedup();
                    let mut found = Vec::new();
                    tree.matching(name, &mut found);
                    prop_assert_eq!(found, naive, "{}", name);
                    let stream = stream_of(name);
                    let mut naive: Vec<u8> =
                        all.iter().filter(|(pattern, _)| pattern.may_meet(stream)).map(|(_, who)| *who).collect();
                    naive.sort_unstable();
                    naive.dedup();
                    let mut found = Vec::new();
                    tree.concerned(stream, &mut found);
                    // A name of one segment is a stream that no pattern below it names.
                    found.retain(|who| stream.contains(':') || naive.contains(who));
                    prop_assert_eq!(found, naive, "{}", stream);
                }
            }
            for (pattern, who) in all {
                prop_assert!(tree.remove(&pattern, who));
            }
            prop_assert_eq!(tree.free.len() + 1, tree.nodes.len());
        }
    }
}
