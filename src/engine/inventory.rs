//! What images there are, and how they go: list, remove, garbage collection.

use super::surroundings::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::vocab::{Digest, EngineImage, Reference, Value, timestamp};

/// The images of the store and, where it answers, of the Docker engine; `engine` limits it to one of them.
pub fn list(engine: Option<&str>, surroundings: &Surroundings<'_>) -> Result<Value> {
    let (store, docker) = match engine {
        None => (true, None),
        Some("store") => (true, Some(false)),
        Some("docker-daemon") => (false, Some(true)),
        Some(other) => {
            return Err(Error::new(Kind::Usage, format!("`{other}` is not an engine"))
                .hint("`engine` may be store or docker-daemon"));
        }
    };
    let mut images = Vec::new();
    if store {
        images.push(("store", of_store(surroundings)?));
    }
    match docker {
        Some(false) => {}
        Some(true) => images.push(("docker-daemon", of_docker(surroundings)?)),
        None => match surroundings.docker() {
            Ok(_) => images.push(("docker-daemon", of_docker(surroundings)?)),
            Err(error) if error.kind() == Kind::Unavailable || error.kind() == Kind::Unsupported => {
                tracing::info!("the Docker engine is left out: {error}");
            }
            Err(error) => surroundings.progress.warn(format!("the Docker engine is left out: {error}")),
        },
    }
    Ok(Value::map(images))
}

fn of_store(surroundings: &Surroundings<'_>) -> Result<Value> {
    let images = surroundings.store()?.list()?;
    Ok(Value::List(
        images
            .into_iter()
            .map(|image| {
                Value::map([
                    ("id", Value::from(image.id.to_string())),
                    ("names", Value::list(image.names.iter().map(ToString::to_string))),
                    ("size", image.size.into()),
                    ("created", image.created.into()),
                    ("untagged_since", image.untagged_since.into()),
                ])
            })
            .collect(),
    ))
}

fn of_docker(surroundings: &Surroundings<'_>) -> Result<Value> {
    let images = surroundings.docker()?.list()?;
    Ok(Value::List(
        images
            .into_iter()
            .map(|image| {
                Value::map([
                    ("id", Value::from(image.id.to_string())),
                    ("names", Value::list(image.repo_tags)),
                    ("size", image.size.into()),
                    ("created", timestamp(image.created, 0).into()),
                ])
            })
            .collect(),
    ))
}

/// Takes a name away, or an image with all its names when it is given by ID.
pub fn remove(reference: &Reference, test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    let reference = surroundings.resolve(reference)?;
    let Some(id) = super::open::current_id(&reference, surroundings)? else {
        return Err(Error::new(Kind::NotFound, format!("there is no image `{reference}`"))
            .hint("`castoff call image.list` lists the images there are"));
    };
    if test {
        return Ok(Value::map([
            ("result", Value::Null),
            ("comment", format!("`{reference}` ({id}) would be removed").into()),
            ("changes", Value::map([("removed", reference.to_string())])),
        ]));
    }
    let fate = match &reference {
        Reference::Store(EngineImage::Name(name)) => {
            surroundings.store()?.untag(name)?;
            Value::from("untagged; image.gc removes it when no other name is left")
        }
        Reference::Store(EngineImage::Id(id)) => {
            surroundings.store()?.remove(&EngineImage::Id(*id))?;
            Value::from("removed with all its names")
        }
        Reference::DockerDaemon(EngineImage::Name(name)) => {
            let removed = surroundings.docker()?.untag(name)?;
            Value::map([("untagged", removed.untagged), ("deleted", removed.deleted)])
        }
        Reference::DockerDaemon(EngineImage::Id(id)) => {
            let removed = surroundings.docker()?.remove(&EngineImage::Id(*id))?;
            Value::map([("untagged", removed.untagged), ("deleted", removed.deleted)])
        }
        other => {
            return Err(Error::new(Kind::Usage, format!("`{other}` is not an image of an engine"))
                .hint("remove files with the tools for files"));
        }
    };
    Ok(Value::map([
        ("result", Value::from(true)),
        ("image", reference.to_string().into()),
        ("image_id", id.into()),
        ("state", fate),
    ]))
}

/// Collects the store's garbage.
pub fn gc(max_size: Option<u64>, keep: u32, test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    let report = surroundings.store()?.gc(max_size, keep, test)?;
    let ids = |ids: &[Digest]| Value::list(ids.iter().map(ToString::to_string));
    Ok(Value::map([
        ("result", if test { Value::Null } else { true.into() }),
        (if test { "images_to_remove" } else { "removed_images" }, ids(&report.images)),
        ("blobs", report.blobs.into()),
        ("bytes", report.bytes.into()),
        ("kept_untagged", ids(&report.kept)),
        ("store_size", report.size.into()),
    ]))
}
