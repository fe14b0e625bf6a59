//! `castoff call`: one call, its result, its exit code, as `salt-call` has them.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::client::Client;
use super::logs::{self, Verbosity};
use super::options::CallOptions;
use super::output::{Target, complain, print};
use super::{Exit, progress, remote, usage};
use crate::config::{Config, Overrides};
use crate::document;
use crate::error::{Context as _, Error, Kind, Result};
use crate::function::{self, CallError, Context, Request};
use crate::host;
use crate::outputter::{Outputter, StateDetail, StateMode, Style};
use crate::pillar::Facts;
use crate::progress::{Progress, Silent, Sink};
use crate::vocab::{Key, Map, Value};

/// Salt's exit code for a function that does not exist.
const NO_SUCH_FUNCTION: Exit = 255;

/// Calls the function that the options name.
pub(super) fn call(options: &CallOptions, overrides: &Overrides) -> Result<Exit> {
    options.refused.check()?;
    let verbosity = verbosity(options.log_level.as_deref())?;
    logs::start(verbosity);
    if options.doc {
        return doc(options);
    }
    let Some(name) = &options.function else {
        return Err(usage("no function is named")
            .hint("`castoff call sys.list_functions` lists them, `castoff call --help` shows how to call one"));
    };
    let mut style = style(options)?;
    let target = Target::open(options.out_file.as_deref(), options.out_file_append)?;
    let sink = listener(verbosity);
    let config = Config::load(overrides)?;
    let no_parse: Vec<String> = options.no_parse.iter().map(|name| name.trim().to_owned()).collect();
    let request = Request::from_words(&options.arguments, &no_parse);
    let minion = options.minion_data.as_deref().map(minion_data).transpose()?;
    let job = options.metadata.then(job_id);
    let outcome = if options.daemon {
        remote::call(&daemon(&config)?, name, request, minion.as_ref(), &*sink)?
    } else {
        let mut context = Context::new(config.clone(), Progress::new(Arc::clone(&sink)));
        context.ends_by_signal = true;
        context.facts = minion.as_ref().map(Facts::passed_in).transpose()?;
        function::dispatch(name, request, &context).map(|result| {
            let retcode = context.retcode_of(&result);
            (result, retcode)
        })
    };
    let (result, retcode) = match outcome {
        Ok(done) => done,
        Err(error) => return explain(error, options.retcode_passthrough),
    };
    style.retcode = retcode;
    let shown = match job {
        Some(job) => metadata(options, &config, job, retcode, result)?,
        None => result,
    };
    let outputter = outputter(options.out.as_deref(), verbosity);
    target.write(&outputter.write(&Value::map([("local", shown)]), &style))?;
    Ok(if options.retcode_passthrough { retcode } else { retcode.min(1) })
}

/// The daemon that is to make the call.
fn daemon(config: &Config) -> Result<Client> {
    Client::of(config)?.ok_or_else(|| {
        let place = config.daemon.socket.as_ref().map_or_else(
            || "no socket is configured".to_owned(),
            |socket| format!("there is no socket `{}`", socket.display()),
        );
        Error::new(Kind::Unavailable, format!("no daemon to ask: {place}")).hint("start one with `castoff daemon`")
    })
}

/// What a minion told of itself, from a file or from stdin (`-`).
fn minion_data(path: &Path) -> Result<Map> {
    /// A minion's options, pillar and grains together are far smaller.
    const MOST_BYTES: u64 = 16 << 20;
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().take(MOST_BYTES + 1).read_to_end(&mut bytes).context(|| "cannot read stdin")?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(Error::new(Kind::Limit, "the minion's data on stdin is too large"));
        }
        bytes
    } else {
        host::fs::read_at_most(path, MOST_BYTES)?
    };
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    let text = String::from_utf8(bytes).map_err(|error| usage(format!("`{name}` is not UTF-8")).caused_by(error))?;
    let value = match document::parse_json(&text, &name) {
        Ok(value) => value,
        Err(_) => document::parse(&text, &name)?,
    };
    match value {
        Value::Map(map) => Ok(map),
        other => Err(usage(format!("`{name}` is a {}, not a map", other.type_name()))),
    }
}

