//! `build.*`: plans as castoff's own documents, and what builds leave behind.

use std::path::Path;

use super::{Accepts, Argument, Call, Context, Default, Function, archives};
use crate::build::{self, Request, ShellRequest};
use crate::document::parse_json_spanned;
use crate::engine::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::plan::{Base, Output, Plan, PlanName, Plans, Problem, Step, refuse};
use crate::vocab::Value;

const FILE: Argument = Argument::required("file", Accepts::Path, "The document with the plans, JSON");
const IMAGES: Argument =
    Argument::optional("images", Accepts::Items, Default::Null, "Only these, with what they build on");
const FORCE: Argument = Argument::optional("force", Accepts::Bool, Default::Bool(false), "Make everything anew");
const REFRESH: Argument = Argument::optional(
    "refresh",
    Accepts::Bool,
    Default::Bool(false),
    "Look at the archives of packages now, however young what is known of them is",
);

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "build.run",
        "Build the images that a document of plans describes.

The document is a list of plans, `{name, base, steps, outputs}`; what has a result in the store already is not run \
         again. `test=True` says what would be run and why.

    castoff call build.run /srv/images/plans.json",
        &[FILE, IMAGES, FORCE, REFRESH],
        run,
    )
    .long(),
    Function::reads(
        "build.sources",
        "Return where the packages of a suite come from on this host, as plans take it.

As `build.sources` of the configuration says, else as the host's own apt has it for its distribution.

    castoff call build.sources bookworm",
        &[Argument::optional("suite", Accepts::Text, Default::Null, "The suite; null: this host's own")],
        sources,
    ),
    Function::reads(
        "build.failed",
        "Return the trees that failed steps left for inspection, oldest first.

    castoff call build.failed",
        &[],
        failed,
    ),
    Function::changes(
        "build.shell",
        "Open a shell in the tree of a failed step, as the step saw it; with a command, run that instead.

What is changed in there is gone afterwards. The last lines that a command printed are in the report. A shell needs the caller's terminal, so it is opened by `castoff call` \
         and not by the daemon.

    castoff call build.shell
    castoff call build.shell command='[\"cat\", \"/etc/os-release\"]'",
        &[
            Argument::optional(
                "failed",
                Accepts::Text,
                Default::Null,
                "Name of the kept tree, as build.failed has it; null: the newest",
            ),
            Argument::optional(
                "command",
                Accepts::Items,
                Default::Null,
                "Program and arguments; null: /bin/sh on the terminal",
            ),
            Argument::optional("network", Accepts::Bool, Default::Bool(false), "Whether it reaches the network"),
        ],
        shell,
    ),
];

fn run(call: &Call, context: &Context) -> Result<Value> {
    let path = call.path("file")?;
    let request = Request {
        plans: read(&path)?,
        space: fs::absolute(fs::parent(&path))?.display().to_string(),
        only: names(call)?,
        force: call.boolean("force"),
        refresh: call.boolean("refresh"),
        jobs: None,
    };
    let surroundings = Surroundings::new(&context.config, &context.progress);
    if call.test {
        let explained = build::explain(&request, &surroundings)?;
        return Ok(Value::List(explained.iter().map(crate::plan::Explained::to_value).collect()));
    }
    Ok(build::run(&request, &surroundings, context.cancel()?)?.to_value())
}

fn names(call: &Call) -> Result<Option<Vec<PlanName>>> {
    let names = call.texts("images")?;
    if names.is_empty() {
        return Ok(None);
    }
    names.iter().map(|name| name.parse()).collect::<Result<_>>().map(Some)
}

/// Whether a file is a document of plans, by what its parts are called.
pub(super) fn is_document(path: &Path) -> Result<bool> {
    if !fs::metadata(path)?.is_some_and(|metadata| metadata.is_file()) {
        return Ok(false);
    }
    let parts = serde_json::from_slice::<Vec<serde_json::Value>>(&fs::read_at_most(path, 64 << 20)?);
    Ok(parts.is_ok_and(|parts| parts.iter().any(|part| part.get("base").is_some())))
}

