//! Showing an image: configuration, layers, names, and what its merged tree holds.

use std::path::Path;

use super::merge::merge;
use super::open::{self, Content};
use super::surroundings::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::oci::Compression;
use crate::rootfs::flatten::{FlatEntry, FlattenOptions};
use crate::rootfs::{Entry, EntryKind, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, acl::Acl, tar};
use crate::vocab::{Map, Reference, Value, timestamp};

/// Everything there is to say about an image, with every entry of its merged tree if asked.
pub fn inspect(
    reference: &Reference,
    with_entries: bool,
    tmpdir: Option<&Path>,
    surroundings: &Surroundings<'_>,
) -> Result<Value> {
    let scratch = surroundings.scratch(tmpdir)?;
    let opened = open::open(reference, None, &scratch, surroundings)?;
    let mut map = Map::new();
    map.insert("reference".into(), opened.reference.to_string().into());
    map.extend(opened.notes.clone());
    if let Content::Image(image) = &opened.content {
        map.insert("image_id".into(), image.config_digest.to_string().into());
        map.insert("names".into(), Value::list(image.names.iter().map(ToString::to_string)));
        let layers = image.layers.iter().map(|layer| {
            Value::map([
                ("diff_id", Value::from(layer.diff_id.to_string())),
                ("stored_size", layer.content.size().into()),
                (
                    "compression",
                    Value::from(match layer.compression {
                        Compression::None => "none",
                        Compression::Gzip => "gzip",
                        Compression::Zstd => "zstd",
                    }),
                ),
            ])
        });
        map.insert("layers".into(), Value::List(layers.collect()));
        let parsed: serde_json::Value = serde_json::from_slice(image.config.bytes())
            .map_err(|error| Error::new(Kind::Corrupt, "the image configuration is not JSON").caused_by(error))?;
        map.insert("configuration".into(), Value::from(parsed));
    }
    let merged = merge(&opened, FlattenOptions::default(), &scratch, surroundings)?;
    let report = &merged.flat.report;
    map.insert(
        "tree".into(),
        Value::map([
            ("entries", report.entries_kept),
            ("access_acls", report.access_acls),
            ("default_acls", report.default_acls),
            ("packed_size", report.bytes_out),
        ]),
    );
    let walked = opened.left_out.iter().map(|(path, reason)| format!("{path}: {reason}"));
    let dropped = report.dropped.iter().map(|dropped| format!("{}: {}", dropped.path, dropped.reason));
    let left_out: Vec<String> = walked.chain(dropped).collect();
    if !left_out.is_empty() {
        map.insert("left_out".into(), left_out.into());
    }
    let warnings: Vec<String> = opened.warnings.iter().chain(&report.warnings).cloned().collect();
    if !warnings.is_empty() {
        map.insert("warnings".into(), warnings.into());
    }
    if with_entries {
        let mut entries = Vec::new();
        for found in merged.flat.entries(&merged.layers) {
            entries.push(show(&found?));
        }
        map.insert("entries".into(), Value::List(entries));
    }
    Ok(Value::Map(map))
}

fn show(found: &FlatEntry) -> Value {
    let entry = &found.entry;
    let mut map = Map::new();
    let mut set = |key: &str, value: Value| {
        map.insert(key.into(), value);
    };
    set("path", format!("/{}", tar::shown(&entry.path).trim_start_matches('/')).into());
    set("type", type_of(entry).into());
    set("mode", format!("{:04o}", entry.mode).into());
    set("uid", entry.uid.into());
    set("gid", entry.gid.into());
    set("mtime", timestamp(entry.mtime.seconds, entry.mtime.nanoseconds).into());
    match &entry.kind {
        EntryKind::File { size } => set("size", (*size).into()),
        EntryKind::Symlink { target } | EntryKind::Hardlink { target } => set("target", tar::shown(target).into()),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            set("device", format!("{major}:{minor}").into());
        }
        EntryKind::Directory | EntryKind::Fifo => {}
    }
    if let Some(group) = &found.group {
        set("link_group", tar::shown(group).into());
    }
    for (name, key) in [(XATTR_ACL_ACCESS, "acl"), (XATTR_ACL_DEFAULT, "default_acl")] {
        if let Some(value) = entry.xattrs.get(name) {
            let text = match Acl::from_xattr(value) {
                Ok(acl) => acl.to_text(),
                Err(problem) => format!("not an ACL: {problem}"),
            };
            set(key, text.into());
        }
    }
    let others = entry
        .xattrs
        .iter()
        .filter(|(name, _)| ![XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT].contains(&name.as_slice()))
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), tar::shown(value)));
    let others = Value::map(others);
    if others.as_map().is_some_and(|map| !map.is_empty()) {
        set("xattrs", others);
    }
    Value::Map(map)
}

fn type_of(entry: &Entry) -> &'static str {
    match entry.kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::Hardlink { .. } => "hard link",
        EntryKind::CharDevice { .. } => "character device",
        EntryKind::BlockDevice { .. } => "block device",
        EntryKind::Fifo => "fifo",
    }
}
