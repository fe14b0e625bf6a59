//! Real servers for the publishers: sshd, Apache with WebDAV, and a proxy that can be slow, count, hold and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{program, succeed};
use crate::ports::free_port;

/// Waits until the condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited 60 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child that is stopped with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Asked politely, a server stops its own children too.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _reaped = self.0.wait();
    }
}

/// A new key pair without a passphrase; the private file.
pub(crate) fn key(folder: &Path, name: &str, kind: &str) -> PathBuf {
    let file = folder.join(name);
    succeed(program("ssh-keygen").args(["-q", "-N", "", "-C", name, "-t", kind, "-f"]).arg(&file));
    file
}

/// The line of a public key, without its comment.
pub(crate) fn public(file: &Path) -> String {
    let text = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// An OpenSSH server on a free port of the loopback, with host keys and one user's key of its own.
pub(crate) struct Sshd {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    process: Mutex<Option<Running>>,
}

impl Sshd {
    /// A server; `more` is added to its configuration.
    pub(crate) fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        for kind in ["ed25519", "ecdsa", "rsa"] {
            key(folder.path(), &format!("host_{kind}"), kind);
        }
        let user = key(folder.path(), "id", "ed25519");
        std::fs::copy(user.with_extension("pub"), folder.path().join("authorized")).unwrap();
        let server = Self { folder, port: free_port(), process: Mutex::new(None) };
        server.run(more);
        server
    }

    fn run(&self, more: &str) {
        let folder = self.folder.path().display();
        let port = self.port;
        let text = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nHostKey {folder}/host_ed25519\nHostKey {folder}/host_ecdsa\n\
             HostKey {folder}/host_rsa\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\nMaxStartups 100\n{more}\n"
        );
        std::fs::write(self.path("sshd_config"), text).unwrap();
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = program("sshd");
        let path = command.get_program().to_owned();
        command = Command::new(path);
        let child = command.args(["-D", "-e", "-f"]).arg(self.path("sshd_config")).stderr(log).spawn().unwrap();
        *self.process.lock().unwrap() = Some(Running(child));
        until("sshd", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder to publish to.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// A known_hosts file that trusts the server's key of this type at these ports.
    pub(crate) fn known_hosts(&self, kind: &str, ports: &[u16]) -> PathBuf {
        let line = public(&self.path(&format!("host_{kind}")));
        let text: String = ports.iter().map(|port| format!("[127.0.0.1]:{port} {line}\n")).collect();
        let file = self.path(&format!("known_hosts_{kind}_{}", ports[0]));
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Lets another key in.
    pub(crate) fn authorize(&self, key: &Path) {
        let mut text = std::fs::read_to_string(self.path("authorized")).unwrap();
        text += &std::fs::read_to_string(key.with_extension("pub")).unwrap();
        std::fs::write(self.path("authorized"), text).unwrap();
    }
}

/// Apache with WebDAV below `/dav/`, which only `me` with the password may use.
pub(crate) struct Apache {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    _process: Running,
}

pub(crate) const PASSWORD: &str = "canary-of-the-password";

impl Apache {
    pub(crate) fn start(tls: bool) -> Self {
        Self::start_with(tls, "")
    }

    /// A server; `more` is added to its configuration.
    pub(crate) fn start_with(tls: bool, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["dav", "logs", "locks"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        succeed(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
                .args([
                    "-subj",
                    "/CN=localhost",
                    "-addext",
                    "subjectAltName=DNS:localhost",
                    "-addext",
                    "basicConstraints=CA:FALSE",
                    "-days",
                    "2",
                ])
                .arg("-keyout")
                .arg(path.join("key.pem"))
                .arg("-out")
                .arg(path.join("cert.pem"))
                .stderr(Stdio::null()),
        );
        let hash = succeed(Command::new("openssl").args(["passwd", "-apr1", PASSWORD]));
        std::fs::write(path.join("users"), format!("me:{hash}")).unwrap();
        std::fs::write(path.join("password"), format!("{PASSWORD}\n")).unwrap();
        std::fs::set_permissions(path.join("password"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let port = free_port();
        std::fs::write(path.join("conf"), configuration(path, port, tls) + more).unwrap();
        succeed(Command::new("chown").args(["-R", "www-data:www-data"]).arg(path));
        let apache = program("apache2").get_program().to_owned();
        let child = Command::new(apache).args(["-DFOREGROUND", "-f"]).arg(path.join("conf")).spawn().unwrap();
        let apache = Self { port, _process: Running(child), folder };
        until("apache", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        apache
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn configuration(path: &Path, port: u16, tls: bool) -> String {
    let modules = "/usr/lib/apache2/modules";
    let load: String = [
        "mpm_event",
        "authz_core",
        "authz_user",
        "authn_core",
        "authn_file",
        "auth_basic",
        "dav",
        "dav_fs",
        "ssl",
        "socache_shmcb",
        "headers",
        "rewrite",
    ]
    .iter()
    .map(|name| format!("LoadModule {name}_module {modules}/mod_{name}.so\n"))
    .collect();
    let folder = path.display();
    let ssl = if tls {
        format!("SSLEngine on\nSSLCertificateFile {folder}/cert.pem\nSSLCertificateKeyFile {folder}/key.pem\n")
    } else {
        String::new()
    };
    format!(
        "ServerRoot {folder}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\nMutex posixsem\nErrorLog {folder}/logs/error\n\
         User www-data\nGroup www-data\n{load}DocumentRoot {folder}\nDavLockDB {folder}/locks/db\nLimitRequestBody 0\n{ssl}\
         <Directory />\nRequire all denied\n</Directory>\n<Directory {folder}/dav>\nDav On\nAuthType Basic\nAuthName castoff\n\
         AuthUserFile {folder}/users\nRequire user me\n</Directory>\n"
    )
}

/// A proxy to one port: it delays, counts, holds back replies and cuts.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that came from clients.
    sent: AtomicU64,
    /// All connections are cut when `sent` reaches this, once.
    cut_at: AtomicU64,
    /// Bytes that went to clients.
    received: AtomicU64,
    /// All connections are cut when `received` reaches this, once.
    cut_received_at: AtomicU64,
    hold_replies: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            cut_at: AtomicU64::new(u64::MAX),
            cut_received_at: AtomicU64::new(u64::MAX),
            ..State::default()
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else { continue };
                let mut connections = shared.connections.lock().unwrap();
                connections.push(client.try_clone().unwrap());
                connections.push(server.try_clone().unwrap());
                drop(connections);
                let (back, front) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (up, down) = (Arc::clone(&shared), Arc::clone(&shared));
                std::thread::spawn(move || up.carry(client, server, true));
                std::thread::spawn(move || down.carry(back, front, false));
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }

    pub(crate) fn received(&self) -> u64 {
        self.state.received.load(Ordering::SeqCst)
    }

    pub(crate) fn cut_received_at(&self, bytes: u64) {
        self.state.cut_received_at.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn cut_at(&self, bytes: u64) {
        self.state.cut_at.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn hold_replies(&self, hold: bool) {
        self.state.hold_replies.store(hold, Ordering::SeqCst);
    }

    pub(crate) fn cut(&self) {
        self.state.cut();
    }
}

impl State {
    fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            let _closed = connection.shutdown(Shutdown::Both);
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, up: bool) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            while !up && self.hold_replies.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let (counter, limit) =
                if up { (&self.sent, &self.cut_at) } else { (&self.received, &self.cut_received_at) };
            let carried = counter.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
            let cut_at = limit.load(Ordering::SeqCst);
            if carried >= cut_at && limit.compare_exchange(cut_at, u64::MAX, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                self.cut();
                return;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _closed = to.shutdown(Shutdown::Both);
        let _closed = from.shutdown(Shutdown::Both);
    }
}
