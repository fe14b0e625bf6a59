//! What an LXC container's configuration says of the root filesystem that is packed: its id map, and whether it runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::lxc::LxcContainer;
use super::request::PackRequest;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::rootfs::idmap::IdMap;
use crate::vocab::{Map, Reference, Value};

/// The first host id that user namespaces are given where nobody says otherwise (`/etc/subuid`).
const FIRST_SUBORDINATE: u32 = 65_536;

/// Takes over what is known of a `dir:` source that is a container's root filesystem; a running one is refused unless
/// `live`. Any other source stays as it is.
pub fn adopt_rootfs(request: &mut PackRequest, live: bool) -> Result<()> {
    let Reference::Dir(path) = &request.source else { return Ok(()) };
    let path = path.clone();
    if let Some(container) = container_of(&path)? {
        return adopt_container(request, &container, live);
    }
    let owner = host::fs::metadata(&path)?.map_or(0, |metadata| metadata.uid());
    if owner >= FIRST_SUBORDINATE && request.idmap.is_none() {
        let hint = format!("the tree belongs to user {owner}: if it is shifted, give idmap=0:{owner}:65536");
        request.notes.insert("owner".into(), hint.into());
    }
    Ok(())
}

/// Takes over what a container's configuration says; a running one is refused unless `live`.
pub fn adopt_container(request: &mut PackRequest, container: &LxcContainer, live: bool) -> Result<()> {
    container.existing_rootfs()?;
    if let Some(evidence) = container.running()? {
        if !live {
            return Err(Error::new(
                Kind::Conflict,
                format!("the container `{}` is running: {evidence}", container.name),
            )
            .hint(format!(
                "stop it (`lxc-stop -n {}`), or accept a tree that changes while it is read: live=True",
                container.name
            )));
        }
        request.notes.insert("live".into(), format!("read while the container ran: {evidence}").into());
    }
    let mut notes = Map::new();
    notes.insert("name".into(), container.name.clone().into());
    if !container.includes.is_empty() {
        notes.insert("includes_not_read".into(), Value::list(container.includes.clone()));
    }
    request.notes.insert("container".into(), Value::Map(notes));
    if request.idmap.is_none() {
        request.idmap = IdMap::parse_lxc_config(&container.config)?;
    }
    Ok(())
}

/// The id map of a `dir:` reference that is a container's root filesystem.
pub fn idmap_of(reference: &Reference) -> Result<Option<IdMap>> {
    let Reference::Dir(path) = reference else { return Ok(None) };
    match container_of(path)? {
        Some(container) => IdMap::parse_lxc_config(&container.config),
        None => Ok(None),
    }
}

/// The container a directory is the root of, by the path that was given or by the one that links lead to.
fn container_of(path: &Path) -> Result<Option<LxcContainer>> {
    if let Some(container) = LxcContainer::of_rootfs(path)? {
        return Ok(Some(container));
    }
    match host::fs::canonical(path)? {
        Some(canonical) => LxcContainer::of_rootfs(&canonical),
        None => Ok(None),
    }
}
