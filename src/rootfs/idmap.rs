//! The id map of a user namespace: which owner on the host is which owner inside the container.
//!
//! A root filesystem of an unprivileged container is stored with shifted owners; an image must carry the container's
//! own. The map goes back, host to container, in owners, ACL entries and version 3 capabilities. An id outside the map
//! has no meaning inside and is an error: the kernel would show it as `nobody`, which is somebody else.

use std::fmt;

use super::acl::{Acl, EMPTY_DEFAULT};
use super::capability::Capability;
use super::entry::{Entry, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, XATTR_CAPABILITY, shown};
use crate::error::{Error, Kind, Result};

/// Consecutive ids: `count` of them from `inside` in the container are those from `outside` on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// Users or groups: what the error messages call an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Users,
    Groups,
}

impl fmt::Display for Of {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Users => "uid",
            Self::Groups => "gid",
        })
    }
}

/// A user namespace's id map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    users: Vec<Range>,
    groups: Vec<Range>,
}

impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for (letter, ranges) in [("u", &self.users), ("g", &self.groups)] {
            for Range { inside, outside, count } in ranges {
                write!(formatter, "{before}{letter}:{inside}:{outside}:{count}")?;
                before = ",";
            }
        }
        Ok(())
    }
}

const FORM: &str = "an id map is `u:INSIDE:HOST:COUNT,g:INSIDE:HOST:COUNT`, or `INSIDE:HOST:COUNT` or `HOST:COUNT` for \
                    users and groups alike, as in `0:100000:65536`";

const WHOLE_MAP: &str = "give the whole map of the container, as `lxc.idmap` in its configuration or `/proc/PID/uid_map` of \
                         a process in it shows it";

impl IdMap {
    /// The map in words: `u:0:100000:65536,g:0:100000:65536`, `0:100000:65536` or `100000:65536`; ranges are separated
    /// by commas, and one without `u` or `g` holds for both.
    pub fn parse(text: &str) -> Result<Self> {
        let mut map = Self { users: Vec::new(), groups: Vec::new() };
        for item in text.split(',').map(str::trim) {
            let mut fields: Vec<&str> = item.split(':').collect();
            let which = if fields.first().is_some_and(|field| field.chars().all(|letter| letter.is_ascii_digit())) {
                "b"
            } else {
                fields.remove(0)
            };
            if fields.len() == 2 {
                fields.insert(0, "0");
            }
            map.add(which, &fields).map_err(|problem| wrong(text, &problem).hint(FORM))?;
        }
        map.checked().map_err(|problem| wrong(text, &problem).hint(FORM))
    }

