//! Whose ids a worker has: the host's own as root, else those that `/etc/subuid` and `/etc/subgid` give to a user.

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::host::{abilities, fs, process};

/// So many ids that the last ones Debian uses, 65534 and 65535, are among them.
const ENOUGH: u32 = 65535;

/// A run of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first of them.
    pub start: u32,
    /// How many there are.
    pub count: u32,
}

/// How a worker becomes root of its namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ids {
    /// This process may mount already: no user namespace.
    Root,
    /// Root without that right, as in a container: a user namespace with the very same ids.
    Same,
    /// An ordinary user: a user namespace in which it is root, and the subordinate ids are 1 and up.
    Subordinate {
        /// What user ids from 1 are outside.
        users: Range,
        /// What group ids from 1 are outside.
        groups: Range,
    },
}

impl Ids {
    /// What this process can have; else an error that says exactly what is missing.
    pub fn of_this_process() -> Result<Self> {
        if process::is_root() {
            return Ok(if abilities::may_mount()? { Self::Root } else { Self::Same });
        }
        for program in ["newuidmap", "newgidmap"] {
            if process::find(program).is_none() {
                return Err(Error::new(Kind::Unsupported, format!("there is no `{program}`"))
                    .hint("install the package `uidmap`, or run castoff as root"));
            }
        }
        let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let name = nix::unistd::User::from_uid(user.into()).ok().flatten().map(|user| user.name);
        let of = |file| subordinate(Path::new(file), name.as_deref(), user);
        let (users, groups) = (of("/etc/subuid")?, of("/etc/subgid")?);
        if group == 0 {
            return Err(Error::new(Kind::Unsupported, "an ordinary user in group 0 cannot have a user namespace")
                .hint("run castoff in a group of the user's own (in a container: `--user UID:GID`), or as root"));
        }
        Ok(Self::Subordinate { users, groups })
    }

    /// Whether the worker needs a user namespace.
    pub(super) fn need_user_namespace(&self) -> bool {
        *self != Self::Root
    }
}

/// The largest range that the file gives to this user, by name or by number (subuid(5)).
fn subordinate(path: &Path, name: Option<&str>, user: u32) -> Result<Range> {
    let text = if fs::exists(path)? { fs::read_text(path)? } else { String::new() };
    let best = largest(&text, name, user);
    if let Some(range) = best
        && range.count >= ENOUGH
    {
        return Ok(range);
    }
    let who = name.map_or_else(|| user.to_string(), str::to_owned);
    let what = match best {
        None => format!("`{}` gives no ids to the user `{who}`", path.display()),
        Some(range) => format!(
            "`{}` gives only {} ids to the user `{who}`, and an image needs {ENOUGH}",
            path.display(),
            range.count
        ),
    };
    let line = format!("{who}:{}:65536", free(&text));
    Err(Error::new(Kind::Unsupported, what).hint(format!("add the line `{line}` to `{}` as root", path.display())))
}

fn largest(text: &str, name: Option<&str>, user: u32) -> Option<Range> {
    let number = user.to_string();
    lines(text)
        .filter(|(owner, _)| *owner == number || Some(*owner) == name)
        .map(|(_, range)| range)
        // Of equal ones the first, as newuidmap(1) would find it.
        .fold(None, |best: Option<Range>, range| match best {
            Some(best) if best.count >= range.count => Some(best),
            _ => Some(range),
        })
}

/// A start that no range of the file reaches.
fn free(text: &str) -> u32 {
    let ends = lines(text).map(|(_, range)| range.start.saturating_add(range.count));
    ends.max().unwrap_or_default().max(100_000).next_multiple_of(65536)
}

fn lines(text: &str) -> impl Iterator<Item = (&str, Range)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|owner| !owner.is_empty() && !owner.starts_with('#'))?;
        let (start, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((owner, Range { start, count }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_range_by_name_or_number_is_taken() {
        let text = "# none\nada:100000:10\n1000:200000:65536\nada:300000:65536\nbob:400000:99999\nbroken\n";
        assert_eq!(largest(text, Some("ada"), 1000), Some(Range { start: 200_000, count: 65536 }));
        assert_eq!(largest(text, None, 7), None);
        assert_eq!(free(text), 524_288);
        assert_eq!(free(""), 131_072);
    }
}
