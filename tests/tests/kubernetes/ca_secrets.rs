//! The key material of the CA in Secrets.

use eastwest_ca::NewRoot;
use eastwest_ca_server::root_status::Source;
use eastwest_tests::process::until;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::{
    PATIENCE,
    cluster::Cluster,
    replica::{self, Replica, cacerts, istiods_root, put, root, secret, set, text, usual},
};

const ROOTS: &str = "istio-ca-secret";
const SHARED: &str = "eastwest-ca-state";
const PLUGGED: &str = "cacerts";

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Waits until a Secret satisfies `condition`.
fn wait(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> Value {
    until(what, PATIENCE, || Ok(secret(cluster, namespace, name).filter(|found| condition(found)))).unwrap()
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn of_replicas_that_start_at_once_one_makes_the_root_and_the_others_take_it_over() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let replicas: Vec<_> = (0..4).map(|_| Replica::start(&cluster, &namespace, false)).collect();
    let signer = replicas[0].signer();
    for replica in &replicas {
        assert_eq!((replica.signer(), replica.roots()), (signer.clone(), vec![signer.clone()]));
        assert_eq!(replica.status().source, Source::Secret(format!("{namespace}/{ROOTS}")));
        assert_eq!(replica.problems(), [""; 0]);
    }
    let made = secret(&cluster, &namespace, ROOTS).unwrap();
    assert_eq!(made["type"], "istio.io/ca-root");
    let names: Vec<_> = made["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);
    assert_eq!(text(&made, "ca-cert.pem"), text(&made, "root-cert.pem"));
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "eastwest");

    // So is the trust bundle with its number and the key of JWT-SVIDs, and it outlives all replicas.
    let bundles: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = replicas.iter().map(|one| scope.spawn(|| one.bundle())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let bundle = bundles[0].clone();
    assert!(bundle.sequence().is_some() && bundles.iter().all(|one| *one == bundle));
    drop(replicas);
    let next = Replica::start(&cluster, &namespace, false);
    assert_eq!((next.signer(), next.bundle()), (signer, bundle));
    assert_eq!(secret(&cluster, &namespace, ROOTS).unwrap(), made, "nothing is written again");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_root_that_istiod_made_is_taken_over_and_stays_as_it_is() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let (certificate, key) = istiods_root(cluster.dir());
    assert!(key.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "PKCS#1");
    let files = [
        ("ca-cert.pem", certificate.as_str()),
        ("ca-key.pem", key.as_str()),
        ("cert-chain.pem", ""),
        ("root-cert.pem", ""),
        ("key.pem", ""),
    ];
    put(&cluster, &namespace, ROOTS, &files);
    let before = secret(&cluster, &namespace, ROOTS).unwrap();
    let replica = Replica::start(&cluster, &namespace, true);
    assert_eq!(replica.ca().roots_pem(), certificate);
    assert_eq!(replica.problems(), [""; 0]);
    replica.bundle();
    wait(&cluster, &namespace, SHARED, "what was in force", |found| {
        found["data"]["in-force.json"].is_string()
    });
    assert_eq!(secret(&cluster, &namespace, ROOTS).unwrap(), before, "not even its version");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_secret_that_is_deleted_or_damaged_is_put_back_by_the_leader() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let (leader, other) =
        (Replica::start(&cluster, &namespace, true), Replica::start(&cluster, &namespace, false));
    let signer = leader.signer();
    leader.bundle();
    for name in [ROOTS, SHARED] {
        let good = wait(&cluster, &namespace, name, "its first content", |found| {
            name == ROOTS || found["data"]["in-force.json"].is_string()
        });
        let is_good = |found: &Value| found["data"] == good["data"] && found["type"] == good["type"];
        let damages: [&dyn Fn(); 4] = [
            &|| replica::delete(&cluster, &namespace, name),
            &|| put(&cluster, &namespace, name, &[("ca-key.pem", "x"), ("in-force.json", "{")]),
            &|| {
                set(
                    &cluster,
                    &namespace,
                    name,
                    if name == ROOTS { "ca-key.pem" } else { "jwt-svid-key.pem" },
                    "",
                )
            },
            &|| put(&cluster, &namespace, name, &[("rotation.json", "{}"), ("revocations.pem", "x")]),
        ];
        for (number, damage) in damages.iter().enumerate() {
            damage();
            wait(&cluster, &namespace, name, &format!("{name} as before, after damage {number}"), is_good);
        }
    }
    // Nobody puts back what nobody leads for: it is told, and signing goes on.
    leader.lead(false);
    replica::delete(&cluster, &namespace, ROOTS);
    let place = format!("Secret {namespace}/{ROOTS}");
    other.wait("a problem", |one| {
        one.problems().iter().any(|told| told.contains(&place) && told.contains("deleted"))
    });
    assert_eq!((other.signer(), leader.signer()), (signer.clone(), signer.clone()));
    assert!(secret(&cluster, &namespace, ROOTS).is_none());
    other.lead(true);
    wait(&cluster, &namespace, ROOTS, "the Secret again", |_| true);
    other.wait("no problem", |one| one.problems().is_empty());
    assert_eq!(Replica::start(&cluster, &namespace, false).signer(), signer);
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_secret_that_is_replaced_by_another_good_one_is_followed() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let (leader, other) =
        (Replica::start(&cluster, &namespace, true), Replica::start(&cluster, &namespace, false));
    let before = leader.signer();
    assert_eq!(other.signer(), before);
    let (certificate, key) = root(&usual(), now());
    put(&cluster, &namespace, ROOTS, &[("ca-cert.pem", &certificate), ("ca-key.pem", &key)]);
    for replica in [&leader, &other] {
        replica.wait("the other CA", |one| one.signer() != before && one.roots().len() == 2);
        assert_eq!((replica.roots()[1].clone(), replica.problems()), (before.clone(), vec![]));
    }
    let found = secret(&cluster, &namespace, ROOTS).unwrap();
    assert_eq!(text(&found, "ca-cert.pem"), certificate, "nobody writes over it");
    // A replica that starts now knows what the certificates of the others need.
    wait(&cluster, &namespace, SHARED, "the roots before", |found| {
        text(found, "in-force.json").contains("carried")
    });
    assert_eq!(Replica::start(&cluster, &namespace, false).roots(), leader.roots());
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_secret_that_cannot_be_read_at_the_start_is_named_and_left_alone() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let (certificate, key) = root(&usual(), now());
    let (_, another) = root(&usual(), now());
    let place = format!("Secret {namespace}/{ROOTS}");
    put(&cluster, &namespace, ROOTS, &[]);
    let replica = Replica::start(&cluster, &namespace, true);
    let bad: [(&[(&str, &str)], &str); 5] = [
        (&[], "there is no CA in this Secret"),
        (&[("ca-key.pem", &key)], "ca-cert.pem: is missing although"),
        (&[("ca-cert.pem", &certificate), ("ca-key.pem", "rubbish")], "ca-key.pem: not a private key"),
        (&[("ca-cert.pem", &certificate), ("ca-key.pem", &another)], "does not belong"),
        (&[("ca-cert.pem", &certificate), ("ca-key.pem", &key), ("rotation.json", "{")], "rotation.json: "),
    ];
    for (files, said) in bad {
        put(&cluster, &namespace, ROOTS, files);
        let before = secret(&cluster, &namespace, ROOTS);
        let told = || Ok(replica.problem().filter(|told| told.contains(&place) && told.contains(said)));
        let told =
            until(said, PATIENCE, told).unwrap_or_else(|error| panic!("{error}: {:?}", replica.problem()));
        assert!(told.contains("from a backup, or delete it"), "{told}");
        assert!(!told.contains("rubbish") && !told.contains(key.lines().nth(1).unwrap()), "{told}");
        assert!(!replica.is_ready());
        assert_eq!(secret(&cluster, &namespace, ROOTS), before, "nothing is written");
    }
    put(&cluster, &namespace, ROOTS, &[("ca-cert.pem", &certificate), ("ca-key.pem", &key)]);
    assert_eq!(replica.ca().roots_pem(), certificate);
    assert_eq!(replica.problem(), None);
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_plugged_in_ca_appears_changes_breaks_and_goes_without_a_restart() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let (leader, other) =
        (Replica::start(&cluster, &namespace, true), Replica::start(&cluster, &namespace, false));
    let own = leader.signer();
    let (one, two) = (root(&usual(), now()), root(&usual(), now()));
    let place = format!("Secret {namespace}/{PLUGGED}");
    let both = [&leader, &other];

    put(&cluster, &namespace, PLUGGED, &cacerts(&one, &one.0));
    for replica in both {
        replica.wait("the plugged-in CA", |replica| replica.signer() != own);
        assert_eq!(replica.status().source, Source::PluggedInSecret(format!("{namespace}/{PLUGGED}")));
        assert_eq!(replica.roots().len(), 2, "the root before stays trusted while its certificates live");
        assert!(replica.roots().contains(&own));
    }
    let first = leader.signer();
    // Incomplete, then not fitting: named, and signing goes on.
    for (files, said) in [
        (&cacerts(&two, &two.0)[..2], "cert-chain.pem are missing"),
        (&cacerts(&two, &one.0)[..], "ca-cert.pem, ca-key.pem"),
    ] {
        put(&cluster, &namespace, PLUGGED, files);
        for replica in both {
            replica.wait(said, |one| {
                one.problems().iter().any(|told| told.contains(&place) && told.contains(said))
            });
            assert_eq!(replica.signer(), first);
        }
    }
    let roots = format!("{}{}", two.0, one.0);
    put(&cluster, &namespace, PLUGGED, &cacerts(&two, &roots));
    for replica in both {
        replica.wait("the next CA", |replica| replica.signer() != first && replica.problems().is_empty());
        assert_eq!(replica.roots().len(), 3);
    }
    let second = leader.signer();
    replica::delete(&cluster, &namespace, PLUGGED);
    for replica in both {
        replica.wait("a problem", |one| {
            one.problems().iter().any(|told| told.contains("the plugged-in CA is gone"))
        });
        assert_eq!(replica.signer(), second);
    }
    // A replica that starts now does not sign with a root that nobody knows from the others.
    let late = Replica::start(&cluster, &namespace, false);
    let told = || {
        Ok(late.problem().filter(|told| told.contains(&place) && told.contains("create the Secret again")))
    };
    until("a refusal", PATIENCE, told).unwrap();
    put(&cluster, &namespace, PLUGGED, &cacerts(&two, &roots));
    assert_eq!((late.signer(), late.roots()), (second, leader.roots()));
    assert_eq!(
        text(&secret(&cluster, &namespace, ROOTS).unwrap(), "root-cert.pem").matches("BEGIN").count(),
        1
    );
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_rotation_is_continued_by_another_replica() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    // A root for which every step is due.
    let old = NewRoot { life: std::time::Duration::from_secs(7200), ..usual() };
    let (certificate, key) = root(&old, now() - Duration::seconds(6500));
    put(&cluster, &namespace, ROOTS, &[("ca-cert.pem", &certificate), ("ca-key.pem", &key)]);
    // Two steps are a thousandth of a root's life apart in real time (CA.md C40), so its successor's is short as well.
    let next = || NewRoot { life: std::time::Duration::from_secs(4 * 3600), ..usual() };
    let start = || Replica::start_with(&cluster, &namespace, false, next());
    let (first, second) = (start(), start());
    let signer = first.signer();
    assert_eq!(second.signer(), signer);
    first.lead(true);
    for replica in [&first, &second] {
        replica.wait("the next root in the bundle", |one| one.roots().len() == 2 && one.signer() == signer);
    }
    // What was issued before lives for an hour, as far as anybody knows.
    let told = |found: &Value| text(found, "rotation.json").contains("\"covered\": \"20");
    let published = wait(&cluster, &namespace, ROOTS, "until when to wait", told);
    assert_eq!(text(&published, "ca-cert.pem"), certificate);
    assert_eq!(text(&published, "root-cert.pem").matches("BEGIN CERTIFICATE").count(), 2);
    drop(first);

    second.lead(true);
    let in_the_past = |step: &str| {
        let found = wait(&cluster, &namespace, ROOTS, step, told);
        let mut record: Value = serde_json::from_str(&text(&found, "rotation.json")).unwrap();
        let covered = OffsetDateTime::parse(
            record["covered"].as_str().unwrap(),
            &time::format_description::well_known::Rfc3339,
        );
        let left = covered.unwrap() - now();
        assert!(left > Duration::seconds(600), "{step}: {left}");
        record["covered"] = "2026-01-01T00:00:00Z".into();
        set(&cluster, &namespace, ROOTS, "rotation.json", &record.to_string());
    };
    in_the_past("publish");
    second.wait("the next signer", |one| one.signer() != signer && one.roots().len() == 2);
    let active = wait(&cluster, &namespace, ROOTS, "the old key under its own name", |found| {
        found["data"]["ca-1-key.pem"].is_string()
    });
    assert_ne!(text(&active, "ca-cert.pem"), certificate, "what signs is where istiod looks for it");
    assert_eq!(text(&active, "ca-1-cert.pem"), certificate);
    let third = start();
    assert_eq!((third.signer(), third.roots()), (second.signer(), second.roots()));
    in_the_past("activate");
    for replica in [&second, &third] {
        replica.wait("one root", |one| one.roots().len() == 1 && one.signer() != signer);
    }
    // A root that retires by itself keeps its key, unused, in case the clock was wrong (CA.md C40).
    let retired = wait(&cluster, &namespace, ROOTS, "one root", |found| {
        text(found, "root-cert.pem").matches("BEGIN CERTIFICATE").count() == 1
    });
    assert_eq!((text(&retired, "ca-1-cert.pem"), text(&retired, "ca-1-key.pem")), (certificate, key));
    assert_eq!((second.problems(), third.problems()), (vec![], vec![]));
    assert_eq!(start().signer(), second.signer());
}
