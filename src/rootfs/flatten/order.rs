//! The order an output is written in: as the layers are read, parents and link carriers moved before what needs them;
//! for GNU tar by path.

use super::plan::Plan;
use super::tree::{Form, NONE, ROOT, flag};

/// Set in an item's number when it is the whiteout of that node.
pub(super) const WHITEOUT: u32 = 1 << 31;

/// Which cut of the merged tree an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything.
    Whole,
    /// What differs from the base.
    Difference,
    /// Everything without an ACL, and all directories, without theirs.
    Content,
    /// Everything with an ACL, and all directories above it.
    Acls,
}

impl Plan {
    fn belongs(&self, node: u32, part: Part) -> bool {
        let Some(inode) = self.tree.inode_of(node) else { return false };
        match part {
            Part::Whole => true,
            Part::Difference => inode.flags & flag::ABOVE != 0,
            Part::Content => inode.form == Form::Directory || inode.flags & flag::EXTENDED == 0,
            Part::Acls => inode.flags & flag::EXTENDED != 0,
        }
    }

    /// All living nodes, each directory with what is in it before the next: GNU tar sets a directory's time when it
    /// leaves it, and again nothing after that.
    pub(super) fn in_path_order(&self) -> Vec<u32> {
        let (mut todo, mut found) = (vec![ROOT], Vec::new());
        while let Some(node) = todo.pop() {
            let from = todo.len();
            let mut child = self.tree.node(node).first_child;
            while child != NONE {
                todo.push(child);
                child = self.tree.node(child).next;
            }
            todo[from..].sort_unstable_by(|left, right| self.tree.name(*right).cmp(self.tree.name(*left)));
            // The root may have no entry.
            if self.tree.node(node).inode != NONE {
                found.push(node);
            }
        }
        found
    }

    /// The nodes of an output, and whiteouts, in the order they are written in.
    pub(super) fn order(&self, part: Part) -> Vec<u32> {
        let mut wanted: Vec<u32> = if self.options.text_acls { self.in_path_order() } else { self.living().collect() };
        wanted.retain(|node| self.belongs(*node, part));
        if !self.options.text_acls {
            wanted.sort_unstable_by_key(|node| (self.tree.source(*node), *node));
        }
        let mut order =
            Order { plan: self, done: vec![false; self.tree.nodes.len()], items: Vec::new(), above: Vec::new() };
        if part == Part::Difference {
            for node in self.deletions() {
                order.add(self.tree.node(node).parent);
                order.items.push(node | WHITEOUT);
            }
        }
        for node in wanted {
            let carrier = self.tree.inode_of(node).map_or(NONE, |inode| inode.carrier);
            if carrier != NONE {
                order.add(carrier);
            }
            order.add(node);
        }
        order.items
    }
}

struct Order<'a> {
    plan: &'a Plan,
    done: Vec<bool>,
    items: Vec<u32>,
    above: Vec<u32>,
}

impl Order<'_> {
    /// Adds a node behind the directories above it, each once.
    fn add(&mut self, node: u32) {
        let mut at = node;
        while !self.done[at as usize] {
            self.done[at as usize] = true;
            // The root may have no entry.
            if self.plan.tree.node(at).inode != NONE {
                self.above.push(at);
            }
            if at == ROOT {
                break;
            }
            at = self.plan.tree.node(at).parent;
        }
        self.items.extend(self.above.drain(..).rev());
    }
}
