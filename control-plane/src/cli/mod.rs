//! The command line: one module a command. Commands return an [`Exit`]; only this module knows exit codes.

mod agent;
mod ca;
mod can;
mod check;
mod cluster;
mod config;
mod diff;
mod dump;
mod explain;
mod inject;
mod launch;
mod logs;
mod naming;
mod redirect;
mod render;
mod route;
mod serve;
mod status;
mod tls;
mod token;
mod variables;
mod world;

use std::{fmt, io::ErrorKind, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};

use eastwest_ca_server::{StateError, operations::OperationError};
use eastwest_io::{
    defects::{self, Defect},
    stdio,
};
use eastwest_kubernetes::ApiError;
use eastwest_sources::SourceError;

use crate::{
    config::Problems,
    output::{Unwritten, write_out, written},
    remote,
};

/// Certificate authority and xDS server for mutual TLS in a mesh.
///
/// Reads Kubernetes manifests, signs certificates with SPIFFE identities for workloads, and configures Envoy and
/// other proxies over xDS for mutual TLS. Every flag can also be set by an environment
/// variable, named in its help.
#[derive(Debug, Parser)]
#[command(name = "eastwest", version, max_term_width = 110, propagate_version = true)]
#[command(after_help = "Begin with:\n  eastwest serve --config-dir docs/examples/bookshop\n  \
    eastwest tls bookshop/storefront-0 --config-dir docs/examples/bookshop")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane: certificate authority, xDS server, metrics and debug pages.
    Serve(Box<serve::ServeArgs>),
    /// Run next to a workload: its key and certificate, SDS for Envoy, and Envoy itself.
    Agent(Box<agent::AgentArgs>),
    /// Become a command that ends with its parent; for `agent`.
    #[command(hide = true)]
    Launch(launch::LaunchArgs),
    /// Send the connections of a pod through its sidecar, by iptables or nftables.
    Redirect(Box<redirect::RedirectArgs>),
    /// Show the effective TLS settings of one workload, each with the object that decided it.
    Tls(tls::TlsArgs),
    /// Explain one client-to-server pair: whether and how it connects, and which objects decided it.
    Explain(explain::ExplainArgs),
    /// Show where a request goes and how: cluster, policy, retries; exit 1 if nobody takes it.
    Route(route::RouteArgs),
    /// Tell whether a call may be made: mutual TLS and access control in one verdict; exit 1 if it is denied.
    Can(Box<can::CanArgs>),
    /// Validate manifests; exit 1 if there is an error.
    Check(check::CheckArgs),
    /// Show the effect of a change of the manifests; exit 1 if a connection would break.
    Diff(diff::DiffArgs),
    /// Print the xDS resources of one workload's proxy.
    Render(render::RenderArgs),
    /// Show the resources of one workload's proxy in tables, or what it has not accepted.
    Config(config::ConfigArgs),
    /// Show the connected proxies, or what a control plane follows; exit 1 if anything is not in sync.
    Status(status::StatusArgs),
    /// Give the pods of manifests their sidecars.
    Inject(Box<inject::InjectArgs>),
    /// Write what decides in a cluster as a directory of manifests, without Secrets.
    Dump(dump::DumpArgs),
    /// Sign a short-lived service-account token with the key of the state directory.
    Token(token::TokenArgs),
    /// Operate on the certificate authority of a state directory.
    Ca(ca::CaArgs),
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How a command ended.
pub(crate) enum Exit {
    /// Success: exit 0.
    Success,
    /// The command ran and found a problem: exit 1.
    Negative,
    /// Exit with the status of a child.
    Status(u8),
}

/// Why a command did not run to its end.
pub(crate) enum Failure {
    /// Wrong usage, all mistakes at once: exit 2.
    Usage(Problems),
    /// The question could not be asked: a name that is unknown, a directory or a server that is not there. Exit 2.
    Unanswered(anyhow::Error),
    /// Anything else: exit 1.
    Error(anyhow::Error),
}

