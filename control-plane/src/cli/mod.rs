//! The command line: one module a command. Commands return an [`Exit`]; only this module knows exit codes.

mod agent;
mod ca;
mod check;
mod cluster;
mod diff;
mod dump;
mod explain;
mod render;
mod serve;
mod status;
mod tls;
mod token;
mod world;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, Subcommand};

use eastwest_io::stdio;

use crate::{config::Problems, output::write_out};

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
    /// Show the effective TLS settings of one workload, each with the object that decided it.
    Tls(tls::TlsArgs),
    /// Explain one client-to-server pair: whether and how it connects, and which objects decided it.
    Explain(explain::ExplainArgs),
    /// Validate manifests; exit 1 if there is an error.
    Check(check::CheckArgs),
    /// Show the effect of a change of the manifests; exit 1 if a connection would break.
    Diff(diff::DiffArgs),
    /// Print the xDS resources of one workload's proxy.
    Render(render::RenderArgs),
    /// Show the connected proxies, or what a control plane follows.
    Status(status::StatusArgs),
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
    /// Anything else: exit 1.
    Error(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// What a command returns.
pub(crate) type Result<T = Exit> = std::result::Result<T, Failure>;

impl Cli {
    /// Runs the command and turns its outcome into an exit code.
    pub(crate) fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => args.run(),
            Command::Agent(args) => args.run(),
            Command::Tls(args) => args.run(),
            Command::Explain(args) => args.run(),
            Command::Check(args) => args.run(),
            Command::Diff(args) => args.run(),
            Command::Render(args) => args.run(),
            Command::Status(args) => args.run(),
            Command::Dump(args) => args.run(),
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
        let code = match result {
            Ok(Exit::Success) => ExitCode::SUCCESS,
            Ok(Exit::Negative) => ExitCode::from(1),
            Ok(Exit::Status(status)) => ExitCode::from(status),
            Err(Failure::Usage(problems)) => {
                stdio::stderr().take(problems.to_string().as_bytes());
                ExitCode::from(2)
            }
            Err(Failure::Error(error)) => {
                stdio::stderr().line(&format!("error: {}", chain(&error)));
                ExitCode::from(1)
            }
        };
        stdio::flush(LAST_WORDS);
        code
    }
}

/// How long the end waits for the readers of standard output and error.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

/// Logs to stderr: `EASTWEST_LOG` (default `info`) filters, `EASTWEST_LOG_FORMAT=json` makes each line an object. A line
/// that nobody takes is dropped. A panic is logged as well.
///
/// # Errors
/// A variable that means nothing.
fn init_logs() -> Result<()> {
    use tracing_subscriber::{EnvFilter, fmt};
    let mut problems = Problems::default();
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let filter = EnvFilter::builder().parse(given("EASTWEST_LOG").as_deref().unwrap_or("info"));
    let remedy =
        "write a level (error, warn, info, debug, trace) or levels of modules, as in info,eastwest_ca=debug";
    let filter = problems.take("EASTWEST_LOG", filter.map_err(|error| format!("{error}: {remedy}")));
    let is_json = match given("EASTWEST_LOG_FORMAT").as_deref() {
        Some("json") => Some(true),
        None | Some("text") => Some(false),
        Some(other) => problems.take("EASTWEST_LOG_FORMAT", Err(format!("{other:?} is not text or json"))),
    };
    let (Some(filter), Some(is_json)) = (filter, is_json) else { return Err(Failure::Usage(problems)) };
    let logs = fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal());
    let logs = logs.with_writer(stdio::stderr);
    match is_json {
        true => logs.json().init(),
        false => logs.with_target(false).init(),
    }
    // The hook of the standard library would wait for a reader of stderr.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}; this is a defect of eastwest")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every flag has an `EASTWEST_…` fallback.
    #[test]
    fn every_flag_has_an_environment_fallback() {
        fn visit(command: &clap::Command) {
            for arg in command.get_arguments().filter(|a| a.get_long().is_some()) {
                let (long, env) = (arg.get_long().unwrap_or_default(), arg.get_env());
                if ["help", "version"].contains(&long) {
                    continue;
                }
                let env = env.and_then(|e| e.to_str()).unwrap_or_else(|| panic!("--{long} has no fallback"));
                assert!(env.starts_with("EASTWEST_"), "--{long}: {env}");
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
