//! What a cluster costs the control plane: its start, and a change until all proxies have it.
//!
//! `cargo bench -p eastwest-tests --bench cluster` needs the Kubernetes API that `cargo xtask tools` builds. `EASTWEST_BIN`
//! names the program (a release build), `CLUSTER_PODS` and `CLUSTER_SERVICES` the size, `CLUSTER_PROXIES` the number of
//! connected proxies.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "cluster/mesh.rs"]
mod mesh;
#[path = "cluster/program.rs"]
mod program;
#[path = "cluster/proxies.rs"]
mod proxies;

use std::time::{Duration, Instant};

use eastwest_tests::{kubernetes::Kubernetes, programs};

use self::{mesh::Mesh, program::Program, proxies::Proxies};

/// How often each change is made.
const ROUNDS: usize = 40;

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn main() {
    // Cargo runs benchmarks as tests as well.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let (pods, services) = (number("CLUSTER_PODS", 2_000), number("CLUSTER_SERVICES", 1_000));
    let proxies = number("CLUSTER_PROXIES", 500);
    let dir = tempfile::tempdir().unwrap();
    let kubernetes = Kubernetes::start(dir.path()).unwrap();
    kubernetes.apply(&programs::istio_definitions().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let kubeconfig = kubernetes.admin_kubeconfig().unwrap();
    let made = Instant::now();
    let mesh = runtime.block_on(Mesh::make(&kubeconfig, pods, services));
    println!("made {pods} pods and {services} services in {:.0?}", made.elapsed());

    for round in 1..=3 {
        let program = Program::start(&kubeconfig, dir.path(), &format!("start-{round}"));
        println!(
            "start {round}: ready after {:.2?}, CPU {:.2} s, resident {} MB",
            program.ready_after,
            program.cpu(),
            program.resident() >> 20
        );
    }
    let program = Program::start(&kubeconfig, dir.path(), "changes");
    let connected = runtime.block_on(Proxies::connect(program.grpc(), &mesh, proxies));
    println!("{proxies} proxies: resident {} MB", program.resident() >> 20);
    // What follows the start in the background has ended by then.
    std::thread::sleep(Duration::from_secs(20));
    let before = (program.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let share = (program.cpu() - before.0) / before.1.elapsed().as_secs_f64();
    println!("idle with {proxies} proxies: {:.3} % of a core", share * 100.0);
    for change in ["endpoint", "PeerAuthentication"] {
        let before = program.cpu();
        let mut times: Vec<_> =
            (0..ROUNDS).map(|round| runtime.block_on(connected.time(&mesh, change, round))).collect();
        times.sort();
        let (median, p99) = (times[ROUNDS / 2], times[(ROUNDS * 99).div_ceil(100) - 1]);
        let cpu = (program.cpu() - before) / ROUNDS as f64 * 1e3;
        println!("{change}: until all have it: median {median:.1?}, p99 {p99:.1?}, CPU {cpu:.0} ms each");
    }
}
