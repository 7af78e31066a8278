//! A rule's `credentialName` (POLICY.md O7): the control plane hands the Secret to the sidecar that the rule
//! selects, renews it there, and where it is missing nothing goes out in plaintext.

use std::fs;

use anyhow::{Result, ensure};
use eastwest_tests::{
    outside::{DEMANDING, Outcome, PATIENCE, Scene, Server, entry},
    process::until,
};
use serde_json::{Value, json};

/// A Secret from the files of the scene: a client certificate `NAME.pem` with the key `KEY-key.pem`.
fn write_secret(scene: &Scene, name: &str, key: &str) -> Result<()> {
    let read = |file: String| fs::read_to_string(scene.certificates.join(file));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "partner", "namespace": "bookshop"},
        "stringData": {
            "tls.crt": read(format!("{name}.pem"))?,
            "tls.key": read(format!("{key}-key.pem"))?,
            "ca.crt": read("servers.pem".to_owned())?,
        },
    });
    scene.mesh.manifests.write("partner.json", &secret.to_string())
}

/// Rules that originate TLS with the Secret `partner` from the storefront alone.
fn rules(hosts: &[&str]) -> String {
    let rule = |(number, host): (usize, &&str)| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{name: partner-{number}, namespace: bookshop}}\nspec:\n  host: {host}\n  \
             workloadSelector: {{matchLabels: {{app: storefront}}}}\n  \
             trafficPolicy: {{tls: {{mode: MUTUAL, credentialName: partner, subjectAltNames: [demanding.example.org]}}}}\n"
        )
    };
    hosts.iter().enumerate().map(rule).collect()
}

/// Calls until the server has seen a client certificate of this name.
fn seen_as(scene: &Scene, server: Server, name: &str) -> Result<()> {
    until(&format!("{name} at {}", server.host), PATIENCE, || {
        let answer = scene.call(server)?;
        let subject =
            answer.body.lines().find(|line| line.contains("Subject:")).unwrap_or_default().to_owned();
        Ok((answer.is_ok() && subject.trim_end().ends_with(name)).then_some(()))
    })
}

fn check(scene: &Scene) -> Result<String> {
    scene.mesh.control_plane.page(scene.mesh.hub(), "/debug/check")
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_secret_is_sent_to_the_sidecar_that_a_rule_selects_and_renewed_there() -> Result<()> {
    let scene = Scene::start()?;
    // The Secret is not there at first. A host that is new with its rule is never called in plaintext.
    let newcomer = Server { host: "newcomer.example.org", ..DEMANDING };
    scene.mesh.manifests.write("partner-rules.yaml", &rules(&[newcomer.host]))?;
    until("the rule to be known", PATIENCE, || {
        Ok(check(&scene)?.contains("matches no service").then_some(()))
    })?;
    scene.mesh.manifests.write("newcomer.yaml", &entry(newcomer))?;
    until("the complaint", PATIENCE, || {
        Ok(check(&scene)?.contains("Secret/bookshop/partner is not there").then_some(()))
    })?;
    let answer = scene.call(newcomer)?;
    println!("without its Secret: {} {}", answer.status, answer.body);
    ensure!(answer.status == 503, "{answer:?}");

    write_secret(&scene, "client", "client")?;
    seen_as(&scene, newcomer, "client")?;

    // A renewal: the same CA, another certificate and key.
    scene.clients.certify(&scene.certificates, "client-renewed", "client.example.org")?;
    write_secret(&scene, "client-renewed", "client-renewed")?;
    seen_as(&scene, newcomer, "client-renewed")?;
    ensure!(scene.client.stats(".update_rejected")? == 0, "Envoy refused something");

    // One that the server does not trust is used, too: nothing falls back to another one.
    write_secret(&scene, "stranger", "stranger")?;
    until("refusal by the server", PATIENCE, || {
        Ok((scene.observe(newcomer)?.0 == Outcome::RefusedByServer).then_some(()))
    })?;
    write_secret(&scene, "client", "client")?;
    seen_as(&scene, newcomer, "client")?;

    // A pair that does not belong together is told, and the last good one stays.
    write_secret(&scene, "client-renewed", "client")?;
    until("the complaint", PATIENCE, || Ok(check(&scene)?.contains("does not belong to").then_some(())))?;
    seen_as(&scene, newcomer, "client")?;

    let dump: Value =
        serde_json::from_str(&scene.client.admin("/config_dump?resource=dynamic_active_secrets")?)?;
    println!("secrets of the storefront: {}", dump["configs"].to_string().len());
    let names = dump["configs"].to_string();
    ensure!(
        names.contains("kubernetes://partner") && names.contains("kubernetes://partner-cacert"),
        "{names}"
    );
    eastwest_tests::mesh::nothing_was_refused(&scene.mesh, &[&scene.client])
}
