//! What connected proxies cost the control plane: a server on a directory that this program makes, many clients from one
//! process, and changes until every client has them. Run it by `cargo xtask bench load`.
//!
//! Times are from the moment a file was replaced until a client has the whole response, which it accepts in the same
//! turn. CPU time is that of the server's process. A run in which a client lacks an update, or holds at the end something
//! else than a client that connects anew, is void.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "load/board.rs"]
mod board;
#[path = "load/client.rs"]
mod client;
#[path = "load/events.rs"]
mod events;
#[path = "load/link.rs"]
mod link;
#[path = "load/mesh.rs"]
mod mesh;
#[path = "load/options.rs"]
mod options;
#[path = "load/protocol.rs"]
mod protocol;
#[path = "load/report.rs"]
mod report;
#[path = "load/server.rs"]
mod server;

use std::process::ExitCode;

use clap::Parser as _;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use self::{events::Trial, options::Options, report::Report};

fn main() -> ExitCode {
    // Cargo runs benchmarks as tests as well.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let baseline = options.baseline.as_ref().map(|file| Report::read(file).unwrap());
    if let Some(core) = options.core {
        keep_off(core);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(Trial::run(options.clone()));
    print!("{}", report.table(baseline.as_ref()));
    if let Some(file) = &options.json {
        report.write(file).unwrap();
    }
    if report.is_void() {
        eprintln!("error: updates were lost or stale: this run is void");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Leaves a processor to the server.
fn keep_off(core: usize) {
    let mut others = sched_getaffinity(Pid::from_raw(0)).unwrap();
    others.unset(core).unwrap();
    if (0..CpuSet::count()).any(|one| others.is_set(one) == Ok(true)) {
        sched_setaffinity(Pid::from_raw(0), &others).unwrap();
    }
}
