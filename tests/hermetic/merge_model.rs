//! Laws of the merge, over random layers: it is what applying the layers one by one to a map gives, it is stable, it is
//! as long as it says. The model is slow and obvious; tars are written and read here by hand, in plain ustar.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff::rootfs::flatten::{Flat, FlattenOptions, Flattener};
use castoff::rootfs::tar::{Positioned, Scanner};
use castoff::rootfs::{EntryKind, Limits, ReadAt};
use proptest::prelude::*;

/// What a layer says, in its order.
#[derive(Clone, Debug)]
enum Item {
    Put(String, Thing, Meta),
    Link(String, String, Meta),
    Whiteout(String),
    Opaque(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Directory,
    File(String),
    Symlink(String),
    /// A link whose target has not come yet.
    Waiting,
}

/// Mode, owner, time.
type Meta = (u32, u32, u32);

const SYNTHESISED: Meta = (0o755, 0, 0);

/// A path's inode.
type Map = BTreeMap<String, usize>;

#[derive(Default)]
struct Model {
    tree: Map,
    inodes: Vec<(Thing, Meta)>,
}

/// One layer over what lies below.
struct Layer<'a> {
    lower: Map,
    upper: Map,
    model: &'a mut Model,
}

fn ancestors(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

fn below(map: &Map, path: &str) -> Vec<String> {
    map.keys().filter(|key| key.starts_with(&format!("{path}/"))).cloned().collect()
}

impl Layer<'_> {
    fn visible(&self, path: &str) -> Option<usize> {
        self.upper.get(path).or_else(|| self.lower.get(path)).copied()
    }

    fn is_directory(&self, inode: usize) -> bool {
        self.model.inodes[inode].0 == Thing::Directory
    }

    fn inode(&mut self, thing: Thing, meta: Meta) -> usize {
        self.model.inodes.push((thing, meta));
        self.model.inodes.len() - 1
    }

    fn remove_all(&mut self, path: &str) {
        for map in [&mut self.lower, &mut self.upper] {
            for key in below(map, path) {
                map.remove(&key);
            }
            map.remove(path);
        }
    }

    /// Takes away what lower layers have below a path; directories of theirs that are still used become plain ones.
    fn hide(&mut self, path: &str) {
        for key in below(&self.lower, path) {
            self.lower.remove(&key);
        }
        for ancestor in self.upper.keys().flat_map(|path| ancestors(path)).collect::<Vec<_>>() {
            if self.visible(&ancestor).is_none() {
                let inode = self.inode(Thing::Directory, SYNTHESISED);
                self.upper.insert(ancestor, inode);
            }
        }
    }

    fn put(&mut self, path: &str, inode: usize) {
        for ancestor in ancestors(path) {
            let there = self.visible(&ancestor).map(|inode| self.is_directory(inode));
            if there != Some(true) {
                self.remove_all(&ancestor);
                let inode = self.inode(Thing::Directory, SYNTHESISED);
                self.upper.insert(ancestor, inode);
            }
        }
        let was_directory = self.visible(path).is_some_and(|inode| self.is_directory(inode));
        if !(was_directory && self.is_directory(inode)) {
            self.remove_all(path);
        }
        self.upper.insert(path.to_owned(), inode);
    }
}

impl Model {
    fn apply(&mut self, items: &[Item]) -> Result<(), ()> {
        let mut layer = Layer { lower: std::mem::take(&mut self.tree), upper: Map::new(), model: self };
        let mut waiting = Vec::new();
        for item in items {
            match item {
                Item::Put(path, thing, meta) => {
                    let inode = layer.inode(thing.clone(), *meta);
                    layer.put(path, inode);
                }
                Item::Link(path, target, meta) => match layer.visible(target) {
                    Some(inode) if layer.is_directory(inode) => return Err(()),
                    Some(inode) if layer.model.inodes[inode].0 != Thing::Waiting => {
                        layer.put(path, inode);
                        layer.model.inodes[inode].1 = *meta;
                    }
                    _ => {
                        let inode = layer.inode(Thing::Waiting, *meta);
                        layer.put(path, inode);
                        waiting.push((path.clone(), target.clone(), inode));
                    }
                },
                Item::Whiteout(path) => {
                    layer.lower.remove(path);
                    layer.hide(path);
                }
                Item::Opaque(path) => layer.hide(path),
            }
        }
        for (path, target, inode) in waiting {
            // Unless something replaced it.
            if layer.upper.get(&path) == Some(&inode) {
                let found = layer.visible(&target).ok_or(())?;
                if matches!(layer.model.inodes[found].0, Thing::Directory | Thing::Waiting) {
                    return Err(());
                }
                layer.put(&path, found);
            }
        }
        let Layer { mut lower, upper, .. } = layer;
        lower.extend(upper);
        self.tree = lower;
        Ok(())
    }