    /// The map that an LXC container's configuration gives (`lxc.idmap`, `lxc.id_map` before LXC 2.1); none where it
    /// has no such line. An empty value takes back the lines above it, as in LXC.
    pub fn parse_lxc_config(text: &str) -> Result<Option<Self>> {
        let mut map = Self { users: Vec::new(), groups: Vec::new() };
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            if !matches!(key.trim(), "lxc.idmap" | "lxc.id_map") {
                continue;
            }
            let value = value.trim();
            let value =
                value.strip_prefix(['"', '\'']).and_then(|rest| rest.strip_suffix(['"', '\''])).unwrap_or(value);
            if value.is_empty() {
                map = Self { users: Vec::new(), groups: Vec::new() };
                continue;
            }
            let mut fields = value.split_whitespace();
            let which = fields.next().unwrap_or_default();
            map.add(which, &fields.collect::<Vec<_>>()).map_err(|problem| wrong(line.trim(), &problem))?;
        }
        if map.users.is_empty() && map.groups.is_empty() {
            return Ok(None);
        }
        map.checked().map(Some).map_err(|problem| wrong("lxc.idmap", &problem))
    }

    fn add(&mut self, which: &str, fields: &[&str]) -> Result<(), String> {
        let &[inside, outside, count] = fields else {
            return Err(format!("a range has {} numbers instead of 3", fields.len()));
        };
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is not a number of an id"));
        let range = Range { inside: number(inside)?, outside: number(outside)?, count: number(count)? };
        // The last id, 2^32 - 1, means `nobody at all` to the kernel and is never mapped.
        let fits = |start: u32| range.count > 0 && start.checked_add(range.count).is_some();
        if !fits(range.inside) || !fits(range.outside) {
            return Err(format!("the range {inside}:{outside}:{count} is empty or leaves the numbers that ids have"));
        }
        match which {
            "u" => self.users.push(range),
            "g" => self.groups.push(range),
            "b" => {
                self.users.push(range);
                self.groups.push(range);
            }
            other => return Err(format!("`{other}` is neither `u` nor `g`")),
        }
        Ok(())
    }

    fn checked(mut self) -> Result<Self, String> {
        for (ranges, of) in [(&mut self.users, Of::Users), (&mut self.groups, Of::Groups)] {
            if ranges.is_empty() {
                return Err(format!("no {of} is mapped"));
            }
            for start in [(|range| range.inside) as fn(&Range) -> u32, |range| range.outside] {
                // Ends by host ids, the order lookups need.
                ranges.sort_by_key(start);
                let overlap = |pair: &&[Range]| matches!(pair, [low, high] if start(low) + low.count > start(high));
                if let Some([_, high]) = ranges.windows(2).find(overlap) {
                    return Err(format!("two ranges hold the {of} {}", start(high)));
                }
            }
        }
        Ok(self)
    }

    /// The user inside the container whom the host knows by this id.
    pub fn user(&self, host: u64) -> Option<u32> {
        find(&self.users, host)
    }

    /// The group inside the container that the host knows by this id.
    pub fn group(&self, host: u64) -> Option<u32> {
        find(&self.groups, host)
    }

    /// Gives the entry the container's ids: owner, group, ACL entries, and the root of a version 3 capability (which
    /// becomes version 2 where that is the container's own root).
    pub fn shift(&self, entry: &mut Entry) -> Result<()> {
        let path = &entry.path;
        entry.uid = self.user(entry.uid).ok_or_else(|| outside(path, Of::Users, entry.uid))?.into();
        entry.gid = self.group(entry.gid).ok_or_else(|| outside(path, Of::Groups, entry.gid))?.into();
        for name in [XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT] {
            if let Some(value) = entry.xattrs.get_mut(name) {
                *value = self.shift_acl(path, name, value)?;
            }
        }
        if let Some(value) = entry.xattrs.get_mut(XATTR_CAPABILITY) {
            let mut capability =
                Capability::from_xattr(value).map_err(|problem| damaged(path, XATTR_CAPABILITY, problem))?;
            if let Some(root) = capability.root {
                let root = self.user(root.into()).ok_or_else(|| outside(path, Of::Users, root.into()))?;
                capability.root = (root != 0).then_some(root);
                *value = capability.to_xattr();
            }
        }
        Ok(())
    }

    fn shift_acl(&self, path: &[u8], name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
        if value == EMPTY_DEFAULT {
            return Ok(value.to_vec());
        }
        let acl = Acl::from_xattr(value).map_err(|problem| damaged(path, name, problem))?;
        let shifted = acl.shift(|id| self.user(id.into()), |id| self.group(id.into())).map_err(|problem| {
            let name = String::from_utf8_lossy(name);
            Error::new(
                Kind::Usage,
                format!("the ACL {name} of `{}` names somebody the id map does not hold", shown(path)),
            )
            .caused_by(problem)
            .hint(WHOLE_MAP)
        })?;
        Ok(shifted.to_xattr())
    }
}

fn find(ranges: &[Range], host: u64) -> Option<u32> {
    let host = u32::try_from(host).ok()?;
    let range = ranges[..ranges.partition_point(|range| range.outside <= host)].last()?;
    let distance = host - range.outside;
    (distance < range.count).then(|| range.inside + distance)
}

fn wrong(text: &str, problem: &str) -> Error {
    Error::new(Kind::Usage, format!("`{text}` is not an id map: {problem}"))
}

fn outside(path: &[u8], of: Of, id: u64) -> Error {
    Error::new(Kind::Usage, format!("`{}` names the {of} {id}, which the id map does not hold", shown(path)))
        .hint(WHOLE_MAP)
}

fn damaged(path: &[u8], name: &[u8], problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(
        Kind::Corrupt,
        format!("the xattr {} of `{}` cannot be understood", String::from_utf8_lossy(name), shown(path)),
    )
    .caused_by(problem)
}
