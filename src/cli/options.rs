//! The words that the command line knows.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory as _, Parser, Subcommand};

use super::usage;
use crate::config::{KEYS, Overrides};
use crate::error::Result;
use crate::host;

const EXAMPLES: &str = "\
Examples:
  castoff doctor
      what this machine offers, and what is missing
  castoff call mc_cloud_images.build_docker_from_rootfs example/debian /srv/rootfs
      an image from a root filesystem, ACLs intact
  castoff call image.pack docker-archive:in.tar docker-archive:out.tar
      one layer of many, without any engine
  castoff call image.verify dir:/srv/rootfs store:example/debian
      every difference between two trees or images
  castoff call sys.list_functions
      everything that can be called; `castoff call -d image.pack` explains one";

const TEMPLATE: &str = "\
{about}

{before-help}{usage-heading} {usage}

{all-args}{after-help}";

/// Builds, packs, releases and publishes OS images.
#[derive(Debug, Parser)]
#[command(name = "castoff", version, about, before_help = EXAMPLES, help_template = TEMPLATE)]
#[command(disable_help_subcommand = true, infer_long_args = true, max_term_width = 120)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Call a function, as `salt-call` does
    Call(Box<CallOptions>),
    /// Show every configuration value and where it came from
    Config,
    /// Serve functions and pillars over HTTP, on a unix socket and on TCP, until told to stop
    Daemon,
    /// Show what this machine offers castoff, and how to get what is missing
    Doctor,
    /// Run a job that the daemon has queued
    #[command(hide = true, name = "job-run")]
    JobRun {
        /// The job
        id: String,
    },
    /// Build and fetch images of virtual machines, as little-vm-helper (lvh) does
    Lvh(super::lvh::LvhOptions),
    /// Print a minion's pillar as one JSON document, for Salt's `cmd_yaml` and `cmd_json`
    Pillar(PillarOptions),
    /// Bring the images this host follows to what is released: `sync.run`
    Sync {
        /// IMAGE/FLAVOUR, or IMAGE in every flavour; all that are followed where none is named
        images: Vec<String>,
        /// Only say what would be done
        #[arg(long)]
        test: bool,
    },
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const PILLAR_EXAMPLES: &str = "\
Examples:
  castoff pillar -- web-1.example.net
      what the image database has for this minion
  castoff pillar --prefixed=false -- web-1.example.net
      the same without the key `makina-states.cloud.images` around it

";

#[derive(Debug, Args)]
#[command(before_help = PILLAR_EXAMPLES, help_template = TEMPLATE)]
pub(super) struct PillarOptions {
    /// The minion's id: letters, digits, `.`, `_` and `-`, the first a letter or digit
    pub(super) minion: String,

    /// Whether everything stands below the key `makina-states.cloud.images`
    #[arg(long, value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new(), hide_possible_values = true)]
    pub(super) prefixed: bool,

    /// Say nothing on stderr; why there is no pillar stands on stdout in any case
    #[arg(long)]
    pub(super) quiet: bool,
}

const CALL_EXAMPLES: &str = "\
Examples:
  castoff call test.arg 1 yes '[a, b]' name=value
      arguments are typed as YAML
  castoff call image.inspect store:example/debian --out=json
      options may follow arguments
  castoff call image.pack store:example/debian test=True
      what it would do
  castoff call -d image
      the documentation of a module, or of one function
  castoff call test.arg -- -3
      what begins with `-` stands behind `--`

";

#[derive(Debug, Args)]
#[command(before_help = CALL_EXAMPLES, help_template = TEMPLATE)]
#[expect(clippy::struct_excessive_bools, reason = "flags")]
pub(super) struct CallOptions {
    /// The function: `module.function`
    pub(super) function: Option<String>,

    /// Its arguments: values, and KEY=VALUE
    #[arg(value_name = "ARG")]
    pub(super) arguments: Vec<String>,

