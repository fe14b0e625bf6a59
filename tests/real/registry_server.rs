//! Debian's docker-registry on loopback, and a server before it that behaves badly on request.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{program, succeed};
use crate::ports::free_port;

const PROXY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/registry_proxy.py");

/// A server that ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Server {
    fn start(mut command: Command, port: u16, log: &Path) -> Self {
        let errors = std::fs::File::create(log.with_extension("stderr")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        let server = Self { child, port, log: log.to_owned() };
        let until = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < until, "{command:?} does not listen: see {}", log.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// A registry that keeps its content in this folder.
    pub(crate) fn registry(folder: &Path, auth: &str) -> Self {
        Self::registry_with(folder, auth, &[])
    }

    /// The same with TLS: the files of its certificate and its key.
    pub(crate) fn registry_over_tls(folder: &Path, auth: &str, (certificate, key): (&Path, &Path)) -> Self {
        Self::registry_with(folder, auth, &[("CERTIFICATE", certificate), ("KEY", key)])
    }

    fn registry_with(folder: &Path, auth: &str, tls: &[(&str, &Path)]) -> Self {
        let port = free_port();
        let configuration = folder.with_extension(format!("{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}",
            folder.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = program("docker-registry");
        command.arg("serve").arg(&configuration).env("OTEL_TRACES_EXPORTER", "none");
        command.envs(tls.iter().map(|(name, path)| (format!("REGISTRY_HTTP_TLS_{name}"), path)));
        Self::start(command, port, &configuration)
    }

    /// A server before a registry, with faults as `registry_proxy.py` knows them.
    pub(crate) fn before(registry: &Self, folder: &Path, faults: &[&str]) -> Self {
        let port = free_port();
        let log = folder.join(format!("proxy-{port}.log"));
        let mut command = program("python3");
        command.arg(PROXY).args([port.to_string(), registry.port.to_string()]).arg(&log).args(faults);
        Self::start(command, port, &log)
    }

    /// A server that gives out tokens, and the key and certificate that they are signed with.
    pub(crate) fn tokens(folder: &Path, port: u16, (user, password): (&str, &str)) -> Self {
        let (key, certificate) = (folder.join("token.key"), folder.join("token.pem"));
        let mut openssl = program("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=castoff-test",
            "-days",
            "2",
            "-keyout",
        ]);
        succeed(openssl.arg(&key).arg("-out").arg(&certificate));
        let log = folder.join("tokens.log");
        let mut command = program("python3");
        command.arg(PROXY).arg("--tokens").arg(port.to_string()).arg(&key).arg(&certificate).args([user, password]);
        command.arg(&log);
        Self::start(command, port, &log)
    }

    /// What it was asked.
    pub(crate) fn asked(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The GETs of blobs it was asked for.
    pub(crate) fn blobs(&self) -> Vec<Value> {
        let is_blob =
            |asked: &Value| asked["method"] == "GET" && asked["path"].as_str().unwrap().contains("/blobs/sha256:");
        self.asked().into_iter().filter(is_blob).collect()
    }

    /// A name in it.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("docker://127.0.0.1:{}/{rest}", self.port)
    }
}

/// skopeo, which talks to the tests' registries without TLS.
pub(crate) fn skopeo(arguments: &[&str]) -> String {
    let mut command = program("skopeo");
    command.args(["--insecure-policy"]).arg(arguments[0]);
    let is_copy = arguments[0] == "copy";
    command.args(if is_copy {
        &["-q", "--src-tls-verify=false", "--dest-tls-verify=false"][..]
    } else {
        &["--tls-verify=false"]
    });
    succeed(command.args(&arguments[1..]))
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
