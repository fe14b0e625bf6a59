//! What every engine promises, one suite for all of them: the embedded store and a real Docker Engine.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;

use crate::faults::{judged, make};
use crate::harness::{Castoff, DockerImage};

const NOT_FOUND: i32 = 66;

/// One engine, with a name in it that no other test has.
struct Engine {
    castoff: Castoff,
    transport: &'static str,
    image: DockerImage,
}

impl Engine {
    fn new(transport: &'static str, subject: &str) -> Self {
        let image = DockerImage::unique(&format!("contract-{subject}"));
        let castoff = Castoff::new().with("CASTOFF_ENGINE", transport);
        for which in ["one", "two"] {
            let content = format!("{which} {subject} {}", std::process::id());
            make(&castoff.scratch().join(format!("{which}.tar")), "castoff-test-somewhere:else", &content, &["2000"]);
        }
        Self { castoff, transport, image }
    }

    /// The reference to the image.
    fn name(&self) -> String {
        format!("{}:{}", self.transport, self.image.0)
    }

    fn by_id(&self, id: &str) -> String {
        format!("{}:{id}", self.transport)
    }

    /// The ID of the image of that name as skopeo reads it, all its blobs included.
    fn judged(&self) -> String {
        match self.transport {
            "store" => judged(&format!("oci:{}:{}", self.castoff.state().join("store").display(), self.image.0)),
            _ => judged(&self.name()),
        }
    }

    /// Copies an archive in under the name; the report.
    fn copy(&self, archive: &str, more: &[&str]) -> Value {
        let source = format!("docker-archive:{archive}");
        self.castoff.call(&[&["image.copy", &source, &self.name()], more].concat())
    }

    fn inspect(&self, reference: &str) -> Value {
        self.castoff.call(&["image.inspect", reference])
    }

    fn not_found(&self, arguments: &[&str]) {
        let said = self.castoff.fail([&["call", "--retcode-passthrough"], arguments].concat(), NOT_FOUND);
        assert!(said.contains("hint: "), "{said}");
    }

