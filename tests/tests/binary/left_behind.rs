//! What an agent leaves behind that is killed, who may write where it works, and signals that end nothing.

use std::{fs, process::Command, time::Duration};

use eastwest_tests::process::{Process, until};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Bench, PATIENCE, Server, set_mode};

/// An agent of `shop/reviews`, which has its state in the folder `agent`, with a command.
fn agent(bench: &Bench, server: &Server, command: &[&str]) -> Command {
    fs::write(bench.path("token"), bench.token("shop/reviews")).unwrap();
    let mut agent = bench.command(&["agent", "--control-plane", &server.tls.to_string()]);
    agent.args(["--ca-root", "state/root-cert.pem", "--token-file", "token", "--namespace", "shop"]);
    agent.args(["--pod", "reviews-0", "--service-account", "reviews", "--ip", "127.0.0.1"]);
    agent.args(["--dir", "agent", "--status-port", "0", "--"]).args(command);
    agent
}

fn start(bench: &Bench, command: Command) -> Process {
    Process::spawn("eastwest agent", command, &bench.path("agent.log")).unwrap()
}

/// The process whose number a command writes into the file `pid`.
fn written_pid(bench: &Bench) -> Pid {
    until("the command", PATIENCE, || {
        let text = fs::read_to_string(bench.path("pid")).unwrap_or_default();
        Ok(text.strip_suffix('\n').and_then(|number| number.parse().ok()).map(Pid::from_raw))
    })
    .unwrap()
}

/// Ended, or a zombie that waits for a parent that has better things to do.
fn has_ended(process: Pid) -> bool {
    let zombie = || {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.contains("State:\tZ")
    };
    kill(process, None) == Err(Errno::ESRCH) || zombie()
}

#[test]
fn the_command_of_a_killed_agent_ends_with_it() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let agent = agent(&bench, &server, &["sh", "-c", "echo $$ > pid; exec sleep 1000"]);
    let mut agent = start(&bench, agent);
    let command = written_pid(&bench);
    assert!(!has_ended(command));
    agent.signal(Signal::SIGKILL).unwrap();
    agent.wait(PATIENCE).unwrap();
    until("the end of the command", PATIENCE, || Ok(has_ended(command).then_some(()))).unwrap();
}

#[test]
fn a_program_that_is_not_there_is_named_at_once() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let mut agent = start(&bench, agent(&bench, &server, &["no-such-envoy", "-c", "x"]));
    assert_eq!(agent.wait(PATIENCE).unwrap().code(), Some(2), "{}", agent.output());
    assert!(agent.output().contains("cannot start \"no-such-envoy\""), "{}", agent.output());
}

#[test]
fn no_signal_but_term_and_int_ends_a_server_or_an_agent() {
    let bench = Bench::new();
    let mut server = bench.serve(&[]);
    let mut idle = start(&bench, agent(&bench, &server, &[]));
    idle.wait_for_line("eastwest agent ready", PATIENCE).unwrap();
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        server.signal(signal);
        idle.signal(signal).unwrap();
    }
    // Both answer a signal that came later.
    idle.signal(Signal::SIGTERM).unwrap();
    assert_eq!(idle.wait(PATIENCE).unwrap().code(), Some(0), "{}", idle.output());
    assert_eq!(server.page("/healthz").0, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(Duration::from_secs(20)).code(), Some(0), "{}", server.output());
}

#[test]
fn a_work_directory_that_others_may_write_is_refused() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    fs::create_dir(bench.path("agent")).unwrap();
    set_mode(&bench.path("agent"), 0o777);
    let mut refused = start(&bench, agent(&bench, &server, &[]));
    assert_eq!(refused.wait(PATIENCE).unwrap().code(), Some(1), "{}", refused.output());
    let said = refused.output();
    assert!(
        said.contains("every user may write to it (mode 0777)") && said.contains("/agent/agent"),
        "{said}"
    );
    assert!(!bench.path("agent/sds.sock").exists(), "nothing is put there");

    set_mode(&bench.path("agent"), 0o755);
    let mut taken = start(&bench, agent(&bench, &server, &[]));
    taken.wait_for_line("eastwest agent ready", PATIENCE).unwrap();
}
