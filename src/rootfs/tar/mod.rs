//! One tar codec: reads V7, ustar, star, GNU and PAX archives from headers alone, rewrites single members without
//! touching what it does not understand, writes new ones in ustar with PAX records where ustar ends.
//!
//! Owns the dialects, the order of PAX records, sparse maps. Knows nothing of layers, whiteouts or trees: paths come
//! out normalised, link targets of symbolic links untouched. All input is hostile: nothing here allocates by a claimed
//! length beyond [`Limits`](crate::rootfs::Limits), and nothing a header says can make it panic.
//!
//! ```text
//! [x header, records] [L or K header, name] header block [old GNU sparse blocks] [1.0 sparse map] content, padding
//! ^ span.header                             ^ span.block                         ^ span.data
//! ```

mod block;
mod content;
mod encode;
mod extended;
mod globals;
mod input;
mod member;
mod pax;
mod rewrite;
mod scanner;
mod sparse;

pub use block::content_padding;
pub use content::{Content, content};
pub use encode::encode;
pub use globals::Globals;
pub use input::{Input, Positioned, Sequential};
pub use member::{Member, Span, TextAcls};
pub use rewrite::{Change, rewrite};
pub use scanner::{Scanner, member_at};
pub use sparse::SparseMap;

use std::fmt::Write as _;

use super::Timestamp;
use crate::error::{Error, Kind};

/// What stands behind the last member.
pub const END: [u8; 1024] = [0; 1024];

/// What is wrong with a member, before it is said which; or an error that says everything already.
enum Fault {
    Wrong(Kind, String),
    Error(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Self::Wrong(Kind::Corrupt, problem)
    }
}

impl From<&'static str> for Fault {
    fn from(problem: &'static str) -> Self {
        problem.to_owned().into()
    }
}

/// A path or name for a person: what is not printable UTF-8 escaped, and cut when it is very long.
pub fn shown(path: &[u8]) -> String {
    let (head, cut) = if path.len() > 200 { (&path[..200], "…") } else { (path, "") };
    let mut text = String::with_capacity(head.len() + 2);
    for chunk in head.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push_str(cut);
    text
}
