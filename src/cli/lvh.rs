//! `castoff lvh`, and castoff under the name `lvh`: the words of little-vm-helper, its lines and its exit codes.
//!
//! Lines about images go to stdout, everything else to stderr; the exit code is 0 or 1.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Subcommand};

use super::logs::{self, Verbosity};
use super::output::{complain, print};
use super::{Exit, call};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::function::{self, CallError, Context, Given, Request};
use crate::progress::Progress;
use crate::vocab::Value;

/// lvh knows only success and failure.
pub(super) const FAILURE: Exit = 1;

#[derive(Debug, Args)]
#[command(about = "Build and fetch images of virtual machines, as little-vm-helper (lvh) does")]
pub(super) struct LvhOptions {
    #[command(subcommand)]
    command: Option<LvhCommand>,
}

#[derive(Debug, Subcommand)]
enum LvhCommand {
    /// Build VM images
    Images {
        #[command(subcommand)]
        command: Option<ImagesCommand>,
    },
    /// Print the version
    Version,
    /// Not part of castoff: `castoff call image.boot` starts an image
    #[command(hide = true, disable_help_flag = true)]
    Run(Rest),
    /// Not part of castoff
    #[command(hide = true, disable_help_flag = true)]
    Kernels(Rest),
}

#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// Build VM images
    Build(BuildOptions),
    /// Print an example config
    ExampleConfig,
    /// Pull an image from an OCI repository
    Pull(PullOptions),
}

#[derive(Debug, Args)]
struct BuildOptions {
    /// Directory to keep the images: the configuration is in DIR/images.json, the images are made in DIR/images
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Image to build, with what builds on it and what it builds on; repeatable. Without it all images are built
    #[arg(short, long, value_name = "NAME", action = ArgAction::Append)]
    image: Vec<String>,

    /// Rebuild all images, even if they exist
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(value_parser = BoolishValueParser::new(), action = ArgAction::Set, hide_default_value = true)]
    force_rebuild: bool,

    /// Build nothing: create empty files where no image is, and say what would become of those that are there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(value_parser = BoolishValueParser::new(), action = ArgAction::Set, hide_default_value = true)]
    dry_run: bool,

    /// Accepted: steps are not merged, since they cost nothing apart; images are the same either way
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    merge_steps: bool,

    /// Suite that base images are made of (sid, bookworm, noble); behind it, after a blank, its mirror
    #[arg(long, value_name = "SUITE", default_value = "sid")]
    pkg_repo: String,
}

#[derive(Debug, Args)]
struct PullOptions {
    /// The image: HOST/NAME:TAG, or any reference
    #[arg(value_name = "URL")]
    url: String,

    /// Directory to keep the images: they are saved in DIR/images
    #[arg(long, value_name = "DIR", default_value = "_data")]
    dir: PathBuf,

    /// Keep a compressed version of the image
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    #[arg(value_parser = BoolishValueParser::new(), action = ArgAction::Set, hide_default_value = true)]
    cache: bool,

    /// Platform, such as linux/arm64
    #[arg(long, default_value = "")]
    platform: String,
}

/// Does what the words say; every failure is told here.
pub(super) fn lvh(options: &LvhOptions, config: impl FnOnce() -> Result<Config>) -> Exit {
    let done = match &options.command {
        None => help(&["lvh"]),
        Some(LvhCommand::Images { command: None }) => help(&["lvh", "images"]),
        Some(LvhCommand::Version) => print(concat!("castoff ", env!("CARGO_PKG_VERSION"), "\n")).map(|()| 0),
        Some(LvhCommand::Run(_)) => Err(absent("run", "`castoff call image.boot IMAGE` starts one in qemu")),
        Some(LvhCommand::Kernels(_)) => {
            Err(absent("kernels", "`install-kernel` takes a folder that a kernel's own `make tar-pkg` fills"))
        }
        Some(LvhCommand::Images { command: Some(command) }) => config().and_then(|config| images(command, config)),
    };
    done.unwrap_or_else(|error| {
        complain(&error.render());
        FAILURE
    })
}

fn absent(word: &str, hint: &str) -> Error {
    Error::new(Kind::Unsupported, format!("`lvh {word}` is not part of castoff")).hint(hint)
}

fn help(path: &[&str]) -> Result<Exit> {
    let program = std::env::args_os().next().unwrap_or_else(|| "castoff".into());
    let words = path.iter().copied().chain(["-h"]).map(OsString::from);
    let words: Vec<OsString> = std::iter::once(program).chain(words).collect();
    // Help that was asked for is told as clap tells errors.
    match super::parse(&words) {
        Err(help) => print(&help.render().to_string()).map(|()| 0),
        Ok(_) => Err(Error::new(Kind::Failed, format!("there is no help on `{}`", path.join(" ")))),
    }
}

