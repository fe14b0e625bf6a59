//! PAX records: `LENGTH KEY=VALUE\n`, where the length counts itself and the value may hold any byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::block::{self, BLOCK, Block, MAGIC, MAGIC_USTAR, MODE, NAME, SIZE, TYPEFLAG};

/// The record key of an xattr. A key ends at the first `=`, so a name with one is written as GNU tar does, `%3D` for
/// `=` and `%25` for `%`; so is a name that would be taken for such a one. All other names stand as they are, which is
/// how engines read them.
pub(super) fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = XATTR.to_vec();
    if !name.contains(&b'=') && !is_gnu_encoded(name) {
        key.extend_from_slice(name);
        return key;
    }
    for byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            byte => key.push(*byte),
        }
    }
    key
}

/// The xattr's name in a record key, without [`XATTR`].
pub(super) fn xattr_name(written: &[u8]) -> Cow<'_, [u8]> {
    if !is_gnu_encoded(written) {
        return Cow::Borrowed(written);
    }
    let mut name = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, behind) = match tail.split_at_checked(2) {
            Some((b"25", behind)) if *first == b'%' => (b'%', behind),
            Some((b"3D", behind)) if *first == b'%' => (b'=', behind),
            _ => (*first, tail),
        };
        name.push(byte);
        rest = behind;
    }
    Cow::Owned(name)
}

/// Whether a name holds `%3D`, or `%253D` and so on: an encoded `=`, or what became of an encoded `%` before it.
fn is_gnu_encoded(name: &[u8]) -> bool {
    name.iter().enumerate().filter(|(_, byte)| **byte == b'%').any(|(at, _)| {
        let mut rest = &name[at + 1..];
        while let Some(behind) = rest.strip_prefix(b"25") {
            rest = behind;
        }
        rest.starts_with(b"3D")
    })
}

/// Keys that stand several times in one header and mean something each time (GNU's sparse form 0.0).
const REPEATED: [&[u8]; 2] = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"];

pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
pub(super) const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";
pub(super) const ACL_ACCESS: &[u8] = b"SCHILY.acl.access";
pub(super) const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default";

/// The records in the content of an extended header; the first that is none ends them with what is wrong with it.
pub(super) fn parse(content: &[u8]) -> Parse<'_> {
    Parse { rest: content }
}

/// Iterates over the keys and values in the content of an extended header.
pub(super) struct Parse<'a> {
    rest: &'a [u8],
}

impl<'a> Parse<'a> {
    fn record(&mut self) -> Result<(&'a [u8], &'a [u8]), &'static str> {
        let rest = self.rest;
        let digits = rest.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || rest.get(digits) != Some(&b' ') {
            return Err("a record does not begin with its length");
        }
        let length = parse_unsigned(&rest[..digits]).and_then(|length| usize::try_from(length).ok());
        let split = length.and_then(|length| rest.split_at_checked(length)).ok_or("the length of a record is wrong")?;
        let (record, behind) = (split.0.get(digits + 1..).unwrap_or_default(), split.1);
        let Some((b'\n', record)) = record.split_last() else { return Err("a record does not end with a newline") };
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("a record has no `=`")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("the key of a record is empty or holds a NUL");
        }
        self.rest = behind;
        Ok((key, value))
    }
}

impl<'a> Iterator for Parse<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

/// Keys that GNU tar and libarchive must have read before others; the rest stands in the order of the bytes.
const FIRST: [&[u8]; 3] = [b"hdrcharset", b"GNU.sparse.size", b"GNU.sparse.numblocks"];

