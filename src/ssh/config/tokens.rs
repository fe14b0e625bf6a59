//! From raw values to settings: tokens replaced, paths made whole, jumps taken apart.

use std::path::PathBuf;

use super::lines::{Line, Place};
use super::{Found, HostSettings, one_word, port_number};
use crate::error::Result;
use crate::ssh::{Jump, Operator};

/// What tokens stand for; a token that has no value here is an error.
#[derive(Default)]
struct Values<'a> {
    host: Option<&'a str>,
    original: Option<&'a str>,
    local_user: Option<&'a str>,
    remote_user: Option<&'a str>,
    port: Option<u16>,
    home: Option<&'a str>,
}

pub(super) fn settings(
    operator: &Operator,
    host: &str,
    user: Option<&str>,
    port: Option<u16>,
    found: &Found,
) -> Result<HostSettings> {
    let host_name = match &found.host_name {
        None => host.to_owned(),
        // Only here `%h` is the name as it was given.
        Some(line) => {
            let values = Values { host: Some(host), original: Some(host), ..Values::default() };
            expand(one_word(line, "one name")?, &line.place, &values)?
        }
    };
    let configured_port =
        found.port.as_ref().map(|line| port_number(one_word(line, "one number")?, &line.place)).transpose()?;
    let port = port.or(configured_port);
    let configured_user = match &found.user {
        None => None,
        Some(line) => {
            let values = Values {
                host: Some(&host_name),
                original: Some(host),
                local_user: Some(&operator.user),
                port: Some(port.unwrap_or(22)),
                home: operator.home.to_str(),
                remote_user: None,
            };
            Some(expand(one_word(line, "one name")?, &line.place, &values)?)
        }
    };
    let user = user.map(str::to_owned).or(configured_user);
    let values = Values {
        host: Some(&host_name),
        original: Some(host),
        local_user: Some(&operator.user),
        remote_user: Some(user.as_deref().unwrap_or(&operator.user)),
        port: Some(port.unwrap_or(22)),
        home: operator.home.to_str(),
    };
    Ok(HostSettings {
        identity_files: identity_files(operator, found, &values)?,
        identities_only: yes_or_no(found.identities_only.as_ref())?,
        known_hosts: known_hosts(operator, found, &values)?,
        jumps: jumps(found, &values)?,
        host_name,
        port,
        user,
    })
}

fn identity_files(operator: &Operator, found: &Found, values: &Values<'_>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in &found.identity_files {
        let word = one_word(line, "one file")?;
        if word != "none" {
            let file = path(operator, word, &line.place, values)?;
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

fn known_hosts(operator: &Operator, found: &Found, values: &Values<'_>) -> Result<Option<Vec<PathBuf>>> {
    if found.user_known_hosts.is_none() && found.global_known_hosts.is_none() {
        return Ok(None);
    }
    let [user, global] = usual_known_hosts(operator);
    let mut files = Vec::new();
    for (line, usual) in [(&found.user_known_hosts, user), (&found.global_known_hosts, global)] {
        let Some(line) = line else {
            files.extend(usual);
            continue;
        };
        for word in &line.words {
            if word != "none" {
                files.push(path(operator, word, &line.place, values)?);
            }
        }
    }
    Ok(Some(files))
}

/// Where ssh looks for host keys unless told otherwise: the user's files and the system's.
pub(in crate::ssh) fn usual_known_hosts(operator: &Operator) -> [Vec<PathBuf>; 2] {
    let user = ["known_hosts", "known_hosts2"].map(|name| operator.home.join(".ssh").join(name));
    let global = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from);
    [user.into(), global.into()]
}

fn yes_or_no(line: Option<&Line>) -> Result<bool> {
    let Some(line) = line else { return Ok(false) };
    match one_word(line, "`yes` or `no`")?.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(line.place.wrong(format_args!("`{}` takes `yes` or `no`", line.written))),
    }
}

fn jumps(found: &Found, values: &Values<'_>) -> Result<Vec<Jump>> {
    let Some(line) = &found.proxy_jump else { return Ok(Vec::new()) };
    let word = one_word(line, "hosts with commas and no blanks")?;
    if word.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let jump = |text: &str| {
        let text = expand(text, &line.place, values)?;
        text.parse::<Jump>().map_err(|error| line.place.wrong(error.message()))
    };
    word.split(',').map(jump).collect()
}

fn path(operator: &Operator, word: &str, place: &Place, values: &Values<'_>) -> Result<PathBuf> {
    if word.contains("${") {
        return Err(place.wrong(format_args!("an environment variable in `{word}` is not looked up")));
    }
    let text = expand(word, place, values)?;
    match text.strip_prefix("~/") {
        Some(rest) => Ok(operator.home.join(rest)),
        None if text.starts_with('~') => Err(place.wrong(format_args!("the home folder in `{text}` is not looked up"))),
        // As ssh: relative to where it runs.
        None => Ok(PathBuf::from(text)),
    }
}

fn expand(text: &str, place: &Place, values: &Values<'_>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let token = characters.next();
        let value = match token {
            Some('%') => Some("%".to_owned()),
            Some('h') => values.host.map(str::to_owned),
            Some('n') => values.original.map(str::to_owned),
            Some('u') => values.local_user.map(str::to_owned),
            Some('r') => values.remote_user.map(str::to_owned),
            Some('p') => values.port.map(|port| port.to_string()),
            Some('d') => values.home.map(str::to_owned),
            _ => None,
        };
        let shown = token.map_or_else(|| "%".to_owned(), |token| format!("%{token}"));
        out.push_str(
            &value.ok_or_else(|| place.wrong(format_args!("the token `{shown}` in `{text}` has no value here")))?,
        );
    }
    Ok(out)
}
