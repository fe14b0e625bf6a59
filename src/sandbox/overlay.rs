//! Overlay mounts inside a worker, in the one form that root and ordinary users make alike.
//!
//! ```text
//! UPPER/NAME       a file that was made or changed, whole
//! UPPER/NAME       character device 0:0: the name is deleted (a whiteout; all of them may be hard links)
//! UPPER/NAME/      user.overlay.opaque = "y": nothing of the folders below shows through
//! UPPER/...        user.overlay.origin, user.overlay.impure, user.overlay.uuid: the kernel's own notes, of no use elsewhere
//! WORK/work        the kernel's; empty once unmounted, of mode 0
//! WORK/work/incompat/volatile  an upper layer was not synced: syncing it is up to whoever keeps it
//! ```
//!
//! With `userxattr` the kernel keeps its marks in `user.*`, which every user may write and any tar keeps. Nothing in
//! an upper layer depends on where it is: no redirects, no metadata-only copies, no index. The mount is `volatile`: it
//! syncs nothing, neither when asked to nor when unmounted.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// The most layers the kernel stacks (`OVL_MAX_STACK`).
pub const MOST_LAYERS: usize = 500;

/// What all of them have.
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

/// A mounted overlay; dropping it unmounts it.
#[derive(Debug)]
pub struct Overlay {
    at: PathBuf,
    mounted: bool,
}

impl Overlay {
    /// Mounts these folders at `at`, the first of `lowers` on top; changes go to the upper layer if there is one,
    /// whose work folder is an empty one on the same file system; else the overlay is read-only.
    pub fn mount(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, at: &Path) -> Result<Self> {
        let wrong = || format!("cannot mount an overlay at `{}`", at.display());
        let layers = Layers::open(lowers, upper)?;
        match layers.build() {
            Ok(mount) => {
                rustix::mount::move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .context(wrong)?;
            }
            // A kernel that knows no `lowerdir+`: all of them in one option of mount(2), which is a page long.
            Err(Errno::INVAL | Errno::NOSYS) if lowers.len() > 1 => {
                layers.mount_in_one(at).map_err(|error| explain(error, at))?;
            }
            Err(error) => return Err(explain(error, at)),
        }
        Ok(Self { at: at.to_owned(), mounted: true })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Unmounts it; fails while something of it is in use.
    ///
    /// A program that another thread is starting just now holds copies of all descriptors until it is itself: that is waited
    /// out.
    pub fn unmount(mut self) -> Result<()> {
        self.mounted = false;
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            match rustix::mount::unmount(&self.at, UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) if std::time::Instant::now() < until => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                ended => return ended.context(|| format!("cannot unmount the overlay at `{}`", self.at.display())),
            }
        }
    }
}

/// How long a mount that is in use is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

impl Drop for Overlay {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = rustix::mount::unmount(&self.at, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        {
            // The worker's end unmounts it at the latest.
            tracing::warn!("cannot unmount the overlay at `{}`: {error}", self.at.display());
        }
    }
}

/// The folders, opened: their names may be long and hold what separates options.
struct Layers {
    lowers: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
}

impl Layers {
    fn open(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<Self> {
        if lowers.is_empty() || lowers.len() > MOST_LAYERS {
            let what = format!("an overlay of {} layers cannot be: 1 to {MOST_LAYERS} are possible", lowers.len());
            return Err(Error::new(Kind::Limit, what));
        }
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .context(|| format!("cannot open the layer `{}`", path.display()))
        };
        let upper = upper.map(|(upper, work)| Ok::<_, Error>((open(upper)?, open(work)?))).transpose()?;
        Ok(Self { lowers: lowers.iter().map(|path| open(path)).collect::<Result<_>>()?, upper })
    }