/// Calls a function without arguments and shows its result to a person.
pub(super) fn shortcut(name: &str, config: &Config) -> Result<Exit> {
    show(name, Request::default(), &Context::new(config.clone(), Progress::silent()))
}

/// Calls `sync.run` for these images and shows its result to a person, progress included.
pub(super) fn sync(images: &[String], test: bool, config: &Config) -> Result<Exit> {
    let mut request = Request::default();
    if !images.is_empty() {
        request.named.insert("images".to_owned(), Value::list(images).into());
    }
    request.named.insert("test".to_owned(), Value::from(test).into());
    let mut context = Context::new(config.clone(), Progress::new(listener(verbosity(None)?)));
    context.ends_by_signal = true;
    show("sync.run", request, &context)
}

fn show(name: &str, request: Request, context: &Context) -> Result<Exit> {
    logs::start(Verbosity::Normal);
    let result = match function::dispatch(name, request, context) {
        Ok(result) => result,
        Err(error) => return explain(error, true),
    };
    let style = Style { color: color(false, false), retcode: context.retcode_of(&result), ..Style::default() };
    print(&(Outputter::Nested.write(&result, &style) + "\n"))?;
    Ok(style.retcode)
}

/// Documentation, in the shape of `salt-call -d`.
fn doc(options: &CallOptions) -> Result<Exit> {
    if !options.arguments.is_empty() {
        return Err(usage("documentation is shown for one function or module at a time"));
    }
    let wanted = options.function.as_deref().unwrap_or("");
    let mut text = String::new();
    for function in function::functions().into_iter().filter(|function| function.name.starts_with(wanted)) {
        let _infallible = write!(text, "{}:\n\n{}\n\n", function.name, indented(&function.manual()));
    }
    if text.is_empty() {
        let near = crate::vocab::nearest(wanted, function::functions().into_iter().map(|function| function.name));
        let error = Error::new(Kind::NotFound, format!("there is no function `{wanted}`"));
        return Err(if near.is_empty() { error } else { error.hint(did_you_mean(&near)) });
    }
    print(&text)?;
    Ok(0)
}

/// The text as a docstring stands: four more to the left of each line.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") });
    lines.collect::<Vec<_>>().join("\n")
}

fn did_you_mean(near: &[&str]) -> String {
    format!("did you mean `{}`?", near.join("`, `"))
}

/// Tells why a call gave no result, in the places and with the codes of `salt-call`.
fn explain(error: CallError, passthrough: bool) -> Result<Exit> {
    match error {
        CallError::Unknown { name, nearest } => {
            let hint = match nearest.as_slice() {
                [] => "`castoff call sys.list_functions` lists all functions".to_owned(),
                near => did_you_mean(near),
            };
            complain(&format!("'{name}' is not available.\n\nhint: {hint}"));
            Ok(NO_SUCH_FUNCTION)
        }
        CallError::Keywords { problem, hint, .. } => {
            complain(&with_hint(&problem, hint));
            Ok(usage_code(passthrough))
        }
        CallError::Arguments { function, problem, hint } => {
            let problem = with_hint(&format!("\nPassed invalid arguments: {problem}."), hint);
            complain(&format!("{problem}\n\nUsage:"));
            print(&format!("\n{}\n\n", indented(&function.manual())))?;
            Ok(usage_code(passthrough))
        }
        CallError::Failed { function, error } => {
            let rendered = error.render();
            let told = rendered.strip_prefix("error: ").unwrap_or(&rendered);
            complain(&format!("Error running '{}': {told}", function.name));
            Ok(if passthrough { error.kind().exit_code() } else { 1 })
        }
    }
}

fn usage_code(passthrough: bool) -> Exit {
    if passthrough { Kind::Usage.exit_code() } else { 1 }
}

fn with_hint(problem: &str, hint: Option<String>) -> String {
    hint.map_or_else(|| problem.to_owned(), |hint| format!("{problem}\n\nhint: {hint}"))
}

