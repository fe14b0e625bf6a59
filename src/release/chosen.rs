//! What a flavour takes of a tree: decided by names alone, before anything is read or written.

use std::collections::{BTreeMap, BTreeSet};

use super::flavour::Recipe;
use super::names::{Names, Node};
use super::tree::{Item, Tree, dates};
use crate::error::{Error, Kind, Result};
use crate::rootfs::shown;
use crate::vocab::Value;

/// The most paths of a kind that a report names.
const NAMED: usize = 100;

/// An entry that goes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    /// The entry.
    pub(super) item: Item,
    /// The entry that holds the inode: this one, unless it is a further name.
    pub(super) inode: Item,
    /// The first name of the inode that goes in, if this is not it: what a link in the archive points to.
    pub(super) link_to: Option<Item>,
}

/// The part of a tree that a flavour takes.
#[derive(Debug, Default)]
pub struct Chosen {
    pub(super) picks: Vec<Pick>,
    /// Patterns of the flavour that nothing matches.
    pub unmatched: Vec<String>,
    /// Links in the way of a pattern, which were not followed.
    pub stopped_at: Vec<Vec<u8>>,
    /// What was left out: names with all that is below them.
    pub left_out: Vec<Vec<u8>>,
    /// Files that go in under one name while another name of theirs is left out.
    pub escaped: Vec<(Vec<u8>, Vec<u8>)>,
    /// The newest second of what goes in: files and links only, since folders are touched by whoever looks after them.
    pub newest: i64,
}

impl Chosen {
    /// What the flavour takes of the tree.
    pub fn of(recipe: &Recipe, tree: &Tree) -> Result<Self> {
        let names = tree.names();
        let mut chosen = Self::default();
        let wanted = chosen.wanted(recipe, &names);
        let unwanted = chosen.unwanted(recipe, &names);
        chosen.pick(tree, &wanted, &unwanted);
        if chosen.picks.is_empty() {
            return Err(Error::new(
                Kind::NotFound,
                format!("the container has nothing of the flavour `{}`", recipe.name),
            )
            .hint("its patterns are in the documentation of the flavour, or in `release.flavors`"));
        }
        Ok(chosen)
    }

    /// How many entries go in.
    pub fn count(&self) -> usize {
        self.picks.len()
    }

    fn wanted(&mut self, recipe: &Recipe, names: &Names) -> BTreeSet<Vec<u8>> {
        let mut wanted = BTreeSet::new();
        let mut stopped = BTreeSet::new();
        for pattern in &recipe.include {
            let expanded = names.expand(pattern, 0);
            if expanded.found.is_empty() {
                self.unmatched.push(pattern.as_str().to_owned());
            }
            wanted.extend(expanded.found.into_iter().map(|node| names.path(node)));
            stopped.extend(expanded.stopped_at.into_iter().map(|node| names.path(node)));
        }
        self.stopped_at = stopped.into_iter().collect();
        wanted
    }

    fn unwanted(&mut self, recipe: &Recipe, names: &Names) -> BTreeSet<Vec<u8>> {
        let mut unwanted: BTreeSet<Node> = BTreeSet::new();
        for pattern in &recipe.leave_out {
            unwanted.extend(names.expand_through_links(pattern, 0).found);
        }
        // A link to the root would leave out the whole image: only the link itself goes.
        let rootfs = names.find(recipe.root.prefix()).unwrap_or(0);
        unwanted.retain(|node| !names.is_in(rootfs, *node));
        self.left_out = unwanted.iter().map(|node| names.path(*node)).collect();
        self.left_out.sort();
        self.left_out.iter().cloned().collect()
    }

    fn pick(&mut self, tree: &Tree, wanted: &BTreeSet<Vec<u8>>, unwanted: &BTreeSet<Vec<u8>>) {
        // Of inodes with several names: the first name that goes in, its path, and one that is left out.
        let mut carriers: BTreeMap<Item, Item> = BTreeMap::new();
        let mut seen: BTreeMap<Item, Vec<u8>> = BTreeMap::new();
        let mut hidden: BTreeMap<Item, Vec<u8>> = BTreeMap::new();
        for item in tree.items() {
            let entry = tree.entry(item);
            let inode = tree.inode(item);
            let has_names = tree.has_names(item);
            if covered(unwanted, &entry.path) {
                if has_names {
                    hidden.entry(inode).or_insert_with(|| entry.path.clone());
                }
                continue;
            }
            if !covered(wanted, &entry.path) {
                continue;
            }
            let link_to = if has_names {
                seen.entry(inode).or_insert_with(|| entry.path.clone());
                let carrier = *carriers.entry(inode).or_insert(item);
                (carrier != item).then_some(carrier)
            } else {
                None
            };
            if let Some(seconds) = dates(&tree.entry(inode)) {
                self.newest = self.newest.max(seconds);
            }
            self.picks.push(Pick { item, inode, link_to });
        }
        let escaped = hidden.into_iter().filter_map(|(inode, hidden)| Some((seen.remove(&inode)?, hidden)));
        self.escaped = escaped.collect();
    }

    /// What a person should know of the choice; what there is nothing of is not in it.
    pub fn to_value(&self) -> Value {
        let paths = |paths: &[Vec<u8>]| {
            let rest = paths.len().saturating_sub(NAMED);
            let lines = paths.iter().take(NAMED).map(|path| shown(path));
            Value::list(lines.chain((rest > 0).then(|| format!("and {rest} more"))))
        };
        let mut members = vec![("entries", Value::from(self.picks.len() as u64))];
        if !self.unmatched.is_empty() {
            members.push(("unmatched", Value::list(self.unmatched.clone())));
        }
        for (name, list) in [("links_not_followed", &self.stopped_at), ("left_out", &self.left_out)] {
            if !list.is_empty() {
                members.push((name, paths(list)));
            }
        }
        Value::map(members)
    }
}

/// Whether the path or a folder above it is among these.
fn covered(among: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    if among.is_empty() {
        return false;
    }
    let mut end = path.len();
    loop {
        if among.contains(&path[..end]) {
            return true;
        }
        if end == 0 {
            return false;
        }
        end = path[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    }
}
