//! LXC containers as the host keeps them: a directory with a `config` and, mostly, a `rootfs`.
//!
//! ```text
//! /var/lib/lxc/NAME/config      key = value lines (lxc.container.conf(5)); lxc.rootfs.path may point elsewhere
//! /var/lib/lxc/NAME/rootfs/     the tree of a container on a plain directory
//! ```
//!
//! Reads only; starts, stops and mounts nothing. Tells whether a container runs without LXC being installed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::vocab::nearest;

/// Where LXC keeps containers unless it was told otherwise.
pub const DEFAULT_LXC_PATH: &str = "/var/lib/lxc";

/// The most bytes a container's configuration may have.
const CONFIG_LIMIT: u64 = 4 << 20;

/// A container that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LxcContainer {
    /// Its name; the name of its directory.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Its root filesystem.
    pub rootfs: PathBuf,
    /// The text of its configuration: `IdMap::parse_lxc_config` reads the id map out of it.
    pub config: String,
    /// Files that the configuration includes; they are not read.
    pub includes: Vec<String>,
}

impl LxcContainer {
    /// The container of this name below `lxc_path`.
    pub fn find(name: &str, lxc_path: &Path) -> Result<Self> {
        check_name(name)?;
        let directory = lxc_path.join(name);
        if !fs::metadata(&directory.join("config"))?.is_some_and(|metadata| metadata.is_file()) {
            return Err(not_found(name, lxc_path));
        }
        Self::read(name, directory)
    }

    /// The container whose root filesystem this directory is: one with a `config` beside a folder named `rootfs`.
    pub fn of_rootfs(rootfs: &Path) -> Result<Option<Self>> {
        let rootfs = fs::absolute(rootfs)?;
        let directory = fs::parent(&rootfs);
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if rootfs.file_name().is_none_or(|last| last != "rootfs")
            || check_name(name).is_err()
            || !fs::metadata(&directory.join("config"))?.is_some_and(|metadata| metadata.is_file())
        {
            return Ok(None);
        }
        let container = Self { rootfs: rootfs.clone(), ..Self::read(name, directory.to_owned())? };
        Ok(Some(container))
    }

    fn read(name: &str, directory: PathBuf) -> Result<Self> {
        let path = directory.join("config");
        let config = String::from_utf8(fs::read_at_most(&path, CONFIG_LIMIT)?).map_err(|error| {
            Error::new(Kind::Corrupt, format!("`{}` is not UTF-8", path.display())).caused_by(error)
        })?;
        let rootfs = match last(&config, &["lxc.rootfs.path", "lxc.rootfs"]) {
            Some(value) => directory_of(&value, name)?,
            None => directory.join("rootfs"),
        };
        let includes = values(&config, &["lxc.include"]).collect();
        Ok(Self { name: name.to_owned(), directory, rootfs, config, includes })
    }

    /// The root filesystem, which must be a directory.
    pub fn existing_rootfs(&self) -> Result<&Path> {
        match fs::metadata(&self.rootfs)? {
            Some(metadata) if metadata.is_dir() => Ok(&self.rootfs),
            _ => Err(Error::new(
                Kind::NotFound,
                format!("the container `{}` has no root filesystem at `{}`", self.name, self.rootfs.display()),
            )
            .hint(format!("see lxc.rootfs.path in `{}`", self.directory.join("config").display()))),
        }
    }

