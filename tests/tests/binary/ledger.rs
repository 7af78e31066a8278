//! `eastwest ca ledger`: what was issued and refused, beside a running server and after it.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use eastwest_ca::ledger::Record;
use eastwest_proto::eastwest::v1::{CreateJwtSvidRequest, workload_identity_client::WorkloadIdentityClient};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use tonic::Code;

use crate::harness::{
    Bench, PATIENCE,
    clients::{bearing, certify, tls},
    set_mode,
};

fn records(bench: &Bench, flags: &[&str]) -> Vec<serde_json::Value> {
    let finished = bench.run(&[&["ca", "ledger", "query", "-o", "json"], flags].concat());
    let records: Vec<Record> = serde_json::from_str(finished.success()).expect("records of the ledger");
    records.iter().map(|record| serde_json::to_value(record).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_issued_and_refused_is_in_the_ledger() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let ask = async |token: Option<&str>, seconds| {
        certify(tls(server.tls, &bench.root(), None).await.unwrap(), token, seconds).await
    };
    let token = bench.token("bookshop/storefront");
    ask(Some(&token), 0).await.unwrap();
    assert_eq!(ask(Some(&token), 1).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(ask(Some("a.b.c"), 0).await.unwrap_err().code(), Code::Unauthenticated);
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    let order = bearing(CreateJwtSvidRequest { audience: vec!["vault".to_owned()] }, Some(&token));
    let svid = WorkloadIdentityClient::new(channel).create_jwt_svid(order).await.unwrap().into_inner().svid;
    bench.run(&["ca", "issue", "spiffe://cluster.local/ns/ci/sa/job", "--out", "job"]).success();

    // No answer waits for the record of a refusal.
    let deadline = std::time::Instant::now() + PATIENCE;
    while records(&bench, &["--refused"]).len() < 2 {
        assert!(std::time::Instant::now() < deadline, "{:?}", records(&bench, &[]));
    }
    let storefront = records(&bench, &["--identity", "bookshop/storefront"]);
    assert_eq!(storefront.len(), 3, "{storefront:?}");
    assert_eq!(storefront[0]["event"], "issued");
    assert_eq!(storefront[0]["identity"], "spiffe://cluster.local/ns/bookshop/sa/storefront");
    assert_eq!((&storefront[0]["proof"], &storefront[0]["ttl"]), (&"token".into(), &86_400.into()));
    assert_eq!(
        (&storefront[1]["event"], &storefront[1]["code"]),
        (&"refused".into(), &"InvalidArgument".into())
    );
    let tokens = records(&bench, &["--kind", "jwt-svid"]);
    assert_eq!((tokens.len(), &tokens[0]["audience"]), (1, &serde_json::json!(["vault"])), "{tokens:?}");
    let jti = tokens[0]["jti"].as_str().unwrap();
    assert_eq!(records(&bench, &["--serial", jti]), tokens);
    assert_eq!(records(&bench, &["--kind", "certificate"]).len(), 4);
    let shown = bench.run(&["ca", "ledger", "query", "--kind", "jwt-svid"]);
    assert!(shown.success().contains("JWT-SVID") && shown.out.contains("for vault"), "{}", shown.out);
    let job = records(&bench, &["--identity", "ci/job"]);
    assert_eq!((job.len(), &job[0]["proof"]), (1, &"operator".into()), "`ca issue` beside the server");
    let serial = job[0]["serial"].as_str().unwrap();
    assert_eq!(records(&bench, &["--serial", &serial.to_uppercase()]), job);
    assert!(records(&bench, &["--since", "2100-01-01T00:00:00Z"]).is_empty());
    assert_eq!(bench.run(&["ca", "ledger", "query", "--since", "soon"]).code, 2);

    let verified = bench.run(&["ca", "ledger", "verify"]);
    let verified = verified.success();
    assert!(verified.contains("the ledger is whole") && verified.contains("issued       2"), "{verified}");
    server.stop();
    let report = bench.run(&["ca", "ledger", "verify", "-o", "json"]).json();
    let head = format!("{}:{}", report["last"], report["head"].as_str().unwrap());
    bench.run(&["ca", "ledger", "verify", "--head", &head]).success();

    let segment = bench.state().join("ledger/00000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    for secret in [token.as_str(), svid.as_str(), "PRIVATE", "a.b.c"] {
        assert!(!text.contains(secret), "{secret} is in the ledger");
    }
    fs::write(&segment, text.replacen("storefront", "storefr0nt", 1)).unwrap();
    let broken = bench.run(&["ca", "ledger", "verify"]);
    assert_eq!(broken.code, 1);
    assert!(broken.err.contains("segment 1, line 4: the hash does not fit"), "{}", broken.err);
    assert_eq!(bench.run(&["ca", "ledger", "query"]).code, 1);
}

/// A control plane in Kubernetes mode keeps its ledger in a directory, and its CA in Secrets.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_a_ca_beside_it_is_verified_with_given_roots() {
    let bench = Bench::new();
    bench.serve(&[]).stop();
    let alone = bench.path("alone");
    fs::create_dir_all(alone.join("ledger")).unwrap();
    for entry in fs::read_dir(bench.state().join("ledger")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), alone.join("ledger").join(entry.file_name())).unwrap();
    }
    set_mode(&alone, 0o700);
    let run = |words: &[&str]| bench.run(&[&["ca"], words, &["--state-dir", "alone"]].concat());
    let roots =
        "kubectl get configmap istio-ca-root-cert -n istio-system -o jsonpath='{.data.root-cert\\.pem}'";
    for command in ["verify", "query"] {
        run(&["ledger", command]).failure(2, &["--roots", roots]);
        let given = bench.state().join("root-cert.pem").display().to_string();
        run(&["ledger", command, "--roots", &given]).success();
    }
    run(&["rotate"]).failure(2, &["there is no CA in this directory", "Secret istio-ca-secret"]);
}