/// Who listens to progress at this verbosity.
pub(super) fn listener(verbosity: Verbosity) -> Arc<dyn Sink> {
    if verbosity < Verbosity::Normal { Arc::new(Silent) } else { Arc::new(progress::on_stderr(verbosity)) }
}

pub(super) fn verbosity(level: Option<&str>) -> Result<Verbosity> {
    let (word, told_by) = match level {
        Some(level) => (level.to_owned(), "-l"),
        None => match host::environment::text("CASTOFF_LOG")? {
            Some(level) => (level, "CASTOFF_LOG"),
            None => return Ok(Verbosity::Normal),
        },
    };
    Verbosity::of_level(&word).ok_or_else(|| {
        usage(format!("{told_by}: there is no log level `{word}`"))
            .hint(format!("the levels are {}", logs::LEVELS.join(", ")))
    })
}

fn color(never: bool, always: bool) -> bool {
    always || (!never && rustix::termios::isatty(std::io::stdout()))
}

fn style(options: &CallOptions) -> Result<Style> {
    let states = match options.state_output.as_deref() {
        None => StateDetail::default(),
        Some(word) => state_detail(word)?,
    };
    let changes_only = match options.state_verbose.as_deref() {
        None | Some("True" | "true") => false,
        Some("False" | "false") => true,
        Some(other) => return Err(usage(format!("--state-verbose is True or False, not `{other}`"))),
    };
    let color = color(options.no_color, options.force_color) && (options.out_file.is_none() || options.force_color);
    Ok(Style { indent: options.out_indent, color, retcode: 0, states, changes_only })
}

fn state_detail(word: &str) -> Result<StateDetail> {
    let mode = match word.strip_suffix("_id").unwrap_or(word) {
        "full" => StateMode::Full,
        "terse" => StateMode::Terse,
        "mixed" => StateMode::Mixed,
        "changes" => StateMode::Changes,
        _ => {
            return Err(usage(format!(
                "--state-output is full, terse, mixed or changes, also with `_id`, not `{word}`"
            )));
        }
    };
    Ok(StateDetail { mode, by_id: word.ends_with("_id") })
}

/// The outputter of this name; an unknown one is nested and a word on stderr, as in Salt.
fn outputter(name: Option<&str>, verbosity: Verbosity) -> Outputter {
    let Some(name) = name else { return Outputter::Nested };
    Outputter::named(name).unwrap_or_else(|| {
        if verbosity >= Verbosity::Errors {
            complain(&format!("[ERROR   ] Invalid outputter {name} specified, fall back to nested"));
        }
        Outputter::Nested
    })
}

/// The result with what `--metadata` shows beside it, in Salt's order.
fn metadata(options: &CallOptions, config: &Config, job: String, retcode: u8, result: Value) -> Result<Value> {
    let id = match &config.minion_id {
        Some(id) => id.to_string(),
        None => host::process::host_name()?,
    };
    let mut map = Map::from_iter([
        (Key::from("jid"), Value::from(job)),
        (Key::from("return"), result),
        (Key::from("retcode"), Value::from(retcode)),
        (Key::from("id"), Value::from(id)),
        (Key::from("fun"), Value::from(options.function.clone())),
        (Key::from("fun_args"), Value::list(&options.arguments)),
    ]);
    if let Some(words) = &options.set_metadata {
        map.insert(Key::from("metadata"), document::argument(words));
    }
    Ok(Value::Map(map))
}

/// A job's ID: the time in UTC, to the microsecond, as twenty digits.
fn job_id() -> String {
    let now = host::clock::now();
    let (days, seconds) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}{month:02}{day:02}{:02}{:02}{:02}{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        now.subsec_micros()
    )
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is a year's last; eras are 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    /// Right sides by `date -u -d @…`.
    #[test]
    fn days_become_dates() {
        for (seconds, date) in [
            (0, (1970, 1, 1)),
            (951_782_400, (2000, 2, 29)),
            (951_868_800, (2000, 3, 1)),
            (1_735_603_200, (2024, 12, 31)),
            (4_107_542_400, (2100, 3, 1)),
        ] {
            assert_eq!(super::civil(seconds / 86_400), date);
        }
    }
}
