//! Checking the whole store: every blob against its name, every image against its blobs; all mismatches at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Store;
use crate::error::Result;
use crate::host::fs;
use crate::oci::{Compression, Descriptor, ImageConfig, VerifyingReader, unfolded_digest};
use crate::progress::{Progress, Unit};
use crate::rootfs::FileRegion;
use crate::vocab::Digest;

/// Something in the store that is not what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The blob, or what else is concerned.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many images were checked.
    pub images: usize,
    /// How many blobs were hashed.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// All that is wrong; empty when the store is whole.
    pub mismatches: Vec<Mismatch>,
}

impl VerifyReport {
    fn mismatch(&mut self, subject: &dyn std::fmt::Display, problem: impl Into<String>) {
        self.mismatches.push(Mismatch { subject: subject.to_string(), problem: problem.into() });
    }
}

impl Store {
    /// Hashes every blob, and checks that every image has all its blobs and that its layers unfold to its diff IDs.
    /// Others may write meanwhile.
    pub fn verify(&self, limit: u64, progress: &Progress) -> Result<VerifyReport> {
        let mut report = VerifyReport::default();
        let mut stage = progress.stage("verifying the store", None, Unit::Bytes);
        let (index, there) = {
            let _lock = self.shared()?;
            (self.read_index()?, self.blobs_there()?)
        };
        let mut good = BTreeMap::new();
        for (digest, size) in there {
            let Some(region) = self.open_blob(digest)? else { continue }; // collected meanwhile
            let (found, _) = VerifyingReader::new(&region)?.finish()?;
            report.blobs += 1;
            report.bytes += size;
            stage.advance(size);
            if found == digest {
                good.insert(digest, size);
            } else {
                report.mismatch(&digest, format!("its content has the digest `{found}`"));
            }
        }
        let mut seen = BTreeSet::new();
        for descriptor in &index.manifests {
            if seen.insert(descriptor.digest) && self.still_listed(descriptor)? {
                report.images += 1;
                self.verify_image(descriptor, &good, limit, &mut report)?;
            }
        }
        report.mismatches.dedup();
        Ok(report)
    }

    fn verify_image(
        &self,
        descriptor: &Descriptor,
        good: &BTreeMap<Digest, u64>,
        limit: u64,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let mut reached = BTreeSet::new();
        if let Err(error) = self.reach(descriptor, &mut reached) {
            report.mismatch(&descriptor.digest, error.message());
            return Ok(());
        }
        for (digest, size) in &reached {
            match good.get(digest) {
                Some(found) if found == size => {}
                Some(found) => report.mismatch(digest, format!("it has {found} bytes, its descriptor says {size}")),
                None if fs::exists(&self.blobs.path(*digest))? => {} // told above, or younger than the check
                None => report.mismatch(digest, format!("manifest `{}` needs it and it is missing", descriptor.digest)),
            }
        }
        if descriptor.is_index() {
            return Ok(());
        }
        let manifest = self.manifest(descriptor)?;
        let config = match self.read_blob(manifest.config.digest, "image configuration") {
            Ok(bytes) => ImageConfig::parse(&bytes),
            Err(error) => Err(error),
        };
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                report.mismatch(&manifest.config.digest, error.message());
                return Ok(());
            }
        };
        if config.diff_ids().len() != manifest.layers.len() {
            report.mismatch(
                &descriptor.digest,
                format!("it has {} layers and {} diff IDs", manifest.layers.len(), config.diff_ids().len()),
            );
        }
        for (layer, diff_id) in manifest.layers.iter().zip(config.diff_ids()) {
            let Some(region) = self.open_blob(layer.digest)?.filter(|_| good.contains_key(&layer.digest)) else {
                continue;
            };
            let found = match Compression::detect(&region) {
                Ok(Compression::None) => Ok(layer.digest),
                Ok(compression) => unfolded_digest(&region, compression, limit).map(|(digest, _)| digest),
                Err(error) => Err(error),
            };
            match found {
                Ok(found) if found == diff_id.0 => {}
                Ok(found) => {
                    report.mismatch(&layer.digest, format!("it unfolds to `{found}`, the image says `{diff_id}`"));
                }
                Err(error) => report.mismatch(&layer.digest, error.message()),
            }
        }
        Ok(())
    }

    /// Whether the index still lists a manifest: what was removed during the check is no mismatch.
    fn still_listed(&self, descriptor: &Descriptor) -> Result<bool> {
        let _lock = self.shared()?;
        Ok(self.read_index()?.manifests.iter().any(|other| other.digest == descriptor.digest))
    }

    fn open_blob(&self, digest: Digest) -> Result<Option<FileRegion>> {
        let path = self.blobs.path(digest);
        let Some(metadata) = fs::link_metadata(&path)? else { return Ok(None) };
        Ok(Some(FileRegion { file: Arc::new(fs::open(&path)?), start: 0, size: metadata.len() }))
    }
}
