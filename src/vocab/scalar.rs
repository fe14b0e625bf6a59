//! What a plain (unquoted) YAML 1.1 scalar is: the implicit types of PyYAML, with Salt's exceptions.
//!
//! Salt's exceptions: leading zeros are dropped instead of meaning octal, and dates stay text.

use super::Value;

/// The implicit type of a plain scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarType {
    /// `~`, `null`, nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool,
    /// Whole numbers: decimal, `0x`, `0b`, leading zeros, sexagesimal.
    Int,
    /// Numbers with a point, `.inf`, `.nan`.
    Float,
    /// A date, or date and time.
    Timestamp,
    /// `<<`, which takes in another map.
    Merge,
    /// `=`, the default value of a map.
    Default,
    /// Text.
    String,
}

/// The implicit type of this plain scalar.
pub fn scalar_type(text: &str) -> ScalarType {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarType::Null,
        "<<" => ScalarType::Merge,
        "=" => ScalarType::Default,
        _ if is_bool(text) => ScalarType::Bool,
        _ if is_float(text) => ScalarType::Float,
        _ if is_int(text) => ScalarType::Int,
        _ if is_timestamp(text) => ScalarType::Timestamp,
        _ => ScalarType::String,
    }
}

/// The value of this plain scalar; none for what YAML gives a type that no value has (`<<`, `=`, `0x_`).
pub fn plain_scalar(text: &str) -> Option<Value> {
    match scalar_type(text) {
        ScalarType::Null => Some(Value::Null),
        ScalarType::Bool => bool_value(text).map(Value::Bool),
        ScalarType::Int => int_value(text),
        ScalarType::Float => float_value(text).map(Value::Float),
        ScalarType::Timestamp | ScalarType::String => Some(Value::from(text)),
        ScalarType::Merge | ScalarType::Default => None,
    }
}

/// The truth value of a word that YAML 1.1 takes for one, in any case.
pub fn bool_value(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The whole number in a scalar of that type; one that fits no `i128` stays text.
pub fn int_value(text: &str) -> Option<Value> {
    // Salt's loader drops leading zeros only where no sign stands before them.
    let decimal = text.starts_with('0') && !text.starts_with("0b") && !text.starts_with("0x");
    let trimmed = if decimal { text.trim_start_matches('0') } else { text };
    let digits: String = trimmed.chars().filter(|character| *character != '_').collect();
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let (radix, digits) = match digits {
        "" if decimal => (10, "0"),
        other => match (other.strip_prefix("0b"), other.strip_prefix("0x")) {
            (Some(binary), _) => (2, binary),
            (_, Some(hexadecimal)) => (16, hexadecimal),
            _ if other.len() > 1 && other.starts_with('0') => (8, other),
            _ => (10, other),
        },
    };
    if digits.is_empty()
        || !digits.split(':').all(|part| !part.is_empty() && part.chars().all(|digit| digit.is_digit(radix)))
    {
        return None;
    }
    let fits = digits.split(':').try_fold(0_i128, |sum, part| {
        i128::from_str_radix(part, radix).ok().and_then(|part| sum.checked_mul(60)?.checked_add(part))
    });
    Some(match fits {
        Some(number) => Value::Int(if negative { -number } else { number }),
        None => Value::from(text),
    })
}

/// The number in a scalar of type float.
pub fn float_value(text: &str) -> Option<f64> {
    let lower = text.replace('_', "").to_ascii_lowercase();
    let (sign, digits) = match lower.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, lower.strip_prefix('+').unwrap_or(&lower)),
    };
    match digits {
        ".inf" => return Some(sign * f64::INFINITY),
        ".nan" => return Some(f64::NAN),
        _ => {}
    }
    // Least significant part first, as PyYAML sums them: another order would round otherwise.
    let mut base = 1.0;
    let mut sum = 0.0;
    for part in digits.rsplit(':') {
        let number: f64 = part.parse().ok()?;
        sum += number * base;
        base *= 60.0;
    }
    Some(sign * sum)
}

fn is_bool(text: &str) -> bool {
    const WORDS: [&str; 6] = ["yes", "no", "true", "false", "on", "off"];
    WORDS.iter().any(|word| {
        text.eq_ignore_ascii_case(word)
            && (text.bytes().all(|byte| byte.is_ascii_uppercase())
                || text.bytes().skip(1).all(|byte| byte.is_ascii_lowercase()))
    })
}

