//! The images: which there are by default, and what is derived for each from the files of its releases.
//!
//! ```text
//! ROOT/versions/IMAGE-FLAVOR_version.txt        the version, a whole number
//! ROOT/versions/IMAGE-FLAVOR_version.txt.md5    32 hexadecimal digits: the MD5 of that version's tarball
//! ```
//!
//! Both files are there, or neither (the flavor is not released yet, and is listed without derived keys).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::template;
use crate::error::{Error, Kind, Result};
use crate::outputter::python;
use crate::pillar::Files;
use crate::pillar::traced::{Origin, Traced, TracedMap, TracedNode};
use crate::vocab::{Key, Value};

/// Where images and their versions lie unless something else is configured.
pub const DEFAULT_ROOT: &str = "/srv/makina-states";

/// Where releases are uploaded to.
pub const SFTP_URL: &str = "frs.sourceforge.net:/home/frs/project/makinacorpus/makina-states";

/// Where releases are announced.
pub const GIT_URL: &str = "ssh://github.com/makinacorpus/makina-states";

/// Where releases are downloaded from.
pub const IMAGE_URL: &str = "https://downloads.sourceforge.net/makinacorpus/makina-states/{img}-{flavor}-{ver}.tar.xz";

/// The LXC images that there are without anybody saying so; the first is the default one.
pub const LXC_IMAGES: [&str; 5] = [
    "makina-states-bionic",
    "makina-states-xenial",
    "makina-states-vivid",
    "makina-states-trusty",
    "makina-states-precise",
];

/// What an image is released as unless it says otherwise: the whole container, or makina-states alone.
const FLAVORS: [&str; 2] = ["lxc", "standalone"];

/// Every default, images without their derived keys.
pub(super) fn bare_defaults(sftp_user: Option<&Traced>) -> Traced {
    let default = |value: Value| Traced::from_value(value, &Origin::Default);
    let empty = || Value::Map(crate::vocab::Map::new());
    let lxc = Value::map([
        ("images_root", Value::from("/var/lib/lxc")),
        ("cron_sync", Value::from(false)),
        ("default", Value::from(LXC_IMAGES[0])),
        ("images", empty()),
        ("cron_hour", Value::from("3")),
        ("cron_minute", Value::from("3")),
    ]);
    let members = [
        ("root", default(Value::from(DEFAULT_ROOT))),
        ("kvm", default(Value::map([("images", empty())]))),
        ("git_url", default(Value::from(GIT_URL))),
        ("sftp_url", default(Value::from(SFTP_URL))),
        ("sftp_user", sftp_user.cloned().unwrap_or_else(|| default(Value::from("kiorky")))),
        ("lxc", default(lxc)),
    ];
    let members = members.into_iter().map(|(key, value)| (Key::from(key), value)).collect();
    Traced { origin: Origin::Default, node: TracedNode::Map(members) }
}

/// The settings with every default image, and for every image its builder and flavors.
pub(super) fn with_images(data: Traced) -> Result<Traced> {
    with_lxc_images(data, |images| {
        let mut all = TracedMap::with_capacity(images.len() + LXC_IMAGES.len());
        for (key, image) in images {
            let name = python::key_text(&key);
            let is_default = LXC_IMAGES.contains(&name.as_str());
            let image = match image.node {
                TracedNode::Map(members) => members,
                TracedNode::Scalar(Value::Null) if is_default => TracedMap::new(),
                TracedNode::Scalar(_) | TracedNode::List(_) => {
                    return Err(image.wrong(&format!("lxc.images.{name}"), "a map"));
                }
            };
            let image = Traced { origin: Origin::Default, node: TracedNode::Map(image) };
            all.insert(key, with_builder(&name, image)?);
        }
        for name in LXC_IMAGES {
            if !all.contains_key(&Key::from(name)) {
                all.insert(Key::from(name), with_builder(name, Traced::empty_map(&Origin::Default))?);
            }
        }
        Ok(all)
    })
}

fn generated_builder(name: &str) -> String {
    format!("{name}-lxc-ref.foo.net")
}

/// Whether this is the builder that an image gets to which nobody gave one.
pub fn is_generated_builder(image: &str, builder: &str) -> bool {
    builder == generated_builder(image)
}