/// The records in force for a member, or for all members behind a global header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    single: BTreeMap<Vec<u8>, Vec<u8>>,
    repeated: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    /// Applies one record read later than those held: it replaces an earlier one of its key, and an empty value takes
    /// that one away. An empty xattr that takes nothing away is an xattr without content, which is a thing.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) {
        if REPEATED.contains(&key) {
            self.repeated.push((key.to_vec(), value.to_vec()));
        } else if !value.is_empty() || (self.single.remove(key).is_none() && key.starts_with(XATTR)) {
            self.set(key, value);
        }
    }

    /// Applies all records of one extended header's content.
    pub(super) fn apply_all(&mut self, content: &[u8]) -> Result<(), &'static str> {
        for record in parse(content) {
            let (key, value) = record?;
            self.apply(key, value);
        }
        Ok(())
    }

    pub(super) fn set(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.single.insert(key.into(), value.into());
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.single.remove(key);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        self.single.retain(|key, _| keep(key));
    }

    /// Takes everything away that says how a file is sparse.
    pub(super) fn remove_sparse(&mut self) {
        self.single.retain(|key, _| !key.starts_with(b"GNU.sparse."));
        self.repeated.clear();
    }

    /// All records in the order they are written in.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let first = FIRST.iter().filter_map(|key| self.single.get(*key).map(|value| (*key, value.as_slice())));
        let single = self.single.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let repeated = self.repeated.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        first.chain(single.filter(|(key, _)| !FIRST.contains(key))).chain(repeated)
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.single.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.single.is_empty() && self.repeated.is_empty()
    }

    /// What the records take in a header of their own.
    pub(super) fn bytes(&self) -> u64 {
        self.iter().map(|(key, value)| key.len() as u64 + value.len() as u64 + 16).sum()
    }

    /// The extended header that holds the records, to stand before the block of the member called `name`; nothing when
    /// there are no records.
    pub(super) fn write_header(&self, name: &[u8], out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let start = out.len();
        out.resize(start + BLOCK, 0);
        for (key, value) in self.iter() {
            write_record(key, value, out);
        }
        let size = out.len() - start - BLOCK;
        out.resize(out.len() + (BLOCK - size % BLOCK) % BLOCK, 0);
        out[start..start + BLOCK].copy_from_slice(&header_block(name, size as u64));
    }
}

/// The block of an extended header: nothing in it depends on anything but the member's name and the records' size.
fn header_block(name: &[u8], size: u64) -> Block {
    let mut header = [0; BLOCK];
    let base = name.rsplit(|byte| *byte == b'/').find(|component| !component.is_empty()).unwrap_or(b"root");
    let own: Vec<u8> = b"PaxHeaders/".iter().chain(base.iter().take(80)).map(|byte| plain(*byte)).collect();
    let mut set = |range: std::ops::Range<usize>, value: u64| block::set_octal(&mut header[range], value);
    // Sizes beyond 8 GiB cannot come up: the records stand in memory.
    let _ = set(SIZE, size) && set(MODE, 0o644) && set(block::UID, 0) && set(block::GID, 0) && set(block::MTIME, 0);
    let _ = block::set_text(&mut header[NAME], &own);
    header[TYPEFLAG] = b'x';
    header[MAGIC].copy_from_slice(MAGIC_USTAR);
    block::seal(&mut header);
    header
}

/// A byte that every reader shows as it is, else `_`.
pub(super) fn plain(byte: u8) -> u8 {
    if byte.is_ascii_graphic() || byte == b' ' { byte } else { b'_' }
}

fn write_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let payload = key.len() + value.len() + 3;
    let mut length = payload + digits(payload);
    if digits(length) > digits(payload) {
        length = payload + digits(length);
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.max(1).ilog10() as usize + 1
}

/// A PAX time: seconds with as many decimals as there are.
pub(super) fn time_text(time: super::Timestamp) -> String {
    let (sign, seconds, nanoseconds) = if time.seconds < 0 && time.nanoseconds > 0 {
        ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds.min(999_999_999))
    } else {
        (if time.seconds < 0 { "-" } else { "" }, time.seconds.unsigned_abs(), time.nanoseconds)
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{nanoseconds:09}").trim_end_matches('0').to_owned()
}

/// A PAX time of any precision, cut to nanoseconds towards the past.
pub(super) fn parse_time(text: &[u8]) -> Option<super::Timestamp> {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(parse_unsigned(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for place in 0..9 {
        nanoseconds = nanoseconds * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    if !negative {
        return Some(super::Timestamp { seconds, nanoseconds });
    }
    // -1.5 lies half a second after -2; anything behind the ninth decimal lies before what was kept of it.
    if fraction.iter().skip(9).any(|digit| *digit != b'0') {
        nanoseconds += 1;
    }
    if nanoseconds == 0 {
        return Some(super::Timestamp { seconds: -seconds, nanoseconds: 0 });
    }
    Some(super::Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds })
}

/// Decimal digits and nothing else, in 64 bits.
pub(super) fn parse_unsigned(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in text {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    Some(value)
}
