//! Targets by name: from the configuration, else the one that the settings say.

use std::path::PathBuf;

use super::{owners, setting};
use crate::config::Release;
use crate::error::{Context as _, Error, Kind, Result};
use crate::publish::{Access, Target, Tier};
use crate::settings::SFTP_URL;
use crate::ssh::{Files, Wishes};
use crate::vocab::{FileName, Value, nearest};

/// The name of the target that the settings say.
const DEFAULT: &str = "default";

/// What may be said of a target.
const KEYS: [&str; 7] = ["url", "identity_file", "known_hosts", "host_keys", "verify", "secret_file", "ca_file"];

/// A place that files go to, with its name.
#[derive(Clone, Debug)]
pub struct ReleaseTarget {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// How it is reached.
    pub access: Access,
    /// How sure files must be there.
    pub minimum: Tier,
}

/// All targets, in the order of their names.
pub(super) fn of(release: &Release, settings: &Value, ssh: &Files) -> Result<Vec<ReleaseTarget>> {
    if release.targets.is_empty() {
        return Ok(vec![of_settings(settings, ssh)?]);
    }
    let mut targets = Vec::new();
    for (name, given) in &release.targets {
        let name = name.as_str().unwrap_or_default();
        let target = one(name, given, ssh).context(|| format!("the target `{name}` is not configured right"))?;
        targets.push(target);
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(targets)
}

fn of_settings(settings: &Value, ssh: &Files) -> Result<ReleaseTarget> {
    let (url, user) = (setting(settings, "sftp_url")?, setting(settings, "sftp_user")?);
    let target: Target = if url.contains("://") { url.parse()? } else { Target::scp(url, Some(user))? };
    if is_owners(&target) {
        return Err(owners("sftp_url", url));
    }
    let access = Access { ssh_configuration: ssh.clone(), ..Access::default() };
    Ok(ReleaseTarget { name: DEFAULT.to_owned(), target: as_user(target, user)?, access, minimum: Tier::ReadBack })
}

/// The same place, as this user where it names none.
fn as_user(target: Target, user: &str) -> Result<Target> {
    match target {
        Target::Sftp { mut host, folder } if host.user.is_none() => {
            // Judged as every other user name is.
            host.user = format!("{user}@host").parse::<crate::ssh::Jump>()?.user;
            Ok(Target::Sftp { host, folder })
        }
        other => Ok(other),
    }
}

/// Whether the files would go where those of the original's owners are.
fn is_owners(target: &Target) -> bool {
    let Ok(Target::Sftp { host: theirs, folder: their_folder }) = Target::scp(SFTP_URL, None) else { return false };
    matches!(target, Target::Sftp { host, folder }
        if host.host.eq_ignore_ascii_case(&theirs.host) && *folder == their_folder)
}

fn one(name: &str, given: &Value, ssh: &Files) -> Result<ReleaseTarget> {
    let wrong = |what: String| Error::new(Kind::Usage, what);
    let name: FileName = name.parse()?;
    let Value::Map(members) = given else {
        return Err(wrong(format!("a map is expected, not a {}", given.type_name())));
    };
    for key in members.keys() {
        let key = key.as_str().unwrap_or_default();
        if !KEYS.contains(&key) {
            let error = wrong(format!("`{key}` says nothing about a target"));
            return Err(match nearest(key, KEYS).first() {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("there are `{}`", KEYS.join("`, `"))),
            });
        }
    }
    let texts = |key: &str| -> Result<Vec<String>> {
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| wrong(format!("`{key}` must be a text or a list of texts")))
        };
        match given.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::List(items)) => items.iter().map(text).collect(),
            Some(one) => Ok(vec![text(one)?]),
        }
    };
    let paths = |key: &str| -> Result<Vec<PathBuf>> {
        let path = |text: String| match PathBuf::from(text) {
            path if path.is_absolute() => Ok(path),
            path => Err(wrong(format!("`{key}` must be an absolute path, not `{}`", path.display()))),
        };
        texts(key)?.into_iter().map(path).collect()
    };
    let [url] = <[String; 1]>::try_from(texts("url")?).map_err(|_| wrong("`url` is missing".to_owned()))?;
    let target: Target = url.parse()?;
    if is_owners(&target) {
        return Err(owners("sftp_url", SFTP_URL));
    }
    let wishes = Wishes {
        identity_files: paths("identity_file")?,
        known_hosts: paths("known_hosts")?,
        pins: texts("host_keys")?.iter().map(|text| text.parse()).collect::<Result<_>>()?,
    };
    let minimum = texts("verify")?.first().map_or(Ok(Tier::ReadBack), |text| text.parse())?;
    let access = Access {
        wishes,
        ssh_configuration: ssh.clone(),
        secret_file: paths("secret_file")?.pop(),
        authorities: paths("ca_file")?.pop(),
    };
    Ok(ReleaseTarget { name: name.to_string(), target, access, minimum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(targets: &str, settings: &str) -> Result<Vec<ReleaseTarget>> {
        let map = |text: &str| crate::document::parse(text, "test").unwrap();
        let targets = map(targets).as_map().cloned().unwrap_or_default();
        of(&Release { targets, ..Release::default() }, &map(settings), &Files::Nothing)
    }

    #[test]
    fn the_settings_say_the_default_target() {
        for (settings, shown) in [
            ("{sftp_url: 'host:/srv', sftp_user: me}", "sftp://me@host/srv"),
            ("{sftp_url: 'you@host:/srv', sftp_user: me}", "sftp://you@host/srv"),
            ("{sftp_url: 'sftp://host:22/srv', sftp_user: me}", "sftp://me@host:22/srv"),
            ("{sftp_url: 'file:///srv', sftp_user: me}", "file:///srv"),
        ] {
            let targets = configured("{}", settings).unwrap();
            assert_eq!((targets.len(), targets[0].target.to_string()), (1, shown.to_owned()));
        }
    }

    #[test]
    fn nobody_publishes_to_the_originals_owners_however_it_is_written() {
        for settings in [
            format!("{{sftp_url: '{SFTP_URL}', sftp_user: kiorky}}"),
            format!("{{sftp_url: 'kiorky@{SFTP_URL}', sftp_user: me}}"),
            "{sftp_url: 'sftp://FRS.sourceforge.net:22/home/frs/project/makinacorpus/makina-states/', sftp_user: me}"
                .to_owned(),
        ] {
            assert_eq!(configured("{}", &settings).unwrap_err().kind(), Kind::Refused, "{settings}");
        }
        let settings = format!("{{sftp_url: '{SFTP_URL}', sftp_user: kiorky}}");
        assert!(configured("{a: {url: 'file:///srv'}}", &settings).is_ok());
    }

    #[test]
    fn a_wrong_target_says_what_is_wrong_and_no_password() {
        for (targets, wanted) in [
            ("{a: {urll: x}}", "did you mean `url`?"),
            ("{a: {}}", "`url` is missing"),
            ("{a: 5}", "a map is expected"),
            ("{../a: {url: 'file:///a'}}", "../a"),
            ("{a: {url: 'file:///a', verify: maybe}}", "not a way to verify"),
            ("{a: {url: 'host:/a', identity_file: id}}", "absolute path"),
            ("{a: {url: 'https://me:canary@host/a'}}", "password"),
        ] {
            let told = configured(targets, "{}").unwrap_err().render();
            assert!(told.contains(wanted) && !told.contains("canary"), "{targets}: {told}");
        }
    }
}
