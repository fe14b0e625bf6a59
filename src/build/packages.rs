//! Packages into a tree that has an apt: fetched once on the host, installed without the network.
//!
//! The archive that a tree was bootstrapped from is known: its lists lie on the host, the host's apt fetches what is
//! missing into a pool that all builds share and no step can write to, and the tree's apt installs from there. A tree
//! with other sources asks them itself, and nothing of that gets into the pool.

use std::collections::BTreeSet;
use std::path::Path;

use super::action::{Doing, succeeded};
use super::inside::Inside;
use super::order::ArchiveHome;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::plan::PackageName;
use crate::progress::Progress;
use crate::sandbox::Sandbox;

/// Where the tree sees lists and packages while it installs.
const LISTS: &str = "/var/lib/apt/lists";
const ARCHIVES: &str = "/var/cache/apt/archives";

/// Installs packages with what they depend on; whether they came from archives that nobody knows.
pub(super) fn install(doing: &Doing<'_>, install: &[PackageName], recommends: Option<bool>) -> Result<bool> {
    if install.is_empty() {
        return Ok(false);
    }
    let inside = Inside::open(doing.tree)?;
    if inside.find("/usr/bin/apt-get", rustix::fs::OFlags::PATH)?.is_none() {
        return Err(Error::new(Kind::Unsupported, "the image has no apt-get: packages cannot be installed in it")
            .hint("begin with a variant that has apt, or name the packages where the image is bootstrapped"));
    }
    let names: Vec<String> = install.iter().map(|name| name.as_str().to_owned()).collect();
    if let Some(archive) = doing.archive
        && same_sources(&inside, archive)?
    {
        let fetched = doing.place.join("archives");
        if fetch(doing, archive, &inside, &fetched, &names, recommends)?
            && from_pool(doing, archive, &fetched, &names, recommends)?
        {
            return Ok(false);
        }
    }
    from_the_tree(doing, &names, recommends)?;
    Ok(true)
}

/// Whether the tree's sources are still those it was bootstrapped from.
fn same_sources(inside: &Inside, archive: &ArchiveHome) -> Result<bool> {
    let own = fs::read_at_most(&archive.folder.join("sources.list"), 1 << 20)?;
    if inside.read("/etc/apt/sources.list")?.is_none_or(|text| text != own) {
        return Ok(false);
    }
    let more = inside.find("/etc/apt/sources.list.d", rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY)?;
    Ok(match more {
        Some(folder) => super::inside::names_in(&folder)?.is_empty(),
        None => true,
    })
}

/// Lets the host's apt fetch what the tree lacks; whether it could.
fn fetch(
    doing: &Doing<'_>,
    archive: &ArchiveHome,
    inside: &Inside,
    into: &Path,
    names: &[String],
    recommends: Option<bool>,
) -> Result<bool> {
    let Some(status) = inside.read("/var/lib/dpkg/status")? else { return Ok(false) };
    let own = doing.place.join("apt");
    for folder in [&own, into, &into.join("partial")] {
        fs::create_dir_all(folder, 0o755)?;
    }
    fs::write_unsynced(&own.join("status"), 0o644, &status)?;
    let mut command = super::archives::apt_get(&archive.folder, &archive.architecture, &archive.settings);
    let mut option = |text: String| command.extend(["-o".to_owned(), text]);
    option(format!("Dir::State::status={}", own.join("status").display()));
    option(format!("Dir::Cache::archives={}/", into.display()));
    option("Debug::NoLocking=1".to_owned());
    option(format!("APT::Install-Recommends={}", recommends.unwrap_or(true)));
    take_from_pool(archive, into)?;
    command.extend(["-y", "-q", "--download-only", "install", "--"].map(str::to_owned));
    command.extend_from_slice(names);
    let host = Sandbox::of_host()
        .cancel(doing.cancel)
        .network(true)
        .no_sync(true)
        .variable("APT_CONFIG", archive.folder.join("apt.conf").display().to_string());
    let report = host.run(&command, doing.progress)?;
    if report.exit != 0 {
        // Whether the package is unknown or the tree's apt knows better, its own words say.
        doing.progress.warn(format!("the host's apt cannot fetch {}: the image's own does", names.join(" ")));
        return Ok(false);
    }
    give_to_pool(archive, into)?;
    Ok(true)
}

/// Links every package of the pool to where apt looks for it.
pub(super) fn take_from_pool(archive: &ArchiveHome, into: &Path) -> Result<()> {
    for name in fs::list(&archive.pool)? {
        if name.to_string_lossy().ends_with(".deb") {
            link(&archive.pool.join(&name), &into.join(&name))?;
        }
    }
    Ok(())
}

