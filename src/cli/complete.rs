//! Completion scripts, generated from the declaration and the function table.

use clap::builder::PossibleValuesParser;

use super::{Exit, options, output};
use crate::error::Result;
use crate::function;

/// Prints the script for a shell; it completes the names of functions too.
pub(super) fn print(shell: clap_complete::Shell) -> Result<Exit> {
    let names: Vec<&'static str> = function::functions().iter().map(|function| function.name).collect();
    let mut command = options::command().mut_subcommand("call", |call| {
        call.mut_arg("function", |argument| argument.value_parser(PossibleValuesParser::new(names)))
    });
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "castoff", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == clap_complete::Shell::Fish {
        // The generator leaves the values of positional arguments out for this shell.
        for function in function::functions() {
            let summary = function.summary().replace('\\', "").replace('\'', "\\'");
            script.push_str("complete -c castoff -n \"__fish_castoff_using_subcommand call\" -f -a ");
            script.extend([function.name, " -d '", &summary, "'\n"]);
        }
    }
    output::print(&script)?;
    Ok(0)
}
