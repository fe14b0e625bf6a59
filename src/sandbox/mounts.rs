//! What a command in a sandbox sees: the tree as its root, and the kernel's file systems as containers have them.
//!
//! ```text
//! /                 the tree, without devices
//! /proc             of the sandbox's own processes; what steers the kernel is read-only
//! /sys              read-only
//! /dev              a tmpfs: null zero full random urandom tty of the host, pts and shm of its own
//! /etc/resolv.conf  with network: the host's, as long as the command runs
//! ```
//!
//! Mounts are made as objects and attached to opened directories: a link in the tree cannot send one astray.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use super::inner::limit_processes;
use super::wire::{Bind, Failure, Order, While as _};

/// Where the script is while it runs: on the sandbox's own tmpfs, so that nothing of it gets into the tree.
pub(super) const SCRIPT: &str = "/dev/castoff-script";

/// The host's devices a command may open.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Files of `/proc` by which root steers the whole machine (those that container engines hide or protect).
const READ_ONLY: [&str; 5] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];
const HIDDEN: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats"];

/// Enters the tree: from here on nothing of the host's files is reachable.
pub(super) fn enter(order: &Order, tree: &[u8]) -> Result<(), Failure> {
    let tree = Path::new(OsStr::from_bytes(tree));
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .while_("keep its mounts to itself")?;
    let devices: Vec<OwnedFd> = DEVICES
        .iter()
        .map(|name| clone_of(CWD, format!("/dev/{name}")).while_(format!("take the host's /dev/{name}")))
        .collect::<Result<_, _>>()?;
    let binds = order.binds.iter().map(taken).collect::<Result<Vec<_>, _>>()?;
    // In a user namespace the kernel makes these only while whole ones can be seen, so before they are left.
    let closed =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = new("proc", &[], closed).while_("make its own /proc")?;
    let sys = new_sys(closed | MountAttrFlags::MOUNT_ATTR_RDONLY).while_("make its /sys")?;
    let root = clone_of(CWD, tree).while_(format!("take the tree `{}`", tree.display()))?;
    attach_at(root.as_fd(), tree).while_(format!("mount `{}`", tree.display()))?;
    rustix::process::fchdir(&root).while_("enter the tree")?;
    let flags = flags_of(&root)? | MountFlags::BIND | MountFlags::NODEV;
    rustix::mount::mount_remount(".", flags, "").while_("forbid the tree's devices")?;
    // With both names the same the old root ends up on top of the new one and can be let go of (pivot_root(2)).
    rustix::process::pivot_root(".", ".").while_("make the tree its root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).while_("let go of the host's root")?;
    rustix::process::chdir("/").while_("enter its root")?;
    let root = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .while_("open its root")?;
    attach(&proc, root.as_fd(), "proc").while_("mount its /proc")?;
    if let Some(most) = order.processes {
        limit_processes(most)?;
    }
    protect_proc(&devices)?;
    attach(&sys, root.as_fd(), "sys").while_("mount its /sys")?;
    mount_dev(root.as_fd(), &devices, order)?;
    order.binds.iter().zip(&binds).try_for_each(|(bind, mount)| place(root.as_fd(), bind, mount))
}

/// Stays in the host's tree, where only `/proc` is the sandbox's own, and whatever the command mounts.
pub(super) fn stay(order: &Order) -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .while_("keep its mounts to itself")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).while_("mount its own /proc")?;
    order.processes.map_or(Ok(()), limit_processes)
}

/// The kernel lets only the owner of the network namespace see its devices: without one, `/sys` is empty.
fn new_sys(attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    match new("sysfs", &[], attributes) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) => {
            new("tmpfs", &[("mode", "755"), ("size", "4k")], attributes)
        }
        made => made,
    }
}

/// A file or folder of the host to be shown in the tree.
fn taken(bind: &Bind) -> Result<OwnedFd, Failure> {
    let path = Path::new(OsStr::from_bytes(&bind.from));
    clone_of(CWD, path).while_(format!("take `{}` for the tree", path.display()))
}

fn place(root: BorrowedFd<'_>, bind: &Bind, mount: &OwnedFd) -> Result<(), Failure> {
    let shown = String::from_utf8_lossy(&bind.to).into_owned();
    let doing = || format!("show `{}` as `{shown}` in the tree", String::from_utf8_lossy(&bind.from));
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(root, bind.to.as_slice(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let place = open().while_(doing())?;
    attach_to(mount.as_fd(), place.as_fd()).while_(doing())?;
    // Opened again it is what was mounted.
    let mounted = open().while_(doing())?;
    let mut flags = flags_of(&mounted)? | MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
    if bind.read_only {
        flags |= MountFlags::RDONLY;
    }
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mounted));
    rustix::mount::mount_remount(name, flags, "").while_(doing())
}

