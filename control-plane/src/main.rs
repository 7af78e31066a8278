//! eastwest: certificate authority and xDS server for mutual TLS.

mod cli;
mod config;
mod output;
mod query;
mod remote;
mod serve;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
