//! A replica's CA with its key material in Secrets, and what the API has of these.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eastwest_ca::{Lifetimes, NewRoot, PrivateKey, ServingNames, SpiffeBundle, pem};
use eastwest_ca_server::{
    CertificateAuthority, CertificateAuthorityConfig, Limits, OwnBundle, ProofConfig, RootStatus,
    default_serving_names,
};
use eastwest_cluster::CaSecrets;
use eastwest_kubernetes::{Api, ApiOptions};
use eastwest_model::TrustDomain;
use eastwest_tests::process::{run, until};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{runtime::Runtime, sync::watch};

use crate::{PATIENCE, cluster::Cluster, follower::quick};

/// A CA of one replica.
pub(crate) struct Replica {
    ca: Arc<Mutex<Option<Arc<CertificateAuthority>>>>,
    secrets: Arc<CaSecrets>,
    leads: watch::Sender<bool>,
    runtime: Runtime,
}

pub(crate) fn usual() -> NewRoot {
    NewRoot::of(TrustDomain::parse("cluster.local").unwrap())
}

fn config() -> CertificateAuthorityConfig {
    CertificateAuthorityConfig {
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        cluster_id: "Kubernetes".to_owned(),
        lifetimes: Lifetimes::default(),
        allowed_names: Default::default(),
        serving_names: ServingNames::Usual(default_serving_names("istio-system", &[])),
        serving_lifetime: Duration::from_secs(3600),
        proofs: ProofConfig::default(),
        ledger: None,
        limits: Limits::default(),
    }
}

impl Replica {
    /// Starts one, with whatever the API has or has not.
    pub(crate) fn start(cluster: &Cluster, namespace: &str, leads: bool) -> Self {
        Self::start_with(cluster, namespace, leads, usual())
    }

    /// The same, with roots of its own making like `new_root`.
    pub(crate) fn start_with(cluster: &Cluster, namespace: &str, leads: bool, new_root: NewRoot) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
        let options = ApiOptions { kubeconfig: Some(cluster.kubeconfig().to_owned()), context: None };
        let (leads, leading) = watch::channel(leads);
        let secrets = runtime.block_on(async {
            let api = Api::find(&options).await.unwrap();
            Arc::new(CaSecrets::follow(&api, namespace, leading, Duration::from_secs(3600), quick()))
        });
        let ca = Arc::new(Mutex::new(None));
        let (opening, place) = (Arc::clone(&secrets), Arc::clone(&ca));
        runtime.spawn(async move {
            let (manager, keys) = opening.open(new_root, config().serving_names, true).await;
            let ca = CertificateAuthority::new(config(), keys, OffsetDateTime::now_utc()).unwrap();
            manager.follow(&ca).unwrap();
            *place.lock().unwrap() = Some(ca);
        });
        Self { ca, secrets, leads, runtime }
    }

    pub(crate) fn lead(&self, leads: bool) {
        self.leads.send_replace(leads);
    }

    /// Why it is not ready.
    pub(crate) fn problem(&self) -> Option<String> {
        self.secrets.problem()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ca.lock().unwrap().is_some()
    }

    /// Its CA, once it is ready.
    pub(crate) fn ca(&self) -> Arc<CertificateAuthority> {
        let ready = || Ok(self.ca.lock().unwrap().clone());
        until("a CA that is ready", PATIENCE, ready)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.problem()))
    }

    pub(crate) fn status(&self) -> RootStatus {
        let ca = self.ca();
        until("its status", PATIENCE, || Ok(ca.root_status())).unwrap().as_ref().clone()
    }

    /// SHA-256 of the root that signs.
    pub(crate) fn signer(&self) -> String {
        self.status().signing_chain.last().unwrap().sha256.clone()
    }

    /// SHA-256 of the trusted roots, that of the signer first.
    pub(crate) fn roots(&self) -> Vec<String> {
        self.ca().roots().into_iter().map(|root| root.sha256).collect()
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.status().problems.into_iter().map(|problem| problem.message).collect()
    }

    /// Waits until what it signs with and trusts satisfies `condition`.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let met = || Ok(condition(self).then_some(()));
        until(what, PATIENCE, met).unwrap_or_else(|error| panic!("{error}: {:#?}", self.status()));
    }

    /// Its trust bundle, with the number and the key for JWT-SVIDs.
    pub(crate) fn bundle(&self) -> SpiffeBundle {
        let (ca, storage) = (self.ca(), self.secrets.storage());
        // As the tasks of a server do it.
        let bundle = self.runtime.spawn(async move {
            OwnBundle::new(ca, storage, Duration::from_secs(60)).unwrap().newest(OffsetDateTime::now_utc())
        });
        self.runtime.block_on(bundle).unwrap()
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets/{name}")
}

