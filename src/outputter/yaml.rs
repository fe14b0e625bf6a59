//! YAML as PyYAML writes it over libyaml 0.2.5, with Salt's options: keys sorted, UTF-8 as it is, 80 columns.
//!
//! The rules of libyaml's emitter are kept one by one; the names of its functions stand beside them.

use super::{Style, python, python_sorted};
use crate::vocab::{Key, Map, ScalarType, Value, scalar_type};

const WIDTH: usize = 80;

pub(super) fn write(value: &Value, style: &Style) -> String {
    let flow = style.indent.is_some_and(|width| width < 0);
    let best_indent =
        style.indent.and_then(|width| usize::try_from(width).ok()).filter(|width| (2..10).contains(width));
    let mut emitter = Emitter {
        out: String::new(),
        column: 0,
        indent: None,
        best_indent: best_indent.unwrap_or(2),
        whitespace: true,
        indention: true,
        flow,
        flow_level: 0,
    };
    emitter.node(value, Place::Root);
    emitter.out
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Sequence,
    Mapping,
    /// The key of a map, in one line.
    SimpleKey,
}

/// `yaml_emitter_t`, as far as values need it.
struct Emitter {
    out: String,
    column: usize,
    indent: Option<usize>,
    best_indent: usize,
    /// Whether the last character was white space.
    whitespace: bool,
    /// Whether the line holds only indentation and indicators.
    indention: bool,
    flow: bool,
    flow_level: usize,
}

impl Emitter {
    fn put(&mut self, character: char) {
        self.out.push(character);
        self.column = if character == '\n' { 0 } else { self.column + 1 };
    }

    /// `yaml_emitter_write_indicator`.
    fn indicator(&mut self, indicator: char, need_whitespace: bool, is_whitespace: bool, is_indention: bool) {
        if need_whitespace && !self.whitespace {
            self.put(' ');
        }
        self.put(indicator);
        self.whitespace = is_whitespace;
        self.indention = self.indention && is_indention;
    }

