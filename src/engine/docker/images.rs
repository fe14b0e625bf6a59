//! Images of the engine: look, list, name, remove, save.

use std::io::Write;
use std::path::PathBuf;

use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::client::Docker;
use super::failure::{engine_error, said};
use super::types::{EngineImageInfo, EngineImageSummary, Removed};
use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::progress::{Progress, Unit};
use crate::vocab::{DiffId, Digest, EngineImage, ImageName};

impl Docker {
    /// What the engine knows of an image; none when it has no such image.
    pub fn inspect_image(&self, image: &EngineImage) -> Result<Option<EngineImageInfo>> {
        let doing = || format!("cannot inspect `{image}` in the Docker engine");
        let answer = match self.ask(self.client.inspect_image(&image.to_string()), doing) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        let (graph_driver, layer_dirs) = match answer.graph_driver {
            Some(driver) if driver.name == "overlay2" => {
                let dirs = ["UpperDir", "LowerDir"]
                    .iter()
                    .filter_map(|key| driver.data.get(*key))
                    .flat_map(|paths| paths.split(':'))
                    .map(PathBuf::from)
                    .collect();
                (Some(driver.name), dirs)
            }
            Some(driver) => (Some(driver.name), Vec::new()),
            None => (None, Vec::new()),
        };
        let layers = answer.root_fs.and_then(|root| root.layers).unwrap_or_default();
        Ok(Some(EngineImageInfo {
            id: id_of(answer.id.as_deref().unwrap_or_default())?,
            repo_tags: real_tags(answer.repo_tags.unwrap_or_default()),
            diff_ids: layers.iter().map(|text| id_of(text).map(DiffId)).collect::<Result<_>>()?,
            config: serde_json::to_value(answer.config)
                .map_err(|error| Error::new(Kind::Corrupt, doing()).caused_by(error))?,
            size: answer.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
            os: answer.os.unwrap_or_default(),
            architecture: answer.architecture.unwrap_or_default(),
            graph_driver,
            layer_dirs,
        }))
    }