    /// Show documentation: of all functions, of a module, or of one function
    #[arg(short = 'd', long, visible_alias = "documentation")]
    pub(super) doc: bool,

    /// How to write the result: nested, json, yaml, highstate, txt, raw or pprint
    #[arg(long = "out", visible_alias = "output", value_name = "OUTPUTTER", help_heading = "Output")]
    pub(super) out: Option<String>,

    /// Spaces a level, for json, yaml and pprint; negative means one line
    #[arg(long, alias = "output-indent", value_name = "SPACES", allow_hyphen_values = true, help_heading = "Output")]
    pub(super) out_indent: Option<i64>,

    /// Write the result to this file instead of stdout
    #[arg(long, alias = "output-file", value_name = "FILE", help_heading = "Output")]
    pub(super) out_file: Option<PathBuf>,

    /// Append to that file
    #[arg(long, alias = "output-file-append", requires = "out_file", help_heading = "Output")]
    pub(super) out_file_append: bool,

    /// Never colour
    #[arg(long, alias = "no-colour", help_heading = "Output")]
    pub(super) no_color: bool,

    /// Colour even where there is no terminal
    #[arg(long, alias = "force-colour", conflicts_with = "no_color", help_heading = "Output")]
    pub(super) force_color: bool,

    /// How much of each state highstate shows: full, terse, mixed or changes, each also with `_id`
    #[arg(long, alias = "state_output", value_name = "MODE", help_heading = "Output")]
    pub(super) state_output: Option<String>,

    /// Whether highstate shows states that were well before
    #[arg(long, alias = "state_verbose", value_name = "BOOLEAN", help_heading = "Output")]
    pub(super) state_verbose: Option<String>,

    /// Show job ID, return code, function and arguments beside the result
    #[arg(long, help_heading = "Output")]
    pub(super) metadata: bool,

    /// What --metadata shows as `metadata`
    #[arg(long, value_name = "METADATA", help_heading = "Output")]
    pub(super) set_metadata: Option<String>,

    /// Have the daemon make the call, and follow it where it takes long
    #[arg(long)]
    pub(super) daemon: bool,

    /// What the minion on whose behalf the call is made knows: a JSON or YAML map with `opts`, `pillar` and `grains`
    #[arg(long, value_name = "FILE|-")]
    pub(super) minion_data: Option<PathBuf>,

    /// Exit with the return code of the result, and with a failure's own code
    #[arg(long)]
    pub(super) retcode_passthrough: bool,

    /// Keyword arguments to take as text, with commas between
    #[arg(long, env = "SALT_NO_PARSE", hide_env = true, value_name = "NAMES", value_delimiter = ',')]
    pub(super) no_parse: Vec<String>,

    /// What to log to stderr: all, garbage, trace, debug, profile, info, warning, error, critical or quiet
    #[arg(short = 'l', long, value_name = "LEVEL", ignore_case = false)]
    #[arg(value_parser = PossibleValuesParser::new(super::logs::LEVELS), hide_possible_values = true)]
    pub(super) log_level: Option<String>,

    /// The minion ID of this host, as `--minion-id`
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,

    /// A folder whose `castoff.yaml` is the configuration, if there is one
    #[arg(short = 'c', long, value_name = "DIR")]
    pub(super) config_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(super) accepted: Accepted,

    #[command(flatten)]
    pub(super) refused: Refused,
}

/// Options of `salt-call` that ask for what castoff does anyway.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags that are taken and mean nothing more")]
pub(super) struct Accepted {
    /// Accepted: castoff has no master
    #[arg(long, help_heading = "Taken for salt-call's sake")]
    local: bool,
    /// Accepted: castoff detects grains only where it needs them
    #[arg(long, help_heading = "Taken for salt-call's sake")]
    skip_grains: bool,
    /// Accepted: castoff keeps no grains
    #[arg(long, help_heading = "Taken for salt-call's sake")]
    refresh_grains_cache: bool,
    /// Accepted: castoff has no master
    #[arg(long, help_heading = "Taken for salt-call's sake")]
    no_return_event: bool,
    /// Accepted: castoff always ends tidily
    #[arg(long, help_heading = "Taken for salt-call's sake")]
    hard_crash: bool,
}

