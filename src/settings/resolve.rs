//! `{name}` in texts, replaced by the top-level values of a map.
//!
//! A text that is nothing but `{name}` becomes the value if that is a list or a map; everywhere else the value's text
//! (Python's `str`) is put in. Names that nobody knows stay as they are. Each value is resolved once, whatever it
//! depends on first; values that depend on each other in a circle are an error that names the circle. See
//! [`super::fixpoint`] for the original's way.

use std::collections::HashMap;

use super::bounds::{LONGEST, too_large};
use crate::document::{MAX_DEPTH, MAX_NODES};
use crate::error::{Error, Kind, Result};
use crate::outputter::python;
use crate::pillar::traced::{Traced, TracedMap, TracedNode};
use crate::vocab::Value;

/// The most values and (separately) bytes that all placeholders of one map may unfold to.
pub(super) const MOST: usize = MAX_NODES / 4;

/// The longest chain of values that depend on each other.
const LONGEST_CHAIN: usize = 256;

/// The value with its placeholders replaced by the members of `root`, or by its own where there is no root.
pub fn format_resolve(value: &Traced, root: Option<&TracedMap>, compat: bool) -> Result<Traced> {
    if compat {
        return super::fixpoint::format_resolve(value, root);
    }
    let nothing;
    let (root, is_own) = match (root.filter(|root| !root.is_empty()), value.as_map()) {
        (Some(root), _) => (root, false),
        (None, Some(members)) => (members, true),
        (None, None) => {
            nothing = TracedMap::new();
            (&nothing, false)
        }
    };
    let mut members = Resolver::new(root);
    let resolved = if is_own {
        let all: Result<TracedMap> =
            root.keys().enumerate().map(|(at, key)| Ok((key.clone(), members.member(at)?))).collect();
        Traced { origin: value.origin.clone(), node: TracedNode::Map(all?) }
    } else {
        members.value(value, None)?
    };
    if depth(&resolved) > MAX_DEPTH {
        return Err(too_large(&resolved, &format!("nest deeper than {MAX_DEPTH}")));
    }
    Ok(resolved)
}

/// One member of a map with its placeholders replaced by the map's other members; the others need not resolve.
pub(super) fn resolve_member(root: &TracedMap, name: &str, compat: bool) -> Result<Option<Traced>> {
    let Some(value) = root.get(&crate::vocab::Key::from(name)) else { return Ok(None) };
    if compat {
        return super::fixpoint::format_resolve(value, Some(root)).map(Some);
    }
    let mut resolver = Resolver::new(root);
    let Some(at) = root.get_index_of(&crate::vocab::Key::from(name)) else { return Ok(None) };
    resolver.member(at).map(Some)
}

fn depth(value: &Traced) -> usize {
    match &value.node {
        TracedNode::Scalar(_) => 0,
        TracedNode::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        TracedNode::Map(members) => 1 + members.values().map(depth).max().unwrap_or(0),
    }
}

fn nodes(value: &Traced) -> usize {
    match &value.node {
        TracedNode::Scalar(_) => 1,
        TracedNode::List(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        TracedNode::Map(members) => 1 + members.values().map(nodes).sum::<usize>(),
    }
}

struct Resolver<'a> {
    root: &'a TracedMap,
    /// The members by the text that stands for them between braces; of two with one text the first.
    names: HashMap<String, usize>,
    done: HashMap<usize, Traced>,
    /// The members being resolved, outermost first.
    pending: Vec<usize>,
    nodes: usize,
    bytes: usize,
}

/// A text whose bytes know whether they were there from the start (0) or which value they were put in with.
struct Patched {
    text: String,
    sources: Vec<u32>,
}

impl<'a> Resolver<'a> {
    fn new(root: &'a TracedMap) -> Self {
        let mut names = HashMap::new();
        for (at, key) in root.keys().enumerate() {
            let name = python::key_text(key);
            if !name.is_empty() && !name.contains([':', '{', '}']) {
                names.entry(name).or_insert(at);
            }
        }
        Self { root, names, done: HashMap::new(), pending: Vec::new(), nodes: 0, bytes: 0 }
    }

    /// A member of the root, resolved.
    fn member(&mut self, at: usize) -> Result<Traced> {
        if let Some(done) = self.done.get(&at) {
            return Ok(done.clone());
        }
        let Some((_, value)) = self.root.get_index(at) else {
            return Err(Error::new(Kind::Failed, "a placeholder without a value"));
        };
        if let Some(first) = self.pending.iter().position(|pending| *pending == at) {
            return Err(self.circle(first));
        }
        if self.pending.len() >= LONGEST_CHAIN {
            return Err(too_large(value, &format!("depend on each other more than {LONGEST_CHAIN} deep")));
        }
        self.pending.push(at);
        let resolved = self.value(value, Some(at))?;
        self.pending.pop();
        self.done.insert(at, resolved.clone());
        Ok(resolved)
    }

