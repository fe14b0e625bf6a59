//! The command line: translates words to calls and results to text; no rules of the domain.

/// Runs the command line of this process.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