fn without_sign(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// The rest behind a first digit and further digits and underscores.
fn skip_number(text: &str) -> Option<&str> {
    text.starts_with(|first: char| first.is_ascii_digit())
        .then(|| text.trim_start_matches(|next: char| next.is_ascii_digit() || next == '_'))
}

/// The rest behind one or more `:MM`, each 0 to 59.
fn skip_sexagesimal(mut text: &str) -> Option<&str> {
    let mut count = 0;
    while let Some(rest) = text.strip_prefix(':') {
        let digits = rest.len() - rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        match digits {
            1 => {}
            2 if rest.starts_with(['0', '1', '2', '3', '4', '5']) => {}
            _ => return None,
        }
        text = &rest[digits..];
        count += 1;
    }
    (count > 0).then_some(text)
}

fn is_float(text: &str) -> bool {
    let unsigned = without_sign(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let fraction_and_exponent = |rest: &str| {
        let (fraction, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        // YAML 1.1 wants a sign in the exponent.
        let exponent_is_valid = exponent.is_none_or(|exponent| {
            exponent
                .strip_prefix(['-', '+'])
                .is_some_and(|power| !power.is_empty() && power.bytes().all(|byte| byte.is_ascii_digit()))
        });
        digits(fraction) && exponent_is_valid
    };
    if let Some(rest) = text.strip_prefix('.') {
        return rest.starts_with(|first: char| first.is_ascii_digit()) && fraction_and_exponent(rest);
    }
    let Some(rest) = skip_number(unsigned) else { return false };
    if let Some(rest) = rest.strip_prefix('.') {
        return fraction_and_exponent(rest);
    }
    skip_sexagesimal(rest).and_then(|rest| rest.strip_prefix('.')).is_some_and(digits)
}

fn is_int(text: &str) -> bool {
    let unsigned = without_sign(text);
    let all = |part: &str, allowed: fn(u8) -> bool| {
        !part.is_empty() && part.bytes().all(|byte| allowed(byte) || byte == b'_')
    };
    if let Some(binary) = unsigned.strip_prefix("0b") {
        return all(binary, |byte| matches!(byte, b'0' | b'1'));
    }
    if let Some(hexadecimal) = unsigned.strip_prefix("0x") {
        return all(hexadecimal, |byte| byte.is_ascii_hexdigit());
    }
    if let Some(octal) = unsigned.strip_prefix('0') {
        return octal.is_empty() || all(octal, |byte| (b'0'..=b'7').contains(&byte));
    }
    skip_number(unsigned).is_some_and(|rest| rest.is_empty() || skip_sexagesimal(rest) == Some(""))
}

fn is_timestamp(text: &str) -> bool {
    timestamp(text).is_some_and(str::is_empty)
}

/// The rest behind `text`'s first `least` to `most` digits.
fn skip_digits(text: &str, least: usize, most: usize) -> Option<&str> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    (count >= least).then(|| &text[count..])
}

fn timestamp(text: &str) -> Option<&str> {
    let rest = skip_digits(text, 4, 4)?.strip_prefix('-')?;
    let month = skip_digits(rest, 1, 2)?;
    let day = skip_digits(month.strip_prefix('-')?, 1, 2)?;
    if day.is_empty() {
        return (text.len() == 10).then_some("");
    }
    let blank = |text: &'_ str| text.trim_start_matches([' ', '\t']).len();
    let clock = match day.strip_prefix(['t', 'T']) {
        Some(clock) => clock,
        None if blank(day) < day.len() => &day[day.len() - blank(day)..],
        None => return None,
    };
    let rest = skip_digits(clock, 1, 2)?.strip_prefix(':')?;
    let rest = skip_digits(rest, 2, 2)?.strip_prefix(':')?;
    let rest = skip_digits(rest, 2, 2)?;
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    if rest.is_empty() {
        return Some(rest);
    }
    let zone = rest.trim_start_matches([' ', '\t']);
    if let Some(rest) = zone.strip_prefix('Z') {
        return Some(rest);
    }
    let rest = skip_digits(zone.strip_prefix(['-', '+'])?, 1, 2)?;
    match rest.strip_prefix(':') {
        Some(minutes) => skip_digits(minutes, 2, 2),
        None => Some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types and values as PyYAML 6.0.3 under Salt 3008.3 gives them.
    #[test]
    fn scalars_have_the_types_of_yaml_1_1() {
        let int = |number: i128| Some(Value::Int(number));
        for (text, expected) in [
            ("1", int(1)),
            ("+1", int(1)),
            ("010", int(10)),
            ("0755", int(755)),
            ("-010", int(-8)),
            ("+017", int(15)),
            ("00", int(0)),
            ("0_7", int(7)),
            ("0x10", int(16)),
            ("-0xff", int(-255)),
            ("0b101", int(5)),
            ("0x_", None),
            ("1_000", int(1000)),
            ("12:30:45", int(45045)),
            ("1:2", int(62)),
            ("1:60", Some(Value::from("1:60"))),
            ("089", Some(Value::from("089"))),
            ("0o17", Some(Value::from("0o17"))),
            ("1e3", Some(Value::from("1e3"))),
            ("1.0e3", Some(Value::from("1.0e3"))),
            ("1.0e+3", Some(Value::Float(1000.0))),
            ("1.", Some(Value::Float(1.0))),
            (".5", Some(Value::Float(0.5))),
            ("-.5", Some(Value::from("-.5"))),
            ("1:30.5", Some(Value::Float(90.5))),
            ("-.inf", Some(Value::Float(f64::NEG_INFINITY))),
            ("+.nan", Some(Value::from("+.nan"))),
            ("yEs", Some(Value::from("yEs"))),
            ("ON", Some(Value::Bool(true))),
            ("Off", Some(Value::Bool(false))),
            ("y", Some(Value::from("y"))),
            ("~", Some(Value::Null)),
            ("nULL", Some(Value::from("nULL"))),
            ("2026-01-01", Some(Value::from("2026-01-01"))),
            ("<<", None),
            ("=", None),
            ("340282366920938463463374607431768211456", Some(Value::from("340282366920938463463374607431768211456"))),
        ] {
            assert_eq!(plain_scalar(text), expected, "{text}");
        }
    }

    #[test]
    fn dates_are_told_apart_from_text() {
        for text in ["2026-01-01", "2026-1-1 1:02:03", "2001-12-14t21:59:43.10-05:00", "2001-12-15 2:59:43.1 Z"] {
            assert_eq!(scalar_type(text), ScalarType::Timestamp, "{text}");
        }
        for text in ["2026-1-1", "2026-01-01x", "2026-01-01 1:2:03", "2026-01-01T01:02:03 +"] {
            assert_eq!(scalar_type(text), ScalarType::String, "{text}");
        }
    }
}
