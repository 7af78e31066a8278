//! A CA that is plugged in: at the start, later, exchanged, damaged, with revocation lists; and istiod's settings.

use std::{fs, os::unix::fs::symlink, path::Path};

use eastwest_tests::process::until;
use time::OffsetDateTime;
use tonic::Code;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::harness::{
    Bench, PATIENCE, Server,
    clients::{Svid, certificates, certify, tls},
    plugged::{FILES, Pki, Place, Plugged, problem, status},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_plugged_in_ca_signs_from_the_start() {
    let (place, pki) = (Place::new(), Pki::new("root"));
    let ca = pki.ca("one");
    ca.write(&place.dir);
    let server = place.serve();
    let (_, chain) = place.ask(&server).await;
    assert_eq!(chain.len(), 3, "leaf, intermediate, roots");
    assert_eq!(certificates(&chain[1]), [ca.certificate()]);
    assert_eq!(certificates(&chain[2]), certificates(&pki.root));
    assert_eq!(certificates(&place.bench.root()), certificates(&pki.root), "the trust anchor for agents");
    assert!(!place.bench.state().join("ca-key.pem").exists(), "no root of our own is made");
    place.bench.run(&["ca", "ledger", "verify"]).success();
    let status = status(&server);
    assert_eq!(status["source"]["kind"], "plugged-in");
    assert_eq!(status["signing_chain"].as_array().unwrap().len(), 2);
    assert!(!status.to_string().contains("PRIVATE"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_appears_later_is_taken_and_the_old_root_stays_while_its_certificates_live() {
    let (place, pki) = (Place::new(), Pki::new("root"));
    let server = place.serve();
    assert!(server.output().contains("no CA in"), "{}", server.output());
    let own = place.bench.root();
    let (held, before) = place.ask(&server).await;
    assert_eq!(before.len(), 2, "our own root signs");

    let ca = pki.ca("one");
    ca.write(&place.dir);
    let chain = place.signed_by(&server, &ca).await;
    let both: Vec<_> = [certificates(&pki.root), certificates(&own)].concat();
    assert_eq!(certificates(&chain[2]), both, "new and old root");
    assert_eq!(certificates(&place.bench.root()), both);
    assert!(server.output().contains("in nobody's trust bundle before"), "{}", server.output());
    // A certificate of the old root still renews itself.
    let channel = tls(server.tls, &place.bench.root(), Some(&held)).await.unwrap();
    let (_, renewed) = certify(channel, None, 0).await.unwrap();
    assert_eq!(certificates(&renewed[1]), [ca.certificate()]);
    // A certificate may be signed just before page and metrics tell of its signer.
    server.until("/debug/ca", |page| page["signing"]["reloads"] == 1);
    let (_, metrics) = server.page("/metrics");
    assert!(
        metrics.contains("eastwest_ca_reloads 1\n") && metrics.contains("eastwest_ca_roots 2\n"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_secret_is_exchanged_and_what_is_bad_changes_nothing() {
    let (place, pki) = (Place::new(), Pki::new("root"));
    let (one, two) = (pki.ca("one"), pki.ca("two"));
    let secret = place.bench.path("secret");
    let mount = |name: &str, ca: &Plugged| {
        ca.write(&secret.join(name));
        let link = secret.join("..data_new");
        symlink(name, &link).unwrap();
        fs::rename(link, secret.join("..data")).unwrap();
    };
    mount("..1", &one);
    fs::create_dir(&place.dir).unwrap();
    fs::remove_dir(&place.dir).unwrap();
    symlink(&secret, &place.dir).unwrap();
    for name in FILES {
        symlink(Path::new("..data").join(name), secret.join(name)).unwrap();
    }
    let server = place.serve();
    let held = place.ask(&server).await.0;
    mount("..2", &two);
    place.signed_by(&server, &two).await;
    assert_eq!(certificates(&place.bench.root()), certificates(&pki.root), "the root did not change");

    let mut mismatched = pki.ca("three");
    mismatched.files[1] = one.files[1].clone();
    mount("..3", &mismatched);
    problem(&server, "plugged-in-ca", Some("does not belong to the signing certificate"));
    place.signed_by(&server, &two).await;
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("eastwest_ca_problems 1\n"), "{metrics}");
    let channel = tls(server.tls, &pki.root, Some(&held)).await.unwrap();
    certify(channel, None, 0).await.expect("who was somebody before still is");

    fs::remove_file(secret.join("ca-key.pem")).unwrap();
    problem(&server, "plugged-in-ca", Some("ca-key.pem is missing although"));
    fs::remove_file(secret.join("..data")).unwrap();
    problem(&server, "plugged-in-ca", Some("is gone; signing goes on"));
    place.signed_by(&server, &two).await;

    symlink("..data/ca-key.pem", secret.join("ca-key.pem")).unwrap();
    let four = pki.ca("four");
    mount("..4", &four);
    place.signed_by(&server, &four).await;
    problem(&server, "plugged-in-ca", None);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_lists_are_taken_and_dropped_and_a_bad_one_blocks_nothing() {
    let (place, pki) = (Place::new(), Pki::new("root"));
    let ca = pki.ca("one");
    ca.write(&place.dir);
    let server = place.serve();
    let (held, chain) = place.ask(&server).await;
    let (other, _) = place.ask(&server).await;
    let file = place.dir.join("ca-crl.pem");
    let root = pki.root.clone();
    let renewal = async |svid: &Svid| {
        let channel = tls(server.tls, &root, Some(svid)).await.unwrap();
        certify(channel, None, 0).await.map(|_| ()).map_err(|status| status.code())
    };
    let revoked = |count: u64| {
        until("the lists", PATIENCE, || {
            Ok((status(&server)["revocations"]["certificates"] == count).then_some(()))
        })
        .unwrap();
    };
    assert_eq!(renewal(&held).await, Ok(()));

    fs::write(&file, ca.revoke(&certificates(&chain[0])[0])).unwrap();
    revoked(1);
    assert_eq!(renewal(&held).await, Err(Code::Unauthenticated));
    assert_eq!(renewal(&other).await, Ok(()));
    place.ask(&server).await; // a token is as good as before

    fs::write(&file, "nonsense").unwrap();
    problem(&server, "revocation-lists", Some("ca-crl.pem: there is no readable X509 CRL"));
    assert_eq!(renewal(&held).await, Err(Code::Unauthenticated), "the last list stays in force");
    let next = pki.ca("two");
    next.write(&place.dir);
    place.signed_by(&server, &next).await;
    assert_eq!(renewal(&held).await, Err(Code::Unauthenticated), "beside a new CA, too");

    fs::remove_file(&file).unwrap();
    revoked(0);
    problem(&server, "revocation-lists", None);
    assert_eq!(renewal(&held).await, Ok(()));
}

#[test]
fn an_incomplete_or_bad_ca_is_refused_at_the_start() {
    let (place, pki) = (Place::new(), Pki::new("root"));
    let ca = pki.ca("one");
    for name in FILES {
        ca.write(&place.dir);
        fs::remove_file(place.dir.join(name)).unwrap();
        place.bench.refused(&["--ca-dir", "cacerts"]).failure(1, &["cacerts", &format!("{name} is missing")]);
    }
    ca.write(&place.dir);
    fs::write(place.dir.join("root-cert.pem"), &Pki::new("another").root).unwrap();
    place
        .bench
        .refused(&["--ca-dir", "cacerts"])
        .failure(1, &["is signed by", "which does not stand among the roots"]);
    fs::write(place.dir.join("tls.crt"), "x").unwrap();
    place.bench.refused(&["--ca-dir", "cacerts"]).failure(1, &["tls.crt", "are both there"]);
}

/// A restart without the CA that workloads trust must not begin to sign with another one.
#[test]
fn a_plugged_in_ca_that_is_lost_is_not_silently_replaced() {
    let place = Place::new();
    place.bench.run(&["ca", "init"]).success();
    Pki::new("root").ca("one").write(&place.dir);
    drop(place.serve());
    fs::remove_dir_all(&place.dir).unwrap();
    place
        .bench
        .refused(&["--ca-dir", "cacerts"])
        .failure(1, &["root-cert.pem", "trust anchor of another CA"]);
    fs::remove_file(place.bench.state().join("root-cert.pem")).unwrap();
    drop(place.serve());
}

/// The names of istiod's settings (CA.md C26); ours go before them.
#[tokio::test(flavor = "multi_thread")]
async fn istiods_settings_are_read_and_ours_go_before_them() {
    let place = Place::new();
    let life = async |server: &Server, asked: i64| {
        let channel = tls(server.tls, &place.bench.root(), None).await.unwrap();
        let token = place.bench.token("bookshop/storefront");
        let (svid, _) = certify(channel, Some(&token), asked).await.map_err(|status| status.code())?;
        let leaf = certificates(&svid.chain).remove(0);
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        let left = leaf.validity().not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp();
        Ok::<_, Code>((left + 30) / 60)
    };
    let names = [
        ("DEFAULT_WORKLOAD_CERT_TTL", "1h30m"),
        ("MAX_WORKLOAD_CERT_TTL", "2h"),
        ("CITADEL_SELF_SIGNED_CA_CERT_TTL", "48h"),
    ];
    let server = place.bench.serve_with(&[], &names);
    assert_eq!(life(&server, 0).await, Ok(90));
    assert_eq!(life(&server, 7200).await, Ok(120));
    assert_eq!(life(&server, 7201).await, Err(Code::InvalidArgument));
    let root = certificates(&place.bench.root()).remove(0);
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    let left = root.validity().not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp();
    assert!((47 * 3600..=48 * 3600).contains(&left), "{left}");
    drop(server);

    let server =
        place.bench.serve_with(&["--cert-ttl", "20m"], &[names[0], ("EASTWEST_MAX_CERT_TTL", "30m")]);
    assert_eq!(life(&server, 0).await, Ok(20), "a flag");
    assert_eq!(life(&server, 1801).await, Err(Code::InvalidArgument), "a variable of ours");
    drop(server);
    let server = place.bench.serve_with(&[], &[("MAX_WORKLOAD_CERT_TTL", "1h")]);
    assert_eq!(life(&server, 0).await, Ok(60), "a lower maximum lowers the default");
    drop(server);

    Pki::new("root").ca("one").write(&place.dir);
    let server = place.bench.serve_with(&[], &[("ROOT_CA_DIR", "cacerts")]);
    assert_eq!(status(&server)["source"]["kind"], "plugged-in");
    drop(server);
    let bad = [
        ("EASTWEST_CONFIG_DIR", "manifests"),
        ("DEFAULT_WORKLOAD_CERT_TTL", "1d"),
        ("MAX_WORKLOAD_CERT_TTL", "soon"),
    ];
    place
        .bench
        .run_with(&["serve"], &bad)
        .failure(2, &["DEFAULT_WORKLOAD_CERT_TTL: \"1d\"", "MAX_WORKLOAD_CERT_TTL: \"soon\""]);
}

/// A trust domain changes without an outage: certificates of the old one, an alias now, prove nothing to the CA, and the
/// token that agents send beside them gets the identity of the new one (CA.md C25).
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_an_alias_prove_nothing_and_spoil_no_token() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let token = bench.token("bookshop/storefront");
    let root = bench.root();
    let (held, _) = certify(tls(server.tls, &root, None).await.unwrap(), Some(&token), 0).await.unwrap();
    let mesh = "trustDomain: new.example\n    trustDomainAliases: [cluster.local]";
    bench.write(
        "mesh.yaml",
        &format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
        ),
    );
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let channel = tls(server.tls, &root, Some(&held)).await.unwrap();
        if certify(channel, None, 0).await.is_err_and(|status| status.code() == Code::Unauthenticated) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the mesh did not change: {}", server.output());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let channel = tls(server.tls, &root, Some(&held)).await.unwrap();
    let (svid, _) = certify(channel, Some(&token), 0).await.unwrap();
    let leaf = certificates(&svid.chain).remove(0);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    assert_eq!(format!("{:?}", names), r#"[URI("spiffe://new.example/ns/bookshop/sa/storefront")]"#);
    let channel = tls(server.tls, &root, Some(&svid)).await.unwrap();
    certify(channel, None, 0).await.unwrap();
}

#[test]
fn roots_of_other_kinds_and_imported_keys() {
    let kinds = |bench: &Bench, flags: &[&str]| {
        bench.run(&[&["ca", "init", "-o", "json"], flags].concat()).json()["roots"][0]["key"].clone()
    };
    assert_eq!(kinds(&Bench::new(), &["--root-key-type", "p384"]), "ECDSA P-384");
    Bench::new()
        .run(&["ca", "init", "--root-key-type", "rsa"])
        .failure(2, &["--root-key-type", "p384", "--import-key"]);
    let openssl = |bench: &Bench, file: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        command.arg(arguments[0]).arg("-out").arg(bench.path(file)).args(&arguments[1..]);
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    };
    for (arguments, kind) in [
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..], "RSA 2048"),
        (&["genrsa", "-traditional", "3072"], "RSA 3072"),
        (&["ecparam", "-name", "prime256v1", "-genkey"], "ECDSA P-256"),
        (&["ecparam", "-name", "secp384r1", "-genkey", "-noout"], "ECDSA P-384"),
    ] {
        let bench = Bench::new();
        openssl(&bench, "key.pem", arguments);
        assert_eq!(kinds(&bench, &["--import-key", "key.pem"]), kind, "{arguments:?}");
        let server = bench.serve(&[]);
        assert_eq!(server.page("/readyz").0, 200);
        drop(server);
        bench.run(&["ca", "init", "--import-key", "key.pem"]).failure(1, &["there is a CA key already"]);
    }
    for (arguments, said) in [
        (&["genrsa", "1024"][..], "RSA of 2048"),
        (&["genpkey", "-algorithm", "ED25519"], "Envoy does not verify"),
        (&["ecparam", "-name", "secp521r1", "-genkey"], "cannot be read"),
        (&["genrsa", "-aes128", "-passout", "pass:secret", "2048"], "the private key is encrypted"),
    ] {
        let bench = Bench::new();
        openssl(&bench, "key.pem", arguments);
        bench.run(&["ca", "init", "--import-key", "key.pem"]).failure(1, &[said]);
        assert!(!bench.state().join("ca-key.pem").exists());
    }
}
