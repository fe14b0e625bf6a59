//! What the merged tree looks like in the end: which name carries which content, which metadata differ from their
//! header, who must be guarded against inheritance, what lies above the base.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::Arc;

use crate::error::{Context as _, Error, Kind, Result};
use crate::rootfs::acl::{Names, PasswdNames};
use crate::rootfs::tar::{self, Globals, Member};
use crate::rootfs::{Limits, ReadAt};

use super::metadata::Metadata;
use super::report::{FlattenReport, shown};
use super::tree::{Form, Inode, Link, NONE, ROOT, Tree, flag};
use super::{AclOverride, FlattenOptions};

/// The layers, bottom first, as they were scanned.
pub(super) type Layers<'a> = &'a [Arc<dyn ReadAt>];

/// The most bytes of a passwd or group file that are read.
const NAMES_MOST: u64 = 16 << 20;

/// The merged tree and all that was decided about it.
pub(super) struct Plan {
    pub(super) tree: Tree,
    /// The inode every node had when the base was complete; empty without a base.
    pub(super) base: Vec<u32>,
    pub(super) options: FlattenOptions,
    pub(super) limits: Limits,
    /// Of inodes whose hard links' headers say something else than their own.
    folded: HashMap<u32, Box<Metadata>>,
    names: Option<PasswdNames>,
    /// Each layer's global records.
    globals: Vec<Globals>,
}

/// What the layers made.
pub(super) struct Merged {
    pub(super) tree: Tree,
    /// The inode every node had when the base was complete; empty without a base.
    pub(super) base: Vec<u32>,
    /// Each layer's global records.
    pub(super) globals: Vec<Globals>,
}

/// Without ACLs in the output nobody need be known: every name gets a number of its own.
struct Anybody(std::cell::Cell<u32>);

impl Anybody {
    fn next(&self) -> u32 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

impl Names for Anybody {
    fn user(&self, _: &[u8]) -> Option<u32> {
        Some(self.next())
    }

    fn group(&self, _: &[u8]) -> Option<u32> {
        Some(self.next())
    }
}

impl Plan {
    pub(super) fn new(merged: Merged, options: FlattenOptions, limits: Limits) -> Self {
        let Merged { tree, base, globals } = merged;
        Self { tree, base, options, limits, folded: HashMap::new(), names: None, globals }
    }

    /// Decides everything that does not depend on how the tree is cut into outputs.
    pub(super) fn decide(
        &mut self,
        layers: Layers<'_>,
        overrides: &BTreeMap<Vec<u8>, AclOverride>,
        report: &mut FlattenReport,
    ) -> Result<()> {
        self.drop_zero_devices(report);
        self.choose_carriers(report);
        if self.options.text_acls {
            self.carry_by_first_name();
        }
        self.find_names(layers)?;
        self.fold(layers)?;
        self.put_acls(layers, overrides, report)?;
        self.classify(layers, report)?;
        self.guard(layers)?;
        self.find_changes(layers)
    }

    /// All living nodes that have an entry.
    pub(super) fn living(&self) -> impl Iterator<Item = u32> + use<'_> {
        (ROOT..).zip(&self.tree.nodes).filter(|(_, node)| node.inode != NONE).map(|(id, _)| id)
    }

    /// The inodes that have a name, in the order they came.
    fn named(&self) -> Vec<u32> {
        (0..).zip(&self.tree.inodes).filter(|(_, inode)| inode.carrier != NONE).map(|(id, _)| id).collect()
    }

    fn drop_zero_devices(&mut self, report: &mut FlattenReport) {
        let zero = |node: &u32| self.tree.inode_of(*node).is_some_and(|inode| inode.flags & flag::ZERO_DEVICE != 0);
        let found: Vec<u32> = self.living().filter(zero).collect();
        for node in found {
            report.drop(
                &self.tree.path(node),
                "a character device 0:0 is what overlayfs deletes with: no container would see it",
            );
            self.tree.remove(node);
        }
    }

    /// The name that came with the content carries it; where that is gone, the first of the others.
    fn choose_carriers(&mut self, report: &mut FlattenReport) {
        for id in 0..self.tree.nodes.len() {
            let id = u32::try_from(id).unwrap_or(NONE);
            let node = *self.tree.node(id);
            if node.inode == NONE {
                continue;
            }
            report.entries_kept += 1;
            let inode = *self.tree.inode(node.inode);
            if inode.flags & flag::SYNTHESISED != 0 {
                report.synthesised_parents += 1;
            }
            let better = inode.carrier == NONE
                || node.link == NONE
                || (self.tree.node(inode.carrier).link != NONE
                    && self.tree.position(id) < self.tree.position(inode.carrier));
            let inode = self.tree.inode_mut(node.inode);
            if inode.carrier != NONE {
                inode.flags |= flag::LINKED;
            }
            if better {
                inode.carrier = id;
            }
        }
        let promoted = |inode: &&Inode| {
            inode.carrier != NONE && inode.carrier != ROOT && self.tree.node(inode.carrier).link != NONE
        };
        report.links_promoted = self.tree.inodes.iter().filter(promoted).count() as u64;
    }

