//! Webhooks of the daemon, heard by a server of the test's; signatures judged by Python's hmac.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Castoff, program, succeed};

const SECRET: &str = "whsec_Y2FuYXJ5LWluLXRoZS13ZWJob29rLXNlY3JldA==";
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
struct Heard {
    headers: Vec<(String, String)>,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Answers these, one after another, then 204 for ever.
fn receiver(answers: Vec<&'static str>) -> (u16, Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut headers = Vec::new();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(line.starts_with("POST /hook?a=1 "), "{line}");
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.push((name.to_ascii_lowercase(), value.to_owned()));
            }
            let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = answers.next().unwrap_or("204 No Content");
            write!(reader.get_mut(), "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            if tell.send(Heard { headers, body: String::from_utf8(body).unwrap() }).is_err() {
                return;
            }
        }
    });
    (port, heard)
}

/// A daemon that ends with this value.
struct Daemon(Child);

impl Daemon {
    fn start(castoff: &Castoff) -> Self {
        let log = std::fs::File::create(castoff.scratch().join("log")).unwrap();
        let daemon = Self(castoff.command(["daemon"]).stderr(log).spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(castoff.scratch().join("castoff.sock")).is_err() {
            assert!(Instant::now() < until, "{}", std::fs::read_to_string(castoff.scratch().join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().expect("the daemon is ours");
        self.0.wait().expect("the daemon is ours");
    }
}

fn castoff(port: u16) -> Castoff {
    let castoff = Castoff::new();
    let secret = castoff.scratch().join("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    succeed(program("chmod").arg("600").arg(&secret));
    let socket = castoff.scratch().join("castoff.sock").display().to_string();
    castoff
        .with("CASTOFF_SOCKET", socket)
        .with("CASTOFF_NOTIFY_URL", format!("http://127.0.0.1:{port}/hook?a=1"))
        .with("CASTOFF_NOTIFY_SECRET_FILE", secret.display().to_string())
        .with("CASTOFF_NOTIFY_FUNCTIONS", "release.*, image.gc")
}

/// What Python makes of a signature.
fn signature(heard: &Heard) -> String {
    let script = "import base64,hashlib,hmac,sys\n\
        key = base64.b64decode(sys.argv[1].removeprefix('whsec_'))\n\
        print('v1,' + base64.b64encode(hmac.new(key, sys.argv[2].encode(), hashlib.sha256).digest()).decode())";
    let signed = format!("{}.{}.{}", heard.header("webhook-id"), heard.header("webhook-timestamp"), heard.body);
    succeed(program("python3").args(["-c", script, SECRET, &signed])).trim().to_owned()
}

#[test]
fn ends_of_jobs_are_told_signed_and_again_until_they_are_heard() {
    let (port, heard) = receiver(vec!["500 Internal Server Error"]);
    let castoff = castoff(port);
    let daemon = Daemon::start(&castoff);
    let output = castoff.command(["call", "--daemon", "release.resume"]).output().unwrap();
    assert!(!output.status.success(), "the addresses are those of makina-states' owners");

    let first = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(first.header("webhook-signature"), signature(&first));
    let body = first.body();
    assert_eq!((&body["type"], &body["data"]["function"]), (&"job.failed".into(), &"release.resume".into()), "{body}");
    assert!(body["data"]["error"].as_str().unwrap().contains("owners"), "{body}");
    assert_eq!(body["data"]["job"], first.header("webhook-id"));

    // Killed before it was heard: the next daemon tells it.
    drop(daemon);
    let _daemon = Daemon::start(&castoff);
    let second = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!((second.header("webhook-id"), &second.body), (first.header("webhook-id"), &first.body));
    assert_eq!(second.header("webhook-signature"), signature(&second));

    // What does not concern anybody is not told, and nothing is told twice.
    castoff.run(["call", "--daemon", "image.list"]);
    castoff.run(["call", "--daemon", "image.gc"]);
    let third = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (&third.body()["type"], &third.body()["data"]["function"]),
        (&"job.succeeded".into(), &"image.gc".into())
    );
    assert!(heard.recv_timeout(Duration::from_secs(5)).is_err(), "heard is heard");
    let log = std::fs::read_to_string(castoff.scratch().join("log")).unwrap();
    assert!(!log.contains("Y2FuYXJ5") && !log.contains("canary"), "{log}");
}

#[test]
fn a_receiver_without_a_whole_secret_is_refused_at_the_start() {
    let (port, _heard) = receiver(Vec::new());
    let castoff = castoff(port);
    for (content, said) in [("whsec_c2hvcnQ=\n", "holds no secret"), ("whsec_%%%\n", "holds no secret")] {
        std::fs::write(castoff.scratch().join("secret"), content).unwrap();
        let told = castoff.fail(["daemon"], 64);
        assert!(told.contains(said) && told.contains("hint: "), "{told}");
    }
    let told = castoff.with("CASTOFF_NOTIFY_SECRET_FILE", "none").fail(["daemon"], 64);
    assert!(told.contains("notify.secret_file") && told.contains("hint: "), "{told}");
}
