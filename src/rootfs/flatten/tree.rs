//! The tree under merge, compact: an arena of names (a node is a path, for ever), an arena of inodes, an arena of hard
//! link headers. A million entries take some 120 MiB; nothing else is kept per entry, headers are read again later.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::error::{Error, Kind, Result};
use crate::rootfs::Limits;

/// No node, inode or link.
pub(super) const NONE: u32 = u32::MAX;
/// The node of `/`, which is always there, with or without an entry of its own.
pub(super) const ROOT: u32 = 0;

/// What the merge knows of an inode or of a hard link's header besides where it stands.
pub(super) mod flag {
    /// Its raw blocks may be copied as they are.
    pub(crate) const VERBATIM: u16 = 1;
    /// It has ACL records or text: it is read again before anything is decided.
    pub(crate) const ACL: u16 = 1 << 1;
    /// It has the text of an ACL and no binary record of it: names may have to be resolved.
    pub(crate) const TEXT: u16 = 1 << 2;
    /// A directory that no layer holds.
    pub(crate) const SYNTHESISED: u16 = 1 << 3;
    /// A character device 0:0, which overlayfs takes for a whiteout.
    pub(crate) const ZERO_DEVICE: u16 = 1 << 4;
    /// A layer above the base changed it through a hard link's header.
    pub(crate) const CHANGED: u16 = 1 << 5;
    /// Finally: a directory with a default ACL.
    pub(crate) const DEFAULT: u16 = 1 << 6;
    /// Finally: it has an access ACL that says more than the mode, or a default ACL.
    pub(crate) const EXTENDED: u16 = 1 << 7;
    /// Finally: it must not inherit an ACL when it is unpacked.
    pub(crate) const GUARD: u16 = 1 << 8;
    /// Finally: it has more than one name.
    pub(crate) const LINKED: u16 = 1 << 9;
    /// Finally: it is not what the base layers have.
    pub(crate) const ABOVE: u16 = 1 << 10;
    /// It is a sparse file.
    pub(crate) const SPARSE: u16 = 1 << 12;
    /// While its layer is applied: a hard link that waits for its target.
    pub(crate) const PLACEHOLDER: u16 = 1 << 11;
}

/// What an inode is, as far as the merge cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Directory,
    Symlink,
    Other,
}

/// A path; alive while it has an inode.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) parent: u32,
    name: u32,
    pub(super) inode: u32,
    /// The header of the hard link that gave it its inode, if it was one.
    pub(super) link: u32,
    pub(super) first_child: u32,
    pub(super) next: u32,
    previous: u32,
    name_length: u16,
    /// The layer that set it last.
    pub(super) layer: u16,
    /// One more than the last layer that took everything lower away below it.
    purged: u16,
    /// One more than the last layer that used it as a parent.
    pub(super) touched: u16,
}

/// A file, directory, link, device: where its header stands, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Inode {
    pub(super) header: u64,
    /// From the first header block to the end of the content's padding.
    pub(super) length: u64,
    /// The last header of a hard link to it, whose `previous` leads on.
    pub(super) links: u32,
    /// Finally: the name that carries the content.
    pub(super) carrier: u32,
    pub(super) layer: u16,
    pub(super) flags: u16,
    pub(super) form: Form,
}

/// A hard link's header.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) header: u64,
    pub(super) length: u64,
    pub(super) previous: u32,
    pub(super) layer: u16,
    pub(super) flags: u16,
}

/// All names, inodes and links.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) inodes: Vec<Inode>,
    pub(super) links: Vec<Link>,
    names: Vec<u8>,
    table: HashTable<u32>,
    hasher: RandomState,
    most: usize,
}

fn full(what: &str, most: usize) -> Error {
    Error::new(Kind::Limit, format!("the layers hold more than {most} {what}"))
        .hint("raise `limits.entries` in castoff's configuration if this is what you expect of the image")
}

