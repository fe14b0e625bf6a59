//! `[…]` and `{…}` within one line, as libyaml 0.2.5 reads them below PyYAML and Salt.
//!
//! YAML 1.1 and libyaml differ from YAML 1.2 where people type by hand: `[?a]`, `{a:1}`, `[a:]`, `[1]#x`. What one
//! word of a command line means must not depend on that, so the rules of libyaml's scanner and parser are kept here,
//! its oddities included; the names of its functions stand beside them.

use std::collections::HashMap;

use super::{MAX_DEPTH, yaml};
use crate::vocab::{Key, Map, ScalarType, Value, scalar_type};

/// The most values one word may stand for.
const MAX_VALUES: usize = 100_000;

/// libyaml gives up a key whose `:` is further away.
const MAX_KEY: usize = 1024;

/// The list or map that the whole word is; none when libyaml, PyYAML or Salt would refuse it.
pub(super) fn collection(word: &str) -> Option<Value> {
    let mut scanner =
        Scanner { text: word.chars().collect(), at: 0, tokens: Vec::new(), levels: Vec::new(), key_allowed: true };
    scanner.scan()?;
    let mut parser = Parser { tokens: scanner.tokens, at: 0, anchors: HashMap::new(), count: 0 };
    let value = parser.node(0)?.value;
    (parser.at == parser.tokens.len()).then_some(value)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    ListStart,
    ListEnd,
    MapStart,
    MapEnd,
    Entry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag { handle: String, suffix: String },
    Scalar { text: String, plain: bool },
}

/// A place that a later `:` would make a key, and the token it is.
#[derive(Clone, Copy)]
struct Candidate {
    token: usize,
    at: usize,
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
    /// One candidate a flow level.
    levels: Vec<Option<Candidate>>,
    key_allowed: bool,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// Whether a blank or the end stands there.
    fn blank(&self, ahead: usize) -> bool {
        matches!(self.peek(ahead), None | Some(' '))
    }

    /// All tokens up to the end of the outermost collection; behind it only blanks and a comment may stand.
    fn scan(&mut self) -> Option<()> {
        loop {
            while self.peek(0) == Some(' ') {
                self.at += 1;
            }
            if self.levels.is_empty() && !self.tokens.is_empty() {
                return matches!(self.peek(0), None | Some('#')).then_some(());
            }
            // A comment would hide the end.
            self.token(self.peek(0)?)?;
        }
    }

    /// `yaml_parser_fetch_next_token`.
    fn token(&mut self, first: char) -> Option<()> {
        match first {
            '[' => self.open(Token::ListStart),
            '{' => self.open(Token::MapStart),
            ']' => self.close(Token::ListEnd),
            '}' => self.close(Token::MapEnd),
            ',' => {
                self.forget_candidate();
                self.key_allowed = true;
                self.single(Token::Entry);
            }
            '?' => {
                self.forget_candidate();
                self.key_allowed = false;
                self.single(Token::Key);
            }
            ':' => self.value(),
            '*' | '&' => {
                self.save_candidate();
                self.key_allowed = false;
                self.anchor(first)?;
            }
            '!' => {
                self.save_candidate();
                self.key_allowed = false;
                self.tag()?;
            }
            '\'' | '"' => {
                self.save_candidate();
                self.key_allowed = false;
                let text = if first == '\'' { self.single_quoted()? } else { self.double_quoted()? };
                self.tokens.push(Token::Scalar { text, plain: false });
            }
            '-' if self.blank(1) => return None,
            '#' | '|' | '>' | '%' | '@' | '`' => return None,
            _ => {
                self.save_candidate();
                self.key_allowed = false;
                let text = self.plain()?;
                self.tokens.push(Token::Scalar { text, plain: true });
            }
        }
        Some(())
    }

    fn single(&mut self, token: Token) {
        self.at += 1;
        self.tokens.push(token);
    }

    /// `yaml_parser_save_simple_key`.
    fn save_candidate(&mut self) {
        if self.key_allowed
            && let Some(level) = self.levels.last_mut()
        {
            *level = Some(Candidate { token: self.tokens.len(), at: self.at });
        }
    }

