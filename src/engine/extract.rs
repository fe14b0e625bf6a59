//! The disk images that an image carries in `/data/images`, brought out into a folder: `.zst` unfolded, holes for zeros,
//! all of them whole before one has its name, hostile entries refused, and nothing written that is there already.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::extracted::{Extracted, Item};
use super::merge::{Merged, merge};
use super::open::{self, Opened};
use super::staging::{self, Staging};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, fs};
use crate::progress::Unit;
use crate::rootfs::EntryKind;
use crate::rootfs::flatten::{ContentAt, FlatEntry, FlattenOptions};
use crate::rootfs::{shown, tar};
use crate::vocab::{Digest, Map, Reference, Value};

/// Where an image keeps disk images.
pub(super) const PLACE: &str = "data/images";
/// What compressed disk images end with.
pub(super) const PACKED: &str = ".zst";

/// What to bring out, and where to.
#[derive(Clone, Debug)]
pub struct ExtractRequest {
    /// The image.
    pub source: Reference,
    /// The folder in which `images` is made.
    pub dir: PathBuf,
    /// Whether compressed files stay beside the unfolded ones.
    pub cache: bool,
}

/// A file of the image, and where its bytes are.
struct Found {
    item: Item,
    content: Option<ContentAt>,
}

/// What became of files.
#[derive(Default)]
struct Tally {
    images: Vec<String>,
    files: Vec<String>,
    written: Vec<String>,
    replaced: Vec<String>,
    reused: Vec<String>,
}

/// Brings the files out, and says what was done.
pub fn extract(request: &ExtractRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let scratch = surroundings.scratch(None)?;
    let opened = open::open(&request.source, None, &scratch, surroundings)?;
    let image = open::image_id(&opened);
    fs::create_dir_all(&request.dir.join("images"), 0o755)?;
    let folder = fs::canonical(&request.dir.join("images"))?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no folder `{}`", request.dir.display())))?;
    let mut known = Extracted::of(&folder, &surroundings.config.state_dir)?;
    fs::sweep(&folder)?;
    let mut work = Work { request, folder, surroundings, tally: Tally::default() };
    if let Some(items) = known.items(image)
        && work.all_intact(&mut known, &items)?
    {
        work.reuse(&items);
    } else {
        work.bring(&opened, &scratch, &mut known)?;
    }
    Ok(work.report(&opened))
}

/// What would be done; the image is looked for and not fetched.
pub fn preview(request: &ExtractRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let source = surroundings.resolve(&request.source)?;
    open::must_exist(&source, surroundings)?;
    let folder = request.dir.join("images");
    let comment = format!("the files in `/{PLACE}` of `{source}` would be brought into `{}`", folder.display());
    let changes = Value::map([("source", source.to_string()), ("destination", folder.display().to_string())]);
    Ok(Value::map([("result", Value::Null), ("comment", comment.into()), ("changes", changes)]))
}

struct Work<'w, 's> {
    request: &'w ExtractRequest,
    folder: PathBuf,
    surroundings: &'w Surroundings<'s>,
    tally: Tally,
}

