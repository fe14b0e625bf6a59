//! Publishing to real servers: one contract for every place, then what each can suffer.

mod contract;
mod kill;
mod login;
pub(crate) mod servers;
mod sftp;
mod watched;
mod web;

use std::path::{Path, PathBuf};
use std::process::Command;

use castoff::error::Result;
use castoff::progress::{Cancel, Progress};
use castoff::publish::{Access, Content, RemoteName, RemoteStore, Target, Tier, Upload, Uploaded, open};
use castoff::ssh::{Files, Operator, Wishes};
use castoff::vocab::Digest;

use crate::harness::{program, require_root, succeed};
use servers::Sshd;

/// A file with content that does not repeat, and what `sha256sum` says of it.
struct Sample {
    _folder: tempfile::TempDir,
    path: PathBuf,
    content: Content,
}

impl Sample {
    fn new(size: usize, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content");
        let mut state = seed | 1;
        let words = (0..size.div_ceil(8)).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let bytes: Vec<u8> = words.take(size).collect();
        std::fs::write(&path, bytes).unwrap();
        let content = Content::open(&path, size as u64, sha256sum(&path)).unwrap();
        Self { _folder: folder, path, content }
    }

    fn is_at(&self, place: &Path) -> bool {
        Command::new("cmp").arg("-s").arg(&self.path).arg(place).status().unwrap().success()
    }
}

fn sha256sum(path: &Path) -> Digest {
    let text = succeed(Command::new("sha256sum").arg(path));
    format!("sha256:{}", &text[..64]).parse().unwrap()
}

fn operator(home: &Path) -> Operator {
    Operator { user: "root".to_owned(), home: home.to_owned(), agent: None }
}

fn name(text: &str) -> RemoteName {
    text.parse().unwrap()
}

/// What a target says to reach the server at this port.
fn access(sshd: &Sshd, port: u16) -> Access {
    Access {
        wishes: Wishes {
            identity_files: vec![sshd.path("id")],
            known_hosts: vec![sshd.known_hosts("ed25519", &[port])],
            pins: Vec::new(),
        },
        ssh_configuration: Files::Nothing,
        ..Access::default()
    }
}

fn connect(sshd: &Sshd, port: u16, folder: &Path) -> Result<Box<dyn RemoteStore>> {
    connect_as(sshd, port, folder, &access(sshd, port))
}

fn connect_as(sshd: &Sshd, port: u16, folder: &Path, access: &Access) -> Result<Box<dyn RemoteStore>> {
    let target: Target = format!("sftp://root@127.0.0.1:{port}{}", folder.display()).parse().unwrap();
    open(&target, access, &operator(&sshd.path("")), &Cancel::new())
}

/// One upload with no wishes but these.
struct Run<'a> {
    sample: &'a Sample,
    name: &'a str,
    minimum: Tier,
    retries: u32,
    progress: Progress,
    cancel: Cancel,
}

impl<'a> Run<'a> {
    fn of(sample: &'a Sample, name: &'a str) -> Self {
        let progress = Progress::silent();
        Self { sample, name, minimum: Tier::ReadBack, retries: 0, progress, cancel: Cancel::new() }
    }

    fn with<T>(&self, work: impl FnOnce(&Upload<'_>) -> T) -> T {
        let name = name(self.name);
        work(&Upload {
            content: &self.sample.content,
            name: &name,
            minimum: self.minimum,
            retries: self.retries,
            progress: &self.progress,
            cancel: &self.cancel,
        })
    }

    fn run(&self, store: &mut dyn RemoteStore, safe: u64) -> Result<Uploaded> {
        self.with(|upload| upload.run(store, safe, &mut |_| Ok(())))
    }

    fn temporary(&self) -> String {
        format!("{}.{}.part", self.name, &self.sample.content.digest().hex()[..16])
    }
}

/// A file system of its own, unmounted with this value.
pub(crate) struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    pub(crate) fn mount(folder: &'a Path, size: &str) -> Self {
        require_root();
        succeed(program("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "castoff-test"]).arg(folder));
        Self(folder)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _gone = program("umount").args(["-l"]).arg(self.0).status();
    }
}
