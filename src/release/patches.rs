//! Patches from earlier releases: what hosts that hold one of those fetch instead of the whole archive.
//!
//! ```text
//! STATE/release/patches/IMAGE/FLAVOUR/     the patches of the release under way; those of others are removed
//! ```
//!
//! A base is the archive of an earlier release that is still on this host and still what was announced. Without one there
//! is no patch, and hosts fetch the whole archive: patches save bytes, nothing depends on them. Each is applied before it
//! is published.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::Setup;
use super::freight::{Archived, ArchivedPatch};
use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host::fs;
use crate::manifest::{self, Compression, Manifest, Paths, most_worth, patch_name};
use crate::progress::{Stage, Unit};
use crate::vocab::{DiffId, Digest, Flavour, OsImage, ReleaseNumber};

/// The most memory for unpacking: `xz -9` needs 65 MiB.
const MEMORY: u64 = 256 << 20;

/// Bytes that are passed on at once.
const BUFFER: usize = 1 << 18;

/// An earlier release that a patch can start from.
struct Base {
    number: ReleaseNumber,
    tar: DiffId,
    tar_size: u64,
    path: PathBuf,
}

/// The patches that lead to this archive from the last releases, as many as are asked for and worth it.
///
/// Archives of earlier releases are looked for in the archive's own folder.
pub fn patches(
    setup: &Setup,
    (image, flavour, number): (&OsImage, &Flavour, ReleaseNumber),
    archived: &Archived,
) -> Result<Vec<ArchivedPatch>> {
    let folder = setup.folder().join("patches").join(image.as_str()).join(flavour.as_str());
    fs::create_dir_all(&folder, 0o700)?;
    fs::sweep(&folder)?;
    let Some(packed) = archived.files.iter().min_by_key(|file| file.size) else { return Ok(Vec::new()) };
    let bases = bases(setup, image, flavour, archived, fs::parent(&packed.path))?;
    let mut made = Vec::new();
    for base in bases {
        setup.cancel.check()?;
        let path = folder.join(patch_name(image, flavour, number, base.tar)?.as_str());
        let doing = || format!("cannot make the patch from release {}", base.number);
        if let Some(patch) = patch(setup, &base, archived, (path, most_worth(packed.size))).context(doing)? {
            made.push(patch);
        }
    }
    let wanted: Vec<&Path> = made.iter().map(|patch| patch.path.as_path()).collect();
    for name in fs::list(&folder)? {
        let path = folder.join(name);
        if !wanted.contains(&path.as_path()) {
            fs::remove_file(&path)?;
        }
    }
    Ok(made)
}

/// The last releases that differ from this one, each tar once, whose archives are on this host.
fn bases(setup: &Setup, image: &OsImage, flavour: &Flavour, archived: &Archived, folder: &Path) -> Result<Vec<Base>> {
    let most = setup.patches as usize;
    let mut bases: Vec<Base> = Vec::new();
    let mut known = vec![archived.diff_id];
    if most == 0 {
        return Ok(bases);
    }
    for version in setup.git.history(&Paths::new(image, flavour).manifest, most)? {
        let earlier = Manifest::parse(version.text.as_bytes())?;
        if known.contains(&earlier.diff_id) {
            continue;
        }
        known.push(earlier.diff_id);
        if earlier.tar_size.max(archived.tar_size) > setup.patch_limits.tar {
            setup.progress.line(format!("no patch from release {}: its tar is too large", earlier.version));
            continue;
        }
        // A release that repeats an older one has the older one's files.
        let name = earlier.archive()?.name.as_str();
        let path = folder.join(name);
        if fs::exists(&path)? {
            bases.push(Base { number: earlier.version, tar: earlier.diff_id, tar_size: earlier.tar_size, path });
        } else {
            setup.progress.line(format!("no patch from release {}: `{name}` is not here", earlier.version));
        }
    }
    Ok(bases)
}