    /// Whether it runs, or anything else does inside its root filesystem.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.running()?.is_some())
    }

    /// What shows that it runs, in words; none when nothing does.
    pub fn running(&self) -> Result<Option<String>> {
        let sockets = fs::read("/proc/net/unix".as_ref())?;
        let command = self.directory.join("command");
        if has_command_socket(&sockets, &command) {
            return Ok(Some(format!("its monitor listens on `@{}`", command.display())));
        }
        let rootfs = fs::metadata(&self.rootfs)?.map(|metadata| (metadata.dev(), metadata.ino()));
        for process in fs::list("/proc".as_ref())? {
            let Some(process) = process.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
                continue;
            };
            if let Some(evidence) = self.evidence_of(process, rootfs) {
                return Ok(Some(evidence));
            }
        }
        Ok(None)
    }

    /// What one process shows. It may end at any moment, and another user's hides its root: neither is a failure.
    fn evidence_of(&self, process: &str, rootfs: Option<(u64, u64)>) -> Option<String> {
        let folder = PathBuf::from(format!("/proc/{process}"));
        if let Ok(title) = fs::read(&folder.join("cmdline"))
            && is_monitor_of(&title, &self.directory)
        {
            return Some(format!("process {process} is its monitor"));
        }
        if let Ok(groups) = fs::read(&folder.join("cgroup"))
            && is_in_payload(&String::from_utf8_lossy(&groups), &self.name)
        {
            return Some(format!("process {process} is in its cgroup"));
        }
        // The trailing slash follows the link: what counts is the directory, whatever path leads to it.
        if let Ok(Some(root)) = fs::metadata(&folder.join("root/"))
            && Some((root.dev(), root.ino())) == rootfs
        {
            return Some(format!("process {process} has it as its root"));
        }
        None
    }
}

fn not_found(name: &str, lxc_path: &Path) -> Error {
    let error = Error::new(Kind::NotFound, format!("there is no LXC container `{name}` in `{}`", lxc_path.display()));
    let names: Vec<String> = fs::list(lxc_path)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| entry.into_string().ok())
        .filter(|entry| fs::exists(&lxc_path.join(entry).join("config")).unwrap_or(false))
        .collect();
    match nearest(name, names.iter().map(String::as_str)).as_slice() {
        [] => error.hint("`lxc-ls` lists the containers of this host; for a bare directory give `rootfs=PATH`"),
        near => error.hint(format!(
            "did you mean {}?",
            near.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// A name is one plain folder name: it becomes part of a path.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let valid = (1..=200).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && !name.contains("..");
    if valid {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("`{}` is not the name of an LXC container", name.escape_debug()))
        .hint("names begin with a letter or digit and hold letters, digits, `.`, `_` and `-`"))
}

/// The values of a key, which may have an old and a new name, in the order of the file.
fn values<'a>(config: &'a str, keys: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    config.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        let value = value.trim();
        let bare = value.strip_prefix(['"', '\'']).and_then(|rest| rest.strip_suffix(['"', '\''])).unwrap_or(value);
        keys.contains(&key.trim()).then(|| bare.to_owned())
    })
}

/// The value that holds: the last one, unless it is empty (which resets the key).
fn last(config: &str, keys: &[&str]) -> Option<String> {
    values(config, keys).last().filter(|value| !value.is_empty())
}

/// The directory a value of `lxc.rootfs.path` means: `PATH` or `dir:PATH`.
fn directory_of(value: &str, name: &str) -> Result<PathBuf> {
    let unsupported = |kind: &str| {
        Error::new(
            Kind::Unsupported,
            format!(
                "the root filesystem of the container `{name}` is `{value}`, which is not a plain directory ({kind})"
            ),
        )
        .hint(
            "mount it and give its path as `rootfs=PATH`, or copy the container to a directory with `lxc-copy -B dir`",
        )
    };
    let path = match value.split_once(':') {
        Some(("dir", path)) => path,
        Some((kind, _)) if !kind.contains('/') => return Err(unsupported(kind)),
        _ => value,
    };
    if !path.starts_with('/') {
        return Err(Error::new(Kind::Usage, format!("lxc.rootfs.path of the container `{name}` is `{value}`"))
            .hint("it must be an absolute path"));
    }
    if path.starts_with("/dev/") {
        return Err(unsupported("a block device"));
    }
    Ok(path.into())
}

/// A monitor's abstract socket is `@LXCPATH/NAME/command` (`lxc_make_abstract_socket_name`).
fn has_command_socket(sockets: &[u8], command: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let wanted = [b" @", command.as_os_str().as_bytes()].concat();
    sockets.split(|byte| *byte == b'\n').any(|line| line.ends_with(&wanted))
}

