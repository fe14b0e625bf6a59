//! A whole archive that castoff did not make: everything a manifest says of it, found by reading it once.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::path::Path;

use sha2::Digest as _;

use super::archive;
use super::freight::{Archived, ArchivedFile};
use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host::fs;
use crate::manifest::{Compression, Md5, PrivilegedPath, parse_archive_name};
use crate::progress::{Progress, Stage, Unit};
use crate::rootfs::tar::{Scanner, Sequential};
use crate::rootfs::{EntryKind, Limits, XATTR_CAPABILITY};
use crate::vocab::{DiffId, Digest, Flavour, OsImage};

/// The most memory for unpacking: `xz -9` needs 65 MiB.
const MEMORY: u64 = 256 << 20;

/// setuid and setgid.
const PRIVILEGES: u32 = 0o6000;

/// What an archive of this image and flavour is: what castoff wrote down when it made it, where that still is so, else what
/// reading it shows.
pub fn archived_at(
    state: &Path,
    (image, flavour): (&OsImage, &Flavour),
    path: &Path,
    limits: Limits,
    progress: &Progress,
) -> Result<Archived> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(number) = parse_archive_name(image, flavour, Compression::Xz, name)
        && let Some(made) = archive::recorded_at(state, (image, flavour, number), path, progress)?
    {
        return Archived::try_from(&made);
    }
    inspect(path, limits, progress)
}

/// What a `.tar.xz` is. Its tree is known by the digest of its bare tar, which no archive of castoff's own has.
pub fn inspect(path: &Path, limits: Limits, progress: &Progress) -> Result<Archived> {
    let path = fs::absolute(path)?;
    if !path.to_string_lossy().ends_with(Compression::Xz.suffix()) {
        return Err(Error::new(Kind::Usage, format!("`{}` is no `.tar.xz`", path.display())));
    }
    let file = fs::open(&path)?;
    let length = file.metadata().context(|| format!("cannot look at `{}`", path.display()))?.len();
    let stage = progress.stage(format!("reading {}", path.display()), Some(length), Unit::Bytes);
    let packed = Packed { file, sha256: sha2::Sha256::new(), md5: md5::Md5::new(), size: 0, stage };
    let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)
        .map_err(|error| Error::new(Kind::Failed, "cannot set xz up").caused_by(error))?;
    let decoder = liblzma::bufread::XzDecoder::new_stream(BufReader::with_capacity(1 << 20, packed), stream);
    let bare = Bare { decoder, sha256: sha2::Sha256::new(), size: 0 };
    let mut scanner = Scanner::new(Sequential::new(BufReader::with_capacity(1 << 16, bare)), limits);
    let mut privileged = BTreeSet::new();
    let doing = || format!("`{}` is no whole archive", path.display());
    while let Some(member) = scanner.next_member().context(doing)? {
        let entry = member.entry;
        let is_file = matches!(entry.kind, EntryKind::File { .. });
        if is_file && (entry.mode & PRIVILEGES != 0 || entry.xattrs.contains_key(XATTR_CAPABILITY)) {
            privileged.insert(PrivilegedPath(entry.path));
        }
    }
    let mut input = scanner.into_input();
    input.drain().map_err(|error| from_io(error, doing))?;
    let Bare { decoder, sha256: bare, size: tar_size } = input.into_inner().into_inner();
    let packed = decoder.into_inner().into_inner();
    let diff_id = DiffId(Digest::from_bytes(bare.finalize().into()));
    let file = ArchivedFile {
        compression: Compression::Xz,
        size: packed.size,
        sha256: Digest::from_bytes(packed.sha256.finalize().into()),
        md5: Md5::from_bytes(packed.md5.finalize().into()),
        path,
    };
    Ok(Archived { diff_id, tar_size, tree: diff_id.0, files: vec![file], privileged, patches: Vec::new() })
}

/// The file, its sums taken as it is read.
struct Packed {
    file: std::fs::File,
    sha256: sha2::Sha256,
    md5: md5::Md5,
    size: u64,
    stage: Stage,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.sha256.update(&buffer[..count]);
        self.md5.update(&buffer[..count]);
        self.size += count as u64;
        self.stage.advance(count as u64);
        Ok(count)
    }
}

/// The bare tar.
struct Bare<D> {
    decoder: D,
    sha256: sha2::Sha256,
    size: u64,
}

impl<D: Read> Read for Bare<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.sha256.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