fn protect_proc(devices: &[OwnedFd]) -> Result<(), Failure> {
    let read_only = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        let doing = || format!("protect {path}");
        let part = clone_of(CWD, path).while_(doing())?;
        attach_at(part.as_fd(), path).while_(doing())?;
        rustix::mount::mount_remount(path, read_only, "").while_(doing())?;
    }
    for path in HIDDEN.into_iter().filter(|path| Path::new(path).exists()) {
        let null = clone_at(&devices[0]).while_(format!("hide {path}"))?;
        attach_at(null.as_fd(), path).while_(format!("hide {path}"))?;
    }
    Ok(())
}

fn mount_dev(root: BorrowedFd<'_>, devices: &[OwnedFd], order: &Order) -> Result<(), Failure> {
    let doing = "fill its /dev";
    let nosuid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    // What is bound into it works by its own mount; what a command makes there is no device.
    let closed = nosuid | MountAttrFlags::MOUNT_ATTR_NODEV;
    let dev = new("tmpfs", &[("mode", "755"), ("size", "128m")], closed).while_("make its /dev")?;
    attach(&dev, root, "dev").while_("mount its /dev")?;
    for (name, device) in DEVICES.iter().zip(devices) {
        write_file(&dev, name, 0o666, b"").while_(doing)?;
        attach(device, dev.as_fd(), name).while_(doing)?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        rustix::fs::symlinkat(target, &dev, name).while_(doing)?;
    }
    for name in ["pts", "shm"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).while_(doing)?;
    }
    let plain = nosuid | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let pts = match new("devpts", &pts, plain) {
        // No such group in this user namespace.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            new("devpts", &pts[..3], plain)
        }
        made => made,
    };
    attach(&pts.while_(doing)?, dev.as_fd(), "pts").while_(doing)?;
    let shm = [("mode", "1777"), ("size", "64m")];
    attach(&new("tmpfs", &shm, plain | MountAttrFlags::MOUNT_ATTR_NODEV).while_(doing)?, dev.as_fd(), "shm")
        .while_(doing)?;
    if let Some(script) = &order.script {
        let name = SCRIPT.trim_start_matches("/dev/");
        write_file(&dev, name, 0o700, script).while_("put the script in place")?;
    }
    if let Some(resolver) = &order.resolver {
        cover_resolver(root, &dev, resolver).while_("mount the resolver's configuration")?;
    }
    Ok(())
}

/// Mounts a file with this content over the tree's resolver configuration, wherever in the tree its links lead.
fn cover_resolver(root: BorrowedFd<'_>, dev: &OwnedFd, content: &[u8]) -> io::Result<()> {
    const NAME: &str = "castoff-resolver";
    write_file(dev, NAME, 0o644, content)?;
    let file = clone_of(dev, NAME)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let place = rustix::fs::openat2(root, "etc/resolv.conf", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    attach_to(file.as_fd(), place.as_fd())?;
    // The name goes, the mounted file stays.
    Ok(rustix::fs::unlinkat(dev, NAME, rustix::fs::AtFlags::empty())?)
}

/// A new mount of a file system, attached nowhere yet.
fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?;
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount that holds this path, with the path as its root.
fn clone_of(folder: impl AsFd, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(folder, path, flags)?)
}

fn clone_at(mount: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(mount, "", flags)?)
}

/// Attaches a mount to an entry of `folder` that is not a link.
fn attach(mount: &OwnedFd, folder: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let place = rustix::fs::openat2(folder, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    attach_to(mount.as_fd(), place.as_fd())
}

fn attach_to(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", place, "", flags)?)
}

fn attach_at(mount: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The flags of a mount, which a remount replaces as a whole.
fn flags_of(mount: &OwnedFd) -> Result<MountFlags, Failure> {
    use rustix::fs::StatVfsMountFlags as Told;
    let told = rustix::fs::fstatvfs(mount).while_("look at the tree's mount")?.f_flag;
    let pairs = [
        (Told::RDONLY, MountFlags::RDONLY),
        (Told::NOSUID, MountFlags::NOSUID),
        (Told::NODEV, MountFlags::NODEV),
        (Told::NOEXEC, MountFlags::NOEXEC),
        (Told::NOATIME, MountFlags::NOATIME),
        (Told::NODIRATIME, MountFlags::NODIRATIME),
        (Told::RELATIME, MountFlags::RELATIME),
    ];
    Ok(pairs.iter().filter(|(flag, _)| told.contains(*flag)).fold(MountFlags::empty(), |all, (_, flag)| all | *flag))
}

fn write_file(folder: &OwnedFd, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode))?;
    // The umask of whoever started castoff must not decide.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    io::Write::write_all(&mut std::fs::File::from(file), content)
}
