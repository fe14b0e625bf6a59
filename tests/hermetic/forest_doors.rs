//! Forests as their users meet them: the functions, lvh's words, lines and exit codes, by the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;

use castoff::front::forest::EXAMPLE;
use serde_json::{Value, json};

const CHAIN: &str = r#"[{"name": "image2", "parent": "image1", "packages": null}, {"name": "image1", "parent": "base"}, {"name": "base"}]"#;

/// A folder with an `images.json`.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("images.json"), text).unwrap();
        Self(folder)
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn image(&self, name: &str) -> PathBuf {
        self.0.path().join("images").join(name)
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.0.path().join("images")).unwrap();
        std::fs::write(self.image(name), content).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.0.path().join("images"));
        let mut names: Vec<String> =
            files.into_iter().flatten().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn call(&self, function: &str, arguments: &[&str]) -> (i32, Value, String) {
        let words = [&["call", "--out=json", function, self.dir()], arguments].concat();
        let (code, stdout, stderr) = run(Path::new(env!("CARGO_BIN_EXE_castoff")), &words);
        let value: Value = serde_json::from_str(&stdout).unwrap_or_default();
        (code, value.get("local").cloned().unwrap_or_default(), stderr)
    }

    fn dry_run(&self, function: &str, arguments: &[&str]) -> Value {
        let words = [&["dry_run=True", "pkg_repo=sid http://mirror.invalid/debian"], arguments].concat();
        let (_, value, stderr) = self.call(function, &words);
        assert!(value.is_object(), "{stderr}");
        value
    }
}