/// Takes packages into the pool whose bytes the archive's signed lists name, and no others: what steps could write to is
/// not trusted, and apt itself looks at nothing but the size of what it finds.
pub(super) fn give_to_pool(archive: &ArchiveHome, from: &Path) -> Result<()> {
    let known: BTreeSet<std::ffi::OsString> = fs::list(&archive.pool)?.into_iter().collect();
    let is_new = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".deb") && !known.contains(name);
    let new: Vec<std::ffi::OsString> = fs::list(from)?.into_iter().filter(is_new).collect();
    if new.is_empty() {
        return Ok(());
    }
    let listed = super::archives::listed_digests(&archive.folder.join("lists"))?;
    for name in new {
        let path = from.join(&name);
        if fs::link_metadata(&path)?.is_some_and(|metadata| metadata.is_file())
            && listed.contains(&super::archives::sha256_of(&path)?)
        {
            let copy = archive.pool.join(format!(".castoff-{}-{}.tmp", std::process::id(), name.to_string_lossy()));
            fs::remove_file(&copy)?;
            std::io::copy(&mut fs::open(&path)?, &mut fs::create_in_place(&copy, false)?)
                .context(|| format!("cannot copy `{}`", path.display()))?;
            if listed.contains(&super::archives::sha256_of(&copy)?) {
                rustix::fs::rename(&copy, archive.pool.join(&name)).context(|| "cannot keep a package")?;
            } else {
                fs::remove_file(&copy)?;
            }
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::link(from, to) {
        // Somebody else was faster.
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => crate::error::Context::context(Err(error), || {
            format!("cannot link `{}` to `{}`", from.display(), to.display())
        }),
    }
}

fn apt_install(names: &[String], recommends: Option<bool>, more: &[&str]) -> Vec<String> {
    let mut command: Vec<String> = ["apt-get", "-y", "-q"].map(str::to_owned).to_vec();
    let options =
        ["Dpkg::Use-Pty=0", "Dpkg::Options::=--force-confnew", "Dpkg::Options::=--force-unsafe-io", "APT::Color=0"];
    for option in options.iter().chain(more) {
        command.extend(["-o".to_owned(), (*option).to_owned()]);
    }
    if let Some(recommends) = recommends {
        command.extend(["-o".to_owned(), format!("APT::Install-Recommends={recommends}")]);
    }
    command.extend(["install".to_owned(), "--".to_owned()]);
    command.extend_from_slice(names);
    command
}

fn apt_sandbox(doing: &Doing<'_>) -> Sandbox {
    // A file system without overlays would wait for its disk at every file that dpkg writes.
    doing
        .sandbox()
        .no_sync(true)
        .variable("DEBIAN_FRONTEND", "noninteractive")
        .variable("DEBCONF_NONINTERACTIVE_SEEN", "true")
}

fn from_pool(
    doing: &Doing<'_>,
    archive: &ArchiveHome,
    fetched: &Path,
    names: &[String],
    recommends: Option<bool>,
) -> Result<bool> {
    let sandbox = apt_sandbox(doing).bind(archive.folder.join("lists"), LISTS, true).bind(fetched, ARCHIVES, true);
    let more = [
        "Debug::NoLocking=1",
        "Dir::Cache::pkgcache=",
        "Dir::Cache::srcpkgcache=",
        "APT::Keep-Downloaded-Packages=true",
    ];
    let mut command = apt_install(names, recommends, &more);
    command.insert(1, "--no-download".to_owned());
    // The image's own pins and settings may want something else than the host's apt has fetched.
    let mut trial = command.clone();
    trial.insert(1, "--download-only".to_owned());
    let tried = sandbox.run(&trial, &Progress::silent())?;
    if tried.exit != 0 {
        doing.progress.warn("the image's apt wants other packages than the host's: it asks for them itself".to_owned());
        return Ok(false);
    }
    succeeded(&sandbox.run(&command, doing.progress)?, || format!("install {}", names.join(" ")))?;
    Ok(true)
}

fn from_the_tree(doing: &Doing<'_>, names: &[String], recommends: Option<bool>) -> Result<()> {
    let update = ["apt-get", "-q", "-o", "APT::Color=0", "update"].map(str::to_owned);
    let report = apt_sandbox(doing).network(true).run(&update, doing.progress)?;
    succeeded(&report, || "apt-get update".to_owned())?;
    let command = apt_install(names, recommends, &[]);
    let report = apt_sandbox(doing).network(true).run(&command, doing.progress)?;
    succeeded(&report, || format!("install {}", names.join(" ")))
}
