//! Runs one recorded case: inputs as JSON, what castoff makes of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use castoff::document::Place;
use castoff::error::{Error, Kind, Result};
use castoff::pillar::traced::{Origin, Section, Traced};
use castoff::pillar::{Database, Facts, Files};
use castoff::settings::{self, Cloud, HostKind, Inputs};
use castoff::vocab::{Map, MinionId, Value};

/// Files that are only texts in memory.
#[derive(Default)]
pub(super) struct MemoryFiles(pub(super) BTreeMap<String, String>);

impl MemoryFiles {
    pub(super) fn of(case: &Value) -> Self {
        let texts = case.get("files").and_then(Value::as_map).into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self(texts.map(|(path, value)| (text(&Value::from(path.clone())), text(value))).collect())
    }
}

impl Files for MemoryFiles {
    fn text(&self, path: &Path) -> Result<Option<Arc<str>>> {
        Ok(self.0.get(path.to_str().unwrap()).map(|text| Arc::from(text.as_str())))
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        let inside = format!("{}/", path.display());
        Ok(self.0.keys().any(|known| known.starts_with(&inside)))
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        let inside = format!("{}/", path.display());
        let names = self.0.keys().filter_map(|known| known.strip_prefix(&inside));
        let names: Vec<OsString> = names.filter(|name| !name.contains('/')).map(OsString::from).collect();
        if names.is_empty() { Err(Error::new(Kind::NotFound, "no such folder")) } else { Ok(names) }
    }
}

fn part<'a>(case: &'a Value, name: &str) -> Option<&'a Value> {
    case.get(name).filter(|value| **value != Value::Null)
}

fn flag(case: &Value, name: &str) -> bool {
    matches!(part(case, name), Some(Value::Bool(true)))
}

fn traced(value: &Value) -> Traced {
    Traced::from_value(value.clone(), &Origin::Default)
}

/// Everything a case says about the surroundings.
pub(super) struct Surroundings {
    pub(super) files: MemoryFiles,
    pub(super) facts: Facts,
    pub(super) database: Option<Database>,
    pub(super) controller: MinionId,
    pub(super) host: HostKind,
}

impl Surroundings {
    pub(super) fn of(case: &Value) -> Result<Self> {
        let empty = Map::new();
        let facts = Facts::passed_in(part(case, "facts").and_then(Value::as_map).unwrap_or(&empty))?;
        let file: Arc<Path> = Arc::from(Path::new("/pillar/database.yaml"));
        let section = Arc::new(Section { file: Arc::clone(&file), name: String::new() });
        let origin = Origin::File(section, Place { line: 1, column: 1 });
        let database = part(case, "database")
            .map(|content| Database::new(file, Traced::from_value(content.clone(), &origin)))
            .transpose()?;
        let controller = part(case, "controller").and_then(Value::as_str).unwrap_or("ctl.example.net");
        Ok(Self {
            files: MemoryFiles::of(case),
            facts,
            database,
            controller: controller.parse()?,
            host: HostKind { lxc: flag(case, "lxc"), devhost: flag(case, "devhost") },
        })
    }

    pub(super) fn inputs(&self, compat: bool) -> Inputs<'_> {
        Inputs {
            database: self.database.as_ref(),
            controller: &self.controller,
            facts: &self.facts,
            host: self.host,
            compat,
            files: &self.files,
        }
    }
}

/// What castoff makes of a case.
pub(super) fn run(case: &Value, compat: bool) -> Result<Value> {
    let surroundings = Surroundings::of(case)?;
    let inputs = surroundings.inputs(compat);
    let nothing = Value::Map(Map::new());
    let arguments = part(case, "args").unwrap_or(&nothing);
    let text = |name: &str| part(arguments, name).and_then(Value::as_str);
    let id = || text("id_").map(str::parse::<MinionId>).transpose();
    let cloud = || Cloud::of(inputs.database.ok_or_else(|| Error::new(Kind::NotFound, "no database"))?);
    let call = part(case, "call").and_then(Value::as_str).unwrap();
    let found = match call {
        "default_settings" => settings::default_settings(&inputs)?,
        "complete_images" => settings::complete_images(traced(part(arguments, "data").unwrap()), inputs.files)?,
        "extpillar_settings" => settings::extpillar_settings(&inputs, id()?.as_ref())?,
        "ext_pillar" => {
            let prefixed = !matches!(part(arguments, "prefixed"), Some(Value::Bool(false)));
            settings::ext_pillar(&inputs, &cloud()?, &id()?.unwrap(), prefixed)?
        }
        "settings" => settings::settings(&inputs)?,
        "get_vars" => {
            let given = part(arguments, "kwargs").and_then(Value::as_map).cloned().unwrap_or_default();
            settings::get_vars(&inputs, &given)?
        }
        "defaults" => {
            let data = traced(part(arguments, "data").unwrap());
            settings::defaults(text("prefix").unwrap(), data, inputs.facts, compat)?
        }
        "format_resolve" => {
            let root = part(arguments, "original").map(traced);
            let root = root.as_ref().and_then(Traced::as_map);
            settings::format_resolve(&traced(part(arguments, "value").unwrap()), root, compat)?
        }
        "dictupdate" => {
            castoff::pillar::traced::merge_maps(["left", "right"].map(|side| traced(arguments.get(side).unwrap())))?
        }
        "get" => settings::get(inputs.facts, text("key").unwrap())
            .cloned()
            .unwrap_or_else(|| Traced::scalar("(missing)", &Origin::Default)),
        "guess_template_env" => {
            let found = settings::guess_template_env(text("name").unwrap(), text("clone_from"), compat);
            return Ok(Value::map([("os", found.os), ("release", found.release)]));
        }
        "is_a_cloud_member" => {
            let (cloud, id) = (cloud()?, id()?.unwrap());
            let is = [cloud.is_machine(&id), cloud.is_compute_node(&id), cloud.is_controller(&id, inputs.controller)];
            return Ok(Value::list(is));
        }
        other => panic!("unknown call {other}"),
    };
    Ok(found.into_value())
}
