//! The cached front that every door asks: pillars and settings, right for the files as they are now.
//!
//! Nothing is read before the first question. What is read is kept in two stages. A [`Base`] is the parsed database with
//! what was found out about this host; it is as good as the files it was read from. Answers are kept by all that tells them
//! apart, and are as good as their base and the files they were made from. Minions that nothing in the database names share
//! one answer. [`Sweep`] is one look at those files; a batch takes one for all its minions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Cloud, HostKind, Inputs, ext_pillar, settings};
use crate::config::{Config, OnError, Origin as ConfigOrigin};
use crate::error::Result;
use crate::pillar::grains::Host;
use crate::pillar::sls::Variables;
use crate::pillar::traced::{Origin, Traced};
use crate::pillar::{Answer, Cache, Facts, Files, Metrics, Recorder, Source, Sweep, Wanted, wire};
use crate::vocab::{Digest as ContentDigest, MinionId, Value};

/// How long a pillar lives at most, by the original's signature: 12 times 31 days.
pub const PILLAR_TTL: Duration = Duration::from_hours(12 * 31 * 24);

/// The most memory that answers take, about: 5,000 pillars that all differ take half of it.
const MOST_BYTES: u64 = 256 << 20;

/// Answers settings and pillars.
pub struct Service {
    config: Config,
    bases: Cache<(), Arc<Base>>,
    answers: Cache<Key, Arc<Rendered>>,
    /// Whether there was a database: that it is gone is then a broken source, not a host without one.
    had_database: AtomicBool,
    invalidations: AtomicU64,
}

/// What all answers have in common.
#[derive(Debug)]
pub struct Base {
    /// One for each time it was read.
    number: u64,
    /// The pillar root's content.
    pub source: Source,
    /// This host.
    pub host: Host,
    /// Who belongs to the cloud.
    pub cloud: Cloud,
    /// What is configured here, and the grains: the facts of whoever tells none.
    pub facts: Facts,
}

/// What tells answers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A pillar.
    Pillar { variant: Variant, prefixed: bool },
    /// The result of a function on these inputs, by their hash.
    Function { name: &'static str, inputs: [u8; 32] },
}

/// Which minions have the same pillar.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Variant {
    /// No member of the cloud.
    Stranger,
    /// A member without settings of its own.
    Member,
    /// A member whose settings the database names.
    Own(MinionId),
}

/// An answer in all its forms.
#[derive(Debug)]
struct Rendered {
    value: Arc<Value>,
    json: Bytes,
    etag: Arc<str>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Document {
    /// The value.
    pub value: Arc<Value>,
    /// The text that `castoff pillar` prints, with its final newline.
    pub json: Bytes,
    /// A strong entity tag, in its quotes.
    pub etag: Arc<str>,
    /// How long ago it was made.
    pub age: Duration,
    /// If it is the last good one, since its sources are broken: how long ago it was known to be right.
    pub stale: Option<Duration>,
}

/// What the service has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceMetrics {
    /// The database, hosts' facts: one load for each change.
    pub database: Metrics,
    /// Pillars and settings.
    pub answers: Metrics,
    /// How often everything was forgotten on request.
    pub invalidations: u64,
}

/// The inputs of a function by their hash; every input is told from the next.
#[derive(Clone, Debug)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// No inputs.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// The same with a value more.
    #[must_use]
    pub fn with(mut self, value: &Value) -> Self {
        self.add(value);
        self
    }

    /// The same with a minion's facts more.
    #[must_use]
    pub fn with_facts(self, facts: &Facts) -> Self {
        [&facts.opts, &facts.pillar, &facts.grains].into_iter().fold(self, |all, part| all.with(&part.to_value()))
    }

    fn add(&mut self, value: &Value) {
        let mut piece = |kind: u8, bytes: &[u8]| {
            self.0.update([kind]);
            self.0.update((bytes.len() as u64).to_be_bytes());
            self.0.update(bytes);
        };
        match value {
            Value::Null => piece(0, &[]),
            Value::Bool(value) => piece(1, &[u8::from(*value)]),
            Value::Int(number) => piece(2, &number.to_be_bytes()),
            Value::Float(number) => piece(3, &number.to_bits().to_be_bytes()),
            Value::String(text) => piece(4, text.as_bytes()),
            Value::List(items) => {
                piece(5, &(items.len() as u64).to_be_bytes());
                for item in items {
                    self.add(item);
                }
            }
            Value::Map(members) => {
                piece(6, &(members.len() as u64).to_be_bytes());
                for (key, member) in members {
                    self.add(&Value::from(key.clone()));
                    self.add(member);
                }
            }
        }
    }
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self::new()
    }
}

