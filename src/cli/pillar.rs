//! `castoff pillar MINION`: one pillar as one JSON document, for Salt's `cmd_yaml` and `cmd_json` to merge.
//!
//! Both merge whatever stands on stdout, whatever the exit code, and take nothing for an empty pillar; `cmd_json` reads
//! stderr too. So stdout has exactly one document in any case: the pillar, or `{"_errors": […]}`, which makes Salt refuse to
//! run states. Nothing is logged.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;

use super::client::{Client, Question, kind_of_status};
use super::options::PillarOptions;
use super::{Exit, output};
use crate::config::{Config, Overrides};
use crate::error::{Error, Kind, Result};
use crate::pillar::wire;
use crate::settings::{PILLAR_TTL, Service};
use crate::vocab::MinionId;

/// Prints the pillar that the options ask for, or why there is none.
pub(super) fn pillar(options: &PillarOptions, overrides: Result<Overrides>) -> Exit {
    if options.quiet {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let answer = std::panic::catch_unwind(AssertUnwindSafe(|| answer(options, &overrides?)))
        .unwrap_or_else(|_| Err(Error::new(Kind::Failed, "castoff itself is at fault: please report this")));
    let printed = answer.and_then(|document| {
        output::print(&String::from_utf8_lossy(&document))?;
        Ok(0)
    });
    printed.unwrap_or_else(|error| refuse(&error, options.quiet))
}

fn answer(options: &PillarOptions, overrides: &Overrides) -> Result<Bytes> {
    let id: MinionId = options.minion.parse()?;
    let config = Config::load(overrides)?;
    match Client::of(&config)? {
        Some(client) => asked(&client, &id, options.prefixed),
        None => computed(&config, &id, options.prefixed),
    }
}

/// The document, as the daemon has it: the same bytes.
fn asked(client: &Client, id: &MinionId, prefixed: bool) -> Result<Bytes> {
    let question = Question::get(format!("/v1/pillar/{id}?prefixed={prefixed}"));
    let answer = client.ask(&question, Some(client.patience()))?;
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let reason = told["_errors"][0].as_str().map(|reason| reason.strip_prefix("castoff: ").unwrap_or(reason));
    let reason = reason.map_or_else(|| format!("the daemon answers with status {}", answer.status), str::to_owned);
    Err(Error::new(kind_of_status(answer.status), reason))
}

/// The document, computed by this process.
fn computed(config: &Config, id: &MinionId, prefixed: bool) -> Result<Bytes> {
    Service::open(config).document(id, prefixed, PILLAR_TTL).map(|document| document.json.clone())
}

/// Says in both places that there is no pillar.
fn refuse(error: &Error, quiet: bool) -> Exit {
    if !quiet {
        output::complain(&error.render());
    }
    match output::print(&wire::refusal(error)) {
        Ok(()) => error.kind().exit_code(),
        Err(unwritten) => unwritten.kind().exit_code(),
    }
}

/// Says so where the command line itself could not be read; none where it was not about a pillar.
pub(super) fn refuse_words(arguments: &[OsString], error: &clap::Error) -> Option<Exit> {
    const COMMANDS: [&str; 4] = ["call", "config", "doctor", "completion"];
    let words = || arguments.iter().skip(1).map_while(|word| (word != "--").then(|| word.to_string_lossy()));
    let is_pillar =
        words().find(|word| word == "pillar" || COMMANDS.contains(&&**word)).is_some_and(|word| word == "pillar");
    if !is_pillar || !error.use_stderr() {
        return None;
    }
    let text = error.render().to_string();
    let quiet = words().any(|word| word == "--quiet");
    if !quiet {
        output::complain(text.trim_end());
    }
    let first = text.lines().map_while(|line| (!line.is_empty()).then(|| line.trim())).collect::<Vec<_>>().join(" ");
    let told = Error::new(Kind::Usage, first.strip_prefix("error: ").unwrap_or(&first))
        .hint("`castoff pillar -- MINION`; an id begins with a letter or digit");
    Some(refuse(&told, true))
}
