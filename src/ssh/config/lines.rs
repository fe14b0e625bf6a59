//! Lines of an ssh configuration: a keyword and its words, split as ssh_config(5) splits them.

use std::path::Path;
use std::rc::Rc;

use crate::error::{Error, Kind, Result};

/// Where a line stands, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Rc<Path>,
    pub(super) line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` line {}", self.file.display(), self.line)
    }
}

impl Place {
    /// A failure at this line.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::Usage, format!("{self}: {what}"))
    }
}

/// One directive: the keyword in lower case, as it was written, and its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) keyword: String,
    pub(super) written: String,
    pub(super) words: Vec<String>,
}

/// The directives of a file, without blank lines and comments.
pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<Line>> {
    let file: Rc<Path> = Rc::from(file);
    let mut lines = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let place = Place { file: Rc::clone(&file), line: number + 1 };
        let text = raw.trim_matches([' ', '\t', '\r', '\x0c']);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let end = text.find([' ', '\t', '=']).unwrap_or(text.len());
        let (keyword, rest) = text.split_at(end);
        let rest = rest.trim_start_matches([' ', '\t']);
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        let words = words(rest).map_err(|what| place.wrong(what))?;
        if words.is_empty() {
            return Err(place.wrong(format_args!("`{keyword}` has no value")));
        }
        let line = Line { place, keyword: keyword.to_ascii_lowercase(), written: keyword.to_owned(), words };
        lines.push(line);
    }
    Ok(lines)
}

/// The words of a value: blanks separate, either quote holds together, a backslash takes a quote, a blank or itself as
/// it is, and a `#` that begins a word ends the line.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) if characters.peek().is_some_and(|next| matches!(next, '\\' | '"' | '\'' | ' ')) => {
                word.get_or_insert_default().extend(characters.next());
            }
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (character, Some(open)) if character == open => quote = None,
            (' ' | '\t', None) => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            (character, _) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_openssh_splits_them() {
        assert_eq!(words("a  b\tc").unwrap(), ["a", "b", "c"]);
        assert_eq!(words("\"a b\" 'c d' # note").unwrap(), ["a b", "c d"]);
        assert_eq!(words(r#"a\ b \"c x#y"#).unwrap(), ["a b", "\"c", "x#y"]);
        assert_eq!(words("\"\"").unwrap(), [""]);
        assert!(words("\"a").is_err());
    }

    #[test]
    fn a_keyword_ends_at_a_blank_or_an_equals_sign() {
        let lines = parse(Path::new("f"), "# c\n\n Port = 22\nUser=me\nHOST  a b\n").unwrap();
        let seen: Vec<_> =
            lines.iter().map(|line| (line.place.line, line.keyword.as_str(), line.words.len())).collect();
        assert_eq!(seen, [(3, "port", 1), (4, "user", 1), (5, "host", 2)]);
        assert_eq!(parse(Path::new("f"), "Port\n").unwrap_err().message(), "`f` line 1: `Port` has no value");
    }
}