    fn exists(&self, reference: &str) -> bool {
        let output =
            self.castoff.command(["call", "--retcode-passthrough", "image.inspect", reference]).output().unwrap();
        match output.status.code() {
            Some(0) => true,
            Some(NOT_FOUND) => false,
            code => panic!("{reference}: {code:?} {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// Runs each promise against each engine.
macro_rules! contract {
    ($($promise:ident)*) => {
        mod store {
            $(#[test] fn $promise() { super::$promise(&super::Engine::new("store", stringify!($promise))); })*
        }
        mod docker_daemon {
            $(#[test] fn $promise() { super::$promise(&super::Engine::new("docker-daemon", stringify!($promise))); })*
        }
    };
}

contract! {
    a_copy_is_the_same_image
    a_bare_name_means_the_engine
    the_name_moves_and_the_old_image_is_kept
    the_old_image_goes_where_that_is_wished
    an_old_image_with_another_name_stays
    the_name_stays_until_the_new_image_is_there
    what_is_removed_is_gone
    what_is_not_there_is_not_found
    packing_twice_gives_the_same_bytes
    nothing_is_changed_by_asking_what_would_be
}

/// What is copied in and out again is the same image, by name and by ID, for castoff and for others.
fn a_copy_is_the_same_image(engine: &Engine) {
    let id = judged(&format!("docker-archive:{}", engine.castoff.scratch().join("one.tar").display()));
    let report = engine.copy("one.tar", &[]);
    assert_eq!(
        (&report["result"], &report["image_id"], &report["previous"]),
        (&true.into(), &id.clone().into(), &Value::Null)
    );
    assert_eq!(report["names"], serde_json::json!([engine.image.0]));
    assert_eq!(engine.judged(), id);
    let archive = engine.inspect("docker-archive:one.tar");
    for reference in [engine.name(), engine.by_id(&id)] {
        let found = engine.inspect(&reference);
        for key in ["image_id", "configuration", "layers", "tree"] {
            assert_eq!(found[key], archive[key], "{key} of {reference}");
        }
        assert_eq!(found["names"], serde_json::json!([engine.image.0]), "{reference}");
        engine.castoff.call(&["image.copy", &reference, "docker-archive:out.tar"]);
        assert_eq!(judged(&format!("docker-archive:{}", engine.castoff.scratch().join("out.tar").display())), id);
        // Without a name of its own the archive keeps the name the engine knows.
        assert_eq!(engine.inspect("docker-archive:out.tar")["names"], serde_json::json!([engine.image.0]));
    }
    let listed = engine.castoff.call(&["image.list", &format!("engine={}", engine.transport)]);
    let images = listed[engine.transport].as_array().unwrap();
    let ours: Vec<&Value> = images.iter().filter(|image| image["id"] == id).collect();
    assert_eq!(ours.len(), 1, "{listed}");
    assert_eq!(ours[0]["names"], serde_json::json!([engine.image.0]));
    assert_eq!(ours[0]["created"], "2020-01-02T03:04:05Z");
}

fn a_bare_name_means_the_engine(engine: &Engine) {
    let report = engine.castoff.call(&["image.copy", "docker-archive:one.tar", &engine.image.0]);
    assert_eq!(report["destination"], engine.name());
    assert_eq!(engine.inspect(&engine.image.0)["image_id"], engine.inspect(&engine.name())["image_id"]);
}

fn the_name_moves_and_the_old_image_is_kept(engine: &Engine) {
    let old = engine.copy("one.tar", &[])["image_id"].as_str().unwrap().to_owned();
    let report = engine.copy("two.tar", &[]);
    assert_ne!(report["image_id"], old);
    assert_eq!(report["previous"]["id"], old);
    assert!(report["previous"]["state"].as_str().unwrap().starts_with("kept"), "{report}");
    assert_eq!(engine.judged(), report["image_id"]);
    assert!(engine.exists(&engine.by_id(&old)));
    assert_eq!(engine.inspect(&engine.by_id(&old))["names"], serde_json::json!([]));
    // Once more: the name means this very image already.
    assert_eq!(engine.copy("two.tar", &["keep_old=False"])["previous"]["state"], "same image");
    assert_eq!(engine.judged(), report["image_id"]);
    engine.castoff.call(&["image.remove", &engine.by_id(&old)]);
    assert!(!engine.exists(&engine.by_id(&old)));
}

fn the_old_image_goes_where_that_is_wished(engine: &Engine) {
    let old = engine.copy("one.tar", &[])["image_id"].as_str().unwrap().to_owned();
    let report = engine.copy("two.tar", &["keep_old=False"]);
    assert_eq!(report["previous"], serde_json::json!({"id": old, "state": "removed"}));
    assert!(!engine.exists(&engine.by_id(&old)));
    assert_eq!(engine.judged(), report["image_id"]);
}

fn an_old_image_with_another_name_stays(engine: &Engine) {
    let other = DockerImage(engine.image.0.replace(":latest", ":other"));
    let old = engine.copy("one.tar", &[])["image_id"].as_str().unwrap().to_owned();
    engine.castoff.call(&["image.copy", &engine.name(), &format!("{}:{}", engine.transport, other.0)]);
    let report = engine.copy("two.tar", &["keep_old=False"]);
    assert_eq!(report["previous"]["id"], old);
    assert_ne!(report["previous"]["state"], "removed");
    assert_eq!(engine.inspect(&format!("{}:{}", engine.transport, other.0))["image_id"], old);
}

/// Killed when all of the new image but the name is written, and when the content is not what it says.
fn the_name_stays_until_the_new_image_is_there(engine: &Engine) {
    let old = engine.copy("one.tar", &[])["image_id"].as_str().unwrap().to_owned();
    let point = match engine.transport {
        "store" => "store.image.before-index",
        _ => "engine.docker.before-tag",
    };
    let mut command = engine.castoff.command(["call", "image.pack", "docker-archive:two.tar", &engine.name()]);
    assert_eq!(command.env("CASTOFF_FAULT", point).output().unwrap().status.signal(), Some(9));
    assert_eq!(engine.judged(), old);
    let damaged = engine.castoff.scratch().join("damaged.tar");
    let mut bytes = std::fs::read(engine.castoff.scratch().join("two.tar")).unwrap();
    let at = bytes.windows(10).position(|window| window == b"etc/secret").unwrap() + 512;
    bytes[at + 3] ^= 1;
    std::fs::write(damaged, bytes).unwrap();
    for function in ["image.copy", "image.pack"] {
        let arguments = ["call", "--retcode-passthrough", function, "docker-archive:damaged.tar", &engine.name()];
        engine.castoff.fail(arguments, 65);
        assert_eq!(engine.judged(), old);
    }
    engine.castoff.call(&["image.pack", "docker-archive:two.tar", &engine.name()]);
    assert_ne!(engine.judged(), old);
}

fn what_is_removed_is_gone(engine: &Engine) {
    let id = engine.copy("one.tar", &[])["image_id"].as_str().unwrap().to_owned();
    assert_eq!(engine.castoff.call(&["image.remove", &engine.name()])["image_id"], id);
    assert!(!engine.exists(&engine.name()));
    engine.copy("one.tar", &[]);
    assert_eq!(engine.castoff.call(&["image.remove", &engine.by_id(&id)])["image_id"], id);
    assert!(!engine.exists(&engine.name()) && !engine.exists(&engine.by_id(&id)));
}

fn what_is_not_there_is_not_found(engine: &Engine) {
    let nothing = engine.by_id(&format!("sha256:{}", "0".repeat(64)));
    for reference in [&engine.name(), &nothing] {
        engine.not_found(&["image.inspect", reference]);
        engine.not_found(&["image.copy", reference, "docker-archive:out.tar"]);
        engine.not_found(&["image.pack", reference, "docker-archive:out.tar"]);
        engine.not_found(&["image.pack", reference, "docker-archive:out.tar", "test=True"]);
        engine.not_found(&["image.remove", reference]);
    }
    assert!(!engine.castoff.scratch().join("out.tar").exists());
}

fn packing_twice_gives_the_same_bytes(engine: &Engine) {
    engine.copy("one.tar", &[]);
    let packed = engine.castoff.call(&["image.pack", &engine.name()]);
    let id = packed["image_id"].as_str().unwrap();
    assert_eq!(packed["layers"].as_array().unwrap().len(), 1);
    assert_eq!(packed["entries"], serde_json::json!({"in": 8, "kept": 5}), "{packed}");
    assert_eq!(packed["whiteouts"]["files"], 1);
    assert_eq!(packed["acls"]["access"], 1);
    assert_eq!(engine.judged(), id);
    // A packed image packed is that image; from another place the same comes out, byte for byte.
    assert_eq!(engine.castoff.call(&["image.pack", &engine.name()])["image_id"], id);
    assert_eq!(engine.castoff.call(&["image.pack", "docker-archive:one.tar", &engine.name()])["image_id"], id);
    let archive = |name: &str, source: &str| {
        engine.castoff.call(&["image.pack", source, &format!("docker-archive:{name}:castoff-test-x:1")]);
        std::fs::read(engine.castoff.scratch().join(name)).unwrap()
    };
    assert!(archive("first.tar", &engine.name()) == archive("second.tar", "docker-archive:one.tar"));
    let same = engine.castoff.call(&["image.verify", "docker-archive:one.tar", &engine.name()]);
    assert_eq!(same["result"], true, "{same}");
}

fn nothing_is_changed_by_asking_what_would_be(engine: &Engine) {
    let old = engine.copy("one.tar", &[])["image_id"].as_str().unwrap().to_owned();
    for arguments in [
        vec!["image.copy", "docker-archive:two.tar", &engine.name()],
        vec!["image.pack", &engine.name()],
        vec!["image.remove", &engine.name()],
    ] {
        let told = engine.castoff.call(&[arguments.as_slice(), &["test=True"]].concat());
        assert_eq!(told["result"], Value::Null, "{told}");
        assert!(told["comment"].as_str().unwrap().contains(&old), "{told}");
        assert_eq!(engine.judged(), old);
    }
}
