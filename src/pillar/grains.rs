//! Facts about this host, in the names Salt has for them, and who it is.
//!
//! | grain | from |
//! |---|---|
//! | `id` | the minion id |
//! | `host`, `nodename`, `localhost`, `domain`, `fqdn` | the host's name, and /etc/hosts for its full one; DNS is not asked |
//! | `os`, `os_family`, `osfullname`, `osrelease`, `osmajorrelease`, `oscodename` | /etc/os-release |
//! | `kernel`, `kernelrelease`, `cpuarch` | uname |
//! | `virtual`, `virtual_subtype` | `container` and `LXC` or `Docker` in a container, else `physical` (other kinds are not told apart) |
//! | `makina.lxc`, `makina.devhost` | whether this is an LXC container, a developer's machine (/etc/makina-states/nodetype) |
//!
//! An operator's file of grains wins over what is detected, `makina.lxc` and `makina.devhost` too.

use std::path::Path;

use super::Files;
use crate::config::Config;
use crate::document;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::vocab::{Key, Map, MinionId, Value};

/// Where Salt keeps a minion's id.
const SALT_MINION_ID: &str = "/etc/salt/minion_id";

/// What this host is.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its minion id.
    pub id: MinionId,
    /// Its grains.
    pub grains: Value,
}

impl Host {
    /// Looks at this host.
    pub fn detect(config: &Config, files: &dyn Files) -> Result<Self> {
        let name = host::process::host_name()?;
        let full_name = full_name(&name, files.text(Path::new("/etc/hosts"))?.as_deref().unwrap_or_default());
        let id = minion_id(config, &full_name, files)?;
        let mut grains = Map::new();
        let mut put = |key: &str, value: Value| {
            grains.insert(Key::from(key), value);
        };
        put("id", id.as_str().into());
        put("nodename", name.as_str().into());
        put("localhost", name.as_str().into());
        put("host", full_name.split('.').next().unwrap_or_default().into());
        put("domain", full_name.split_once('.').map_or("", |(_, domain)| domain).into());
        put("fqdn", full_name.as_str().into());
        let release = match files.text(Path::new("/etc/os-release"))? {
            Some(text) => Some(text),
            None => files.text(Path::new("/usr/lib/os-release"))?,
        };
        for (key, value) in operating_system(release.as_deref().unwrap_or_default()) {
            put(key, value);
        }
        let uname = rustix::system::uname();
        put("kernel", uname.sysname().to_string_lossy().into_owned().into());
        put("kernelrelease", uname.release().to_string_lossy().into_owned().into());
        put("cpuarch", uname.machine().to_string_lossy().into_owned().into());
        let container = Container::detect()?;
        put("virtual", if container == Container::None { "physical" } else { "container" }.into());
        match container {
            Container::None => {}
            Container::Lxc => put("virtual_subtype", "LXC".into()),
            Container::Docker => put("virtual_subtype", "Docker".into()),
        }
        put("makina.lxc", Value::from(container == Container::Lxc));
        let node_type = files.text(Path::new("/etc/makina-states/nodetype"))?;
        let is_devhost = node_type.is_some_and(|text| matches!(text.trim(), "vagrantvm" | "devhost"));
        put("makina.devhost", Value::from(is_devhost));
        if let Some(path) = &config.grains {
            grains.extend(given(path, files)?);
        }
        Ok(Self { id, grains: Value::Map(grains) })
    }
}

/// An operator's grains.
fn given(path: &Path, files: &dyn Files) -> Result<Map> {
    let shown = path.display().to_string();
    let Some(text) = files.text(path)? else {
        return Err(Error::new(Kind::NotFound, format!("the file of grains `{shown}` is not there"))
            .hint("it is named by `grains` (CASTOFF_GRAINS); `castoff config` shows where that was said"));
    };
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let value = if is_json { document::parse_json(&text, &shown) } else { document::parse(&text, &shown) }?;
    match value {
        Value::Null => Ok(Map::new()),
        Value::Map(map) => Ok(map),
        other => Err(Error::new(
            Kind::Usage,
            format!("{shown}:1:1: a map of grains is expected, not a {}", other.type_name()),
        )),
    }
}

fn minion_id(config: &Config, full_name: &str, files: &dyn Files) -> Result<MinionId> {
    if let Some(id) = &config.minion_id {
        return Ok(id.clone());
    }
    let (text, whence) = match files.text(Path::new(SALT_MINION_ID))? {
        Some(text) => (text.trim().to_owned(), SALT_MINION_ID),
        None => (full_name.to_owned(), "the host's name"),
    };
    text.parse::<MinionId>()
        .context(|| format!("the id of this host cannot be taken from {whence}"))
        .map_err(|error| error.hint("set `minion_id` (CASTOFF_MINION_ID)"))
}

/// The host's name with its domain: the first name of the line of /etc/hosts that knows it.
fn full_name(name: &str, hosts: &str) -> String {
    if name.contains('.') {
        return name.to_owned();
    }
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let known = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        let names: Vec<&str> = words.collect();
        (names.contains(&name) && address.parse::<std::net::IpAddr>().is_ok()).then_some(names)
    });
    // As with `hostname -f`, a full name is one with a dot.
    let full = known.flatten().find(|full| full.split_once('.').is_some_and(|(first, _)| first == name));
    full.unwrap_or(name).to_owned()
}

