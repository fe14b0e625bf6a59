//! The names of a tree in memory, and which of them a pattern means. No disk is asked: a link cannot lead out.
//!
//! What goes in is matched by name alone. What must stay out is matched through the tree's own links as well, as the
//! container itself would follow them: `/srv/pillar` is the pillar wherever the link of that name leads.

use std::collections::{BTreeMap, BTreeSet};

use super::pattern::{Part, Pattern};

/// A name in a tree; the root is 0.
pub(super) type Node = usize;

/// The most links followed on the way to one name (the kernel's own limit).
const LINKS: usize = 40;

struct Name {
    parent: Node,
    own: Vec<u8>,
    children: BTreeMap<Vec<u8>, Node>,
    kind: Kind,
}

enum Kind {
    Directory,
    Link(Vec<u8>),
    Other,
}

/// Every name of a tree.
pub(super) struct Names {
    nodes: Vec<Name>,
    /// Where the container's own root is: absolute links begin there, and none leads above it.
    chroot: Node,
}

/// What a pattern means.
#[derive(Default)]
pub(super) struct Expanded {
    /// The names that match.
    pub(super) found: BTreeSet<Node>,
    /// Links in the way of the pattern that were not followed.
    pub(super) stopped_at: BTreeSet<Node>,
}

/// What an entry is to the names.
pub(super) enum Entry<'a> {
    Directory,
    Link(&'a [u8]),
    Other,
}

impl Names {
    pub(super) fn new() -> Self {
        let root = Name { parent: 0, own: Vec::new(), children: BTreeMap::new(), kind: Kind::Directory };
        Self { nodes: vec![root], chroot: 0 }
    }

    /// Adds an entry whose directory was added before.
    pub(super) fn add(&mut self, path: &[u8], entry: &Entry<'_>) {
        if path.is_empty() {
            return;
        }
        let mut node = 0;
        for component in path.split(|byte| *byte == b'/') {
            let known = self.nodes[node].children.get(component).copied();
            node = known.unwrap_or_else(|| {
                let (child, own) = (self.nodes.len(), component.to_vec());
                self.nodes[node].children.insert(own.clone(), child);
                self.nodes.push(Name { parent: node, own, children: BTreeMap::new(), kind: Kind::Directory });
                child
            });
        }
        self.nodes[node].kind = match entry {
            Entry::Directory => Kind::Directory,
            Entry::Link(target) => Kind::Link(target.to_vec()),
            Entry::Other => Kind::Other,
        };
    }

    /// Makes this path the container's root.
    pub(super) fn set_chroot(&mut self, path: &[u8]) {
        self.chroot = self.find(path).unwrap_or(0);
    }

    /// The name at a normalised path.
    pub(super) fn find(&self, path: &[u8]) -> Option<Node> {
        let components = path.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        components.into_iter().try_fold(0, |node, component| self.nodes[node].children.get(component).copied())
    }

