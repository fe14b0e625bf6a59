//! The arrows of DESIGN point down: a room may use only rooms of a lower rank.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

const ROOMS: &[(&str, u8)] = &[
    ("error", 0),
    ("vocab", 1),
    ("host", 2),
    ("document", 2),
    ("outputter", 2),
    ("progress", 2),
    ("rootfs", 3),
    ("schedule", 3),
    ("manifest", 3),
    ("oci", 4),
    ("sandbox", 4),
    ("sign", 4),
    ("config", 4),
    ("ssh", 4),
    ("http", 4),
    ("store", 5),
    ("pillar", 5),
    ("job", 5),
    ("registry", 5),
    ("disk", 5),
    ("settings", 6),
    ("plan", 6),
    ("engine", 7),
    ("remote", 7),
    ("front", 7),
    ("publish", 8),
    ("build", 8),
    ("release", 9),
    ("sync", 9),
    ("function", 10),
    ("cli", 11),
    ("daemon", 11),
];

/// Every path in one file, `use` trees unfolded, as `crate`-rooted segments.
struct Paths {
    module: Vec<String>,
    found: Vec<(Vec<String>, usize)>,
}

impl Paths {
    fn note(&mut self, segments: &[String], line: usize) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate" | "castoff") => Vec::new(),
            Some("super" | "self") => self.module.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "castoff" | "self" => {}
                "super" => {
                    base.pop();
                }
                name => base.push(name.to_owned()),
            }
        }
        self.found.push((base, line));
    }

    fn unfold(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.unfold(&path.tree, prefix);
                prefix.pop();
            }
            syn::UseTree::Group(group) => {
                for item in &group.items {
                    self.unfold(item, prefix);
                }
            }
            syn::UseTree::Name(syn::UseName { ident, .. }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                prefix.push(ident.to_string());
                self.note(&prefix.clone(), ident.span().start().line);
                prefix.pop();
            }
            syn::UseTree::Glob(glob) => self.note(&prefix.clone(), glob.star_token.spans[0].start().line),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.unfold(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.note(&segments, line);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // Paths inside macro arguments are tokens only: `crate :: room` in sequence.
        self.scan_tokens(item.tokens.clone());
        syn::visit::visit_macro(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

impl Paths {
    fn scan_tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree;
        let mut segments: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note(&std::mem::take(&mut segments), ident.span().start().line);
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note(&std::mem::take(&mut segments), group.span().start().line);
                    self.scan_tokens(group.stream());
                    colons = 0;
                }
                other => {
                    self.note(&std::mem::take(&mut segments), other.span().start().line);
                    colons = 0;
                }
            }
        }
        self.note(&segments, 0);
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn module_of(file: &Path, source: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .strip_prefix(source)
        .unwrap()
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn upward_arrows(text: &str, module: Vec<String>) -> Vec<String> {
    let ranks: BTreeMap<&str, u8> = ROOMS.iter().copied().collect();
    let Some(room) = module.first().cloned() else { return Vec::new() };
    let own = ranks.get(room.as_str()).copied();
    let mut paths = Paths { module: module.clone(), found: Vec::new() };
    paths.visit_file(&syn::parse_file(text).unwrap());
    let mut wrong = Vec::new();
    for (path, line) in paths.found {
        let Some(other) = path.first().filter(|other| **other != room) else { continue };
        let Some(rank) = ranks.get(other.as_str()).copied() else { continue };
        match own {
            None => wrong.push(format!("room `{room}` has no rank")),
            Some(own) if rank >= own => wrong.push(format!(
                "line {line}: {} ({own}) -> {} ({rank}): a room may use only rooms of a lower rank",
                module.join("::"),
                path.join("::")
            )),
            Some(_) => {}
        }
    }
    wrong
}

#[test]
fn arrows_point_down() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let shown = file.strip_prefix(&source).unwrap().display().to_string();
        wrong.extend(
            upward_arrows(&text, module_of(file, &source)).into_iter().map(|line| format!("src/{shown}: {line}")),
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(files.len() > 20, "the walk found {} files", files.len());
}

#[test]
fn every_room_has_a_rank_and_is_drawn() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let drawn = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    for (room, _) in ROOMS {
        assert!(
            drawn.lines().any(|line| line.starts_with("//!") && line.contains(room)),
            "`{room}` is not in the picture"
        );
        assert!(drawn.contains(&format!("pub mod {room};")), "`{room}` is not a room");
    }
}

#[test]
fn an_upward_path_is_found_in_use_expression_super_and_macro() {
    let module = || vec!["rootfs".to_owned(), "walk".to_owned()];
    for text in [
        "use crate::engine::pack;",
        "use crate::{error::Error, engine};",
        "fn f() { crate::store::open(); }",
        "fn f() { super::super::function::dispatch(); }",
        "fn f() { let x = format!(\"{}\", crate::oci::name()); }",
        "mod inner { use super::super::super::store::Store; }",
    ] {
        assert_eq!(upward_arrows(text, module()).len(), 1, "{text}");
    }
    for text in ["use crate::error::Error;", "use super::entry::Entry;", "fn f() { crate::vocab::nearest(); }"] {
        assert!(upward_arrows(text, module()).is_empty(), "{text}");
    }
}
