//! Patterns of paths in a tree: `srv/salt`, `etc/*salt`, `**/ssh_host_*_key`.

use crate::error::{Error, Kind, Result};
use crate::vocab::fnmatch;

/// The most components of a pattern.
const MOST: usize = 64;

/// A pattern of paths, relative to the root of a tree; a folder that matches means all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    text: String,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Just this name.
    Name(String),
    /// Names that match, as `fnmatch` has it.
    Glob(String),
    /// Any number of folders, none too (`**`).
    Folders,
}

impl Part {
    pub(super) fn accepts(&self, name: &[u8]) -> bool {
        match self {
            Self::Name(text) => text.as_bytes() == name,
            Self::Glob(pattern) => fnmatch(pattern, &String::from_utf8_lossy(name)),
            Self::Folders => true,
        }
    }
}

impl Pattern {
    /// A pattern as it is written: components with `*`, `?`, `[…]`, or `**` for any number of folders (at the end: for all
    /// that is below); `.` is the root.
    /// A leading slash means the root of the tree.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(Kind::Usage, format!("`{}` is not a pattern of paths: {why}", text.escape_debug()))
                .hint("as in `srv/salt`, `etc/*salt`, `**/*.key`: from the root of the tree, without `..`")
        };
        if text.is_empty() || text.contains(['\0', '\n']) {
            return Err(wrong("it is empty or holds a NUL or a line break"));
        }
        let mut parts = Vec::new();
        for component in text.split('/') {
            match component {
                "" | "." => {}
                ".." => return Err(wrong("it leaves the tree")),
                "**" => parts.push(Part::Folders),
                glob if glob.contains(['*', '?', '[']) => parts.push(Part::Glob(glob.to_owned())),
                name => parts.push(Part::Name(name.to_owned())),
            }
        }
        if parts.len() > MOST {
            return Err(wrong("it has too many components"));
        }
        Ok(Self { parts, text: text.to_owned() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns_stay_in_the_tree() {
        for bad in ["", "..", "a/../b", "../x", "a\0b", "a\nb"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        for (text, parts) in [(".", 0), ("/", 0), ("/srv//salt/", 2), ("**/x", 2), ("etc/*salt", 2)] {
            assert_eq!(Pattern::parse(text).unwrap().parts().len(), parts, "{text}");
        }
    }
}
