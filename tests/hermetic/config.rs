//! Configuration as a user meets it: precedence, origins, and what a mistake is told.

use std::path::{Path, PathBuf};

use castoff::config::{Config, EngineChoice, KEYS, Origin, Overrides, parse_size};
use castoff::vocab::Value;

fn load(file: &Path, flags: &[(&str, &str)]) -> Result<Config, String> {
    let values = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Config::load(&Overrides { file: Some(file.to_owned()), values }).map_err(|error| error.render())
}

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn flag_beats_drop_in_beats_file_beats_default_and_each_says_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(
        &folder,
        "castoff.yaml",
        "state_dir: /srv/a\nstore:\n  keep: 1\n  max_size: 20GiB\nlimits.entries: 5\nlxc:\n",
    );
    let second = written(&folder, "castoff.d/20-more.yaml", "store: {keep: 3}\n");
    written(&folder, "castoff.d/10-some.yaml", "store: {keep: 2}\n");
    written(&folder, "castoff.d/30-not-yaml.bak", "nonsense: [\n");
    let config = load(&file, &[("limits.entries", "6"), ("engine", "store")]).unwrap();
    assert_eq!(config.state_dir, Path::new("/srv/a"));
    assert_eq!(config.store_keep, 3);
    assert_eq!(config.store_max_size, Some(21_474_836_480));
    assert_eq!(config.limit_entries, 6);
    assert_eq!(config.engine, EngineChoice::Store);
    assert_eq!(config.lxc_path, Path::new("/var/lib/lxc"));
    assert_eq!(config.origin("store.keep"), Some(&Origin::File(second.clone())));
    let explained = config.explain();
    let from =
        |key: &str| explained.get(key).and_then(|row| row.get("from")).and_then(Value::as_str).map(str::to_owned);
    assert_eq!(from("store.keep"), Some(format!("file {}", second.display())));
    assert_eq!(from("limits.entries").as_deref(), Some("flag --limits-entries"));
    assert_eq!(from("lxc.path").as_deref(), Some("default"));
    assert_eq!(explained.as_map().map(|map| map.len()), Some(KEYS.len()));
}

#[test]
fn a_mistake_names_file_line_key_and_the_nearest_known_key() {
    let folder = tempfile::tempdir().unwrap();
    for (text, wanted) in [
        ("engine: store\nstat_dir: /x\n", &["line 2", "`stat_dir`", "`state_dir`"][..]),
        ("store:\n  keep: 1\n  max_siz: 1\n", &["line 3", "`store.max_siz`", "`store.max_size`"]),
        ("zzzzzzzzzzzzzzzz: 1\n", &["line 1", "known are `state_dir`"]),
        ("engine: dockr\n", &["`engine`", "castoff.yaml", "`dockr`", "hint: ", "`docker-daemon`"]),
        ("store.keep: -1\n", &["`store.keep`", "`-1`"]),
        ("store.max_size: 20G\n", &["`20G`", "`G` is no unit"]),
        ("state_dir: relative\n", &["`relative` is not an absolute path"]),
        ("engine: [store]\n", &["line 1"]),
        ("store: 5\n", &["line 1", "`store`"]),
        ("store: {keep: 1}\nstore.keep: 2\n", &["line 2", "given twice"]),
        ("- a\n", &["a map of configuration keys"]),
        ("engine: 'store\n", &["line"]),
    ] {
        let file = written(&folder, "castoff.yaml", text);
        let told = load(&file, &[]).unwrap_err();
        for part in wanted {
            assert!(told.contains(part), "{text:?}: {part:?} is not in:\n{told}");
        }
        assert!(told.contains("castoff.yaml"), "{told}");
    }
}

#[test]
fn an_empty_file_is_fine_and_a_named_one_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "# nothing\n", "---\n"] {
        let file = written(&folder, "castoff.yaml", text);
        assert!(load(&file, &[("state_dir", "/x")]).is_ok(), "{text:?}");
    }
    let told = load(&folder.path().join("absent.yaml"), &[]).unwrap_err();
    assert!(told.contains("absent.yaml"), "{told}");
}

#[test]
fn no_value_lifts_a_limit_that_a_weaker_file_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(&folder, "castoff.yaml", "store: {max_size: 1GB}\n");
    written(&folder, "castoff.d/no-limit.yaml", "store: {max_size: }\n");
    assert_eq!(load(&file, &[]).unwrap().store_max_size, None);
    let file = written(&folder, "castoff.yaml", "store: {keep: }\n");
    assert!(load(&file, &[]).unwrap_err().contains("`store.keep`"));
}

#[test]
fn sizes_are_what_people_write() {
    for (text, bytes) in
        [("0", 0), ("1048576", 1 << 20), ("20GiB", 20 << 30), ("20 GB", 20_000_000_000), ("1kB", 1000), ("7B", 7)]
    {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "GiB", "-1", "1.5GiB", "20G", "99999999999TiB", "1 2", "0x10"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn registries_are_lists_and_maps_in_a_file_and_texts_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let text = "registries:\n  mirrors: {Docker.io: [https://m.example/hub, http://127.0.0.1:5000]}\n  insecure: [127.0.0.1:5000, '[::1]:5000']\n";
    let config = load(&written(&folder, "castoff.yaml", text), &[]).unwrap();
    assert_eq!(config.registries.mirrors["docker.io"], ["https://m.example/hub", "http://127.0.0.1:5000"]);
    assert_eq!(config.registries.insecure, ["127.0.0.1:5000", "[::1]:5000"]);
    let empty = written(&folder, "empty.yaml", "");
    for (flag, expected) in [("a.example, b.example:5000", 2), ("[::1]:5000", 1), ("[a.example]", 1), ("none", 0)] {
        let config = load(&empty, &[("registries.insecure", flag)]).unwrap();
        assert_eq!(config.registries.insecure.len(), expected, "{flag}: {:?}", config.registries.insecure);
    }
    for bad in
        ["registries.mirrors: [a]\n", "registries.mirrors: {a.example: [m.example]}\n", "registries.insecure: {a: 1}\n"]
    {
        let told = load(&written(&folder, "bad.yaml", bad), &[]).unwrap_err();
        assert!(told.contains("registries."), "{bad}: {told}");
    }
}
