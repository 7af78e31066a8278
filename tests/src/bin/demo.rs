//! The demonstration behind `cargo xtask demo`: one request between two pods, and how much of it can
//! be read on the wire.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use eastwest_tests::{
    app::Answer,
    bookshop::{LEGACY, Member, ORDERS, STOREFRONT},
    capture::Wire,
    mesh::{Mesh, Pod},
    netns,
    process::until,
};

/// A request that is easily recognised on the wire.
const PATH: &str = "/order?title=Moby-Dick";

/// Where the application of orders listens; the Service is at port 80.
const PORT: u16 = 8080;

/// Makes the namespace of the shop STRICT.
const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: default
  namespace: bookshop
spec:
  mtls:
    mode: STRICT
";

fn main() -> ExitCode {
    match clean_up_when_interrupted().and_then(|()| demonstrate()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Removes the namespaces on Ctrl-C, which ends the process without unwinding.
fn clean_up_when_interrupted() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            eprintln!("\nCleaning up.");
            let removed = netns::remove_all();
            std::process::exit(if removed.is_ok() { 130 } else { 1 });
        }
    });
    Ok(())
}

fn demonstrate() -> Result<()> {
    heading("Lifting three pods of the bookshop, each in a network namespace of its own");
    let started = Instant::now();
    let mesh = Mesh::start()?;
    println!("  control plane   ready after {:.1?}", mesh.control_plane.ready_after());
    let client = lift(&mesh, STOREFRONT)?;
    let server = lift(&mesh, ORDERS)?;
    let legacy = mesh.lift_plain(LEGACY)?;
    println!("  {:<15} {}, an application alone, no sidecar", LEGACY.pod, LEGACY.address);
    println!("  {:.1?} in all.", started.elapsed());

    heading(&format!("storefront asks http://{}{PATH}", ORDERS.host()));
    let (wire, answer) = mesh.capture(&server, || client.call(&ORDERS, 80, PATH))?;
    show_answer(&answer)?;
    show_certificates(&[&client, &server])?;
    show_encrypted(&wire)?;

    heading("For contrast, the same request from the pod without a sidecar");
    let (wire, answer) = mesh.capture(&server, || legacy.call_pod(&ORDERS, PORT, PATH))?;
    show_answer(&answer)?;
    println!("  The wire carried:");
    for line in wire.summary("http", PORT)? {
        println!("    {line}");
    }
    println!("  \"Moby-Dick\" can be read in the capture: {}", yes(wire.contains("Moby-Dick")?));

    show_strict(&mesh, &client, &legacy)?;
    linger(&mesh)
}

fn lift(mesh: &Mesh, member: Member) -> Result<Pod> {
    let started = Instant::now();
    let pod = mesh.lift(member)?;
    let took = started.elapsed();
    println!("  {:<15} {}, an application, eastwest agent and Envoy: {took:.1?}", member.pod, member.address);
    Ok(pod)
}

fn show_answer(answer: &Answer) -> Result<()> {
    let seen = answer.seen()?;
    println!("  HTTP {} from {}, who saw:", answer.status, seen["pod"].as_str().unwrap_or("?"));
    println!("    {}", seen["request"].as_str().unwrap_or("?"));
    match answer.header("x-forwarded-client-cert")? {
        Some(identities) => identities.split(';').for_each(|field| println!("    {field}")),
        None => println!("    nothing about who asked: it came in plaintext"),
    }
    Ok(())
}

fn show_certificates(pods: &[&Pod]) -> Result<()> {
    println!("  The certificates, from each Envoy's /certs:");
    for pod in pods {
        let certificate = pod.certificate()?;
        println!("    {:<14} {}", pod.member.pod, certificate.spiffe_id);
        println!("    {:<14} serial {}, expires {}", "", certificate.serial, certificate.expires);
    }
    Ok(())
}

fn show_encrypted(wire: &Wire) -> Result<()> {
    println!("  The wire carried:");
    for line in wire.summary("tls", PORT)?.iter().take(8) {
        println!("    {line}");
    }
    for hello in wire.client_hellos(PORT)? {
        println!("  Readable in the Client Hello: SNI {}, ALPN {}", hello.sni, hello.alpn);
    }
    let streams = wire.streams(PORT)?;
    println!(
        "  {} bytes, {}; \"Moby-Dick\" can be read in the capture: {}",
        streams.bytes,
        if streams.not_tls.is_empty() { "all of them TLS records" } else { "not all of them TLS" },
        yes(wire.contains("Moby-Dick")?)
    );
    Ok(())
}

/// Makes the shop STRICT by adding a file, and asks again from both.
fn show_strict(mesh: &Mesh, client: &Pod, legacy: &Pod) -> Result<()> {
    heading("A file is added: PeerAuthentication bookshop/default, STRICT");
    mesh.manifests.write("strict.yaml", STRICT)?;
    let added = Instant::now();
    let refused = until("the policy to be in force", Duration::from_secs(10), || {
        let answer = legacy.call_pod(&ORDERS, PORT, PATH)?;
        Ok((!answer.is_ok()).then_some(answer))
    })?;
    println!("  in force after {:.1?}", added.elapsed());
    println!("  legacy-0        {}", refused.complaint);
    let answer = client.call(&ORDERS, 80, PATH)?;
    println!("  storefront-0    HTTP {}, as before", answer.status);
    Ok(())
}

/// Keeps the pods running until the user ends the demo.
fn linger(mesh: &Mesh) -> Result<()> {
    heading("Look further");
    let namespaces = mesh.hub().name().trim_end_matches("-hub").to_owned();
    let inside = |pod: &str| format!("sudo ip netns exec {namespaces}-{pod}");
    println!("  {} curl -s localhost:15000/config_dump   # what Envoy was told", inside(STOREFRONT.pod));
    println!("  {} curl -s localhost:15000/certs", inside(ORDERS.pod));
    println!("  {} tshark -i eth0 port {PORT}", inside(ORDERS.pod));
    println!("  {} curl -s 10.77.0.1:15014/debug/syncz   # what each Envoy acknowledged", inside("hub"));
    println!("  {}   # manifests to edit, logs, captures", mesh.dir().display());
    println!(
        "  target/debug/eastwest explain --config-dir docs/examples/bookshop bookshop/storefront-0 {}:80",
        ORDERS.host()
    );
    if io::stdin().is_terminal() {
        println!("\nEverything keeps running until you press Enter.");
        io::stdin().read_line(&mut String::new()).context("no input")?;
    } else {
        println!("\n(In a terminal this waits for Enter, so that you can.)");
    }
    println!("Cleaning up.");
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}
