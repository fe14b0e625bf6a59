//! The tables of README.md are those of the code.

use castoff::config::KEYS;
use castoff::error::Kind;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

#[test]
fn every_configuration_key_is_documented_with_its_environment_variable() {
    let text = readme();
    for key in KEYS {
        let row = format!("| `{}` | `{}` |", key.name, key.environment);
        assert!(text.contains(&row), "README.md has no row `{row}`");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `") && line.matches(" | `").count() >= 1);
    let unknown: Vec<&str> = rows
        .filter(|row| row.contains("CASTOFF_"))
        .filter(|row| !KEYS.iter().any(|key| row.starts_with(&format!("| `{}` |", key.name))))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_exit_code_is_documented() {
    let text = readme();
    let kinds = [
        Kind::Usage,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Refused,
        Kind::Corrupt,
        Kind::Limit,
        Kind::NoSpace,
        Kind::Unsupported,
        Kind::Unavailable,
        Kind::Interrupted,
        Kind::Failed,
    ];
    for kind in kinds {
        let row = format!("| {} | {} |", kind.exit_code(), kind.word());
        assert!(text.contains(&row), "README.md has no row `{row}`");
    }
}
