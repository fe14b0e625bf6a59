//! JSON texts with the places of their parts. Structure is read here, scalars by serde_json.

use std::collections::HashSet;

use super::{MAX_DEPTH, MAX_NODES, Node, Place, Problem, Spanned};
use crate::error::Result;
use crate::vocab::{Key, Value};

/// The one value in a JSON text, with the places of its parts. `name` is what errors call it.
pub fn parse_json_spanned(text: &str, name: &str) -> Result<Spanned> {
    let mut reader = Reader { text, at: 0, line: 1, mark: (0, 1), nodes: 0 };
    let whole = reader.value(0).and_then(|value| {
        reader.skip_blank();
        match reader.rest().chars().next() {
            None => Ok(value),
            Some(more) => Err(reader.problem(format!("`{}` where the document should end", more.escape_debug()))),
        }
    });
    whole.map_err(|problem| problem.into_error(name))
}

struct Reader<'text> {
    text: &'text str,
    at: usize,
    line: usize,
    /// A position in the current line and its column, from which later ones are counted.
    mark: (usize, usize),
    nodes: usize,
}

impl<'text> Reader<'text> {
    fn rest(&self) -> &'text str {
        &self.text[self.at..]
    }

    fn place(&mut self) -> Place {
        let (at, column) = self.mark;
        self.mark = (self.at, column + self.text[at..self.at].chars().count());
        Place { line: self.line, column: self.mark.1 }
    }

    fn problem(&mut self, what: impl Into<String>) -> Problem {
        Problem::new(self.place(), what)
    }

    fn skip_blank(&mut self) {
        for byte in self.text.as_bytes()[self.at..].iter().copied() {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.mark = (self.at + 1, 1);
                }
                b' ' | b'\t' | b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
    }

    /// The next byte behind blanks, without taking it; 0 at the end.
    fn peek(&mut self) -> u8 {
        self.skip_blank();
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn value(&mut self, depth: usize) -> std::result::Result<Spanned, Problem> {
        let first = self.peek();
        let place = self.place();
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::limit(place, format!("the document stands for more than {MAX_NODES} values")));
        }
        if depth >= MAX_DEPTH && matches!(first, b'[' | b'{') {
            return Err(Problem::limit(place, format!("nested deeper than {MAX_DEPTH}")));
        }
        let node = match first {
            b'[' => self.list(depth)?,
            b'{' => self.map(depth)?,
            b'"' => Node::Scalar(Value::String(self.string()?)),
            _ => self.word()?,
        };
        Ok(Spanned { place, node })
    }

    fn list(&mut self, depth: usize) -> std::result::Result<Node, Problem> {
        self.at += 1;
        let mut items = Vec::new();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.is_closed(b']', "a list")? {
                return Ok(Node::List(items));
            }
        }
    }

    fn map(&mut self, depth: usize) -> std::result::Result<Node, Problem> {
        self.at += 1;
        let mut members = Vec::new();
        let mut known = HashSet::new();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(Node::Map(members));
        }
        loop {
            if self.peek() != b'"' {
                return Err(self.problem("a key in double quotes is expected"));
            }
            let place = self.place();
            let key = Key::String(self.string()?);
            if !known.insert(key.clone()) {
                let shown = key.as_str().unwrap_or_default();
                return Err(Problem::new(place, format!("the key `{shown}` stands twice")));
            }
            if self.peek() != b':' {
                return Err(self.problem("`:` is expected behind a key"));
            }
            self.at += 1;
            members.push((key, place, self.value(depth + 1)?));
            if self.is_closed(b'}', "a map")? {
                return Ok(Node::Map(members));
            }
        }
    }

    /// Takes the comma or the closing bracket behind an item; whether it was the bracket.
    fn is_closed(&mut self, bracket: u8, of: &str) -> std::result::Result<bool, Problem> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(false)
            }
            byte if byte == bracket => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.problem(format!("`,` or `{}` is expected in {of}", char::from(bracket)))),
        }
    }

    fn string(&mut self) -> std::result::Result<String, Problem> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        loop {
            match bytes.get(end) {
                Some(b'\\') => end += 2,
                Some(b'"') => break,
                Some(b'\n') | None => return Err(self.problem("a text without its end")),
                Some(_) => end += 1,
            }
        }
        let Some(raw) = self.text.get(self.at..=end) else { return Err(self.problem("a text without its end")) };
        let inner = &raw[1..raw.len() - 1];
        let string = if inner.bytes().any(|byte| byte == b'\\' || byte < 0x20) {
            serde_json::from_str(raw).map_err(|error| self.told(&error))?
        } else {
            inner.to_owned()
        };
        self.at = end + 1;
        Ok(string)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> std::result::Result<Node, Problem> {
        let rest = self.rest();
        let end = rest.find(|next: char| !next.is_ascii_alphanumeric() && !"+-.".contains(next)).unwrap_or(rest.len());
        if end == 0 {
            return Err(match rest.chars().next() {
                None => self.problem("the document ends where a value is expected"),
                Some(odd) => self.problem(format!("`{}` where a value is expected", odd.escape_debug())),
            });
        }
        let word: serde_json::Value = serde_json::from_str(&rest[..end])
            .map_err(|_| self.problem(format!("`{}` is not a value", &rest[..end])))?;
        self.at += end;
        Ok(Node::Scalar(Value::from(word)))
    }

    fn told(&mut self, error: &serde_json::Error) -> Problem {
        let shown = error.to_string();
        self.problem(shown.split(" at line ").next().unwrap_or(&shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_serde_json_and_places_those_of_an_editor() {
        let text =
            "{\n  \"a\": [1, -2.5, 1e3,\n    true, null, \"\\u00e9\\ud83d\\ude00\\\"\"],\n  \"é\": {\"b\": {}}\n}\n";
        let read = parse_json_spanned(text, "x").unwrap();
        let place = |path: &[&str]| read.at(path).map(|found| (found.place.line, found.place.column));
        assert_eq!(place(&["a"]), Some((2, 8)));
        assert_eq!(place(&["a", "3"]), Some((3, 5)));
        assert_eq!(place(&["é", "b"]), Some((4, 14)));
        assert_eq!(read.clone().into_value(), Value::from(serde_json::from_str::<serde_json::Value>(text).unwrap()));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let deep = "[".repeat(200);
        for (text, told) in [
            ("", "x:1:1: the document ends where a value is expected"),
            ("{\n \"a\": 1,\n \"a\": 2}", "x:3:2: the key `a` stands twice"),
            ("[1 2]", "x:1:4: `,` or `]` is expected in a list"),
            ("{a: 1}", "x:1:2: a key in double quotes is expected"),
            ("[1,]", "x:1:4: `]` where a value is expected"),
            ("[1]\n]", "x:2:1: `]` where the document should end"),
            ("\"a\nb\"", "x:1:1: a text without its end"),
            ("\"\\", "x:1:1: a text without its end"),
            ("[01]", "x:1:2: `01` is not a value"),
            ("[NaN]", "x:1:2: `NaN` is not a value"),
            (&deep, "x:1:101: nested deeper than 100"),
        ] {
            assert_eq!(parse_json_spanned(text, "x").unwrap_err().to_string(), told, "{text:?}");
        }
    }
}