/// What /etc/os-release says, in Salt's grains.
fn operating_system(release: &str) -> Vec<(&'static str, Value)> {
    let field = |wanted: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix('='))?;
        let line = line.trim();
        let bare = line.strip_prefix('"').and_then(|line| line.strip_suffix('"'));
        Some(bare.or_else(|| line.strip_prefix('\'')?.strip_suffix('\'')).unwrap_or(line).to_owned())
    };
    let Some(name) = field("NAME") else { return Vec::new() };
    let os = match name.as_str() {
        "Debian GNU/Linux" => "Debian".to_owned(),
        "Rocky Linux" => "Rocky".to_owned(),
        "Alpine Linux" => "Alpine".to_owned(),
        "Arch Linux" => "Arch".to_owned(),
        "Red Hat Enterprise Linux" => "RedHat".to_owned(),
        other => other.to_owned(),
    };
    let kin = format!(" {} {} ", field("ID").unwrap_or_default(), field("ID_LIKE").unwrap_or_default());
    let families = [("debian", "Debian"), ("rhel", "RedHat"), ("fedora", "RedHat"), ("suse", "Suse"), ("arch", "Arch")];
    let family =
        families.iter().find(|(word, _)| kin.contains(&format!(" {word} "))).map_or(os.as_str(), |found| found.1);
    let version = field("VERSION_ID").unwrap_or_default();
    let major = version.split('.').next().unwrap_or_default();
    vec![
        ("os_family", Value::from(family)),
        ("osfullname", Value::from(name)),
        ("osmajorrelease", major.parse::<i64>().map_or_else(|_| Value::from(major), Value::from)),
        ("osrelease", Value::from(version)),
        ("oscodename", Value::from(field("VERSION_CODENAME").unwrap_or_default())),
        ("os", Value::from(os)),
    ]
}

/// What kind of container this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    None,
    Lxc,
    /// Docker, or what else runs its images.
    Docker,
}

impl Container {
    fn detect() -> Result<Self> {
        let file = |path: &str| -> Result<String> {
            let path = Path::new(path);
            match host::fs::read(path) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                // Another user's environment: only root is told, and what the others are told is enough for them.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Refused) => Ok(String::new()),
                Err(error) => Err(error),
            }
        };
        let marked = host::fs::exists(Path::new("/.dockerenv"))? || host::fs::exists(Path::new("/run/.containerenv"))?;
        Ok(Self::of(marked, &file("/proc/1/cgroup")?, &file("/proc/1/environ")?, &file("/run/systemd/container")?))
    }

    /// The kind that a docker mark, the control group and environment of process 1, and systemd's word tell.
    fn of(marked: bool, cgroup: &str, environment: &str, systemd: &str) -> Self {
        let groups = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let of_engine =
            |group: &str| ["docker", "libpod", "kubepods", "containerd"].iter().any(|word| group.contains(word));
        if marked || groups().any(of_engine) {
            return Self::Docker;
        }
        // systemd puts process 1 of a host into `/init.scope`.
        let apart = groups().any(|group| group != "/" && group.trim_end_matches('/') != "/init.scope");
        let told = environment.split('\0').any(|variable| variable == "container=lxc") || systemd.trim() == "lxc";
        if apart || told { Self::Lxc } else { Self::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lxc_container_is_told_from_a_host_and_from_docker() {
        for (marked, cgroup, environment, systemd, kind) in [
            (false, "0::/\n", "", "", Container::None),
            (false, "0::/init.scope\n", "", "", Container::None),
            (false, "1:name=systemd:/init.scope\n0::/init.scope\n", "HOME=/\0", "", Container::None),
            (false, "12:pids:/lxc/web\n", "", "", Container::Lxc),
            (false, "0::/lxc.payload.web/init.scope\n", "", "", Container::Lxc),
            (false, "0::/init.scope\n", "PATH=/bin\0container=lxc\0", "", Container::Lxc),
            (false, "0::/init.scope\n", "", "lxc\n", Container::Lxc),
            (true, "0::/\n", "container=lxc\0", "", Container::Docker),
            (false, "4:cpu:/docker/0123\n", "", "", Container::Docker),
        ] {
            assert_eq!(Container::of(marked, cgroup, environment, systemd), kind, "{cgroup:?} {environment:?}");
        }
    }

    #[test]
    fn the_full_name_is_the_one_of_etc_hosts() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 web.example.net web # here\n::1 ip6-localhost\n";
        for (name, full) in [("web", "web.example.net"), ("db", "db"), ("a.b", "a.b"), ("localhost", "localhost")] {
            assert_eq!(full_name(name, hosts), full);
        }
    }

    /// Right sides by Salt 3008 on these systems.
    #[test]
    fn os_release_becomes_salts_grains() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let ubuntu = "NAME=\"Ubuntu\"\nVERSION_ID=\"18.04\"\nID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=bionic\n";
        for (text, os, family, release, major, name) in
            [(debian, "Debian", "Debian", "12", 12, "bookworm"), (ubuntu, "Ubuntu", "Debian", "18.04", 18, "bionic")]
        {
            let grains = Value::map(operating_system(text));
            let text = |key: &str| grains.get(key).and_then(Value::as_str).map(str::to_owned);
            assert_eq!(text("os").as_deref(), Some(os));
            assert_eq!(text("os_family").as_deref(), Some(family));
            assert_eq!(text("osrelease").as_deref(), Some(release));
            assert_eq!(text("oscodename").as_deref(), Some(name));
            assert_eq!(grains.get("osmajorrelease"), Some(&Value::from(major)));
        }
    }
}
