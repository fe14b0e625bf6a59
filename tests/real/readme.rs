//! Every `console` example of README.md runs, in order, and prints what it says.
//!
//! Lines after `$ ` are commands, the lines below one its output, where the README shows any. `console checkout` blocks
//! run in a checkout and are run by `demo.rs`.

use std::path::Path;
use std::process::Command;

use crate::harness::{self, Castoff, DockerImage, docker_host, program, succeed};
use crate::registry_server::Server;

/// A command and the output the text shows for it.
pub(crate) struct Example {
    pub(crate) command: String,
    output: String,
}

/// The examples of README.md's blocks with exactly this word behind the fence.
pub(crate) fn examples(fence: &str) -> Vec<Example> {
    examples_of("README.md", fence)
}

/// The examples of a file's blocks with exactly this word behind the fence, also of indented ones.
pub(crate) fn examples_of(file: &str, fence: &str) -> Vec<Example> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    let mut indent = "";
    for line in text.lines() {
        if !inside {
            indent = &line[..line.len() - line.trim_start().len()];
        }
        let line = line.strip_prefix(indent).unwrap_or(line);
        match (inside, line.strip_prefix("$ "), found.last_mut()) {
            (false, _, _) => inside = line == format!("```{fence}"),
            (true, _, _) if line == "```" => inside = false,
            (true, Some(command), _) => found.push(Example { command: command.to_owned(), output: String::new() }),
            (true, None, Some(example)) => example.output += &format!("{line}\n"),
            (true, None, None) => panic!("{file}: output without a command: {line}"),
        }
    }
    found
}

/// The text of README.md's block with exactly this word behind the fence.
fn block(fence: &str) -> String {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = text.split_once(&format!("```{fence}\n")).expect("the block is there");
    rest.split_once("```\n").unwrap().0.to_owned()
}

/// What the examples take for granted: the sample image database, a root filesystem, an LXC container, an image with layers, also in the engine, a disk image.
fn prepare(folder: &Path) {
    let script = r#"
        mkdir -p rootfs/bin rootfs/etc rootfs/srv/shared lxc/web/rootfs/etc lxc/web/rootfs/sbin upper/srv
        cp /bin/true rootfs/bin/app
        echo 'root:x:0:0:root:/root:/bin/sh' > rootfs/etc/passwd
        setfacl -m u:1001:rwx,d:u:1001:rwx rootfs/srv/shared
        echo shared > rootfs/srv/shared/file
        ln rootfs/srv/shared/file rootfs/srv/shared/link
        cp -a rootfs/etc rootfs/bin lxc/web/rootfs/
        printf 'lxc.rootfs.path = dir:%s/lxc/web/rootfs\nlxc.uts.name = web\n' "$PWD" > lxc/web/config
        echo above > upper/srv/above
        touch upper/etc-is-not-here
        tar --format=pax --xattrs --xattrs-include='*' -C rootfs -cf 1.tar .
        tar --format=pax -C upper -cf 2.tar .
        python3 - <<'END'
import hashlib, json, tarfile
digest = lambda name: "sha256:" + hashlib.sha256(open(name, "rb").read()).hexdigest()
json.dump({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/app"], "Labels": {"a": "b"}},
           "rootfs": {"type": "layers", "diff_ids": [digest("1.tar"), digest("2.tar")]},
           "history": [{"created_by": "one"}, {"created_by": "two"}]}, open("config.json", "w"))
json.dump([{"Config": "config.json", "RepoTags": ["castoff-test-readme:1"], "Layers": ["1.tar", "2.tar"]}],
          open("manifest.json", "w"))
with tarfile.open("layered.tar", "w") as archive:
    for name in ["1.tar", "2.tar", "config.json", "manifest.json"]:
        archive.add(name)
END
        mkdir -p vm/images
        truncate -s 8M vm/images/base.qcow2
        docker load -q -i layered.tar
    "#;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("pillar");
    succeed(Command::new("cp").arg("-r").arg(sample).arg(folder));
    succeed(Command::new("bash").args(["-euc", script]).current_dir(folder).env("DOCKER_HOST", docker_host()));
}

#[test]
fn every_example_of_the_readme_runs_and_prints_what_it_shows() {
    harness::require_root();
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let _images =
        [DockerImage("castoff-test-readme:1".to_owned()), DockerImage("castoff-test-readme:packed".to_owned())];
    prepare(folder);
    crate::build::busybox_tar(&folder.join("busybox.tar"));
    std::fs::write(folder.join("plans.json"), block("json plans.json")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_castoff"), folder.join("castoff")).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    program("skopeo");
    program("jq");
    let registry = Server::registry(&folder.join("registry"), "");
    let examples = examples("console");
    assert!(examples.len() > 15, "{} examples were found", examples.len());
    for example in examples {
        // The environment that a harness command has, with a shell in the binary's place.
        let own = castoff.command(["--version"]);
        let mut shell = Command::new("bash");
        shell.args(["-euc", &example.command]).current_dir(folder);
        shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", &path).env("CASTOFF_LXC_PATH", folder.join("lxc"));
        shell.env("REGISTRY", format!("127.0.0.1:{}", registry.port));
        let printed = succeed(&mut shell);
        if !example.output.is_empty() {
            assert_eq!(printed, example.output, "README.md shows another output of `{}`", example.command);
        }
    }
}