impl Work<'_, '_> {
    /// The files that are made of an item.
    fn outputs<'i>(&self, item: &'i Item) -> Vec<&'i str> {
        match item.path.strip_suffix(PACKED) {
            Some(bare) if self.request.cache => vec![bare, &item.path],
            Some(bare) => vec![bare],
            None => vec![&item.path],
        }
    }

    fn all_intact(&self, known: &mut Extracted, items: &[Item]) -> Result<bool> {
        for item in items {
            for path in self.outputs(item) {
                if !known.is_intact(path, item)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn reuse(&mut self, items: &[Item]) {
        for item in items {
            for path in self.outputs(item) {
                self.tell(path, item);
                self.tally.reused.push(self.name(path));
            }
        }
    }

    /// A file as it is told of.
    fn name(&self, path: &str) -> String {
        self.request.dir.join("images").join(path).to_string_lossy().into_owned()
    }

    fn tell(&mut self, path: &str, item: &Item) {
        let name = self.name(path);
        let is_packed = path == item.path && path.ends_with(PACKED);
        if !is_packed {
            self.tally.images.push(name.clone());
        }
        self.tally.files.push(name);
    }

    /// Everything is whole before anything has its name: what is damaged changes nothing.
    fn bring(&mut self, opened: &Opened, scratch: &Path, known: &mut Extracted) -> Result<()> {
        let options = FlattenOptions { keep_sparse: true, relative_below: Some(PLACE), ..FlattenOptions::default() };
        let merged = merge(opened, options, scratch, self.surroundings)?;
        let (folders, found) = inventory(opened, &merged)?;
        self.require_space(&merged, &found)?;
        for path in &folders {
            staging::prepare_folder(&self.folder.join(path))?;
        }
        // A tree has no layers whose digests would tell that it is the same again.
        let has_layers = open::image_id(opened).is_some();
        let mut wanted = Vec::new();
        for file in &found {
            for path in self.outputs(&file.item) {
                self.tell(path, &file.item);
                if has_layers && known.is_intact(path, &file.item)? {
                    let name = self.name(path);
                    self.tally.reused.push(name);
                } else {
                    staging::may_replace(&self.folder.join(path))?;
                    wanted.push((file, path));
                }
            }
        }
        let mut staging = Staging::new(&self.folder);
        for (file, path) in &wanted {
            self.stage(&merged, file, path, &mut staging)
                .context(|| format!("cannot bring out `/{PLACE}/{}`", file.item.path))?;
        }
        fault::point("engine.extract.before-names");
        for path in &folders {
            fs::create_dir_all(&self.folder.join(path), 0o755)?;
        }
        for ((file, path), staged) in wanted.iter().zip(staging.files()) {
            let is_there = staging::may_replace(&self.folder.join(path))?;
            fs::rename(&staged.path, &self.folder.join(path))?;
            fault::point("engine.extract.after-file");
            known.note(path, Some(&file.item).filter(|_| has_layers), staged.digest)?;
            let name = self.name(path);
            if is_there { &mut self.tally.replaced } else { &mut self.tally.written }.push(name);
        }
        let items: Vec<Item> = found.into_iter().map(|found| found.item).collect();
        known.note_image(open::image_id(opened), &items)
    }

    /// Makes a file whole that has no name yet.
    fn stage(&self, merged: &Merged, found: &Found, path: &str, staging: &mut Staging<'_>) -> Result<()> {
        let content = found.content.as_ref().ok_or_else(|| Error::new(Kind::Corrupt, "it has no content"))?;
        let content = tar::content(&*merged.layers[content.layer], &content.member);
        let size = content.size();
        let unfold = path != found.item.path;
        if unfold && size == 0 {
            return Err(Error::new(Kind::Corrupt, "it is empty, and no compressed file is"));
        }
        let title = format!("bringing out {}", found.item.path);
        let stage = self.surroundings.progress.stage(title, Some(size), Unit::Bytes);
        staging.add(path, content, unfold, (stage, self.surroundings.config.limit_layer_size))
    }

    /// What is compressed takes at least its own size; how much more is watched while it is written, since disk images
    /// are mostly holes.
    fn require_space(&self, merged: &Merged, found: &[Found]) -> Result<()> {
        let size = |found: &Found| {
            let content = found.content.as_ref().filter(|_| found.item.path.ends_with(PACKED));
            content.map_or(0, |content| tar::content(&*merged.layers[content.layer], &content.member).size())
        };
        fs::require_space(&self.folder, found.iter().map(size).sum())
    }

    fn report(self, opened: &Opened) -> Value {
        let tally = self.tally;
        let changed = tally.written.len() + tally.replaced.len();
        let comment = match changed {
            0 => format!("all {} files of `{}` were there", tally.files.len(), opened.reference),
            count => format!("{count} of {} files of `{}` were written", tally.files.len(), opened.reference),
        };
        let mut map = Map::new();
        map.insert("result".into(), true.into());
        map.insert("comment".into(), comment.into());
        map.insert("source".into(), opened.reference.to_string().into());
        if let Some(image) = opened.image() {
            map.insert("image_id".into(), image.config_digest.to_string().into());
            map.insert("platform".into(), image.platform.to_string().into());
            map.insert("digest".into(), image.config_digest.to_string().into());
        }
        map.extend(opened.notes.clone());
        let lists = [
            ("images", tally.images),
            ("files", tally.files),
            ("written", tally.written),
            ("replaced", tally.replaced),
            ("reused", tally.reused),
        ];
        map.extend(lists.map(|(key, list)| (key.into(), Value::list(list))));
        if !opened.warnings.is_empty() {
            map.insert("warnings".into(), Value::list(opened.warnings.iter().map(String::as_str)));
        }
        Value::Map(map)
    }
}

/// The folders and files below the place, all of them judged.
fn inventory(opened: &Opened, merged: &Merged) -> Result<(Vec<String>, Vec<Found>)> {
    let prefix = format!("{PLACE}/").into_bytes();
    if let Some(dropped) =
        merged.flat.report.dropped.iter().find(|dropped| dropped.path.trim_start_matches('/').starts_with(PLACE))
    {
        return Err(refused(dropped.path.as_bytes(), dropped.reason));
    }
    let (mut folders, mut found, mut has_place) = (Vec::new(), Vec::new(), false);
    for entry in merged.flat.entries(&merged.layers) {
        let FlatEntry { entry, group, content } = entry?;
        if entry.path == PLACE.as_bytes() {
            has_place = entry.kind == EntryKind::Directory;
        }
        let Some(below) = entry.path.strip_prefix(prefix.as_slice()) else { continue };
        let path = name(below).ok_or_else(|| refused(&entry.path, "its name is none that a disk image has"))?;
        match (&entry.kind, group) {
            (EntryKind::Directory, _) => folders.push(path),
            (EntryKind::File { .. }, None) => {
                let layer = content.as_ref().and_then(|content| opened.layers().get(content.layer));
                let layer = layer.map_or(crate::vocab::DiffId(Digest::of(b"")), |layer| layer.diff_id);
                found.push(Found { item: Item { path, layer }, content });
            }
            (EntryKind::File { .. } | EntryKind::Hardlink { .. }, _) => {
                return Err(refused(&entry.path, "it is a hard link"));
            }
            (EntryKind::Symlink { .. }, _) => return Err(refused(&entry.path, "it is a symbolic link")),
            (EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. }, _) => {
                return Err(refused(&entry.path, "it is a device"));
            }
            (EntryKind::Fifo, _) => return Err(refused(&entry.path, "it is a named pipe")),
        }
    }
    if !has_place {
        return Err(Error::new(Kind::NotFound, format!("`{}` has no folder `/{PLACE}`", opened.reference))
            .hint("it carries no disk images; `castoff call image.inspect` shows what it holds"));
    }
    no_doubles(&folders, &found)?;
    Ok((folders, found))
}

/// Two entries must not become one file.
fn no_doubles(folders: &[String], found: &[Found]) -> Result<()> {
    let mut taken: BTreeSet<&str> = folders.iter().map(String::as_str).collect();
    for path in found.iter().map(|found| found.item.path.as_str()) {
        let bare = path.strip_suffix(PACKED).unwrap_or(path);
        if bare.is_empty() || bare.ends_with('/') {
            return Err(refused(format!("{PLACE}/{path}").as_bytes(), "it has no name without `.zst`"));
        }
        if !taken.insert(bare) || (bare != path && !taken.insert(path)) {
            return Err(refused(format!("{PLACE}/{path}").as_bytes(), "another entry becomes the same file"));
        }
    }
    Ok(())
}

fn refused(path: &[u8], why: &str) -> Error {
    let path = shown(path);
    Error::new(Kind::Refused, format!("entry `/{}` is refused: {why}", path.trim_start_matches('/')))
        .hint("only folders and plain files are taken; nothing was written")
}

/// The path as text, if it is one that a file may have: no control characters, no names of castoff's temporaries.
pub(super) fn name(path: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(path).ok()?;
    let is_ours = |part: &str| part.strip_prefix(".castoff-").is_some_and(|rest| rest.strip_suffix(".tmp").is_some());
    let is_bad = |part: &str| matches!(part, "" | "." | "..") || part.chars().any(char::is_control) || is_ours(part);
    (!text.split('/').any(is_bad)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_text_that_stays_where_it_is() {
        for good in ["kind_6.1.qcow2.zst", "a/b", "ä", ".hidden"] {
            assert_eq!(name(good.as_bytes()).as_deref(), Some(good));
        }
        for bad in [&b"a\nb"[..], b"..", b"a/../b", b"", b"/a", b"a/", b"\xff", b".castoff-1-2.tmp", b"a\x1bb"] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn two_entries_never_become_one_file() {
        let found = |paths: &[&str]| -> Vec<Found> {
            let layer = crate::vocab::DiffId(Digest::of(b""));
            paths.iter().map(|path| Found { item: Item { path: (*path).to_owned(), layer }, content: None }).collect()
        };
        assert!(no_doubles(&["d".to_owned()], &found(&["a.zst", "b", "d/a"])).is_ok());
        for (folders, paths) in
            [(vec![], vec!["a", "a.zst"]), (vec!["a".to_owned()], vec!["a.zst"]), (vec![], vec![".zst"])]
        {
            assert!(no_doubles(&folders, &found(&paths)).is_err(), "{paths:?}");
        }
    }
}
