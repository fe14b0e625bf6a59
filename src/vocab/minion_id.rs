//! The id of a minion: what an operator calls a machine, and what a machine calls itself.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// The longest id; DNS allows a name of 253 bytes (RFC 1035, section 2.3.4, without the final dot).
const LONGEST: usize = 253;

/// A minion's id: 1 to 253 of `A-Z a-z 0-9 . _ -`, the first a letter or digit.
///
/// Salt itself takes ids with spaces, `;` and `$(…)`, and pastes them into shells; nothing such gets past here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MinionId(String);

impl MinionId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MinionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| {
            Err(Error::new(Kind::Usage, format!("`{}` is not a minion id: {why}", shown(text)))
                .hint("an id has 1 to 253 letters, digits, `.`, `_` or `-`, and begins with a letter or digit"))
        };
        let Some(first) = text.chars().next() else { return wrong("it is empty".to_owned()) };
        if text.len() > LONGEST {
            return wrong(format!("it has {} bytes", text.len()));
        }
        if let Some(odd) = text.chars().find(|&odd| !odd.is_ascii_alphanumeric() && !"._-".contains(odd)) {
            return wrong(format!("it holds `{}`", odd.escape_debug()));
        }
        if !first.is_ascii_alphanumeric() {
            return wrong(format!("it begins with `{first}`"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The text as it may stand in a message: escaped, and cut where it is long.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for MinionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::MinionId;

    #[test]
    fn an_id_is_parsed_never_trusted() {
        let longest = "a".repeat(253);
        for good in ["a", "web-1.example.net", "A_b", "0", "a..b", longest.as_str()] {
            assert_eq!(good.parse::<MinionId>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(254);
        for bad in ["", ".", "..", "-rf", "_x", "a/b", "a b", "x;echo y", "$(id)", "é", "a\n", "a\0", too_long.as_str()]
        {
            assert!(bad.parse::<MinionId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_message_shows_no_control_characters() {
        let error = "a\u{1b}[2J".parse::<MinionId>().unwrap_err();
        assert!(!error.render().contains('\u{1b}'), "{error}");
    }
}