/// A Secret as the API has it.
pub(crate) fn secret(cluster: &Cluster, namespace: &str, name: &str) -> Option<Value> {
    let (status, secret) = cluster.try_ask("GET", &path(namespace, name), None);
    (status == 200).then_some(secret)
}

/// The text of a key of a Secret.
pub(crate) fn text(secret: &Value, key: &str) -> String {
    let content = secret["data"][key].as_str().unwrap_or_else(|| panic!("{key} is missing"));
    String::from_utf8(STANDARD.decode(content).unwrap()).unwrap()
}

/// Creates or replaces a Secret.
pub(crate) fn put(cluster: &Cluster, namespace: &str, name: &str, files: &[(&str, &str)]) {
    let data: serde_json::Map<_, _> =
        files.iter().map(|(key, text)| ((*key).to_owned(), json!(STANDARD.encode(text)))).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
    let (status, _) =
        cluster.try_ask("POST", &format!("/api/v1/namespaces/{namespace}/secrets"), Some(&secret));
    if status == 409 {
        cluster.change(&path(namespace, name), |now| now["data"] = secret["data"].clone());
    }
}

/// Sets one key.
pub(crate) fn set(cluster: &Cluster, namespace: &str, name: &str, key: &str, text: &str) {
    cluster.change(&path(namespace, name), |secret| secret["data"][key] = json!(STANDARD.encode(text)));
}

pub(crate) fn delete(cluster: &Cluster, namespace: &str, name: &str) {
    cluster.delete(&path(namespace, name));
}

/// A root as PEM, with its key, made at `now`.
pub(crate) fn root(new: &NewRoot, now: OffsetDateTime) -> (String, String) {
    let key = PrivateKey::generate().unwrap();
    let certificate = new.sign(&key, now).unwrap();
    (pem::encode(pem::CERTIFICATE, &certificate), key.to_pem().to_string())
}

/// The files of a plugged-in CA whose root signs, with further roots.
pub(crate) fn cacerts<'a>(root: &'a (String, String), roots: &'a str) -> [(&'static str, &'a str); 4] {
    [("ca-cert.pem", &root.0), ("ca-key.pem", &root.1), ("cert-chain.pem", ""), ("root-cert.pem", roots)]
}

/// Certificate and key of a root like istiod's: RSA, in PKCS#1.
pub(crate) fn istiods_root(dir: &Path) -> (String, String) {
    let (config, key, certificate) = (dir.join("openssl.cnf"), dir.join("rsa.pem"), dir.join("rsa-cert.pem"));
    let text = "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n\
                basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,digitalSignature\n";
    fs::write(&config, text).unwrap();
    let mut generate = Command::new("openssl");
    generate.args(["genrsa", "-traditional", "-out"]).arg(&key).arg("2048");
    run(generate).unwrap();
    let mut sign = Command::new("openssl");
    sign.args(["req", "-x509", "-new", "-sha256", "-days", "3650", "-subj", "/O=cluster.local", "-key"]);
    sign.arg(&key).arg("-config").arg(&config).arg("-out").arg(&certificate);
    run(sign).unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    (read(&certificate), read(&key))
}
