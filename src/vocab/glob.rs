//! Patterns of names, as shells and Salt's users write them.

/// One part of a pattern of `fnmatch`.
enum Glob {
    Star,
    Any,
    One(char),
    Set { negated: bool, members: Vec<char> },
}

impl Glob {
    fn parse(pattern: &str) -> Vec<Self> {
        let pattern: Vec<char> = pattern.chars().collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < pattern.len() {
            let negated = pattern.get(at + 1) == Some(&'!');
            let start = at + 1 + usize::from(negated);
            // A `]` that stands first is a member.
            let end =
                pattern.iter().skip(start + 1).position(|character| *character == ']').map(|more| start + 1 + more);
            match (pattern[at], end) {
                ('*', _) => parts.push(Self::Star),
                ('?', _) => parts.push(Self::Any),
                ('[', Some(end)) => {
                    parts.push(Self::Set { negated, members: pattern[start..end].to_vec() });
                    at = end;
                }
                (literal, _) => parts.push(Self::One(literal)),
            }
            at += 1;
        }
        parts
    }

    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Star | Self::Any => true,
            Self::One(literal) => *literal == character,
            Self::Set { negated, members } => in_set(members, character) != *negated,
        }
    }
}

/// Whether `pattern` matches all of `name`, as `fnmatch` has it: `*`, `?`, `[abc]`, `[!a-c]`.
pub fn fnmatch(pattern: &str, name: &str) -> bool {
    let parts = Glob::parse(pattern);
    let name: Vec<char> = name.chars().collect();
    let (mut part, mut at) = (0, 0);
    // The last star seen and how much it has taken: going back further can never help.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match parts.get(part) {
            Some(Glob::Star) => {
                star = Some((part, at));
                part += 1;
            }
            Some(one) if one.accepts(name[at]) => {
                part += 1;
                at += 1;
            }
            _ => match star {
                Some((back, taken)) => {
                    star = Some((back, taken + 1));
                    part = back + 1;
                    at = taken + 1;
                }
                None => return false,
            },
        }
    }
    parts[part..].iter().all(|rest| matches!(rest, Glob::Star))
}

fn in_set(set: &[char], character: char) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set.get(at + 1) == Some(&'-') && at + 2 < set.len() {
            if (set[at]..=set[at + 2]).contains(&character) {
                return true;
            }
            at += 3;
        } else {
            if set[at] == character {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::fnmatch;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, name, expected) in [
            ("sys.*", "sys.doc", true),
            ("*.doc", "sys.doc", true),
            ("sys.d?c", "sys.doc", true),
            ("sys.[a-d]oc", "sys.doc", true),
            ("sys.[!a-d]oc", "sys.doc", false),
            ("sys", "sys.doc", false),
            ("s*s*c", "sys.doc", true),
            ("sys.[", "sys.[", true),
            ("[]]", "]", true),
        ] {
            assert_eq!(fnmatch(pattern, name), expected, "{pattern} {name}");
        }
    }
}
