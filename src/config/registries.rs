//! OCI registries: mirrors, whom to talk to without TLS, where credentials and authorities are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::key::{Key, maybe, path, shown};
use crate::document;
use crate::vocab::Value;

/// Everything that may be configured about registries; addresses are parsed by those who connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// Where a registry's content is looked for before it is asked itself, by its host.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts, with or without a port, that speak plain HTTP.
    pub insecure: Vec<String>,
    /// The one auth file to read.
    pub auth_file: Option<PathBuf>,
    /// The certificate authorities to trust instead of the machine's.
    pub authorities: Option<PathBuf>,
}

pub(super) const MIRRORS: Key = Key {
    name: "registries.mirrors",
    environment: "CASTOFF_REGISTRIES_MIRRORS",
    accepts: "a map in YAML: `HOST: [ADDRESS, …]`",
    doc: "Where a registry's images are looked for, in this order, before it is asked itself",
    set: |config, text| {
        let found = document::parse(text, "registries.mirrors").map_err(|error| error.to_string())?;
        let map = match &found {
            Value::Null => None,
            Value::Map(map) => Some(map),
            other => return Err(format!("a map is expected, not a {}", other.type_name())),
        };
        for (host, places) in map.into_iter().flatten() {
            let host = host.as_str().ok_or("the names in it are hosts")?.to_ascii_lowercase();
            let places = texts(places)?;
            if let Some(odd) = places.iter().find(|text| !text.starts_with("https://") && !text.starts_with("http://"))
            {
                return Err(format!("`{odd}`, a mirror of `{host}`, is no `https://` or `http://` address"));
            }
            config.registries.mirrors.insert(host, places);
        }
        Ok(())
    },
    get: |config| {
        let list = |places: &Vec<String>| Value::list(places.iter().map(String::as_str));
        Value::map(config.registries.mirrors.iter().map(|(host, places)| (host.as_str(), list(places))))
    },
};

pub(super) const INSECURE: Key = Key {
    name: "registries.insecure",
    environment: "CASTOFF_REGISTRIES_INSECURE",
    accepts: "hosts, with or without a port, separated by commas or as a list",
    doc: "Registries that are talked to without TLS, passwords included; this machine's own need not be listed",
    set: |config, text| {
        let is_list =
            text.starts_with(['[', '"', '{']).then(|| document::parse(text, "registries.insecure").ok()).flatten();
        config.registries.insecure = texts(&is_list.unwrap_or_else(|| Value::from(text)))?;
        Ok(())
    },
    get: |config| Value::list(config.registries.insecure.iter().map(String::as_str)),
};

pub(super) const AUTH_FILE: Key = Key {
    name: "registries.auth_file",
    environment: "CASTOFF_REGISTRIES_AUTH_FILE",
    accepts: "an absolute path, or `none`",
    doc: "The auth file to read instead of those of docker, podman and skopeo",
    set: |config, text| maybe(text, path).map(|value| config.registries.auth_file = value),
    get: |config| shown(config.registries.auth_file.as_ref()),
};

pub(super) const AUTHORITIES: Key = Key {
    name: "registries.authorities",
    environment: "CASTOFF_REGISTRIES_AUTHORITIES",
    accepts: "an absolute path, or `none`",
    doc: "A file with the certificate authorities to trust for registries, instead of the machine's",
    set: |config, text| maybe(text, path).map(|value| config.registries.authorities = value),
    get: |config| shown(config.registries.authorities.as_ref()),
};

/// A list of texts, or one text with commas.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text == "none" => Ok(Vec::new()),
        Value::String(text) => {
            Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        Value::List(items) => {
            let text = |item: &Value| item.as_str().map(str::to_owned);
            items.iter().map(|item| text(item).ok_or_else(|| format!("a {} is no text", item.type_name()))).collect()
        }
        other => Err(format!("a list is expected, not a {}", other.type_name())),
    }
}
