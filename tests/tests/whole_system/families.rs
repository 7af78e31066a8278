//! Pods with IPv6 alone, and with IPv4 and IPv6 (POLICY.md L9): calls of either family are mutual TLS, and STRICT
//! refuses plaintext of either.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use eastwest_tests::{
    app::{self, url_host},
    bookshop::Member,
    mesh::{Mesh, Pod, nothing_was_refused},
    process::{run, until},
};

const PATIENCE: Duration = Duration::from_secs(15);

/// A text that must not be readable on the wire.
const SECRET: &str = "the-ink-of-the-letter";

/// Calls the others.
const QUILL: Member = Member {
    namespace: "paper",
    pod: "quill-0",
    app: "quill",
    version: "v1",
    address: "fd77::10",
    more_addresses: &[],
    ports: &[8080],
    greeting_ports: &[],
};

/// Is called; its port 7000 is listed by no Service.
const INK: Member = Member {
    pod: "ink-0",
    app: "ink",
    address: "fd77::20",
    ports: &[8080, 6000, 7000],
    greeting_ports: &[5000],
    ..QUILL
};

/// Has no sidecar.
const BLOT: Member = Member { pod: "blot-0", app: "blot", address: "fd77::30", ..QUILL };

/// A Service of INK: its name and cluster IPs, whose families are those of its endpoints.
type Service = (&'static str, &'static [&'static str]);

const OF_V6: Service = ("ink6", &["fd96::6"]);
const OF_V4: Service = ("ink4", &["10.96.7.4"]);
const OF_BOTH: Service = ("ink", &["fd96::20", "10.96.7.20"]);

/// The namespace, its STRICT policy, the pods and the Services of INK.
fn objects(members: &[Member], services: &[Service]) -> String {
    let list = |items: &[&str]| items.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", ");
    let pod = |member: &Member| {
        let addresses: Vec<_> =
            member.addresses().iter().map(|address| format!("{{ip: '{address}'}}")).collect();
        let mark = if member.pod == BLOT.pod { "" } else { ", security.istio.io/tlsMode: istio" };
        format!(
            "---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {}, namespace: paper, labels: {{app: {}, version: v1{mark}}}}}\n\
             spec: {{serviceAccountName: {}, containers: [{{name: app, image: app}}]}}\n\
             status: {{phase: Running, podIP: '{}', podIPs: [{}], conditions: [{{type: Ready, status: 'True'}}]}}\n",
            member.pod,
            member.app,
            member.app,
            member.address,
            addresses.join(", ")
        )
    };
    let service = |(name, cluster_ips): &Service| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: paper}}\n\
             spec: {{clusterIP: '{}', clusterIPs: [{}], selector: {{app: ink}}, ports: [{{name: http, port: 80, \
             targetPort: 8080}}, {{name: tcp, port: 6000}}, {{name: tcp-greeting, port: 5000}}]}}\n",
            cluster_ips[0],
            list(cluster_ips)
        )
    };
    let fixed = "apiVersion: v1\nkind: Namespace\nmetadata: {name: paper}\n\
                 ---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                 metadata: {name: default, namespace: paper}\nspec: {mtls: {mode: STRICT}}\n";
    fixed.to_owned() + &members.iter().map(pod).chain(services.iter().map(service)).collect::<String>()
}

/// Starts the mesh and lifts the members: those with a sidecar, and the last one without.
fn lift<const N: usize>(members: [Member; N], services: &[Service]) -> Result<(Mesh, [Pod; N])> {
    let mesh = Mesh::start()?;
    mesh.manifests.write("paper.yaml", &objects(&members, services))?;
    let pods: Vec<Pod> = members
        .iter()
        .map(|member| if member.pod == BLOT.pod { mesh.lift_plain(*member) } else { mesh.lift(*member) })
        .collect::<Result<_>>()?;
    let pods: [Pod; N] = pods.try_into().ok().context("as many pods as members")?;
    Ok((mesh, pods))
}

/// Calls a Service of one family, whose endpoint is the server's `address`: in HTTP, in bytes, and where the server
/// speaks first.
fn calls_are_mutual_tls(
    mesh: &Mesh,
    client: &Pod,
    server: &Pod,
    (name, cluster_ips): Service,
    address: &str,
) -> Result<()> {
    let service = cluster_ips[0];
    has_listener(client, service)?;
    let (wire, answer) = mesh.capture(server, || {
        let host = format!("{name}.paper.svc.cluster.local");
        let answer = app::curl(&client.namespace, &host, service, 80, &format!("/{SECRET}"))?;
        let mut talk = app::Talk::open(&client.namespace, service, 5000, &mesh.dir().join("talk.log"))?;
        ensure!(talk.greeting()?.0 == "welcome to ink-0", "no greeting at {service}");
        talk.exchange(SECRET)?;
        ensure!(client.echoes(service, 6000)?, "no echo at {service}");
        Ok(answer)
    })?;
    let peers = answer.header("x-forwarded-client-cert")?.context("no peer is named")?;
    ensure!(peers.contains(&format!("URI={}", client.member.spiffe_id())), "{peers}");
    let source = if address.contains(':') { "::6" } else { "127.0.0.6" };
    ensure!(answer.seen()?["peer"] == source, "the application is called from {}", answer.seen()?["peer"]);
    ensure!(!wire.contains(SECRET)?, "readable at {service}");
    for port in [8080, 5000, 6000] {
        let streams = wire.streams(port)?;
        ensure!(streams.count > 0 && streams.not_tls.is_empty(), "{service}, port {port}: {streams:?}");
        let called: BTreeSet<_> =
            wire.client_hellos(port)?.into_iter().map(|hello| hello.destination).collect();
        ensure!(called == BTreeSet::from([address.to_owned()]), "{service}, port {port}: {called:?}");
    }
    Ok(())
}

