//! ACLs written down as `getfacl` does, and put back into an image that lost them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::configuration::small_file;
use super::merge::{Merged, merge, merge_with_acls};
use super::open;
use super::pack;
use super::request::PackRequest;
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::rootfs::acl::PasswdNames;
use crate::rootfs::aclfile;
use crate::rootfs::flatten::{AclOverride, FlattenOptions};
use crate::vocab::{Key, Reference, Value};

/// Where the original procedure left its backup inside images.
const ACLS_TXT: &[u8] = b"acls.txt";
/// The most bytes of an ACL file, and of passwd and group: a million entries take about 100 MiB.
const LIMIT: u64 = 256 << 20;

/// Writes down the ACLs of every entry of an image, into a file of this host or into the result.
pub fn backup(
    reference: &Reference,
    file: Option<&Path>,
    tmpdir: Option<&Path>,
    test: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Value> {
    if test {
        let reference = surroundings.resolve(reference)?;
        open::must_exist(&reference, surroundings)?;
        if let Some(file) = file {
            host::fs::list(host::fs::parent(file))?;
        }
        let comment = match file {
            Some(file) => format!("the ACLs of `{reference}` would be written to `{}`", file.display()),
            None => format!("the ACLs of `{reference}` would be in the result"),
        };
        return Ok(Value::map([("result", Value::Null), ("comment", comment.into())]));
    }
    let scratch = surroundings.scratch(tmpdir)?;
    let opened = open::open(reference, None, &scratch, surroundings)?;
    let merged = merge(&opened, FlattenOptions::default(), &scratch, surroundings)?;
    let mut listed = Vec::new();
    for found in merged.flat.entries(&merged.layers) {
        aclfile::write(&found?.entry, &mut listed).context(|| "cannot write an ACL")?;
    }
    let report = &merged.flat.report;
    let mut members = vec![
        ("result", Value::from(true)),
        ("image", opened.reference.to_string().into()),
        ("entries", report.entries_kept.into()),
        ("access_acls", report.access_acls.into()),
        ("default_acls", report.default_acls.into()),
    ];
    match file {
        Some(file) => {
            host::fs::write_atomic(file, 0o600, &listed)?;
            members.push(("file", file.display().to_string().into()));
        }
        None => members.push(("acls", as_text(&listed).into())),
    }
    Ok(Value::map(members))
}

/// The same in UTF-8: bytes that are none become octal escapes, which `setfacl --restore` and [`apply`] read.
fn as_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\{byte:03o}");
        }
    }
    text
}

/// Packs an image with the ACLs that a `getfacl -R` text lists: the image's own `/acls.txt`, or a file of this host.
pub fn apply(request: &PackRequest, file: Option<&Path>, test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    let from = file.map_or_else(|| "the image's own /acls.txt".to_owned(), |file| file.display().to_string());
    if test {
        if let Some(file) = file {
            host::fs::open(file)?;
        }
        let mut value = pack::preview(request, surroundings)?;
        if let Value::Map(members) = &mut value
            && let Some(Value::Map(changes)) = members.get_mut(&Key::from("changes"))
        {
            changes.insert("acls_from".into(), from.into());
        }
        return Ok(value);
    }
    let mut listed = 0;
    let prepared = pack::prepare(request, surroundings, |opened, options, scratch, surroundings| {
        let merged = merge(opened, FlattenOptions::default(), scratch, surroundings)?;
        let acls = overrides(request, file, &merged)?;
        listed = acls.len();
        drop(merged);
        merge_with_acls(opened, options, acls, scratch, surroundings)
    })?;
    let mut report = prepared.write(request, surroundings)?;
    report.notes.insert("acls_from".into(), from.into());
    report.notes.insert("acls_listed".into(), listed.into());
    Ok(report.to_value())
}

/// What the text says, names resolved through the image's own passwd and group.
fn overrides(request: &PackRequest, file: Option<&Path>, merged: &Merged) -> Result<BTreeMap<Vec<u8>, AclOverride>> {
    let text = match file {
        Some(file) => host::fs::read_at_most(file, LIMIT)?,
        None => small_file(merged, ACLS_TXT, LIMIT)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("`{}` has no /acls.txt to restore ACLs from", request.source))
                .hint("name a file that `getfacl -R` or backup_acls_from_docker wrote: file=FILE")
        })?,
    };
    let passwd = small_file(merged, b"etc/passwd", LIMIT)?.unwrap_or_default();
    let group = small_file(merged, b"etc/group", LIMIT)?.unwrap_or_default();
    let parsed = aclfile::parse(&text, &PasswdNames::new(&passwd, &group))
        .context(|| format!("cannot read the ACLs of `{}`", request.source))?;
    Ok(parsed
        .into_iter()
        .map(|(path, acls)| (path, AclOverride { access: acls.access, default: acls.default }))
        .collect())
}
