//! `build.*`: plans as castoff's own documents, and what builds leave behind.

use std::path::Path;

use super::{Accepts, Argument, Call, Context, Default, Function, archives};
use crate::build::{self, Request, ShellRequest};
use crate::engine::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::plan::{Plan, PlanName, Plans, refuse};
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

What is changed in there is gone afterwards. A shell needs the caller's terminal, so it is opened by `castoff call` \
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

/// The plans of a document.
fn read(path: &Path) -> Result<Plans> {
    let bytes = fs::read_at_most(path, 64 << 20)?;
    let plans: Vec<Plan> = serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("{}:{}:{}", path.display(), error.line(), error.column());
        Error::new(Kind::Usage, format!("{place}: that is no list of plans")).caused_by(error)
    })?;
    Plans::new(plans).map_err(|problems| refuse(&format!("`{}`", path.display()), problems))
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
    let exit = build::shell(&request, &surroundings, context.cancel()?)?;
    Ok(Value::map([("result", Value::from(exit == 0)), ("exit", i64::from(exit).into())]))
}