    fn forget_candidate(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            *level = None;
        }
    }

    fn open(&mut self, token: Token) {
        self.save_candidate();
        self.levels.push(None);
        self.key_allowed = true;
        self.single(token);
    }

    fn close(&mut self, token: Token) {
        self.levels.pop();
        self.key_allowed = false;
        self.single(token);
    }

    /// `yaml_parser_fetch_value`.
    fn value(&mut self) {
        let candidate = self.levels.last_mut().and_then(Option::take);
        if let Some(candidate) = candidate
            && candidate.at + MAX_KEY >= self.at
        {
            self.tokens.insert(candidate.token, Token::Key);
        }
        self.key_allowed = false;
        self.single(Token::Value);
    }

    /// `yaml_parser_scan_anchor`.
    fn anchor(&mut self, first: char) -> Option<()> {
        self.at += 1;
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        let name: String = self.text[start..self.at].iter().collect();
        if name.is_empty() || !(self.blank(0) || self.peek(0).is_some_and(|next| "?:,]}%@`".contains(next))) {
            return None;
        }
        self.tokens.push(if first == '*' { Token::Alias(name) } else { Token::Anchor(name) });
        Some(())
    }

    /// `yaml_parser_scan_tag`.
    fn tag(&mut self) -> Option<()> {
        let (handle, suffix) = if self.peek(1) == Some('<') {
            self.at += 2;
            let suffix = self.tag_uri(String::new(), true);
            if suffix.is_empty() || self.peek(0) != Some('>') {
                return None;
            }
            self.at += 1;
            (String::new(), suffix)
        } else {
            let start = self.at;
            self.at += 1;
            while self.peek(0).is_some_and(is_word) {
                self.at += 1;
            }
            if self.peek(0) == Some('!') {
                self.at += 1;
            }
            let handle: String = self.text[start..self.at].iter().collect();
            if handle.len() > 1 && handle.ends_with('!') {
                let suffix = self.tag_uri(String::new(), false);
                if suffix.is_empty() {
                    return None;
                }
                (handle, suffix)
            } else {
                let suffix = self.tag_uri(handle[1..].to_owned(), false);
                if suffix.is_empty() { (String::new(), "!".to_owned()) } else { ("!".to_owned(), suffix) }
            }
        };
        if !(self.blank(0) || self.peek(0) == Some(',')) {
            return None;
        }
        self.tokens.push(Token::Tag { handle, suffix });
        Some(())
    }

    fn tag_uri(&mut self, mut uri: String, verbatim: bool) -> String {
        while let Some(next) = self.peek(0) {
            let allowed = is_word(next) || ";/?:@&=+$.!~*'()%".contains(next) || (verbatim && ",[]".contains(next));
            if !allowed {
                break;
            }
            uri.push(next);
            self.at += 1;
        }
        uri
    }

    fn single_quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.peek(0)? {
                '\'' if self.peek(1) == Some('\'') => {
                    text.push('\'');
                    self.at += 2;
                }
                '\'' => {
                    self.at += 1;
                    return Some(text);
                }
                other => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
    }

    fn double_quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.peek(0)? {
                '"' => {
                    self.at += 1;
                    return Some(text);
                }
                '\\' => text.push(self.escape()?),
                other => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let code = self.peek(1)?;
        self.at += 2;
        let digits = match code {
            '0' => return Some('\0'),
            'a' => return Some('\u{7}'),
            'b' => return Some('\u{8}'),
            't' => return Some('\t'),
            'n' => return Some('\n'),
            'v' => return Some('\u{b}'),
            'f' => return Some('\u{c}'),
            'r' => return Some('\r'),
            'e' => return Some('\u{1b}'),
            ' ' | '"' | '/' | '\\' => return Some(code),
            'N' => return Some('\u{85}'),
            '_' => return Some('\u{a0}'),
            'L' => return Some('\u{2028}'),
            'P' => return Some('\u{2029}'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let mut number = 0_u32;
        for _ in 0..digits {
            number = number.checked_mul(16)?.checked_add(self.peek(0)?.to_digit(16)?)?;
            self.at += 1;
        }
        char::from_u32(number)
    }

    /// `yaml_parser_scan_plain_scalar`.
    fn plain(&mut self) -> Option<String> {
        let start = self.at;
        let mut end = start;
        while let Some(next) = self.peek(0) {
            let follows = self.peek(1);
            match next {
                '#' if self.at > end => break,
                ':' if follows.is_some_and(|after| ",?[]{}".contains(after)) => return None,
                ':' if self.blank(1) => break,
                ',' | '[' | ']' | '{' | '}' => break,
                ' ' => self.at += 1,
                _ => {
                    self.at += 1;
                    end = self.at;
                }
            }
        }
        self.at = end;
        Some(self.text[start..end].iter().collect())
    }
}

/// libyaml's `IS_ALPHA`.
fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    anchors: HashMap<String, Value>,
    count: usize,
}

