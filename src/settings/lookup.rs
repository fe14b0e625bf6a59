//! Where a configuration value is looked up, and in which order.
//!
//! Minion options, then pillar, then grains, then the pillar's `master`; the first that has the key wins, whatever
//! its value is. `:` and `.` both separate keys, and dots may as well be part of them.

use crate::pillar::Facts;
use crate::pillar::traced::{Traced, TracedMap};
use crate::vocab::Key;

/// The value of a key, from the strongest layer that has it.
pub fn get<'a>(facts: &'a Facts, key: &str) -> Option<&'a Traced> {
    traverse(&facts.opts, key)
        .or_else(|| traverse(&facts.pillar, key))
        .or_else(|| traverse(&facts.grains, key))
        .or_else(|| traverse(facts.pillar.get("master")?, key))
}

/// The part under a key: the whole key as one, then every step a key of its own, then ever longer beginnings kept
/// whole (`a.b` then `c` then `d`; `a.b.c` then `d`).
pub fn traverse<'a>(data: &'a Traced, key: &str) -> Option<&'a Traced> {
    for (separator, other) in [(":", "."), (".", ":")] {
        if let Some(found) = descend(data, key, separator) {
            return Some(found);
        }
        if key.contains(other) && !key.contains(separator) {
            let nested = key.replace(other, separator);
            if let Some(found) = descend(data, &nested, separator) {
                return Some(found);
            }
            for whole in 1..key.matches(other).count() {
                if let Some(found) = descend(data, &nested.replacen(separator, other, whole), separator) {
                    return Some(found);
                }
            }
        }
    }
    None
}

fn descend<'a>(data: &'a Traced, key: &str, separator: &str) -> Option<&'a Traced> {
    key.split(separator).try_fold(data, |data, step| data.get(step))
}

/// The flat keys of pillar and grains that stand below `prefix` (`prefix.…`), by what follows it, in the order in
/// which they apply. Where both have a key, the grain's value stands in the pillar's place.
pub(super) fn flat_keys(facts: &Facts, prefix: &str) -> Vec<(String, Traced)> {
    let dotted = format!("{prefix}.");
    let mut found = TracedMap::new();
    for layer in [&facts.pillar, &facts.grains] {
        let Some(members) = layer.as_map() else { continue };
        let mut keys: Vec<&str> =
            members.keys().filter_map(Key::as_str).filter(|key| key.starts_with(&dotted)).collect();
        keys.sort_unstable();
        for key in keys {
            if let Some(value) = members.get(&Key::from(key)) {
                found.insert(Key::from(&key[dotted.len()..]), value.clone());
            }
        }
    }
    found.into_iter().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::pillar::traced::Origin;

    fn facts(opts: &str, pillar: &str, grains: &str) -> Facts {
        let part = |text: &str, origin: Origin| Traced::from_value(document::parse(text, "test").unwrap(), &origin);
        Facts {
            opts: part(opts, Origin::Opts("test".into())),
            pillar: part(pillar, Origin::Pillar),
            grains: part(grains, Origin::Grains),
        }
    }

    /// `makina-states.cloud.images.lxc.cron_sync` in the three spellings that were seen to work.
    #[test]
    fn dots_separate_keys_or_are_part_of_them() {
        let key = "makina-states.cloud.images.lxc.cron_sync";
        for pillar in [
            "{makina-states.cloud.images.lxc.cron_sync: 1}",
            "{makina-states.cloud.images: {lxc: {cron_sync: 1}}}",
            "{makina-states: {cloud: {images: {lxc: {cron_sync: 1}}}}}",
        ] {
            for key in [key.to_owned(), key.replace('.', ":")] {
                let facts = facts("{}", pillar, "{}");
                let is_nested = !pillar.contains("states.cloud");
                assert_eq!(get(&facts, &key).is_some(), is_nested || key.contains('.'), "{key} in {pillar}");
            }
        }
        assert!(get(&facts("{}", "{a: {b.c: 1}}", "{}"), "a.b.c").is_none());
        assert!(get(&facts("{}", "{a: text}", "{}"), "a.t").is_none());
    }

    #[test]
    fn the_strongest_layer_that_has_the_key_wins_whatever_its_value() {
        let value = |opts, pillar, grains| get(&facts(opts, pillar, grains), "k").map(Traced::to_value);
        assert_eq!(value("{k: ~}", "{k: 2}", "{k: 3}"), Some(crate::vocab::Value::Null));
        assert_eq!(value("{}", "{k: false}", "{k: 3}"), Some(false.into()));
        assert_eq!(value("{}", "{master: {k: 4}}", "{k: 3}"), Some(3.into()));
        assert_eq!(value("{}", "{master: {k: 4}}", "{}"), Some(4.into()));
        assert_eq!(value("{}", "{}", "{}"), None);
    }
}
