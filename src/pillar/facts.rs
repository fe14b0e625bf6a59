//! What a Salt minion, or whoever calls, tells of itself: options, pillar, grains.

use std::sync::Arc;

use super::traced::{Origin, Traced};
use crate::error::{Error, Kind, Result};
use crate::vocab::{Key, Map, Value};

/// The three layers that configuration is looked up in, strongest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Minion options, and castoff's own configuration over them.
    pub opts: Traced,
    /// Pillar.
    pub pillar: Traced,
    /// Grains.
    pub grains: Traced,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            opts: Traced::empty_map(&Origin::Default),
            pillar: Traced::empty_map(&Origin::Default),
            grains: Traced::empty_map(&Origin::Default),
        }
    }
}

impl Facts {
    /// What was passed in: a map with `opts`, `pillar` and `grains`, each a map, null or absent; other keys are let be.
    pub fn passed_in(data: &Map) -> Result<Self> {
        let part = |name: &str, origin: Origin| match data.get(&Key::from(name)) {
            None | Some(Value::Null) => Ok(Traced::empty_map(&origin)),
            Some(map @ Value::Map(_)) => Ok(Traced::from_value(map.clone(), &origin)),
            Some(other) => Err(Error::new(
                Kind::Usage,
                format!("minion data: `{name}` must be a map, not a {}", other.type_name()),
            )),
        };
        Ok(Self {
            opts: part("opts", Origin::Opts(Arc::from("minion options")))?,
            pillar: part("pillar", Origin::Pillar)?,
            grains: part("grains", Origin::Grains)?,
        })
    }
}
