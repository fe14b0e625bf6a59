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
    let Some(store) = surroundings.existing_store()? else { return Ok(Value::List(Vec::new())) };
    let shown = store.list()?.into_iter().map(|image| {
        let mut members = vec![("id", Value::from(image.id.to_string()))];
        if !image.names.is_empty() {
            members.push(("names", Value::list(image.names.iter().map(ToString::to_string))));
        }
        members.push(("size", image.size.into()));
        if let Some(created) = image.created {
            members.push(("created", created.into()));
        }
        if let Some(since) = image.untagged_since {
            members.push(("untagged_since", timestamp(i64::try_from(since).unwrap_or(i64::MAX), 0).into()));
        }
        Value::map(members)
    });
    Ok(Value::List(shown.collect()))
}

fn of_docker(surroundings: &Surroundings<'_>) -> Result<Value> {
    let shown = surroundings.docker()?.list()?.into_iter().map(|image| {
        let mut members = vec![("id", Value::from(image.id.to_string()))];
        if !image.repo_tags.is_empty() {
            members.push(("names", Value::list(image.repo_tags)));
        }
        members.push(("size", image.size.into()));
        members.push(("created", timestamp(image.created, 0).into()));
        Value::map(members)
    });
    Ok(Value::List(shown.collect()))
}

/// Takes a name away, or an image with all its names when it is given by ID.
pub fn remove(reference: &Reference, test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    let reference = surroundings.resolve(reference)?;
    if !matches!(reference, Reference::Store(_) | Reference::DockerDaemon(_)) {
        return Err(Error::new(Kind::Usage, format!("`{reference}` is not an image of an engine"))
            .hint("remove files with the tools for files"));
    }
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
            let store = surroundings.store()?;
            store.untag(name)?;
            let left = store.lookup(&EngineImage::Id(id.parse()?))?.map(|image| image.names).unwrap_or_default();
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            match left.as_slice() {
                [] => Value::from("without a name now; kept until image.gc"),
                names => format!("still there as {}", names.join(", ")).into(),
            }
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
        other => return Err(Error::new(Kind::Failed, format!("`{other}` was not resolved to an engine"))),
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
    if !test {
        // What killed runs left beside the store goes with the first look at the folder.
        surroundings.scratch(None)?;
    }
    let report = surroundings.store()?.gc(max_size, keep, test)?;
    let words = if test { ("would be removed", "would be freed") } else { ("removed", "freed") };
    let comment = format!(
        "{} images and {} blobs {}, {} bytes {}",
        report.images.len(),
        report.blobs,
        words.0,
        report.bytes,
        words.1
    );
    let mut members = vec![("result", if test { Value::Null } else { true.into() }), ("comment", comment.into())];
    let ids = |ids: &[Digest]| Value::list(ids.iter().map(ToString::to_string));
    if !report.images.is_empty() {
        members.push((if test { "images_to_remove" } else { "removed_images" }, ids(&report.images)));
    }
    members.extend([("blobs", Value::from(report.blobs)), ("bytes", report.bytes.into())]);
    if !report.kept.is_empty() {
        members.push(("kept_untagged", ids(&report.kept)));
    }
    members.push(("store_size", report.size.into()));
    Ok(Value::map(members))
}