/// The plans of a document.
pub(super) fn read(path: &Path) -> Result<Plans> {
    let bytes = fs::read_at_most(path, 64 << 20)?;
    let wrong = |error: serde_json::Error| {
        let place = format!("{}:{}:{}", path.display(), error.line(), error.column());
        Error::new(Kind::Usage, format!("{place}: that is no list of plans")).caused_by(error)
    };
    let values: Vec<serde_json::Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
    let spanned = parse_json_spanned(&String::from_utf8_lossy(&bytes), &path.display().to_string())?;
    let place = |at: &[&str]| {
        let place = spanned.at(at).map_or(spanned.place, |part| part.place);
        format!("{}:{}:{}", path.display(), place.line, place.column)
    };
    let (mut plans, mut problems) = (Vec::new(), Vec::new());
    for (number, value) in values.into_iter().enumerate() {
        let number = number.to_string();
        match serde_json::from_value::<Plan>(value.clone()) {
            Ok(mut plan) => {
                if plan.place.is_empty() {
                    plan.place = place(&[&number]);
                }
                plans.push(plan);
            }
            Err(error) => problems.extend(problems_of(&value, &error, &|at| place(&[&[number.as_str()], at].concat()))),
        }
    }
    let what = format!("`{}`", path.display());
    if !problems.is_empty() {
        return Err(refuse(&what, problems));
    }
    Plans::new(plans).map_err(|problems| refuse(&what, problems))
}

/// What is wrong in a plan that cannot be read: in its parts, each by itself, else in the whole.
fn problems_of(
    value: &serde_json::Value,
    whole: &serde_json::Error,
    place: &dyn Fn(&[&str]) -> String,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut look = |at: &[&str], what: Option<serde_json::Error>| {
        problems.extend(what.map(|what| Problem { place: place(at), what: what.to_string() }));
    };
    look(&["name"], value.get("name").and_then(|name| serde_json::from_value::<PlanName>(name.clone()).err()));
    look(&["base"], value.get("base").and_then(|base| serde_json::from_value::<Base>(base.clone()).err()));
    for (part, parts) in [("steps", value.get("steps")), ("outputs", value.get("outputs"))] {
        for (number, one) in parts.and_then(serde_json::Value::as_array).into_iter().flatten().enumerate() {
            let wrong = match part {
                "steps" => serde_json::from_value::<Step>(one.clone()).err(),
                _ => serde_json::from_value::<Output>(one.clone()).err(),
            };
            look(&[part, &number.to_string()], wrong);
        }
    }
    if problems.is_empty() {
        problems.push(Problem { place: place(&[]), what: whole.to_string() });
    }
    problems
}

fn sources(call: &Call, context: &Context) -> Result<Value> {
    let suite = match call.maybe_text("suite") {
        Some(suite) => suite.to_owned(),
        None => archives::own_suite()?,
    };
    let archive = archives::archive(&suite, &context.config)?;
    let text: String = archive.sources.files.iter().map(|(_, content)| content.as_str()).collect();
    Ok(Value::map([
        ("suite", Value::from(archive.suite)),
        ("architecture", archives::architecture()?.into()),
        ("text", text.into()),
    ]))
}

fn failed(_: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let found = build::failed(&surroundings)?;
    Ok(Value::list(found.iter().map(|path| path.display().to_string())))
}

fn shell(call: &Call, context: &Context) -> Result<Value> {
    let request = ShellRequest {
        failed: call.maybe_text("failed").map(str::to_owned),
        command: call.texts("command")?,
        network: call.boolean("network"),
    };
    let surroundings = Surroundings::new(&context.config, &context.progress);
    if call.test {
        return failed(call, context);
    }
    let (exit, output) = build::shell(&request, &surroundings, context.cancel()?)?;
    let mut report = crate::vocab::Map::new();
    report.insert("result".into(), (exit == 0).into());
    report.insert("exit".into(), i64::from(exit).into());
    if !request.command.is_empty() {
        report.insert("output".into(), Value::List(output.into_iter().map(Value::from).collect()));
    }
    Ok(Value::Map(report))
}
