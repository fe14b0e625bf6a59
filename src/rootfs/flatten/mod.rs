//! The merge of layers into one: headers are read once, everything is decided, then the bytes are written in one pass.
//!
//! Owns what a layer's entries mean (whiteouts, opaque markers, hard links across layers, implied parents), what the
//! merged tree is, and how it is written so that every engine unpacks it exactly (see `output` and `metadata`). Knows
//! no image formats, compression or digests: layers are uncompressed tars that can be read anywhere.
//!
//! `tree` holds names and inodes, `apply` applies a layer to them, `plan` decides, `order` and `output` write, `entries`
//! shows the result in path order.

mod apply;
mod entries;
mod metadata;
mod order;
mod output;
mod plan;
mod report;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::rootfs::acl::Acl;
use crate::rootfs::tar::{self, Input, Member, Scanner};
use crate::rootfs::{Limits, ReadAt, Timestamp};

pub use entries::{ContentAt, FlatEntries, FlatEntry};
pub use output::OutputLayer;
pub use report::{Dropped, FlattenReport, LayerSummary};

use apply::{Application, Source};
use order::Part;
use plan::{Merged, Plan};
use tree::Tree;

/// What the merge is to give.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "switches that do not depend on each other")]
pub struct FlattenOptions {
    /// Keep ACLs. Without, group bits become what the owning group's entry says, never the mask.
    pub acls: bool,
    /// Two outputs: everything without ACLs and all directories, then what has an ACL with all directories above it.
    pub split_acl_layer: bool,
    /// Write only what differs from this many of the lowest layers.
    pub base_layers: usize,
    /// Write for users of GNU tar: ACLs as text too, and every directory in one piece.
    pub text_acls: bool,
    /// Keep sparse files sparse. Not for images: Docker refuses GNU's old form when it loads, and an image with any of
    /// the PAX forms when it saves or pushes it (20.10: "could not verify layer data"); engines unpack full blocks
    /// anyway.
    pub keep_sparse: bool,
    /// A folder of which no entry may have a name with a `/` before it: the merge fails on the first.
    pub relative_below: Option<&'static str>,
}

impl Default for FlattenOptions {
    fn default() -> Self {
        Self {
            acls: true,
            split_acl_layer: false,
            base_layers: 0,
            text_acls: false,
            keep_sparse: false,
            relative_below: None,
        }
    }
}

/// The ACLs a path gets instead of those its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclOverride {
    /// The access ACL; a minimal one takes the ACL away and leaves the permission bits it says.
    pub access: Acl,
    /// The default ACL of a directory; none takes it away.
    pub default: Option<Acl>,
}

/// Layers under merge.
pub struct Flattener {
    options: FlattenOptions,
    limits: Limits,
    merged: Merged,
    count: u16,
    overrides: BTreeMap<Vec<u8>, AclOverride>,
    report: FlattenReport,
}

impl std::fmt::Debug for Flattener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Flattener").field("layers", &self.count).finish_non_exhaustive()
    }
}

impl Flattener {
    /// A merge of no layers yet.
    pub fn new(options: FlattenOptions, limits: Limits) -> Self {
        let merged = Merged { tree: Tree::new(&limits), base: Vec::new(), globals: Vec::new() };
        Self { options, limits, merged, count: 0, overrides: BTreeMap::new(), report: FlattenReport::default() }
    }

    /// Applies the next layer of an image, the lowest first.
    pub fn add_layer<I: Input>(&mut self, scanner: &mut Scanner<I>) -> Result<LayerSummary> {
        self.add(scanner, Source::Layer)
    }

    /// Applies a root filesystem, in which no name means a deletion; names that would mean one are refused.
    pub fn add_tree<I: Input>(&mut self, scanner: &mut Scanner<I>) -> Result<LayerSummary> {
        self.add(scanner, Source::Tree)
    }