    /// The first name in path order carries the content, so that no directory is begun for the sake of a link.
    fn carry_by_first_name(&mut self) {
        let mut seen = vec![false; self.tree.inodes.len()];
        for node in self.in_path_order() {
            let inode = self.tree.node(node).inode;
            if !std::mem::replace(&mut seen[inode as usize], true) {
                self.tree.inode_mut(inode).carrier = node;
            }
        }
    }

    /// The names of users and groups, if any ACL stands as text alone.
    fn find_names(&mut self, layers: Layers<'_>) -> Result<()> {
        let text = |flags: u16| flags & flag::TEXT != 0;
        let wanted = self.tree.inodes.iter().any(|inode| inode.carrier != NONE && text(inode.flags))
            || self.tree.links.iter().any(|link| text(link.flags));
        if wanted && self.options.acls {
            let passwd = self.small_file(layers, b"etc/passwd")?;
            let group = self.small_file(layers, b"etc/group")?;
            self.names = Some(PasswdNames::new(&passwd, &group));
        }
        Ok(())
    }

    fn small_file(&self, layers: Layers<'_>, path: &[u8]) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let Some(inode) = self.tree.find(path).and_then(|node| self.tree.inode_of(node)) else { return Ok(content) };
        if inode.form != Form::Other {
            return Ok(content);
        }
        let member = self.member(layers, inode)?;
        let source = &layers[inode.layer as usize];
        let read = tar::content(source, &member).take(NAMES_MOST + 1).read_to_end(&mut content);
        read.context(|| format!("`{}` of the image cannot be read", shown(path)))?;
        if content.len() as u64 > NAMES_MOST {
            return Err(Error::new(Kind::Limit, format!("`{}` of the image is larger than 16 MiB", shown(path))));
        }
        Ok(content)
    }

    /// Reads an inode's header again.
    pub(super) fn member(&self, layers: Layers<'_>, inode: &Inode) -> Result<Member> {
        self.member_at(layers, inode.layer, inode.header, inode.length)
    }

    /// Reads the header of a hard link again.
    pub(super) fn link(&self, layers: Layers<'_>, link: &Link) -> Result<Member> {
        self.member_at(layers, link.layer, link.header, link.length)
    }

    fn member_at(&self, layers: Layers<'_>, layer: u16, header: u64, length: u64) -> Result<Member> {
        let again = || format!("layer {} cannot be read again at byte {header}", layer + 1);
        let number = layer as usize;
        let member = tar::member_at(&*layers[number], header, &self.globals[number], self.limits).context(again)?;
        if member.span.header != header || member.span.end() != header + length {
            return Err(Error::new(Kind::Conflict, again()).hint("the layer changed while it was read; try again"));
        }
        Ok(member)
    }

    pub(super) fn read(&self, member: &Member) -> Result<Metadata> {
        if !self.options.acls {
            return Metadata::of(member, &Anybody(0.into()));
        }
        match &self.names {
            Some(names) => Metadata::of(member, names),
            None => Metadata::of(member, &PasswdNames::new(b"", b"")),
        }
    }

    /// Lays the headers of hard links over their inodes, and keeps the result where it differs.
    fn fold(&mut self, layers: Layers<'_>) -> Result<()> {
        for id in self.named() {
            let inode = *self.tree.inode(id);
            let mut chain = Vec::new();
            let mut at = inode.links;
            while let Some(link) = self.tree.links.get(at as usize) {
                chain.push(*link);
                at = link.previous;
            }
            if chain.is_empty() {
                continue;
            }
            let own = self.read(&self.member(layers, &inode)?)?;
            let mut metadata = own.clone();
            for link in chain.iter().rev() {
                metadata.overlay(self.read(&self.link(layers, link)?)?);
            }
            if metadata != own {
                self.folded.insert(id, Box::new(metadata));
            }
        }
        Ok(())
    }

    /// Lays ACLs that came from elsewhere over what headers say.
    fn put_acls(
        &mut self,
        layers: Layers<'_>,
        overrides: &BTreeMap<Vec<u8>, AclOverride>,
        report: &mut FlattenReport,
    ) -> Result<()> {
        for (path, acls) in overrides {
            let Some(node) = self.tree.find(path).filter(|node| self.tree.alive(*node)) else {
                report.warn(|| format!("`{}` is to have an ACL, but the image does not have it", shown(path)));
                continue;
            };
            let id = self.tree.node(node).inode;
            let inode = *self.tree.inode(id);
            if inode.form == Form::Symlink || inode.flags & flag::SYNTHESISED != 0 {
                report.warn(|| {
                    format!("`{}` is to have an ACL, but is a link or a directory without an entry", shown(path))
                });
                continue;
            }
            let folded = self.folded.remove(&id);
            let was_folded = folded.is_some();
            let mut metadata = match folded {
                Some(folded) => *folded,
                None => self.read(&self.member(layers, &inode)?)?,
            };
            let changed = metadata.put_acls(acls, inode.form);
            if changed {
                // What the base has is not that any more.
                self.tree.inode_mut(id).flags |= flag::CHANGED;
            }
            if changed || was_folded {
                self.folded.insert(id, Box::new(metadata));
            }
        }
        Ok(())
    }

