//! `.sls` files: Jinja, then YAML or JSON, as Salt renders them; every value knows the line of the template it came from.
//!
//! The first line may name the renderers (`#!yaml`, `#!jinja|json`); else they are `jinja|yaml`. Templates see `opts`,
//! `grains`, `saltenv`, `tplfile` and `tpldir`, and may include and import files below the pillar root. There is no Salt
//! here: `salt[…]` is an error that names its line. A variable that is not defined is an error, as in Salt. Work and output
//! are bounded.

mod filters;
mod marks;
mod render;
mod values;

use std::path::Path;
use std::sync::Arc;

use super::Files;
use super::sections::in_sections;
use super::traced::Traced;
use crate::document::{self, Place, Spanned};
use crate::error::{Error, Kind, Result};
use crate::vocab::{MinionId, Value};
use marks::Lines;

/// What a template is told.
#[derive(Clone, Copy, Debug)]
pub struct Variables<'a> {
    /// The id of this host: `opts.id`, `grains.id`.
    pub id: &'a MinionId,
    /// The rest of `opts`.
    pub opts: &'a Value,
    /// `grains`.
    pub grains: &'a Value,
}

/// What comes after Jinja.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Yaml,
    Json,
}

/// The renderers that the first line asks for.
struct Pipeline {
    jinja: bool,
    format: Format,
}

/// What an `.sls` file stands for.
pub(super) fn read(path: &Path, root: &Path, variables: &Variables<'_>, files: &dyn Files) -> Result<Traced> {
    let Some(source) = files.text(path)? else {
        return Err(Error::new(Kind::NotFound, format!("`{}` is not there", path.display())));
    };
    let pipeline = Pipeline::of(&source, path)?;
    let (text, lines) = if pipeline.jinja {
        render::render(path, root, variables, files)?
    } else {
        (source.to_string(), Lines::identical(path))
    };
    let parsed = match pipeline.format {
        Format::Yaml => document::parse_spanned(&text, ""),
        Format::Json => document::parse_json_spanned(without_shebang(&text), ""),
    };
    let document: Spanned = parsed.map_err(|error| lines.blame(&error, &text))?;
    let document = if pipeline.format == Format::Json && without_shebang(&text).len() < text.len() {
        one_line_lower(document)
    } else {
        document
    };
    let known = |place: Place| lines.origin(place.line);
    Ok(in_sections(
        document,
        |place| Arc::clone(known(place).0),
        |place| Place { line: known(place).1, column: place.column },
    ))
}

impl Pipeline {
    fn of(source: &str, path: &Path) -> Result<Self> {
        let Some(words) = source.lines().next().and_then(|line| line.strip_prefix("#!")) else {
            return Ok(Self { jinja: true, format: Format::Yaml });
        };
        let mut pipeline = Self { jinja: false, format: Format::Yaml };
        for word in words.split('|').map(str::trim) {
            match word {
                "jinja" => pipeline.jinja = true,
                "yaml" => pipeline.format = Format::Yaml,
                "json" => pipeline.format = Format::Json,
                other => {
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!("{}:1:3: the renderer `{other}` is not known here", path.display()),
                    )
                    .hint(format!("known are `jinja`, `yaml` and `json`; {DUMP}")));
                }
            }
        }
        Ok(pipeline)
    }
}

/// What to do with a database that needs more of Salt than there is here.
const DUMP: &str =
    "or dump what Salt makes of it once, to a database.yaml: `salt-call --local slsutil.renderer path=FILE --out=yaml`";

/// JSON without the first line that only names the renderers.
fn without_shebang(text: &str) -> &str {
    if text.starts_with("#!") { text.split_once('\n').map_or("", |(_, rest)| rest) } else { text }
}

fn one_line_lower(mut document: Spanned) -> Spanned {
    document.place.line += 1;
    document.node = match document.node {
        document::Node::Scalar(value) => document::Node::Scalar(value),
        document::Node::List(items) => document::Node::List(items.into_iter().map(one_line_lower).collect()),
        document::Node::Map(members) => document::Node::Map(
            members
                .into_iter()
                .map(|(key, place, value)| (key, Place { line: place.line + 1, ..place }, one_line_lower(value)))
                .collect(),
        ),
    };
    document
}
