//! Opens an OCI layout directory, never following a link out of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::layout::{self, Choice, Files};
use super::manifest::Platform;
use super::source::ImageSource;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::rootfs::FileRegion;

/// The files below an open directory.
pub(crate) struct Directory {
    folder: File,
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { folder: fs::open(path)?, path: path.to_owned() })
    }
}

impl Files for Directory {
    fn open(&self, path: &str) -> Result<Option<FileRegion>> {
        let wrong = || format!("cannot open `{path}` of {}", self.place());
        // NONBLOCK: a named pipe in place of a blob must not hang the reader.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut tries = 0;
        let opened = loop {
            tries += 1;
            match rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), ResolveFlags::BENEATH) {
                // The kernel says "again" when somebody renames folders meanwhile.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) if tries < 1000 => {}
                other => break other,
            }
        };
        let file = match opened {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(rustix::io::Errno::XDEV) => {
                return Err(Error::new(Kind::Refused, format!("`{path}` of {} leads out of it", self.place())));
            }
            Err(rustix::io::Errno::LOOP) => {
                return Err(Error::new(Kind::Refused, format!("`{path}` of {} is a symbolic link", self.place())));
            }
            Err(error) => return Err(error).context(wrong),
        };
        let metadata = file.metadata().context(wrong)?;
        if !metadata.is_file() {
            return Err(Error::new(Kind::Corrupt, format!("`{path}` of {} is not a file", self.place())));
        }
        Ok(Some(FileRegion { file: Arc::new(file), start: 0, size: metadata.len() }))
    }

    fn place(&self) -> String {
        format!("`{}`", self.path.display())
    }
}

/// Opens an image of the OCI layout at `path`, for this host's platform where it has several.
pub fn open_layout(path: &Path, tag: Option<&str>) -> Result<ImageSource> {
    open_layout_for(path, &Choice { tag, platform: &Platform::host() })
}

/// Opens the chosen image of the OCI layout at `path`.
pub fn open_layout_for(path: &Path, choice: &Choice<'_>) -> Result<ImageSource> {
    layout::read(&Directory::open(path)?, choice)
}
