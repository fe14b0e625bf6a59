//! Sizes of disks as qemu-img and guestfish write them.

/// What is written: a size, or how much more than the parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// This many bytes.
    Whole(u64),
    /// This many more, behind a `+`.
    More(u64),
}

/// Disks are whole sectors; qemu-img rounds up to them.
const SECTOR: u64 = 512;

/// The largest file that the file systems of Linux keep.
const LARGEST: u64 = i64::MAX as u64;

/// The size in a text: `8G`, `+2G`, `512M`, `1.5T`, `10GiB`, `8589934592`; powers of 1024, but for `GB` and its like.
pub(super) fn parse(text: &str) -> Result<Written, String> {
    let (more, number) = text.strip_prefix('+').map_or((false, text), |rest| (true, rest));
    if number.starts_with('-') {
        return Err(format!("`{text}` would shrink the disk: write the size that it shall have"));
    }
    let bytes = bytes(number).ok_or_else(|| format!("`{}` is not a size such as 8G or +512M", text.escape_debug()))?;
    let rounded = bytes.checked_next_multiple_of(SECTOR).filter(|bytes| *bytes <= LARGEST);
    match rounded {
        None => Err(format!("`{text}` is larger than any file")),
        Some(0) => Err(format!("`{text}` is nothing")),
        Some(bytes) => Ok(if more { Written::More(bytes) } else { Written::Whole(bytes) }),
    }
}

/// Bytes, rounded down; no more than `u64::MAX`, which is larger than any file.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = factor(suffix)?;
    let (whole, fraction) = match number.split_once('.') {
        // Part of a byte means nothing, and digits behind the first eighteen next to nothing.
        Some((_, fraction)) if factor == 1 || fraction.len() > 18 || fraction.contains('.') => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    if whole.is_empty() || whole.len() > 20 {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let scaled = whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(part)?;
    let bytes = match scaled.checked_mul(u128::from(factor)) {
        Some(product) => product / scale,
        None => return Some(u64::MAX),
    };
    Some(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// What a suffix stands for: guestfish takes `K`, `KiB` and `KB`, qemu-img `k` and `b` too.
fn factor(suffix: &str) -> Option<u64> {
    let mut letters = suffix.chars();
    let Some(first) = letters.next() else { return Some(1) };
    let power = match first.to_ascii_uppercase() {
        'B' if suffix.len() == 1 => return Some(1),
        'K' => 1,
        'M' => 2,
        'G' => 3,
        'T' => 4,
        'P' => 5,
        'E' => 6,
        _ => return None,
    };
    match letters.as_str() {
        "" | "iB" => 1024u64.checked_pow(power),
        "B" => 1000u64.checked_pow(power),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_qemu_img_and_guestfish() {
        for (text, bytes) in [
            ("8G", 8 << 30),
            ("8g", 8 << 30),
            ("512M", 512 << 20),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("1000", 1024),
            ("512b", 512),
            ("10GiB", 10 << 30),
            ("1GB", 1_000_000_000),
            ("2T", 2 << 40),
        ] {
            let bytes = u64::next_multiple_of(bytes, 512);
            assert_eq!(parse(text), Ok(Written::Whole(bytes)), "{text}");
            assert_eq!(parse(&format!("+{text}")), Ok(Written::More(bytes)), "+{text}");
        }
        let bad = ["", "+", "G", "-1G", "0", "0G", "8 G", "8Gi", "8X", "1e9", "1.5", "1.2.3G", ".5G", "++1G", "8GBB"];
        for text in bad.into_iter().chain(["99999999999999999999999G", "9E", "16E", "8192P", "ä", "８G", "0x10"]) {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
