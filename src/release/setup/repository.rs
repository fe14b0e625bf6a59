//! The repository that the settings name, reached as the operator's ssh configuration says.

use super::{owners, setting};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::publish::git::{Author, Git, GitAddress};
use crate::settings::GIT_URL;
use crate::ssh::{Configuration, Files, Jump, Operator, Route, Wishes};
use crate::vocab::Value;

/// Who logs in at a git server where nobody says otherwise.
const USER: &str = "git";

/// The branch that announces releases.
pub(super) fn open(config: &Config, settings: &Value, operator: &Operator, ssh: &Files) -> Result<Git> {
    let release = &config.release;
    let text = setting(settings, "git_url")?;
    let address: GitAddress = text.parse()?;
    if is_owners(&address) {
        return Err(owners("git_url", text));
    }
    let git = Git::new(address.clone(), release.branch.as_str(), &config.state_dir).author(author(&release.author)?);
    if matches!(address, GitAddress::Local(_)) {
        return Ok(git);
    }
    let wishes = Wishes {
        identity_files: release.git_identity_file.iter().cloned().collect(),
        known_hosts: release.git_known_hosts.iter().cloned().collect(),
        pins: Vec::new(),
    };
    let configuration = Configuration::read(operator, ssh)?;
    let mut jump = jump(text)?;
    if jump.user.is_none() {
        let configured = configuration.of(&jump.host, None, jump.port)?.user;
        jump.user = Some(configured.unwrap_or_else(|| USER.to_owned()));
    }
    git.along(&Route::plan(&configuration, &jump, &wishes)?)
}

/// The host in an address as it is written: what is not written there, the ssh configuration may say.
fn jump(text: &str) -> Result<Jump> {
    let place = if let Some((_, rest)) = text.split_once("://") {
        rest.split('/').next().unwrap_or_default()
    } else {
        // An address in brackets has colons of its own.
        let from = text.find(']').unwrap_or(0);
        text[from..].find(':').map_or(text, |colon| &text[..from + colon])
    };
    place.parse()
}

/// Whether it is the repository of the original's owners, by whatever user, port or suffix.
fn is_owners(address: &GitAddress) -> bool {
    let plain = |address: &GitAddress| match address {
        GitAddress::Ssh { host, path, .. } => {
            let path = path.trim_end_matches('/').trim_end_matches(".git").trim_start_matches("/~").to_lowercase();
            Some((host.to_lowercase(), path))
        }
        GitAddress::Local(_) => None,
    };
    let theirs = GIT_URL.parse().ok().as_ref().and_then(plain);
    plain(address).is_some_and(|own| Some(own) == theirs)
}

fn author(text: &str) -> Result<Author> {
    let (name, email) = text
        .strip_suffix('>')
        .and_then(|text| text.split_once(" <"))
        .ok_or_else(|| Error::new(Kind::Usage, format!("`{text}` is no name with a mail address")))?;
    Ok(Author { name: name.to_owned(), email: email.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_repository_is_known_however_it_is_written() {
        for text in [
            GIT_URL,
            "git@github.com:makinacorpus/makina-states.git",
            "ssh://git@GitHub.com:22/makinacorpus/makina-states/",
        ] {
            assert!(is_owners(&text.parse().unwrap()), "{text}");
        }
        for text in ["git@github.com:me/makina-states.git", "/srv/makinacorpus/makina-states"] {
            assert!(!is_owners(&text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_an_address_does_not_say_is_left_to_the_ssh_configuration() {
        for (text, host, user, port) in [
            ("ssh://host/a.git", "host", None, None),
            ("ssh://me@host:2222/a.git", "host", Some("me"), Some(2222)),
            ("host:a.git", "host", None, None),
            ("me@[::1]:/srv/a.git", "::1", Some("me"), None),
        ] {
            let jump = jump(text).unwrap();
            assert_eq!((jump.host.as_str(), jump.user.as_deref(), jump.port), (host, user, port), "{text}");
        }
    }
}
