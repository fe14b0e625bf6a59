//! The indented tree that Salt prints by default.

use super::color::{Colors, defused};
use super::{Style, python, python_lines, python_sorted};
use crate::vocab::{Map, Value};

/// The tree, all of it indented by this much.
pub(super) fn write(value: &Value, style: &Style, indent: usize) -> String {
    let colors = Colors::new(style.color);
    let mut tree = Tree {
        lines: Vec::new(),
        item: if style.retcode == 0 { colors.green } else { colors.red },
        key: if style.retcode == 0 { colors.cyan } else { colors.red },
        colors,
    };
    tree.add(value, indent, "");
    tree.lines.join("\n")
}

struct Tree {
    lines: Vec<String>,
    item: &'static str,
    key: &'static str,
    colors: Colors,
}

impl Tree {
    fn line(&mut self, indent: usize, color: &str, text: &str) {
        self.lines.push(format!("{:indent$}{color}{text}{}", "", self.colors.end));
    }

    fn add(&mut self, value: &Value, indent: usize, prefix: &str) {
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.line(indent, self.colors.light_yellow, &format!("{prefix}{}", python::repr(value)));
            }
            Value::String(text) => {
                for (index, line) in python_lines(text).enumerate() {
                    let before = if index == 0 { prefix } else { &"  "[..prefix.len()] };
                    self.line(indent, self.colors.green, &format!("{before}{}", defused(line)));
                }
            }
            Value::List(items) => {
                for item in items {
                    match item {
                        Value::List(_) | Value::Map(_) => {
                            self.line(indent, self.item, "|_");
                            self.add(item, indent + 2, "");
                        }
                        _ => self.add(item, indent, "- "),
                    }
                }
            }
            Value::Map(map) => self.add_map(map, indent, prefix),
        }
    }

    fn add_map(&mut self, map: &Map, indent: usize, prefix: &str) {
        if indent > 0 {
            self.line(indent, self.key, "----------");
        }
        let mut members: Vec<(String, &Value)> =
            map.iter().map(|(key, value)| (python::key_text(key), value)).collect();
        if let Some(sorted) = python_sorted(map) {
            members = sorted.into_iter().map(|(key, value)| (python::key_text(key), value)).collect();
        } else {
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
        }
        for (key, value) in members {
            let end = self.colors.end;
            self.lines.push(format!("{:indent$}{}{prefix}{key}{end}:", "", self.key));
            self.add(value, indent + 4, "");
        }
    }
}