    /// The path of a name.
    pub(super) fn path(&self, mut node: Node) -> Vec<u8> {
        let mut parts = Vec::new();
        while node != 0 {
            parts.push(self.nodes[node].own.as_slice());
            node = self.nodes[node].parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// Whether `above` is `node` or a directory on the way to it.
    pub(super) fn is_in(&self, mut node: Node, above: Node) -> bool {
        loop {
            if node == above {
                return true;
            }
            if node == 0 {
                return false;
            }
            node = self.nodes[node].parent;
        }
    }

    /// The names that match by name alone, below `from`.
    pub(super) fn expand(&self, pattern: &Pattern, from: Node) -> Expanded {
        self.matching(pattern, from, false)
    }

    /// The same, and what the tree's own links lead to.
    pub(super) fn expand_through_links(&self, pattern: &Pattern, from: Node) -> Expanded {
        self.matching(pattern, from, true)
    }

    fn matching(&self, pattern: &Pattern, from: Node, follow: bool) -> Expanded {
        let parts = pattern.parts();
        let mut expanded = Expanded::default();
        // Each name is met once with each rest of the pattern, whatever circles links make.
        let mut met = BTreeSet::from([(from, 0)]);
        let mut todo = vec![(from, 0)];
        while let Some((node, at)) = todo.pop() {
            let Some(part) = parts.get(at) else {
                expanded.found.insert(node);
                continue;
            };
            let mut next = Vec::new();
            if *part == Part::Folders {
                next.push((node, at + 1));
                if at + 1 == parts.len() {
                    next.extend(self.nodes[node].children.values().map(|child| (*child, at + 1)));
                }
                let folders = self.nodes[node].children.values().copied();
                next.extend(folders.filter(|child| self.is_directory(*child)).map(|child| (child, at)));
            } else {
                for child in self.accepted(node, part) {
                    let last = at + 1 == parts.len();
                    match (&self.nodes[child].kind, follow) {
                        (Kind::Link(_), true) => {
                            next.extend(self.resolve(child).map(|target| (target, at + 1)));
                            next.extend(last.then_some((child, at + 1)));
                        }
                        (Kind::Link(_), false) if !last => {
                            expanded.stopped_at.insert(child);
                        }
                        (Kind::Other, _) if !last => {}
                        _ => next.push((child, at + 1)),
                    }
                }
            }
            todo.extend(next.into_iter().filter(|step| met.insert(*step)));
        }
        expanded
    }

    fn accepted(&self, node: Node, part: &Part) -> Vec<Node> {
        let children = &self.nodes[node].children;
        match part {
            Part::Name(name) => children.get(name.as_bytes()).copied().into_iter().collect(),
            other => children.iter().filter(|(name, _)| other.accepts(name)).map(|(_, child)| *child).collect(),
        }
    }

    fn is_directory(&self, node: Node) -> bool {
        matches!(self.nodes[node].kind, Kind::Directory)
    }

    /// Where a link leads as the container follows it; none where it leads nowhere in the tree.
    fn resolve(&self, link: Node) -> Option<Node> {
        let inside = self.is_in(link, self.chroot);
        let top = if inside { self.chroot } else { 0 };
        let mut links = 0;
        let mut place = self.nodes[link].parent;
        let mut todo: Vec<Vec<u8>> = Vec::new();
        let mut node = link;
        loop {
            if let Kind::Link(target) = &self.nodes[node].kind {
                links += 1;
                // A link outside of the root belongs to the host: an absolute one is no way into the tree.
                if links > LINKS || (!inside && target.starts_with(b"/")) {
                    return None;
                }
                if target.starts_with(b"/") {
                    place = top;
                }
                let components = target.split(|byte| *byte == b'/').rev();
                todo.extend(components.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec));
            } else {
                place = node;
            }
            let next = loop {
                match todo.pop() {
                    None => return Some(place),
                    Some(component) if component == b".." => {
                        if place != top {
                            place = self.nodes[place].parent;
                        }
                    }
                    Some(component) => break component,
                }
            };
            node = *self.nodes[place].children.get(&next)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Names};
    use crate::release::Pattern;

    fn names(entries: &[(&str, Option<&str>)]) -> Names {
        let mut names = Names::new();
        for (path, link) in entries {
            let entry = match link {
                Some(target) => Entry::Link(target.as_bytes()),
                None if path.ends_with('/') => Entry::Directory,
                None => Entry::Other,
            };
            names.add(path.trim_end_matches('/').as_bytes(), &entry);
        }
        names
    }

    fn through(names: &Names, pattern: &str) -> Vec<String> {
        let found = names.expand_through_links(&Pattern::parse(pattern).unwrap(), 0).found;
        let mut paths: Vec<String> =
            found.iter().map(|node| String::from_utf8_lossy(&names.path(*node)).into_owned()).collect();
        paths.sort();
        paths
    }

    #[test]
    fn what_stays_out_is_found_behind_every_link_and_none_leads_out() {
        let names = names(&[
            ("srv/", None),
            ("srv/pillar", Some("/data/../data/p")),
            ("data/", None),
            ("data/p/", None),
            ("data/p/top.sls", None),
            ("opt", Some("srv")),
            ("up", Some("../../../../data")),
            ("round", Some("about")),
            ("about", Some("round")),
            ("self", Some(".")),
        ]);
        assert_eq!(through(&names, "srv/pillar"), ["data/p", "srv/pillar"]);
        assert_eq!(through(&names, "opt/pillar/top.sls"), ["data/p/top.sls"]);
        assert_eq!(through(&names, "up/p"), ["data/p"]);
        assert_eq!(through(&names, "round/x"), [""; 0]);
        assert_eq!(through(&names, "self/self/self/data/p"), ["data/p"]);
        assert_eq!(through(&names, "**/top.sls"), ["data/p/top.sls"]);
        assert_eq!(through(&names, "srv/pillar/**"), ["data/p", "data/p/top.sls"]);
        let lexical = names.expand(&Pattern::parse("opt/pillar").unwrap(), 0);
        assert!(lexical.found.is_empty());
        assert_eq!(lexical.stopped_at.iter().map(|node| names.path(*node)).collect::<Vec<_>>(), [b"opt"]);
    }

    #[test]
    fn absolute_links_begin_at_the_containers_root() {
        let mut names = names(&[
            ("hook", Some("/rootfs/srv")),
            ("near", Some("rootfs/srv")),
            ("rootfs/", None),
            ("rootfs/srv/", None),
            ("rootfs/a", Some("/srv")),
            ("rootfs/b", Some("../../../srv")),
            ("srv/", None),
        ]);
        names.set_chroot(b"rootfs");
        assert_eq!(through(&names, "rootfs/a"), ["rootfs/a", "rootfs/srv"]);
        assert_eq!(through(&names, "rootfs/b"), ["rootfs/b", "rootfs/srv"]);
        assert_eq!(through(&names, "hook"), ["hook"]);
        assert_eq!(through(&names, "near"), ["near", "rootfs/srv"]);
    }
}
