//! Defaults under configuration: a map of defaults, and what options, pillar and grains say about it.
//!
//! For a prefix `P` and a default `d`: the map under `P` is merged over the defaults; then every flat key `P.d…` of
//! pillar and grains is applied (maps are merged, lists united, everything else replaced); `P.d-override` or
//! `P.d-overrides` replaces, `P.d-append` adds to a list; the same again inside of every map. Placeholders are
//! resolved last, innermost maps first.
//!
//! The original left the keys that it had applied in the result (`lxc.cron_sync`, `lxc-overrides`); they are kept
//! only under `compat`, and where nothing took them up.

use std::collections::{HashMap, HashSet};

use super::lookup::{flat_keys, get};
use super::resolve::format_resolve;
use crate::document::MAX_DEPTH;
use crate::error::{Error, Kind, Result};
use crate::pillar::Facts;
use crate::pillar::traced::{Traced, TracedMap, TracedNode};
use crate::vocab::{Key, Value};

/// The defaults with everything that `facts` says under `prefix` over them, placeholders resolved.
pub fn defaults(prefix: &str, data: Traced, facts: &Facts, compat: bool) -> Result<Traced> {
    let TracedNode::Map(members) = data.node else {
        return Err(data.wrong(prefix, "a map"));
    };
    let mut work = Defaults { facts, compat, overridden: HashMap::new(), depth: 0 };
    let layered = work.layer(prefix, members)?;
    let settled = Traced { origin: data.origin, node: TracedNode::Map(layered.members) };
    format_resolve(&settled, None, compat)
}

struct Defaults<'a> {
    facts: &'a Facts,
    compat: bool,
    /// What replaces a member, by prefix, then by member.
    overridden: HashMap<String, Vec<(Key, Traced)>>,
    depth: usize,
}

/// A map with configuration over it, not yet resolved.
struct Layered {
    members: TracedMap,
    /// Flat keys that were applied elsewhere, and so are no members.
    taken_up: HashSet<String>,
}

