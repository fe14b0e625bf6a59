//! Garbage collection: images that lost their last name, then blobs that nothing reaches.
//!
//! The index goes first, the blobs after: killed in between, the next run finds blobs nothing points to. An index or
//! manifest that cannot be read stops the collection, because what it reaches is then unknown.

use std::collections::{BTreeMap, BTreeSet};

use super::{Store, StoredImage, lease};
use crate::error::Result;
use crate::host::fault;
use crate::host::fs;
use crate::oci::Index;
use crate::vocab::{Digest, Value};

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// The images.
    pub images: Vec<Digest>,
    /// How many blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Images without a name that stay.
    pub kept: Vec<Digest>,
    /// The bytes of the blobs that stay.
    pub size: u64,
}

impl GcReport {
    /// The report as a function gives it back.
    pub fn to_value(&self) -> Value {
        let digests = |list: &[Digest]| Value::list(list.iter().map(ToString::to_string));
        Value::map([
            ("images", digests(&self.images)),
            ("blobs", self.blobs.into()),
            ("bytes", self.bytes.into()),
            ("kept", digests(&self.kept)),
            ("size", self.size.into()),
        ])
    }
}

/// Blobs that must stay, and the bytes each takes on disk.
type Blobs = BTreeMap<Digest, u64>;

impl Store {
    /// Removes images without a name, except the `keep` newest, and every blob that neither the index nor a living
    /// writer needs. While the store is still larger than `max_size`, those `keep` go too, oldest first. A dry run
    /// only says so.
    pub fn gc(&self, max_size: Option<u64>, keep: u32, dry_run: bool) -> Result<GcReport> {
        let _lock = self.exclusive()?;
        if !dry_run {
            self.sweep()?;
            super::part::sweep(&self.own("parts"), std::time::Duration::ZERO)?;
        }
        let leased = lease::living(&self.own("leases"))?;
        let mut index = self.read_index()?;
        let there = self.blobs_there()?;
        let mut untagged: Vec<StoredImage> =
            self.images(&index)?.into_iter().filter(|image| image.untagged_since.is_some()).collect();
        // Newest first; of the same second, the one that was added later.
        untagged.reverse();
        untagged.sort_by_key(|image| std::cmp::Reverse(image.untagged_since));
        let (mut kept, mut surplus) = (Vec::new(), Vec::new());
        for image in untagged {
            if leased.contains(&image.manifest) || kept.len() < keep as usize { &mut kept } else { &mut surplus }
                .push(image);
        }
        let mut gone = Vec::new();
        for image in surplus {
            drop_image(&mut index, &image, &mut gone);
        }
        while let Some(limit) = max_size
            && size_of(&self.reachable(&index, &leased, &there)?) > limit
            && let Some(at) = kept.iter().rposition(|image| !leased.contains(&image.manifest))
        {
            let image = kept.remove(at);
            drop_image(&mut index, &image, &mut gone);
        }
        let stay = self.reachable(&index, &leased, &there)?;
        let garbage: Blobs = there
            .iter()
            .filter(|(digest, _)| !stay.contains_key(digest))
            .map(|(digest, size)| (*digest, *size))
            .collect();
        let report = GcReport {
            images: gone,
            blobs: garbage.len(),
            bytes: size_of(&garbage),
            kept: kept.iter().map(|image| image.id).collect(),
            size: size_of(&stay),
        };
        if !dry_run {
            self.collect(&index, &report.images, &garbage)?;
        }
        Ok(report)
    }

    /// Writes the index and removes what it does not reach any more; the bytes that were freed. For removals of one
    /// image; the exclusive lock must be held.
    pub(super) fn drop_unreachable(&self, index: &Index) -> Result<u64> {
        let before = self.read_index()?;
        let leased = lease::living(&self.own("leases"))?;
        let there = self.blobs_there()?;
        let stay = self.reachable(index, &leased, &there)?;
        let mut gone = Vec::new();
        let mut reached = BTreeSet::new();
        for descriptor in
            before.manifests.iter().filter(|old| !index.manifests.iter().any(|new| new.digest == old.digest))
        {
            reached.insert((descriptor.digest, descriptor.size));
            // A damaged image must be removable: what it reached is left to the collection then.
            let mut of_image = BTreeSet::new();
            if let (Ok(id), Ok(())) = (self.image_id(descriptor), self.reach(descriptor, &mut of_image)) {
                gone.push(id);
                reached.append(&mut of_image);
            }
        }
        let garbage: Blobs = reached
            .into_iter()
            .filter(|(digest, _)| !stay.contains_key(digest))
            .filter_map(|(digest, _)| there.get(&digest).map(|size| (digest, *size)))
            .collect();
        self.collect(index, &gone, &garbage)?;
        Ok(size_of(&garbage))
    }

    /// The index first, then what only the old one pointed to.
    fn collect(&self, index: &Index, gone: &[Digest], garbage: &Blobs) -> Result<()> {
        if *index != self.read_index()? {
            self.write_index(index)?;
        }
        fault::point("store.gc.after-index");
        self.forget(gone)?;
        for digest in garbage.keys() {
            fs::remove_file(&self.blobs.path(*digest))?;
            fault::point("store.gc.after-blob");
        }
        fs::sync_dir(self.blobs.folder())
    }

    /// What the index or a lease needs of what is there.
    fn reachable(&self, index: &Index, leased: &BTreeSet<Digest>, there: &Blobs) -> Result<Blobs> {
        let mut reached = BTreeSet::new();
        for descriptor in &index.manifests {
            self.reach(descriptor, &mut reached)?;
        }
        let digests = reached.into_iter().map(|(digest, _)| digest).chain(leased.iter().copied());
        Ok(digests.filter_map(|digest| there.get(&digest).map(|size| (digest, *size))).collect())
    }

    /// Every blob of the store; files that are no blobs are not ours to judge.
    pub(super) fn blobs_there(&self) -> Result<Blobs> {
        let mut there = Blobs::new();
        for name in fs::list(self.blobs.folder())? {
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else { continue };
            if let Some(metadata) = fs::link_metadata(&self.blobs.path(digest))? {
                there.insert(digest, metadata.len());
            }
        }
        Ok(there)
    }
}

fn size_of(blobs: &Blobs) -> u64 {
    blobs.values().sum()
}

fn drop_image(index: &mut Index, image: &StoredImage, gone: &mut Vec<Digest>) {
    index.manifests.retain(|other| other.digest != image.manifest);
    gone.push(image.id);
}