/// A value, and whether it is the plain `<<` or `=` that a map treats on its own.
struct Parsed {
    value: Value,
    special: Option<ScalarType>,
}

impl Parsed {
    fn empty() -> Self {
        Self { value: Value::Null, special: None }
    }
}

/// A map under construction.
#[derive(Default)]
struct Members {
    own: Vec<(Key, Value)>,
    merged: Vec<(Key, Value)>,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn skip(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    /// `yaml_parser_parse_node`, and what PyYAML makes of it.
    fn node(&mut self, depth: usize) -> Option<Parsed> {
        self.count += 1;
        if depth > MAX_DEPTH || self.count > MAX_VALUES {
            return None;
        }
        if let Some(Token::Alias(name)) = self.peek() {
            let value = self.anchors.get(name)?.clone();
            self.count += size(&value);
            self.at += 1;
            return (self.count <= MAX_VALUES).then_some(Parsed { value, special: None });
        }
        let (mut anchor, mut tag) = (None, None);
        while let Some(token) = self.peek() {
            match token {
                Token::Anchor(name) if anchor.is_none() => anchor = Some(name.clone()),
                Token::Tag { handle, suffix } if tag.is_none() => tag = Some(full_tag(handle, suffix)?),
                _ => break,
            }
            self.at += 1;
        }
        // PyYAML refuses an anchor that stands twice.
        if anchor.as_ref().is_some_and(|name| self.anchors.contains_key(name)) {
            return None;
        }
        let parsed = self.content(tag.as_deref(), anchor.is_some(), depth)?;
        if let Some(name) = anchor {
            self.anchors.insert(name, parsed.value.clone());
        }
        Some(parsed)
    }

    fn content(&mut self, tag: Option<&str>, anchored: bool, depth: usize) -> Option<Parsed> {
        match self.peek().cloned() {
            Some(Token::ListStart) if matches!(tag, None | Some("!" | "seq")) => {
                self.at += 1;
                self.list(depth + 1)
            }
            Some(Token::MapStart) if matches!(tag, None | Some("!" | "map")) => {
                self.at += 1;
                self.map(depth + 1)
            }
            Some(Token::ListStart | Token::MapStart) => None,
            Some(Token::Scalar { text, plain }) => {
                self.at += 1;
                scalar(&text, plain, tag)
            }
            _ if tag == Some("!") => Some(Parsed { value: Value::from(""), special: None }),
            _ if tag.is_some() => scalar("", true, tag),
            _ if anchored => Some(Parsed::empty()),
            _ => None,
        }
    }

    /// `yaml_parser_parse_flow_sequence_entry`.
    fn list(&mut self, depth: usize) -> Option<Parsed> {
        let mut items = Vec::new();
        while !self.skip(&Token::ListEnd) {
            if !items.is_empty() && !self.skip(&Token::Entry) {
                return None;
            }
            match self.peek()? {
                Token::Key => {
                    self.at += 1;
                    items.push(self.pair(depth + 1)?);
                }
                Token::ListEnd => {}
                _ => items.push(self.plain_value(depth)?),
            }
        }
        Some(Parsed { value: Value::List(items), special: None })
    }

    /// A map of one member within a list: `[a: b]`.
    fn pair(&mut self, depth: usize) -> Option<Value> {
        let key = if matches!(self.peek(), Some(Token::Value | Token::Entry | Token::ListEnd)) {
            // libyaml swallows that token here.
            self.at += 1;
            Parsed::empty()
        } else {
            self.node(depth)?
        };
        let value = if self.skip(&Token::Value) && !matches!(self.peek(), Some(Token::Entry | Token::ListEnd)) {
            self.plain_value(depth)?
        } else {
            Value::Null
        };
        let mut members = Members::default();
        members.add(key, value)?;
        members.finish()
    }

    /// `yaml_parser_parse_flow_mapping_key` and `…_value`.
    fn map(&mut self, depth: usize) -> Option<Parsed> {
        let mut members = Members::default();
        let mut first = true;
        while !self.skip(&Token::MapEnd) {
            if !std::mem::take(&mut first) && !self.skip(&Token::Entry) {
                return None;
            }
            let key_follows = match self.peek()? {
                Token::MapEnd => continue,
                Token::Key => {
                    self.at += 1;
                    true
                }
                _ => false,
            };
            let (key, value) = if key_follows {
                let no_key = matches!(self.peek(), Some(Token::Value | Token::Entry | Token::MapEnd));
                let key = if no_key { Parsed::empty() } else { self.node(depth)? };
                let has_value = self.skip(&Token::Value) && !matches!(self.peek(), Some(Token::Entry | Token::MapEnd));
                (key, if has_value { self.plain_value(depth)? } else { Value::Null })
            } else {
                (self.node(depth)?, Value::Null)
            };
            members.add(key, value)?;
        }
        members.finish().map(|value| Parsed { value, special: None })
    }

    /// A node where `<<` and `=` have no meaning.
    fn plain_value(&mut self, depth: usize) -> Option<Value> {
        self.node(depth).filter(|parsed| parsed.special.is_none()).map(|parsed| parsed.value)
    }
}

impl Members {
    fn add(&mut self, key: Parsed, value: Value) -> Option<()> {
        match key.special {
            Some(ScalarType::Merge) => match value {
                Value::Map(map) => self.merged.extend(map),
                Value::List(maps) => {
                    for map in maps.into_iter().rev() {
                        let Value::Map(map) = map else { return None };
                        self.merged.extend(map);
                    }
                }
                _ => return None,
            },
            _ => self.own.push((Key::try_from(key.value).ok()?, value)),
        }
        Some(())
    }

