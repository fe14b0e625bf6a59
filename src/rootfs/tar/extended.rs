//! What extended headers (PAX `x` and `g`, GNU `L` and `K`) say about the member behind them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::pax::{self, ACL_ACCESS, ACL_DEFAULT, LIBARCHIVE_XATTR, XATTR};
use super::{TextAcls, Timestamp};

/// Xattrs by name.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything said before a member's own block; what is not said is in the block.
#[derive(Clone, Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Xattrs,
    /// libarchive's own form of xattrs, names and values as they were written.
    pub(super) libarchive: Xattrs,
    pub(super) text_acls: TextAcls,
    pub(super) sparse: SparseRecords,
    /// GNU's long name and long link.
    pub(super) gnu_path: Option<Vec<u8>>,
    pub(super) gnu_link: Option<Vec<u8>>,
    /// How many PAX headers of the member's own there were.
    pub(super) headers: u32,
    /// Whether a record took something away, which engines do not follow.
    pub(super) takes_away: bool,
}

/// The `GNU.sparse.*` records.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Form 0.1: `offset,length,…`.
    pub(super) map: Option<Vec<u8>>,
    /// Form 0.0: the numbers in the order of their records.
    pub(super) numbers: Vec<u64>,
}

impl Extended {
    /// Applies all records of one PAX header's content.
    pub(super) fn apply_all(&mut self, content: &[u8]) -> Result<(), String> {
        for record in pax::parse(content) {
            let (key, value) = record?;
            self.apply(key, value)?;
        }
        Ok(())
    }

    /// Applies one record. Unknown keys are left to [`super::rewrite`], which copies them.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() {
                return Err("an xattr without a name".to_owned());
            }
            let name = &*pax::xattr_name(name);
            // As in `Records::apply`: empty takes an earlier one away, and is an xattr without content otherwise.
            if !value.is_empty() || self.xattrs.remove(name).is_none() {
                self.xattrs.insert(name.to_vec(), value.to_vec());
            } else {
                self.takes_away = true;
            }
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
            self.libarchive.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        let number = || match value {
            b"" => Ok(None),
            value => pax::parse_unsigned(value).map(Some).ok_or_else(|| not_a_number(key, value)),
        };
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(pax::parse_time(value).ok_or_else(|| not_a_number(key, value))?),
            ACL_ACCESS => self.text_acls.access = text(),
            ACL_DEFAULT => self.text_acls.default = text(),
            b"GNU.sparse.major" => self.sparse.major = number()?,
            b"GNU.sparse.minor" => self.sparse.minor = number()?,
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = number()?,
            b"GNU.sparse.map" => self.sparse.map = text(),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.apply_sparse_number(key, number()?)?,
            _ => return Ok(()),
        }
        self.takes_away |= value.is_empty();
        Ok(())
    }

    /// Form 0.0 alternates offsets and lengths.
    fn apply_sparse_number(&mut self, key: &[u8], number: Option<u64>) -> Result<(), String> {
        let expects_offset = self.sparse.numbers.len().is_multiple_of(2);
        match number {
            Some(number) if expects_offset == (key == b"GNU.sparse.offset") => self.sparse.numbers.push(number),
            _ => return Err(format!("the record `{}` stands out of order", key.escape_ascii())),
        }
        Ok(())
    }

    /// Whether the headers mean to every reader what they mean here: Go forgets all PAX headers but the last and lets
    /// empty records count for nothing, and where PAX and GNU headers meet readers prefer one or the other.
    pub(super) fn is_plain(&self) -> bool {
        let is_mixed = self.headers > 0 && (self.gnu_path.is_some() || self.gnu_link.is_some());
        !(self.headers > 1 || self.takes_away || is_mixed)
    }

    /// The xattrs, and whether some of them are there in libarchive's form only, which engines do not read.
    pub(super) fn take_xattrs(&mut self) -> Result<(Xattrs, bool), String> {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        let mut only_libarchive = false;
        for (name, value) in std::mem::take(&mut self.libarchive) {
            let wrong = || format!("the record `LIBARCHIVE.xattr.{}` is not well encoded", name.escape_ascii());
            let name =
                percent_decoded(&name).filter(|name| !name.is_empty() && !name.contains(&0)).ok_or_else(wrong)?;
            if let Entry::Vacant(place) = xattrs.entry(name) {
                place.insert(base64_decoded(&value).ok_or_else(wrong)?);
                only_libarchive = true;
            }
        }
        Ok((xattrs, only_libarchive))
    }
}

fn not_a_number(key: &[u8], value: &[u8]) -> String {
    let value = &value[..value.len().min(40)];
    format!("the record `{}` is `{}`, not a number in its range", key.escape_ascii(), value.escape_ascii())
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (digits, behind) = tail.split_at_checked(2)?;
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            plain.push(digit(digits[0])? << 4 | digit(digits[1])?);
            rest = behind;
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    Some(plain)
}

/// Base64 with or without `=` at its end; libarchive writes none.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let mut plain = Vec::with_capacity(end / 4 * 3 + 2);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in &text[..end] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            plain.push((held >> bits & 0xff) as u8);
        }
    }
    (bits < 6).then_some(plain)
}
