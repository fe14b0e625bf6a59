//! The id of a job: sorts by time, and nobody guesses somebody else's.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// Crockford's base 32 in small letters: no `i`, `l`, `o` or `u`, so that an id can be read out; its order is ASCII's.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 26 digits of 5 bits hold 128 bits, the first digit 3 of them.
const LENGTH: usize = 26;

/// A job's id: 48 bits of milliseconds since 1970, then 80 random bits, written as 26 digits of base 32 (a ULID).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(u128);

impl JobId {
    /// The id of a job made at this time, with these random bytes.
    pub fn new(milliseconds: u64, random: [u8; 10]) -> Self {
        let mut low = [0; 16];
        low[6..].copy_from_slice(&random);
        Self((u128::from(milliseconds) << 80) | u128::from_be_bytes(low))
    }

    /// When the job was made, in milliseconds since 1970.
    pub fn milliseconds(self) -> u64 {
        u64::try_from(self.0 >> 80).unwrap_or(u64::MAX)
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
            Error::new(Kind::Usage, format!("`{shown}` is not a job id"))
                .hint("a job id has 26 digits and small letters, as `castoff call job.list` shows them")
        };
        if text.len() != LENGTH {
            return Err(wrong());
        }
        let mut bits: u128 = 0;
        for (at, byte) in text.bytes().enumerate() {
            let digit = DIGITS.iter().position(|digit| *digit == byte).ok_or_else(wrong)?;
            if at == 0 && digit > 7 {
                return Err(wrong());
            }
            bits = (bits << 5) | digit as u128;
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for at in (0..LENGTH).rev() {
            let digit = usize::try_from((self.0 >> (5 * at)) & 31).unwrap_or_default();
            write!(formatter, "{}", char::from(DIGITS[digit]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JobId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::JobId;

    /// The left side is the example of the ULID specification, in small letters; its time decoded by hand.
    #[test]
    fn an_id_is_a_ulid() {
        let id: JobId = "01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        assert_eq!(id.to_string(), "01arz3ndektsv4rrffq69g5fav");
        assert_eq!(id.milliseconds(), 1_469_922_850_259);
    }

    #[test]
    fn ids_sort_by_time_as_text_and_as_values() {
        let times = [0, 1, 31, 32, 1_700_000_000_000, (1 << 48) - 1];
        let ids: Vec<JobId> = times.iter().map(|time| JobId::new(*time, [0xff; 10])).collect();
        for (pair, time) in ids.windows(2).zip(times) {
            assert!(pair[0] < pair[1] && pair[0].to_string() < pair[1].to_string());
            assert_eq!(pair[0].milliseconds(), time);
            assert_eq!(pair[0].to_string().parse::<JobId>().unwrap(), pair[0]);
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for bad in [
            "",
            "1",
            "01arz3ndektsv4rrffq69g5fa",
            "01arz3ndektsv4rrffq69g5fav0",
            "81arz3ndektsv4rrffq69g5fav",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01arz3ndektsv4rrffq69g5fau",
            "../../../../etc/passwd1234",
            "01arz3ndektsv4rrffq69g5f\u{e9}",
        ] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
        }
    }
}
