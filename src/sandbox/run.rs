//! What a sandbox is asked to run: checked, made ready, and put away after.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::machine_id::MachineId;
use super::stand_ins::{self, StandIns};
use super::wire::{Bind, Order};
use super::{Sandbox, SandboxReport};
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::progress::Progress;

impl Sandbox {
    /// Runs a command to its end and passes its output to `progress`. Everything it started ends with it.
    pub fn run(&self, command: &[String], progress: &Progress) -> Result<SandboxReport> {
        self.carry_out(self.order(command, None)?, progress)
    }

    /// Runs a script, which the tree does not get to keep; with a `command`, that is run with the script's path as
    /// its last argument.
    pub fn run_script(&self, script: &[u8], command: &[String], progress: &Progress) -> Result<SandboxReport> {
        self.carry_out(self.order(command, Some(script))?, progress)
    }

    /// Gives a terminal, as [`Terminal`](super::Terminal) names it, to a command until that ends; its exit code.
    pub fn shell(&self, command: &[String], terminal: &Path) -> Result<i32> {
        let terminal = terminal.as_os_str().as_bytes().to_vec();
        let order = Order { terminal: Some(terminal), ..self.order(command, None)? };
        Ok(self.carry_out(order, &Progress::silent())?.exit)
    }

    fn order(&self, command: &[String], script: Option<&[u8]>) -> Result<Order> {
        if command.is_empty() && script.is_none() {
            return Err(Error::new(Kind::Usage, "there is no command to run in the sandbox"));
        }
        if self.tree.is_none() && (script.is_some() || !self.binds.is_empty()) {
            return Err(Error::new(
                Kind::Usage,
                "scripts and binds need a tree: this sandbox is for programs of the host",
            ));
        }
        let tree = self.tree.as_deref().map(checked_tree).transpose()?;
        Ok(Order {
            resolver: if self.network && tree.is_some() { stand_ins::host_resolver()? } else { None },
            tree: tree.map(|tree| tree.into_os_string().into_vec()),
            command: command.to_vec(),
            environment: self.environment.clone(),
            network: self.network,
            binds: Vec::new(),
            working_directory: self.working_directory.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
            processes: self.limits.processes,
            no_sync: self.no_sync,
            terminal: None,
            script: script.map(<[u8]>::to_vec),
            stdin: self.stdin.clone(),
        })
    }

    fn carry_out(&self, mut order: Order, progress: &Progress) -> Result<SandboxReport> {
        if !rustix::process::geteuid().is_root() {
            let what = format!("cannot run a command in `{}`: only root can", self.shown());
            return Err(Error::new(Kind::Unsupported, what).hint("run castoff as root, or do without this step"));
        }
        let Some(tree) = order.tree.clone() else { return self.supervise(&order, progress) };
        let tree = Path::new(OsStr::from_bytes(&tree));
        let binds = self.checked_binds()?;
        let machine_id = if self.keep_machine_id { Some(MachineId::note(tree)?) } else { None };
        let stand_ins = StandIns::make(tree, order.resolver.is_some(), &binds)?;
        order.binds = binds.into_iter().map(|(bind, _)| bind).collect();
        let report = self.supervise(&order, progress)?;
        stand_ins.take_away()?;
        machine_id.map_or(Ok(()), MachineId::put_back)?;
        Ok(report)
    }

    /// What is to be shown in the tree, and whether each is a folder.
    fn checked_binds(&self) -> Result<Vec<(Bind, bool)>> {
        let check = |(from, to, read_only): &(PathBuf, PathBuf, bool)| {
            let found = fs::metadata(from)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("there is no `{}` to show in the tree", from.display()))
            })?;
            let mut names = to.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
            let first = names.next();
            let is_taken = ["proc", "sys", "dev"].iter().any(|name| first == Some(Component::Normal(name.as_ref())));
            if first.is_none() || is_taken || to.components().any(|part| part == Component::ParentDir) {
                let what = format!("`{}` is no place in a tree to show something at", to.display());
                return Err(
                    Error::new(Kind::Refused, what).hint("name a path in the tree outside of /proc, /sys and /dev")
                );
            }
            let from = fs::absolute(from)?.as_os_str().as_bytes().to_vec();
            let to = to.as_os_str().as_bytes().to_vec();
            Ok((Bind { from, to, read_only: *read_only }, found.is_dir()))
        };
        self.binds.iter().map(check).collect()
    }
}

/// The tree as an absolute path, if a sandbox can be made of it.
fn checked_tree(tree: &Path) -> Result<PathBuf> {
    let shown = tree.display();
    let tree = fs::absolute(tree)?;
    match directory(&tree)? {
        None => Err(Error::new(Kind::NotFound, format!("`{shown}` is not a directory"))),
        own if own == directory(Path::new("/"))? => {
            Err(Error::new(Kind::Refused, format!("`{shown}` is this host's own root filesystem")))
        }
        Some(_) => Ok(tree),
    }
}

/// Which directory this is, if it is one.
fn directory(path: &Path) -> Result<Option<(u64, u64)>> {
    Ok(fs::metadata(path)?.filter(std::fs::Metadata::is_dir).map(|metadata| (metadata.dev(), metadata.ino())))
}