/// A monitor calls itself `[lxc monitor] LXCPATH NAME`.
fn is_monitor_of(title: &[u8], directory: &Path) -> bool {
    let (Some(lxc_path), Some(name)) = (directory.parent(), directory.file_name()) else { return false };
    let wanted = format!("[lxc monitor] {} {}", lxc_path.display(), name.to_string_lossy());
    let end = title.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |at| at + 1);
    &title[..end] == wanted.as_bytes()
}

/// Whether a cgroup path of `/proc/PID/cgroup` is of the container: `lxc.payload.NAME`, `lxc.monitor.NAME`
/// (both with `-N` where the name was taken), or `lxc/NAME` before LXC 4.
fn is_in_payload(groups: &str, name: &str) -> bool {
    groups.lines().any(|line| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        let mut before = "";
        path.split('/').any(|part| {
            let own =
                part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("lxc.monitor.")).unwrap_or_default();
            let rest = own.strip_prefix(name);
            let serial = rest.and_then(|rest| rest.strip_prefix('-'));
            let found = rest == Some("")
                || serial.is_some_and(|digits| digits.len() < 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
                || (before == "lxc" && part == name);
            before = part;
            found
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for name in ["", ".", "..", "a/../b", "/etc", "a/b", "-x", "_x", "a b", "a\n", "é", "a..b", &"a".repeat(300)] {
            assert_eq!(check_name(name).unwrap_err().kind(), Kind::Usage, "{name:?}");
        }
        for name in ["a", "makina-states-bionic", "web.example.org", "9_x"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn the_last_root_path_of_a_config_holds_in_every_spelling() {
        let table = [
            ("lxc.rootfs.path = dir:/srv/a\n", Some("/srv/a")),
            ("lxc.rootfs = /srv/old\nlxc.rootfs.path=/srv/new\n", Some("/srv/new")),
            ("# lxc.rootfs.path = /no\n  lxc.rootfs.path = \"/srv/q\"\n", Some("/srv/q")),
            ("lxc.rootfs.path = /a\nlxc.rootfs.path =\n", None),
            ("lxc.rootfs.options = x\n", None),
        ];
        for (config, expected) in table {
            let path = last(config, &["lxc.rootfs.path", "lxc.rootfs"]).map(|value| directory_of(&value, "n").unwrap());
            assert_eq!(path.as_deref(), expected.map(Path::new), "{config}");
        }
    }

    #[test]
    fn roots_that_are_no_directory_say_so() {
        for value in ["overlay:/a:/b", "overlayfs:/a:/b", "zfs:tank/x", "btrfs:/x", "nbd:/x.img", "/dev/vg/x"] {
            assert_eq!(directory_of(value, "n").unwrap_err().kind(), Kind::Unsupported, "{value}");
        }
        assert_eq!(directory_of("dir:x", "n").unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn a_payload_cgroup_is_only_of_its_own_container() {
        for groups in
            ["0::/lxc.payload.web\n", "0::/lxc.payload.web-1/init.scope\n", "5:cpu:/lxc/web\n", "0::/lxc.monitor.web"]
        {
            assert!(is_in_payload(groups, "web"), "{groups}");
        }
        for groups in
            ["0::/lxc.payload.web2\n", "0::/lxc.payload.web-db\n", "0::/\n", "0::/user/web\n", "0::/lxc/web-1\n"]
        {
            assert!(!is_in_payload(groups, "web"), "{groups}");
        }
    }

    #[test]
    fn a_monitor_is_known_by_socket_and_title() {
        let sockets = b"Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 0 1 1 1 @/var/lib/lxc/web/command\n";
        assert!(has_command_socket(sockets, Path::new("/var/lib/lxc/web/command")));
        assert!(!has_command_socket(sockets, Path::new("/var/lib/lxc/eb/command")));
        assert!(is_monitor_of(b"[lxc monitor] /var/lib/lxc web\0\0", Path::new("/var/lib/lxc/web")));
        assert!(!is_monitor_of(b"[lxc monitor] /var/lib/lxc web2\0", Path::new("/var/lib/lxc/web")));
    }
}