/// The image with its builder in front and its flavors.
fn with_builder(name: &str, image: Traced) -> Result<Traced> {
    let builder = Traced::scalar(generated_builder(name), &Origin::Default);
    let front = [(Key::from("builder_ref"), builder)].into_iter().collect();
    let mut image = Traced { origin: Origin::Default, node: TracedNode::Map(front) }.merge(image);
    if let TracedNode::Map(members) = &mut image.node {
        let flavors = members
            .entry(Key::from("flavors"))
            .or_insert_with(|| Traced::from_value(Value::list(FLAVORS), &Origin::Default));
        flavor_names(name, flavors)?;
    }
    Ok(image)
}

/// The flavors in an image's list.
fn flavor_names(image: &str, flavors: &Traced) -> Result<Vec<String>> {
    let field = format!("lxc.images.{image}.flavors");
    let Some(items) = flavors.as_list() else { return Err(flavors.wrong(&field, "a list of flavors")) };
    items
        .iter()
        .map(|item| match &item.node {
            TracedNode::Scalar(Value::String(name)) => Ok(name.clone()),
            TracedNode::Scalar(Value::Int(number)) => Ok(number.to_string()),
            TracedNode::Scalar(_) | TracedNode::List(_) | TracedNode::Map(_) => {
                Err(item.wrong(&field, "a list of texts"))
            }
        })
        .collect()
}

/// The settings with every default image and everything that is derived from the files below their `root`.
pub fn complete_images(data: Traced, files: &dyn Files) -> Result<Traced> {
    let versions = versions_folder(&data, files)?;
    let data = with_images(data)?;
    with_lxc_images(data, |images| {
        images
            .into_iter()
            .map(|(key, image)| {
                let name = python::key_text(&key);
                let members = match image.node {
                    TracedNode::Map(members) => released(&name, members, &versions, files)?,
                    TracedNode::Scalar(_) | TracedNode::List(_) => {
                        return Err(image.wrong(&format!("lxc.images.{name}"), "a map"));
                    }
                };
                Ok((key, Traced { origin: image.origin, node: TracedNode::Map(members) }))
            })
            .collect()
    })
}

/// The folder with the version files: below `root`, or below `makina-states` in it if that is there and not already
/// part of the path.
pub(super) fn versions_folder(data: &Traced, files: &dyn Files) -> Result<PathBuf> {
    let Some(root) = data.get("root") else {
        return Err(Error::new(Kind::Usage, "image settings without `root`"));
    };
    let Some(text) = root.as_str() else { return Err(root.wrong("root", "a path")) };
    if !text.starts_with('/') || text.contains('\0') {
        return Err(Error::new(Kind::Usage, format!("{}: `root` must be an absolute path", root.origin)));
    }
    if !text.contains("makina-states") {
        let inside = Path::new(text).join("makina-states");
        if files.is_dir(&inside)? {
            return Ok(inside.join("versions"));
        }
    }
    Ok(Path::new(text).join("versions"))
}

/// The image with the derived keys of every flavor that is released.
fn released(name: &str, mut image: TracedMap, versions: &Path, files: &dyn Files) -> Result<TracedMap> {
    let flavors = match image.get(&Key::from("flavors")) {
        Some(flavors) => flavor_names(name, flavors)?,
        None => return Ok(image),
    };
    for flavor in flavors {
        let Some(release) = release(name, &flavor, versions, files)? else { continue };
        let version = release.version.as_str().unwrap_or_default().to_owned();
        image.insert(Key::from(format!("{flavor}_tarball_ver")), release.version);
        image.insert(Key::from(format!("{flavor}_tarball_md5")), release.md5);

        let derived = |from: &Origin| Origin::derived(format!("{from} and {}", release.file.display()));
        let key = Key::from(format!("{flavor}_url"));
        let field = format!("lxc.images.{name}.{flavor}_url");
        let (pattern, origin) = match image.get(&key) {
            Some(url) => (url.as_str().ok_or_else(|| url.wrong(&field, "a text"))?, url.origin.clone()),
            None => (IMAGE_URL, Origin::Default),
        };
        let names = [("img", name), ("flavor", flavor.as_str()), ("ver", version.as_str())];
        let url = template::filled(pattern, &names).map_err(|what| {
            Error::new(Kind::Usage, format!("{origin}: `{field}`: {what}"))
                .hint("an URL may hold `{img}`, `{flavor}` and `{ver}`; a brace itself is written twice")
        })?;
        let origin = if url == pattern { origin } else { derived(&origin) };
        let url = Traced::scalar(url, &origin);
        image.insert(key, url.clone());
        let tarball = image.entry(Key::from(format!("{flavor}_tarball"))).or_insert(url);
        let Some(location) = tarball.as_str() else {
            return Err(tarball.wrong(&format!("lxc.images.{name}.{flavor}_tarball"), "a text"));
        };
        let base = location.rsplit('/').next().unwrap_or(location);
        let base = Traced::scalar(base, &tarball.origin);
        image.entry(Key::from(format!("{flavor}_tarball_name"))).or_insert(base);
    }
    Ok(image)
}

