//! Why this machine refuses namespaces: the setting is named, where one can be found.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use rustix::thread::CapabilitySet;

use super::ids::Ids;
use crate::error::{Error, Kind, kind_of_io};
use crate::host::fs;

/// The failure of a stage, with the setting that most likely made it.
pub(super) fn explain(doing: &str, cause: &str, code: Option<i32>, ids: &Ids) -> Error {
    let source = code.map(io::Error::from_raw_os_error);
    let kind = source.as_ref().map_or(Kind::Failed, kind_of_io);
    let error =
        |kind| Error::new(kind, format!("cannot start a worker: it cannot {doing}")).caused_by(cause.to_owned());
    match code.and_then(|code| reason(code, doing, ids)) {
        Some((what, hint)) => {
            Error::new(Kind::Unsupported, format!("cannot start a worker: {what}")).hint(hint).caused_by(error(kind))
        }
        None => error(kind),
    }
}

/// What is in the way, and what to do about it.
fn reason(code: i32, doing: &str, ids: &Ids) -> Option<(String, String)> {
    let errno = rustix::io::Errno::from_raw_os_error(code);
    if errno == rustix::io::Errno::NOSPC || errno == rustix::io::Errno::USERS {
        for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
            let name = format!("user.max_{kind}_namespaces");
            if setting(&name) == Some(0) {
                return Some((format!("the kernel setting `{name}` is 0"), format!("as root: `sysctl {name}=10000`")));
            }
        }
        let what = "there are too many namespaces, or user namespaces are nested too deep (32 is the most)";
        return Some((what.to_owned(), "run castoff outside of this container, or end other ones".to_owned()));
    }
    if errno != rustix::io::Errno::PERM && errno != rustix::io::Errno::ACCESS {
        return None;
    }
    if doing.contains("/proc") {
        let what = "parts of `/proc` are masked here, so the kernel lets nobody mount a new one in a user namespace";
        let hint =
            "start the container with `--security-opt systempaths=unconfined` (Kubernetes: `procMount: Unmasked`)";
        return Some((what.to_owned(), hint.to_owned()));
    }
    if !ids.need_user_namespace() {
        return forbidden_by_filter();
    }
    for (name, wrong, right) in [
        ("user.max_user_namespaces", 0, 10000),
        ("kernel.unprivileged_userns_clone", 0, 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),
    ] {
        if setting(name) == Some(wrong) {
            let what = format!("the kernel setting `{name}` is {wrong}: it forbids user namespaces");
            return Some((what, format!("as root: `sysctl {name}={right}`, or run castoff as root")));
        }
    }
    forbidden_by_filter().or_else(|| {
        let what = "the kernel forbids user namespaces to this process; it is in a chroot perhaps";
        Some((what.to_owned(), "run castoff as root, or outside of the chroot or container".to_owned()))
    })
}

/// Container engines filter system calls; the kernel then answers without any setting in the way.
fn forbidden_by_filter() -> Option<(String, String)> {
    let status = fs::read_text(Path::new("/proc/self/status")).ok()?;
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?.trim();
    (mode == "2").then(|| {
        let what = "a seccomp filter, a container engine's most likely, forbids namespaces or mounts";
        // One at a time they would be found out one at a time.
        let hint = "start the container with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, \
                    or with `--privileged`";
        (what.to_owned(), hint.to_owned())
    })
}

/// Why `newuidmap` or `newgidmap` (kind `uid` or `gid`) could not give the subordinate ids.
pub(super) fn of_ids(program: &Path, kind: &str) -> Error {
    let (shown, capability) = (program.display(), format!("SET{}", kind.to_uppercase()));
    let (what, hint) = if rustix::thread::no_new_privs().unwrap_or(false) {
        (
            "`no_new_privs` is set for castoff, so no program gets rights of its own".to_owned(),
            "start the container without `--security-opt no-new-privileges` (a unit of systemd: without \
             `NoNewPrivileges=`), or run castoff as root"
                .to_owned(),
        )
    } else if rustix::fs::statvfs(program).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::NOSUID)) {
        ("its file system is mounted with `nosuid`".to_owned(), "mount it without, or run castoff as root".to_owned())
    } else if !may_have(if kind == "uid" { CapabilitySet::SETUID } else { CapabilitySet::SETGID }) {
        (format!("this container lacks the capability {capability}"), format!("start it with `--cap-add {capability}`"))
    } else if !may_have(CapabilitySet::SYS_ADMIN) && is_setuid(program) {
        (
            "as a setuid program it needs the capability SYS_ADMIN, which this container lacks".to_owned(),
            format!(
                "with a file capability it does not: in the image of the container, as root, `chmod u-s {shown} && \
                 setcap cap_set{kind}+ep {shown}`"
            ),
        )
    } else {
        (
            "it refuses".to_owned(),
            "it must be setuid root or have the file capability (reinstall the package `uidmap`), and `/etc/subuid` and \
             `/etc/subgid` must name this user"
                .to_owned(),
        )
    };
    Error::new(Kind::Unsupported, format!("`{shown}` cannot give this user the ids of `/etc/sub{kind}`: {what}"))
        .hint(hint)
}

/// Whether a program with rights of its own could have this capability here (the bounding set).
fn may_have(capability: CapabilitySet) -> bool {
    rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(true)
}

fn is_setuid(program: &Path) -> bool {
    fs::metadata(program).is_ok_and(|it| it.is_some_and(|it| it.mode() & 0o4000 != 0))
}

fn setting(name: &str) -> Option<u64> {
    // Not every kernel has every one.
    fs::read_text(&Path::new("/proc/sys").join(name.replace('.', "/"))).ok()?.trim().parse().ok()
}
