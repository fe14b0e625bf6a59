//! Layers in, one planned tree out: every header is read once, unverified bytes are hashed on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::open::{self, Content, Opened, unfold};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Result};
use crate::oci;
use crate::progress::Unit;
use crate::rootfs::ReadAt;
use crate::rootfs::flatten::{AclOverride, Flat, FlattenOptions, Flattener};
use crate::rootfs::tar::{Positioned, Scanner};

/// A merged source: the plan, and the bytes the plan refers to.
pub struct Merged {
    /// What will be written.
    pub flat: Flat,
    /// The bare tars the plan reads from, bottom first.
    pub layers: Vec<Arc<dyn ReadAt>>,
}

/// Scans and merges all layers of a source. Nothing is believed before its digest was compared.
pub fn merge(
    opened: &Opened,
    options: FlattenOptions,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Merged> {
    merge_with_acls(opened, options, BTreeMap::new(), scratch, surroundings)
}

/// The same, with other ACLs for some paths than their headers say.
pub fn merge_with_acls(
    opened: &Opened,
    options: FlattenOptions,
    acls: BTreeMap<Vec<u8>, AclOverride>,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Merged> {
    let limits = surroundings.limits();
    let mut flattener = Flattener::new(options, limits);
    flattener.override_acls(acls);
    let mut layers: Vec<Arc<dyn ReadAt>> = Vec::new();
    match &opened.content {
        Content::Tree(tar) => {
            flattener
                .add_tree(&mut Scanner::new(Positioned::new(&**tar, 0), limits))
                .context(|| format!("cannot read `{}`", opened.reference))?;
            layers.push(Arc::clone(tar));
        }
        Content::Image(_) => {
            let unfolded = unfold(opened, scratch, surroundings)?;
            let total = unfolded.iter().map(|layer| layer.content.size()).sum();
            let mut stage = surroundings.progress.stage("reading layers", Some(total), Unit::Bytes);
            for (number, (layer, stored)) in unfolded.iter().zip(opened.layers()).enumerate() {
                let at = || open::at_layer(opened, number, stored);
                if layer.verified {
                    flattener.add_layer(&mut Scanner::new(Positioned::new(&*layer.content, 0), limits)).context(at)?;
                } else {
                    oci::scan_verified(layer, |reader| {
                        flattener.add_layer(&mut Scanner::new(reader, limits)).map(drop)
                    })
                    .context(at)?;
                }
                stage.advance(layer.content.size());
                layers.push(Arc::clone(&layer.content));
            }
        }
    }
    let flat = flattener.finish(&layers).context(|| format!("cannot merge `{}`", opened.reference))?;
    Ok(Merged { flat, layers })
}
