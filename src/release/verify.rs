//! Whether what is announced is true: everything a host would check, at every place it could fetch from.

use std::io::{self, Write};

use sha2::Digest as _;

use super::{Setup, Standing, places};
use crate::error::{Error, Kind, Result};
use crate::host::clock;
use crate::manifest::{Artefact, Compression, Expected, Listed, Manifest, Md5, Moment, Patch, Paths, parse_md5_file};
use crate::publish::{RemoteName, RemoteStore, Tier, open};
use crate::vocab::{Digest, Flavour, OsImage, Value};

/// The most memory for unpacking.
const MEMORY: u64 = 256 << 20;

/// Reads the branch, judges the signature, fetches every file from every place and unpacks it to nowhere. The report says
/// of each whether it is right; an error means that there is nothing to check.
pub fn verify(setup: &Setup, image: &OsImage, flavour: &Flavour) -> Result<Value> {
    let standing = Standing::read(setup, image, flavour)?;
    let Some(manifest) = &standing.manifest else {
        return Err(Error::new(Kind::NotFound, format!("no release of `{image}/{flavour}` is announced")));
    };
    let mut checks = Vec::new();
    let mut note = |what: &str, place: &str, result: Result<String>| {
        let (right, told) = match result {
            Ok(told) => (true, told),
            Err(error) => (false, error.render()),
        };
        checks.push((right, what.to_owned(), place.to_owned(), told));
    };
    note("manifest", "branch", announced(image, flavour, manifest));
    note("signature", "branch", signature(setup, &standing, image, flavour));
    if let Some(second) = second_signature(setup, &standing, image, flavour).transpose() {
        note("minisign signature", "branch", second);
    }
    note("version and md5 files", "branch", legacy(&standing, image, flavour, manifest));
    for target in &setup.targets {
        let mut store = open(&target.target, &target.access, &setup.operator, &setup.cancel);
        for artefact in &manifest.artefacts {
            let place = target.target.to_string();
            note(artefact.name.as_str(), &place, with(&mut store, |store| fetched(setup, store, manifest, artefact)));
        }
        for patch in &manifest.patches {
            let place = target.target.to_string();
            note(patch.name.as_str(), &place, with(&mut store, |store| patch_fetched(setup, store, patch)));
        }
    }
    for address in &manifest.urls {
        let mut store = places::open_address(setup, address);
        for artefact in &manifest.artefacts {
            let place = address.of(&artefact.name);
            note(artefact.name.as_str(), &place, with(&mut store, |store| fetched(setup, store, manifest, artefact)));
        }
        for patch in &manifest.patches {
            let place = address.of(&patch.name);
            note(patch.name.as_str(), &place, with(&mut store, |store| patch_fetched(setup, store, patch)));
        }
    }
    let right = checks.iter().all(|(right, ..)| *right);
    let shown = checks.into_iter().map(|(right, what, place, told)| {
        Value::map([
            ("what", Value::from(what)),
            ("place", place.into()),
            ("result", right.into()),
            (if right { "told" } else { "problem" }, told.into()),
        ])
    });
    Ok(Value::map([
        ("result", Value::from(right)),
        ("image", image.to_string().into()),
        ("flavor", flavour.to_string().into()),
        ("version", manifest.version.get().into()),
        ("commit", standing.commit.clone().into()),
        ("checks", Value::list(shown)),
    ]))
}

/// The work on a place that answers, else why it does not.
fn with(
    store: &mut Result<Box<dyn RemoteStore>>,
    work: impl FnOnce(&mut dyn RemoteStore) -> Result<String>,
) -> Result<String> {
    match store {
        Ok(store) => work(store.as_mut()),
        Err(error) => Err(Error::new(error.kind(), error.message()).caused_by(error.render())),
    }
}

fn announced(image: &OsImage, flavour: &Flavour, manifest: &Manifest) -> Result<String> {
    let now = Moment(clock::now().as_secs());
    let expected = Expected { image, flavour, highest: None, allow_rollback: false, now };
    match manifest.judge(&expected)?.expired {
        None => Ok(format!("release {}", manifest.version)),
        Some(seconds) => Err(Error::new(Kind::Refused, format!("it has been expired for {} days", seconds / 86_400))
            .hint("release the image again")),
    }
}

fn signature(setup: &Setup, standing: &Standing, image: &OsImage, flavour: &Flavour) -> Result<String> {
    let paths = Paths::new(image, flavour);
    let bytes = |path: &str| {
        let bytes = standing.files.get(path).and_then(Option::as_deref);
        bytes.ok_or_else(|| Error::new(Kind::NotFound, format!("`{path}` is not on the branch")))
    };
    let signatory = setup.signing()?.judge(bytes(&paths.manifest)?, bytes(&paths.signature)?)?;
    Ok(format!("{} {} as `{}`", signatory.algorithm, signatory.fingerprint, signatory.principal))
}