    /// Every image of the engine that is not an intermediate one.
    pub fn list(&self) -> Result<Vec<EngineImageSummary>> {
        let options = ListImagesOptionsBuilder::default().all(false).build();
        let answer =
            self.ask(self.client.list_images(Some(options)), || "cannot list the Docker engine's images".to_owned())?;
        let mut images = answer
            .into_iter()
            .map(|image| {
                Ok(EngineImageSummary {
                    id: id_of(&image.id)?,
                    repo_tags: real_tags(image.repo_tags),
                    size: u64::try_from(image.size).unwrap_or_default(),
                    created: image.created,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        images.sort_by(|left, right| (&left.repo_tags, left.id).cmp(&(&right.repo_tags, right.id)));
        Ok(images)
    }

    /// Gives an image a name, which leaves the image that had it before.
    pub fn tag(&self, image: &EngineImage, name: &ImageName) -> Result<()> {
        crate::host::fault::point("engine.docker.before-tag");
        let options = TagImageOptionsBuilder::default().repo(name.repository()).tag(name.tag()).build();
        self.ask(self.client.tag_image(&image.to_string(), Some(options)), || {
            format!("cannot tag `{image}` as `{name}` in the Docker engine")
        })?;
        crate::host::fault::point("engine.docker.after-tag");
        Ok(())
    }

    /// Takes a name away; an image without any other name goes with it.
    pub fn untag(&self, name: &ImageName) -> Result<Removed> {
        self.remove(&EngineImage::Name(name.clone()))
    }

    /// Removes an image by ID, or a name; never by force: an image that a container uses, or that has further names
    /// when its ID was given, stays and is a conflict.
    pub fn remove(&self, image: &EngineImage) -> Result<Removed> {
        self.remove_with(image, false)
    }

    /// The same, and the images without a name that it was committed or built from stay.
    pub fn remove_alone(&self, image: &EngineImage) -> Result<Removed> {
        self.remove_with(image, true)
    }

    fn remove_with(&self, image: &EngineImage, alone: bool) -> Result<Removed> {
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(alone).build();
        let doing = || format!("cannot remove `{image}` from the Docker engine");
        let answer = self.ask(self.client.remove_image(&image.to_string(), Some(options), None), doing);
        // Who is overtaken by another removal of the same image is answered 500, `unrecognized image ID` (seen twice, on
        // 20.10): that it is gone decides, not the words.
        let answer = match answer {
            Err(error) if error.kind() == Kind::Failed && self.inspect_image(image)?.is_none() => {
                return Err(no_such_image(image).caused_by(error)).context(doing);
            }
            answer => answer?,
        };
        let mut removed = Removed::default();
        for item in answer {
            removed.untagged.extend(item.untagged);
            removed.deleted.extend(item.deleted);
        }
        Ok(removed)
    }

    /// Writes the engine's archive of an image (`docker save`) to `out`; the bytes written.
    ///
    /// By name the archive carries that name, by ID it carries none.
    pub fn save(&self, image: &EngineImage, out: &mut dyn Write, progress: &Progress) -> Result<u64> {
        let doing = || format!("cannot save `{image}` from the Docker engine");
        let info = self.inspect_image(image)?.ok_or_else(|| no_such_image(image))?;
        let mut stage = progress.stage(format!("saving {image} from the Docker engine"), Some(info.size), Unit::Bytes);
        let mut end = ArchiveEnd::default();
        let name = image.to_string();
        self.wait(async {
            let mut stream = std::pin::pin!(self.client.export_image(&name));
            while let Some(chunk) = stream.next().await {
                let chunk: Bytes = chunk.map_err(|cause| engine_error(cause, doing()))?;
                out.write_all(&chunk).map_err(|error| from_io(error, doing))?;
                end.push(&chunk);
                stage.advance(chunk.len() as u64);
            }
            Ok::<(), Error>(())
        })?;
        end.check().map_err(|words| said(&words, doing()))?;
        Ok(end.size)
    }
}

/// The last bytes of an archive under way: an engine that fails half-way appends its error as JSON to the tar and
/// ends the stream as if all were well (status 200 was sent long before).
#[derive(Default)]
struct ArchiveEnd {
    size: u64,
    last: Vec<u8>,
}

impl ArchiveEnd {
    const KEPT: usize = 4096;

    fn push(&mut self, chunk: &[u8]) {
        self.size += chunk.len() as u64;
        let fresh = &chunk[chunk.len().saturating_sub(Self::KEPT)..];
        let surplus = (self.last.len() + fresh.len()).saturating_sub(Self::KEPT);
        self.last.drain(..surplus.min(self.last.len()));
        self.last.extend_from_slice(fresh);
    }

    /// Whether the archive ends as a tar must, with two blocks of zeros; else the engine's words.
    fn check(&self) -> Result<(), String> {
        let is_whole = self.last.len() >= 1024 && self.last[self.last.len() - 1024..].iter().all(|byte| *byte == 0);
        if is_whole {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.last).into_owned();
        Err(match text.rfind("{\"errorDetail\"") {
            Some(start) => error_in(&text[start..]).unwrap_or_else(|| text[start..].to_owned()),
            None => format!("nothing; its archive ends after {} bytes without the end of a tar", self.size),
        })
    }
}

fn error_in(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::Deserializer::from_str(text).into_iter().next()?.ok()?;
    Some(value.get("errorDetail")?.get("message")?.as_str()?.to_owned())
}

pub(super) fn no_such_image(image: &EngineImage) -> Error {
    Error::new(Kind::NotFound, format!("the Docker engine has no image `{image}`"))
        .hint("`docker image ls` lists what it has")
}

pub(super) fn id_of(text: &str) -> Result<Digest> {
    text.parse().map_err(|error: Error| {
        Error::new(Kind::Unsupported, format!("the Docker engine answered with the ID `{text}`")).caused_by(error)
    })
}

/// Old engines list `<none>:<none>` where an image has no name.
fn real_tags(tags: Vec<String>) -> Vec<String> {
    tags.into_iter().filter(|tag| !tag.contains("<none>")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_appended_to_an_archive_is_seen() {
        let mut end = ArchiveEnd::default();
        end.push(&[7; 9000]);
        end.push(b"{\"errorDetail\":{\"message\":\"open layer: no such file\"},\"error\":\"open layer\"}\r\n");
        assert_eq!(end.check().unwrap_err(), "open layer: no such file");
    }

    #[test]
    fn an_archive_needs_its_two_blocks_of_zeros_in_whatever_pieces_they_come() {
        let mut end = ArchiveEnd::default();
        end.push(&[7; 512]);
        for _ in 0..1023 {
            end.push(&[0]);
        }
        assert!(end.check().is_err());
        end.push(&[0]);
        assert_eq!(end.check(), Ok(()));
        assert_eq!(end.size, 512 + 1024);
    }
}
