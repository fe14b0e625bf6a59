//! Sizes as people write them.

const UNITS: [(&str, u64); 10] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Bytes from `1048576`, `20GiB` or `20 GB`; a bare `G` is refused, since some mean 1000 by it and some 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a size"))?;
    let factor = match unit.trim_start() {
        "" => 1,
        unit => UNITS
            .iter()
            .find_map(|(name, factor)| (*name == unit).then_some(*factor))
            .ok_or_else(|| format!("`{text}` is not a size, `{unit}` is no unit"))?,
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is more than 16 EiB"))
}