    fn add<I: Input>(&mut self, scanner: &mut Scanner<I>, source: Source) -> Result<LayerSummary> {
        if self.count == u16::MAX - 1 {
            return Err(Error::new(Kind::Limit, format!("the image has more than {} layers", self.count)));
        }
        let above = self.options.base_layers > 0 && usize::from(self.count) >= self.options.base_layers;
        let mut layer = Application::new(&mut self.merged.tree, &mut self.report, self.count, source).above(above);
        let mut newest = Timestamp::default();
        while let Some(member) = scanner.next_member()? {
            newest = newest.max(member.entry.mtime);
            refuse_absolute(&member, self.options.relative_below)?;
            layer.apply(&member)?;
        }
        let summary = layer.end()?;
        self.merged.globals.push(scanner.globals().clone());
        for note in scanner.notes() {
            self.report.warn(|| format!("layer {}: {note}", self.count + 1));
        }
        self.count += 1;
        if usize::from(self.count) == self.options.base_layers {
            self.merged.base = self.merged.tree.nodes.iter().map(|node| node.inode).collect();
        }
        self.report.newest = self.report.newest.max(newest);
        self.report.entries_in += summary.entries;
        self.report.whiteouts += summary.whiteouts;
        self.report.opaques += summary.opaques;
        self.report.metadata += summary.metadata;
        self.report.implied_parents += summary.implied_parents;
        Ok(summary)
    }

    /// Gives paths of the merged tree other ACLs than their headers say, mode bits included; a path that the tree does
    /// not have is counted as a warning.
    pub fn override_acls(&mut self, acls: BTreeMap<Vec<u8>, AclOverride>) {
        self.overrides = acls;
    }

    /// Decides how the merged tree is written. `layers` are those that were applied, in the same order; their headers
    /// are read again where something must change.
    pub fn finish(mut self, layers: &[Arc<dyn ReadAt>]) -> Result<Flat> {
        let options = self.options;
        if layers.len() != usize::from(self.count) {
            let message = format!("{} layers were applied, but {} are given to be read", self.count, layers.len());
            return Err(Error::new(Kind::Usage, message));
        }
        if options.base_layers > layers.len() {
            let message = format!("the base has {} layers, the image only {}", options.base_layers, layers.len());
            return Err(Error::new(Kind::Usage, message));
        }
        if options.base_layers > 0 && options.split_acl_layer {
            return Err(Error::new(Kind::Usage, "a kept base and a layer of its own for ACLs exclude each other")
                .hint("leave one of them out"));
        }
        self.report.bytes_in = layers.iter().map(ReadAt::size).sum();
        let mut plan = Plan::new(self.merged, options, self.limits);
        plan.decide(layers, &self.overrides, &mut self.report)?;
        let plan = Arc::new(plan);
        let parts: &[Part] = match (options.base_layers, options.split_acl_layer) {
            (0, false) => &[Part::Whole],
            (0, true) => &[Part::Content, Part::Acls],
            (1.., _) => &[Part::Difference],
        };
        let mut outputs = Vec::new();
        for part in parts {
            let (output, tally) = OutputLayer::plan(&plan, *part, layers)?;
            self.report.guards += tally.guards;
            self.report.expanded += tally.expanded;
            self.report.expanded_bytes += tally.expanded_bytes;
            self.report.whiteouts_written += tally.whiteouts;
            self.report.bytes_out += output.size();
            outputs.push(output);
        }
        Ok(Flat { plan, outputs, report: self.report })
    }
}

/// Fails on an entry of this folder, or the folder itself, whose name was written with a `/` before it.
fn refuse_absolute(member: &Member, folder: Option<&str>) -> Result<()> {
    let path = &member.entry.path;
    let is_in = |folder: &str| {
        path.strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if !member.absolute || !folder.is_some_and(is_in) {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("entry `/{}` is refused: its name is absolute", tar::shown(path)))
        .hint("whoever made the layer let its names begin with `/`: make it with relative ones"))
}

/// Merged layers: what they are, and how they are written.
pub struct Flat {
    plan: Arc<Plan>,
    /// The layers to be written, lowest first.
    pub outputs: Vec<OutputLayer>,
    /// What the merge did.
    pub report: FlattenReport,
}

impl std::fmt::Debug for Flat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Flat")
            .field("outputs", &self.outputs)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Flat {
    /// What the merged tree has at a normalised path; links on the way are not followed.
    pub fn find(&self, path: &[u8], layers: &[Arc<dyn ReadAt>]) -> Result<Option<FlatEntry>> {
        FlatEntries::new(&self.plan, layers).find(path)
    }

    /// The whole merged tree in path order, whatever the outputs hold. The root comes first if any layer has an entry
    /// for it.
    pub fn entries<'a>(&'a self, layers: &'a [Arc<dyn ReadAt>]) -> FlatEntries<'a> {
        FlatEntries::new(&self.plan, layers)
    }
}
