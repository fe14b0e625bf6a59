//! YAML events to a tree of places, without recursion.

use std::collections::HashMap;
use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{MAX_COPIED, MAX_DEPTH, MAX_NODES, Node, Place, Problem, Spanned};
use crate::vocab::{Key, ScalarType, Value, bool_value, float_value, int_value, plain_scalar, scalar_type};

/// The one document in the text.
pub(super) fn load(text: &str) -> Result<Spanned, Problem> {
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            let place = Place { line: mark.line(), column: mark.col() + 1 };
            match error.info() {
                // The scanner counts brackets itself.
                "recursion limit exceeded" => Problem::limit(place, format!("nested deeper than {MAX_DEPTH}")),
                what => Problem::new(place, what),
            }
        })?;
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(Problem::new(place, "a second document begins where one is expected"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar { text: &text, plain: style == ScalarStyle::Plain, tag: tag.as_deref() };
                builder.scalar(place, &scalar, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => builder.open(place, Open::List(Vec::new()), anchor, tag.as_deref())?,
            Event::MappingStart(anchor, tag) => {
                builder.open(place, Open::Map(Members::default()), anchor, tag.as_deref())?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.close(place)?,
            Event::Alias(anchor) => builder.alias(place, anchor)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    let nothing = Spanned { place: Place { line: 1, column: 1 }, node: Node::Scalar(Value::Null) };
    Ok(builder.root.unwrap_or(nothing))
}

struct Scalar<'text> {
    text: &'text str,
    plain: bool,
    tag: Option<&'text Tag>,
}

/// A list or map whose end is not reached.
struct Frame {
    place: Place,
    anchor: usize,
    open: Open,
}

enum Open {
    List(Vec<Spanned>),
    Map(Members),
}

#[derive(Default)]
struct Members {
    /// The key that waits for its value.
    key: Option<(Slot, Place)>,
    own: Vec<(Key, Place, Spanned)>,
    known: HashSet<Key>,
    /// What `<<` takes in, the most important first.
    merged: Vec<Spanned>,
}

enum Slot {
    Key(Key),
    Merge,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Spanned, usize)>,
    root: Option<Spanned>,
    nodes: usize,
    copied: usize,
}

impl Builder {
    fn count(&mut self, place: Place, more: usize) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(Problem::limit(place, format!("the document stands for more than {MAX_NODES} values")));
        }
        Ok(())
    }

    /// Whether the next node is a key of the innermost map.
    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { open: Open::Map(Members { key: None, .. }), .. }))
    }

    fn scalar(&mut self, place: Place, scalar: &Scalar<'_>, anchor: usize) -> Result<(), Problem> {
        if self.expects_key() && scalar.plain && scalar.tag.is_none() {
            match scalar_type(scalar.text) {
                ScalarType::Merge => return self.take_key(place, Slot::Merge),
                ScalarType::Default => return self.take_key(place, Slot::Key(Key::from("="))),
                _ => {}
            }
        }
        let value = scalar_value(scalar).map_err(|what| Problem::new(place, what))?;
        self.node(Spanned { place, node: Node::Scalar(value) }, 1, anchor)
    }

    fn open(&mut self, place: Place, open: Open, anchor: usize, tag: Option<&Tag>) -> Result<(), Problem> {
        let expected = match open {
            Open::List(_) => "seq",
            Open::Map(_) => "map",
        };
        match tag {
            None => {}
            Some(tag) if is_unspecific(tag) || (tag.is_yaml_core_schema() && tag.suffix == expected) => {}
            Some(tag) => return Err(Problem::new(place, format!("the tag `{tag}` is not known here"))),
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(Problem::limit(place, format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.expects_key() {
            return Err(Problem::new(
                place,
                format!("a {} cannot be a key", if expected == "seq" { "list" } else { "map" }),
            ));
        }
        self.stack.push(Frame { place, anchor, open });
        Ok(())
    }

    fn close(&mut self, place: Place) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else {
            return Err(Problem::new(place, "an end without a beginning"));
        };
        let node = match frame.open {
            Open::List(items) => Node::List(items),
            Open::Map(members) => Node::Map(flattened(members)),
        };
        self.node(Spanned { place: frame.place, node }, 1, frame.anchor)
    }

    fn alias(&mut self, place: Place, anchor: usize) -> Result<(), Problem> {
        let Some((target, size)) = self.anchors.get(&anchor) else {
            return Err(Problem::new(place, "an alias inside of what it stands for"));
        };
        // Counted before it is copied, or a few lines could fill the memory.
        let size = *size;
        self.copied = self.copied.saturating_add(size);
        if self.copied > MAX_COPIED {
            return Err(Problem::limit(place, format!("aliases stand for more than {MAX_COPIED} values")));
        }
        if self.stack.len() + depth(target) > MAX_DEPTH {
            return Err(Problem::limit(place, format!("nested deeper than {MAX_DEPTH}")));
        }
        let copy = Spanned { place, ..target.clone() };
        self.node(copy, size, 0)
    }

    /// Puts a whole node where it belongs; `size` is what it adds to the count.
    fn node(&mut self, spanned: Spanned, size: usize, anchor: usize) -> Result<(), Problem> {
        let place = spanned.place;
        self.count(place, size)?;
        if anchor > 0 {
            self.count(place, total(&spanned))?;
            self.anchors.insert(anchor, (spanned.clone(), total(&spanned)));
        }
        if self.expects_key() {
            let Node::Scalar(value) = spanned.node else {
                return Err(Problem::new(place, "a list or a map cannot be a key"));
            };
            let key = Key::try_from(value).map_err(|_| Problem::new(place, "a list or a map cannot be a key"))?;
            return self.take_key(place, Slot::Key(key));
        }
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(spanned),
            Some(Open::List(items)) => items.push(spanned),
            Some(Open::Map(members)) => members.take_value(spanned)?,
        }
        Ok(())
    }

    fn take_key(&mut self, place: Place, slot: Slot) -> Result<(), Problem> {
        let Some(Frame { open: Open::Map(members), .. }) = self.stack.last_mut() else {
            return Err(Problem::new(place, "a key outside of a map"));
        };
        if let Slot::Key(key) = &slot
            && !members.known.insert(key.clone())
        {
            let first = members.own.iter().find(|(known, _, _)| known == key).map_or(place, |(_, first, _)| *first);
            let shown = Value::from(key.clone());
            let shown = shown.as_str().map_or_else(|| format!("{shown:?}"), str::to_owned);
            return Err(Problem::new(place, format!("the key `{shown}` stands twice, first in line {}", first.line)));
        }
        members.key = Some((slot, place));
        Ok(())
    }
}

