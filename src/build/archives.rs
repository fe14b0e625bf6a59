//! Archives of packages as the host's apt sees them: fetched once for all builds, younger than `build.archive_ttl`.
//!
//! ```text
//! STATE/archives/
//!   lock                     flock: one at a time looks at archives
//!   HEX/sources.list         where this one's packages come from; HEX is the digest of that and the architecture
//!   HEX/lists/ status        what `apt-get update` works on
//!   HEX/fetched              when, in seconds since 1970, and which state that gave
//!   HEX/states/DIGEST/       lists as they were then, never changed: builds under way go on with theirs
//!   HEX/pool/NAME.deb        packages whose bytes the signed lists name
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::order::ArchiveHome;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fs, process};
use crate::plan::{ArchiveFact, Bootstrap};
use crate::progress::{Cancel, Progress};
use crate::vocab::Digest;

/// The most bytes of an `InRelease`.
const LIMIT: u64 = 16 << 20;

/// The archives of a state folder.
pub(super) struct Archives {
    root: PathBuf,
}

/// An archive that was looked at.
pub(super) struct Known {
    pub(super) fact: ArchiveFact,
    pub(super) home: ArchiveHome,
}

impl Archives {
    pub(super) fn of(state: &Path) -> Self {
        Self { root: state.join("archives") }
    }

    /// What was known last of the archive that a suite comes from; none if it was never looked at.
    pub(super) fn known(&self, bootstrap: &Bootstrap) -> Result<Option<Known>> {
        let own = self.folder(bootstrap);
        if !fs::exists(&own.join("fetched"))? {
            return Ok(None);
        }
        let text = fs::read_text(&own.join("fetched"))?;
        let Some((fetched, state)) = text.trim().split_once(' ') else { return Ok(None) };
        let (Ok(fetched), Ok(state)) = (fetched.parse::<i64>(), format!("sha256:{state}").parse::<Digest>()) else {
            return Ok(None);
        };
        let folder = own.join("states").join(state.hex());
        if !fs::exists(&folder.join("lists"))? {
            return Ok(None);
        }
        let (releases, date) = releases(&folder.join("lists"))?;
        let architecture = bootstrap.architecture.clone();
        let home = ArchiveHome { folder, pool: own.join("pool"), architecture, settings: settings_of_host()? };
        Ok(Some(Known { fact: ArchiveFact { releases, date, fetched }, home }))
    }

    /// Looks at the archive, unless what is known is younger than `ttl` seconds.
    pub(super) fn look(
        &self,
        bootstrap: &Bootstrap,
        ttl: Option<u64>,
        progress: &Progress,
        cancel: &Cancel,
    ) -> Result<Known> {
        let now = i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX);
        let young =
            |known: &Known| ttl.is_some_and(|ttl| now - known.fact.fetched < i64::try_from(ttl).unwrap_or(i64::MAX));
        if let Some(known) = self.known(bootstrap)?.filter(young) {
            return Ok(known);
        }
        fs::create_dir_all(&self.root, 0o755)?;
        let _lock = fs::Lock::exclusive(&self.root.join("lock"))?;
        if let Some(known) = self.known(bootstrap)?.filter(young) {
            return Ok(known);
        }
        let folder = self.folder(bootstrap);
        fs::create_dir_all(&folder.join("lists/partial"), 0o755)?;
        fs::create_dir_all(&folder.join("pool"), 0o755)?;
        furnish(&folder, bootstrap)?;
        let settings = settings_of_host()?;
        let mut command = apt_get(&folder, &bootstrap.architecture, &settings);
        command.extend(["-q", "--error-on=any", "update"].map(str::to_owned));
        let mut said = crate::progress::Lines::new(progress, 20);
        let mut child = process::command(&command[0]);
        child.args(&command[1..]).env("LC_ALL", "C.UTF-8").env("APT_CONFIG", folder.join("apt.conf"));
        let bounds = crate::host::exchange::Bounds {
            deadline: std::time::Duration::from_mins(30),
            stop: &|| cancel.check().is_err(),
            answer: 64 << 20,
        };
        let answer = crate::host::exchange::exchange(&mut child, b"", &bounds, &mut |line| {
            said.push(format!("{line}\n").as_bytes());
        })?;
        if !answer.status.success() {
            let output = String::from_utf8_lossy(&answer.output);
            let told: Vec<&str> = output.lines().rev().take(10).collect();
            let tail: Vec<String> = told.into_iter().rev().map(str::to_owned).chain(said.finish()).collect();
            return Err(Error::new(Kind::Unavailable, format!("cannot look at the archive of `{}`", bootstrap.suite))
                .caused_by(tail.join("\n"))
                .hint("`build.sources` says where the packages of a suite come from"));
        }
        let state = keep_state(&folder, bootstrap)?;
        fs::write_unsynced(&folder.join("fetched"), 0o644, format!("{now} {}", state.hex()).as_bytes())?;
        let known = self.known(bootstrap)?;
        if let Some(known) = &known {
            forget_others(&folder, &known.home)?;
        }
        known.ok_or_else(|| Error::new(Kind::Corrupt, format!("the archive of `{}` cannot be kept", bootstrap.suite)))
    }

    fn folder(&self, bootstrap: &Bootstrap) -> PathBuf {
        self.root.join(bootstrap.archive().hex())
    }
}

