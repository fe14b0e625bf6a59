//! `[…]` and `{…}` within one line, as libyaml 0.2.5 reads them below PyYAML and Salt.
//!
//! YAML 1.1 and libyaml differ from YAML 1.2 where people type by hand: `[?a]`, `{a:1}`, `[a:]`, `[1]#x`. What one
//! word of a command line means must not depend on that, so the rules of libyaml's scanner and parser are kept here,
//! its oddities included; the names of its functions stand beside them.

mod parser;
mod scanner;

use crate::vocab::Value;

/// The list or map that the whole word is; none when libyaml, PyYAML or Salt would refuse it.
pub(super) fn collection(word: &str) -> Option<Value> {
    parser::parse(scanner::scan(word)?)
}