impl Failure {
    /// A mistake in the value of one flag.
    fn usage(flag: &str, mistake: impl fmt::Display) -> Self {
        let mut problems = Problems::default();
        problems.add(flag, mistake);
        Self::Usage(problems)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What a command returns.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

/// The result of a command that answers a question: whatever keeps it from an answer is 2. An answer that cannot be written
/// is 1, as for all commands.
fn answer(result: Result) -> Result {
    result.map_err(|failure| match failure {
        Failure::Error(error) if !error.is::<Unwritten>() => Failure::Unanswered(error),
        other => other,
    })
}

/// What was named is not there, with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Mistyped(String);

/// Whether an error is about what was named on the command line, and not about what was found there: a file, a directory or
/// a server that is not there.
fn is_mistyped(error: &anyhow::Error) -> bool {
    let state = |error: &StateError| {
        use StateError::{NoCa, NotADirectory, OtherTrustDomain, PluggedIn};
        matches!(error, NoCa(_) | NotADirectory(_) | OtherTrustDomain { .. } | PluggedIn(_))
    };
    let missing = |error: &std::io::Error| error.kind() == ErrorKind::NotFound;
    error.chain().any(|cause| {
        cause.is::<remote::Unreachable>()
            || cause.is::<SourceError>()
            || cause.is::<ApiError>()
            || cause.is::<Mistyped>()
            || cause.downcast_ref().is_some_and(missing)
            || cause.downcast_ref().is_some_and(state)
            || matches!(cause.downcast_ref(), Some(OperationError::State(error)) if state(error))
    })
}

/// The exit status for an error of a command that answers no question.
fn status(error: &anyhow::Error) -> u8 {
    match error.is::<Defect>() {
        true => defects::EXIT_STATUS,
        false => 1 + u8::from(is_mistyped(error)),
    }
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        // Help that somebody asked for is an answer, and one that cannot be written is a failure.
        Err(said) => match (written(said.print()), said.use_stderr()) {
            (Err(error), false) => report(&error.into(), 1),
            (Ok(()), false) => ExitCode::SUCCESS,
            (_, true) => {
                blame(&said.to_string());
                ExitCode::from(2)
            }
        },
    };
    stdio::flush(LAST_WORDS);
    code
}

impl Cli {
    /// Runs the command and turns its outcome into an exit code.
    fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => args.run(),
            Command::Agent(args) => args.run(),
            Command::Launch(args) => args.run(),
            Command::Redirect(args) => args.run(),
            Command::Tls(args) => answer(args.run()),
            Command::Explain(args) => answer(args.run()),
            Command::Route(args) => answer(args.run()),
            Command::Can(args) => answer(args.run()),
            Command::Check(args) => answer(args.run()),
            Command::Diff(args) => answer(args.run()),
            Command::Render(args) => answer(args.run()),
            Command::Config(args) => answer(args.run()),
            Command::Status(args) => answer(args.run()),
            Command::Inject(args) => args.run(),
            Command::Dump(args) => answer(args.run()),
            Command::Token(args) => args.run(),
            Command::Ca(args) => args.run(),
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "eastwest", &mut script);
                write_out(String::from_utf8_lossy(&script).trim_end())
                    .map(|()| Exit::Success)
                    .map_err(Failure::from)
            }
        };
        match result {
            Ok(Exit::Success) => ExitCode::SUCCESS,
            Ok(Exit::Negative) => ExitCode::from(1),
            Ok(Exit::Status(status)) => ExitCode::from(status),
            Err(Failure::Usage(problems)) => {
                let said = problems.to_string();
                stdio::stderr().take(said.as_bytes());
                blame(&said);
                ExitCode::from(2)
            }
            Err(Failure::Unanswered(error)) => report(&error, 2),
            Err(Failure::Error(error)) => report(&error, status(&error)),
        }
    }
}

/// How long the end waits for the readers of standard output and error.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Prints an error.
fn report(error: &anyhow::Error, code: u8) -> ExitCode {
    let said = format!("error: {}", chain(error));
    stdio::stderr().line(&said);
    blame(&said);
    ExitCode::from(code)
}

/// Says which flags in an error were set by a variable.
fn blame(said: &str) {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let is_set = |variable: &str| std::env::var_os(variable).is_some();
    stdio::stderr().take(variables::blamed(said, &Cli::command(), &arguments, is_set).as_bytes());
}

/// An error and its causes, each printed once: some errors include their cause.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