    /// Salt's loader refuses a key that stands twice, also among what several `<<` take in.
    fn finish(mut self) -> Option<Value> {
        self.merged.retain(|(key, _)| !self.own.iter().any(|(own, _)| own == key));
        let mut map = Map::new();
        let mut known = std::collections::HashSet::new();
        for (key, value) in self.merged.into_iter().chain(self.own) {
            if !known.insert(python_equal(&key)) {
                return None;
            }
            map.insert(key, value);
        }
        Some(Value::Map(map))
    }
}

/// One key for all that are equal in Python: `True == 1 == 1.0`.
fn python_equal(key: &Key) -> Key {
    match key {
        Key::Bool(value) => Key::Int(i128::from(*value)),
        Key::Float(bits) => {
            let number = f64::from_bits(*bits);
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            let whole = number as i64;
            #[expect(clippy::cast_precision_loss, reason = "small numbers are exact")]
            let same = whole.unsigned_abs() < 1 << 53 && (whole as f64) == number;
            if same { Key::Int(i128::from(whole)) } else { key.clone() }
        }
        other => other.clone(),
    }
}

/// The whole tag, `tag:yaml.org,2002:` left off; none for one that is not declared.
fn full_tag(handle: &str, suffix: &str) -> Option<String> {
    match handle {
        "!!" => Some(suffix.to_owned()),
        "" if suffix == "!" => Some("!".to_owned()),
        "" => suffix.strip_prefix("tag:yaml.org,2002:").map(str::to_owned),
        _ => None,
    }
}

fn scalar(text: &str, plain: bool, tag: Option<&str>) -> Option<Parsed> {
    match tag {
        None if !plain => Some(Parsed { value: Value::from(text), special: None }),
        None | Some("!") => match scalar_type(text) {
            special @ (ScalarType::Merge | ScalarType::Default) => {
                Some(Parsed { value: Value::from(text), special: Some(special) })
            }
            _ => yaml::tagged(text, None).map(|value| Parsed { value, special: None }),
        },
        Some(tag) => yaml::tagged(text, Some(tag)).map(|value| Parsed { value, special: None }),
    }
}

/// How many scalars, lists and maps a value is.
fn size(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}
