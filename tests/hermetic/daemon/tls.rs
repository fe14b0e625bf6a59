//! TCP: who may come in from outside, and as whom.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use super::{Daemon, PATIENCE, Place, Reply, request, wait_for};
use crate::ports::free_port;

/// SHA-256 of `reader`, `caller` and `late`, by `sha256sum`.
const ACCESS: &str = "
tokens:
  - name: reader
    sha256: 3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30
    scopes: ['pillar:web-*']
  - name: caller
    sha256: 61de55ba3388aec4fdf6ecfc6eef846fb0f1b13e28cc8381270c27ffa313aee5
    scopes: ['call:test.*', 'call:image.list']
  - name: late
    sha256: 089001a35679a33ef3db0ca350db9b9a2f0136e0e327577b04b3b98127470961
    scopes: ['call:*', 'pillar:*']
    expires: 2020-01-01T00:00:00Z
clients:
  - name: controller.example.net
    scopes: ['pillar:*', 'call:*']
";

/// The same of `caller` and of `next`.
const CALLER: &str = "61de55ba3388aec4fdf6ecfc6eef846fb0f1b13e28cc8381270c27ffa313aee5";
const NEXT: &str = "c6c1c9a9c8543f1e4cd980064cf1625eeb61a90703b2464fff039f21682508b3";

/// An authority and what it signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for this name, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn private(place: &Place, name: &str, text: &str) -> String {
    let path = place.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// An address that is this test's.
fn free() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn plain(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let method = if body.is_empty() { "GET" } else { "POST" };
    stream.write_all(request(method, path, headers, body).as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Reply::parse(&answer)
}

/// A place whose daemon listens on TCP with TLS.
struct Served {
    place: Place,
    authority: Authority,
    address: SocketAddr,
}

impl Served {
    fn new() -> Self {
        let (place, authority, address) = (Place::new(), Authority::new(), free());
        let (certificate, key) = authority.sign("localhost");
        let ca = private(&place, "ca.pem", &authority.pem);
        let certificate = private(&place, "server.pem", &certificate);
        let key = private(&place, "server.key", &key);
        let access = private(&place, "access.yaml", ACCESS);
        place.write("pillar/database.yaml", "vms: {lxc: {node: [web-1]}}\n");
        let root = place.path("pillar").display().to_string();
        let place = place
            .with("CASTOFF_PILLAR_ROOT", root)
            .with("CASTOFF_LISTEN", address.to_string())
            .with("CASTOFF_TLS_CERT", certificate)
            .with("CASTOFF_TLS_KEY", key)
            .with("CASTOFF_TLS_CLIENT_CA", ca)
            .with("CASTOFF_ACCESS_FILE", access);
        Self { place, authority, address }
    }

    /// An answer over TLS; the error of the handshake or the connection where there is none.
    fn ask(
        &self,
        identity: Option<&(String, String)>,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Reply> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        self.send(identity, &request(method, path, headers, body))
    }

    fn send(&self, identity: Option<&(String, String)>, request: &str) -> std::io::Result<Reply> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        let socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => return Err(error),
            _ => {}
        }
        if answer.is_empty() { Err(std::io::Error::other("closed")) } else { Ok(Reply::parse(&answer)) }
    }

    fn with_token(&self, token: &str, path: &str, body: &str) -> Reply {
        self.ask(None, path, &[("Authorization", &format!("Bearer {token}"))], body).unwrap()
    }
}

const PING: &str = r#"{"fun": "test.ping"}"#;