impl Defaults<'_> {
    fn layer(&mut self, prefix: &str, members: TracedMap) -> Result<Layered> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::new(Kind::Limit, format!("`{prefix}` nests deeper than {MAX_DEPTH}")));
        }
        let mut members = members;
        if let Some(TracedNode::Map(over)) = get(self.facts, prefix).map(|found| found.node.clone()) {
            members = merged(members, over);
        }
        let flat = flat_keys(self.facts, prefix);
        for (key, value) in &flat {
            self.apply_flat(prefix, &mut members, key, value)?;
        }
        let taken_up = if self.compat { HashSet::new() } else { taken_up(&members, &flat, self.facts, prefix) };
        members.retain(|key, _| key.as_str().is_none_or(|key| !taken_up.contains(key)));

        let names: Vec<(Key, String)> =
            members.keys().filter_map(|key| Some((key.clone(), key.as_str()?.to_owned()))).collect();
        for (key, name) in names {
            let Some(default) = members.get(&key).cloned() else { continue };
            let value = self.member(prefix, &name, default)?;
            members.insert(key, value);
            for (key, value) in self.overridden.get(prefix).into_iter().flatten() {
                members.insert(key.clone(), value.clone());
            }
        }
        self.depth -= 1;
        Ok(Layered { members, taken_up })
    }

    /// Puts the value of a flat key where it belongs among the members.
    fn apply_flat(&self, prefix: &str, members: &mut TracedMap, key: &str, value: &Traced) -> Result<()> {
        let name = Key::from(key);
        let field = format!("{prefix}.{key}");
        let new = match members.get(&name).map(|known| &known.node) {
            Some(TracedNode::Map(known)) => {
                let TracedNode::Map(over) = &value.node else { return Err(value.wrong(&field, "a map")) };
                let origin = members.get(&name).map_or_else(|| value.origin.clone(), |known| known.origin.clone());
                Traced { origin, node: TracedNode::Map(merged(known.clone(), over.clone())) }
            }
            Some(TracedNode::List(known)) => {
                let origin = members.get(&name).map_or_else(|| value.origin.clone(), |known| known.origin.clone());
                let more = if is_null(value) { Vec::new() } else { self.items(value, &field)? };
                Traced { origin, node: TracedNode::List(united(known.clone(), more)) }
            }
            Some(TracedNode::Scalar(_)) | None => value.clone(),
        };
        members.insert(name, new);
        Ok(())
    }

    /// One member with what its own keys say.
    fn member(&mut self, prefix: &str, name: &str, default: Traced) -> Result<Traced> {
        let full = format!("{prefix}.{name}");
        let facts = self.facts;
        let replaces =
            get(facts, &format!("{full}-override")).or_else(|| get(facts, &format!("{full}-overrides"))).cloned();
        if let Some(value) = &replaces {
            self.replace(prefix, name, value.clone());
        }
        let configured = replaces.clone().or_else(|| get(facts, &full).cloned());
        match (default.node, configured) {
            (TracedNode::List(known), configured) => {
                let mut list = match (self.replacement(prefix, name), configured) {
                    (Some(value), _) => value,
                    (None, Some(value)) if value.is_truthy() => {
                        let more = self.items(&value, &full)?;
                        Traced { origin: default.origin, node: TracedNode::List(united(known, more)) }
                    }
                    (None, _) => Traced { origin: default.origin, node: TracedNode::List(known) },
                };
                if let Some(more) = get(facts, &format!("{full}-append")).and_then(Traced::as_list) {
                    let TracedNode::List(items) = list.node else {
                        return Err(list.wrong(&full, "a list"));
                    };
                    list.node = TracedNode::List(united(items, more.to_vec()));
                    if self.replacement(prefix, name).is_some() {
                        self.replace(prefix, name, list.clone());
                    }
                }
                Ok(list)
            }
            (node, configured) => {
                let is_default = configured.is_none();
                let default = Traced { origin: default.origin, node };
                let value = configured.unwrap_or_else(|| default.clone());
                let origin = value.origin.clone();
                match value.node {
                    TracedNode::Map(members) => self.map_member((prefix, name), default, (origin, members), is_default),
                    TracedNode::Scalar(_) | TracedNode::List(_) => Ok(value),
                }
            }
        }
    }

    /// A member whose value is a map: the same again inside of it, and all of that over the default.
    fn map_member(
        &mut self,
        (prefix, name): (&str, &str),
        default: Traced,
        (origin, members): (crate::pillar::traced::Origin, TracedMap),
        is_default: bool,
    ) -> Result<Traced> {
        let full = format!("{prefix}.{name}");
        let inner = self.layer(&full, members)?;
        let settled = Traced { origin, node: TracedNode::Map(inner.members) };
        if self.replacement(prefix, name).is_some() {
            self.replace(prefix, name, settled.clone());
        }
        let default = if is_default { settled.clone() } else { default };
        let TracedNode::Map(mut under) = default.node else {
            return Err(settled.wrong(&full, &format!("a {} as its default is", default.type_name())));
        };
        for (key, value) in self.overridden.get(&full).into_iter().flatten() {
            under.insert(key.clone(), value.clone());
        }
        let resolved = format_resolve(&settled, None, self.compat)?;
        let TracedNode::Map(mut over) = resolved.node else { return Ok(resolved) };
        for (key, value) in flat_keys(self.facts, &full) {
            if !inner.taken_up.contains(&key) {
                over.insert(Key::from(first_part(&key, &full)), value);
            }
        }
        Ok(Traced { origin: default.origin, node: TracedNode::Map(merged(under, over)) })
    }

    fn replace(&mut self, prefix: &str, name: &str, value: Traced) {
        let members = self.overridden.entry(prefix.to_owned()).or_default();
        match members.iter_mut().find(|(key, _)| key.as_str() == Some(name)) {
            Some(known) => known.1 = value,
            None => members.push((Key::from(name), value)),
        }
    }

    fn replacement(&self, prefix: &str, name: &str) -> Option<Traced> {
        let members = self.overridden.get(prefix)?;
        members.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone())
    }

    /// The items that a value adds to a list: as in Python, also the keys of a map and, under `compat`, the letters of
    /// a text.
    fn items(&self, value: &Traced, field: &str) -> Result<Vec<Traced>> {
        match &value.node {
            TracedNode::List(items) => Ok(items.clone()),
            TracedNode::Map(members) => {
                Ok(members.keys().map(|key| Traced::scalar(Value::from(key.clone()), &value.origin)).collect())
            }
            TracedNode::Scalar(Value::String(text)) if self.compat => {
                Ok(text.chars().map(|letter| Traced::scalar(letter.to_string(), &value.origin)).collect())
            }
            TracedNode::Scalar(_) => Err(value.wrong(field, "a list")),
        }
    }
}

