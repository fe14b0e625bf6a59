//! Moments as people and image configurations write them.

/// RFC 3339 in UTC, with as many digits of nanoseconds as say something: `2026-11-21T01:36:00Z`.
///
/// Years outside 0 to 9999 are clamped, since the format has no others.
pub fn timestamp(seconds: i64, nanoseconds: u32) -> String {
    // 0000-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
    let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let fraction = match nanoseconds {
        0 => String::new(),
        _ => format!(".{nanoseconds:09}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The seconds since 1970 of a moment written as [`timestamp`] writes whole seconds, and in no other way.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != "2026-11-21T01:36:00Z".len() {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let seconds = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    let since_march = if month > 2 { month - 3 } else { month + 9 };
    let year_from_march = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * since_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year_from_march.div_euclid(400), year_from_march.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let moment = (era * 146_097 + day_of_era - 719_468) * 86_400 + seconds;
    // Whatever is no moment (a 31st of June, an hour 24, a stray separator) is written in another way.
    (timestamp(moment, 0) == text).then_some(moment)
}

/// The proleptic Gregorian date of a number of days since 1970-01-01, counted in eras of 400 years from March on, so
/// that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march = days + 719_468;
    let era = from_march.div_euclid(146_097);
    let day_of_era = from_march.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{parse_timestamp, timestamp};

    /// Expected values from `date -u -d @N +%FT%TZ`.
    #[test]
    fn timestamps_agree_with_date() {
        for (seconds, nanoseconds, expected) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_399, 0, "2000-02-28T23:59:59Z"),
            (951_868_799, 5, "2000-02-29T23:59:59.000000005Z"),
            (1_795_224_960, 120_000_000, "2026-11-21T01:36:00.12Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (7_258_118_400, 0, "2200-01-01T00:00:00Z"),
            (i64::MAX, 0, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds, nanoseconds), expected);
        }
    }

    /// Expected values from `date -u -d TEXT +%s`.
    #[test]
    fn texts_become_moments_or_nothing() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59Z", Some(951_868_799)),
            ("2027-01-01T00:00:00Z", Some(1_798_761_600)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("0000-03-01T00:00:00Z", Some(-62_162_035_200)),
            ("2026-06-31T00:00:00Z", None),
            ("2027-02-29T00:00:00Z", None),
            ("2027-13-01T00:00:00Z", None),
            ("2027-01-01T24:00:00Z", None),
            ("2027-01-01 00:00:00Z", None),
            ("2027-01-01T00:00:00", None),
            ("+027-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_timestamp(text), seconds, "{text}");
        }
    }
}
