//! The merged tree as a reader sees it, in path order: for comparing, listing and unpacking.

use std::collections::HashMap;

use crate::error::Result;
use crate::rootfs::tar::Member;
use crate::rootfs::{Entry, EntryKind};

use super::metadata::Metadata;
use super::plan::{Layers, Plan};
use super::tree::{NONE, ROOT, flag};

/// One path of the merged tree.
#[derive(Clone, Debug)]
pub struct FlatEntry {
    /// Its path and what is there, never a hard link: every name of a file says what the file is. ACLs are those that
    /// say something: guards against inheritance are not shown.
    pub entry: Entry,
    /// If the inode has several names: the first of them in path order, which may be this one.
    pub group: Option<Vec<u8>>,
    /// Where the content of a regular file is.
    pub content: Option<ContentAt>,
}

/// Where a file's content is: give the layer and the member to `tar::content`.
#[derive(Clone, Debug)]
pub struct ContentAt {
    /// The layer's number, from the bottom, beginning with 0.
    pub layer: usize,
    /// The member that holds it.
    pub member: Member,
}

/// The entries of the merged tree in path order: by the bytes of the components, a directory before what is in it.
pub struct FlatEntries<'a> {
    plan: &'a Plan,
    layers: Layers<'a>,
    /// Nodes to come, the next one last.
    todo: Vec<u32>,
    /// The first name met of every inode that has several.
    first: HashMap<u32, u32>,
}

impl std::fmt::Debug for FlatEntries<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FlatEntries").field("todo", &self.todo.len()).finish_non_exhaustive()
    }
}

impl<'a> FlatEntries<'a> {
    pub(super) fn new(plan: &'a Plan, layers: Layers<'a>) -> Self {
        Self { plan, layers, todo: vec![ROOT], first: HashMap::new() }
    }

    /// What the tree has at this path.
    pub(super) fn find(mut self, path: &[u8]) -> Result<Option<FlatEntry>> {
        match self.plan.tree.find(path) {
            Some(node) if self.plan.tree.node(node).inode != NONE => self.entry(node).map(Some),
            _ => Ok(None),
        }
    }

    fn push_children(&mut self, directory: u32) {
        let tree = &self.plan.tree;
        let from = self.todo.len();
        let mut child = tree.node(directory).first_child;
        while child != NONE {
            self.todo.push(child);
            child = tree.node(child).next;
        }
        self.todo[from..].sort_unstable_by(|left, right| tree.name(*right).cmp(tree.name(*left)));
    }

    fn entry(&mut self, node: u32) -> Result<FlatEntry> {
        let tree = &self.plan.tree;
        let id = tree.node(node).inode;
        let inode = *tree.inode(id);
        let path = tree.path(node);
        if inode.flags & flag::SYNTHESISED != 0 {
            return Ok(FlatEntry {
                entry: Metadata::synthesised().entry(path, EntryKind::Directory),
                group: None,
                content: None,
            });
        }
        let member = self.plan.member(self.layers, &inode)?;
        let metadata = self.plan.metadata(id, &member)?.into_seen(&path)?;
        let entry = metadata.entry(path, member.entry.kind.clone());
        let group = (inode.flags & flag::LINKED != 0).then(|| tree.path(*self.first.entry(id).or_insert(node)));
        let file = matches!(entry.kind, EntryKind::File { .. });
        let content = file.then_some(ContentAt { layer: inode.layer as usize, member });
        Ok(FlatEntry { entry, group, content })
    }
}

impl Iterator for FlatEntries<'_> {
    type Item = Result<FlatEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let node = self.todo.pop()?;
            self.push_children(node);
            // The root may have no entry.
            if self.plan.tree.node(node).inode != NONE {
                return Some(self.entry(node));
            }
        }
    }
}
