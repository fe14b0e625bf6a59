//! `{name}` in texts as the original replaces it: pass after pass over the whole, up to a hundred times.
//!
//! For `compat: true` only. Circles end when the passes do and leave what then stands there; a list or map inside of
//! a text is put in as Python writes it; the order of keys decides which name goes first. Work and depth are bounded,
//! since the original's are not.

use crate::error::{Error, Kind, Result};
use crate::outputter::python;
use crate::pillar::traced::{Traced, TracedMap, TracedNode};
use crate::vocab::Value;

use super::bounds::{LONGEST, too_large};

/// How often the original goes over a value.
const PASSES: u32 = 100;

/// The most bytes that are looked at before this is called endless.
const MOST_WORK: usize = 1 << 26;

/// How deep lists, maps and the values they lead to may nest; the original fails at about this depth.
const DEEPEST: usize = 250;

/// The value with its placeholders replaced by the members of `root`, or by its own where there is no root.
pub(super) fn format_resolve(value: &Traced, root: Option<&TracedMap>) -> Result<Traced> {
    let empty = TracedMap::new();
    let root = root.filter(|root| !root.is_empty()).or_else(|| value.as_map()).unwrap_or(&empty);
    Passes { root, work: 0, depth: 0 }.value(value, 0, None).map(|(resolved, _)| resolved)
}

struct Passes<'a> {
    root: &'a TracedMap,
    work: usize,
    depth: usize,
}

impl Passes<'_> {
    fn value(&mut self, value: &Traced, call: u32, retry: Option<bool>) -> Result<(Traced, bool)> {
        if !is_unresolved(value) {
            return Ok((value.clone(), false));
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::new(
                Kind::Usage,
                format!("{}: a placeholder here leads back to the value it stands in", value.origin),
            ));
        }
        let (mut new, mut changed) = self.pass(value)?;
        let mut retry = retry.unwrap_or_else(|| is_unresolved(&new));
        let mut call = call;
        while retry && call < PASSES {
            (new, changed) = self.value(&new, call, Some(false))?;
            retry = changed;
            call += 1;
        }
        self.depth -= 1;
        Ok((new, changed))
    }

    fn pass(&mut self, value: &Traced) -> Result<(Traced, bool)> {
        let mut changed = false;
        let node = match &value.node {
            TracedNode::Scalar(Value::String(text)) => return self.text(value, text),
            TracedNode::Scalar(scalar) => TracedNode::Scalar(scalar.clone()),
            TracedNode::List(items) => {
                let mut new = Vec::with_capacity(items.len());
                for item in items {
                    let (item, item_changed) = self.value(item, 0, None)?;
                    changed |= item_changed;
                    new.push(item);
                }
                TracedNode::List(new)
            }
            TracedNode::Map(members) => {
                let mut new = TracedMap::with_capacity(members.len());
                for (key, member) in members {
                    let (member, member_changed) = self.value(member, 0, None)?;
                    changed |= member_changed;
                    new.insert(key.clone(), member);
                }
                TracedNode::Map(new)
            }
        };
        Ok((Traced { origin: value.origin.clone(), node }, changed))
    }

    fn text(&mut self, value: &Traced, text: &str) -> Result<(Traced, bool)> {
        let mut new = value.clone();
        for (key, member) in self.root {
            let name = format!("{{{}}}", python::key_text(key));
            let now = match &new.node {
                TracedNode::Scalar(Value::String(now)) => now,
                TracedNode::Scalar(_) => break,
                TracedNode::List(items) if items.iter().any(|item| item.as_str() == Some(&name)) => {
                    return Err(nested(value, &name));
                }
                TracedNode::Map(_) if new.get(&name).is_some() => return Err(nested(value, &name)),
                TracedNode::List(_) | TracedNode::Map(_) => continue,
            };
            self.count(value, now.len())?;
            if now.contains(&name) {
                let put = match &member.node {
                    TracedNode::Scalar(scalar) if scalar.as_str() == Some(now) => continue,
                    TracedNode::Scalar(scalar) => python::text(scalar),
                    TracedNode::List(_) | TracedNode::Map(_) => {
                        let (inner, _) = self.value(member, 0, None)?;
                        if *now == name {
                            new = inner;
                            if !is_unresolved(&new) {
                                break;
                            }
                            continue;
                        }
                        python::repr(&inner.into_value())
                    }
                };
                let now = now.replace(&name, &put);
                self.count(value, now.len())?;
                new.node = TracedNode::Scalar(Value::String(now));
            }
            if !is_unresolved(&new) {
                break;
            }
        }
        let changed = new.as_str() != Some(text);
        Ok((new, changed))
    }

    fn count(&mut self, value: &Traced, bytes: usize) -> Result<()> {
        self.work += bytes + 1;
        if bytes > LONGEST || self.work > MOST_WORK {
            return Err(too_large(value, "unfold without end, or nearly so"));
        }
        Ok(())
    }
}

/// The original cannot go on in a list or map that a text turned into.
fn nested(value: &Traced, name: &str) -> Error {
    Error::new(Kind::Usage, format!("{}: `{name}` stands in a list or map that a placeholder stands for", value.origin))
}

/// Whether a text in the value, or a key, holds `{…}` without a colon or closing brace inside.
pub(super) fn is_unresolved(value: &Traced) -> bool {
    match &value.node {
        TracedNode::Scalar(Value::String(text)) => has_placeholder(text),
        TracedNode::Scalar(_) => false,
        TracedNode::List(items) => items.iter().any(is_unresolved),
        TracedNode::Map(members) => {
            members.iter().any(|(key, member)| key.as_str().is_some_and(has_placeholder) || is_unresolved(member))
        }
    }
}

fn has_placeholder(text: &str) -> bool {
    let mut open = None;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open = open.or(Some(at)),
            b':' => open = None,
            b'}' if open.take().is_some_and(|start| at > start + 1) => return true,
            _ => {}
        }
    }
    false
}
