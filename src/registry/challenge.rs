//! `WWW-Authenticate`: what a server wants to see (RFC 9110 section 11.6.1; distribution's token specification).

/// The most parameters that are read; more is no honest challenge.
const MOST: usize = 32;

/// One way to say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password.
    Basic,
    /// A token that another server gives out.
    Bearer {
        /// The address of that server.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What the token has to allow.
        scope: Option<String>,
    },
}

/// The challenges in these headers that are understood.
pub(super) fn parse(headers: &[&str]) -> Vec<Challenge> {
    headers.iter().flat_map(|header| schemes(header)).filter_map(understood).collect()
}

type Scheme = (String, Vec<(String, String)>);

fn understood((scheme, parameters): Scheme) -> Option<Challenge> {
    let find =
        |name: &str| parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: find("realm")?, service: find("service"), scope: find("scope") }),
        _ => None,
    }
}

/// Schemes with their parameters: `Bearer a="b",c=d, Basic realm="e"`.
fn schemes(header: &str) -> Vec<Scheme> {
    let mut found: Vec<Scheme> = Vec::new();
    let mut rest = header;
    while found.len() < MOST {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(after), Some((_, parameters))) if parameters.len() < MOST => {
                let Some((value, after)) = value(after) else { break };
                parameters.push((word.to_owned(), value));
                rest = after;
            }
            (Some(_), _) => break,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
    found
}

/// A token or a quoted text, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            letter => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Challenge, parse};

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_are_read_in_every_spelling() {
        let both =
            "Basic realm=\"x, y\", bearer Realm=\"https://a.example/t\",service=s,scope=\"repository:a/b:pull,push\"";
        assert_eq!(
            parse(&[both]),
            [Challenge::Basic, bearer("https://a.example/t", Some("s"), Some("repository:a/b:pull,push"))]
        );
        assert_eq!(parse(&["Negotiate", "Bearer realm=\"a\\\"b\""]), [bearer("a\"b", None, None)]);
        for odd in ["", "Bearer", "Bearer realm=\"never ends", "realm=x", "=,=,=", "Bearer service=\"x\""] {
            assert!(parse(&[odd]).is_empty(), "{odd}");
        }
    }
}
