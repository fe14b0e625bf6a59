//! One image to one host: look, send beside, make current.

use std::time::Instant;

use super::freight::{Freight, LEFT_OUT};
use super::line::Line;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::fault;
use crate::vocab::Value;

/// What a host has under an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Current {
    Nothing,
    /// One of castoff's trees, by name.
    Ours(String),
    /// A folder that castoff did not make, and the version it says it has.
    Folder(u32),
}

impl Current {
    fn version(&self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Ours(name) => name.split_once('-').and_then(|(number, _)| number.parse().ok()),
            Self::Folder(version) => Some(*version),
        }
    }
}

/// What a host said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    current: Current,
    kept: Vec<String>,
    runs: bool,
}

impl Look {
    fn parse(text: &str, image: &str) -> Result<Self> {
        let mut look = Self { current: Current::Nothing, kept: Vec::new(), runs: false };
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "link" => look.current = Current::Ours(ours(rest, image)?),
                "folder" => look.current = Current::Folder(0),
                "marked" => look.current = Current::Folder(rest.parse().unwrap_or_default()),
                "other" => return Err(foreign(image, "is neither a folder nor a link")),
                "kept" => look.kept.push(rest.to_owned()),
                "running" => look.runs = true,
                "lacks" => {
                    return Err(Error::new(Kind::Unsupported, "there is no rsync on the host")
                        .hint("install rsync on the host"));
                }
                _ => {}
            }
        }
        Ok(look)
    }
}

/// The name in a link of ours.
fn ours(target: &str, image: &str) -> Result<String> {
    let name = target.strip_prefix(".castoff-push/").and_then(|rest| rest.strip_prefix(image)?.strip_prefix('/'));
    let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    name.filter(plain).map(str::to_owned).ok_or_else(|| foreign(image, "is a link to somewhere else"))
}

fn foreign(image: &str, what: &str) -> Error {
    Error::new(Kind::Conflict, format!("`{image}` on the host {what}")).hint("castoff did not make it: move it away")
}

/// What became of an image on a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Delivered {
    pub(super) before: Option<u32>,
    pub(super) after: Option<u32>,
    pub(super) changed: bool,
    pub(super) sent: u64,
    pub(super) seconds: f64,
    pub(super) comment: String,
}

impl Delivered {
    pub(super) fn to_value(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("version_before", Value::from(self.before)),
            ("version_after", self.after.into()),
            ("changed", self.changed.into()),
            ("bytes_sent", self.sent.into()),
            ("seconds", self.seconds.into()),
            ("comment", self.comment.as_str().into()),
        ]
    }
}

/// How it is to be done.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) config: &'a Config,
    /// An older version than what is there, and a container that runs, are accepted.
    pub(super) force: bool,
    /// Only look.
    pub(super) test: bool,
}

/// Brings the image to the host; what is known of it is in `done` however it ends.
pub(super) fn deliver(freight: &Freight, line: &Line<'_>, manner: Manner<'_>, done: &mut Delivered) -> Result<()> {
    let begun = Instant::now();
    let result = work(freight, line, manner, done);
    done.seconds = begun.elapsed().as_secs_f64();
    result
}

fn work(freight: &Freight, line: &Line<'_>, manner: Manner<'_>, done: &mut Delivered) -> Result<()> {
    let lxc_path = manner.config.lxc_path.display().to_string();
    let image = freight.image.as_str();
    let said = line.tell(&[if manner.test { "look" } else { "begin" }, &lxc_path, image])?;
    let look = Look::parse(&said.output, image)?;
    done.before = look.current.version();
    done.after = done.before;
    if look.current == Current::Ours(freight.name.clone()) {
        "it has this very tree".clone_into(&mut done.comment);
        return Ok(());
    }
    if !manner.force {
        refuse(freight, &look)?;
    }
    done.changed = true;
    if manner.test {
        done.after = Some(freight.version);
        "it would get this tree".clone_into(&mut done.comment);
        return Ok(());
    }
    fault::point("sync.push.begun");
    if !look.kept.contains(&freight.name) {
        done.sent = send(freight, line, &look.current, &lxc_path)?;
        fault::point("sync.push.sent");
        freight.confirm()?;
    }
    let keep = manner.config.push.keep.to_string();
    line.tell(&["commit", &lxc_path, image, &freight.name, &keep])?;
    fault::point("sync.push.committed");
    done.after = Some(freight.version);
    "it has the tree now".clone_into(&mut done.comment);
    Ok(())
}

/// Fails where an operator has to say so first.
fn refuse(freight: &Freight, look: &Look) -> Result<()> {
    if let Some(there) = look.current.version().filter(|there| *there > freight.version) {
        return Err(Error::new(
            Kind::Refused,
            format!("the host has release {there} of `{}`, release {} is older", freight.image, freight.version),
        )
        .hint("to go back all the same: force=True"));
    }
    if look.runs {
        return Err(Error::new(Kind::Conflict, format!("the container `{}` is running on the host", freight.image))
            .hint("stop it there, or replace it all the same: force=True"));
    }
    Ok(())
}

fn send(freight: &Freight, line: &Line<'_>, current: &Current, lxc_path: &str) -> Result<u64> {
    let image = freight.image.as_str();
    let mut options: Vec<String> = LEFT_OUT.map(str::to_owned).to_vec();
    // Relative to the folder that is filled.
    match current {
        Current::Nothing => {}
        Current::Ours(name) => options.push(format!("--link-dest=../{name}")),
        Current::Folder(_) => options.push(format!("--link-dest=../../../{image}")),
    }
    let from = format!("{}/", freight.folder.display());
    line.send(&options, &from, &format!("{lxc_path}/.castoff-push/{image}/new/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_is_understood_and_what_it_should_not_say_is_refused() {
        let look =
            Look::parse("link .castoff-push/img/7-0123456789abcdef\nkept 6-00\nkept 7-0123456789abcdef\nend\n", "img");
        let look = look.unwrap();
        assert_eq!(look.current, Current::Ours("7-0123456789abcdef".to_owned()));
        assert_eq!((look.current.version(), look.kept.len(), look.runs), (Some(7), 2, false));
        let old = Look::parse("folder\nmarked 12\nrunning\nend\n", "img").unwrap();
        assert_eq!((old.current, old.runs), (Current::Folder(12), true));
        assert_eq!(Look::parse("end\n", "img").unwrap().current.version(), None);
        for text in ["link /etc\n", "link .castoff-push/other/7-00\n", "link .castoff-push/img/../../x\n", "other\n"] {
            assert_eq!(Look::parse(text, "img").unwrap_err().kind(), Kind::Conflict, "{text}");
        }
        assert_eq!(Look::parse("lacks\nend\n", "img").unwrap_err().kind(), Kind::Unsupported);
    }
}
