//! An issuer of tokens that says whatever it is told to, and pods to bind them to.

use std::sync::{Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eastwest_ca::{Pod, Pods, ServiceAccount};
use eastwest_identity::WorkloadKey;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// The key of an issuer.
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) kid: String,
    pair: EcdsaKeyPair,
}

impl Issuer {
    pub(crate) fn new(name: &str, kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self { name: name.to_owned(), kid: kid.to_owned(), pair: pair.unwrap() }
    }

    /// The key as a member of a key set.
    pub(crate) fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y})
    }

    pub(crate) fn jwks(&self) -> String {
        json!({"keys": [self.jwk()]}).to_string()
    }

    /// A token of these texts, whatever they are.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{claims}");
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": "ES256", "kid": self.kid})
    }

    /// Claims of a service account, with changes; `null` removes a member.
    pub(crate) fn claims(&self, account: &str, changes: Value) -> Value {
        let (namespace, name) = account.split_once('/').unwrap();
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut claims = json!({
            "iss": self.name, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": ["istio-ca"],
            "exp": now + 600, "nbf": now - 1, "iat": now - 1,
        });
        merge(&mut claims, changes);
        claims
    }

    /// A good token of a service account, but for the changes.
    pub(crate) fn token(&self, account: &str, changes: Value) -> String {
        self.sign(&self.header().to_string(), &self.claims(account, changes).to_string())
    }

    /// A good token, bound to a pod.
    pub(crate) fn bound(&self, account: &str, pod: &str, uid: &str, node: Option<&str>) -> String {
        let (namespace, name) = account.split_once('/').unwrap();
        let node = node.map(|name| json!({"name": name, "uid": "n-uid"}));
        let bound = json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": "sa-uid"},
            "pod": {"name": pod, "uid": uid}, "node": node});
        self.token(account, json!({"kubernetes.io": bound}))
    }
}

/// Changes members; `null` removes one.
pub(crate) fn merge(base: &mut Value, changes: Value) {
    let (base, Value::Object(changes)) = (base.as_object_mut().unwrap(), changes) else { panic!() };
    for (name, value) in changes {
        match value {
            Value::Null => drop(base.remove(&name)),
            value => drop(base.insert(name, value)),
        }
    }
}

/// The pods of a cluster, which come and go.
#[derive(Default)]
pub(crate) struct Cluster(Mutex<Vec<Pod>>);

impl Cluster {
    /// A pod of UID `uid-NAME`, pending on its node.
    pub(crate) fn add(&self, account: &str, name: &str, node: &str) {
        self.put(account, name, node, |_| {});
    }

    pub(crate) fn put(&self, account: &str, name: &str, node: &str, change: impl Fn(&mut Pod)) {
        let (namespace, account) = account.split_once('/').unwrap();
        let mut pod = Pod {
            key: WorkloadKey { namespace: namespace.into(), name: name.into() },
            service_account: Some(account.into()),
            uid: Some(format!("uid-{name}").into()),
            node: Some(node.into()),
            ended: false,
        };
        change(&mut pod);
        self.remove(name);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pod);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|pod| &*pod.key.name != name);
    }
}

impl Pods for Cluster {
    fn pod(&self, key: &WorkloadKey) -> Option<Pod> {
        let pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pods.iter().find(|pod| pod.key == *key).cloned()
    }

    fn pods_of(&self, account: &ServiceAccount) -> Vec<Pod> {
        let pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |pod: &&Pod| {
            &*pod.key.namespace == account.namespace()
                && pod.service_account.as_deref() == Some(account.name())
        };
        pods.iter().filter(of).cloned().collect()
    }
}