fn has_listener(client: &Pod, service: &str) -> Result<()> {
    until("the listener of the Service", PATIENCE, || {
        Ok(client.admin("/listeners")?.contains(&format!("{service}_6000")).then_some(()))
    })
}

/// Plaintext from a pod without a sidecar to an address of the server.
fn plaintext_is_refused(outsider: &Pod, server: &Pod, address: &str) -> Result<()> {
    for port in [8080, 6000, 7000] {
        let before = server.stats("no_filter_chain_match")?;
        let answer = app::curl(&outsider.namespace, address, address, port, "/")?;
        ensure!(matches!(answer.code, 52 | 56), "STRICT {address} port {port} answered: {answer:?}");
        let after = server.stats("no_filter_chain_match")?;
        ensure!(after == before + 1, "{address} port {port} is not refused for want of TLS");
    }
    // The agent asks Envoy for its certificate from time to time.
    until("a ready pod at its status port", Duration::from_secs(10), || {
        let mut probe = outsider.namespace.command("curl");
        probe.args(["--silent", "--show-error", "--globoff", "--max-time", "5"]);
        probe.arg(format!("http://{}:15021/healthz/ready", url_host(address)));
        Ok((run(probe)?.trim() == "ready").then_some(()))
    })
}

/// Addresses at which an application reaches itself and what nobody knows, as from any pod.
fn own_calls_work(server: &Pod, address: &str, service: &str) -> Result<()> {
    ensure!(server.echoes(service, 6000)?, "the pod does not reach its own Service at {service}");
    ensure!(server.echoes(address, 6000)?, "the pod does not reach itself at {address}");
    Ok(())
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn pods_with_ipv6_alone_call_each_other_by_mutual_tls() -> Result<()> {
    let (mesh, [client, server, outsider]) = lift([QUILL, INK, BLOT], &[OF_V6])?;
    calls_are_mutual_tls(&mesh, &client, &server, OF_V6, INK.address)?;
    plaintext_is_refused(&outsider, &server, INK.address)?;
    own_calls_work(&server, INK.address, OF_V6.1[0])?;
    ensure!(
        outsider.echoes(QUILL.address, 8080).is_ok_and(|answered| !answered),
        "STRICT also at the other pod"
    );
    let listeners = client.admin("/listeners")?;
    ensure!(!listeners.contains("0.0.0.0"), "a listener of IPv4: {listeners}");
    ensure!(listeners.contains("virtualInbound::[::]:15006"), "{listeners}");
    nothing_was_refused(&mesh, &[&client, &server])
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn pods_with_both_families_call_each_other_by_mutual_tls_in_either() -> Result<()> {
    let both = |member, more: &'static [&'static str]| Member { more_addresses: more, ..member };
    let members = [both(QUILL, &["10.77.0.10"]), both(INK, &["10.77.0.20"]), both(BLOT, &["10.77.0.30"])];
    let (mesh, [client, server, outsider]) = lift(members, &[OF_V6, OF_V4, OF_BOTH])?;
    for (service, address) in [(OF_V6, INK.address), (OF_V4, "10.77.0.20")] {
        calls_are_mutual_tls(&mesh, &client, &server, service, address)?;
        plaintext_is_refused(&outsider, &server, address)?;
        own_calls_work(&server, address, service.1[0])?;
    }
    for service in OF_BOTH.1 {
        has_listener(&client, service)?;
        ensure!(client.echoes(service, 6000)?, "no echo at {service}");
    }
    nothing_was_refused(&mesh, &[&client, &server])
}

/// Of a Service with both families, a client with one of them gets the endpoints that it can dial.
#[test]
#[ignore = "needs root and stock Envoy"]
fn a_pod_with_one_family_reaches_a_service_with_both() -> Result<()> {
    let four = Member { address: "10.77.0.11", pod: "quill-4", ..QUILL };
    let six = Member { pod: "quill-6", ..QUILL };
    let server = Member { more_addresses: &["10.77.0.20"], ..INK };
    let (mesh, [four, six, server]) = lift([four, six, server], &[OF_BOTH])?;
    let [v6, v4] = [OF_BOTH.1[0], OF_BOTH.1[1]];
    for (client, service) in [(&four, v4), (&six, v6)] {
        has_listener(client, service)?;
        for round in 0..10 {
            ensure!(client.echoes(service, 6000)?, "{} at {service}, round {round}", client.member.pod);
        }
        let endpoints = client.admin("/clusters")?;
        let of_ink: Vec<_> = endpoints
            .lines()
            .filter(|line| line.starts_with("outbound|6000||ink.") && line.contains("::health_flags"))
            .collect();
        ensure!(of_ink.len() == 1, "{}: {of_ink:?}", client.member.pod);
    }
    nothing_was_refused(&mesh, &[&four, &six, &server])
}