impl Tree {
    pub(super) fn new(limits: &Limits) -> Self {
        let most = usize::try_from(limits.entries).unwrap_or(usize::MAX).min(NONE as usize >> 1);
        let root = Node {
            parent: ROOT,
            name: 0,
            inode: NONE,
            link: NONE,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            name_length: 0,
            layer: 0,
            purged: 0,
            touched: 0,
        };
        Self {
            nodes: vec![root],
            inodes: Vec::new(),
            links: Vec::new(),
            names: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::new(),
            most,
        }
    }

    pub(super) fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(super) fn inode(&self, id: u32) -> &Inode {
        &self.inodes[id as usize]
    }

    pub(super) fn inode_mut(&mut self, id: u32) -> &mut Inode {
        &mut self.inodes[id as usize]
    }

    /// The inode of a living node.
    pub(super) fn inode_of(&self, node: u32) -> Option<&Inode> {
        self.inodes.get(self.node(node).inode as usize)
    }

    pub(super) fn alive(&self, node: u32) -> bool {
        node == ROOT || self.node(node).inode != NONE
    }

    pub(super) fn is_directory(&self, node: u32) -> bool {
        node == ROOT || self.inode_of(node).is_some_and(|inode| inode.form == Form::Directory)
    }

    pub(super) fn name(&self, node: u32) -> &[u8] {
        let node = self.node(node);
        &self.names[node.name as usize..][..node.name_length as usize]
    }

