//! Who belongs to the cloud: virtual machines, the compute nodes they run on, controllers.

use std::collections::HashSet;

use crate::error::Result;
use crate::pillar::Database;
use crate::pillar::traced::{Traced, TracedMap, TracedNode};
use crate::vocab::{Key, MinionId, Value};

/// The kinds of virtual machines that count.
const KINDS: [&str; 3] = ["docker", "kvm", "lxc"];

/// The members of the cloud, worked out once for a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    machines: HashSet<String>,
    nodes: HashSet<String>,
    /// Whom `configurations` makes a controller, or not, by id.
    masters: HashSet<String>,
    servants: HashSet<String>,
    masters_by_default: bool,
}

impl Cloud {
    /// The cloud that a database describes.
    pub fn of(database: &Database) -> Result<Self> {
        let mut cloud = Self::default();
        let unmanaged = names(database.section("non_managed_hosts"), "non_managed_hosts")?;
        cloud.add_machines(database, &unmanaged)?;
        let hosts = names(database.section("baremetal_hosts"), "baremetal_hosts")?;
        cloud.nodes.extend(hosts.difference(&unmanaged).map(|host| (*host).to_owned()));
        cloud.add_masters(database)?;
        Ok(cloud)
    }

    fn add_machines(&mut self, database: &Database, unmanaged: &HashSet<&str>) -> Result<()> {
        for (kind, nodes) in members(database.section("vms"), "vms")? {
            let Some(kind) = kind.as_str().filter(|kind| KINDS.contains(kind)) else { continue };
            let field = format!("vms.{kind}");
            for (node, machines) in members(Some(nodes), &field)? {
                let Some(node) = node.as_str().filter(|node| !unmanaged.contains(node)) else { continue };
                let machines = names(Some(machines), &format!("{field}.{node}"))?;
                self.nodes.insert(node.to_owned());
                self.machines.extend(machines.difference(unmanaged).map(|machine| (*machine).to_owned()));
            }
        }
        Ok(())
    }

    fn add_masters(&mut self, database: &Database) -> Result<()> {
        for (id, configuration) in members(database.section("configurations"), "configurations")? {
            let Some(id) = id.as_str() else { continue };
            let field = format!("configurations.{id}");
            let mut own = members(Some(configuration), &field)?;
            let Some((_, master)) = own.find(|(key, _)| key.as_str() == Some("cloud_master")) else { continue };
            match (id, master.is_truthy()) {
                // A machine may be called `default` as well.
                ("default", is_master) => self.masters_by_default = is_master,
                (id, true) => drop(self.masters.insert(id.to_owned())),
                (id, false) => drop(self.servants.insert(id.to_owned())),
            }
        }
        Ok(())
    }

    /// Whether the id is a virtual machine's.
    pub fn is_machine(&self, id: &MinionId) -> bool {
        self.machines.contains(id.as_str())
    }

    /// Whether the id is a compute node's: virtual machines run on it, or it is a bare-metal host.
    pub fn is_compute_node(&self, id: &MinionId) -> bool {
        self.nodes.contains(id.as_str())
    }

    /// Whether the id is a controller's: the computing machine's own, or one that `configurations` makes one.
    pub fn is_controller(&self, id: &MinionId, own: &MinionId) -> bool {
        id == own
            || self.masters.contains(id.as_str())
            || (self.masters_by_default && !self.servants.contains(id.as_str()))
    }

    /// Whether the id is any of these.
    pub fn is_member(&self, id: &MinionId, own: &MinionId) -> bool {
        self.is_machine(id) || self.is_compute_node(id) || self.is_controller(id, own)
    }

    /// Every id that the database names as a member, sorted; the computing machine's own may be missing.
    pub fn members(&self) -> Vec<&str> {
        let mut all: Vec<&str> =
            self.machines.iter().chain(&self.nodes).chain(&self.masters).map(String::as_str).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The hosts that virtual machines of the kind lxc run on, in the order of the database; those that are not managed are none.
pub fn lxc_hosts(database: &Database) -> Result<Vec<String>> {
    let unmanaged = names(database.section("non_managed_hosts"), "non_managed_hosts")?;
    let mut hosts = Vec::new();
    for (kind, nodes) in members(database.section("vms"), "vms")? {
        if kind.as_str() != Some("lxc") {
            continue;
        }
        for (node, machines) in members(Some(nodes), "vms.lxc")? {
            let Some(node) = node.as_str().filter(|node| !unmanaged.contains(node)) else { continue };
            if names(Some(machines), &format!("vms.lxc.{node}"))?.difference(&unmanaged).next().is_some() {
                hosts.push(node.to_owned());
            }
        }
    }
    Ok(hosts)
}

/// The members of a map; of nothing, null or an empty list none.
fn members<'a>(map: Option<&'a Traced>, field: &str) -> Result<impl Iterator<Item = (&'a Key, &'a Traced)>> {
    let members: Option<&TracedMap> = match map.map(|map| (&map.node, map)) {
        None | Some((TracedNode::Scalar(Value::Null), _)) => None,
        Some((TracedNode::List(items), _)) if items.is_empty() => None,
        Some((TracedNode::Map(members), _)) => Some(members),
        Some((TracedNode::Scalar(_) | TracedNode::List(_), other)) => return Err(other.wrong(field, "a map")),
    };
    Ok(members.into_iter().flatten())
}

/// The names in a list, or the keys of a map; of nothing or null none. What is no text names no machine.
fn names<'a>(named: Option<&'a Traced>, field: &str) -> Result<HashSet<&'a str>> {
    match named.map(|named| (&named.node, named)) {
        None | Some((TracedNode::Scalar(Value::Null), _)) => Ok(HashSet::new()),
        Some((TracedNode::Map(members), _)) => Ok(members.keys().filter_map(Key::as_str).collect()),
        Some((TracedNode::List(items), _)) => {
            if let Some(odd) = items.iter().find(|item| !matches!(item.node, TracedNode::Scalar(_))) {
                return Err(odd.wrong(field, "a list of names"));
            }
            Ok(items.iter().filter_map(Traced::as_str).collect())
        }
        Some((TracedNode::Scalar(_), other)) => Err(other.wrong(field, "a list of names, or a map by name")),
    }
}