/// Base64 and hexadecimal of every private key in the state directory, in pieces long enough to be no accident. The
/// public half, which may be shown, ends a key's PKCS#8, so only the part before it counts.
fn key_material(bench: &Bench) -> Vec<String> {
    let mut pieces = Vec::new();
    for file in ["ca-key.pem", "token-key.pem", "ledger/key.pem"] {
        let text = fs::read_to_string(bench.state().join(file)).unwrap();
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).unwrap();
        let der = der.secret_pkcs8_der();
        // RFC 5958 around RFC 5915: the scalar of P-256 stands at this place.
        let scalar = &der[36..68];
        pieces.extend((0..3).map(|shift| BASE64.encode(&scalar[shift..27 + shift])));
        pieces.push(scalar.iter().map(|byte| format!("{byte:02x}")).collect());
        pieces.extend(text.lines().skip(1).take(1).map(str::to_owned));
    }
    pieces
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_no_log_and_no_ledger_holds_a_key_or_a_token() {
    let bench = Bench::new();
    let server = bench.serve_with(&[], &[("EASTWEST_LOG", "trace")]);
    let token = bench.token("bookshop/storefront");
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    certify(channel.clone(), Some(&token), 0).await.unwrap();
    certify(channel, Some(&format!("{token}x")), 0).await.unwrap_err();
    let (_, list) = server.page("/debug/list");
    let pages: Vec<&str> =
        list.lines().filter_map(|line| line.split(' ').next()?.split('?').next()).collect();
    assert!(pages.len() > 8, "{list}");
    let mut texts: Vec<(String, String)> =
        pages.iter().map(|page| ((*page).to_owned(), server.page(page).1)).collect();
    texts.push(("the log".to_owned(), server.output()));
    let segment = bench.state().join("ledger/00000001.jsonl");
    texts.push(("the ledger".to_owned(), fs::read_to_string(segment).unwrap()));
    let signature = token.rsplit('.').next().unwrap().to_owned();
    let secrets: Vec<String> =
        key_material(&bench).into_iter().chain([signature, "PRIVATE KEY".to_owned()]).collect();
    for (place, text) in &texts {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret is in {place}");
    }
}
