//! Flavours as data: what goes in, what is left out, how it is compressed.
//!
//! ```yaml
//! release.flavors:
//!   minimal:                     # a flavour of one's own
//!     root: rootfs               # patterns and archive begin at the root filesystem, or at the `container` folder
//!     include: [etc, usr/bin]
//!     leave_out: [etc/secret]
//!     compressions: [xz, zstd:19]
//!   lxc:                         # a built-in one: lists are added to what it has, compressions take their place
//!     leave_out: [rootfs/opt/private]
//! ```
//!
//! Pillars stay out of every flavour, and no configuration brings them back.

use std::collections::BTreeMap;

use super::compression::Compression;
use super::pattern::Pattern;
use crate::error::{Error, Kind, Result};
use crate::vocab::{Flavour, Map, Value, nearest};

/// Where the patterns of a flavour, and the paths in its archive, begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The container's folder: `config`, `rootfs/…`.
    Container,
    /// The root filesystem.
    Rootfs,
}

impl Root {
    /// What stands before the paths of the root filesystem.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::Container => b"rootfs",
            Self::Rootfs => b"",
        }
    }
}

/// What a flavour is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Its name.
    pub name: Flavour,
    /// Where its patterns begin.
    pub root: Root,
    /// What goes in, each with all that is below it.
    pub include: Vec<Pattern>,
    /// What does not, each with all that is below it, also by the tree's own links.
    pub leave_out: Vec<Pattern>,
    /// How it is compressed; `.tar.xz` always is among them, and first.
    pub compressions: Vec<Compression>,
}

/// Every flavour there is.
#[derive(Clone, Debug)]
pub struct Flavours(BTreeMap<Flavour, Recipe>);

/// The whole container.
const LXC: &str = "lxc";
/// What makes a bare system a makina-states one again, without building it anew.
const STANDALONE: &str = "standalone";

/// What the documentation of the flavour lists, and what its code has listed.
const STANDALONE_INCLUDES: &[&str] = &[
    "etc/*salt",
    "etc/cron.d/*salt*",
    "etc/init.d/mastersalt-*",
    "etc/init.d/salt-*",
    "etc/init/mastersalt-*",
    "etc/init/salt-*",
    "etc/logrotate.d/*salt*",
    "etc/systemd/system/mastersalt-*",
    "etc/systemd/system/salt-*",
    "salt-venv",
    "srv/*salt",
    "srv/makina-states",
    "usr/bin/*salt",
    "usr/bin/mastersalt-*",
    "usr/bin/salt-*",
    "var/cache/*salt",
    "var/lib/*salt",
    "var/log/*salt",
    "var/run/*salt",
];

/// Pillars, and what keeps copies of them, from the root filesystem on.
const PILLARS: &[&str] = &[
    "etc/*salt/**/pillar",
    "etc/castoff/pillar",
    "etc/makina-states/database.*",
    "etc/makina-states/pillar",
    "srv/*pillar",
    "srv/makina-states/**/pillar",
    "srv/projects/*/pillar",
    "var/cache/*salt/**/pillar_cache",
    "var/cache/*salt/master/minions",
];

/// What of a container's folder is of this host and this moment.
const OF_THIS_HOST: &[&str] =
    &["lock", "partial", "acls.txt", "rootfs/acls.txt", ".castoff-*.tmp", "rootfs/.castoff-*.tmp"];

impl Flavours {
    /// The built-in flavours and the configured ones.
    pub fn configured(configured: &Map) -> Result<Self> {
        let mut all = BTreeMap::new();
        for recipe in [lxc()?, standalone()?] {
            all.insert(recipe.name.clone(), recipe);
        }
        for (name, members) in configured {
            let name = name.as_str().unwrap_or_default();
            let wrong = || format!("cannot use the flavour `{name}` of `release.flavors`");
            let given =
                Given::read(name, members).map_err(|error| Error::new(Kind::Usage, wrong()).caused_by(error))?;
            let recipe = match all.remove(&given.name) {
                Some(recipe) => given.added_to(recipe),
                None => given.alone(),
            };
            let recipe = recipe.map_err(|error| Error::new(Kind::Usage, wrong()).caused_by(error))?;
            all.insert(recipe.name.clone(), recipe);
        }
        Ok(Self(all))
    }

    /// The flavour of this name.
    pub fn get(&self, name: &Flavour) -> Result<&Recipe> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(Flavour::as_str).collect();
            let near = nearest(name.as_str(), known.iter().copied());
            let hint = match near.as_slice() {
                [] => format!("there are `{}`; `release.flavors` of the configuration adds more", known.join("`, `")),
                near => format!("did you mean `{}`?", near.join("` or `")),
            };
            Error::new(Kind::NotFound, format!("there is no flavour `{name}`")).hint(hint)
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.0.values()
    }
}

fn lxc() -> Result<Recipe> {
    let leave_out = OF_THIS_HOST.iter().map(|text| Pattern::parse(text)).chain(pillars(Root::Container));
    Ok(Recipe {
        name: LXC.parse()?,
        root: Root::Container,
        include: vec![Pattern::parse(".")?],
        leave_out: leave_out.collect::<Result<_>>()?,
        compressions: vec![Compression::Xz],
    })
}

fn standalone() -> Result<Recipe> {
    Ok(Recipe {
        name: STANDALONE.parse()?,
        root: Root::Rootfs,
        include: STANDALONE_INCLUDES.iter().map(|text| Pattern::parse(text)).collect::<Result<_>>()?,
        leave_out: pillars(Root::Rootfs).collect::<Result<_>>()?,
        compressions: vec![Compression::Xz],
    })
}

fn pillars(root: Root) -> impl Iterator<Item = Result<Pattern>> {
    PILLARS.iter().map(move |text| match root {
        Root::Container => Pattern::parse(&format!("rootfs/{text}")),
        Root::Rootfs => Pattern::parse(text),
    })
}

