//! Comparing two images or trees entry by entry, ACLs included.

use std::path::Path;

use super::adopt;
use super::merge::{Merged, merge};
use super::open::{self, Opened};
use super::surroundings::Surroundings;
use crate::error::Result;
use crate::rootfs::compare::{CompareOptions, compare, merged};
use crate::rootfs::flatten::FlattenOptions;
use crate::rootfs::idmap::IdMap;
use crate::vocab::{Key, Map, Reference, Value};

/// Compares, and lists every difference; the result is false when there is one.
pub fn verify(
    left: &Reference,
    right: &Reference,
    idmap: Option<&IdMap>,
    tmpdir: Option<&Path>,
    surroundings: &Surroundings<'_>,
) -> Result<Value> {
    let scratch = surroundings.scratch(tmpdir)?;
    let side = |reference: &Reference| -> Result<(Opened, Merged)> {
        let idmap = match idmap.filter(|_| matches!(reference, Reference::Dir(_))) {
            Some(given) => Some(given.clone()),
            None => adopt::idmap_of(reference)?,
        };
        let opened = open::open(reference, idmap.as_ref(), &scratch, surroundings)?;
        let merged = merge(&opened, FlattenOptions::default(), &scratch, surroundings)?;
        Ok((opened, merged))
    };
    let (left, left_tree) = side(left)?;
    let (right, right_tree) = side(right)?;
    let found = compare(
        merged(&left_tree.flat, &left_tree.layers),
        merged(&right_tree.flat, &right_tree.layers),
        &CompareOptions::default(),
        surroundings.progress,
    )?;
    let (left_name, right_name) = (&left.reference, &right.reference);
    let comment = if found.same() {
        format!("`{left_name}` and `{right_name}` hold the same {} entries, ACLs included", found.entries)
    } else {
        format!("`{left_name}` and `{right_name}` differ in {} places", found.total)
    };
    let mut map = Map::new();
    map.insert("result".into(), found.same().into());
    map.insert("comment".into(), comment.into());
    map.insert("left".into(), left_name.to_string().into());
    map.insert("right".into(), right_name.to_string().into());
    map.insert("entries".into(), found.entries.into());
    if let (false, Value::Map(members)) = (found.same(), found.to_value()) {
        map.extend(members.into_iter().filter(|(key, _)| *key != Key::from("same")));
    }
    for (side, opened, tree) in [("left", &left, &left_tree), ("right", &right, &right_tree)] {
        let walked = opened.left_out.iter().map(|(path, reason)| format!("{path}: {reason}"));
        let merged = tree.flat.report.dropped.iter().map(|dropped| format!("{}: {}", dropped.path, dropped.reason));
        let all: Vec<String> = walked.chain(merged).collect();
        if !all.is_empty() {
            map.insert(Key::from(format!("not_compared_{side}")), all.into());
        }
    }
    Ok(Value::Map(map))
}
