//! The command line: translates words to calls and results to text; no rules of the domain.
//!
//! Data goes to stdout, everything else to stderr. What `call` prints and exits with is what `salt-call` 3008.3 does,
//! but for what README.md lists.

mod call;
mod client;
mod complete;
mod job;
mod logs;
mod lvh;
mod options;
mod output;
mod pillar;
mod progress;
mod remote;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::config::{Config, Overrides};
use crate::error::{Error, Kind, Result};
use options::{Cli, Command};

/// How this process ends, told apart from what it printed.
type Exit = u8;

/// What runs the daemon until it is told to stop; a room beside this one, which `main` hands in.
pub type Daemon = fn(&Overrides) -> Result<u8>;

/// Runs the command line of this process.
pub fn main(daemon: Daemon) -> ExitCode {
    let arguments = spelled_out(std::env::args_os().collect());
    ExitCode::from(stood_in_for(arguments).and_then(|arguments| run(&arguments, daemon)).unwrap_or_else(|error| {
        output::complain(&error.render());
        error.kind().exit_code()
    }))
}

/// The arguments with `-all` as `-l all`, which is what the documentation of the original's releases writes: salt-call
/// takes it for `-a`, and fails.
fn spelled_out(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|command| command == "call") {
        let options = arguments.iter_mut().skip(2).take_while(|argument| *argument != "--");
        for argument in options.filter(|argument| *argument == "-all") {
            *argument = OsString::from("-lall");
        }
    }
    arguments
}

/// The arguments in castoff's own words, where castoff stands in for a program under a link of its name.
///
/// Refuses to be one that it cannot be yet.
fn stood_in_for(mut arguments: Vec<OsString>) -> Result<Vec<OsString>> {
    const REFUSED: [&str; 2] = ["disk-image-create", "simplestreams-builder"];
    match called_as(&arguments) {
        Some("lvh") => {
            arguments.insert(1, OsString::from("lvh"));
            Ok(arguments)
        }
        Some(name) if REFUSED.contains(&name) => {
            Err(Error::new(Kind::Unsupported, format!("castoff {} cannot be `{name}` yet", env!("CARGO_PKG_VERSION")))
                .hint("call the program itself by its path; `castoff --help` shows what castoff can do"))
        }
        _ => Ok(arguments),
    }
}

/// The name of the program as it was called.
fn called_as(arguments: &[OsString]) -> Option<&str> {
    arguments.first().and_then(|program| Path::new(program).file_name()).and_then(OsStr::to_str)
}

/// What the arguments say. Under the name `lvh` they name that word again, which no usage shall show twice.
fn parse(arguments: &[OsString]) -> std::result::Result<clap::ArgMatches, clap::Error> {
    match (called_as(arguments), arguments) {
        (Some("lvh"), [_, words @ ..]) => options::command().no_binary_name(true).try_get_matches_from(words),
        _ => options::command().try_get_matches_from(arguments),
    }
}

fn run(arguments: &[OsString], daemon: Daemon) -> Result<Exit> {
    let matches = match parse(arguments) {
        Ok(matches) => matches,
        Err(error) if arguments.get(1).is_some_and(|command| command == "lvh") => {
            return Ok(say(&error).min(lvh::FAILURE));
        }
        Err(error) => return Ok(pillar::refuse_words(arguments, &error).unwrap_or_else(|| say(&error))),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return Ok(say(&error)),
    };
    match cli.command {
        Command::Call(options) => call::call(&options, &options::overrides(&matches)?),
        Command::Config => call::shortcut("sys.config", &config(&matches)?),
        Command::Daemon => daemon(&options::overrides(&matches)?),
        Command::Doctor => call::shortcut("sys.doctor", &config(&matches)?),
        Command::JobRun { id } => job::run(&id, &config(&matches)?),
        Command::Lvh(options) => Ok(lvh::lvh(&options, || config(&matches))),
        Command::Pillar(options) => Ok(pillar::pillar(&options, options::overrides(&matches))),
        Command::Sync { images, test } => call::sync(&images, test, &config(&matches)?),
        Command::Completion { shell } => complete::print(shell),
    }
}

fn config(matches: &clap::ArgMatches) -> Result<Config> {
    Config::load(&options::overrides(matches)?)
}

/// Prints help, the version or a usage error.
fn say(error: &clap::Error) -> Exit {
    let text = error.render();
    if error.use_stderr() {
        output::complain(text.to_string().trim_end());
        return Kind::Usage.exit_code();
    }
    match output::print(&text.to_string()) {
        Ok(()) => 0,
        Err(error) => {
            output::complain(&error.render());
            error.kind().exit_code()
        }
    }
}

/// A usage error of the command line itself.
fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message)
}
