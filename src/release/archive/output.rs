//! Where the bytes of an archive go: into a file that has not its name yet, hashed on the way.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use md5::Digest as _;

use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host::fs::TempFile;
use crate::host::{fault, fs};
use crate::progress::Stage;
use crate::release::compression::{Compression, Compressor, Taker};
use crate::vocab::{DiffId, Digest};

/// The mode of an archive: whoever uploads it need not be who made it.
const MODE: u32 = 0o644;

/// What is known of a file by its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How many there are.
    pub size: u64,
    /// Their SHA-256, which decides.
    pub sha256: Digest,
    /// Their MD5 in hex, for readers of older releases.
    pub md5: String,
}

/// Sums under way.
pub(super) struct Summing {
    size: u64,
    sha256: sha2::Sha256,
    md5: md5::Md5,
}

impl Summing {
    pub(super) fn new() -> Self {
        Self { size: 0, sha256: sha2::Sha256::new(), md5: md5::Md5::new() }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        self.md5.update(bytes);
    }

    pub(super) fn sums(self) -> Sums {
        use std::fmt::Write as _;
        let md5 = self.md5.finalize().iter().fold(String::with_capacity(32), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Sums { size: self.size, sha256: Digest::from_bytes(self.sha256.finalize().into()), md5 }
    }
}

/// One file under way.
struct File<'s> {
    temporary: TempFile,
    target: PathBuf,
    summing: Summing,
    stage: &'s std::cell::RefCell<Stage>,
}

impl Taker for File<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.summing.add(bytes);
        self.temporary.write_all(bytes).map_err(|error| {
            let error = from_io(error, || format!("cannot write `{}`", self.target.display()));
            match error.kind() {
                Kind::NoSpace => error.hint("nothing of it stays; free some space there, and run the same again"),
                _ => error,
            }
        })?;
        fault::point("release.archive.wrote");
        Ok(())
    }

    fn glance(&mut self) {
        self.stage.borrow_mut().advance(0);
    }
}

/// A file that is whole, but has not its name yet.
pub(super) struct Made {
    temporary: TempFile,
    pub(super) target: PathBuf,
    pub(super) compression: Compression,
    pub(super) sums: Sums,
}

impl Made {
    /// Makes the content durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.temporary.file().sync_all().context(|| format!("cannot sync `{}`", self.target.display()))
    }

    /// Gives the file its name, durably.
    pub(super) fn persist(self) -> Result<()> {
        self.temporary.persist()
    }
}

/// The files of an archive under way, each with its compressor, and the sum of what goes into them.
pub(super) struct Outputs<'s> {
    files: Vec<(Compression, Compressor, File<'s>)>,
    plain: sha2::Sha256,
    size: u64,
    stage: &'s std::cell::RefCell<Stage>,
}

impl<'s> Outputs<'s> {
    /// Files for about `size` bytes of tar; what killed runs left in their folder is removed first.
    pub(super) fn open(
        targets: &[(Compression, PathBuf)],
        size: u64,
        stage: &'s std::cell::RefCell<Stage>,
    ) -> Result<Self> {
        let mut files = Vec::new();
        for (compression, target) in targets {
            fs::sweep(fs::parent(target))?;
            let temporary = TempFile::beside(target, MODE)?;
            // The umask of whoever started castoff must not decide.
            rustix::fs::fchmod(temporary.file(), rustix::fs::Mode::from_raw_mode(MODE))
                .context(|| format!("cannot set the mode of `{}`", temporary.path().display()))?;
            let file = File { temporary, target: target.clone(), summing: Summing::new(), stage };
            files.push((*compression, Compressor::new(*compression, size)?, file));
        }
        Ok(Self { files, plain: sha2::Sha256::new(), size: 0, stage })
    }

    /// Takes some more of the tar.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.plain.update(bytes);
        self.size += bytes.len() as u64;
        for (_, compressor, file) in &mut self.files {
            compressor.write(bytes, file)?;
        }
        self.stage.borrow_mut().advance(bytes.len() as u64);
        Ok(())
    }

    /// Ends all files; the diff ID and length of the tar.
    pub(super) fn finish(self) -> Result<(Vec<Made>, DiffId, u64)> {
        let diff_id = DiffId(Digest::from_bytes(self.plain.finalize().into()));
        let mut made = Vec::new();
        for (compression, compressor, mut file) in self.files {
            compressor.finish(&mut file)?;
            let File { temporary, target, summing, .. } = file;
            made.push(Made { temporary, target, compression, sums: summing.sums() });
        }
        Ok((made, diff_id, self.size))
    }
}

/// The sums of a file as it is on the disk; none where there is no such file.
pub(super) fn sums_of(path: &Path, stage: &mut Stage) -> Result<Option<Sums>> {
    use std::io::Read as _;
    match fs::link_metadata(path)? {
        None => return Ok(None),
        Some(found) if !found.is_file() => {
            return Err(
                Error::new(Kind::Conflict, format!("`{}` is not a regular file", path.display())).hint("move it away")
            );
        }
        Some(_) => {}
    }
    let mut file = fs::open(path)?;
    let (mut summing, mut buffer) = (Summing::new(), vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer).context(|| format!("cannot read `{}`", path.display()))?;
        if count == 0 {
            return Ok(Some(summing.sums()));
        }
        summing.add(&buffer[..count]);
        stage.advance(count as u64);
    }
}