#[test]
fn tokens_may_what_their_scopes_name() {
    let served = Served::new();
    let daemon = served.place.daemon();
    assert_eq!(served.ask(None, "/healthz", &[], "").unwrap().status, 200);
    let nobody = served.ask(None, "/v1/call", &[], PING).unwrap();
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some("Bearer realm=\"castoff\"")));
    let unknown = served.with_token("readers", "/v1/pillar/web-1", "");
    assert_eq!(unknown.status, 401);
    assert!(unknown.json()["_errors"].is_array());
    assert_eq!(served.with_token("late", "/v1/call", PING).status, 401);
    assert_eq!(served.with_token("reader", "/v1/pillar/web-1", "").status, 200);
    assert_eq!(served.with_token("reader", "/v1/pillar/db-1", "").status, 403);
    assert_eq!(served.with_token("reader", "/v1/call", PING).status, 403);
    let many = served.with_token("reader", "/v1/pillar", r#"{"minions": ["web-1", "db-1"]}"#).json();
    assert!(many["pillars"]["web-1"].is_object() && many["pillars"]["db-1"].is_null(), "{many}");
    assert!(many["errors"]["db-1"].is_string(), "{many}");
    assert_eq!(served.with_token("caller", "/v1/call", PING).status, 200);
    assert_eq!(served.with_token("caller", "/v1/call", r#"{"fun": "image.gc"}"#).status, 403);
    assert_eq!(served.with_token("caller", "/v1/log-level", "").status, 403);
    // Its own jobs: none.
    let jobs = served.with_token("caller", "/v1/jobs", "");
    assert_eq!((jobs.status, &jobs.json()["jobs"]), (200, &json!([])));
    assert_eq!(served.with_token("caller", "/v1/functions", "").status, 200);
    assert!(daemon.stop().success());
    let log = served.place.log();
    assert!(log.contains("token caller") && !log.contains("Bearer"), "{log}");
}

#[test]
fn certificates_of_the_authority_are_known_by_their_names_and_others_shown_the_door() {
    let served = Served::new();
    let _daemon = served.place.daemon();
    let known = served.authority.sign("controller.example.net");
    assert_eq!(served.ask(Some(&known), "/v1/call", &[], PING).unwrap().status, 200);
    assert_eq!(served.ask(Some(&known), "/v1/pillar/db-1", &[], "").unwrap().status, 200);
    let unknown = served.authority.sign("somebody.example.net");
    assert_eq!(served.ask(Some(&unknown), "/v1/call", &[], PING).unwrap().status, 401);
    let foreign = Authority::new().sign("controller.example.net");
    assert!(served.ask(Some(&foreign), "/healthz", &[], "").is_err());
    // Plain HTTP at a TLS port ends there.
    let mut stream = TcpStream::connect(served.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn a_browser_cannot_be_made_to_call() {
    let served = Served::new();
    let _daemon = served.place.daemon();
    let known = served.authority.sign("controller.example.net");
    let reply = served.ask(Some(&known), "/v1/call", &[], PING).unwrap();
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
    let reply =
        served.send(Some(&known), &request("POST", "/v1/call", &[], PING).replace("application/json", "text/plain"));
    assert_eq!(reply.unwrap().status, 415);
}

#[test]
fn tls_and_tokens_are_read_again_at_sighup() {
    let served = Served::new();
    let daemon = served.place.daemon();
    assert_eq!(served.with_token("caller", "/v1/call", PING).status, 200);
    private(&served.place, "access.yaml", &ACCESS.replace(CALLER, NEXT));
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the new token", || (served.with_token("next", "/v1/call", PING).status == 200).then_some(()));
    assert_eq!(served.with_token("caller", "/v1/call", PING).status, 401);
    private(&served.place, "access.yaml", "tokens: nonsense");
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the refusal", || served.place.log().contains("configuration not reloaded").then_some(()));
    assert_eq!(served.with_token("next", "/v1/call", PING).status, 200);
}

#[test]
fn loopback_without_authentication_tells_how_it_is_and_nothing_else() {
    let address = free();
    let place = Place::new().with("CASTOFF_LISTEN", address.to_string());
    let _daemon: Daemon<'_> = place.daemon();
    assert_eq!(plain(address, "/healthz", &[], "").status, 200);
    let ready = plain(address, "/readyz", &[], "");
    assert_eq!((ready.status, ready.body.as_str()), (200, "{\"ready\":true}"));
    assert_eq!(plain(address, "/metrics", &[], "").status, 200);
    for path in ["/v1/functions", "/openapi.json", "/v1/jobs", "/v1/log-level", "/v1/pillar/web-1"] {
        assert_eq!(plain(address, path, &[], "").status, 401, "{path}");
    }
    for (path, body) in [("/v1/call", PING), ("/v1/pillar", r#"{"minions": ["a"]}"#)] {
        assert_eq!(plain(address, path, &[], body).status, 401, "{path}");
    }
}

#[test]
fn the_daemon_does_not_begin_where_strangers_could_come_in() {
    let place = Place::new();
    let authority = Authority::new();
    let (certificate, key) = authority.sign("localhost");
    let certificate = private(&place, "server.pem", &certificate);
    let key_file = private(&place, "server.key", &key);
    let access_file = private(&place, "access.yaml", ACCESS);
    let refused = |arguments: &[&str], part: &str| {
        let (code, _, stderr) = place.run(&[&["daemon"], arguments].concat());
        assert!(code != 0 && stderr.contains(part), "{arguments:?}: {code} {stderr}");
    };
    refused(&["--listen=0.0.0.0:0"], "without TLS and authentication");
    refused(&["--listen=[::]:0", "--access-file", &access_file], "without TLS and authentication");
    let tls = ["--tls-cert", certificate.as_str(), "--tls-key", key_file.as_str()];
    refused(&[&["--listen=0.0.0.0:0"], &tls[..]].concat(), "without TLS and authentication");
    refused(&[&["--listen=[::ffff:192.0.2.1]:0"], &tls[..]].concat(), "without TLS and authentication");
    refused(&["--tls-cert", &certificate], "in part");
    refused(&["--tls-client-ca", &certificate], "in part");
    let loose = |path: &str| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    loose(&key_file);
    refused(&tls, "others may read or change");
    loose(&access_file);
    refused(&["--access-file", &access_file], "others may read or change");
    let other = private(&place, "other.key", &authority.sign("other").1);
    refused(&["--tls-cert", &certificate, "--tls-key", &other], "do not fit");
    refused(&["--tls-cert", &certificate, "--tls-key", &certificate], "holds no private key");
}
