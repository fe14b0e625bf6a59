//! Files of the host that go into a tree: surveyed before anything runs, copied as they were surveyed or not at all.
//!
//! Types, modes, owners and bytes count; times do not (a fresh checkout is the same), neither do extended attributes.
//! Files of the user who owns the folder of the plans, and of the one who builds, are root's in the image; other owners
//! stay. In a user namespace other owners cannot be seen, so the survey, made outside, tells them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::inside::{Inside, Place, remove_at, set_mode, set_owner};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress};
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::rootfs::{Entry, EntryKind, Limits, ReadAt as _, Timestamp, shown};
use crate::vocab::Digest;

/// A file or folder of the host as it was before anything ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Survey {
    /// The digest of all that counts.
    pub(super) digest: Digest,
    /// Its own name.
    pub(super) name: String,
    /// Who owns what, where that is not root.
    owners: Vec<(Vec<u8>, (u32, u32))>,
}

/// Whose files become root's.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    users: Vec<u64>,
    groups: Vec<u64>,
}

impl Own {
    /// The files of whoever runs this, and of whoever owns this folder.
    pub(super) fn of(folder: Option<&Path>) -> Result<Self> {
        let mut own = Self {
            users: vec![rustix::process::geteuid().as_raw().into()],
            groups: vec![rustix::process::getegid().as_raw().into()],
        };
        if let Some(metadata) = folder.map(fs::metadata).transpose()?.flatten() {
            own.users.push(metadata.uid().into());
            own.groups.push(metadata.gid().into());
        }
        Ok(own)
    }

    fn seen(&self, mut entry: Entry) -> Entry {
        if self.users.contains(&entry.uid) {
            entry.uid = 0;
        }
        if self.groups.contains(&entry.gid) {
            entry.gid = 0;
        }
        bare(entry)
    }
}

/// An entry without what does not count.
fn bare(mut entry: Entry) -> Entry {
    entry.mtime = Timestamp { seconds: 0, nanoseconds: 0 };
    entry.xattrs.clear();
    entry
}

/// Looks at a file or folder of the host; none where nothing is.
pub(super) fn survey(path: &Path, own: &Own, limits: Limits, cancel: &Cancel) -> Result<Option<Survey>> {
    let Some(metadata) = fs::metadata(path)? else { return Ok(None) };
    let name = match fs::absolute(path)?.file_name().and_then(|name| name.to_str()) {
        Some(name) => name.to_owned(),
        None => return Err(Error::new(Kind::Unsupported, format!("`{}` has a name that is no UTF-8", path.display()))),
    };
    let mut owners = Vec::new();
    let mut note = |entry: &Entry| {
        let id = |id: u64| u32::try_from(id).unwrap_or(u32::MAX);
        if (entry.uid, entry.gid) != (0, 0) {
            owners.push((entry.path.clone(), (id(entry.uid), id(entry.gid))));
        }
    };
    if metadata.is_dir() {
        let walked = walk(path, limits)?;
        walked.entries().map(|entry| own.seen(entry)).for_each(|entry| note(&entry));
        let digest = walked.tree_digest_as(&|entry| own.seen(entry), &mut |_| cancel.check())?;
        owners.sort_unstable();
        return Ok(Some(Survey { digest, name, owners }));
    }
    let entry = own.seen(file_entry(path, &metadata)?);
    note(&entry);
    let digest = file_digest(path, &entry, cancel)?;
    Ok(Some(Survey { digest, name, owners }))
}

fn file_entry(path: &Path, metadata: &std::fs::Metadata) -> Result<Entry> {
    if !metadata.is_file() {
        return Err(Error::new(Kind::Usage, format!("`{}` is neither a file nor a folder", path.display())));
    }
    Ok(Entry {
        path: Vec::new(),
        kind: EntryKind::File { size: metadata.len() },
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid().into(),
        gid: metadata.gid().into(),
        mtime: Timestamp { seconds: 0, nanoseconds: 0 },
        xattrs: BTreeMap::new(),
    })
}

fn file_digest(path: &Path, entry: &Entry, cancel: &Cancel) -> Result<Digest> {
    read_through(&mut fs::open(path)?, path, entry, cancel, &mut |_| Ok(()))
}

