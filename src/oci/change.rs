//! Dockerfile instructions applied to the `config` member of an image configuration.
//!
//! The rules are those of Docker's builder (`docker import --change`): the shell form runs under the image's `Shell`
//! (`/bin/sh -c`), ENTRYPOINT resets an inherited CMD, variables come from the image's `Env`. Only the members an
//! instruction is about are touched.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;

use super::json::Members;
use super::words;
use crate::error::{Error, Kind, Result};
use crate::vocab::nearest;

const WHAT: &str = "the image configuration's `config`";

type Apply = fn(&mut State<'_>, &str) -> Result<(), Problem>;

const INSTRUCTIONS: &[(&str, Apply)] = &[
    ("CMD", cmd),
    ("ENTRYPOINT", entrypoint),
    ("ENV", env),
    ("EXPOSE", expose),
    ("HEALTHCHECK", healthcheck),
    ("LABEL", label),
    ("ONBUILD", onbuild),
    ("STOPSIGNAL", stopsignal),
    ("USER", user),
    ("VOLUME", volume),
    ("WORKDIR", workdir),
];

/// What is wrong with an instruction, or with the configuration it changes.
enum Problem {
    Words(String),
    Config(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Config(error)
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Words(text)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Self::Words(text.to_owned())
    }
}

/// The members under change, and what the instructions before have done.
struct State<'members> {
    run: &'members mut Members,
    command_was_set: bool,
}

/// Applies the changes in order; an error names the change.
pub(super) fn apply(run: &mut Members, changes: &[String]) -> Result<()> {
    let mut state = State { run, command_was_set: false };
    for change in changes {
        let text = change.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let wrong = |why: &str| Error::new(Kind::Usage, format!("change `{change}` cannot be applied: {why}"));
        let upper = word.to_ascii_uppercase();
        let Some((_, apply)) = INSTRUCTIONS.iter().find(|(name, _)| *name == upper) else {
            let known = INSTRUCTIONS.iter().map(|(name, _)| *name);
            let near = nearest(&upper, known.clone());
            let hint = match near.first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known instructions: {}", known.collect::<Vec<_>>().join(", ")),
            };
            return Err(wrong(&format!("`{word}` is not an instruction that changes an image")).hint(hint));
        };
        let rest = rest.trim();
        if rest.is_empty() {
            return Err(wrong("it says nothing"));
        }
        apply(&mut state, rest).map_err(|problem| match problem {
            Problem::Words(why) => wrong(&why),
            Problem::Config(error) => error,
        })?;
    }
    Ok(())
}

