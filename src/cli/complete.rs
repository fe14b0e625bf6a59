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
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}
