//! What a token or a certificate allows: `pillar:PATTERN`, `call:PATTERN`.

use crate::vocab::{MinionId, fnmatch};

/// What a token or certificate allows: patterns of minion ids and of function names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    pillar: Vec<String>,
    call: Vec<String>,
}

impl Scopes {
    /// The scopes in these words.
    pub(super) fn parse(words: &[String]) -> std::result::Result<Self, String> {
        let mut scopes = Self::default();
        for word in words {
            match word.split_once(':') {
                Some(("pillar", glob)) if !glob.is_empty() => scopes.pillar.push(glob.to_owned()),
                Some(("call", glob)) if !glob.is_empty() => scopes.call.push(glob.to_owned()),
                _ => return Err(format!("`{word}` is no scope; scopes are `pillar:PATTERN` and `call:PATTERN`")),
            }
        }
        Ok(scopes)
    }

    /// Whether they name this function.
    pub(super) fn may_call(&self, function: &str) -> bool {
        self.call.iter().any(|glob| fnmatch(glob, function))
    }

    /// Whether they name this minion.
    pub(super) fn may_have_pillar(&self, minion: &MinionId) -> bool {
        self.pillar.iter().any(|glob| fnmatch(glob, minion.as_str()))
    }
}
