//! Why this machine refuses namespaces: the setting is named, where one can be found.

use std::io;
use std::path::Path;

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
        let hint = "start the container with `--security-opt seccomp=unconfined` or `--privileged`";
        (what.to_owned(), hint.to_owned())
    })
}

fn setting(name: &str) -> Option<u64> {
    // Not every kernel has every one.
    fs::read_text(&Path::new("/proc/sys").join(name.replace('.', "/"))).ok()?.trim().parse().ok()
}