/// One patch, or none where its base is not what it was or the patch is no gain.
fn patch(
    setup: &Setup,
    base: &Base,
    archived: &Archived,
    (path, most): (PathBuf, u64),
) -> Result<Option<ArchivedPatch>> {
    let mut stage = setup.progress.stage(
        format!("making the patch from release {}", base.number),
        Some(base.tar_size + 2 * archived.tar_size),
        Unit::Bytes,
    );
    let Some(old) = tar_in_memory(base, &mut stage)? else {
        setup.progress.warn(format!(
            "no patch from release {}: `{}` is not what was announced",
            base.number,
            base.path.display()
        ));
        return Ok(None);
    };
    fs::require_space(fs::parent(&path), most)?;
    let part = fs::TempFile::beside(&path, 0o600)?;
    let (size, sha256) = {
        let target = Watched { inner: open_tar(&newest(archived)?)?, stage: &mut stage };
        let out = BufWriter::with_capacity(BUFFER, part.file());
        let mut out = Hashed { inner: out, sha256: sha2::Sha256::new() };
        let size = manifest::make(&old, target, archived.tar_size, setup.patch_limits, (&mut out, most))?;
        out.inner.flush().context(|| format!("cannot write `{}`", path.display()))?;
        let Some(size) = size else {
            setup.progress.line(format!("no patch from release {}: it would save too little", base.number));
            return Ok(None);
        };
        (size, Digest::from_bytes(out.sha256.finalize().into()))
    };
    prove(setup, &old, archived, part.path(), &mut stage)?;
    part.persist()?;
    Ok(Some(ArchivedPatch { path, from: base.tar, size, sha256 }))
}

/// Applies the patch: what it makes is the tar, or it is no patch.
fn prove(setup: &Setup, old: &[u8], archived: &Archived, patch: &Path, stage: &mut Stage) -> Result<()> {
    let mut sum = Hashed { inner: Told(stage), sha256: sha2::Sha256::new() };
    let patch = BufReader::with_capacity(BUFFER, fs::open(patch)?);
    manifest::apply(old, patch, archived.tar_size, setup.patch_limits, &mut sum)?;
    let found = DiffId(Digest::from_bytes(sum.sha256.finalize().into()));
    if found == archived.diff_id {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, format!("the patch makes the tar {found}, not {}", archived.diff_id))
        .hint("run the same again; if it happens twice, this machine's memory deserves a test"))
}

/// The archive that unpacks fastest.
fn newest(archived: &Archived) -> Result<PathBuf> {
    let fastest = archived.files.iter().max_by_key(|file| file.compression == Compression::Zstd);
    fastest
        .map(|file| file.path.clone())
        .ok_or_else(|| Error::new(Kind::Failed, "the archive of a release has no files"))
}

fn open_tar(path: &Path) -> Result<Box<dyn Read>> {
    let file = BufReader::with_capacity(BUFFER, fs::open(path)?);
    if path.to_string_lossy().ends_with(Compression::Zstd.suffix()) {
        let decoder = zstd::stream::read::Decoder::with_buffer(file)
            .map_err(|error| Error::new(Kind::Failed, "cannot set zstd up").caused_by(error))?;
        return Ok(Box::new(decoder));
    }
    let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)
        .map_err(|error| Error::new(Kind::Failed, "cannot set xz up").caused_by(error))?;
    Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream)))
}

/// The base's bare tar; none if it is another one, or damaged.
fn tar_in_memory(base: &Base, stage: &mut Stage) -> Result<Option<Vec<u8>>> {
    let length = usize::try_from(base.tar_size)
        .map_err(|error| Error::new(Kind::Limit, "the tar does not fit into memory").caused_by(error))?;
    let mut tar = Vec::new();
    tar.try_reserve_exact(length)
        .map_err(|error| Error::new(Kind::Limit, "the tar does not fit into memory").caused_by(error))?;
    let watched = Watched { inner: open_tar(&base.path)?, stage };
    match watched.take(base.tar_size + 1).read_to_end(&mut tar) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            return Ok(None);
        }
        Err(error) => return Err(from_io(error, || format!("cannot read `{}`", base.path.display()))),
    }
    Ok((tar.len() == length && DiffId(Digest::of(&tar)) == base.tar).then_some(tar))
}

/// A reader whose bytes are told to a stage.
struct Watched<'a> {
    inner: Box<dyn Read>,
    stage: &'a mut Stage,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.stage.advance(count as u64);
        Ok(count)
    }
}

/// A writer that keeps the digest of what goes through.
struct Hashed<W> {
    inner: W,
    sha256: sha2::Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes that only a stage is interested in.
struct Told<'a>(&'a mut Stage);

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.advance(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
