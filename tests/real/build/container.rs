//! castoff in a container without privileges: it builds, or says what the container must be started with.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::person::Person;
use super::{Workshop, run, tar};
use crate::harness::{DockerImage, docker_host, program, succeed};

/// Containers that see this machine's programs, and otherwise have what Docker gives them.
struct Container {
    image: DockerImage,
    shop: Workshop,
    work: tempfile::TempDir,
}

impl Container {
    fn new() -> Self {
        let (image, shop, work) = (DockerImage::unique("box"), Workshop::new(), tempfile::tempdir().unwrap());
        let root = tempfile::tempdir().unwrap();
        for name in ["proc", "sys", "dev", "tmp", "run", "var/tmp", "usr", "etc", "root"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.path().join(name)).unwrap();
        }
        for name in ["tmp", "var/tmp"] {
            std::fs::set_permissions(root.path().join(name), std::fs::Permissions::from_mode(0o1777)).unwrap();
        }
        let tar = work.path().join("box.tar");
        succeed(program("tar").arg("-C").arg(root.path()).arg("-cf").arg(&tar).arg("."));
        succeed(Command::new("docker").env("DOCKER_HOST", docker_host()).arg("import").arg(&tar).arg(&image.0));
        std::fs::copy(env!("CARGO_BIN_EXE_castoff"), work.path().join("castoff")).unwrap();
        std::fs::copy(shop.path("base.tar"), work.path().join("base.tar")).unwrap();
        std::fs::set_permissions(work.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { image, shop, work }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Builds the document of plans there; what `docker run` is told besides.
    fn build(&self, options: &[&str]) -> Output {
        let _nothing = std::fs::remove_dir_all(self.path("state"));
        let shared = |from: &Path, to: &str| format!("--volume={}:{to}", from.display());
        Command::new("docker")
            .env("DOCKER_HOST", docker_host())
            .args(["run", "--rm", "--network=none", "--volume=/usr:/usr:ro", "--volume=/etc:/etc:ro"])
            .arg(shared(self.work.path(), "/box"))
            .args(
                ["CASTOFF_STATE_DIR=/box/state", "CASTOFF_CONFIG=/dev/null", "CASTOFF_ENGINE=store", "HOME=/box"]
                    .map(|variable| format!("--env={variable}")),
            )
            .args(options)
            .arg(&self.image.0)
            .args(["/box/castoff", "call", "--out=json", "build.run", "/box/plans.json"])
            .output()
            .unwrap()
    }

    fn refusal(&self, options: &[&str]) -> String {
        let output = self.build(options);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !self.path("out.tar").exists(), "{options:?}: {told}");
        told
    }

    /// Builds what is built outside as well; the bytes are the same.
    fn succeeds(&self, options: &[&str]) {
        let output = self.build(options);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{options:?}: {output:?}"));
        assert_eq!(told["local"]["result"], true, "{options:?}: {told:#}");
        succeed(program("cmp").arg(self.path("out.tar")).arg(self.shop.path("out.tar")));
        std::fs::remove_file(self.path("out.tar")).unwrap();
    }
}

#[test]
fn a_container_without_privileges_builds_or_tells_what_it_lacks() {
    const NO_FILTER: &str = "--security-opt=seccomp=unconfined";
    const NO_MASKS: &str = "--security-opt=systempaths=unconfined";
    let person = Person::new();
    let container = Container::new();
    let line = "echo x > /root/x; chown 33:33 /root/x; chmod 4755 /root/x";
    let plan = container.shop.plan("one", &[run(line)], &tar(), "out.tar");
    assert_eq!(container.shop.build(std::slice::from_ref(&plan))["result"], true);
    let mut plan = plan;
    plan["base"] = json!({ "tar": "/box/base.tar" });
    plan["outputs"][0]["path"] = json!("/box/out.tar");
    std::fs::write(container.path("plans.json"), json!([plan]).to_string()).unwrap();

    let user = format!("--user={}:{}", person.number("-u"), person.number("-g"));
    let refused = [
        (
            &[user.as_str()][..],
            "a seccomp filter",
            "--security-opt seccomp=unconfined --security-opt systempaths=unconfined",
        ),
        (&[], "a seccomp filter", "--security-opt seccomp=unconfined --security-opt systempaths=unconfined"),
        (&[NO_FILTER], "parts of `/proc` are masked", "systempaths=unconfined"),
        (
            &[&user, NO_FILTER, NO_MASKS, "--security-opt=no-new-privileges"],
            "`no_new_privs` is set",
            "no-new-privileges",
        ),
        (&[&user, NO_FILTER, NO_MASKS, "--cap-drop=SETUID"], "lacks the capability SETUID", "--cap-add SETUID"),
    ];
    for (options, why, what_to_do) in refused {
        let told = container.refusal(options);
        let hint = told.split_once("hint: ").map_or("", |(_, hint)| hint);
        assert!(told.contains(why) && hint.contains(what_to_do), "{options:?}: {told}");
    }
    container.succeeds(&[NO_FILTER, NO_MASKS]);

    // The setuid programs of Debian, and those with a file capability.
    let mut with_capabilities = vec![user.clone(), NO_FILTER.to_owned(), NO_MASKS.to_owned()];
    for (name, capability) in [("newuidmap", "cap_setuid+ep"), ("newgidmap", "cap_setgid+ep")] {
        let copy = container.path(name);
        std::fs::copy(Path::new("/usr/bin").join(name), &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        succeed(program("setcap").arg(capability).arg(&copy));
        with_capabilities.push(format!("--volume={}:/usr/bin/{name}:ro", copy.display()));
    }
    let told = container.refusal(&[&user, NO_FILTER, NO_MASKS]);
    assert!(told.contains("needs the capability SYS_ADMIN") && told.contains("setcap cap_setuid+ep"), "{told}");
    container.succeeds(&with_capabilities.iter().map(String::as_str).collect::<Vec<_>>());
}
