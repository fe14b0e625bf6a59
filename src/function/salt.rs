//! Which `mc_cloud_images` Salt has on this machine: castoff's or that of the original, and which of them wins.
//!
//! Looks at the usual places in the order of Salt's loader: what a minion or master synced, what makina-states
//! configures, what pip installed. A minion configured otherwise says itself with `salt-call castoff.status`.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::host;
use crate::vocab::Value;

const MODULE: &str = "mc_cloud_images.py";

/// Folders that Salt loads modules from, first the one that wins; `*` ends a name.
const LOADED: &[&str] = &[
    "var/cache/salt/minion/extmods/modules",
    "var/cache/salt/master/extmods/modules",
    "srv/makina-states/mc_states/modules",
    "opt/saltstack/salt/extras-*/castoff_salt/modules",
    "usr/local/lib/python3*/dist-packages/castoff_salt/modules",
    "usr/lib/python3*/dist-packages/castoff_salt/modules",
];

/// Folders that a sync copies from, so what is there comes to the first of the others.
const SOURCES: &[&str] = &["srv/salt/_modules", "srv/makina-states/_modules"];

/// castoff's own modules say how they are made.
const MARK: &[u8] = b"contrib/salt/generate.py";

/// The most that is read of a module.
const LARGEST: u64 = 4 << 20;

/// What is found below the root of a file system, and which one wins.
pub(super) fn modules(root: &Path) -> Result<Value> {
    let loaded = found(root, LOADED)?;
    let sources = found(root, SOURCES)?;
    let wins = match (loaded.first(), sources.first()) {
        (None, None) => "none: Salt has no mc_cloud_images here".to_owned(),
        (None, Some((path, maker))) => format!("{maker} once it is synced, from `{}`", path.display()),
        (Some((path, maker)), Some((source, other))) if other != maker => format!(
            "{maker}, in `{}`; the next `saltutil.sync_modules` brings {other}, from `{}`",
            path.display(),
            source.display()
        ),
        (Some((path, maker)), _) => format!("{maker}, in `{}`", path.display()),
    };
    let shown = |(path, maker): &(PathBuf, String)| {
        Value::map([("path", Value::from(path.display().to_string())), ("is", Value::from(maker.as_str()))])
    };
    let all: Vec<Value> = loaded.iter().chain(&sources).map(shown).collect();
    Ok(Value::map([("mc_cloud_images", Value::list(all)), ("wins", Value::from(wins))]))
}

/// The modules in these folders, with whose they are.
fn found(root: &Path, folders: &[&str]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for folder in folders {
        for folder in unfolded(root, folder)? {
            let path = folder.join(MODULE);
            if matches!(host::fs::metadata(&path), Ok(Some(file)) if file.is_file()) {
                let maker = maker(&path);
                found.push((path, maker));
            }
        }
    }
    Ok(found)
}

/// The folders that a pattern names, in order.
fn unfolded(root: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.to_path_buf()];
    for part in pattern.split('/') {
        let mut next = Vec::new();
        for folder in folders {
            let Some(beginning) = part.strip_suffix('*') else {
                next.push(folder.join(part));
                continue;
            };
            if host::fs::exists(&folder)? {
                let names = host::fs::list(&folder)?;
                next.extend(
                    names
                        .iter()
                        .filter(|name| name.to_string_lossy().starts_with(beginning))
                        .map(|name| folder.join(name)),
                );
            }
        }
        folders = next;
    }
    Ok(folders)
}

/// Whose module this is; one that cannot be read is a finding, not a failure of the doctor.
fn maker(path: &Path) -> String {
    match host::fs::read_at_most(path, LARGEST) {
        Ok(text) if text.windows(MARK.len()).any(|part| part == MARK) => "castoff's".to_owned(),
        Ok(_) => "the original".to_owned(),
        Err(error) => format!("unknown ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(root: &Path, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = root.join(path).join(MODULE);
            host::fs::create_dir_all(host::fs::parent(&path), 0o755).unwrap();
            host::fs::write_atomic(&path, 0o644, text.as_bytes()).unwrap();
        }
        modules(root).unwrap().get("wins").and_then(Value::as_str).unwrap().replace(&root.display().to_string(), "")
    }

    #[test]
    fn what_salt_loads_first_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = ("# Made by contrib/salt/generate.py", "import salt");
        let told = |files: &[(&str, &str)]| told(folder.path(), files);
        assert_eq!(told(&[]), "none: Salt has no mc_cloud_images here");
        let sourced = told(&[("srv/makina-states/_modules", other)]);
        assert_eq!(sourced, format!("the original once it is synced, from `/srv/makina-states/_modules/{MODULE}`"));
        let packaged = told(&[("usr/local/lib/python3.11/dist-packages/castoff_salt/modules", own)]);
        assert!(packaged.starts_with("castoff's, in `/usr/local/lib/python3.11/"), "{packaged}");
        assert!(packaged.contains("brings the original, from `/srv/makina-states/_modules/"), "{packaged}");
        let synced = told(&[("var/cache/salt/minion/extmods/modules", other)]);
        assert_eq!(synced, format!("the original, in `/var/cache/salt/minion/extmods/modules/{MODULE}`"));
    }
}