impl Members {
    fn take_value(&mut self, value: Spanned) -> Result<(), Problem> {
        match self.key.take() {
            None => Err(Problem::new(value.place, "a value without a key")),
            Some((Slot::Key(key), place)) => {
                self.own.push((key, place, value));
                Ok(())
            }
            Some((Slot::Merge, place)) => match value.node {
                Node::Map(_) => {
                    self.merged.push(value);
                    Ok(())
                }
                Node::List(items) if items.iter().all(|item| matches!(item.node, Node::Map(_))) => {
                    self.merged.extend(items);
                    Ok(())
                }
                _ => Err(Problem::new(place, "`<<` needs a map, or a list of maps")),
            },
        }
    }
}

/// A map's members: what it takes in comes first and yields to its own, as in Salt.
fn flattened(members: Members) -> Vec<(Key, Place, Spanned)> {
    let Members { own, mut known, merged, .. } = members;
    let mut all: Vec<(Key, Place, Spanned)> = Vec::new();
    for map in merged {
        if let Node::Map(inner) = map.node {
            all.extend(inner.into_iter().filter(|(key, _, _)| known.insert(key.clone())));
        }
    }
    all.extend(own);
    all
}

/// How many scalars, lists and maps a node is.
fn total(spanned: &Spanned) -> usize {
    match &spanned.node {
        Node::Scalar(_) => 1,
        Node::List(items) => 1 + items.iter().map(total).sum::<usize>(),
        Node::Map(members) => 1 + members.iter().map(|(_, _, value)| total(value)).sum::<usize>(),
    }
}

/// How deep a node nests.
fn depth(spanned: &Spanned) -> usize {
    match &spanned.node {
        Node::Scalar(_) => 0,
        Node::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Node::Map(members) => 1 + members.iter().map(|(_, _, value)| depth(value)).max().unwrap_or(0),
    }
}

/// Whether the tag is a bare `!`, which only says that no type shall be guessed.
fn is_unspecific(tag: &Tag) -> bool {
    (tag.handle.is_empty() && tag.suffix == "!") || (tag.handle == "!" && tag.suffix.is_empty())
}

fn scalar_value(scalar: &Scalar<'_>) -> Result<Value, String> {
    let text = scalar.text;
    let wrong = || format!("`{text}` is not a value");
    match scalar.tag {
        None if !scalar.plain => Ok(Value::from(text)),
        None => plain_scalar(text).ok_or_else(wrong),
        Some(tag) if is_unspecific(tag) && scalar.plain && text.is_empty() => Ok(Value::from("")),
        // libyaml lets a bare `!` pass, and guesses the type of quoted text too.
        Some(tag) if is_unspecific(tag) => plain_scalar(text).ok_or_else(wrong),
        Some(tag) if tag.is_yaml_core_schema() => tagged(text, Some(&tag.suffix))
            .ok_or_else(|| format!("`{text}` is no `{tag}`, or the tag is not known here")),
        Some(tag) => Err(format!("the tag `{tag}` is not known here")),
    }
}

/// The value of a scalar with this core tag, without one of a plain scalar.
pub(super) fn tagged(text: &str, tag: Option<&str>) -> Option<Value> {
    match tag {
        None => plain_scalar(text),
        Some("str" | "timestamp" | "python/unicode") => Some(Value::from(text)),
        Some("null") => Some(Value::Null),
        Some("bool") => bool_value(text).map(Value::Bool),
        Some("int") => int_value(text),
        Some("float") => float_value(text).map(Value::Float),
        Some(_) => None,
    }
}