/// The files that apt needs beside lists.
fn furnish(folder: &Path, bootstrap: &Bootstrap) -> Result<()> {
    fs::create_dir_all(&folder.join("cache/archives/partial"), 0o755)?;
    fs::write_unsynced(&folder.join("status"), 0o644, b"")?;
    fs::write_unsynced(&folder.join("sources.list"), 0o644, text_of(bootstrap).as_bytes())?;
    // apt reads this before anything else: the host's own settings and hooks have no say.
    let conf = b"Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n#clear DPkg::Post-Invoke;\n";
    fs::write_unsynced(&folder.join("apt.conf"), 0o644, conf)
}

/// Keeps the lists as they are now under what they are.
fn keep_state(folder: &Path, bootstrap: &Bootstrap) -> Result<Digest> {
    let (releases, _) = releases(&folder.join("lists"))?;
    if releases.is_empty() {
        return Err(Error::new(Kind::Corrupt, format!("the archive of `{}` has no InRelease", bootstrap.suite))
            .hint("castoff builds from signed archives only"));
    }
    let lines: Vec<String> = releases.iter().map(|(name, digest)| format!("{name} {digest}")).collect();
    let state = Digest::of(lines.join("\n").as_bytes());
    let states = folder.join("states");
    let place = states.join(state.hex());
    if fs::exists(&place)? {
        return Ok(state);
    }
    fs::create_dir_all(&states, 0o755)?;
    fs::sweep(&states)?;
    let staged = fs::TempDir::inside(&states)?;
    let own = staged.path().join("state");
    fs::create_dir_all(&own.join("lists/partial"), 0o755)?;
    furnish(&own, bootstrap)?;
    for name in fs::list(&folder.join("lists"))? {
        let from = folder.join("lists").join(&name);
        if name != "lock" && fs::link_metadata(&from)?.is_some_and(|metadata| metadata.is_file()) {
            // apt never changes a list, it replaces it.
            rustix::fs::link(&from, own.join("lists").join(&name))
                .context(|| format!("cannot keep `{}`", from.display()))?;
        }
    }
    fs::rename(&own, &place)?;
    Ok(state)
}

