//! Tokens to a value: `yaml_parser_parse_node` and what PyYAML and Salt's loader make of it.

use std::collections::{HashMap, HashSet};

use super::super::{MAX_DEPTH, yaml};
use super::scanner::Token;
use crate::vocab::{Key, Map, ScalarType, Value, scalar_type};

/// The most values one word may stand for.
const MAX_VALUES: usize = 100_000;

/// The value of all these tokens.
pub(super) fn parse(tokens: Vec<Token>) -> Option<Value> {
    let mut parser = Parser { tokens, at: 0, anchors: HashMap::new(), count: 0 };
    let value = parser.node(0)?.value;
    (parser.at == parser.tokens.len()).then_some(value)
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
        let mut known = HashSet::new();
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
            let same = whole.unsigned_abs() < 1 << 53 && (whole as f64).total_cmp(&number).is_eq();
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