impl State<'_> {
    fn expand(&self, word: &str) -> Result<String, Problem> {
        let environment: Vec<String> = self.run.typed(WHAT, "Env")?.unwrap_or_default();
        let lookup = |name: &str| {
            environment
                .iter()
                .find_map(|pair| pair.split_once('=').filter(|(own, _)| *own == name))
                .map(|(_, value)| value.to_owned())
        };
        Ok(words::expand(word, &lookup)?)
    }

    /// The words of an instruction, expanded.
    fn words(&self, rest: &str) -> Result<Vec<String>, Problem> {
        words::split(rest).iter().map(|word| self.expand(word)).collect()
    }

    /// `NAME=VALUE …` or `NAME VALUE`.
    fn pairs(&self, rest: &str) -> Result<Vec<(String, String)>, Problem> {
        let words = words::split(rest);
        if !words.first().is_some_and(|word| word.contains('=')) {
            let (name, value) = rest.split_once(char::is_whitespace).ok_or("it must have a name and a value")?;
            return Ok(vec![(self.expand(name)?, self.expand(value.trim_start())?)]);
        }
        let mut pairs = Vec::new();
        for word in &words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` has no `=`"))?;
            let name = self.expand(name)?;
            if name.is_empty() {
                return Err(format!("`{word}` has no name before `=`").into());
            }
            pairs.push((name, self.expand(value)?));
        }
        Ok(pairs)
    }

    /// JSON form as it is; anything else under the image's shell.
    fn command(&self, rest: &str) -> Result<Vec<String>, Problem> {
        if let Some(words) = json_words(rest)? {
            return Ok(words);
        }
        let shell: Option<Vec<String>> = self.run.typed(WHAT, "Shell")?;
        let mut command =
            shell.filter(|shell| !shell.is_empty()).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        command.push(rest.to_owned());
        Ok(command)
    }

    /// Adds keys to a member that is a set in Go's spelling: `{"KEY":{}}`.
    fn add_keys(&mut self, member: &str, keys: impl IntoIterator<Item = String>) -> Result<(), Problem> {
        let mut set: IndexMap<String, Box<RawValue>> = self.run.typed(WHAT, member)?.unwrap_or_default();
        for key in keys {
            set.entry(key).or_insert(raw(&Empty {})?);
        }
        Ok(self.run.set(member, &set)?)
    }
}

/// Go's `struct{}`.
#[derive(Serialize)]
struct Empty {}

fn raw<T: Serialize>(value: &T) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Error::new(Kind::Failed, "cannot write JSON").caused_by(error))
}

/// The words of a JSON list; none when the text is no JSON at all, which makes it the shell form, as in Docker.
fn json_words(text: &str) -> Result<Option<Vec<String>>, Problem> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => Ok(None),
        Ok(items) => items
            .into_iter()
            .map(|item| match item {
                serde_json::Value::String(text) => Ok(text),
                other => Err(format!("`{other}` in its list is not text").into()),
            })
            .collect::<Result<_, _>>()
            .map(Some),
    }
}

fn cmd(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    state.command_was_set = true;
    let command = state.command(rest)?;
    Ok(state.run.set("Cmd", &command)?)
}

fn entrypoint(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let command = state.command(rest)?;
    if !state.command_was_set {
        state.run.remove("Cmd");
    }
    Ok(state.run.set("Entrypoint", &command)?)
}

fn env(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let mut environment: Vec<String> = state.run.typed(WHAT, "Env")?.unwrap_or_default();
    for (name, value) in state.pairs(rest)? {
        let pair = format!("{name}={value}");
        match environment.iter_mut().find(|own| own.split_once('=').is_some_and(|(own, _)| own == name)) {
            Some(own) => *own = pair,
            None => environment.push(pair),
        }
    }
    Ok(state.run.set("Env", &environment)?)
}

fn label(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let mut labels: IndexMap<String, Box<RawValue>> = state.run.typed(WHAT, "Labels")?.unwrap_or_default();
    for (name, value) in state.pairs(rest)? {
        labels.insert(name, raw(&value)?);
    }
    Ok(state.run.set("Labels", &labels)?)
}

fn expose(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let mut ports = Vec::new();
    for word in state.words(rest)? {
        let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (Some(first), Some(last), "tcp" | "udp" | "sctp") = (number(first), number(last), &*protocol) else {
            return Err(format!("`{word}` is not a port, like `80`, `53/udp` or `8000-8010/tcp`").into());
        };
        if first > last {
            return Err(format!("the range `{word}` ends before it begins").into());
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    state.add_keys("ExposedPorts", ports)
}

fn volume(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let volumes = match json_words(rest)? {
        Some(words) => words.iter().map(|word| state.expand(word)).collect::<Result<Vec<_>, _>>()?,
        None => state.words(rest)?,
    };
    if volumes.iter().any(|volume| volume.trim().is_empty()) {
        return Err("a volume cannot be empty".into());
    }
    state.add_keys("Volumes", volumes)
}

fn user(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let [user] = &state.words(rest)?[..] else {
        return Err("it must have one word, like `www-data` or `1000:1000`".into());
    };
    Ok(state.run.set("User", user)?)
}

fn stopsignal(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let words = state.words(rest)?;
    let is_signal = |word: &str| {
        word.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
            || word
                .strip_prefix("SIG")
                .unwrap_or(word)
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"+-".contains(&byte))
                && word.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    match &words[..] {
        [signal] if is_signal(signal) => Ok(state.run.set("StopSignal", signal)?),
        _ => Err("it must have one signal, like `SIGTERM` or `15`".into()),
    }
}

fn workdir(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let path = state.expand(rest)?;
    let current: String = state.run.typed(WHAT, "WorkingDir")?.unwrap_or_default();
    let joined = if path.starts_with('/') { path } else { format!("{current}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(state.run.set("WorkingDir", &format!("/{}", parts.join("/")))?)
}

fn onbuild(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let word = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if matches!(word.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        return Err(format!("ONBUILD cannot hold `{word}`").into());
    }
    let mut triggers: Vec<String> = state.run.typed(WHAT, "OnBuild")?.unwrap_or_default();
    triggers.push(rest.to_owned());
    Ok(state.run.set("OnBuild", &triggers)?)
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    test: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u32>,
}

fn healthcheck(state: &mut State<'_>, rest: &str) -> Result<(), Problem> {
    let mut health = Health::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        rest = after.trim_start();
        let (name, value) = option.split_once('=').ok_or_else(|| format!("`--{option}` has no value"))?;
        match name {
            "interval" => health.interval = Some(nanoseconds(value)?),
            "timeout" => health.timeout = Some(nanoseconds(value)?),
            "start-period" => health.start_period = Some(nanoseconds(value)?),
            "start-interval" => health.start_interval = Some(nanoseconds(value)?),
            "retries" => {
                health.retries = Some(value.parse().map_err(|_| format!("`{value}` is not a number of retries"))?);
            }
            _ => return Err(format!("`--{name}` is not known").into()),
        }
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    health.test = match (word.to_ascii_uppercase().as_str(), command.trim()) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", command) if !command.is_empty() => match json_words(command)? {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
        },
        _ => return Err("it must be `NONE`, or `CMD` and a command".into()),
    };
    Ok(state.run.set("Healthcheck", &health)?)
}

/// A duration as Go writes it (`1h30m`, `1.5s`, `300ms`) in nanoseconds.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration, like `30s` or `1m30s`");
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(|byte| !byte.is_ascii_digit() && *byte != b'.').count();
        let (unit, after) = after.split_at(letters);
        rest = after;
        let scale: u64 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 =
            if whole.is_empty() && !fraction.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
        let mut part = whole.checked_mul(scale).ok_or_else(wrong)?;
        let mut place = scale;
        for digit in fraction.bytes() {
            place /= 10;
            part += u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(wrong)?) * place;
        }
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    if total == 0 || total < 1_000_000 {
        return Err(format!("the duration `{text}` is shorter than 1ms"));
    }
    Ok(total)
}