fn run(program: &Path, words: &[&str]) -> (i32, String, String) {
    let state = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(words)
        .env_clear()
        .env("CASTOFF_STATE_DIR", state.path())
        .env("CASTOFF_CONFIG_DIR", "/nonexistent")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Name, whether the image is used, whether something is said of a file that was there.
fn results(value: &Value) -> Vec<(String, bool, bool)> {
    let images = value["images"].as_object().unwrap();
    let result = |(name, image): (&String, &Value)| {
        assert_eq!(image["error"], Value::Null, "{image}");
        let deleted = image["cachedImageDeleted"].as_str().unwrap();
        (name.clone(), image["cachedImageUsed"].as_bool().unwrap(), !deleted.is_empty())
    };
    images.iter().map(result).collect()
}

fn built(name: &str) -> (String, bool, bool) {
    (name.to_owned(), false, false)
}

fn rebuilt(name: &str) -> (String, bool, bool) {
    (name.to_owned(), false, true)
}

#[test]
fn names_are_told_in_the_order_of_the_document_and_unknown_ones_are_errors() {
    let folder = Folder::new(CHAIN);
    let told = |function: &str, arguments: &[&str]| folder.call(function, arguments).1;
    assert_eq!(told("forest.dependencies", &["image1"]), json!(["base"]));
    assert_eq!(told("forest.dependencies", &["image2"]), json!(["base", "image1"]));
    assert_eq!(told("forest.leaves", &[]), json!(["image2"]));
    assert_eq!(told("forest.roots", &[]), json!(["base"]));
    assert_eq!((told("forest.is_root", &["base"]), told("forest.is_root", &["image1"])), (json!(true), json!(false)));
    assert_eq!((told("forest.is_leaf", &["base"]), told("forest.is_leaf", &["image2"])), (json!(false), json!(true)));
    let file = std::fs::canonicalize(folder.dir()).unwrap().join("images/base");
    assert_eq!(told("forest.image_filename", &["base"]), json!(file));
    for function in
        ["forest.dependencies", "forest.image_filename", "forest.is_root", "forest.is_leaf", "forest.build_image"]
    {
        let (code, _, stderr) = folder.call(function, &["bas"]);
        assert!(code == 1 && stderr.contains("no image `bas`") && stderr.contains("`base`"), "{function}: {stderr}");
    }
    let undeclared = Folder::new(r#"[{"name": "b", "parent": "elsewhere"}, {"name": "a"}]"#);
    assert_eq!(undeclared.call("forest.roots", &[]).1, json!(["b", "a"]));
    assert_eq!(undeclared.call("forest.dependencies", &["b"]).1, json!([]));
    let twice = Folder::new(r#"[{"name": "base"}, {"name": "base"}]"#);
    let (code, _, stderr) = twice.call("forest.roots", &[]);
    assert!(code == 1 && stderr.contains("duplicate image name: base"), "{stderr}");
    let circle = Folder::new(r#"[{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}]"#);
    let (code, _, stderr) = circle.call("forest.build", &["dry_run=True", "images=a"]);
    assert!(code == 1 && stderr.contains("a -> b -> a"), "{stderr}");
    assert!(circle.files().is_empty());
}

#[test]
fn a_dry_run_makes_stubs_and_says_what_would_be_built() {
    let one = Folder::new(r#"[{"name": "base"}]"#);
    assert_eq!(results(&one.dry_run("forest.build", &[])), [built("base")]);
    assert_eq!(one.files(), ["base"]);

    let chain = Folder::new(CHAIN);
    let value = chain.dry_run("forest.build", &[]);
    assert_eq!(
        (results(&value), &value["result"]),
        (vec![built("base"), built("image1"), built("image2")], &json!(true))
    );
    assert_eq!(chain.files(), ["base", "image1", "image2"]);

    let there = Folder::new(CHAIN);
    there.put("image1", "");
    let value = there.dry_run("forest.build", &[]);
    assert_eq!(results(&value), [built("base"), rebuilt("image1"), built("image2")]);
    assert!(value["images"]["image1"]["cachedImageDeleted"].as_str().unwrap().contains("parent 'base'"), "{value}");

    // Nobody recorded the empty file: it is no result.
    let empty = Folder::new(CHAIN);
    empty.put("base", "");
    assert_eq!(results(&empty.dry_run("forest.build", &[])), [rebuilt("base"), built("image1"), built("image2")]);

    let forced = Folder::new(r#"[{"name": "base"}]"#);
    forced.put("base", "");
    let value = forced.dry_run("forest.build", &["force=True"]);
    assert_eq!(results(&value), [rebuilt("base")]);
    assert!(value["images"]["base"]["cachedImageDeleted"].as_str().unwrap().contains("forced"), "{value}");

    let exact = Folder::new(CHAIN);
    exact.put("image1", "");
    assert_eq!(results(&exact.dry_run("forest.build_image", &["image1"])), [built("base"), rebuilt("image1")]);
    assert_eq!(exact.files(), ["base", "image1"]);

    let named =
        Folder::new(r#"[{"name": "a"}, {"name": "b", "parent": "a"}, {"name": "c", "parent": "b"}, {"name": "x"}]"#);
    assert_eq!(results(&named.dry_run("forest.build", &["images=b"])), [built("a"), built("b"), built("c")]);
    assert_eq!(named.files(), ["a", "b", "c"]);
}

#[test]
fn a_test_makes_nothing() {
    let folder = Folder::new(CHAIN);
    let (code, value, _) = folder.call("forest.build", &["test=True", "pkg_repo=sid http://mirror.invalid/debian"]);
    assert_eq!((code, &value["result"], results(&value).len()), (0, &Value::Null, 3), "{value}");
    assert!(folder.files().is_empty());
}

#[test]
fn what_is_no_file_is_left_alone_and_what_builds_on_it_is_left_out() {
    for function in ["dry_run=True", "dry_run=False"] {
        for is_link in [false, true] {
            let folder = Folder::new(CHAIN);
            folder.put("elsewhere", "something");
            if is_link {
                std::os::unix::fs::symlink("elsewhere", folder.image("base")).unwrap();
            } else {
                std::fs::create_dir(folder.image("base")).unwrap();
            }
            let (code, value, stderr) =
                folder.call("forest.build", &[function, "pkg_repo=sid http://mirror.invalid/debian"]);
            assert_eq!(code, 1, "{stderr}");
            let images = value["images"].as_object().unwrap();
            assert_eq!(images.keys().collect::<Vec<_>>(), ["base"], "{value}");
            assert!(images["base"]["error"].as_str().unwrap().contains("is not a regular file"), "{value}");
            assert!(value["comment"].as_str().unwrap().starts_with("images errors:base: "), "{value}");
            assert_eq!(folder.files(), ["base", "elsewhere"]);
            assert_eq!(std::fs::read(folder.image("elsewhere")).unwrap(), b"something");
            assert_eq!(folder.image("base").is_symlink(), is_link);
        }
    }
}

#[test]
fn a_parent_that_is_not_declared_is_looked_at_before_anything_is_built() {
    let folder = Folder::new(r#"[{"name": "child", "parent": "old"}]"#);
    let mut gpt = vec![0; 1024];
    (gpt[450], gpt[510], gpt[511]) = (0xee, 0x55, 0xaa);
    let mut boots = gpt.clone();
    boots[450] = 0x83;
    let qcow2 = [&b"QFI\xfb"[..], &[0; 508]].concat();
    folder.put("elsewhere", "");
    for (content, layout) in [(vec![0; 1024], "whole"), (gpt, "whole"), (qcow2, "whole"), (boots, "whole-bootable")] {
        std::fs::write(folder.image("elsewhere"), content).unwrap();
        for is_link in [false, true] {
            let _none = std::fs::remove_file(folder.image("old"));
            if is_link {
                std::os::unix::fs::symlink("elsewhere", folder.image("old")).unwrap();
            } else {
                std::fs::copy(folder.image("elsewhere"), folder.image("old")).unwrap();
            }
            let (code, value, stderr) = folder.call("plan.show", &[]);
            assert_eq!(code, 0, "{stderr}");
            let child = &value["child"];
            let path = if is_link { "elsewhere" } else { "old" };
            let path = std::fs::canonicalize(folder.image(path)).unwrap();
            assert_eq!(child["base"]["disk"], json!(path), "{child}");
            assert_eq!(child["outputs"][0]["form"]["disk"]["layout"], layout, "{child}");
        }
    }
    std::fs::remove_file(folder.image("old")).unwrap();
    let odd = |told: &str| {
        let (code, _, stderr) = folder.call("forest.build", &["dry_run=True"]);
        assert!(code == 1 && stderr.contains("images.json:1:30: `[0].parent`: "), "{stderr}");
        assert!(stderr.contains(told), "{told}: {stderr}");
    };
    odd("neither an image of this file nor the disk");
    std::os::unix::fs::symlink("nothing", folder.image("old")).unwrap();
    odd("is a link that leads nowhere");
    std::fs::remove_file(folder.image("old")).unwrap();
    std::os::unix::fs::symlink("old", folder.image("old")).unwrap();
    odd("cannot follow");
    std::fs::remove_file(folder.image("old")).unwrap();
    folder.put("old", "");
    odd("is an empty file");
    std::fs::remove_file(folder.image("old")).unwrap();
    std::fs::create_dir(folder.image("old")).unwrap();
    odd("is not a regular file");
}

#[test]
fn lvhs_words_lines_and_exit_codes_are_understood() {
    let binary = Path::new(env!("CARGO_BIN_EXE_castoff"));
    let folder = Folder::new(r#"[{"name": "base"}, {"name": "a-long-name.qcow2", "parent": "base"}]"#);
    let lvh = folder.0.path().join("lvh");
    std::os::unix::fs::symlink(binary, &lvh).unwrap();
    let dir = format!("--dir={}", folder.dir());
    let repo = "--pkg-repo=sid http://mirror.invalid/debian";

    let (code, stdout, stderr) = run(&lvh, &["images", "build", &dir, repo, "--dry-run", "--merge-steps=false"]);
    let lines = "image:base       cachedImageUsed:false cachedImageDeleted:\n\
                 image:a-long-name.qcow2 cachedImageUsed:false cachedImageDeleted:\n";
    assert_eq!((code, stdout.as_str()), (0, lines), "{stderr}");
    assert!(stderr.contains("images built successfully"), "{stderr}");
    let (code, stdout, _) =
        run(binary, &["lvh", "images", "build", &dir, repo, "--dry-run=true", "-i", "base", "--force-rebuild"]);
    assert_eq!((code, stdout.lines().count()), (0, 2), "{stdout}");
    assert!(stdout.lines().all(|line| line.contains("cachedImageDeleted:image '")), "{stdout}");

    assert_eq!(run(&lvh, &["images", "example-config"]), (0, EXAMPLE.to_owned(), String::new()));
    assert_eq!(run(&lvh, &["version"]), (0, format!("castoff {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    for (words, told, usage) in [
        (&["images"][..], "example-config", "Usage: lvh images "),
        (&[], "images", "Usage: lvh "),
        (&["images", "build", "--help"], "--dir", "Usage: lvh images build "),
    ] {
        let (code, stdout, _) = run(&lvh, words);
        assert!(code == 0 && stdout.contains(told), "{words:?}: {stdout}");
        assert!(stdout.contains(usage) && !stdout.contains("lvh lvh"), "{words:?}: {stdout}");
    }
    assert!(run(binary, &["lvh"]).1.contains("Usage: castoff lvh "));
    assert!(run(&lvh, &["images", "build"]).2.contains("Usage: lvh images build "));
    for (words, told) in [
        (&["run", "--image", "x", "--kernel"][..], "image.boot"),
        (&["kernels", "pull", "6.1"], "not part of castoff"),
        (&["images", "build"], "--dir"),
        (&["images", "build", "--dir", "/nonexistent/x"], "there is no folder `/nonexistent/x`"),
        (&["images", "build", &dir, "--no-such"], "--no-such"),
        (&["images", "build", &dir, "base"], "base"),
        (&["images", "build", &dir, repo, "--dry-run", "-i", "bas"], "`base`"),
        (&["images", "pull"], "URL"),
        (&["nothing"], "nothing"),
    ] {
        let (code, stdout, stderr) = run(&lvh, words);
        assert_eq!((code, stdout.as_str()), (1, ""), "{words:?}: {stderr}");
        assert!(stderr.contains(told), "{words:?}: {stderr}");
    }
    std::fs::remove_file(folder.image("base")).unwrap();
    std::fs::create_dir(folder.image("base")).unwrap();
    let (code, stdout, stderr) = run(&lvh, &["images", "build", &dir, repo]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.lines().any(|line| line.starts_with("images errors:base: ")), "{stderr}");
}

#[test]
fn plans_are_shown_as_values() {
    let folder = Folder::new(CHAIN);
    let repo = "pkg_repo=sid http://mirror.invalid/debian";
    let (code, value, stderr) = folder.call("plan.show", &["images=image1", repo]);
    assert_eq!(code, 0, "{stderr}");
    let names: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(names, ["base", "image1", "image2"]);
    assert_eq!(value["image1"]["base"], json!({"plan": "base"}));
    assert_eq!(value["base"]["base"]["bootstrap"]["suite"], "sid");
    assert_eq!(value["base"]["outputs"][0]["form"]["disk"]["size"], json!({"exactly": 8_589_934_592_u64}));
    let (code, _, stderr) = folder.call("plan.show", &["pkg_repo=-x"]);
    assert!(code == 1 && stderr.contains("`-x` says no archive"), "{stderr}");
}

#[test]
fn a_container_is_only_made_where_nothing_is() {
    let lxc = tempfile::tempdir().unwrap();
    for name in ["source", "taken"] {
        std::fs::create_dir_all(lxc.path().join(name).join("rootfs/etc")).unwrap();
        std::fs::write(lxc.path().join(name).join("config"), format!("lxc.uts.name = {name}\n")).unwrap();
    }
    std::fs::create_dir(lxc.path().join("folder")).unwrap();
    let flag = format!("--lxc-path={}", lxc.path().display());
    let call = |words: &[&str]| {
        let words = [&["call", "--out=json", &flag, "mc_cloud_images.build_from_lxc"], words].concat();
        run(Path::new(env!("CARGO_BIN_EXE_castoff")), &words)
    };
    for (words, told) in [
        (&["taken", "clone_from=source"][..], "is there already"),
        (&["folder", "clone_from=source"], "is there already"),
        (&["new", "clone_from=sourc"], "`source`"),
        (&["../new", "clone_from=source"], "cannot be the name"),
        (&["new", "clone_from=../source"], "is not the name of an LXC container"),
    ] {
        let (code, _, stderr) = call(words);
        assert!(code == 1 && stderr.contains(told), "{words:?}: {stderr}");
    }
    let (code, stdout, stderr) = call(&["new", "clone_from=source", "profile=x", "test=True"]);
    assert_eq!(code, 0, "{stderr}");
    let value: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(value["local"]["lxc_parent"], "source");
    assert_eq!(value["local"]["ignored"], json!(["profile"]));
    let mut names: Vec<_> = std::fs::read_dir(lxc.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["folder", "source", "taken"]);
    assert_eq!(std::fs::read_to_string(lxc.path().join("taken/config")).unwrap(), "lxc.uts.name = taken\n");
}