impl Service {
    /// A service for this configuration; nothing is read yet.
    pub fn open(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            bases: Cache::new(MOST_BYTES),
            answers: Cache::new(MOST_BYTES),
            had_database: AtomicBool::new(false),
            invalidations: AtomicU64::new(0),
        })
    }

    /// A minion's pillar.
    pub fn document(&self, id: &MinionId, prefixed: bool, ttl: Duration) -> Result<Arc<Document>> {
        self.document_in(&Sweep::default(), id, prefixed, ttl)
    }

    /// The pillars of many minions, in their order, from one look at the files.
    pub fn documents(&self, ids: &[MinionId], prefixed: bool, ttl: Duration) -> Vec<Result<Arc<Document>>> {
        let sweep = Sweep::default();
        ids.iter().map(|id| self.document_in(&sweep, id, prefixed, ttl)).collect()
    }

    /// A minion's pillar, from a look at the files that others share.
    pub fn document_in(&self, sweep: &Sweep, id: &MinionId, prefixed: bool, ttl: Duration) -> Result<Arc<Document>> {
        let base = self.base_in(sweep)?;
        base.value.source.database()?;
        let key = Key::Pillar { variant: base.value.variant(id), prefixed };
        self.answer(&key, ttl, sweep, &base, |base, files| {
            ext_pillar(&self.inputs(base, &base.facts, files), &base.cloud, id, prefixed)
        })
    }

    /// The settings of a minion that tells these facts, or of this host, whose pillar is its own.
    pub fn settings(&self, told: Option<&Facts>, ttl: Duration) -> Result<Arc<Document>> {
        let inputs = told.map_or_else(Fingerprint::new, |facts| Fingerprint::new().with_facts(facts));
        self.computed("settings", inputs, ttl, |service, base, files| {
            let facts = service.facts_of(told, base, files)?;
            settings(&service.inputs(base, &facts, files))
        })
    }

    /// The facts of a minion with castoff's own options over them, or of this host.
    pub fn facts_of(&self, told: Option<&Facts>, base: &Base, files: &dyn Files) -> Result<Facts> {
        if let Some(told) = told {
            let opts = told.opts.clone().merge(base.facts.opts.clone());
            return Ok(Facts { opts, ..told.clone() });
        }
        let mut facts = base.facts.clone();
        if base.source.database.is_some() {
            facts.pillar = ext_pillar(&self.inputs(base, &base.facts, files), &base.cloud, &base.host.id, true)?;
        }
        Ok(facts)
    }

    /// The result of a function under its name and the digest of its inputs, made by `compute` if need be.
    pub fn computed(
        &self,
        name: &'static str,
        inputs: Fingerprint,
        ttl: Duration,
        compute: impl Fn(&Self, &Base, &dyn Files) -> Result<Traced>,
    ) -> Result<Arc<Document>> {
        let sweep = Sweep::default();
        let base = self.base_in(&sweep)?;
        let key = Key::Function { name, inputs: inputs.0.finalize().into() };
        self.answer(&key, ttl, &sweep, &base, |base, files| compute(self, base, files))
    }

    /// The result of `compute` on the sources as they are now, not kept.
    pub fn fresh<T>(&self, compute: impl FnOnce(&Self, &Base, &dyn Files) -> Result<T>) -> Result<T> {
        let sweep = Sweep::default();
        let base = self.base_in(&sweep)?;
        compute(self, &base.value, &Recorder::new(&sweep))
    }

    /// What all answers have in common, as it is now.
    pub fn base(&self) -> Result<Arc<Base>> {
        self.base_in(&Sweep::default()).map(|answer| answer.value)
    }

    /// What settings are computed from, with these facts.
    pub fn inputs<'a>(&'a self, base: &'a Base, facts: &'a Facts, files: &'a dyn Files) -> Inputs<'a> {
        Inputs {
            database: base.source.database.as_deref(),
            controller: &base.host.id,
            facts,
            host: kind_of(facts),
            compat: self.config.compat,
            files,
        }
    }

    /// Forgets everything, last good answers too; returns how many answers there were.
    pub fn invalidate(&self) -> u64 {
        self.invalidations.fetch_add(1, Ordering::Relaxed);
        self.had_database.store(false, Ordering::Relaxed);
        self.bases.invalidate();
        self.answers.invalidate()
    }

    /// The counters.
    pub fn metrics(&self) -> ServiceMetrics {
        ServiceMetrics {
            database: self.bases.metrics(),
            answers: self.answers.metrics(),
            invalidations: self.invalidations.load(Ordering::Relaxed),
        }
    }

    fn wanted<'a>(&self, ttl: Duration, stamp: u64, sweep: &'a Sweep) -> Wanted<'a> {
        Wanted { ttl, stamp, sweep, last_good: self.config.on_error == OnError::LastGood }
    }

    fn base_in(&self, sweep: &Sweep) -> Result<Answer<Arc<Base>>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.bases.get(&(), self.wanted(PILLAR_TTL, 0, sweep), |files| {
            let host = Host::detect(&self.config, files)?;
            let facts = self.facts(&host);
            let opts = facts.opts.to_value();
            let variables = Variables { id: &host.id, opts: &opts, grains: &host.grains };
            let source = Source::read(self.config.pillar_root.as_deref(), &variables, files)?;
            if source.database.is_some() {
                self.had_database.store(true, Ordering::Relaxed);
            } else if self.had_database.load(Ordering::Relaxed) {
                source.database()?;
            }
            for unread in &source.unread {
                tracing::warn!("`{}` is not read: another database stands before it", unread.display());
            }
            let cloud = source.database.as_deref().map(Cloud::of).transpose()?.unwrap_or_default();
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Ok((Arc::new(Base { number, source, host, cloud, facts }), 1))
        })
    }

    /// What is configured here, and this host's grains.
    fn facts(&self, host: &Host) -> Facts {
        let opts = self.config.settings.iter().fold(Traced::empty_map(&Origin::Default), |below, (from, layer)| {
            let source = match from {
                ConfigOrigin::Default => "castoff's configuration".to_owned(),
                ConfigOrigin::File(path) => format!("`settings` in {}", path.display()),
                ConfigOrigin::Environment(name) => (*name).to_owned(),
                ConfigOrigin::Flag(flag) => flag.clone(),
            };
            below.merge(Traced::from_value(layer.clone(), &Origin::Opts(Arc::from(source))))
        });
        Facts { opts, grains: Traced::from_value(host.grains.clone(), &Origin::Detected), ..Facts::default() }
    }

    fn answer(
        &self,
        key: &Key,
        ttl: Duration,
        sweep: &Sweep,
        base: &Answer<Arc<Base>>,
        compute: impl Fn(&Base, &dyn Files) -> Result<Traced>,
    ) -> Result<Arc<Document>> {
        let answer = self.answers.get(key, self.wanted(ttl, base.value.number, sweep), |files| {
            let value = compute(&base.value, files)?.into_value();
            let json = Bytes::from(wire::document(&value));
            let size = json.len() + size(&value);
            let etag = Arc::from(format!("\"{}\"", ContentDigest::of(&json).hex()));
            Ok((Arc::new(Rendered { value: Arc::new(value), json, etag }), size))
        })?;
        Ok(Arc::new(Document {
            value: Arc::clone(&answer.value.value),
            json: answer.value.json.clone(),
            etag: Arc::clone(&answer.value.etag),
            age: answer.age,
            stale: answer.stale.max(base.stale),
        }))
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Base {
    /// Which minions have the same pillar as this one.
    fn variant(&self, id: &MinionId) -> Variant {
        let Some(database) = &self.source.database else { return Variant::Stranger };
        if !self.cloud.is_member(id, &self.host.id) {
            Variant::Stranger
        } else if database.cloud_settings(&format!("images_{id}")).is_some() {
            Variant::Own(id.clone())
        } else {
            Variant::Member
        }
    }
}

/// What kind of machine tells these facts.
fn kind_of(facts: &Facts) -> HostKind {
    let grain = |name: &str| facts.grains.find(name);
    let is = |name: &str| grain(name).is_some_and(Traced::is_truthy);
    let is_lxc = grain("makina.lxc")
        .map_or_else(|| grain("virtual_subtype").and_then(Traced::as_str) == Some("LXC"), Traced::is_truthy);
    HostKind { lxc: is_lxc, devhost: is("makina.devhost") }
}

/// About what a value takes in memory.
fn size(value: &Value) -> usize {
    const NODE: usize = 64;
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => NODE,
        Value::String(text) => NODE + text.len(),
        Value::List(items) => NODE + items.iter().map(size).sum::<usize>(),
        Value::Map(members) => {
            let key = |key: &crate::vocab::Key| key.as_str().map_or(0, str::len);
            NODE + members.iter().map(|(name, member)| NODE + key(name) + size(member)).sum::<usize>()
        }
    }
}
