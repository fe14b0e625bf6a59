//! What consumers see, each in the way it reads: a clone of the branch, a checkout with version and MD5 files, files by sftp.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use md5::Digest as _;

use super::{IMAGE, World};
use crate::git_server::BRANCH;
use crate::harness::{program, succeed};

/// The hexadecimal digits of a digest.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn version(bytes: &[u8]) -> u32 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// A `git cat-file --batch` on the bare repository: what a reader of the branch sees, commit by commit.
pub(super) struct Branch {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Branch {
    pub(super) fn of(repository: &Path) -> Self {
        let mut child = program("git")
            .arg("-C")
            .arg(repository)
            .args(["cat-file", "--batch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asks, answers }
    }

    /// The object's name and content.
    fn object(&mut self, name: &str) -> Option<(String, Vec<u8>)> {
        writeln!(self.asks, "{name}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, _, size] = words[..] else { return None };
        let mut content = vec![0; size.parse::<usize>().ok()? + 1];
        self.answers.read_exact(&mut content).unwrap();
        content.pop();
        Some((id.to_owned(), content))
    }

    /// The number at the tip, whose three files say the same and whose file is whole in each of the folders; 0 where
    /// there is none.
    pub(super) fn whole(&mut self, folders: &[&Path]) -> u32 {
        let (tip, _) = self.object(BRANCH).expect("the branch has a commit");
        let mut file = |name: &str| self.object(&format!("{tip}:versions/{IMAGE}-lxc_{name}")).map(|(_, bytes)| bytes);
        let (manifest, signature) = (file("manifest.json"), file("manifest.json.sig"));
        let (number, md5) = (file("version.txt"), file("version.txt.md5"));
        let (Some(manifest), Some(number), Some(md5)) = (manifest, number, md5) else {
            return 0;
        };
        assert!(signature.is_some(), "a manifest without its signature in {tip}");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let artefact = &manifest["artefacts"][0];
        assert_eq!(manifest["version"], version(&number), "{tip}");
        assert_eq!(artefact["md5"].as_str().unwrap().as_bytes(), md5, "{tip}");
        for folder in folders {
            let path = folder.join(artefact["name"].as_str().unwrap());
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(bytes.len() as u64, artefact["size"].as_u64().unwrap(), "{}", path.display());
            let sum = format!("sha256:{}", hex(&sha2::Sha256::digest(&bytes)));
            assert_eq!(artefact["sha256"], sum, "{}", path.display());
        }
        version(&number)
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A reader of old releases: version file, MD5 file, `IMAGE-FLAVOUR-VERSION.tar.xz`.
pub(super) struct Legacy {
    files: PathBuf,
    served: PathBuf,
}

/// What such a reader made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// This release, its file being what the MD5 says.
    Release(u32),
    /// The MD5 is not that of the version's file: it is refused, and looked at again.
    Refused,
}

impl Legacy {
    pub(super) fn of(checkout: &Path, served: &Path) -> Self {
        Self { files: checkout.join(format!("versions/{IMAGE}-lxc_version.txt")), served: served.to_owned() }
    }

    pub(super) fn look(&self) -> Seen {
        let Ok(number) = std::fs::read(&self.files) else { return Seen::Nothing };
        let Ok(md5) = std::fs::read(self.files.with_extension("txt.md5")) else { return Seen::Refused };
        let path = self.served.join(format!("{IMAGE}-lxc-{}.tar.xz", version(&number)));
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("a version without {}: {error}", path.display()));
        if hex(&md5::Md5::digest(&bytes)).as_bytes() == md5 { Seen::Release(version(&number)) } else { Seen::Refused }
    }

    /// Looks again where it was refused, which must not last.
    pub(super) fn settled(&self) -> Seen {
        for _ in 0..20 {
            match self.look() {
                Seen::Refused => std::thread::sleep(Duration::from_millis(5)),
                seen => return seen,
            }
        }
        panic!("the version and MD5 files do not fit each other for longer than a moment");
    }
}

impl World {
    /// The number that a new clone of the branch tells, judged by git, sftp, sha256sum, md5sum and ssh-keygen.
    pub(super) fn cloned(&self) -> u32 {
        let folder = tempfile::tempdir().unwrap();
        let clone = folder.path().join("clone");
        succeed(program("git").args(["clone", "-q"]).arg(self.repository()).arg(&clone));
        let path = |name: &str| clone.join(format!("versions/{IMAGE}-lxc_{name}"));
        let Ok(number) = std::fs::read(path("version.txt")) else { return 0 };
        let number = version(&number);
        let name = format!("{IMAGE}-lxc-{number}.tar.xz");
        let fetched = folder.path().join(&name);
        let known = self.sshd.known_hosts("ed25519", &[self.sshd.port]);
        succeed(
            program("sftp")
                .args(["-q", "-P", &self.sshd.port.to_string(), "-F", "/dev/null", "-i"])
                .arg(self.sshd.path("id"))
                .args(["-o", &format!("UserKnownHostsFile={}", known.display())])
                .arg(format!("root@127.0.0.1:{}/{name}", self.images().display()))
                .arg(&fetched),
        );
        let sum = |program: &str| {
            let printed = succeed(Command::new(program).arg(&fetched));
            printed.split_whitespace().next().unwrap().to_owned()
        };
        let text = std::fs::read_to_string(path("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(manifest["version"], number);
        assert_eq!(manifest["artefacts"][0]["name"], name);
        assert_eq!(manifest["artefacts"][0]["sha256"], format!("sha256:{}", sum("sha256sum")));
        assert_eq!(std::fs::read_to_string(path("version.txt.md5")).unwrap(), sum("md5sum"));
        self.judge(&text, &std::fs::read_to_string(path("manifest.json.sig")).unwrap());
        number
    }
}