/// A runtime for the commands that do I/O over the network.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// A flag with its variable.
    struct Flag {
        /// The command that has it: `ca serve`.
        command: String,
        /// Its long name.
        name: String,
        /// What its value is, for example `NAMESPACE`; empty for switches.
        value: String,
    }

    /// The flags by variable.
    fn variables() -> BTreeMap<String, Vec<Flag>> {
        fn visit(command: &clap::Command, path: &str, found: &mut BTreeMap<String, Vec<Flag>>) {
            for arg in command.get_arguments() {
                let long = arg.get_long().filter(|long| !["help", "version"].contains(long));
                let Some(name) = long.map(|long| format!("--{long}")) else { continue };
                let variable = arg.get_env().and_then(|name| name.to_str());
                let variable = variable.unwrap_or_else(|| panic!("{path} {name} has no variable")).to_owned();
                let value = match arg.get_action().takes_values() {
                    true => arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default(),
                    false => String::new(),
                };
                found.entry(variable).or_default().push(Flag { command: path.to_owned(), name, value });
            }
            for inner in command.get_subcommands() {
                visit(inner, format!("{path} {}", inner.get_name()).trim(), found);
            }
        }
        let mut found = BTreeMap::new();
        visit(&Cli::command(), "", &mut found);
        found
    }

    /// Every flag has a variable, and a variable stands for values of one sort. What it means to the commands that share it
    /// says docs/COMMANDS.md.
    #[test]
    fn each_flag_has_a_variable_that_means_one_thing() {
        for (variable, flags) in variables() {
            assert!(variable.starts_with("EASTWEST_"), "{variable}");
            let values = flags.iter().map(|flag| &*flag.value).filter(|value| !value.is_empty());
            let values: BTreeSet<&str> = values.collect();
            let commands: Vec<&str> = flags.iter().map(|flag| &*flag.command).collect();
            assert!(values.len() <= 1, "{variable} is {values:?} for {commands:?}");
        }
    }

    /// docs/SECURITY.md names flags that exist, and the defaults of those that are limits.
    #[test]
    fn the_flags_of_the_security_page_are_true() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = std::fs::read_to_string(root.join("docs").join("SECURITY.md")).unwrap();
        let known: BTreeSet<String> = variables().into_values().flatten().map(|flag| flag.name).collect();
        let named: BTreeSet<&str> = page
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|quoted| quoted.split(' ').find(|word| word.starts_with("--")))
            .filter(|flag| *flag != "--version")
            .collect();
        let missing: Vec<_> = named.iter().filter(|flag| !known.contains(**flag)).collect();
        assert!(missing.is_empty() && named.len() > 8, "{missing:?} of {named:?}");
        let serve = Cli::command();
        let serve = serve.find_subcommand("serve").unwrap();
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `--")?.split_once("` | `"));
        let mut checked = 0;
        for (flag, rest) in rows {
            let told = rest.split('`').next().unwrap();
            let arg = serve.get_arguments().find(|arg| arg.get_long() == Some(flag)).unwrap();
            let defaults: Vec<_> = arg.get_default_values().iter().map(|one| one.to_string_lossy()).collect();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let is_true =
                defaults.iter().any(|one| one == told) || help.contains(&format!("[default: {told}"));
            assert!(is_true, "--{flag}: {told}, not {defaults:?}: {help}");
            checked += 1;
        }
        assert!(checked > 4, "{checked} rows");
    }

    /// The table of docs/COMMANDS.md has each variable that several commands share, with its flags and commands.
    #[test]
    fn the_table_of_shared_variables_is_true() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let page = std::fs::read_to_string(root.join("docs").join("COMMANDS.md")).unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| `EASTWEST_"));
        let documented: BTreeSet<String> =
            rows.filter_map(|row| row.rsplit_once(" | ")).map(|(row, _)| row.to_owned()).collect();
        let shared = variables().into_iter().filter(|(_, flags)| flags.len() > 1);
        let real: BTreeSet<String> = shared
            .map(|(variable, flags)| {
                let names: BTreeSet<String> = flags.iter().map(|flag| format!("`{}`", flag.name)).collect();
                let names: Vec<_> = names.into_iter().collect();
                let commands: Vec<&str> = flags.iter().map(|flag| &*flag.command).collect();
                format!("| `{variable}` | {} | {}", names.join(", "), commands.join(", "))
            })
            .collect();
        let missing: Vec<_> = real.difference(&documented).collect();
        let stale: Vec<_> = documented.difference(&real).collect();
        assert!(missing.is_empty() && stale.is_empty(), "missing: {missing:#?}\nstale: {stale:#?}");
    }
}
