//! Pattern lists of OpenSSH (ssh_config(5), PATTERNS): `*`, `?`, `!`, separated by commas.

/// Whether the text matches one of the patterns and none of the negated ones.
pub(super) fn matches_list(text: &str, patterns: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(text.as_bytes(), negated.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(text.as_bytes(), pattern.as_bytes()),
        }
    }
    found
}

/// One pattern; linear in memory, and in time at worst the product of both lengths.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where the last `*` stood, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(place) {
            Some(b'*') => {
                star = Some((place, at));
                place += 1;
            }
            Some(own) if *own == b'?' || *own == text[at] => {
                place += 1;
                at += 1;
            }
            _ => {
                let Some((stood, taken)) = star else { return false };
                star = Some((stood, taken + 1));
                place = stood + 1;
                at = taken + 1;
            }
        }
    }
    pattern[place..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches_list;

    #[test]
    fn patterns_are_those_of_openssh() {
        for (text, patterns, expected) in [
            ("release@example.net", "release@example.net", true),
            ("release@example.net", "*@example.net", true),
            ("release@example.net", "*@example.net,!release@*", false),
            ("release@example.net", "!release@*,*@example.net", false),
            ("release@example.net", "a,b,rel*net", true),
            ("abc", "a?c", true),
            ("abc", "a?", false),
            ("abc", "*", true),
            ("", "*", true),
            ("aab", "*ab", true),
            ("abab", "*ab*ab", true),
            ("abc", "!x", false),
            ("Abc", "abc", false),
        ] {
            assert_eq!(matches_list(text, patterns), expected, "{text} ~ {patterns}");
        }
    }
}
