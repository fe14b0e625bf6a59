//! A configuration file with all it includes: a tree of items in their order, read once.

use std::path::{Path, PathBuf};

use super::lines::{self, Line, Place};
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::ssh::Operator;
use crate::ssh::pattern;

/// The depth at which ssh gives up on files that include files.
const DEEPEST: usize = 16;
/// No configuration is larger; what is, is not one.
const LARGEST: u64 = 1 << 20;

/// One item of a file.
#[derive(Debug)]
pub(super) enum Item {
    /// `Host`: what follows applies to hosts that fit.
    Host(Vec<String>),
    /// `Match`: what follows applies where all criteria hold.
    Match(Line),
    /// The files that an `Include` names here.
    Include(Vec<Vec<Item>>),
    /// Anything else.
    Directive(Line),
}

/// Who a file belongs to, which decides where relative includes are looked up and whether its owner is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    User,
    System,
    /// A file that was named: as `ssh -F` takes it, whoever owns it.
    Named,
}

/// Reads files into items.
pub(super) struct Reader<'a> {
    pub(super) operator: &'a Operator,
    pub(super) owner: Owner,
}

impl Reader<'_> {
    /// The items of a file; none if there is no such file.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<Item>>> {
        self.read_at(path, 0)
    }

    fn read_at(&self, path: &Path, depth: usize) -> Result<Option<Vec<Item>>> {
        let Some(metadata) = fs::metadata(path)? else { return Ok(None) };
        if self.owner == Owner::User {
            only_owner_writes(path, &metadata)?;
        }
        let text = String::from_utf8(fs::read_at_most(path, LARGEST)?)
            .map_err(|error| Error::new(Kind::Usage, format!("`{}` is not UTF-8", path.display())).caused_by(error))?;
        let mut items = Vec::new();
        for line in lines::parse(path, &text)? {
            items.push(match line.keyword.as_str() {
                "host" => Item::Host(line.words),
                "match" => Item::Match(line),
                "include" => Item::Include(self.included(&line, depth)?),
                _ => Item::Directive(line),
            });
        }
        Ok(Some(items))
    }

    fn included(&self, line: &Line, depth: usize) -> Result<Vec<Vec<Item>>> {
        if depth == DEEPEST {
            return Err(line.place.wrong(format_args!("files are included {DEEPEST} deep: does one include itself?")));
        }
        let mut files = Vec::new();
        for word in &line.words {
            let path = self.included_path(word, &line.place)?;
            for path in expand(&path)? {
                // What a pattern found is there; what was named and is not there is no error to ssh either.
                files.extend(self.read_at(&path, depth + 1)?);
            }
        }
        Ok(files)
    }

    fn included_path(&self, word: &str, place: &Place) -> Result<PathBuf> {
        if let Some(rest) = word.strip_prefix("~/") {
            return match self.owner {
                Owner::System => Err(place.wrong("a system-wide file cannot include from a home folder")),
                Owner::User | Owner::Named => Ok(self.operator.home.join(rest)),
            };
        }
        if word.starts_with('~') {
            return Err(place.wrong(format_args!("the home folder in `{word}` is not looked up")));
        }
        Ok(match self.owner {
            Owner::System => Path::new("/etc/ssh").join(word),
            Owner::User | Owner::Named => self.operator.home.join(".ssh").join(word),
        })
    }
}

/// As ssh does: whoever else may write this file may say which machine is trusted.
fn only_owner_writes(path: &Path, metadata: &std::fs::Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::getuid().as_raw();
    if (metadata.uid() == 0 || metadata.uid() == own) && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("others may write `{}`, so it is not read", path.display()))
        .hint(format!("`chown {own} {0} && chmod go-w {0}`", path.display())))
}

/// The paths that fit a path with patterns in its parts, sorted; the path itself if it has none.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for part in path.components() {
        let part = part.as_os_str();
        let text = part.to_string_lossy();
        if !text.contains(['*', '?']) {
            for folder in &mut found {
                folder.push(part);
            }
            continue;
        }
        let mut deeper = Vec::new();
        for folder in found {
            if !fs::metadata(&folder)?.is_some_and(|metadata| metadata.is_dir()) {
                continue;
            }
            for name in fs::list(&folder)? {
                let shown = name.to_string_lossy();
                let hidden = shown.starts_with('.') && !text.starts_with('.');
                if !hidden && pattern::fits(&text, &shown) {
                    deeper.push(folder.join(&name));
                }
            }
        }
        found = deeper;
    }
    Ok(found)
}
