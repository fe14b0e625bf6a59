//! Where the parts of a container lie on this host.

use std::path::{Path, PathBuf};

use crate::engine::lxc::LxcContainer;
use crate::error::Result;
use crate::rootfs::idmap::IdMap;

/// The folders of a container, and whose ids are in its root filesystem.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Its folder, with `config`.
    pub folder: PathBuf,
    /// Its root filesystem, wherever that lies.
    pub rootfs: PathBuf,
    /// How ids inside it are kept on the host; none: as they are.
    pub idmap: Option<IdMap>,
}

impl Roots {
    /// Those of a container, whose root filesystem must exist.
    pub fn of(container: &LxcContainer) -> Result<Self> {
        let rootfs = container.existing_rootfs()?.to_owned();
        Ok(Self { folder: container.directory.clone(), rootfs, idmap: IdMap::parse_lxc_config(&container.config)? })
    }

    /// The part of the folder where the root filesystem lies, or where its name is taken in the archive.
    pub(super) fn inside(&self) -> Vec<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt as _;
        let own = |path: &Path| path.strip_prefix(&self.folder).ok().map(|path| path.as_os_str().as_bytes().to_vec());
        let mut inside = vec![b"rootfs".to_vec()];
        inside.extend(own(&self.rootfs).filter(|path| !path.is_empty()));
        inside
    }
}