fn images(command: &ImagesCommand, config: Config) -> Result<Exit> {
    match command {
        ImagesCommand::Build(options) => build(options, config),
        ImagesCommand::ExampleConfig => {
            let text = dispatch("forest.example_config", Vec::new(), config)?.0;
            print(text.as_str().unwrap_or_default()).map(|()| 0)
        }
        ImagesCommand::Pull(options) => {
            let mut given = vec![
                ("url", Value::from(options.url.as_str())),
                ("dir", path(&options.dir)?),
                ("cache", options.cache.into()),
            ];
            if !options.platform.is_empty() {
                given.push(("platform", options.platform.as_str().into()));
            }
            let (result, retcode) = dispatch("forest.pull", given, config)?;
            for line in pulled(&result, &options.url) {
                complain(&line);
            }
            Ok(retcode.min(FAILURE))
        }
    }
}

/// What became of each file that an image carries.
fn pulled(result: &Value, url: &str) -> Vec<String> {
    let list = |key: &str| result.get(key).and_then(Value::as_list).unwrap_or_default();
    let line = |file: &Value| {
        let done = [("written", "pulled"), ("replaced", "replaced"), ("reused", "reused")];
        let word = done.into_iter().find(|(key, _)| list(key).contains(file)).map(|(_, word)| word);
        word.map(|word| format!("{word} {}", file.as_str().unwrap_or_default()))
    };
    let lines: Vec<String> = list("files").iter().filter_map(line).collect();
    if lines.is_empty() { vec![format!("`{url}` carries no images: nothing was pulled")] } else { lines }
}

fn path(path: &std::path::Path) -> Result<Value> {
    let text = path.to_str().ok_or_else(|| super::usage(format!("`{}` is not UTF-8", path.display())))?;
    Ok(text.into())
}

fn build(options: &BuildOptions, config: Config) -> Result<Exit> {
    let mut given = vec![
        ("dir", path(&options.dir)?),
        ("force", options.force_rebuild.into()),
        ("dry_run", options.dry_run.into()),
        ("merge_steps", options.merge_steps.into()),
        ("pkg_repo", options.pkg_repo.as_str().into()),
    ];
    if !options.image.is_empty() {
        given.push(("images", Value::list(&options.image)));
    }
    let begun = std::time::Instant::now();
    let (result, retcode) = dispatch("forest.build", given, config)?;
    let images = result.get("images").and_then(Value::as_map).cloned().unwrap_or_default();
    let mut lines = String::new();
    for (name, image) in &images {
        let name = name.as_str().unwrap_or_default();
        let text = |key: &str| image.get(key).and_then(Value::as_str);
        if let Some(error) = text("error") {
            complain(&format!("error: {name}: {error}"));
        } else {
            let used = image.get("cachedImageUsed") == Some(&Value::Bool(true));
            lines += &line(name, used, text("cachedImageDeleted").unwrap_or_default());
        }
    }
    match result.get("comment").and_then(Value::as_str) {
        Some(errors) => complain(errors),
        None => complain(&format!("images built successfully in {:.1} s", begun.elapsed().as_secs_f64())),
    }
    print(&lines)?;
    Ok(retcode.min(FAILURE))
}

/// lvh's own line about a good image.
fn line(name: &str, used: bool, deleted: &str) -> String {
    format!("image:{name:<10} cachedImageUsed:{used} cachedImageDeleted:{deleted}\n")
}

/// Calls a function: its result and its return code.
fn dispatch(name: &str, given: Vec<(&str, Value)>, config: Config) -> Result<(Value, Exit)> {
    let verbosity = call::verbosity(None)?;
    logs::start(Verbosity::Normal);
    let named = given.into_iter().map(|(name, value)| (name.to_owned(), Given::from(value))).collect();
    let request = Request { positional: Vec::new(), named };
    let mut context = Context::new(config, Progress::new(call::listener(verbosity)));
    context.ends_by_signal = true;
    let result = function::dispatch(name, request, &context).map_err(CallError::into_error)?;
    let retcode = context.retcode_of(&result);
    Ok((result, retcode))
}

#[cfg(test)]
mod tests {
    use crate::vocab::Value;

    #[test]
    fn what_was_pulled_is_told_file_by_file() {
        let lists = [("files", &["a", "b", "c"][..]), ("written", &["c"]), ("replaced", &["a"]), ("reused", &["b"])];
        let result = Value::map(lists.map(|(key, files)| (key, Value::list(files.iter().copied()))));
        assert_eq!(super::pulled(&result, "x"), ["replaced a", "reused b", "pulled c"]);
        let nothing = Value::map([("files", Value::list([""; 0]))]);
        assert_eq!(super::pulled(&nothing, "x:1"), ["`x:1` carries no images: nothing was pulled"]);
    }

    /// By Go's `fmt.Printf("image:%-10s cachedImageUsed:%t cachedImageDeleted:%s\n", ..)`.
    #[test]
    fn lines_are_those_of_lvh() {
        for (line, shown) in [
            (super::line("base", true, ""), "image:base       cachedImageUsed:true cachedImageDeleted:\n"),
            (
                super::line("a-long-name.img", false, "why"),
                "image:a-long-name.img cachedImageUsed:false cachedImageDeleted:why\n",
            ),
        ] {
            assert_eq!(line, shown);
        }
    }
}
