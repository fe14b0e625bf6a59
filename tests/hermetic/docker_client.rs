//! The Docker client against engines that misbehave: a few lines of HTTP each, on a loopback port.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use castoff::engine::docker::{Address, Docker};
use castoff::error::Kind;
use castoff::progress::Progress;
use castoff::vocab::EngineImage;

const VERSION: &str =
    r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12","Os":"linux","Arch":"amd64"}"#;
const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An engine that answers each path with what `answer` writes and then closes; its address and the paths it heard.
fn engine<F>(answer: F) -> (String, Arc<Mutex<Vec<String>>>)
where
    F: Fn(&str, &mut TcpStream) + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let paths = Arc::clone(&heard);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
            let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
            lines.find(|line| line.as_ref().unwrap().is_empty());
            paths.lock().unwrap().push(path.clone());
            answer(&path, &mut client);
        }
    });
    (address, heard)
}

fn json(client: &mut TcpStream, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    client.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).unwrap();
}

/// Chunks of a response that ends, or does not.
fn chunks(client: &mut TcpStream, chunks: &[&[u8]], end: bool) {
    client.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").unwrap();
    for chunk in chunks {
        client.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
        client.write_all(chunk).unwrap();
        client.write_all(b"\r\n").unwrap();
    }
    if end {
        client.write_all(b"0\r\n\r\n").unwrap();
    }
}

fn image_json() -> String {
    format!(r#"{{"Id":"{ID}","RepoTags":["a:b"],"Size":4096,"RootFS":{{"Type":"layers","Layers":["{ID}"]}}}}"#)
}

#[test]
fn the_agreed_version_is_in_every_path() {
    let (address, heard) = engine(|path, client| json(client, if path.contains("images") { "[]" } else { VERSION }));
    let docker = Docker::connect(&address).unwrap();
    assert_eq!((docker.version().api.as_str(), docker.is_local()), ("1.41", false));
    docker.list().unwrap();
    let heard = heard.lock().unwrap();
    assert!(heard.last().unwrap().starts_with("/v1.41/images/json"), "{heard:?}");
}

#[test]
fn an_engine_that_wants_a_newer_client_is_named() {
    let version = VERSION.replace("1.41", "9.9").replace("1.12", "9.1");
    let (address, _) = engine(move |_, client| json(client, &version));
    let error = Docker::connect(&address).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("wants API 9.1"), "{error:?}");
}

#[test]
fn what_is_no_engine_is_not_taken_for_one() {
    let (address, _) = engine(|_, client| json(client, "<html>hello</html>"));
    assert_eq!(Docker::connect(&address).unwrap_err().kind(), Kind::Unavailable);
    let (address, _) = engine(|_, client| client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap());
    assert_eq!(Docker::connect(&address).unwrap_err().kind(), Kind::Unavailable);
}

#[test]
fn a_save_that_breaks_off_or_ends_in_an_error_is_not_an_archive() {
    let table: [(&[&[u8]], bool, &str); 4] = [
        (&[&[0; 1024]], true, ""),
        (&[&[7; 5000]], false, "cannot save"),
        (&[&[7; 5000]], true, "ends after 5000 bytes"),
        (&[&[7; 512], b"{\"errorDetail\":{\"message\":\"no such layer\"},\"error\":\"x\"}\r\n"], true, "no such layer"),
    ];
    for (body, end, expected) in table {
        let body: Vec<Vec<u8>> = body.iter().map(|chunk| chunk.to_vec()).collect();
        let (address, _) = engine(move |path, client| {
            if path.ends_with("/get") {
                chunks(client, &body.iter().map(Vec::as_slice).collect::<Vec<_>>(), end);
            } else if path.contains("images") {
                json(client, &image_json());
            } else {
                json(client, VERSION);
            }
        });
        let docker = Docker::connect(&address).unwrap();
        let mut out = Vec::new();
        match docker.save(&"a:b".parse().unwrap(), &mut out, &Progress::silent()) {
            Ok(bytes) => assert_eq!((expected, bytes), ("", 1024)),
            Err(error) => assert!(!expected.is_empty() && error.render().contains(expected), "{error:?}"),
        }
    }
}

#[test]
fn an_unknown_image_is_none_and_an_odd_id_is_an_error() {
    let (address, heard) = engine(|path, client| match path {
        path if path.contains("missing") => client
            .write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\nConnection: close\r\n\r\n{\"message\":\"gone\"} ",
            )
            .unwrap(),
        path if path.contains("images") => json(client, &image_json().replace("sha256:", "md5:")),
        _ => json(client, VERSION),
    });
    let docker = Docker::connect(&address).unwrap();
    assert!(docker.inspect_image(&"missing:x".parse().unwrap()).unwrap().is_none());
    let id: EngineImage = ID.parse().unwrap();
    assert_eq!(docker.inspect_image(&id).unwrap_err().kind(), Kind::Unsupported);
    assert!(heard.lock().unwrap().last().unwrap().ends_with(&format!("/images/{ID}/json")));
}

#[test]
fn an_upload_that_reports_nothing_is_no_success() {
    let (address, _) = engine(|path, client| {
        if path.contains("load") {
            // Whatever is sent is left unread.
            json(client, "");
        } else {
            json(client, VERSION);
        }
    });
    let docker = Docker::connect(&address).unwrap();
    let error = docker
        .load(None, &Progress::silent(), |out| {
            for _ in 0..1024 {
                out.write_all(&[0; 1 << 16]).map_err(|error| castoff::error::from_io(error, || "send".to_owned()))?;
            }
            Ok(())
        })
        .unwrap_err();
    assert!(matches!(error.kind(), Kind::Unavailable | Kind::Failed), "{error:?}");
}

#[test]
fn addresses_are_read_as_docker_reads_them() {
    let table = [
        ("", Ok("unix:///var/run/docker.sock")),
        ("unix:///run/user/1000/docker.sock", Ok("unix:///run/user/1000/docker.sock")),
        ("tcp://build-host:2375", Ok("tcp://build-host:2375")),
        ("tcp://10.0.0.1", Ok("tcp://10.0.0.1:2375")),
        ("http://[::1]:4243/", Ok("tcp://[::1]:4243")),
        ("tcp://[::1]", Ok("tcp://[::1]:2375")),
        ("https://host:2376", Err(Kind::Unsupported)),
        ("ssh://me@host", Err(Kind::Unsupported)),
        ("unix://relative.sock", Err(Kind::Usage)),
        ("tcp://", Err(Kind::Usage)),
        ("tcp://host:0", Err(Kind::Usage)),
        ("tcp://host:port", Err(Kind::Usage)),
        ("tcp://host/path", Err(Kind::Usage)),
        ("tcp://a b", Err(Kind::Usage)),
        ("/var/run/docker.sock", Err(Kind::Usage)),
        ("npipe:////./pipe/docker", Err(Kind::Usage)),
    ];
    for (text, expected) in table {
        let address = text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(address.as_deref().map_err(|error| error.kind()), expected, "{text}");
    }
}