    /// Every path with what is there and the first name of its inode.
    fn lines(&self) -> BTreeSet<(String, Thing, Meta, String)> {
        let line = |(path, inode): (&String, &usize)| {
            let (thing, meta) = self.inodes[*inode].clone();
            let first = self.tree.iter().filter(|(_, other)| *other == inode).map(|(path, _)| path);
            (path.clone(), thing, meta, first.min_by_key(|path| in_order(path)).unwrap().clone())
        };
        self.tree.iter().map(line).collect()
    }
}

fn in_order(path: &str) -> Vec<&str> {
    path.split('/').collect()
}

fn block(name: &str, kind: u8, (mode, uid, mtime): Meta, target: &str, size: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut set = |at: usize, value: &[u8]| block[at..at + value.len()].copy_from_slice(value);
    set(0, name.as_bytes());
    set(100, format!("{mode:07o}\0{uid:07o}\0{:07o}\0{size:011o}\0{mtime:011o}\0        ", 0).as_bytes());
    set(156, &[kind]);
    set(157, target.as_bytes());
    set(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn tar(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Put(path, Thing::Directory, meta) => out.extend(block(&format!("{path}/"), b'5', *meta, "", 0)),
            Item::Put(path, Thing::Symlink(target), meta) => out.extend(block(path, b'2', *meta, target, 0)),
            Item::Put(path, Thing::File(content), meta) => {
                out.extend(block(path, b'0', *meta, "", content.len()));
                out.extend(content.as_bytes());
                out.resize(out.len().next_multiple_of(512), 0);
            }
            Item::Put(_, Thing::Waiting, _) => unreachable!("layers do not say this"),
            Item::Link(path, target, meta) => out.extend(block(path, b'1', *meta, target, 0)),
            Item::Whiteout(path) => {
                let (folder, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(folder, name)| (folder, name));
                let slash = if folder.is_empty() { "" } else { "/" };
                out.extend(block(&format!("{folder}{slash}.wh.{name}"), b'0', (0, 0, 0), "", 0));
            }
            Item::Opaque(path) => out.extend(block(&format!("{path}/.wh..wh..opq"), b'0', (0, 0, 0), "", 0)),
        }
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Reads plain ustar: all that these layers' merge can need.
fn untar(tar: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut at = 0;
    while tar[at] != 0 {
        let field = |from: usize, length: usize| {
            let bytes = &tar[at + from..at + from + length];
            String::from_utf8(bytes.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
        };
        let number = |from: usize, length: usize| usize::from_str_radix(field(from, length).trim(), 8).unwrap();
        assert_eq!(field(345, 155), "");
        let meta = (number(100, 8) as u32, number(108, 8) as u32, number(136, 12) as u32);
        let (path, target, size) = (field(0, 100).trim_end_matches('/').to_owned(), field(157, 100), number(124, 12));
        let content = String::from_utf8(tar[at + 512..][..size].to_vec()).unwrap();
        items.push(match (tar[at + 156], path.find(".wh.")) {
            (b'0', Some(at)) => Item::Whiteout(format!("{}{}", &path[..at], &path[at + 4..])),
            (b'0', None) => Item::Put(path, Thing::File(content), meta),
            (b'1', _) => Item::Link(path, target, meta),
            (b'2', _) => Item::Put(path, Thing::Symlink(target), meta),
            (b'5', _) => Item::Put(path, Thing::Directory, meta),
            (other, _) => panic!("type {other} in the result"),
        });
        at += 512 + size.next_multiple_of(512);
    }
    assert_eq!(tar[at..], [0; 1024]);
    items
}

fn merge(tars: &[Vec<u8>], base_layers: usize) -> castoff::error::Result<(Flat, Vec<Arc<dyn ReadAt>>)> {
    let layers: Vec<_> = tars.iter().map(|tar| Arc::new(tar.clone()) as Arc<dyn ReadAt>).collect();
    let mut flattener = Flattener::new(FlattenOptions { base_layers, ..FlattenOptions::default() }, Limits::default());
    for layer in &layers {
        flattener.add_layer(&mut Scanner::new(Positioned::new(&**layer, 0), Limits::default()))?;
    }
    Ok((flattener.finish(&layers)?, layers))
}

fn written(flat: &Flat, layers: &[Arc<dyn ReadAt>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flat.outputs[0].write(layers, &mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, flat.outputs[0].size());
    bytes
}

/// Parents and targets come before what needs them, and nothing comes twice.
fn assert_order(items: &[Item]) {
    let mut seen = BTreeSet::new();
    for item in items {
        let (Item::Put(path, ..) | Item::Link(path, ..) | Item::Whiteout(path) | Item::Opaque(path)) = item;
        assert!(ancestors(path).iter().all(|above| seen.contains(above)), "{path} before its parent");
        if let Item::Link(_, target, _) = item {
            assert!(seen.contains(target), "{path} before {target}");
        }
        assert!(seen.insert(path.clone()), "{path} twice");
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn meta() -> impl Strategy<Value = Meta> {
    (0..0o7777_u32, 0..3_u32, 0..3_u32)
}

fn item() -> impl Strategy<Value = Item> {
    let thing = prop_oneof![
        4 => Just(Thing::Directory),
        4 => "[a-z]{0,3}".prop_map(Thing::File),
        1 => path().prop_map(Thing::Symlink),
    ];
    prop_oneof![
        8 => (path(), thing, meta()).prop_map(|(path, thing, meta)| Item::Put(path, thing, meta)),
        2 => (path(), path(), meta()).prop_map(|(path, target, meta)| Item::Link(path, target, meta)),
        2 => path().prop_map(Item::Whiteout),
        1 => path().prop_map(Item::Opaque),
    ]
}

fn layers() -> impl Strategy<Value = Vec<Vec<Item>>> {
    prop::collection::vec(prop::collection::vec(item(), 0..10), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, max_global_rejects: 1_000_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_applying_the_layers_in_order(layers in layers()) {
        let mut model = Model::default();
        let possible = layers.iter().try_for_each(|items| model.apply(items));
        let tars: Vec<_> = layers.iter().map(|items| tar(items)).collect();
        let merged = merge(&tars, 0);
        prop_assert_eq!(possible.is_ok(), merged.is_ok(), "{:?}", merged.err());
        let Ok((flat, readable)) = merged else { return Ok(()) };
        let bytes = written(&flat, &readable);
        let items = untar(&bytes);
        assert_order(&items);
        let mut result = Model::default();
        prop_assert_eq!(result.apply(&items), Ok(()));
        prop_assert_eq!(result.lines(), model.lines());

        // What a reader of the merged tree is told is the same, in path order.
        let shown: Vec<_> = flat.entries(&readable).map(|entry| {
            let entry = entry.unwrap();
            let path = String::from_utf8(entry.entry.path).unwrap();
            let thing = match entry.entry.kind {
                EntryKind::Directory => Thing::Directory,
                EntryKind::Symlink { target } => Thing::Symlink(String::from_utf8(target).unwrap()),
                EntryKind::File { .. } => {
                    let at = entry.content.unwrap();
                    let mut content = String::new();
                    let mut read = castoff::rootfs::tar::content(&readable[at.layer], &at.member);
                    std::io::Read::read_to_string(&mut read, &mut content).unwrap();
                    Thing::File(content)
                }
                other => panic!("{other:?}"),
            };
            let first = entry.group.map_or_else(|| path.clone(), |group| String::from_utf8(group).unwrap());
            let (uid, mtime) = (entry.entry.uid as u32, entry.entry.mtime.seconds as u32);
            (path, thing, (entry.entry.mode, uid, mtime), first)
        }).collect();
        prop_assert!(shown.iter().map(|line| in_order(&line.0)).is_sorted());
        prop_assert_eq!(shown.into_iter().collect::<BTreeSet<_>>(), model.lines());

        // Equal input, equal bytes; and merging the result changes nothing.
        let (again, readable) = merge(&tars, 0).unwrap();
        prop_assert!(written(&again, &readable) == bytes);
        let (again, readable) = merge(std::slice::from_ref(&bytes), 0).unwrap();
        prop_assert!(written(&again, &readable) == bytes);
    }

    #[test]
    fn what_lies_above_a_base_makes_the_whole_tree_of_it(layers in layers(), base in 0..4_usize) {
        let base = base % layers.len() + 1;
        let mut model = Model::default();
        let possible = layers.iter().try_for_each(|items| model.apply(items));
        prop_assume!(possible.is_ok());
        let tars: Vec<_> = layers.iter().map(|items| tar(items)).collect();
        let (flat, readable) = merge(&tars, base).unwrap();
        let items = untar(&written(&flat, &readable));
        assert_order(&items);
        let mut result = Model::default();
        for layer in layers[..base].iter().chain([&items]) {
            prop_assert_eq!(result.apply(layer), Ok(()));
        }
        prop_assert_eq!(result.lines(), model.lines());
    }
}
