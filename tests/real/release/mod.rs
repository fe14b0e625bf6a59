//! Whole releases by the real binary, to a real sshd and a bare repository behind it, judged by git, sftp, sha256sum,
//! md5sum and ssh-keygen.

mod back;
mod chain;
mod consumers;
mod corrupt;
mod faults;
mod glue;
mod hostile;
mod kill;
mod matrix;
mod publishers;
mod readers;
mod secrets;
mod sf;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::git_server::{BRANCH, bare, git};
use crate::harness::{Castoff, program, succeed};
use crate::publish::servers::{Sshd, key};

/// The image that is released.
const IMAGE: &str = "debian";

/// A server with a repository and a folder, and a castoff that releases there.
struct World {
    sshd: Sshd,
    castoff: Castoff,
}

impl World {
    /// One target, `main`, behind the server at its own port.
    fn new() -> Self {
        let sshd = Sshd::start("");
        bare(&sshd.path("images.git"));
        sshd.target("images");
        key(&sshd.path(""), "signer", "ed25519");
        std::fs::write(sshd.path("ssh_config"), "").unwrap();
        let world = Self { sshd, castoff: Castoff::new() };
        world.configure(world.sshd.port, "");
        world
    }

    fn repository(&self) -> PathBuf {
        self.sshd.path("images.git")
    }

    fn images(&self) -> PathBuf {
        self.sshd.path("images")
    }

    /// What the target `main` is configured as, through this port.
    fn target(&self, port: u16, folder: &Path) -> String {
        let known = self.sshd.known_hosts("ed25519", &[port, self.sshd.port]);
        format!(
            "{{url: 'sftp://root@127.0.0.1:{port}{}', identity_file: {}, known_hosts: {}}}",
            folder.display(),
            self.sshd.path("id").display(),
            known.display()
        )
    }

    /// Writes the configuration: the target through this port, and more keys below `release`.
    fn configure(&self, port: u16, more: &str) {
        let target = self.target(port, &self.images());
        self.configure_targets(&format!("{{main: {target}}}"), more);
    }

    fn configure_targets(&self, targets: &str, more: &str) {
        let known = self.sshd.known_hosts("ed25519", &[self.sshd.port]);
        let path = |name: &str| self.sshd.path(name).display().to_string();
        let text = format!(
            "settings:\n  makina-states.cloud.images: {{git_url: 'ssh://root@127.0.0.1:{}{}'}}\n\
             release:\n  branch: {BRANCH}\n  git_identity_file: {}\n  git_known_hosts: {}\n  ssh_configuration: {}\n  \
             signing_key: {}\n  targets: {targets}\n{more}",
            self.sshd.port,
            path("images.git"),
            path("id"),
            known.display(),
            path("ssh_config"),
            path("signer"),
        );
        std::fs::write(self.castoff.scratch().join("castoff.yaml"), text).unwrap();
    }

