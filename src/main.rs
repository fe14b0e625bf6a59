//! The one binary: a stage of a sandbox or worker or the child of git when it was started as one, else hands its arguments to `cli`.

/// What a worker can be told to do.
const TASKS: &[(&str, castoff::sandbox::worker::Task)] = &[("build", castoff::build::work)];

fn main() -> std::process::ExitCode {
    // Whatever else the caller has open is castoff's at most, and no program's that it starts: a command in a tree could
    // leave the tree by it.
    close_fds::set_fds_cloexec(3, &[]);
    // Before any thread starts: namespaces are left by single-threaded processes only.
    castoff::sandbox::entry(std::env::args_os(), TASKS)
        .or_else(|| castoff::publish::git::entry(std::env::args_os()))
        .unwrap_or_else(|| castoff::cli::main(castoff::daemon::run))
}
