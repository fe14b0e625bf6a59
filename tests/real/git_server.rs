//! A real sshd on loopback with a bare repository behind it, made by git and judged by git.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use castoff::publish::git::{Credential, Git};
use castoff::ssh::{Pin, Trusted};

use crate::harness::{program, require_root, succeed};

/// The branch that is published to.
pub(crate) const BRANCH: &str = "main";

/// Runs git on a repository; what it printed, trimmed.
pub(crate) fn git(repository: &Path, arguments: &[&str]) -> String {
    let mut command = program("git");
    command.arg("-C").arg(repository).args(["-c", "user.name=someone", "-c", "user.email=someone@example.net"]);
    succeed(command.args(arguments).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent")).trim_end().to_owned()
}

/// A bare repository with one commit on the branch.
pub(crate) fn bare(path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    git(path, &["init", "-q", "--bare", "-b", BRANCH]);
    let empty = git(path, &["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let commit = git(path, &["commit-tree", "-m", "begin", &empty]);
    git(path, &["update-ref", &format!("refs/heads/{BRANCH}"), &commit]);
}

/// A commit on top of the branch that adds one file; the branch stays where it is.
pub(crate) fn other_commit(repository: &Path, name: &str, content: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let blob = git(repository, &["hash-object", "-w", file.path().to_str().unwrap()]);
    let index = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = program("git");
        command.arg("-C").arg(repository).args(["-c", "user.name=other", "-c", "user.email=other@example.net"]);
        succeed(command.args(arguments).env("GIT_INDEX_FILE", index.path().join("index"))).trim_end().to_owned()
    };
    run(&["read-tree", BRANCH]);
    run(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{name}")]);
    let tree = run(&["write-tree"]);
    run(&["commit-tree", "-p", BRANCH, "-m", "unrelated", &tree])
}

/// Writes a hook of the repository.
pub(crate) fn hook(repository: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = repository.join("hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A server with one repository, ended with this value.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// A server whose host keys are ed25519 and RSA; `key` may log in.
    pub(crate) fn start() -> Self {
        require_root();
        let folder = tempfile::tempdir().unwrap();
        let keygen = |kind: &str, name: &str, passphrase: &str| {
            let file = folder.path().join(name);
            succeed(program("ssh-keygen").args(["-q", "-N", passphrase, "-t", kind, "-f"]).arg(file));
        };
        keygen("ed25519", "host_ed25519", "");
        keygen("rsa", "host_rsa", "");
        keygen("ed25519", "key", "");
        keygen("ed25519", "locked", "canary-passphrase");
        keygen("ed25519", "stranger", "");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join("authorized"), read("key.pub") + &read("locked.pub")).unwrap();
        bare(&folder.path().join("images.git"));
        // sshd asks for the folder it would unpack privileges in, wherever its configuration is.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let (port, child) = Self::listen(folder.path());
        Self { folder, port, child }
    }

    fn listen(folder: &Path) -> (u16, Child) {
        let shown = folder.display();
        loop {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host_ed25519\nHostKey {shown}/host_rsa\n\
                 AuthorizedKeysFile {shown}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 PermitRootLogin prohibit-password\nPidFile none\nMaxStartups 100\nMaxSessions 100\nLogLevel VERBOSE\n"
            );
            std::fs::write(folder.join("sshd_config"), config).unwrap();
            let log = std::fs::File::create(folder.join("log")).unwrap();
            let mut child = program("sshd")
                .args(["-D", "-e", "-f"])
                .arg(folder.join("sshd_config"))
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let until = Instant::now() + Duration::from_secs(60);
            loop {
                if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    let mut banner = String::new();
                    if BufReader::new(stream).read_line(&mut banner).is_ok() && banner.starts_with("SSH-2.0") {
                        return (port, child);
                    }
                }
                if child.try_wait().unwrap().is_some() {
                    let log = std::fs::read_to_string(folder.join("log")).unwrap();
                    // Somebody else took the port in between.
                    assert!(log.contains("Address already in use"), "{log}");
                    break;
                }
                assert!(Instant::now() < until, "sshd does not answer");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("images.git")
    }

    /// What sshd has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) fn pin(&self, name: &str) -> Pin {
        std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap().parse().unwrap()
    }

    /// These pins and no others.
    pub(crate) fn pinned(&self, pins: Vec<Pin>) -> Trusted {
        Trusted::pinned("127.0.0.1", self.port, pins)
    }

    pub(crate) fn address(&self) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, self.repository().display())
    }

    /// The branch as castoff reaches it, with the right key and pin.
    pub(crate) fn client(&self, state: &Path) -> Git {
        Git::new(self.address().parse().unwrap(), BRANCH, state)
            .program(env!("CARGO_BIN_EXE_castoff"))
            .credentials(vec![Credential::File(self.path("key"), None)])
            .trusted(self.pinned(vec![self.pin("host_ed25519")]))
            .deadline(Duration::from_secs(300))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
