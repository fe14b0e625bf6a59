//! What of a call may be shown: in logs, job records and listings.
//!
//! A value is masked whose name (argument, key of a map, `NAME=` inside a text, user part of a URL) speaks of a secret.

use super::{Function, Request};
use crate::outputter::python;
use crate::vocab::{Map, Value};

/// What stands in the place of a secret.
pub(super) const MASK: &str = "***";

/// Parts of names that speak of secrets.
const WORDS: [&str; 6] = ["password", "passwd", "secret", "token", "key", "credential"];

/// The arguments of a request as a map with `arg` and `kwarg`, secrets masked.
///
/// Without a row, for a function that does not exist, positional arguments have no names: all of them are masked.
pub fn masked(function: Option<&Function>, request: &Request) -> Value {
    let positional = request.positional.iter().enumerate().map(|(at, given)| {
        let is_secret = match function {
            Some(function) => function.arguments.get(at).is_some_and(super::Argument::is_secret),
            None => true,
        };
        if is_secret { Value::from(MASK) } else { without_secrets(&given.value) }
    });
    let declared = |name: &str| {
        function.is_some_and(|function| {
            function.arguments.iter().any(|argument| argument.name == name && argument.is_secret())
        })
    };
    let named = request.named.iter().map(|(name, given)| {
        let is_secret = names_a_secret(name) || declared(name);
        (name.as_str(), if is_secret { Value::from(MASK) } else { without_secrets(&given.value) })
    });
    Value::map([("arg", Value::List(positional.collect())), ("kwarg", Value::map(named))])
}

/// Whether what has this name is a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// The value with the secrets inside it masked.
fn without_secrets(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => value.clone(),
        Value::String(text) => Value::String(without_secret_words(text)),
        Value::List(items) => Value::List(items.iter().map(without_secrets).collect()),
        Value::Map(map) => {
            let member = |(key, value): (&crate::vocab::Key, &Value)| {
                let is_secret = names_a_secret(&python::key_text(key));
                (key.clone(), if is_secret { Value::from(MASK) } else { without_secrets(value) })
            };
            Value::Map(map.iter().map(member).collect::<Map>())
        }
    }
}

/// The text with the passwords of its URLs masked, and cut behind the first `NAME=` or `NAME:` that speaks of a secret:
/// where such a value ends only its reader knows.
fn without_secret_words(text: &str) -> String {
    let text = without_logins(text);
    let mut name = 0;
    for (at, character) in text.char_indices() {
        match character {
            '=' | ':' if names_a_secret(&text[name..at]) => return format!("{}{MASK}", &text[..=at]),
            character if character.is_alphanumeric() || "_-.\"' ".contains(character) => {}
            _ => name = at + character.len_utf8(),
        }
        if character == ' ' && !text[at..].trim_start().starts_with(['=', ':']) {
            name = at + 1;
        }
    }
    text
}

/// The text with `://user:password@` as `://***@`.
fn without_logins(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(|character: char| character == '/' || character.is_whitespace()).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(at) => {
                shown.push_str(MASK);
                &after[at..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::{masked, without_secret_words};
    use crate::document::parse;
    use crate::function::{Request, find};
    use crate::vocab::Value;

    #[test]
    fn texts_lose_the_secrets_in_them() {
        for (text, shown) in [
            ("nothing here", "nothing here"),
            ("docker-daemon:group/name:1", "docker-daemon:group/name:1"),
            ("ENV DB_PASSWORD=hunter2 and more", "ENV DB_PASSWORD=***"),
            ("CMD [\"/bin/app\", \"--token=abc\"]", "CMD [\"/bin/app\", \"--token=***"),
            ("api_key: abc", "api_key:***"),
            ("{\"secret\": \"abc\"}", "{\"secret\":***"),
            ("https://me:pw@example.net/x?y=1", "https://***@example.net/x?y=1"),
            ("a://b@c d://e:f@g@h/", "a://***@c d://***@h/"),
            ("LABEL é=ü", "LABEL é=ü"),
        ] {
            assert_eq!(without_secret_words(text), shown, "{text}");
        }
    }

    #[test]
    fn arguments_are_masked_by_name_however_deep() {
        let map = parse("{password: a, sftp: {Token: b, user: c}, list: [{ssh_key: d}], plain: e}", "test").unwrap();
        let Value::Map(map) = map else { unreachable!() };
        let shown = masked(find("test.kwarg"), &Request::from(map));
        let wanted =
            "{arg: [], kwarg: {password: '***', sftp: {Token: '***', user: c}, list: [{ssh_key: '***'}], plain: e}}";
        assert_eq!(shown, parse(wanted, "test").unwrap());
    }

    #[test]
    fn without_a_row_no_positional_argument_is_shown() {
        let request = Request { positional: vec![Value::from("a").into()], ..Request::default() };
        assert_eq!(masked(None, &request), parse("{arg: ['***'], kwarg: {}}", "test").unwrap());
        assert_eq!(masked(find("test.echo"), &request), parse("{arg: [a], kwarg: {}}", "test").unwrap());
    }
}
