//! What makes two results the same: everything that can change them, by name.
//!
//! A step's inputs are its own fields, the bytes of every file it brings in, the archives and programs it uses, and the
//! identity of what was before. Neither the folder a plan lies in nor who runs it is among them. Inputs keep their
//! names, so that a result that does not fit any more can say which of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;

use super::{Action, Base, Bootstrap, Facts, Form, Mount, MountSource, Output, Step};
use crate::vocab::Digest;

/// Changes whenever the executor makes something else of the same inputs.
const RECIPE: &str = "castoff-plan/1";

/// The inputs of a result, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Inputs(pub BTreeMap<String, String>);

/// Something the identity needs and nobody knows yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// A file or folder of the host is not there.
    File(PathBuf),
    /// An archive was never looked at.
    Archive(Digest),
    /// An image was not looked up.
    Image(String),
    /// The version of a program is not known.
    Tool(String),
}

impl Inputs {
    /// The digest of names and values, each behind its length.
    pub fn identity(&self) -> Digest {
        let mut text = Vec::new();
        for part in self.0.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        Digest::of(&text)
    }

    /// The names whose values differ.
    pub fn changed(&self, before: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != before.0.get(*name)).cloned().collect()
    }

    fn begin(kind: &str) -> Self {
        let mut inputs = Self::default();
        inputs.set("recipe", RECIPE);
        inputs.set("kind", kind);
        inputs
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Every member of a document, each under its path.
    fn members(&mut self, path: &str, value: &Json) {
        let below = |key: &dyn std::fmt::Display| format!("{path}.{key}");
        match value {
            // Their number tells `[]` from nothing, and a list's end from the next name.
            Json::Object(members) => {
                self.set(path, format!("{{{}}}", members.len()));
                members.iter().for_each(|(key, value)| self.members(&below(key), value));
            }
            Json::Array(items) => {
                self.set(path, format!("[{}]", items.len()));
                items.iter().enumerate().for_each(|(at, item)| self.members(&below(&at), item));
            }
            other => self.set(path, other.to_string()),
        }
    }

    fn file(&mut self, name: &str, path: &PathBuf, facts: &Facts) -> Result<(), Missing> {
        let fact = facts.files.get(path).ok_or_else(|| Missing::File(path.clone()))?;
        self.set(name, fact.digest.to_string());
        self.set(&format!("{name}.name"), &fact.name);
        Ok(())
    }

    fn tool(&mut self, name: &str, facts: &Facts) -> Result<(), Missing> {
        let version = facts.tools.get(name).ok_or_else(|| Missing::Tool(name.to_owned()))?;
        self.set(&format!("tool.{name}"), version);
        Ok(())
    }

    fn archive(&mut self, sources: Digest, facts: &Facts) -> Result<(), Missing> {
        let archive = facts.archives.get(&sources).ok_or(Missing::Archive(sources))?;
        self.set("archive", format!("[{}]", archive.releases.len()));
        for (address, digest) in &archive.releases {
            self.set(&format!("archive.{address}"), digest.to_string());
        }
        Ok(())
    }
}

/// The programs of the host that a base is made with.
pub fn tools_of_base(base: &Base) -> &'static [&'static str] {
    match base {
        Base::Bootstrap(_) => &["mmdebstrap"],
        Base::Empty | Base::Directory(_) | Base::Tar(_) | Base::Image(_) | Base::Disk(_) | Base::Plan(_) => &[],
    }
}

/// The programs of the host that an output is made with.
pub fn tools_of_output(form: &Form) -> &'static [&'static str] {
    match form {
        Form::Squashfs => &["mksquashfs"],
        Form::Disk(disk) => match (disk.layout, disk.format == super::Format::Raw) {
            (super::Layout::Whole, true) => &["mke2fs"],
            (super::Layout::Whole, false) => &["mke2fs", "qemu-img"],
            (super::Layout::WholeBootable, true) => &["mke2fs", "grub-mkimage"],
            (super::Layout::WholeBootable, false) => &["mke2fs", "grub-mkimage", "qemu-img"],
            (super::Layout::Gpt, true) => &["mke2fs", "grub-mkimage", "sfdisk", "mkfs.fat", "mcopy"],
            (super::Layout::Gpt, false) => &["mke2fs", "grub-mkimage", "sfdisk", "mkfs.fat", "mcopy", "qemu-img"],
        },
        Form::Tar { .. } | Form::Directory | Form::Image { .. } | Form::Kernel => &[],
    }
}

