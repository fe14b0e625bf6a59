//! Images on this host by their file names, and what a name tells of the system inside.

use std::path::Path;

use regex::Regex;

use crate::error::{Error, Kind, Result};
use crate::pillar::Files;

/// The known operating systems, each with its default release and every release, newest first.
const SYSTEMS: &[(&str, &str, &[&str])] =
    &[("ubuntu", "bionic", &["bionic", "xenial", "wily", "utopic", "vivid", "trusty", "precise"])];

/// What an image is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The operating system.
    pub os: &'static str,
    /// Its release.
    pub release: &'static str,
}

/// System and release that the name tells, else the one that the image to clone from tells, else the default ones.
///
/// A release is told by a word of the name: letters that no other letters stand next to. Under `compat` it is told
/// by letters anywhere, and `bionic` by none.
pub fn guess_template_env(name: &str, clone_from: Option<&str>, compat: bool) -> Environment {
    let told = |words: &[&'static str]| {
        let tells = |text: &str| words.iter().find(|word| holds(text, word, compat)).copied();
        tells(name).or_else(|| tells(clone_from.unwrap_or_default()))
    };
    let names: Vec<&str> = SYSTEMS.iter().map(|(os, _, _)| *os).collect();
    let os = told(&names).unwrap_or(SYSTEMS[0].0);
    let (_, default, releases) = SYSTEMS.iter().find(|(known, _, _)| *known == os).unwrap_or(&SYSTEMS[0]);
    let releases: Vec<&str> = releases.iter().copied().filter(|release| !compat || release != default).collect();
    Environment { os, release: told(&releases).unwrap_or(default) }
}

fn holds(text: &str, word: &str, anywhere: bool) -> bool {
    let is_letter = |character: Option<char>| character.is_some_and(char::is_alphabetic);
    text.match_indices(word).any(|(at, _)| {
        anywhere || !(is_letter(text[..at].chars().next_back()) || is_letter(text[at + word.len()..].chars().next()))
    })
}

/// Which local images are looked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Their name, as for [`guess_template_env`].
    pub name: &'a str,
    /// Regular expressions; an image whose file name one of them finds is left out.
    pub filtered: &'a [String],
    /// As for [`guess_template_env`].
    pub clone_from: Option<&'a str>,
    /// What the file names begin with; without it `makina-states-RELEASE`.
    pub template: Option<&'a str>,
}

/// The released tarballs in a folder (`IMAGE-FLAVOR-VERSION.tar.xz`, nothing else), by ascending version.
pub fn last_local_lxc_images(
    folder: &Path,
    wanted: &Wanted<'_>,
    files: &dyn Files,
    compat: bool,
) -> Result<Vec<String>> {
    let environment = guess_template_env(wanted.name, wanted.clone_from, compat);
    let template = wanted.template.filter(|template| !template.is_empty()).map_or_else(
        || {
            let os = if environment.os == SYSTEMS[0].0 { "" } else { environment.os };
            format!("makina-states-{os}{}", environment.release)
        },
        str::to_owned,
    );
    let filters: Vec<Regex> = wanted
        .filtered
        .iter()
        .map(|filter| {
            Regex::new(filter).map_err(|error| {
                Error::new(Kind::Usage, format!("`{filter}` is not a regular expression")).caused_by(error)
            })
        })
        .collect::<Result<_>>()?;
    let mut found: Vec<(u64, String)> = files
        .list(folder)?
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .filter(|name| !filters.iter().any(|filter| filter.is_match(name)))
        .filter_map(|name| Some((version_of(&name, &template)?, name)))
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// The version in `IMAGE-FLAVOR-VERSION.tar.xz`, if the template is that image, or that image and flavor.
fn version_of(file: &str, template: &str) -> Option<u64> {
    let (stem, version) = file.strip_suffix(".tar.xz")?.rsplit_once('-')?;
    let (_, flavor) = stem.rsplit_once('-')?;
    let is_image = stem.strip_suffix(flavor)?.strip_suffix('-')? == template;
    let is_both = stem == template && matches!(flavor, "lxc" | "standalone");
    let is_number = !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit());
    if (is_image || is_both) && !flavor.is_empty() && is_number { version.parse().ok() } else { None }
}