/// The second signature, where there is one and its key is configured.
fn second_signature(setup: &Setup, standing: &Standing, image: &OsImage, flavour: &Flavour) -> Result<Option<String>> {
    let paths = Paths::new(image, flavour);
    let bytes = |path: &str| standing.files.get(path).and_then(Option::as_deref);
    let (Some(manifest), Some(second)) = (bytes(&paths.manifest), bytes(&paths.minisignature)) else {
        return Ok(None);
    };
    let second = std::str::from_utf8(second).map_err(|error| {
        Error::new(Kind::Corrupt, format!("`{}` is not UTF-8", paths.minisignature)).caused_by(error)
    })?;
    setup.signing()?.judge_second(manifest, second)
}

fn legacy(standing: &Standing, image: &OsImage, flavour: &Flavour, manifest: &Manifest) -> Result<String> {
    let paths = Paths::new(image, flavour);
    let md5 = standing.files.get(&paths.md5).and_then(Option::as_deref);
    let md5 = md5.map(|bytes| parse_md5_file(bytes, &paths.md5)).transpose()?;
    let own = manifest.archive()?.md5;
    if (standing.version, md5) == (Some(manifest.version), Some(own)) {
        return Ok(format!("{} {own}", manifest.version));
    }
    Err(Error::new(Kind::Corrupt, "the version and md5 files say something else than the manifest"))
}

/// Fetches one file: its size, its digests, and the bare tar in it.
fn fetched(setup: &Setup, store: &mut dyn RemoteStore, manifest: &Manifest, artefact: &Artefact) -> Result<String> {
    let name: RemoteName = artefact.name.as_str().parse()?;
    let found = store.size_of((&name).into())?;
    if found != Some(artefact.size) {
        let (kind, told) = match found {
            None => (Kind::NotFound, "it is not there".to_owned()),
            Some(size) => (Kind::Corrupt, format!("it has {size} bytes, not {}", artefact.size)),
        };
        return Err(Error::new(kind, format!("`{name}`: {told}")));
    }
    let mut packed = sha2::Sha256::new();
    let mut md5 = md5::Md5::new();
    let bare = Bare { sha256: sha2::Sha256::new(), left: manifest.tar_size };
    let mut unpacking = Unpacking::new(artefact.compression, bare)?;
    let wrong = |error: io::Error| {
        Error::new(Kind::Corrupt, format!("`{name}` cannot be unpacked to the tar it should hold")).caused_by(error)
    };
    store.read((&name).into(), artefact.size, &setup.progress, &mut |bytes| {
        packed.update(bytes);
        md5.update(bytes);
        unpacking.write_all(bytes).map_err(wrong)
    })?;
    let bare = unpacking.finish().map_err(wrong)?;
    let packed = Digest::from_bytes(packed.finalize().into());
    if packed != artefact.sha256 || Md5::from_bytes(md5.finalize().into()) != artefact.md5 {
        return Err(Error::new(Kind::Corrupt, format!("`{name}` is {packed}, not {}", artefact.sha256)));
    }
    let left = bare.left;
    let bare = Digest::from_bytes(bare.sha256.finalize().into());
    if left != 0 || bare != manifest.diff_id.0 {
        return Err(Error::new(Kind::Corrupt, format!("`{name}` holds the tar {bare}, not {}", manifest.diff_id)));
    }
    Ok(packed.to_string())
}

/// Fetches one patch: its size and its digest. What it makes was looked at before it was published.
fn patch_fetched(setup: &Setup, store: &mut dyn RemoteStore, patch: &Patch) -> Result<String> {
    let listed = Listed { name: &patch.name, size: patch.size, sha256: patch.sha256 };
    places::confirm(store, listed, Tier::ReadBack, &setup.progress)?;
    Ok(patch.sha256.to_string())
}

/// The bare tar: hashed, and no longer than it may be.
struct Bare {
    sha256: sha2::Sha256,
    left: u64,
}

impl Write for Bare {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("it unfolds to more than the manifest says"))?;
        self.sha256.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Unpacking {
    Xz(Box<liblzma::write::XzDecoder<Bare>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Bare>>),
}

impl Unpacking {
    fn new(compression: Compression, bare: Bare) -> Result<Self> {
        Ok(match compression {
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)
                    .map_err(|error| Error::new(Kind::Failed, "cannot set xz up").caused_by(error))?;
                Self::Xz(Box::new(liblzma::write::XzDecoder::new_stream(bare, stream)))
            }
            Compression::Zstd => {
                let decoder = zstd::stream::write::Decoder::new(bare)
                    .map_err(|error| Error::new(Kind::Failed, "cannot set zstd up").caused_by(error))?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Xz(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Bare> {
        match self {
            Self::Xz(decoder) => decoder.finish(),
            Self::Zstd(mut decoder) => {
                decoder.flush()?;
                Ok(decoder.into_inner())
            }
        }
    }
}
