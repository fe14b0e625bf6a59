//! The numbers that a disk would draw by lot, drawn from its plan's identity: equal plans, equal disks.

use std::fmt;

use crate::vocab::Digest;

/// What every number of one disk is drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed<'a>(pub(super) &'a Digest);

/// A UUID in its usual notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uuid([u8; 16]);

impl Seed<'_> {
    /// The number of this use, as a version 8 UUID (RFC 9562: its bits are the maker's own).
    pub(super) fn uuid(self, purpose: &str) -> Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.draw(purpose)[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }

    /// 32 bits for this use.
    pub(super) fn number(self, purpose: &str) -> u32 {
        let bytes = self.draw(purpose);
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn draw(self, purpose: &str) -> [u8; 32] {
        use sha2::Digest as _;
        sha2::Sha256::digest(format!("castoff disk {purpose} {}", self.0)).into()
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(formatter, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_and_purpose_and_on_nothing_else() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        assert_eq!(Seed(&one).uuid("root"), Seed(&one).uuid("root"));
        assert_ne!(Seed(&one).uuid("root"), Seed(&one).uuid("hash"));
        assert_ne!(Seed(&one).uuid("root"), Seed(&other).uuid("root"));
        let text = Seed(&one).uuid("root").to_string();
        assert_eq!((text.len(), &text[14..15]), (36, "8"));
    }
}