/// Options of `salt-call` that castoff cannot honour, taken to say so.
#[derive(Debug, Args)]
pub(super) struct Refused {
    #[arg(short = 'g', hide = true)]
    grains_shown: bool,
    #[arg(long = "return", hide = true, value_name = "RETURNER")]
    returner: Option<String>,
    #[arg(long, hide = true, value_name = "MASTER")]
    master: Option<String>,
    #[arg(long, hide = true, value_name = "DIR")]
    file_root: Vec<String>,
    #[arg(long, hide = true, value_name = "DIR")]
    states_dir: Vec<String>,
    #[arg(short = 'm', long, hide = true, value_name = "DIR")]
    module_dirs: Vec<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    saltfile: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    log_file: Option<String>,
    #[arg(long, hide = true, value_name = "LEVEL")]
    log_file_level: Option<String>,
    #[arg(long, hide = true)]
    args_stdin: bool,
}

impl Refused {
    /// Fails with the reason when one of the options was given.
    pub(super) fn check(&self) -> Result<()> {
        let refused = [
            (self.grains_shown, "-g", "`--grains FILE` gives castoff grains"),
            (self.returner.is_some(), "--return", "castoff has no returners; use `--out-file`"),
            (self.master.is_some(), "--master", "castoff has no master"),
            (!self.file_root.is_empty(), "--file-root", "castoff serves no files to minions"),
            (!self.states_dir.is_empty(), "--states-dir", "castoff runs no states"),
            (!self.module_dirs.is_empty(), "--module-dirs", "castoff loads no Python"),
            (self.saltfile.is_some(), "--saltfile", "castoff has its own configuration: see `castoff config`"),
            (self.log_file.is_some(), "--log-file", "castoff logs to stderr; redirect it"),
            (self.log_file_level.is_some(), "--log-file-level", "castoff logs to stderr; use `-l`"),
            (self.args_stdin, "--args-stdin", "give the arguments as words"),
        ];
        match refused.into_iter().find(|(given, _, _)| *given) {
            None => Ok(()),
            Some((_, option, reason)) => {
                Err(usage(format!("`{option}` is an option of salt-call that castoff does not have")).hint(reason))
            }
        }
    }
}

/// The whole declaration: the words above, and a flag for every configuration key.
pub(super) fn command() -> clap::Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .global(true)
        .help_heading("Configuration")
        .help("Read this file (and the drop-ins beside it) instead of the usual one");
    let keys = KEYS.iter().map(|key| {
        Arg::new(key.name)
            .long(key.flag().trim_start_matches('-').to_owned())
            .value_name("VALUE")
            .action(ArgAction::Set)
            .global(true)
            .help_heading("Configuration")
            .help(key.doc)
    });
    Cli::command().arg(config).args(keys)
}

/// What the command line says about configuration.
pub(super) fn overrides(matches: &ArgMatches) -> Result<Overrides> {
    let (_, matches) = matches.subcommand().unwrap_or(("", matches));
    let mut file = matches.get_one::<PathBuf>("config").cloned();
    let folder = matches.try_get_one::<PathBuf>("config_dir").ok().flatten();
    if let (None, Some(folder)) = (&file, folder) {
        let candidate = folder.join("castoff.yaml");
        file = host::fs::exists(&candidate)?.then_some(candidate);
    }
    let mut values: Vec<(String, String)> = KEYS
        .iter()
        .filter_map(|key| Some((key.name.to_owned(), matches.get_one::<String>(key.name)?.clone())))
        .collect();
    if let Some(id) = matches.try_get_one::<String>("id").ok().flatten() {
        values.push(("minion_id".to_owned(), id.clone()));
    }
    Ok(Overrides { file, values })
}
