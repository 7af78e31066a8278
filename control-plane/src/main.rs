//! eastwest: certificate authority and xDS server for mutual TLS.

// They panic when nobody reads: `eastwest_io::stdio` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod config;
mod names;
mod output;
mod query;
mod remote;
mod request;
mod serve;
mod suggest;

use std::process::ExitCode;

use eastwest_io::descriptors;

/// Of the CPU time of a certificate, a fifteenth less than with the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Keys and tokens lie in memory, some in the environment: no core dump has them, and of our own user nobody may
    // look. Where the system has no such thing nothing is lost. What `agent` starts is its own master again.
    let _ = nix::sys::prctl::set_dumpable(false);
    descriptors::raise_limit();
    cli::run()
}
