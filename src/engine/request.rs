//! What to pack, where to, and how.

use std::path::PathBuf;

use crate::oci::{Compression, ImageConfig};
use crate::rootfs::idmap::IdMap;
use crate::vocab::{Map, Reference};

/// How many layers a pack gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCount {
    /// One, with everything.
    #[default]
    One,
    /// Content, then what has ACLs with all its parents: the wording of the original.
    Two,
}

/// What to pack, where to, and how.
#[derive(Clone, Debug)]
pub struct PackRequest {
    /// The image or root filesystem.
    pub source: Reference,
    /// Where the result goes.
    pub destination: Reference,
    /// Whether ACLs are kept.
    pub acls: bool,
    /// One layer or two.
    pub layers: LayerCount,
    /// The image whose layers stay as they are.
    pub keep_base: Option<Reference>,
    /// Configuration changes as `docker import --change` takes them.
    pub changes: Vec<String>,
    /// How layers are stored, where the destination leaves a choice.
    pub compression: Compression,
    /// Where compressed layers and engine streams are spooled.
    pub tmpdir: Option<PathBuf>,
    /// Whether the image that loses the name stays until `image.gc`.
    pub keep_old: bool,
    /// How a `dir:` source is shifted.
    pub idmap: Option<IdMap>,
    /// Whose configuration a tree gets, instead of a default one.
    pub config: Option<ImageConfig>,
    /// Facts the caller wants in the report.
    pub notes: Map,
}

impl Default for PackRequest {
    fn default() -> Self {
        Self {
            source: Reference::Dir(PathBuf::new()),
            destination: Reference::Dir(PathBuf::new()),
            acls: true,
            layers: LayerCount::One,
            keep_base: None,
            changes: Vec::new(),
            compression: Compression::None,
            tmpdir: None,
            keep_old: true,
            idmap: None,
            config: None,
            notes: Map::new(),
        }
    }
}