    /// `yaml_emitter_write_indent`.
    fn line(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.put('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    /// `yaml_emitter_increase_indent`; the indentation to go back to.
    fn deeper(&mut self, flow: bool, indentless: bool) -> Option<usize> {
        let before = self.indent;
        self.indent = Some(match before {
            None if flow => self.best_indent,
            None => 0,
            Some(indent) if indentless => indent,
            Some(indent) => indent + self.best_indent,
        });
        before
    }

    fn node(&mut self, value: &Value, place: Place) {
        match value {
            Value::Null => self.scalar("null", true, place),
            Value::Bool(true) => self.scalar("true", true, place),
            Value::Bool(false) => self.scalar("false", true, place),
            Value::Int(number) => self.scalar(&number.to_string(), true, place),
            Value::Float(number) => self.scalar(&float(*number), true, place),
            Value::String(text) => self.scalar(text, false, place),
            Value::List(items) if self.flow || items.is_empty() => self.flow_list(items),
            Value::List(items) => self.block_list(items, place),
            Value::Map(map) if self.flow || map.is_empty() => self.flow_map(map),
            Value::Map(map) => self.block_map(map),
        }
    }

    fn block_list(&mut self, items: &[Value], place: Place) {
        let before = self.deeper(false, place == Place::Mapping && !self.indention);
        for item in items {
            self.line();
            self.indicator('-', true, false, true);
            self.node(item, Place::Sequence);
        }
        self.indent = before;
    }

    fn block_map(&mut self, map: &Map) {
        let before = self.deeper(false, false);
        for (key, value) in members(map) {
            self.line();
            let key = Value::from(key.clone());
            if is_simple_key(&key) {
                self.node(&key, Place::SimpleKey);
                self.indicator(':', false, false, false);
            } else {
                self.indicator('?', true, false, true);
                self.node(&key, Place::Mapping);
                self.line();
                self.indicator(':', true, false, true);
            }
            self.node(value, Place::Mapping);
        }
        self.indent = before;
    }

    fn flow_list(&mut self, items: &[Value]) {
        self.indicator('[', true, true, false);
        let before = self.deeper(true, false);
        self.flow_level += 1;
        for (index, item) in items.iter().enumerate() {
            self.flow_separator(index);
            self.node(item, Place::Sequence);
        }
        self.flow_level -= 1;
        self.indent = before;
        self.indicator(']', false, false, false);
    }

    fn flow_map(&mut self, map: &Map) {
        self.indicator('{', true, true, false);
        let before = self.deeper(true, false);
        self.flow_level += 1;
        for (index, (key, value)) in members(map).into_iter().enumerate() {
            self.flow_separator(index);
            let key = Value::from(key.clone());
            if is_simple_key(&key) {
                self.node(&key, Place::SimpleKey);
                self.indicator(':', false, false, false);
            } else {
                self.indicator('?', true, false, false);
                self.node(&key, Place::Mapping);
                if self.column > WIDTH {
                    self.line();
                }
                self.indicator(':', true, false, false);
            }
            self.node(value, Place::Mapping);
        }
        self.flow_level -= 1;
        self.indent = before;
        self.indicator('}', false, false, false);
    }

    fn flow_separator(&mut self, index: usize) {
        if index > 0 {
            self.indicator(',', false, false, false);
        }
        if self.column > WIDTH {
            self.line();
        }
    }

    /// `yaml_emitter_select_scalar_style` and `yaml_emitter_process_scalar`.
    fn scalar(&mut self, text: &str, implicit: bool, place: Place) {
        // Lines that a scalar goes on in stand deeper than it.
        let before = self.deeper(true, false);
        let simple_key = place == Place::SimpleKey;
        let allowed = Analysis::of(text);
        let plain = if self.flow_level > 0 { allowed.flow_plain } else { allowed.block_plain };
        let plain =
            plain && (implicit || scalar_type(text) == ScalarType::String) && !(simple_key && allowed.multiline);
        if plain {
            self.plain(text, !simple_key);
        } else if allowed.single_quoted && !(simple_key && allowed.multiline) {
            self.single_quoted(text, !simple_key);
        } else {
            self.double_quoted(text, !simple_key);
        }
        self.indent = before;
    }

    fn plain(&mut self, text: &str, allow_breaks: bool) {
        if !self.whitespace && (!text.is_empty() || self.flow_level > 0) {
            self.put(' ');
        }
        let mut spaces = false;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if character == ' ' {
                if allow_breaks && !spaces && self.column > WIDTH && characters.peek() != Some(&' ') {
                    self.line();
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else {
                self.put(character);
                self.indention = false;
                spaces = false;
            }
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn single_quoted(&mut self, text: &str, allow_breaks: bool) {
        self.indicator('\'', true, false, false);
        let (mut spaces, mut breaks) = (false, false);
        let characters: Vec<char> = text.chars().collect();
        for (index, character) in characters.iter().copied().enumerate() {
            let next = characters.get(index + 1).copied();
            if character == ' ' {
                let inside = index > 0 && next.is_some();
                if allow_breaks && !spaces && self.column > WIDTH && inside && next != Some(' ') {
                    self.line();
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else if is_break(character) {
                if !breaks && character == '\n' {
                    self.put('\n');
                }
                self.put(character);
                self.column = 0;
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.line();
                }
                if character == '\'' {
                    self.put('\'');
                }
                self.put(character);
                self.indention = false;
                spaces = false;
                breaks = false;
            }
        }
        if breaks {
            self.line();
        }
        self.indicator('\'', false, false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn double_quoted(&mut self, text: &str, allow_breaks: bool) {
        self.indicator('"', true, false, false);
        let mut spaces = false;
        let characters: Vec<char> = text.chars().collect();
        for (index, character) in characters.iter().copied().enumerate() {
            let next = characters.get(index + 1).copied();
            if !is_printable(character) || is_break(character) || matches!(character, '"' | '\\' | '\u{feff}') {
                escape(character).chars().for_each(|part| self.put(part));
                spaces = false;
            } else if character == ' ' {
                if allow_breaks && !spaces && self.column > WIDTH && index > 0 && next.is_some() {
                    self.line();
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                spaces = true;
            } else {
                self.put(character);
                spaces = false;
            }
        }
        self.indicator('"', false, false, false);
        self.whitespace = false;
        self.indention = false;
    }
}

/// Members as `sorted(items)` has them, or in their own order where Python cannot sort.
fn members(map: &Map) -> Vec<(&Key, &Value)> {
    python_sorted(map).unwrap_or_else(|| map.iter().collect())
}

/// `yaml_emitter_check_simple_key`: lengths are in bytes.
fn is_simple_key(key: &Value) -> bool {
    match key {
        Value::String(text) => text.len() <= 128 && !text.contains(is_break),
        _ => true,
    }
}

/// `SafeRepresenter.represent_float`.
fn float(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf".to_owned() } else { "-.inf".to_owned() };
    }
    let text = python::float(number);
    // YAML 1.1 reads `1e16` as text.
    if text.contains('.') { text } else { text.replacen('e', ".0e", 1) }
}

fn is_break(character: char) -> bool {
    matches!(character, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// libyaml's `IS_PRINTABLE`.
fn is_printable(character: char) -> bool {
    matches!(character, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && character != '\u{feff}'
}

fn escape(character: char) -> String {
    let letter = match character {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        other => {
            let code = u32::from(other);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{letter}")
}

/// `yaml_emitter_analyze_scalar`: which styles can hold the text.
#[expect(clippy::struct_excessive_bools, reason = "libyaml's answers, each used")]
struct Analysis {
    multiline: bool,
    flow_plain: bool,
    block_plain: bool,
    single_quoted: bool,
}

impl Analysis {
    fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self { multiline: false, flow_plain: false, block_plain: true, single_quoted: true };
        }
        let marker = text.starts_with("---") || text.starts_with("...");
        let (mut flow_indicator, mut block_indicator) = (marker, marker);
        let (mut line_break, mut special, mut break_space, mut space_break) = (false, false, false, false);
        let (mut previous_space, mut previous_break, mut preceded) = (false, false, true);
        let characters: Vec<char> = text.chars().collect();
        let is_blank = |character: Option<&char>| {
            character.is_none_or(|character| matches!(character, ' ' | '\t' | '\0') || is_break(*character))
        };
        for (index, character) in characters.iter().enumerate() {
            let followed = is_blank(characters.get(index + 1));
            let (flow, block) = match character {
                '#' if index > 0 => (preceded, preceded),
                ',' | '[' | ']' | '{' | '}' => (true, index == 0),
                '?' | ':' if index == 0 => (true, followed),
                '?' => (true, false),
                ':' => (true, followed),
                '-' if index == 0 => (followed, followed),
                '#' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' if index == 0 => (true, true),
                _ => (false, false),
            };
            flow_indicator |= flow;
            block_indicator |= block;
            special |=
                !is_printable(*character) && !is_break(*character) || *character == '\u{85}' || *character == '\r';
            line_break |= is_break(*character);
            break_space |= *character == ' ' && previous_break;
            space_break |= is_break(*character) && previous_space;
            previous_space = *character == ' ';
            previous_break = is_break(*character);
            preceded = is_blank(Some(character));
        }
        let edge =
            |character: Option<&char>| character.is_some_and(|character| *character == ' ' || is_break(*character));
        let plain = !(edge(characters.first())
            || edge(characters.last())
            || break_space
            || space_break
            || special
            || line_break);
        Self {
            multiline: line_break,
            flow_plain: plain && !flow_indicator,
            block_plain: plain && !block_indicator,
            single_quoted: !(break_space || space_break || special),
        }
    }
}
