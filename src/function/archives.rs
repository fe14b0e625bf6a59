//! What this host's own apt says of archives, and which architecture it has.

use std::path::Path;

use crate::config::Config;
use crate::error::{Context as _, Error, Kind, Result};
use crate::front::archive::{self, Archive};
use crate::host::fs;
use crate::vocab::Value;

/// The most bytes of a file of apt that are read.
const MOST_BYTES: u64 = 1 << 20;

/// The archive that the words mean: as the operator wrote it down, else as this host's apt has it.
pub(super) fn archive(wanted: &str, config: &Config) -> Result<Archive> {
    let given = config.build.sources.iter().find(|(suite, _)| Value::from((*suite).clone()).as_str() == Some(wanted));
    if let Some((_, given)) = given {
        let lines: Vec<&str> = match given {
            Value::List(lines) => lines.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().unwrap_or_default().lines().collect(),
        };
        return archive::of_lines(wanted, &lines).context(|| format!("`build.sources` has no use for `{wanted}`"));
    }
    // Words that say all of it need nothing of this host.
    if wanted.split_ascii_whitespace().nth(1).is_some() {
        return archive::archive(wanted, &[]);
    }
    archive::archive(wanted, &of_apt(Path::new("/etc/apt"))?)
}

/// The suite of this host itself.
pub(super) fn own_suite() -> Result<String> {
    let text = fs::read_text(Path::new("/etc/os-release"))?;
    let found = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    found.map(|name| name.trim_matches('"').to_owned()).ok_or_else(|| {
        Error::new(Kind::Unsupported, "this host does not tell its release (VERSION_CODENAME in /etc/os-release)")
            .hint("name the suite")
    })
}

/// The texts of `sources.list` and of the files beside it.
fn of_apt(folder: &Path) -> Result<Vec<(String, String)>> {
    let beside = folder.join("sources.list.d");
    let mut paths = vec![folder.join("sources.list")];
    if fs::exists(&beside)? {
        let mut names = fs::list(&beside)?;
        names.sort();
        paths.extend(names.into_iter().map(|name| beside.join(name)));
    }
    let mut texts = Vec::new();
    for path in paths {
        let is_ours = path.extension().is_some_and(|extension| extension == "list" || extension == "sources");
        if is_ours && fs::metadata(&path)?.is_some_and(|found| found.is_file()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            texts.push((name, String::from_utf8_lossy(&fs::read_at_most(&path, MOST_BYTES)?).into_owned()));
        }
    }
    Ok(texts)
}

/// The architecture of this host in Debian's words.
pub(super) fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "x86" => Ok("i386"),
        "aarch64" => Ok("arm64"),
        "arm" => Ok("armhf"),
        "riscv64" => Ok("riscv64"),
        "powerpc64" => Ok("ppc64el"),
        "s390x" => Ok("s390x"),
        "loongarch64" => Ok("loong64"),
        other => Err(Error::new(Kind::Unsupported, format!("Debian has no name for the architecture `{other}`"))),
    }
}
