//! One 512-byte header block: where its fields are, its checksum, its dialect, its numbers.

use std::ops::Range;

/// What everything in a tar is a multiple of.
pub(super) const BLOCK: usize = 512;
/// The same for offsets.
pub(super) const BLOCK64: u64 = 512;

/// The bytes of a header block.
pub(super) type Block = [u8; BLOCK];

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
pub(super) const CHECKSUM: Range<usize> = 148..156;
pub(super) const TYPEFLAG: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
pub(super) const MAGIC: Range<usize> = 257..265;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;
/// star's prefix is shorter: two times follow it.
pub(super) const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;

pub(super) const MAGIC_USTAR: &[u8; 8] = b"ustar\x0000";

/// Who defined what stands behind the link name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Nothing stands there.
    V7,
    /// POSIX: a prefix of the name.
    Ustar,
    /// star: a shorter prefix, then times.
    Star,
    /// GNU: times, sparse segments.
    Gnu,
}

impl Dialect {
    pub(super) fn of(block: &Block) -> Self {
        // Readers look at the six bytes of the magic only: real archives have blanks, NULs or digits as the version.
        if block[MAGIC] == *b"ustar  \0" {
            Self::Gnu
        } else if block[MAGIC].starts_with(b"ustar\0") {
            if block[STAR_TRAILER] == *b"tar\0" { Self::Star } else { Self::Ustar }
        } else {
            Self::V7
        }
    }

    /// Where this dialect keeps a prefix of the name.
    pub(super) fn prefix(self) -> Option<Range<usize>> {
        match self {
            Self::V7 | Self::Gnu => None,
            Self::Ustar => Some(PREFIX),
            Self::Star => Some(STAR_PREFIX),
        }
    }
}

/// The sum of all bytes as they stand; 0 means an end block.
pub(super) fn plain_sum(block: &Block) -> u32 {
    block.iter().map(|byte| u32::from(*byte)).sum()
}

/// Whether the checksum field tells the truth, counting bytes as unsigned (as POSIX has it) or as signed (as old
/// programs did).
pub(super) fn checksum_is_right(block: &Block, plain_sum: u32) -> bool {
    let Some(claimed) = octal(&block[CHECKSUM]) else { return false };
    let field: u32 = block[CHECKSUM].iter().map(|byte| u32::from(*byte)).sum();
    let blanks = 8 * u32::from(b' ');
    if claimed == u64::from(plain_sum - field + blanks) {
        return true;
    }
    let signed: i64 = block.iter().map(|byte| i64::from(byte.cast_signed())).sum();
    let field: i64 = block[CHECKSUM].iter().map(|byte| i64::from(byte.cast_signed())).sum();
    i64::try_from(claimed).is_ok_and(|claimed| claimed == signed - field + i64::from(blanks))
}

/// Writes the right checksum.
pub(super) fn seal(block: &mut Block) {
    block[CHECKSUM].fill(b' ');
    let sum = plain_sum(block);
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between blanks and NULs (an empty field is 0), or base-256 with the top bit set, negative
/// when the second is set too; none when it is neither or needs more than 64 bits.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field).and_then(|value| i64::try_from(value).ok()),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let mut value: u64 = 0;
    let mut ended = false;
    for byte in &field[start..] {
        match byte {
            b'0'..=b'7' if !ended => value = value.checked_mul(8)?.checked_add(u64::from(byte - b'0'))?,
            b' ' => ended = true,
            0 => break,
            _ => return None,
        }
    }
    Some(value)
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
    let mut value: i64 = if negative { -1 } else { 0 };
    for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(value)
}

/// Writes a number as octal digits and a NUL, if it fits.
#[must_use]
pub(super) fn set_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    if digits < 22 && value >> (3 * digits) != 0 {
        return false;
    }
    let mut rest = value;
    for place in field[..digits].iter_mut().rev() {
        *place = b'0' + (rest & 7) as u8;
        rest >>= 3;
    }
    field[digits] = 0;
    true
}

/// Writes a text and NULs behind it, if it fits; a text that fills the field has no NUL.
#[must_use]
pub(super) fn set_text(field: &mut [u8], value: &[u8]) -> bool {
    let Some((head, tail)) = field.split_at_mut_checked(value.len()) else { return false };
    head.copy_from_slice(value);
    tail.fill(0);
    true
}

/// How many zero bytes follow content of this size.
pub fn content_padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK64
}