/// What a configuration says of a flavour.
struct Given {
    name: Flavour,
    root: Option<Root>,
    include: Vec<Pattern>,
    leave_out: Vec<Pattern>,
    compressions: Option<Vec<Compression>>,
}

impl Given {
    fn read(name: &str, members: &Value) -> Result<Self> {
        let wrong = |what: String| Error::new(Kind::Usage, what);
        let mut given =
            Self { name: name.parse()?, root: None, include: Vec::new(), leave_out: Vec::new(), compressions: None };
        let Value::Map(members) = members else {
            return Err(wrong(format!("a map is expected, not a {}", members.type_name())));
        };
        for (key, value) in members {
            let key = key.as_str().unwrap_or_default();
            match key {
                "root" => {
                    given.root = Some(match value.as_str() {
                        Some("container") => Root::Container,
                        Some("rootfs") => Root::Rootfs,
                        _ => return Err(wrong("`root` is `container` or `rootfs`".to_owned())),
                    });
                }
                "include" => given.include = texts(key, value, Pattern::parse)?,
                "leave_out" => given.leave_out = texts(key, value, Pattern::parse)?,
                "compressions" => given.compressions = Some(texts(key, value, str::parse)?),
                _ => {
                    let hint = "there are `root`, `include`, `leave_out` and `compressions`";
                    return Err(wrong(format!("`{key}` says nothing about a flavour")).hint(hint));
                }
            }
        }
        Ok(given)
    }

    /// A flavour of its own.
    fn alone(self) -> Result<Recipe> {
        let root = self.root.unwrap_or(Root::Rootfs);
        if self.include.is_empty() {
            return Err(Error::new(Kind::Usage, "`include` is missing: nothing would go in"));
        }
        let mut leave_out = self.leave_out;
        if root == Root::Container {
            leave_out.extend(OF_THIS_HOST.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>>>()?);
        }
        leave_out.extend(pillars(root).collect::<Result<Vec<_>>>()?);
        let compressions = with_xz(self.compressions.unwrap_or_default());
        Ok(Recipe { name: self.name, root, include: self.include, leave_out, compressions })
    }

    /// A built-in flavour with what is configured besides.
    fn added_to(self, mut recipe: Recipe) -> Result<Recipe> {
        if self.root.is_some_and(|root| root != recipe.root) {
            return Err(Error::new(Kind::Usage, "the root of a built-in flavour cannot be changed")
                .hint("give the flavour another name"));
        }
        recipe.include.extend(self.include);
        recipe.leave_out.extend(self.leave_out);
        if let Some(compressions) = self.compressions {
            recipe.compressions = with_xz(compressions);
        }
        Ok(recipe)
    }
}

/// Every release has a `.tar.xz`: that is what readers of older releases ask for.
fn with_xz(given: Vec<Compression>) -> Vec<Compression> {
    let mut all = vec![Compression::Xz];
    for compression in given {
        if !all.iter().any(|other| other.suffix() == compression.suffix()) {
            all.push(compression);
        }
    }
    all
}

fn texts<T>(key: &str, value: &Value, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let wrong = || Error::new(Kind::Usage, format!("`{key}` must be a list of texts"));
    let items = match value {
        Value::List(items) => items.as_slice(),
        one @ Value::String(_) => std::slice::from_ref(one),
        _ => return Err(wrong()),
    };
    items.iter().map(|item| parse(item.as_str().ok_or_else(wrong)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(yaml: &str) -> Result<Flavours> {
        match crate::document::parse(yaml, "test").unwrap() {
            Value::Map(map) => Flavours::configured(&map),
            other => panic!("{other:?}"),
        }
    }

    fn texts_of(patterns: &[Pattern]) -> Vec<&str> {
        patterns.iter().map(Pattern::as_str).collect()
    }

    #[test]
    fn configured_flavours_never_get_pillars_and_always_have_xz() {
        let all =
            configured("{mini: {include: [etc], compressions: [zstd:3]}, lxc: {leave_out: rootfs/opt/x}}").unwrap();
        let mini = all.get(&"mini".parse().unwrap()).unwrap();
        assert_eq!(mini.compressions, [Compression::Xz, Compression::Zstd { level: 3 }]);
        assert!(texts_of(&mini.leave_out).contains(&"srv/*pillar"));
        let lxc = all.get(&"lxc".parse().unwrap()).unwrap();
        assert!(texts_of(&lxc.leave_out).contains(&"rootfs/srv/*pillar"));
        assert!(texts_of(&lxc.leave_out).contains(&"rootfs/opt/x"));
        assert_eq!(texts_of(&lxc.include), ["."]);
        let error = all.get(&"minni".parse().unwrap()).unwrap_err();
        assert_eq!(error.next_step(), Some("did you mean `mini`?"));
    }

    #[test]
    fn a_wrong_flavour_says_what_is_wrong() {
        for (yaml, wanted) in [
            ("{../x: {include: [a]}}", "../x"),
            ("{mini: {}}", "nothing would go in"),
            ("{mini: {include: [a/../b]}}", "leaves the tree"),
            ("{mini: {include: [a], rot: 1}}", "`rot` says nothing"),
            ("{mini: {include: [a], root: host}}", "`container` or `rootfs`"),
            ("{mini: {include: [a], compressions: [gzip]}}", "gzip"),
            ("{mini: {include: [1]}}", "list of texts"),
            ("{lxc: {root: rootfs}}", "cannot be changed"),
            ("{mini: [a]}", "a map is expected"),
        ] {
            let told = configured(yaml).unwrap_err().render();
            assert!(told.contains(wanted), "{yaml}: {told}");
        }
    }
}
