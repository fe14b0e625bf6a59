//! The one binary: a stage of a sandbox or the child of git when it was started as one, else hands its arguments to `cli`.

fn main() -> std::process::ExitCode {
    // Before any thread starts: namespaces are left by single-threaded processes only.
    castoff::sandbox::entry(std::env::args_os())
        .or_else(|| castoff::publish::git::entry(std::env::args_os()))
        .unwrap_or_else(|| castoff::cli::main(castoff::daemon::run))
}