/// The digest of a file with this entry, whose bytes go where `take` takes them.
fn read_through(
    file: &mut std::fs::File,
    path: &Path,
    entry: &Entry,
    cancel: &Cancel,
    take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<Digest> {
    let mut canonical = crate::rootfs::Canonical::new();
    canonical.begin(entry);
    let mut buffer = vec![0; 256 << 10];
    loop {
        cancel.check()?;
        let count = std::io::Read::read(file, &mut buffer).context(|| format!("cannot read `{}`", path.display()))?;
        if count == 0 {
            break;
        }
        canonical.content(&buffer[..count]);
        take(&buffer[..count]).context(|| format!("cannot copy `{}`", path.display()))?;
    }
    canonical.end(entry);
    Ok(canonical.digest())
}

fn walk(path: &Path, limits: Limits) -> Result<DirectoryLayer> {
    let (walked, report) = DirectoryLayer::open(path, &WalkOptions::default(), limits, &Progress::silent())?;
    for (findings, kind, what) in [
        (&report.unreadable, Kind::Refused, "cannot be read"),
        (&report.vanished, Kind::Conflict, "vanished while it was read"),
        (&report.sockets, Kind::Unsupported, "is a socket, which cannot be copied"),
    ] {
        if let Some(first) = findings.lines().first() {
            return Err(Error::new(kind, format!("something in `{}` {what}", path.display())).caused_by(first.clone()));
        }
    }
    Ok(walked)
}

/// What is brought in, and into where.
pub(super) struct Bringing<'a> {
    pub(super) source: &'a Path,
    /// What it has to be; none: whatever it is, with the owners it has.
    pub(super) survey: Option<&'a Survey>,
    pub(super) limits: Limits,
    pub(super) cancel: &'a Cancel,
}

impl Bringing<'_> {
    /// Puts the source into a folder of the tree under this name; with an empty one, its content into the folder itself.
    #[expect(clippy::wrong_self_convention, reason = "what is put into the folder is not this value but its source")]
    pub(super) fn into_folder(&self, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        let metadata = fs::metadata(self.source)?.ok_or_else(|| changed(self.source))?;
        if !metadata.is_dir() {
            return self.one_file(&metadata, folder, name);
        }
        let walked = walk(self.source, self.limits)?;
        let seen = |entry: Entry| self.seen(entry);
        if let Some(survey) = self.survey
            && walked.tree_digest_as(&seen, &mut |_| self.cancel.check())? != survey.digest
        {
            return Err(changed(self.source));
        }
        let base = if name.is_empty() {
            folder.try_clone().context(|| "cannot open a folder of the image again")?
        } else {
            let place = Place {
                folder: folder.try_clone().context(|| "cannot open a folder of the image again")?,
                name: name.to_vec(),
            };
            let root = seen(walked.entry(0));
            make_folder(&place, &root)?
        };
        let mut folders = Vec::new();
        for number in 1..walked.count() {
            self.cancel.check()?;
            let entry = seen(walked.entry(number));
            let wrong = || format!("cannot copy `{}`", shown(&entry.path));
            let at = place_of(&base, &entry.path).context(wrong)?;
            self.entry(&walked, number, &entry, &at, &base).context(wrong)?;
            if entry.kind == EntryKind::Directory {
                folders.push((at, entry));
            }
        }
        // What is put into a folder changes its time.
        folders.iter().rev().try_for_each(|(at, entry)| set_time(at, entry))
    }

    fn seen(&self, mut entry: Entry) -> Entry {
        if let Some(survey) = self.survey {
            let known = survey.owners.binary_search_by(|(path, _)| path.cmp(&entry.path));
            let (user, group) = known.map_or((0, 0), |at| survey.owners[at].1);
            (entry.uid, entry.gid) = (user.into(), group.into());
            return bare(entry);
        }
        entry
    }

    fn one_file(&self, metadata: &std::fs::Metadata, folder: &OwnedFd, name: &[u8]) -> Result<()> {
        let entry = self.seen(file_entry(self.source, metadata)?);
        let place = Place {
            folder: folder.try_clone().context(|| "cannot open a folder of the image again")?,
            name: name.to_vec(),
        };
        let mut target = fresh_file(&place)?;
        let mut source = fs::open(self.source)?;
        // What is copied is what has to be the same, not what was there a moment before.
        let digest = read_through(&mut source, self.source, &entry, self.cancel, &mut |bytes| {
            std::io::Write::write_all(&mut target, bytes)
        })?;
        if self.survey.is_some_and(|survey| survey.digest != digest) {
            return Err(changed(self.source));
        }
        dress(&place, &entry)
    }

    fn entry(&self, walked: &DirectoryLayer, number: u32, entry: &Entry, at: &Place, base: &OwnedFd) -> Result<()> {
        match &entry.kind {
            EntryKind::Directory => {
                make_folder(at, entry)?;
                return Ok(());
            }
            EntryKind::File { size } => {
                let file = fresh_file(at)?;
                let mut buffer = vec![0; 256 << 10];
                for (position, offset, length) in walked.placed(number).runs() {
                    let mut done = 0;
                    while done < length {
                        self.cancel.check()?;
                        let count = usize::try_from(length - done).unwrap_or(buffer.len()).min(buffer.len());
                        walked.read_exact_at(&mut buffer[..count], offset + done).context(|| "cannot read it")?;
                        std::os::unix::fs::FileExt::write_all_at(&file, &buffer[..count], position + done)
                            .context(|| "cannot write it")?;
                        done += count as u64;
                    }
                }
                rustix::fs::ftruncate(&file, *size).context(|| "cannot set its length")?;
            }
            EntryKind::Symlink { target } => {
                remove_at(at.folder.as_fd(), &at.name)?;
                rustix::fs::symlinkat(target.as_slice(), &at.folder, at.name.as_slice())
                    .context(|| "cannot make the link")?;
                set_owner(at, ids(entry)?)?;
                return set_time(at, entry);
            }
            EntryKind::Hardlink { target } => {
                remove_at(at.folder.as_fd(), &at.name)?;
                let first = place_of(base, target)?;
                return rustix::fs::linkat(
                    &first.folder,
                    first.name.as_slice(),
                    &at.folder,
                    at.name.as_slice(),
                    AtFlags::empty(),
                )
                .context(|| "cannot make the link");
            }
            EntryKind::CharDevice { major, minor } => node(at, FileType::CharacterDevice, (*major, *minor))?,
            EntryKind::BlockDevice { major, minor } => node(at, FileType::BlockDevice, (*major, *minor))?,
            EntryKind::Fifo => node(at, FileType::Fifo, (0, 0))?,
        }
        dress(at, entry)
    }
}