    /// The mount, attached nowhere yet.
    fn build(&self) -> rustix::io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context.as_fd(), key, value);
        set("source", "castoff")?;
        if let [only] = &self.lowers[..] {
            set("lowerdir", &place(only))?;
        } else {
            for lower in &self.lowers {
                set("lowerdir+", &place(lower))?;
            }
        }
        if let Some((upper, work)) = &self.upper {
            set("upperdir", &place(upper))?;
            set("workdir", &place(work))?;
            rustix::mount::fsconfig_set_flag(context.as_fd(), "volatile")?;
        }
        rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
        for (key, value) in OPTIONS {
            set(key, value)?;
        }
        rustix::mount::fsconfig_create(context.as_fd())?;
        // Devices of an image are content and must open nothing of this machine.
        let closed = MountAttrFlags::MOUNT_ATTR_NODEV;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, closed)
    }

    fn mount_in_one(&self, at: &Path) -> rustix::io::Result<()> {
        let lowers: Vec<String> = self.lowers.iter().map(place).collect();
        let mut options = format!("lowerdir={},userxattr", lowers.join(":"));
        if let Some((upper, work)) = &self.upper {
            options = format!("{options},upperdir={},workdir={},volatile", place(upper), place(work));
        }
        for (key, value) in OPTIONS {
            options = format!("{options},{key}={value}");
        }
        // mount(2) takes a page, 4096 bytes on every machine, and silently cuts what is longer.
        if options.len() >= 4096 {
            return Err(Errno::TOOBIG);
        }
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount("castoff", at, "overlay", MountFlags::NODEV, options.as_c_str())
    }
}

/// A short name of an open folder that needs no quoting.
fn place(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

fn explain(error: Errno, at: &Path) -> Error {
    let message = format!("cannot mount an overlay at `{}`", at.display());
    let source = io::Error::from(error);
    let failed = Error::new(crate::error::kind_of_io(&source), message).caused_by(source);
    match error {
        Errno::NODEV => failed.hint("the kernel has no overlayfs: `modprobe overlay` as root"),
        Errno::TOOBIG => failed.hint("this kernel takes about 200 layers; since Linux 6.8 it takes 500"),
        Errno::INVAL => failed.hint("the upper layer's file system cannot carry one, or the kernel is older than 5.11"),
        _ => failed,
    }
}

/// Why this folder cannot carry an upper layer; none if it can. Inside a worker, or as root.
///
/// Tried with a mount that is attached nowhere: a file is deleted, a folder replaced, an attribute kept.
pub fn overlay_works(folder: &Path) -> Result<Option<String>> {
    let scratch = fs::TempDir::inside(folder)?;
    let named = |name: &str| scratch.path().join(name);
    for name in ["lower/folder/inner", "upper", "work"] {
        fs::create_dir_all(&named(name), 0o755)?;
    }
    for name in ["lower/file", "lower/folder/inner/file", "lower/kept"] {
        fs::create_if_absent(&named(name), 0o644)?;
    }
    let layers = Layers::open(&[named("lower")], Some((&named("upper"), &named("work"))))?;
    let mount = match layers.build() {
        Ok(mount) => mount,
        Err(Errno::NODEV) => return Ok(Some("the kernel has no overlayfs".to_owned())),
        Err(Errno::INVAL) => {
            return Ok(Some(
                "its file system cannot be an overlay's upper layer, as overlayfs itself cannot".to_owned(),
            ));
        }
        Err(error) => return Ok(Some(format!("the kernel mounts no overlay there: {error}"))),
    };
    let tried = change(&mount);
    drop(mount);
    if let Err(error) = tried {
        return Ok(Some(format!("an overlay there does not work: {error}")));
    }
    judge(&scratch.path().join("upper"))
}

/// What a build does to a tree, in small.
fn change(mount: &OwnedFd) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, mkdirat, openat, unlinkat};
    unlinkat(mount, "file", AtFlags::empty())?;
    unlinkat(mount, "folder/inner/file", AtFlags::empty())?;
    unlinkat(mount, "folder/inner", AtFlags::REMOVEDIR)?;
    mkdirat(mount, "folder/inner", Mode::from_raw_mode(0o755))?;
    let file = openat(mount, "kept", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, b"x")?;
    Ok(())
}

/// Whether the upper layer tells what was done.
fn judge(upper: &Path) -> Result<Option<String>> {
    let wrong = || format!("cannot look at `{}`", upper.display());
    let whiteout = rustix::fs::lstat(upper.join("file"));
    let is_whiteout =
        whiteout.is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::CharacterDevice && it.st_rdev == 0);
    if !is_whiteout {
        return Ok(Some("its file system keeps no mark of a deleted file".to_owned()));
    }
    let mut value = [0u8; 8];
    match rustix::fs::lgetxattr(upper.join("folder/inner"), "user.overlay.opaque", &mut value[..]) {
        Ok(1) if value[0] == b'y' => Ok(None),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {
            Ok(Some("its file system keeps no extended attributes of users".to_owned()))
        }
        Err(error) => Err(error).context(wrong),
    }
}