    /// The node's path in normal form.
    pub(super) fn path(&self, node: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = node;
        while at != ROOT {
            names.push(self.name(at));
            at = self.node(at).parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The node of this name, dead or alive.
    pub(super) fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, name));
        self.table.find(hash, |id| self.node(*id).parent == parent && self.name(*id) == name).copied()
    }

    /// The living node at a normalised path.
    pub(super) fn find(&self, path: &[u8]) -> Option<u32> {
        let mut at = ROOT;
        for name in components(path) {
            at = self.child(at, name).filter(|child| self.alive(*child))?;
        }
        Some(at)
    }

    /// The node of this name, made (dead) if there was none.
    pub(super) fn slot(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        if let Some(found) = self.child(parent, name) {
            return Ok(found);
        }
        let start = u32::try_from(self.names.len()).map_err(|_| full("bytes of names", NONE as usize))?;
        let name_length = u16::try_from(name.len()).map_err(|_| full("bytes in a name", u16::MAX.into()))?;
        if self.nodes.len() > self.most {
            return Err(full("paths", self.most));
        }
        let id = number(self.nodes.len());
        self.names.extend_from_slice(name);
        self.nodes.push(Node {
            parent,
            name: start,
            inode: NONE,
            link: NONE,
            first_child: NONE,
            next: NONE,
            previous: NONE,
            name_length,
            layer: 0,
            purged: 0,
            touched: 0,
        });
        let hash = self.hasher.hash_one((parent, name));
        let (nodes, names, hasher) = (&self.nodes, &self.names, &self.hasher);
        self.table.insert_unique(hash, id, |id| {
            let node = nodes[*id as usize];
            hasher.hash_one((node.parent, &names[node.name as usize..][..node.name_length as usize]))
        });
        Ok(id)
    }

    pub(super) fn add_inode(&mut self, inode: Inode) -> Result<u32> {
        if self.inodes.len() >= self.most {
            return Err(full("entries", self.most));
        }
        self.inodes.push(inode);
        Ok(number(self.inodes.len() - 1))
    }

    pub(super) fn add_link(&mut self, link: Link) -> Result<u32> {
        if self.links.len() >= self.most {
            return Err(full("hard links", self.most));
        }
        self.links.push(link);
        Ok(number(self.links.len() - 1))
    }

    /// A directory that no layer holds.
    pub(super) fn synthesise(&mut self, node: u32, layer: u16) -> Result<()> {
        let inode = self.add_inode(Inode {
            header: u64::MAX,
            length: 0,
            links: NONE,
            carrier: NONE,
            layer,
            flags: flag::SYNTHESISED,
            form: Form::Directory,
        })?;
        self.set(node, inode, NONE, layer);
        Ok(())
    }

    /// Gives a node its inode: replaces what was there; children stay only where a directory follows a directory.
    pub(super) fn set(&mut self, node: u32, inode: u32, link: u32, layer: u16) {
        let directory = self.inode(inode).form == Form::Directory;
        if !(directory && self.is_directory(node)) {
            self.clear(node);
        }
        if !self.alive(node) {
            let parent = self.node(node).parent;
            let next = self.node(parent).first_child;
            self.node_mut(parent).first_child = node;
            if next != NONE {
                self.node_mut(next).previous = node;
            }
            let own = self.node_mut(node);
            own.next = next;
            own.previous = NONE;
        }
        let own = self.node_mut(node);
        own.inode = inode;
        own.link = link;
        own.layer = layer;
    }

    /// Takes a living node and everything below it away.
    pub(super) fn remove(&mut self, node: u32) {
        self.clear(node);
        let Node { parent, next, previous, .. } = *self.node(node);
        if previous == NONE {
            self.node_mut(parent).first_child = next;
        } else {
            self.node_mut(previous).next = next;
        }
        if next != NONE {
            self.node_mut(next).previous = previous;
        }
        let own = self.node_mut(node);
        own.inode = NONE;
        own.link = NONE;
        own.next = NONE;
        own.previous = NONE;
    }

    /// Takes everything below a node away.
    fn clear(&mut self, node: u32) {
        let mut todo = vec![self.node(node).first_child];
        self.node_mut(node).first_child = NONE;
        while let Some(mut at) = todo.pop() {
            while at != NONE {
                let own = self.node_mut(at);
                todo.push(own.first_child);
                let next = own.next;
                own.inode = NONE;
                own.link = NONE;
                own.first_child = NONE;
                own.next = NONE;
                own.previous = NONE;
                at = next;
            }
        }
    }

    /// Takes away, below a directory, what layers lower than this one brought. A lower directory that holds something
    /// of this layer stays as one that no layer holds. Each part of the tree is walked once a layer at most.
    pub(super) fn purge(&mut self, directory: u32, layer: u16) -> Result<()> {
        let mut found = Vec::new();
        let mut todo = vec![directory];
        while let Some(at) = todo.pop() {
            if self.node(at).purged == layer + 1 {
                continue;
            }
            self.node_mut(at).purged = layer + 1;
            let mut child = self.node(at).first_child;
            while child != NONE {
                found.push(child);
                if self.is_directory(child) {
                    todo.push(child);
                }
                child = self.node(child).next;
            }
        }
        for node in found.into_iter().rev() {
            self.forget_lower(node, layer)?;
        }
        Ok(())
    }

    /// Takes a node away if a lower layer brought it; with living children it becomes a directory that no layer holds.
    pub(super) fn forget_lower(&mut self, node: u32, layer: u16) -> Result<()> {
        if self.node(node).layer >= layer || !self.alive(node) {
            return Ok(());
        }
        if self.node(node).first_child == NONE {
            self.remove(node);
            return Ok(());
        }
        self.synthesise(node, layer)
    }

    /// Where the bytes that a node brings stand: its content if it carries it, else its own header.
    pub(super) fn source(&self, node: u32) -> (u16, u64) {
        match self.inode_of(node) {
            Some(inode) if inode.carrier == node => (inode.layer, inode.header),
            _ => self.position(node),
        }
    }

    /// Where the bytes of a node's own header stand: layer and offset.
    pub(super) fn position(&self, node: u32) -> (u16, u64) {
        let own = self.node(node);
        match self.links.get(own.link as usize) {
            Some(link) => (link.layer, link.header),
            None => self.inode_of(node).map_or((0, 0), |inode| (inode.layer, inode.header)),
        }
    }
}

/// The names of a normalised path; none for the root.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// An arena's index: arenas are bounded far below `u32::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "every arena is checked against `most`, at most 2^31, before it grows"
)]
fn number(index: usize) -> u32 {
    index as u32
}
