//! What a restart of a server with a plugged-in CA must not forget.

use std::fs;

use tonic::Code;

use crate::harness::{
    Server,
    clients::{Svid, certificates, certify, tls},
    plugged::{Pki, Place, problem, status},
};

impl Place {
    /// Whether a certificate still renews itself.
    async fn renews(&self, server: &Server, held: &Svid) -> Result<(), Code> {
        let channel = tls(server.tls, &self.bench.root(), Some(held)).await.unwrap();
        certify(channel, None, 0).await.map(|_| ()).map_err(|status| status.code())
    }

    /// The trust anchor for agents is these roots, in this order.
    fn trusts(&self, pkis: &[&Pki]) {
        let expected: Vec<_> = pkis.iter().flat_map(|pki| certificates(&pki.root)).collect();
        assert_eq!(certificates(&self.bench.root()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_no_root_and_no_revocation() {
    let (place, [a, b, c]) = (Place::new(), ["a", "b", "c"].map(Pki::new));
    let ca = a.ca("one");
    ca.write(&place.dir);
    let server = place.serve();
    let (held, _) = place.ask(&server).await;
    let (revoked, chain) = place.ask(&server).await;
    fs::write(place.dir.join("ca-crl.pem"), ca.revoke(&certificates(&chain[0])[0])).unwrap();
    server.until("/debug/ca", |page| page.to_string().contains("\"certificates\":1"));
    // The next CA is not the one that signed the list, so the file is bad beside it and the list before stays.
    let next = b.ca("two");
    next.write(&place.dir);
    place.signed_by(&server, &next).await;
    problem(&server, "revocation-lists", Some("ca-crl.pem"));
    server.stop();

    let server = place.serve();
    place.trusts(&[&b, &a]);
    assert_eq!(place.renews(&server, &held).await, Ok(()), "a certificate of the CA before");
    assert_eq!(place.renews(&server, &revoked).await, Err(Code::Unauthenticated), "a revoked one");
    assert_eq!(status(&server)["revocations"]["certificates"], 1);
    problem(&server, "revocation-lists", Some("the lists before stay in force (1 revoked)"));
    server.stop();

    // Exchanged while no server ran.
    c.ca("three").write(&place.dir);
    let server = place.serve();
    place.trusts(&[&c, &b, &a]);
    assert_eq!(place.renews(&server, &held).await, Ok(()));
    assert_eq!(place.renews(&server, &revoked).await, Err(Code::Unauthenticated));
    fs::remove_file(place.dir.join("ca-crl.pem")).unwrap();
    problem(&server, "revocation-lists", None);
    assert_eq!(place.renews(&server, &revoked).await, Ok(()), "without the file nothing is revoked");
    server.stop();
    let server = place.serve();
    assert_eq!(place.renews(&server, &revoked).await, Ok(()), "nor after a restart");
    server.stop();

    let record = place.bench.state().join("in-force.json");
    fs::write(&record, "{").unwrap();
    let refused = place.bench.refused(&["--ca-dir", "cacerts"]);
    refused.failure(1, &["in-force.json", "remove it", "no longer trusted"]);
    fs::remove_file(&record).unwrap();
    let server = place.serve();
    place.trusts(&[&c]);
    assert_eq!(place.renews(&server, &held).await, Err(Code::Unauthenticated));
}
