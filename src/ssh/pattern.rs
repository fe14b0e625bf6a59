//! Patterns of host names: `*`, `?`, and negation in a list, as ssh_config(5) and sshd(8) describe them.

/// Whether the whole text fits the pattern; case counts.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut seen) = (0, 0);
    // Where the last star stood, and how much of the text it has taken: going back to it is enough.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                at = place + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Whether the text fits one of the patterns and none of those that begin with `!`.
pub(crate) fn fits_list<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(refused) if fits(refused, text) => return false,
            Some(_) => {}
            None => found |= fits(pattern, text),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, fit) in [
            ("*", "", true),
            ("*", "host", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("10.0.?.*", "10.0.3.44", true),
            ("h?st", "hst", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("Host", "host", false),
        ] {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }

    #[test]
    fn one_negated_pattern_that_fits_refuses_the_list() {
        assert!(fits_list(["*.org", "!bad.org"], "good.org"));
        assert!(!fits_list(["*.org", "!bad.org"], "bad.org"));
        assert!(!fits_list(["!bad.org"], "good.org"), "a negation alone fits nothing");
    }
}
