//! The operator's database: which images, virtual machines and hosts there are.

use std::path::Path;
use std::sync::Arc;

use super::traced::{Traced, TracedMap, TracedNode};
use crate::error::{Error, Kind, Result};
use crate::outputter::python;
use crate::vocab::{Key, Value};

/// A parsed database: sections that are maps or lists.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    file: Arc<Path>,
    sections: TracedMap,
}

impl Database {
    /// The database in a file's content: a map that is not empty, of maps and lists (and a whole number `format`).
    pub fn new(file: Arc<Path>, content: Traced) -> Result<Self> {
        let empty = || Err(Error::new(Kind::Corrupt, format!("the database {} is empty", file.display())));
        let sections = match content.node {
            TracedNode::Map(sections) if sections.is_empty() => return empty(),
            TracedNode::Map(sections) => sections,
            TracedNode::Scalar(Value::Null) => return empty(),
            TracedNode::Scalar(_) | TracedNode::List(_) => {
                return Err(content.wrong("(the whole database)", "a map of sections"));
            }
        };
        for (name, section) in &sections {
            let name = python::key_text(name);
            match section.type_name() {
                "map" | "list" if name != "format" => {}
                "integer" | "boolean" if name == "format" => {}
                _ if name == "format" => return Err(section.wrong(&name, "a whole number")),
                _ => return Err(section.wrong(&name, "a map or a list")),
            }
        }
        Ok(Self { file, sections })
    }

    /// The file it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A section, if it is there.
    pub fn section(&self, name: &str) -> Option<&Traced> {
        self.sections.get(&Key::from(name))
    }

    /// An entry of `cloud_settings`; none if it is missing, null or otherwise empty.
    pub fn cloud_settings(&self, entry: &str) -> Option<&Traced> {
        self.section("cloud_settings")?.get(entry).filter(|entry| entry.is_truthy())
    }
}
