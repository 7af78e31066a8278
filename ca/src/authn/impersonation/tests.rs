//! Which callers may represent which pods (CA.md A9 to A15).

use eastwest_identity::{Name, WorkloadKey};
use time::macros::datetime;

use super::*;
use crate::{BoundObject, Proof};

#[derive(Default)]
struct Cluster(Vec<Pod>);

impl Pods for Cluster {
    fn pod(&self, key: &WorkloadKey) -> Option<Pod> {
        self.0.iter().find(|pod| pod.key == *key).cloned()
    }
    fn pods_of(&self, account: &ServiceAccount) -> Vec<Pod> {
        let of = |pod: &&Pod| {
            &*pod.key.namespace == account.namespace()
                && pod.service_account.as_deref() == Some(account.name())
        };
        self.0.iter().filter(of).cloned().collect()
    }
}

fn pod(name: &str, account: &str, node: &str) -> Pod {
    let account: ServiceAccount = account.parse().unwrap();
    let text = |text: &str| Some(text).filter(|text| !text.is_empty()).map(Name::from);
    Pod {
        key: WorkloadKey { namespace: account.namespace().into(), name: name.into() },
        service_account: text(account.name()),
        uid: text(&format!("uid-{name}")),
        node: text(node),
        ended: false,
    }
}

/// A proxy on node n1, with a pod of its node and one of another, and an ended one.
fn cluster() -> Cluster {
    let ended = Pod { ended: true, ..pod("job-0", "shop/job", "n1") };
    let pods = [
        pod("ztunnel-1", "istio-system/ztunnel", "n1"),
        pod("istiod-0", "istio-system/istiod", "n1"),
        pod("cni-1", "istio-system/cni", "n1"),
        pod("reviews-0", "shop/reviews", "n1"),
        pod("ratings-0", "shop/ratings", "n2"),
        pod("new-0", "shop/new", ""),
        ended,
    ];
    Cluster(pods.into())
}

fn accounts() -> NodeAccounts {
    let parse = |text: &str| text.parse().unwrap();
    NodeAccounts::new(
        ["istio-system/ztunnel", "istio-system/cni"].map(parse),
        ["istio-system/istiod"].map(parse),
    )
}

fn token(account: &str, pod: Option<(&str, &str)>, node: Option<&str>) -> Caller {
    let (namespace, name) = account.split_once('/').unwrap();
    let bound = |name: &str, uid: &str| BoundObject { name: name.to_owned(), uid: uid.to_owned() };
    let proof = Proof::Token {
        issuer: "https://issuer".to_owned(),
        expires: datetime!(2026-11-24 12:00:00 UTC),
        account: None,
        pod: pod.map(|(name, uid)| bound(name, uid)),
        node: node.map(|name| bound(name, "")),
    };
    Caller::new(SpiffeId::workload(&td(), namespace, name).unwrap(), proof)
}

fn td() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

fn ztunnel() -> Caller {
    token("istio-system/ztunnel", Some(("ztunnel-1", "uid-ztunnel-1")), Some("n1"))
}

fn ask(caller: Caller, asked: &str) -> Result<Caller, ImpersonationError> {
    accounts().represent(caller, asked, &td(), &cluster())
}

#[test]
fn a_proxy_represents_the_pods_of_its_node() {
    let caller = ask(ztunnel(), "spiffe://td/ns/shop/sa/reviews").unwrap();
    assert_eq!(caller.identity.as_str(), "spiffe://td/ns/istio-system/sa/ztunnel");
    assert_eq!(caller.subject().as_str(), "spiffe://td/ns/shop/sa/reviews");
    let represented = caller.represented().unwrap();
    assert_eq!((represented.node(), represented.pod().to_string().as_str()), ("n1", "shop/reviews-0"));
    let without_node_claim = token("istio-system/ztunnel", Some(("ztunnel-1", "uid-ztunnel-1")), None);
    assert!(ask(without_node_claim, "spiffe://td/ns/shop/sa/reviews").is_ok());
}

