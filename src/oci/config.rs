//! An image's configuration: what runs, on which platform, made of which layers.
//!
//! Kept as ordered raw members: everything except `rootfs`, `history` and what a caller changes survives byte for byte,
//! and an unchanged configuration keeps its digest, which is the image's ID.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{self, Members};
use super::manifest::Platform;
use crate::error::{Error, Kind, Result};
use crate::vocab::{DiffId, Digest};

const WHAT: &str = "the image configuration";

/// A parsed configuration and its bytes.
#[derive(Clone, Debug)]
pub struct ImageConfig {
    bytes: Vec<u8>,
    members: Members,
    platform: Platform,
    created: Option<String>,
    diff_ids: Vec<DiffId>,
    history: Vec<HistoryEntry>,
}

/// One step of an image's history, as it was written.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    raw: Box<RawValue>,
    facts: HistoryFacts,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct HistoryFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    empty_layer: Option<bool>,
}

impl HistoryEntry {
    /// A step that made a layer; `created` is an RFC 3339 time.
    pub fn new(created: Option<&str>, created_by: &str, comment: &str) -> Result<Self> {
        let facts = HistoryFacts {
            created: created.map(str::to_owned),
            created_by: Some(created_by.to_owned()),
            comment: (!comment.is_empty()).then(|| comment.to_owned()),
            empty_layer: None,
        };
        let raw = serde_json::value::to_raw_value(&facts)
            .map_err(|error| Error::new(Kind::Failed, "cannot write a history entry as JSON").caused_by(error))?;
        Ok(Self { raw, facts })
    }

    /// Whether this step changed only the configuration, so that no layer belongs to it.
    pub fn is_empty_layer(&self) -> bool {
        self.facts.empty_layer == Some(true)
    }

    /// The instruction that made it.
    pub fn created_by(&self) -> Option<&str> {
        self.facts.created_by.as_deref()
    }

    /// When it was made, RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.facts.created.as_deref()
    }

    /// What its maker says about it.
    pub fn comment(&self) -> Option<&str> {
        self.facts.comment.as_deref()
    }
}

impl<'de> Deserialize<'de> for HistoryEntry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let facts = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { raw, facts })
    }
}

impl Serialize for HistoryEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<DiffId>>,
}

impl ImageConfig {
    /// Parses a configuration; duplicate members, a missing `rootfs` and wrong types are [`Kind::Corrupt`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let members: Members = json::parse(WHAT, bytes)?;
        let rootfs: RootFs = members
            .typed(WHAT, "rootfs")?
            .ok_or_else(|| Error::new(Kind::Corrupt, format!("{WHAT} is damaged: it has no `rootfs`")))?;
        if let Some(kind) = rootfs.kind.filter(|kind| kind != "layers") {
            return Err(Error::new(Kind::Unsupported, format!("{WHAT} has a root filesystem of type `{kind}`"))
                .hint("only `layers` is known"));
        }
        let text = |name: &str| members.typed::<String>(WHAT, name).map(|text| text.filter(|text| !text.is_empty()));
        Ok(Self {
            bytes: bytes.to_vec(),
            platform: Platform {
                os: text("os")?.unwrap_or_else(|| "linux".to_owned()),
                architecture: text("architecture")?.unwrap_or_default(),
                variant: text("variant")?,
            },
            created: text("created")?,
            diff_ids: rootfs.diff_ids.unwrap_or_default(),
            history: members.typed(WHAT, "history")?.unwrap_or_default(),
            members,
        })
    }

    /// The configuration of an image that has none: a platform, no layers yet, `/sbin/init` as its command if the
    /// tree has one.
    pub fn default_for(platform: &Platform, created: &str, has_init: bool) -> Result<Self> {
        #[derive(Serialize)]
        struct Run {
            #[serde(rename = "Cmd", skip_serializing_if = "Option::is_none")]
            command: Option<[&'static str; 1]>,
        }
        #[derive(Serialize)]
        struct Layers {
            r#type: &'static str,
            diff_ids: [DiffId; 0],
        }
        let mut members = Members::default();
        members.set("created", created)?;
        members.set("architecture", &platform.architecture)?;
        if let Some(variant) = &platform.variant {
            members.set("variant", variant)?;
        }
        members.set("os", &platform.os)?;
        members.set("config", &Run { command: has_init.then_some(["/sbin/init"]) })?;
        members.set("rootfs", &Layers { r#type: "layers", diff_ids: [] })?;
        members.set("history", &[(); 0])?;
        Self::from_members(&members)
    }

    /// The configuration's bytes; what was parsed when nothing was changed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of the bytes: the image's ID.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// The diff IDs of the layers, bottom first.
    pub fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// The history, oldest step first; steps with [`HistoryEntry::is_empty_layer`] have no layer.
    pub fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    /// The operating system and processor the image is for.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The processor architecture as Go names it; empty when it is not said.
    pub fn architecture(&self) -> &str {
        &self.platform.architecture
    }

    /// The operating system; `linux` when it is not said.
    pub fn os(&self) -> &str {
        &self.platform.os
    }

    /// When the image was made, RFC 3339.
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// The top-level members and their raw JSON, in their order.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(RawValue::get)
    }

    /// The same configuration over other layers, with this history.
    pub fn with_layers(&self, diff_ids: &[DiffId], history: &[HistoryEntry]) -> Result<Self> {
        let mut members = self.members.clone();
        let mut rootfs: Members = members.typed(WHAT, "rootfs")?.unwrap_or_default();
        rootfs.set("diff_ids", diff_ids)?;
        members.set("rootfs", &rootfs)?;
        members.set("history", history)?;
        Self::from_members(&members)
    }

    /// The same configuration, made at another time (RFC 3339).
    pub fn with_created(&self, created: &str) -> Result<Self> {
        let mut members = self.members.clone();
        members.set("created", created)?;
        Self::from_members(&members)
    }

    /// The same configuration after Dockerfile instructions: those `docker import --change` takes (CMD, ENTRYPOINT,
    /// ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, USER, VOLUME, WORKDIR) and STOPSIGNAL.
    pub fn with_changes(&self, changes: &[String]) -> Result<Self> {
        if changes.is_empty() {
            return Ok(self.clone());
        }
        let mut members = self.members.clone();
        let mut run: Members = members.typed(WHAT, "config")?.unwrap_or_default();
        super::change::apply(&mut run, changes)?;
        members.set("config", &run)?;
        Self::from_members(&members)
    }

    fn from_members(members: &Members) -> Result<Self> {
        Self::parse(&json::encode(members)?)
    }
}
