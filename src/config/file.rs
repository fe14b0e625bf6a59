//! One configuration file: YAML to dotted keys and the text of their values, in the order of the file.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::{KEYS, unknown};
use crate::document::{self, Node, Place, Spanned};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::outputter::{Outputter, Style, python};
use crate::vocab::Value;

/// A configuration is small; more than this is a mistake (a device, somebody's image).
const MOST_BYTES: u64 = 1 << 20;

/// The keys whose value is a tree of its own, which need not be known here.
const TREES: [&str; 7] = [
    "settings",
    "build.sources",
    "release.flavors",
    "release.targets",
    "registries.mirrors",
    "registries.insecure",
    SCHEDULES,
];

/// The tree whose mistakes are found only when all files are read, and told with their lines all the same.
const SCHEDULES: &str = "schedules";

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Keys and the text of their values.
    pub(super) values: Vec<(String, String)>,
    /// Where schedules (`NAME`) and their fields (`NAME.FIELD`) stand.
    pub(super) places: Vec<(String, String)>,
}

/// The keys and values of the file; an unknown, doubled or nameless one is an error with its line.
pub(super) fn read(path: &Path) -> Result<Read> {
    let bytes = host::fs::read_at_most(path, MOST_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| Error::new(Kind::Usage, format!("`{}` is not UTF-8", path.display())).caused_by(error))?;
    let mut values = parse(&text).map_err(|error| {
        let place =
            error.location().map_or_else(String::new, |at| format!(", line {} column {}", at.line(), at.column()));
        Error::new(Kind::Usage, format!("configuration file `{}`{place}", path.display())).caused_by(plain(&error))
    })?;
    let mut places = Vec::new();
    if values.iter().any(|(name, _)| TREES.contains(&name.as_str())) {
        // Read again with the types that pillars have, where `yes` is true and `'yes'` is not.
        let whole = document::parse_spanned(&text, &path.display().to_string())?;
        places = places_of(&whole, path);
        let whole = whole.into_value();
        for (name, text_of_tree) in values.iter_mut().filter(|(name, _)| TREES.contains(&name.as_str())) {
            let tree = at(&whole, name).unwrap_or(&Value::Null);
            *text_of_tree = Outputter::Json.write(tree, &Style { indent: Some(-1), ..Style::default() });
        }
    }
    Ok(Read { values, places })
}

/// Where each schedule and each of its fields stands.
fn places_of(whole: &Spanned, path: &Path) -> Vec<(String, String)> {
    let mut places = Vec::new();
    let mut note = |name: String, place: Place| {
        places.push((name, format!("configuration file `{}`, line {}", path.display(), place.line)));
    };
    let Some(Node::Map(entries)) = whole.at(&[SCHEDULES]).map(|found| &found.node) else { return places };
    for (key, place, entry) in entries {
        let name = python::key_text(key);
        note(name.clone(), *place);
        let Node::Map(fields) = &entry.node else { continue };
        for (field, place, _) in fields {
            note(format!("{name}.{}", python::key_text(field)), *place);
        }
    }
    places
}

/// What stands at a dotted key, whose dots may be nested maps.
fn at<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let below = |(at, _): (usize, &str)| value.get(&name[..at]).and_then(|value| self::at(value, &name[at + 1..]));
    value.get(name).or_else(|| name.match_indices('.').find_map(below))
}

/// The error without the place and the path, which the message above it has already.
fn plain(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match text.split_once(": unknown configuration key") {
        Some((_, rest)) => format!("unknown configuration key{rest}"),
        None => text.to_owned(),
    }
}

fn parse(text: &str) -> Result<Vec<(String, String)>, serde_yaml::Error> {
    let mut found = Found::default();
    let nothing = text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty());
    if !nothing {
        Section { prefix: String::new(), found: &mut found }.deserialize(serde_yaml::Deserializer::from_str(text))?;
    }
    Ok(found.values)
}

#[derive(Default)]
struct Found {
    values: Vec<(String, String)>,
    seen: BTreeSet<String>,
}

/// What stands at `prefix`: a scalar, or a map of what stands below it.
struct Section<'a> {
    prefix: String,
    found: &'a mut Found,
}

impl Section<'_> {
    fn value<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.prefix.is_empty() {
            return Err(E::custom("a map of configuration keys is expected"));
        }
        if !KEYS.iter().any(|key| key.name == self.prefix) {
            return Err(E::custom(unknown(&self.prefix)));
        }
        if !self.found.seen.insert(self.prefix.clone()) {
            return Err(E::custom(format!("`{}` is given twice", self.prefix)));
        }
        self.found.values.push((self.prefix, text.to_owned()));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Section<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Section<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.prefix.is_empty() { "a map of configuration keys" } else { "a single value" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if TREES.contains(&self.prefix.as_str()) {
            while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
            return self.value("{}");
        }
        while let Some(prefix) = map.next_key_seed(Name(&self.prefix))? {
            map.next_value_seed(Section { prefix, found: &mut *self.found })?;
        }
        Ok(())
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if !TREES.contains(&self.prefix.as_str()) {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        while items.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        self.value("[]")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.value(text)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.value(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.value(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.value(&number.to_string())
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<(), E> {
        self.value(if truth { "true" } else { "false" })
    }

    /// An empty file is an empty configuration, an empty section says nothing; a key without a value means `none`.
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if KEYS.iter().any(|key| key.name == self.prefix) { self.value("none") } else { Ok(()) }
    }
}

/// The name of a key below a prefix. Judged while it is read, since serde_yaml then tells its own line.
struct Name<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a configuration key")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<String, E> {
        let full = if self.0.is_empty() { name.to_owned() } else { format!("{}.{name}", self.0) };
        let leads_to = |key: &super::Key| {
            key.name == full || key.name.strip_prefix(&full).is_some_and(|rest| rest.starts_with('.'))
        };
        if KEYS.iter().any(leads_to) { Ok(full) } else { Err(E::custom(unknown(&full))) }
    }
}