/// The inputs of a base that is no other plan.
pub fn of_base(base: &Base, facts: &Facts) -> Result<Inputs, Missing> {
    let mut inputs = Inputs::begin("base");
    inputs.set("base", base.word());
    if let Some(epoch) = facts.epoch {
        inputs.set("epoch", epoch.to_string());
    }
    match base {
        Base::Bootstrap(bootstrap) => {
            inputs.members("bootstrap", &json(bootstrap));
            inputs.archive(bootstrap.archive(), facts)?;
        }
        Base::Directory(path) | Base::Tar(path) | Base::Disk(path) => {
            let fact = facts.files.get(path).ok_or_else(|| Missing::File(path.clone()))?;
            inputs.set("content", fact.digest.to_string());
        }
        Base::Image(reference) => {
            let digest = facts.images.get(reference).ok_or_else(|| Missing::Image(reference.clone()))?;
            inputs.set("content", digest.to_string());
        }
        // Of a plan only its tree counts, which `before` of the first step says.
        Base::Empty | Base::Plan(_) => {}
    }
    tools_of_base(base).iter().try_for_each(|tool| inputs.tool(tool, facts))?;
    Ok(inputs)
}

/// The inputs of a step on what was before it. `bootstrap` is what the tree was bootstrapped from, if it was.
pub fn of_step(before: Digest, step: &Step, bootstrap: Option<&Bootstrap>, facts: &Facts) -> Result<Inputs, Missing> {
    let mut inputs = Inputs::begin("step");
    inputs.set("before", before.to_string());
    let mut own = json(step);
    if let Some(members) = own.as_object_mut() {
        members.remove("label");
        members.remove("mounts");
        members.remove("action");
    }
    inputs.members("step", &own);
    let mut action = json(&step.action);
    // Where a file lies is no input; its bytes are.
    for member in action.as_object_mut().into_iter().flat_map(|action| action.values_mut()) {
        if let Some(member) = member.as_object_mut() {
            member.remove("source");
        }
    }
    inputs.members("action", &action);
    match &step.action {
        Action::CopyIn { source, .. } | Action::Upload { source, .. } | Action::TarIn { source, .. } => {
            inputs.file("source", source, facts)?;
        }
        Action::Packages { .. } => match bootstrap {
            Some(bootstrap) => inputs.archive(bootstrap.archive(), facts)?,
            None => inputs.set("archive", "those of the tree"),
        },
        Action::Run { .. }
        | Action::MakeDirectory { .. }
        | Action::WriteFile { .. }
        | Action::AppendLine { .. }
        | Action::ChangeMode { .. }
        | Action::Link { .. }
        | Action::SetHostname { .. }
        | Action::Remove { .. } => {}
    }
    inputs.set("mounts", format!("[{}]", step.mounts.len()));
    step.mounts.iter().enumerate().try_for_each(|(at, mount)| of_mount(&mut inputs, at, mount, facts))?;
    Ok(inputs)
}

fn of_mount(inputs: &mut Inputs, number: usize, mount: &Mount, facts: &Facts) -> Result<(), Missing> {
    let name = format!("mounts.{number}");
    inputs.set(&format!("{name}.at"), mount.at.as_str());
    match &mount.source {
        // Its own name is not seen.
        MountSource::Files(path) => {
            let fact = facts.files.get(path).ok_or_else(|| Missing::File(path.clone()))?;
            inputs.set(&name, fact.digest.to_string());
            Ok(())
        }
        MountSource::Tree(tree) => {
            inputs.set(&name, format!("tree {tree}"));
            Ok(())
        }
        MountSource::Cache(cache) => {
            inputs.set(&name, format!("cache {cache}"));
            Ok(())
        }
    }
}

/// The inputs of an output of a tree; where it goes is none.
pub fn of_output(tree: Digest, output: &Output, facts: &Facts) -> Result<Inputs, Missing> {
    let mut inputs = Inputs::begin("output");
    inputs.set("before", tree.to_string());
    inputs.members("form", &json(&output.form));
    if let Some(epoch) = facts.epoch {
        inputs.set("epoch", epoch.to_string());
    }
    tools_of_output(&output.form).iter().try_for_each(|tool| inputs.tool(tool, facts))?;
    Ok(inputs)
}

/// What is after a step that is never reused: its result itself says what the next one builds on.
pub fn after_volatile(step: Digest, result: Digest) -> Digest {
    let mut inputs = Inputs::begin("after");
    inputs.set("before", step.to_string());
    inputs.set("result", result.to_string());
    inputs.identity()
}

/// A plan's own types always have a JSON form; should one ever not, it is its own identity and never reused.
fn json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_else(|error| Json::String(error.to_string()))
}
