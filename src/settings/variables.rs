//! The variables of a release: names, paths and versions that its steps are written with.

use std::path::{Path, PathBuf};

use super::images::{version_text, versions_folder};
use super::lookup::get;
use super::resolve::format_resolve;
use super::{Inputs, settings};
use crate::error::{Error, Kind, Result};
use crate::pillar::traced::{Origin, Traced, TracedMap, TracedNode};
use crate::vocab::{Key, Map, Value};

/// Where Salt's files lie unless its options say otherwise.
const FILE_ROOT: &str = "/srv/salt";

/// The variables, with what the caller gives over them. The version file is the one that the image settings read;
/// under `compat` it is the one below the file root, as it was.
pub fn get_vars(inputs: &Inputs<'_>, given: &Map) -> Result<Traced> {
    let own = settings(inputs)?;
    let default = |text: &str| Traced::scalar(text, &Origin::Default);
    let of_settings =
        |key: &str| own.get(key).cloned().unwrap_or_else(|| Traced::scalar(Value::Null, &Origin::Default));
    let mut data: TracedMap = [
        ("file_root", file_root(inputs)?),
        ("tarball", default("{container}-{flavor}-{next_ver}.tar.xz")),
        ("absolute_tarball", default("{root}/{tarball}")),
        ("root", default("/var/lib/lxc")),
        ("container_path", default("{root}/{container}")),
        ("rootfs", default("{container_path}/rootfs")),
        ("ver_file", version_file(inputs, &own)?),
        ("user", of_settings("sftp_user")),
        ("sftp_url", of_settings("sftp_url")),
        ("git_url", of_settings("git_url")),
    ]
    .into_iter()
    .map(|(key, value)| (Key::from(key), value))
    .collect();
    let argument = Origin::derived("an argument of the call");
    data.extend(given.iter().map(|(key, value)| (key.clone(), Traced::from_value(value.clone(), &argument))));
    data.entry(Key::from("flavor")).or_insert_with(|| default("standalone"));
    let container = data.entry(Key::from("container")).or_insert_with(|| default("makina-states-bionic"));
    let Some(name) = container.as_str() else { return Err(container.wrong("container", "a text")) };
    *container = Traced::scalar(name.replace("imgbuild-", ""), &container.origin);

    let mut data = resolved(data, inputs.compat)?;
    let file = PathBuf::from(text(&data, "ver_file")?);
    let current = current_version(&file, inputs)?;
    let origin = Origin::VersionFile(file.into());
    data.insert(Key::from("cur_ver"), Traced::scalar(current, &origin));
    data.insert(Key::from("next_ver"), Traced::scalar(current + 1, &origin));
    let data = resolved(data, inputs.compat)?;
    Ok(Traced { origin: Origin::Default, node: TracedNode::Map(data) })
}

/// The pattern of the version file's path.
fn version_file(inputs: &Inputs<'_>, settings: &Traced) -> Result<Traced> {
    const NAME: &str = "{container}-{flavor}_version.txt";
    if inputs.compat {
        return Ok(Traced::scalar(format!("{{file_root}}/makina-states/versions/{NAME}"), &Origin::Default));
    }
    let folder = versions_folder(settings, inputs.files)?;
    let origin = Origin::derived("the root of the image settings");
    Ok(Traced::scalar(folder.join(NAME).display().to_string(), &origin))
}

/// The last released version; 0 where nothing is released yet.
fn current_version(file: &Path, inputs: &Inputs<'_>) -> Result<i64> {
    if !file.is_absolute() {
        return Err(Error::new(Kind::Usage, format!("`ver_file` must be an absolute path, not `{}`", file.display())));
    }
    match inputs.files.text(file)? {
        None => Ok(0),
        // Anything else than a version must not pass for the first release: that would overwrite history.
        Some(text) => version_text(file, &text)?
            .parse()
            .map_err(|_| Error::new(Kind::Corrupt, format!("{}: a whole number expected", file.display()))),
    }
}

/// The first folder of Salt's base environment.
fn file_root(inputs: &Inputs<'_>) -> Result<Traced> {
    let Some(roots) = get(inputs.facts, "file_roots") else {
        return Ok(Traced::scalar(FILE_ROOT, &Origin::Default));
    };
    roots
        .get("base")
        .and_then(Traced::as_list)
        .and_then(<[Traced]>::first)
        .cloned()
        .ok_or_else(|| roots.wrong("file_roots", "a map whose `base` is a list of folders"))
}

fn resolved(data: TracedMap, compat: bool) -> Result<TracedMap> {
    let whole = Traced { origin: Origin::Default, node: TracedNode::Map(data) };
    match format_resolve(&whole, None, compat)?.node {
        TracedNode::Map(data) => Ok(data),
        TracedNode::Scalar(_) | TracedNode::List(_) => Err(whole.wrong("(variables)", "a map")),
    }
}

fn text<'a>(data: &'a TracedMap, name: &str) -> Result<&'a str> {
    match data.get(&Key::from(name)) {
        Some(value) => value.as_str().ok_or_else(|| value.wrong(name, "a text")),
        None => Err(Error::new(Kind::Usage, format!("`{name}` is missing among the variables"))),
    }
}
