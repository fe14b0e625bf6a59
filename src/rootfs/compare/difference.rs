//! What differs, and how it is said.

use std::fmt;

use crate::rootfs::shown;
use crate::vocab::Value;

/// What of a path differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Whether it is there at all.
    Presence,
    /// What kind of thing it is.
    Type,
    /// The permission bits.
    Mode,
    /// The owner.
    Uid,
    /// The group.
    Gid,
    /// The time of modification.
    Mtime,
    /// A file's length.
    Size,
    /// A file's bytes.
    Content,
    /// Where a symbolic link points.
    Target,
    /// A device's numbers.
    Device,
    /// An entry of the access ACL.
    AccessAcl,
    /// An entry of the default ACL.
    DefaultAcl,
    /// The extended attribute of this name.
    Xattr(Vec<u8>),
    /// Which paths are names of one inode.
    Names,
}

impl fmt::Display for Aspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Presence => "presence",
            Self::Type => "type",
            Self::Mode => "mode",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::Mtime => "mtime",
            Self::Size => "size",
            Self::Content => "content",
            Self::Target => "target",
            Self::Device => "device",
            Self::AccessAcl => "acl access",
            Self::DefaultAcl => "acl default",
            Self::Xattr(name) => return write!(formatter, "xattr {}", shown(name)),
            Self::Names => "names of one file",
        })
    }
}

/// One difference; a side that has nothing there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: Vec<u8>,
    /// What of it differs.
    pub aspect: Aspect,
    /// What it is on the left.
    pub left: Option<String>,
    /// What it is on the right.
    pub right: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: ", shown(&self.path))?;
        match (&self.aspect, &self.left, &self.right) {
            (Aspect::Presence, Some(_), _) => formatter.write_str("only left"),
            (Aspect::Presence, None, _) => formatter.write_str("only right"),
            (Aspect::Content, Some(left), Some(right)) => write!(formatter, "content differs ({left} / {right})"),
            (aspect, Some(left), Some(right)) => write!(formatter, "{aspect} {left} != {right}"),
            (aspect, Some(left), None) => write!(formatter, "{aspect} {left} missing on the right"),
            (aspect, None, Some(right)) => write!(formatter, "{aspect} {right} missing on the left"),
            (aspect, None, None) => write!(formatter, "{aspect} differs"),
        }
    }
}

impl Difference {
    /// The difference as a value, with its sentence.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("path", Value::from(shown(&self.path))),
            ("aspect", self.aspect.to_string().into()),
            ("left", self.left.clone().into()),
            ("right", self.right.clone().into()),
            ("text", self.to_string().into()),
        ])
    }
}

/// How many differences are told one by one.
const TOLD: usize = 10_000;

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// How many paths there are on either side.
    pub entries: u64,
    /// The differences, in path order, link groups behind them; at most 10 000.
    pub differences: Vec<Difference>,
    /// How many differences there are in all.
    pub total: u64,
}

impl Comparison {
    /// Whether the trees are the same.
    pub fn same(&self) -> bool {
        self.total == 0
    }

    /// The comparison as a value.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("same", Value::from(self.same())),
            ("entries", self.entries.into()),
            ("total", self.total.into()),
            ("differences", Value::list(self.differences.iter().map(Difference::to_value))),
        ])
    }

    pub(super) fn add(&mut self, path: &[u8], aspect: Aspect, left: Option<String>, right: Option<String>) {
        self.total += 1;
        if self.differences.len() < TOLD {
            self.differences.push(Difference { path: path.to_vec(), aspect, left, right });
        }
    }

    /// Both sides, where they differ.
    pub(super) fn check<T: PartialEq>(
        &mut self,
        path: &[u8],
        aspect: Aspect,
        left: &T,
        right: &T,
        say: impl Fn(&T) -> String,
    ) {
        if left != right {
            self.add(path, aspect, Some(say(left)), Some(say(right)));
        }
    }
}
