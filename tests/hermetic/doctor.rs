//! What `sys.doctor` and `sys.config` tell an operator.

use castoff::config::{Config, EngineChoice};
use castoff::function::{Context, Request, dispatch};
use castoff::progress::Progress;
use castoff::vocab::Value;

fn told(config: Config) -> Value {
    dispatch("sys.doctor", Request::default(), &Context::new(config, Progress::silent())).unwrap()
}

fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| value.get(key).unwrap_or_else(|| panic!("no `{key}` in {value:?}")))
}

fn without_engine(folder: &std::path::Path) -> Config {
    let mut config = Config::defaults(folder.join("state"));
    config.docker_host = format!("unix://{}", folder.join("no.sock").display());
    config
}

#[test]
fn a_missing_engine_is_told_and_is_a_problem_only_where_it_is_the_configured_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = without_engine(folder.path());
    let value = told(config.clone());
    assert_eq!(at(&value, &["result"]), &Value::Bool(true), "{value:?}");
    assert_eq!(at(&value, &["docker_engine", "answers"]), &Value::Bool(false));
    assert!(at(&value, &["docker_engine", "bare_names_mean"]).as_str().unwrap().starts_with("the embedded store"));
    config.engine = EngineChoice::DockerDaemon;
    let value = told(config);
    assert_eq!(at(&value, &["result"]), &Value::Bool(false));
    let problems = at(&value, &["problems"]).as_list().unwrap();
    assert!(problems.len() == 1 && problems[0].as_str().unwrap().contains("DOCKER_HOST"), "{problems:?}");
}

#[test]
fn every_program_is_told_with_what_needs_it_and_how_to_get_it_or_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let value = told(without_engine(folder.path()));
    for (name, program) in at(&value, &["programs"]).as_map().unwrap() {
        assert!(at(program, &["needed_for"]).as_str().is_some_and(|text| !text.is_empty()), "{name:?}");
        match at(program, &["found"]) {
            Value::Bool(true) => assert!(at(program, &["path"]).as_str().unwrap().starts_with('/')),
            _ => assert!(at(program, &["install"]).as_str().unwrap().starts_with("apt-get install "), "{name:?}"),
        }
    }
    assert!(matches!(at(&value, &["state_dir", "free_bytes"]), Value::Int(bytes) if *bytes > 0));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "looking leaves nothing behind: {left:?}");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_a_problem() {
    let value = told(without_engine(std::path::Path::new("/proc/nowhere")));
    assert_eq!(at(&value, &["result"]), &Value::Bool(false), "{value:?}");
    assert!(at(&value, &["problems"]).as_list().unwrap()[0].as_str().unwrap().contains("CASTOFF_STATE_DIR"));
}
