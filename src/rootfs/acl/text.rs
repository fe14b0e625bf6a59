//! The text of ACLs: getfacl's lines, the comma form of `SCHILY.acl.*`, star's and libarchive's `:id` suffix.

use std::fmt::Write as _;

use super::names::number;
use super::{Acl, AclEntry, AclError, Names, Tag};

impl Acl {
    /// The list in a text: entries separated by commas or newlines, `#` comments (getfacl's `#effective:` among them)
    /// ignored, short tags (`u`, `g`, `m`, `o`) taken. A decimal name is an id; star's `user:name:rwx:id` means that
    /// id. A default ACL's lines may all begin with `default:`; a text that holds both lists is an error here (see
    /// [`Acl::pair_from_text`]).
    pub fn from_text(text: &[u8], names: &dyn Names) -> Result<Self, AclError> {
        match Self::pair_from_text(text, names)? {
            (Some(acl), None) | (None, Some(acl)) => Ok(acl),
            (Some(_), Some(_)) => Err(AclError::new(0, "access and default entries stand in one list")),
            (None, None) => Err(AclError::new(text.len(), "there is no entry")),
        }
    }

    /// The access and the default list in a text as getfacl prints it for one file.
    pub fn pair_from_text(text: &[u8], names: &dyn Names) -> Result<(Option<Self>, Option<Self>), AclError> {
        let mut access = Vec::new();
        let mut default = Vec::new();
        for (offset, piece) in pieces(text) {
            let (is_default, entry) = parse_entry(offset, piece, names)?;
            if is_default { &mut default } else { &mut access }.push((offset, entry));
        }
        let list = |read: Vec<_>| if read.is_empty() { Ok(None) } else { Self::valid(read, text.len()).map(Some) };
        Ok((list(access)?, list(default)?))
    }

    /// The comma form with numeric ids, as `SCHILY.acl.*` records hold it and `setfacl` takes it.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(self.entries.len() * 16);
        for entry in &self.entries {
            if !text.is_empty() {
                text.push(',');
            }
            let letter = |bit: u8, letter| if entry.permissions & bit == 0 { '-' } else { letter };
            // Writing to a string cannot fail.
            let _ = write!(text, "{}:{}{}{}", entry.tag, letter(4, 'r'), letter(2, 'w'), letter(1, 'x'));
        }
        text
    }
}

/// The entries of a text with their offsets: comments and blanks are gone.
fn pieces(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut line_start = 0;
    text.split(|byte| *byte == b'\n').flat_map(move |line| {
        let start = line_start;
        line_start += line.len() + 1;
        let code = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut piece_start = start;
        code.split(|byte| *byte == b',').filter_map(move |piece| {
            let offset = piece_start + piece.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            piece_start += piece.len() + 1;
            let piece = piece.trim_ascii();
            (!piece.is_empty()).then_some((offset, piece))
        })
    })
}

fn parse_entry(offset: usize, piece: &[u8], names: &dyn Names) -> Result<(bool, AclEntry), AclError> {
    let bad = |problem: &str| AclError::new(offset, format!("`{}`: {problem}", piece.escape_ascii()));
    let mut fields: Vec<&[u8]> = piece.split(|byte| *byte == b':').map(<[u8]>::trim_ascii).collect();
    let is_default = matches!(fields.first(), Some(&(b"default" | b"d")));
    if is_default {
        fields.remove(0);
    }
    let (word, qualifier, permissions, suffix) = match *fields.as_slice() {
        // `mask:rwx` and `other:rwx`, as Solaris and older getfacl write them.
        [word @ (b"mask" | b"m" | b"other" | b"o"), permissions] => (word, &b""[..], permissions, None),
        [word, qualifier, permissions] => (word, qualifier, permissions, None),
        [word, qualifier, permissions, suffix] => (word, qualifier, permissions, Some(suffix)),
        _ => return Err(bad("not of the form `tag:name:permissions`")),
    };
    let resolve = |by_name: &dyn Fn(&[u8]) -> Option<u32>, what: &str| {
        if let Some(suffix) = suffix {
            return number(suffix).ok_or_else(|| bad("the id behind the permissions is not a number"));
        }
        let name = unescaped(qualifier);
        let id = if name.iter().all(u8::is_ascii_digit) { number(&name) } else { by_name(&name) };
        id.ok_or_else(|| bad(&format!("the {what} is not known")))
    };
    let tag = match (word, qualifier.is_empty()) {
        (b"user" | b"u", true) => Tag::UserObj,
        (b"user" | b"u", false) => Tag::User(resolve(&|name| names.user(name), "user")?),
        (b"group" | b"g", true) => Tag::GroupObj,
        (b"group" | b"g", false) => Tag::Group(resolve(&|name| names.group(name), "group")?),
        (b"mask" | b"m", true) => Tag::Mask,
        (b"other" | b"o", true) => Tag::Other,
        (b"mask" | b"m" | b"other" | b"o", false) => return Err(bad("takes no name")),
        _ => return Err(bad("unknown tag")),
    };
    if qualifier.is_empty() && suffix.is_some() {
        return Err(bad("an id behind the permissions of an entry that names nobody"));
    }
    let permissions = parse_permissions(permissions).ok_or_else(|| bad("permissions are not of the form `rwx`"))?;
    Ok((is_default, AclEntry { tag, permissions }))
}

/// `rwx` with dashes in any place, letters in any order (as the C library takes them), or one octal digit.
fn parse_permissions(text: &[u8]) -> Option<u8> {
    if let [digit @ b'0'..=b'7'] = text {
        return Some(digit - b'0');
    }
    let mut permissions = 0;
    for letter in text {
        let bit = match letter {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return None,
        };
        if bit != 0 && permissions & bit != 0 {
            return None;
        }
        permissions |= bit;
    }
    (1..=3).contains(&text.len()).then_some(permissions)
}

/// getfacl writes bytes of a name that would confuse its reader as `\` and three octal digits.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', &[high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', ref behind @ ..]) = (first, tail)
        {
            plain.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
            rest = behind;
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}