    /// Whether an inode's final metadata may differ from its own header.
    pub(super) fn is_special(&self, inode: u32) -> bool {
        self.tree.inode(inode).flags & (flag::ACL | flag::GUARD) != 0 || self.folded.contains_key(&inode)
    }

    /// The final metadata of an inode whose own header is `member`, without guards.
    pub(super) fn metadata(&self, inode: u32, member: &Member) -> Result<Metadata> {
        let mut metadata = match self.folded.get(&inode) {
            Some(folded) => (**folded).clone(),
            None => self.read(member)?,
        };
        metadata.settle(self.tree.inode(inode).form, self.options.acls, &member.entry.path)?;
        Ok(metadata)
    }

    /// Counts ACLs and finds the directories that hand one down.
    fn classify(&mut self, layers: Layers<'_>, report: &mut FlattenReport) -> Result<()> {
        for id in self.named() {
            if !self.is_special(id) {
                continue;
            }
            let inode = *self.tree.inode(id);
            let member = self.member(layers, &inode)?;
            let mut metadata = match self.folded.get(&id) {
                Some(folded) => (**folded).clone(),
                None => self.read(&member)?,
            };
            let repairs = metadata.settle(inode.form, self.options.acls, &member.entry.path)?;
            if repairs.misplaced {
                report.warn(|| {
                    format!(
                        "`{}` has an ACL that its kind of file cannot have: it is left out",
                        shown(&member.entry.path)
                    )
                });
            }
            if repairs.mode {
                report.warn(|| {
                    format!("the mode of `{}` is not what its ACL says: the ACL wins", shown(&member.entry.path))
                });
            }
            let (access, default) = metadata.acls(&member.entry.path)?;
            report.access_acls += u64::from(access.is_some());
            report.default_acls += u64::from(default.is_some());
            let flags = &mut self.tree.inode_mut(id).flags;
            if access.is_some() || default.is_some() {
                *flags |= flag::EXTENDED;
            }
            if default.is_some() {
                *flags |= flag::DEFAULT;
            }
        }
        Ok(())
    }

    /// Marks what lies in a directory with a default ACL and has no record of its own to keep that from being handed
    /// down.
    fn guard(&mut self, layers: Layers<'_>) -> Result<()> {
        if !self.options.acls {
            return Ok(());
        }
        let mut exposed = Vec::new();
        for node in self.living().filter(|node| *node != ROOT) {
            let parent = self.tree.inode_of(self.tree.node(node).parent);
            if parent.is_some_and(|parent| parent.flags & flag::DEFAULT != 0) {
                exposed.push(self.tree.node(node).inode);
            }
        }
        exposed.sort_unstable();
        exposed.dedup();
        for inode in exposed {
            self.guard_inode(layers, inode)?;
        }
        Ok(())
    }

    fn guard_inode(&mut self, layers: Layers<'_>, id: u32) -> Result<()> {
        let inode = *self.tree.inode(id);
        let unguarded = match () {
            () if inode.flags & flag::SYNTHESISED != 0 => true,
            // Headers without ACL records need not be read again to be told so.
            () if !self.is_special(id) => inode.form != Form::Symlink,
            () => {
                let member = self.member(layers, &inode)?;
                self.metadata(id, &member)?.unguarded(inode.form)
            }
        };
        if unguarded {
            self.tree.inode_mut(id).flags |= flag::GUARD;
        }
        Ok(())
    }

    /// Marks what is not as the base has it. A directory that lost its ACL is guarded: engines that unpack layers over
    /// one another would leave the old ACL on it.
    fn find_changes(&mut self, layers: Layers<'_>) -> Result<()> {
        if self.options.base_layers == 0 {
            return Ok(());
        }
        let living: Vec<u32> = self.living().collect();
        for node in living {
            let id = self.tree.node(node).inode;
            let before = self.base.get(node as usize).copied().unwrap_or(NONE);
            let inode = *self.tree.inode(id);
            if before != id || inode.flags & flag::CHANGED != 0 {
                self.tree.inode_mut(id).flags |= flag::ABOVE;
            }
            let had =
                before != id && self.tree.inodes.get(before as usize).is_some_and(|inode| inode.flags & flag::ACL != 0);
            if had && inode.form == Form::Directory && self.options.acls {
                self.guard_inode(layers, id)?;
            }
        }
        Ok(())
    }

    /// Names that the base has and the merged tree has not, in directories that both have.
    pub(super) fn deletions(&self) -> Vec<u32> {
        let gone = |(node, before): (u32, &u32)| {
            let parent = self.tree.node(node).parent;
            *before != NONE && !self.tree.alive(node) && self.tree.alive(parent) && self.tree.is_directory(parent)
        };
        (ROOT..).zip(&self.base).filter(|pair| gone(*pair)).map(|(node, _)| node).filter(|node| *node != ROOT).collect()
    }
}
