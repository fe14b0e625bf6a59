//! The one binary: hands its arguments to `cli` and exits with what comes back.

fn main() -> std::process::ExitCode {
    castoff::cli::main()
}