/// What the two files of a released flavor say.
struct Release {
    file: Arc<Path>,
    version: Traced,
    md5: Traced,
}

fn release(image: &str, flavor: &str, versions: &Path, files: &dyn Files) -> Result<Option<Release>> {
    let file = version_file(versions, image, flavor)?;
    let digest = PathBuf::from(format!("{}.md5", file.display()));
    let (version, md5) = (files.text(&file)?, files.text(&digest)?);
    let half = |there: &Path, missing: &Path| {
        Error::new(Kind::Corrupt, format!("{} is missing, but {} is there", missing.display(), there.display()))
            .hint("a release has both files, an image that is not released neither")
    };
    match (version, md5) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(&file, &digest)),
        (None, Some(_)) => Err(half(&digest, &file)),
        (Some(version), Some(md5)) => {
            let version = version_text(&file, &version)?;
            let md5 = md5.trim();
            if md5.len() != 32 || !md5.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(malformed(&digest, "32 hexadecimal digits"));
            }
            let origin = |path: &Path| Origin::VersionFile(Arc::from(path));
            Ok(Some(Release {
                version: Traced::scalar(version, &origin(&file)),
                md5: Traced::scalar(md5, &origin(&digest)),
                file: Arc::from(file),
            }))
        }
    }
}

/// The version in a version file's text, without the blanks around it.
pub(super) fn version_text<'a>(file: &Path, text: &'a str) -> Result<&'a str> {
    let version = text.trim();
    // The content is not shown: who may name the file need not be allowed to read it.
    if version.is_empty() || version.len() > 18 || !version.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(malformed(file, "a whole number"));
    }
    Ok(version)
}

fn malformed(file: &Path, expected: &str) -> Error {
    Error::new(Kind::Corrupt, format!("{}: {expected} expected, and nothing else", file.display()))
        .hint("put the file back as the last release left it, or remove both of the release's files")
}

/// The version file of a flavor; a name that would lead elsewhere is an error.
fn version_file(versions: &Path, image: &str, flavor: &str) -> Result<PathBuf> {
    let leads_away = |name: &str| {
        name.is_empty() || name.contains('\0') || name.split('/').any(|part| matches!(part, "" | "." | ".."))
    };
    for (name, what) in [(image, "an image"), (flavor, "a flavor")] {
        if leads_away(name) || (what == "a flavor" && name.contains('/')) {
            return Err(Error::new(
                Kind::Usage,
                format!("`{}` cannot be the name of {what}: it would lead to another folder", name.escape_debug()),
            ));
        }
    }
    Ok(versions.join(format!("{image}-{flavor}_version.txt")))
}

/// The settings with their LXC images changed.
fn with_lxc_images(mut data: Traced, change: impl FnOnce(TracedMap) -> Result<TracedMap>) -> Result<Traced> {
    let TracedNode::Map(members) = &mut data.node else {
        return Err(data.wrong("(image settings)", "a map"));
    };
    let Some(lxc) = members.get_mut(&Key::from("lxc")) else {
        return Err(Error::new(Kind::Usage, "image settings without `lxc`"));
    };
    let TracedNode::Map(inside) = &mut lxc.node else { return Err(lxc.wrong("lxc", "a map")) };
    let images = inside.entry(Key::from("images")).or_insert_with(|| Traced::empty_map(&Origin::Default));
    let TracedNode::Map(known) = &mut images.node else { return Err(images.wrong("lxc.images", "a map")) };
    let known = std::mem::take(known);
    images.node = TracedNode::Map(change(known)?);
    Ok(data)
}