/// Removes states that nobody has built from for a week, and packages that the archive does not have any more.
fn forget_others(folder: &Path, home: &ArchiveHome) -> Result<()> {
    let oldest = clock::now().as_secs().saturating_sub(7 * 86_400);
    let states = folder.join("states");
    for name in fs::list(&states)? {
        let path = states.join(&name);
        let age =
            fs::link_metadata(&path)?.map(|metadata| std::os::unix::fs::MetadataExt::ctime(&metadata).cast_unsigned());
        if path != home.folder && age.is_some_and(|age| age < oldest) {
            fs::remove_dir_all(&path)?;
        }
    }
    let listed = listed_digests(&home.folder.join("lists"))?;
    for name in fs::list(&home.pool)? {
        let path = home.pool.join(name);
        if !listed.contains(&sha256_of(&path)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The SHA-256 of every package that the lists name, in hex.
pub(super) fn listed_digests(lists: &Path) -> Result<std::collections::HashSet<String>> {
    use std::io::BufRead as _;
    let mut found = std::collections::HashSet::new();
    for name in fs::list(lists)? {
        if !name.to_string_lossy().ends_with("_Packages") {
            continue;
        }
        let path = lists.join(&name);
        for line in std::io::BufReader::new(fs::open(&path)?).lines() {
            let line = line.context(|| format!("cannot read `{}`", path.display()))?;
            if let Some(digest) = line.strip_prefix("SHA256: ") {
                found.insert(digest.trim().to_owned());
            }
        }
    }
    Ok(found)
}

/// The SHA-256 of a file, in hex.
pub(super) fn sha256_of(path: &Path) -> Result<String> {
    let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
    std::io::copy(&mut fs::open(path)?, &mut HashWriter(&mut hasher))
        .context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Digest::from_bytes(sha2::Digest::finalize(hasher).into()).hex())
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The sources as one file.
pub(super) fn text_of(bootstrap: &Bootstrap) -> String {
    bootstrap.sources.files.iter().map(|(_, content)| content.as_str()).collect()
}

/// The host's apt-get, looking at one archive and at nothing of the host's.
pub(super) fn apt_get(folder: &Path, architecture: &str, settings: &[String]) -> Vec<String> {
    let mut command = vec!["apt-get".to_owned()];
    let at = |name: &str| folder.join(name).display().to_string();
    let own = [
        format!("Dir::Etc::sourcelist={}", at("sources.list")),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        "Dir::Etc::preferences=/dev/null".to_owned(),
        "Dir::Etc::preferencesparts=/dev/null".to_owned(),
        format!("Dir::State={}", at("")),
        format!("Dir::State::lists={}", at("lists/")),
        format!("Dir::State::status={}", at("status")),
        format!("Dir::State::extended_states={}", at("extended_states")),
        format!("Dir::Cache={}", at("cache/")),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures={architecture}"),
        // Lists are read here as well, so they are kept as text.
        "Acquire::GzipIndexes=false".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "APT::Color=0".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
    ];
    for option in own.into_iter().chain(settings.iter().cloned()) {
        command.extend(["-o".to_owned(), option]);
    }
    command
}

/// What apt needs to reach archives from this host, as it is configured here: proxies, certificates, retries.
fn settings_of_host() -> Result<Vec<String>> {
    let Some(program) = process::find("apt-config") else {
        return Err(Error::new(Kind::Unsupported, "there is no apt here").hint("install apt and mmdebstrap"));
    };
    let output = process::run(process::command(program).args(["dump", "--format", "%F=%v%n", "Acquire"]))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_wanted = |line: &&str| {
        let line = line.to_lowercase();
        ["acquire::http::proxy", "acquire::https::proxy", "acquire::retries"].iter().any(|name| line.starts_with(name))
            || (line.starts_with("acquire::https::") && (line.contains("::verify") || line.contains("ca")))
    };
    Ok(text.lines().filter(is_wanted).filter(|line| !line.ends_with('=')).map(str::to_owned).collect())
}

/// The digest of every `InRelease`, and the newest date in them.
fn releases(lists: &Path) -> Result<(BTreeMap<String, Digest>, i64)> {
    let mut found = BTreeMap::new();
    let mut newest = 0;
    for name in fs::list(lists)? {
        let Some(text) = name.to_str().filter(|name| name.ends_with("_InRelease")) else { continue };
        let bytes = fs::read_at_most(&lists.join(&name), LIMIT)?;
        let content = String::from_utf8_lossy(&bytes);
        let date = content.lines().find_map(|line| line.strip_prefix("Date: "));
        if let Some(date) = date {
            newest = newest.max(date_of(date).context(|| format!("`{text}` has no date that is one"))?);
        }
        found.insert(text.to_owned(), Digest::of(&bytes));
    }
    Ok((found, newest))
}

/// Seconds since 1970 of a date as archives write it: `Sat, 11 Jul 2026 10:16:37 UTC` (RFC 5322 with a zone's name).
fn date_of(text: &str) -> Result<i64> {
    let plain = text.trim().replace(" UTC", " +0000").replace(" GMT", " +0000");
    chrono::DateTime::parse_from_rfc2822(&plain)
        .map(|date| date.timestamp())
        .map_err(|error| Error::new(Kind::Corrupt, format!("`{text}` is no date")).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::date_of;

    #[test]
    fn dates_of_archives_are_read() {
        // date -u -d '2026-07-11 10:16:37' +%s
        assert_eq!(date_of("Sat, 11 Jul 2026 10:16:37 UTC").unwrap(), 1_783_764_997);
        assert!(date_of("soon").is_err());
    }
}
