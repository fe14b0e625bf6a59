//! The README's first commands run as they stand there, and the Debian package installs into a real Debian tree.

use std::path::Path;
use std::process::Command;

use crate::harness::{self, Castoff, docker, docker_host, program, succeed};
use crate::readme::examples;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// A command in the checkout that takes the binary under test for the one to be built.
fn in_checkout(command: &str, castoff: &Castoff) -> Command {
    let mut shell = Command::new("bash");
    shell
        .args(["-euc", command])
        .current_dir(CHECKOUT)
        .env("CASTOFF_BIN", env!("CARGO_BIN_EXE_castoff"))
        .env("CASTOFF_STATE_DIR", castoff.state())
        .env("CASTOFF_CONFIG", "/dev/null")
        .env("DESTDIR", castoff.scratch().join("installed"))
        .env("DOCKER_HOST", docker_host());
    shell
}

#[test]
fn the_first_commands_of_the_readme_and_the_debian_package_do_what_they_say() {
    harness::require_root();
    let castoff = Castoff::new();
    let first = examples("console checkout");
    let commands: Vec<&str> = first.iter().map(|example| example.command.as_str()).collect();
    // The second is what runs this.
    assert_eq!(commands, ["make demo", "make test"]);

    let told = succeed(&mut in_checkout("make demo", &castoff));
    let last = told.lines().rev().take(3).collect::<Vec<_>>().join("\n");
    assert!(last.contains("store:castoff/demo:packed"), "{last}");
    assert!(told.contains("equal to the source tree, line for line"), "{told}");
    docker(&["rmi", "-f", "castoff/demo:packed"]);
    another_program_reads_the_demos_store(&castoff);

    succeed(&mut in_checkout("make install PREFIX=/usr", &castoff));
    assert!(castoff.scratch().join("installed/usr/bin/castoff").is_file());

    the_package_installs(&castoff);
}

fn another_program_reads_the_demos_store(castoff: &Castoff) {
    let bundle = castoff.scratch().join("bundle");
    let store = castoff.state().join("store");
    succeed(
        program("umoci").arg("unpack").arg(format!("--image={}:castoff/demo:packed", store.display())).arg(&bundle),
    );
    let facl = |folder: &Path| {
        let text = succeed(program("getfacl").args(["-R", "-n", "srv/demo"]).current_dir(folder));
        let mut paragraphs: Vec<String> = text.split("\n\n").map(str::to_owned).collect();
        paragraphs.sort();
        paragraphs
    };
    let source = facl(&castoff.state().join("demo/rootfs"));
    assert!(source.iter().filter(|paragraph| paragraph.contains("default:user:100")).count() >= 2, "{source:#?}");
    assert_eq!(facl(&bundle.join("rootfs")), source);
}

fn the_package_installs(castoff: &Castoff) {
    let target = castoff.scratch().join("target");
    let build = |folder: &str| {
        let mut command = in_checkout("contrib/make/deb.sh", castoff);
        let package =
            succeed(command.env("CARGO_TARGET_DIR", target.join(folder)).env("SOURCE_DATE_EPOCH", "1700000000"));
        std::path::PathBuf::from(package.trim())
    };
    let package = build("one");
    assert_eq!(std::fs::read(&package).unwrap(), std::fs::read(build("two")).unwrap(), "equal input, equal bytes");

    let root = castoff.state().join("demo/rootfs");
    std::fs::copy(&package, root.join("castoff.deb")).unwrap();
    the_library_it_links_comes_along(castoff, &root);
    let inside = |words: &[&str]| succeed(program("chroot").arg(&root).args(words));
    inside(&["dpkg", "-i", "/castoff.deb"]);
    inside(&["/usr/bin/castoff", "call", "test.ping"]);
    let config = inside(&["/usr/bin/castoff", "config"]);
    assert!(config.contains("/var/lib/castoff"), "the shipped configuration is valid: {config}");
    let groups = inside(&["getent", "group", "castoff", "castoff-admin"]);
    assert_eq!(groups.lines().count(), 2, "{groups}");
    for path in [
        "usr/share/bash-completion/completions/castoff",
        "usr/share/zsh/vendor-completions/_castoff",
        "usr/share/fish/vendor_completions.d/castoff.fish",
        "lib/systemd/system/castoff-gc.service",
        "lib/systemd/system/castoff-gc.timer",
        "lib/systemd/system/castoff.service",
        "lib/systemd/system/castoff.socket",
        "etc/castoff/castoff.d",
    ] {
        assert!(root.join(path).exists(), "{path}");
    }
    let lvh = inside(&["/usr/lib/castoff/bin/lvh", "images", "example-config"]);
    assert!(lvh.starts_with("[\n    {\n        \"name\": \"base.img\"") && lvh.ends_with(']'), "{lvh}");
    for name in ["disk-image-create", "simplestreams-builder"] {
        let output = program("chroot").arg(&root).arg(format!("/usr/lib/castoff/bin/{name}")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(76), "{name}: {told}");
        assert!(told.contains(name) && told.contains("hint: "), "{told}");
    }
    // What an administrator changed survives an upgrade and a removal, and goes with a purge.
    let conffile = root.join("etc/castoff/castoff.yaml");
    std::fs::write(&conffile, "engine: store\n").unwrap();
    inside(&["dpkg", "-i", "/castoff.deb"]);
    inside(&["dpkg", "-r", "castoff"]);
    assert_eq!(std::fs::read_to_string(&conffile).unwrap(), "engine: store\n");
    inside(&["dpkg", "-P", "castoff"]);
    assert!(!conffile.exists() && !root.join("usr/bin/castoff").exists());
}

/// What `apt install ./castoff.deb` would fetch: OpenSSL, which no minimal Debian has.
fn the_library_it_links_comes_along(castoff: &Castoff, root: &Path) {
    let owner = succeed(program("dpkg-query").args(["-S", "*/libssl.so.3"]));
    let package = owner.split(':').next().unwrap();
    let folder = castoff.scratch().join("library");
    std::fs::create_dir(&folder).unwrap();
    succeed(
        program("apt-get").args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(&folder),
    );
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(file, root.join("library.deb")).unwrap();
    succeed(program("chroot").arg(root).args(["dpkg", "-i", "/library.deb"]));
}