/// The flat keys, and the members that read like some, that are applied to other members.
fn taken_up(members: &TracedMap, flat: &[(String, Traced)], facts: &Facts, prefix: &str) -> HashSet<String> {
    let is_map = |name: &str| members.get(&Key::from(name)).is_some_and(|member| member.as_map().is_some());
    let is_list = |name: &str| members.get(&Key::from(name)).is_some_and(|member| member.as_list().is_some());
    let inside_of_map = |key: &str| key.match_indices('.').any(|(dot, _)| is_map(&key[..dot]));
    let keys = flat.iter().map(|(key, _)| key.as_str());
    let mut taken_up: HashSet<String> = keys.filter(|key| inside_of_map(key)).map(str::to_owned).collect();
    for key in members.keys().filter_map(Key::as_str) {
        let replaces = ["-override", "-overrides"]
            .iter()
            .filter_map(|suffix| key.strip_suffix(suffix))
            .any(|base| members.contains_key(&Key::from(base)));
        let appends = key.strip_suffix("-append").is_some_and(|base| {
            is_list(base) && get(facts, &format!("{prefix}.{key}")).and_then(Traced::as_list).is_some()
        });
        if replaces || appends {
            taken_up.insert(key.to_owned());
        }
    }
    taken_up
}

/// What the original takes for the name of a flat key: the text up to where the prefix stands in it again.
fn first_part<'a>(key: &'a str, prefix: &str) -> &'a str {
    key.split(&format!("{prefix}.")).next().unwrap_or(key)
}

fn merged(members: TracedMap, over: TracedMap) -> TracedMap {
    let origin = crate::pillar::traced::Origin::Default;
    let whole = |members| Traced { origin: origin.clone(), node: TracedNode::Map(members) };
    match whole(members).merge(whole(over)).node {
        TracedNode::Map(members) => members,
        TracedNode::Scalar(_) | TracedNode::List(_) => TracedMap::new(),
    }
}

/// The list with the items that it does not yet have, by Python's `==`.
fn united(mut list: Vec<Traced>, more: Vec<Traced>) -> Vec<Traced> {
    for item in more {
        let value = item.to_value();
        if !list.iter().any(|known| is_equal(&known.to_value(), &value)) {
            list.push(item);
        }
    }
    list
}

fn is_null(value: &Traced) -> bool {
    matches!(value.node, TracedNode::Scalar(Value::Null))
}

/// Python's `==`: numbers and booleans by their value, maps without regard to order.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| is_equal(value, other)))
        }
        _ => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => left == right,
            (Some(whole), None) => is_float_of(right, whole),
            (None, Some(whole)) => is_float_of(left, whole),
            (None, None) => left == right,
        },
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Bool(value) => Some(i128::from(*value)),
        Value::Int(number) => Some(*number),
        Value::Null | Value::Float(_) | Value::String(_) | Value::List(_) | Value::Map(_) => None,
    }
}

#[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "beyond 2^53 a float that looks equal may pass")]
fn is_float_of(value: &Value, whole: i128) -> bool {
    matches!(value, Value::Float(number) if *number == whole as f64)
}