    /// The error about members that depend on each other, from the `first` pending one.
    fn circle(&self, first: usize) -> Error {
        let members: Vec<_> = self.pending[first..].iter().filter_map(|at| self.root.get_index(*at)).collect();
        let mut names: Vec<String> = members.iter().map(|(key, _)| format!("`{}`", python::key_text(key))).collect();
        names.extend(names.first().cloned());
        let places: Vec<String> = members.iter().map(|(_, value)| value.origin.to_string()).collect();
        Error::new(Kind::Usage, format!("placeholders go in a circle: {} ({})", names.join(" -> "), places.join(", ")))
            .hint(
                "a placeholder may not lead back to the value it stands in; `{name}` means a key of the same settings",
            )
    }

    /// A value, resolved; `own` is the member that it is, if it is a whole one.
    fn value(&mut self, value: &Traced, own: Option<usize>) -> Result<Traced> {
        let node = match &value.node {
            TracedNode::Scalar(Value::String(text)) if text.contains('{') => return self.text(value, text, own),
            TracedNode::Scalar(scalar) => TracedNode::Scalar(scalar.clone()),
            TracedNode::List(items) => {
                TracedNode::List(items.iter().map(|item| self.value(item, None)).collect::<Result<_>>()?)
            }
            TracedNode::Map(members) => TracedNode::Map(
                members
                    .iter()
                    .map(|(key, member)| Ok((key.clone(), self.value(member, None)?)))
                    .collect::<Result<_>>()?,
            ),
        };
        Ok(Traced { origin: value.origin.clone(), node })
    }

    /// A text, resolved: until nothing known is left that is not wholly out of one resolved value. Each round turns
    /// bytes of the text, or seams between values, into one value, so it ends.
    fn text(&mut self, value: &Traced, text: &str, own: Option<usize>) -> Result<Traced> {
        let mut patched = Patched { text: text.to_owned(), sources: vec![0; text.len()] };
        let mut puts = 0_u32;
        while let Some((start, end, at)) = self.next_placeholder(&patched) {
            let alone = start == 0 && end == patched.text.len();
            if own == Some(at) && puts == 0 && self.all_are(&patched, at) {
                // A text that speaks only of itself is taken literally.
                break;
            }
            let resolved = self.member(at)?;
            if matches!(resolved.node, TracedNode::List(_) | TracedNode::Map(_)) && alone {
                self.nodes += nodes(&resolved);
                if self.nodes > MOST {
                    return Err(too_large(value, &format!("unfold to more than {MOST} values")));
                }
                return Ok(resolved);
            }
            let shown = python::text(&resolved.into_value());
            self.bytes += shown.len();
            if patched.text.len() + shown.len() > LONGEST || self.bytes > MOST * 64 {
                return Err(too_large(value, &format!("unfold to more than {LONGEST} bytes")));
            }
            puts += 1;
            patched.text.replace_range(start..end, &shown);
            patched.sources.splice(start..end, std::iter::repeat_n(puts, shown.len()));
        }
        Ok(Traced { origin: value.origin.clone(), node: TracedNode::Scalar(Value::String(patched.text)) })
    }

    /// The first placeholder with a known name that does not stand wholly in one value that was put in.
    fn next_placeholder(&self, patched: &Patched) -> Option<(usize, usize, usize)> {
        placeholders(&patched.text).find_map(|(start, end)| {
            let at = *self.names.get(&patched.text[start + 1..end - 1])?;
            let sources = &patched.sources[start..end];
            let settled = sources[0] != 0 && sources.iter().all(|source| *source == sources[0]);
            (!settled).then_some((start, end, at))
        })
    }

    fn all_are(&self, patched: &Patched, at: usize) -> bool {
        placeholders(&patched.text)
            .all(|(start, end)| self.names.get(&patched.text[start + 1..end - 1]).is_none_or(|known| *known == at))
    }
}

/// Begin and end of every `{…}` without a brace or colon inside.
fn placeholders(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut open = None;
    text.bytes().enumerate().filter_map(move |(at, byte)| match byte {
        b'{' => {
            open = Some(at);
            None
        }
        b':' => {
            open = None;
            None
        }
        b'}' => open.take().filter(|start| at > start + 1).map(|start| (start, at + 1)),
        _ => None,
    })
}
