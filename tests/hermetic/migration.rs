//! What `contrib/MIGRATION.md` says is here, is here.

use castoff::function;

#[test]
fn the_table_of_functions_to_move_is_true() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/MIGRATION.md")).unwrap();
    let rows: Vec<(&str, bool)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `mc_")?.split_once("` | "))
        .map(|(name, place)| (name, place == "here |"))
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    for (name, here) in &rows {
        assert_eq!(function::find(&format!("mc_{name}")).is_some(), *here, "mc_{name}");
    }
    for function in function::functions().into_iter().filter(|function| function.module().starts_with("mc_")) {
        let row = format!("| `{}` | here |", function.name);
        assert!(text.lines().any(|line| line == row), "contrib/MIGRATION.md has no row `{row}`");
    }
}