    /// The repository by its path from now on, without ssh.
    fn publish_locally(&self) {
        let file = self.castoff.scratch().join("castoff.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let far = format!("ssh://root@127.0.0.1:{}{}", self.sshd.port, self.repository().display());
        std::fs::write(&file, text.replace(&far, self.repository().to_str().unwrap())).unwrap();
    }

    /// Adds keys below `release`.
    fn configure_more(&self, more: &str) {
        let file = self.castoff.scratch().join("castoff.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + more).unwrap();
    }

    /// The same world for another publisher, who has nothing in common with this one but the server.
    fn another(&self, folder: &str) -> Castoff {
        let other = Castoff::new();
        let text = std::fs::read_to_string(self.castoff.scratch().join("castoff.yaml")).unwrap();
        self.sshd.target(folder);
        let text =
            text.replace(&format!("{}'", self.images().display()), &format!("{}'", self.sshd.path(folder).display()));
        std::fs::write(other.scratch().join("castoff.yaml"), text).unwrap();
        other
    }

    /// A call by this castoff, with castoff's own exit codes.
    fn call(&self, arguments: &[&str]) -> Command {
        call(&self.castoff, arguments)
    }

    /// Releases the file; what castoff returned.
    fn publish(&self, file: &Path) -> serde_json::Value {
        answer(self.call(&["release.publish", IMAGE, "lxc", file.to_str().unwrap()]))
    }

    /// Tries to release the file, which must fail with this code; what was said.
    fn fail(&self, file: &Path, code: i32) -> String {
        let output = self.call(&["release.publish", IMAGE, "lxc", file.to_str().unwrap()]).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }

    /// An archive of one file with this content, made by tar and xz.
    fn archive(&self, content: &str) -> PathBuf {
        let folder = self.castoff.scratch().join(format!("tree-{content}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("content"), content).unwrap();
        self.packed(&folder, content)
    }

    /// An archive of so many bytes that cannot be compressed.
    fn large(&self, name: &str, mebibytes: usize) -> PathBuf {
        let folder = self.castoff.scratch().join(format!("tree-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        let file = std::fs::File::create(folder.join("content")).unwrap();
        succeed(Command::new("head").args(["-c", &format!("{mebibytes}M"), "/dev/urandom"]).stdout(file));
        self.packed(&folder, name)
    }

    fn packed(&self, folder: &Path, name: &str) -> PathBuf {
        let path = self.castoff.scratch().join(format!("{name}.tar.xz"));
        succeed(program("tar").env("XZ_OPT", "-0").arg("-cJf").arg(&path).arg("-C").arg(folder).arg("."));
        path
    }

    /// The number that consumers see, having looked at everything they are told; 0 where nothing is announced.
    fn served(&self) -> u32 {
        self.served_from(&self.images())
    }

    fn served_from(&self, folder: &Path) -> u32 {
        let number = crate::git::whole(&self.repository(), IMAGE);
        if number == 0 {
            return 0;
        }
        let show = |name: &str| git(&self.repository(), &["show", &format!("{BRANCH}:versions/{IMAGE}-lxc_{name}")]);
        // git() trims the final newline, which is signed too.
        let text = show("manifest.json") + "\n";
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let artefact = &manifest["artefacts"][0];
        let file = folder.join(artefact["name"].as_str().unwrap());
        let sum = |program: &str| {
            let printed = succeed(Command::new(program).arg(&file));
            printed.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(format!("sha256:{}", sum("sha256sum")), artefact["sha256"].as_str().unwrap());
        assert_eq!(sum("md5sum"), show("version.txt.md5"));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), artefact["size"].as_u64().unwrap());
        self.judge(&text, &(show("manifest.json.sig") + "\n"));
        number
    }

    /// Has ssh-keygen judge a signature.
    fn judge(&self, manifest: &str, signature: &str) {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let public = std::fs::read_to_string(self.sshd.path("signer.pub")).unwrap();
        std::fs::write(folder.path().join("allowed"), format!("castoff {public}")).unwrap();
        std::fs::write(folder.path().join("sig"), signature).unwrap();
        let mut child = program("ssh-keygen")
            .args(["-Y", "verify", "-n", "castoff-release", "-I", "castoff", "-f"])
            .arg(folder.path().join("allowed"))
            .arg("-s")
            .arg(folder.path().join("sig"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// The journal of a release.
    fn journal(&self, number: u32) -> PathBuf {
        self.castoff.state().join(format!("release/journal/{IMAGE}/lxc/{number}.jsonl"))
    }
}

fn call(castoff: &Castoff, arguments: &[&str]) -> Command {
    let mut command = castoff.command(["call", "--out=json", "--retcode-passthrough"].iter().chain(arguments));
    command.env("CASTOFF_CONFIG", castoff.scratch().join("castoff.yaml"));
    command
}

/// What a call returned, which must succeed.
fn answer(mut command: Command) -> serde_json::Value {
    let text = succeed(&mut command);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
    json["local"].clone()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