#[test]
fn a_proxy_represents_no_other_identity() {
    use ImpersonationError as E;
    for asked in [
        "spiffe://a,istiod.istio-system.svc,b/ns/x/sa/y",
        "spiffe://td/ns/shop/sa/reviews,spiffe://td/ns/istio-system/sa/istiod",
        "spiffe://td/ns/shop/sa/reviews/",
        "spiffe://td/ns/shop/sa/reviews/x",
        "spiffe://td/ns/shop/sa",
        "spiffe://td/ns/shop/sa/",
        "spiffe://td/ns//sa/reviews",
        "spiffe://td/sa/reviews/ns/shop",
        "spiffe://td/ns/SHOP/sa/reviews",
        "spiffe://td/ns/a.b/sa/reviews",
        "SPIFFE://td/ns/shop/sa/reviews",
        "spiffe://td/ns/shop/sa/revi\u{0435}ws",
        "spiffe://td/ns/shop/sa/reviews\0",
        " spiffe://td/ns/shop/sa/reviews",
        "spiffe://td/ns/shop/sa/reviews ",
        "spiffe://td/ns/shop/sa/*",
        "shop/reviews",
        "",
    ] {
        assert!(matches!(ask(ztunnel(), asked), Err(E::Identity(..))), "{asked:?}");
    }
    for asked in ["spiffe://other/ns/shop/sa/reviews", "spiffe://td.x/ns/shop/sa/reviews"] {
        assert!(matches!(ask(ztunnel(), asked), Err(E::TrustDomain(_))), "{asked}");
    }
    for asked in ["istiod", "cni", "ztunnel"] {
        let asked = format!("spiffe://td/ns/istio-system/sa/{asked}");
        assert!(matches!(ask(ztunnel(), &asked), Err(E::Protected(_))), "{asked}");
    }
    for account in ["ratings", "job", "new", "nobody"] {
        let asked = format!("spiffe://td/ns/shop/sa/{account}");
        assert!(matches!(ask(ztunnel(), &asked), Err(E::Elsewhere { .. })), "{asked}");
    }
}

#[test]
fn the_caller_must_be_a_trusted_pod_that_exists() {
    use ImpersonationError as E;
    let reviews = "spiffe://td/ns/shop/sa/reviews";
    let untrusted = token("shop/reviews", Some(("reviews-0", "uid-reviews-0")), Some("n1"));
    assert!(matches!(ask(untrusted, reviews), Err(E::Untrusted(_))));
    let unbound = token("istio-system/ztunnel", None, Some("n1"));
    assert!(matches!(ask(unbound, reviews), Err(E::Unbound(_))));
    let serial = "01".to_owned();
    let certificate = Proof::ClientCertificate { serial, not_after: datetime!(2026-11-24 12:00:00 UTC) };
    assert!(matches!(ask(Caller::new(ztunnel().identity, certificate), reviews), Err(E::Unbound(_))));
    for (name, uid) in [("ztunnel-1", "uid-old"), ("ztunnel-1", ""), ("ztunnel-2", "x"), ("istiod-0", "x")] {
        let caller = token("istio-system/ztunnel", Some((name, uid)), Some("n1"));
        assert!(matches!(ask(caller, reviews), Err(E::Binding(_))), "{name} {uid}");
    }
    let moved = token("istio-system/ztunnel", Some(("ztunnel-1", "uid-ztunnel-1")), Some("n2"));
    assert!(matches!(ask(moved, reviews), Err(E::CallerPod(..))));
    let own = |change: fn(&mut Pod)| {
        let mut cluster = cluster();
        change(&mut cluster.0[0]);
        accounts().represent(ztunnel(), reviews, &td(), &cluster)
    };
    assert!(own(|_| {}).is_ok());
    assert!(matches!(own(|pod| pod.uid = None), Err(E::CallerPod(..))));
    assert!(matches!(own(|pod| pod.ended = true), Err(E::CallerPod(..))));
    assert!(matches!(own(|pod| pod.node = None), Err(E::CallerPod(..))));
    assert!(matches!(own(|pod| pod.service_account = None), Err(E::Binding(_))));
    let nobody = NodeAccounts::default().represent(ztunnel(), reviews, &td(), &cluster());
    assert!(matches!(nobody, Err(E::Untrusted(_))), "by default nobody speaks for anybody");
}