fn changed(source: &Path) -> Error {
    Error::new(Kind::Conflict, format!("`{}` changed while the image was built", source.display()))
        .hint("run the same again when nothing writes there")
}

/// The folder an entry goes into and its name there, no link followed.
fn place_of(base: &OwnedFd, path: &[u8]) -> Result<Place> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b".".as_slice(), path),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    let folder =
        rustix::fs::openat2(base, above, flags, Mode::empty(), resolve).context(|| "cannot open its folder")?;
    Ok(Place { folder, name: name.to_vec() })
}

fn make_folder(at: &Place, entry: &Entry) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&at.folder, at.name.as_slice(), flags, Mode::empty());
    let there = match open() {
        Ok(there) => there,
        Err(error) => {
            // As tar does: what is no folder gives way to one.
            if !matches!(error, Errno::NOENT) {
                remove_at(at.folder.as_fd(), &at.name)?;
            }
            rustix::fs::mkdirat(&at.folder, at.name.as_slice(), Mode::from_raw_mode(0o700))
                .context(|| "cannot make the folder")?;
            open().context(|| "cannot open the folder")?
        }
    };
    dress(at, entry)?;
    Ok(there)
}

fn fresh_file(at: &Place) -> Result<std::fs::File> {
    remove_at(at.folder.as_fd(), &at.name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&at.folder, at.name.as_slice(), flags, Mode::from_raw_mode(0o600))
        .context(|| format!("cannot make `{}` in the image", String::from_utf8_lossy(&at.name)))?;
    Ok(file.into())
}

fn node(at: &Place, kind: FileType, device: (u32, u32)) -> Result<()> {
    remove_at(at.folder.as_fd(), &at.name)?;
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(&at.folder, at.name.as_slice(), kind, Mode::from_raw_mode(0o600), device)
        .context(|| "cannot make the device")
        .map_err(|error| error.hint("only root itself makes devices: leave them out, or run castoff as root"))
}

/// Owner first, which clears setuid and capabilities, then the mode, extended attributes, times.
fn dress(at: &Place, entry: &Entry) -> Result<()> {
    set_owner(at, ids(entry)?)?;
    set_mode(at, entry.mode)?;
    for (name, value) in &entry.xattrs {
        let mut path = format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&at.folder)).into_bytes();
        path.extend_from_slice(&at.name);
        rustix::fs::lsetxattr(path.as_slice(), name.as_slice(), value, rustix::fs::XattrFlags::empty())
            .context(|| format!("cannot set its attribute `{}`", String::from_utf8_lossy(name)))?;
    }
    set_time(at, entry)
}

/// Sets the time of what is copied as it is; what is surveyed has none, and gets that of the build.
fn set_time(at: &Place, entry: &Entry) -> Result<()> {
    if entry.mtime == (Timestamp { seconds: 0, nanoseconds: 0 }) {
        return Ok(());
    }
    let time = rustix::fs::Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(&at.folder, at.name.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW)
        .context(|| "cannot set its time")
}

fn ids(entry: &Entry) -> Result<(u32, u32)> {
    let id = |id: u64| {
        u32::try_from(id)
            .map_err(|error| Error::new(Kind::Unsupported, format!("the id {id} is too large")).caused_by(error))
    };
    Ok((id(entry.uid)?, id(entry.gid)?))
}

/// Puts one file where a path says: over the file there, or into the folder there under its own name.
pub(super) fn upload(bringing: &Bringing<'_>, inside: &Inside, to: &str, own_name: &str) -> Result<()> {
    if let Some(folder) = inside.find(to, OFlags::RDONLY | OFlags::DIRECTORY)? {
        return bringing.into_folder(&folder, own_name.as_bytes());
    }
    if to.ends_with('/') {
        return inside.folder(to).map(|_| ());
    }
    let place = inside.end_of(to)?;
    bringing.into_folder(&place.folder, &place.name)
}

/// The files of the host that plans bring in, as they were before anything ran.
pub(super) type Surveys = BTreeMap<PathBuf, Survey>;
