//! From a pillar root to its database: which folder, which file, how it is read.
//!
//! ```text
//! ROOT/database.sls      rendered with Jinja first (see `sls`), then YAML, or what its first line `#!…` says
//! ROOT/database.yaml     read where there is no .sls
//! ROOT/database.json     read where there is neither
//! ```
//!
//! ROOT is the configured one, which must exist, else the first usual place that is a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sections::in_sections;
use super::{Database, Files, sls};
use crate::document;
use crate::error::{Error, Kind, Result};

/// Where the database lies when nobody says where.
pub const USUAL_ROOTS: [&str; 2] = ["/etc/castoff/pillar", "/etc/makina-states"];

/// The names of a database, the first that exists is read.
pub const DATABASES: [&str; 3] = ["database.sls", "database.yaml", "database.json"];

/// What a pillar root holds.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder; none where nobody configured one and no usual one exists.
    pub root: Option<PathBuf>,
    /// The database; none where the root is none, or a usual one without a database.
    pub database: Option<Arc<Database>>,
    /// Databases in the root that another stands before.
    pub unread: Vec<PathBuf>,
}

impl Source {
    /// The pillar root's content; `configured` must exist and hold a database.
    pub fn read(configured: Option<&Path>, variables: &sls::Variables<'_>, files: &dyn Files) -> Result<Self> {
        let Some(root) = root(configured, files)? else {
            return Ok(Self { root: None, database: None, unread: Vec::new() });
        };
        let mut present = Vec::new();
        for name in DATABASES {
            let path = root.join(name);
            if files.exists(&path)? {
                present.push(path);
            }
        }
        let unread = present.split_off(present.len().min(1));
        let database = match (present.pop(), configured) {
            (Some(path), _) => Some(Arc::new(database(&path, &root, variables, files)?)),
            (None, None) => None,
            (None, Some(_)) => return Err(missing(Some(&root))),
        };
        Ok(Self { root: Some(root), database, unread })
    }

    /// The database, or the error that there is none and what to do.
    pub fn database(&self) -> Result<&Arc<Database>> {
        self.database.as_ref().ok_or_else(|| missing(self.root.as_deref()))
    }
}

fn root(configured: Option<&Path>, files: &dyn Files) -> Result<Option<PathBuf>> {
    if let Some(root) = configured {
        if !files.is_dir(root)? {
            return Err(Error::new(Kind::NotFound, format!("the pillar root `{}` is not a folder", root.display()))
                .hint("make it, or set `pillar_root` (CASTOFF_PILLAR_ROOT) to the folder with the database"));
        }
        return Ok(Some(root.to_owned()));
    }
    for usual in USUAL_ROOTS.map(Path::new) {
        if files.is_dir(usual)? {
            return Ok(Some(usual.to_owned()));
        }
    }
    Ok(None)
}

fn missing(root: Option<&Path>) -> Error {
    let place = match root {
        Some(root) => format!("no database in the pillar root `{}`", root.display()),
        None => format!("no pillar root: neither `{}` is a folder", USUAL_ROOTS.join("` nor `")),
    };
    Error::new(Kind::NotFound, place).hint(
        "put a database.sls, database.yaml or database.json there, or set `pillar_root` (CASTOFF_PILLAR_ROOT); \
         `pillar/` in castoff's source is a sample",
    )
}

fn database(path: &Path, root: &Path, variables: &sls::Variables<'_>, files: &dyn Files) -> Result<Database> {
    let Some(text) = files.text(path)? else { return Err(missing(Some(root))) };
    let name = path.display().to_string();
    let file: Arc<Path> = Arc::from(path);
    let content = match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("sls") => sls::read(path, root, variables, files)?,
        Some("json") => in_sections(document::parse_json_spanned(&text, &name)?, |_| Arc::clone(&file), |place| place),
        _ => in_sections(document::parse_spanned(&text, &name)?, |_| Arc::clone(&file), |place| place),
    };
    Database::new(file, content)
}
