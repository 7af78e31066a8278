//! A client of the Kubernetes API for TokenReviews and token keys. Address and credentials come from a
//! kubeconfig file or from the service account of the pod.

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use eastwest_io::{FetchError, HttpsClient, HttpsUrl, TrustedRoots};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

/// Where a pod finds its token and the roots of the API.
const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Largest answer in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// What is asked: its path, and the cluster role of every cluster that allows it.
type Question = (&'static str, &'static str);

const REVIEWS: Question = ("/apis/authentication.k8s.io/v1/tokenreviews", "system:auth-delegator");
const KEYS: Question = ("/openid/v1/jwks", "system:service-account-issuer-discovery");

/// Why a request to the API fails.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KubernetesApiError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The kubeconfig says nothing that we can use.
    #[error("{}: {field}: {reason}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// The field.
        field: String,
        /// The problem.
        reason: String,
    },
    /// Not in a pod.
    #[error("this is no pod of a cluster (KUBERNETES_SERVICE_HOST is not set): name a --kubeconfig")]
    NoPod,
    /// The API does not accept our credentials.
    #[error(
        "{0}: the API does not know us (401): the token or certificate of the kubeconfig, or of our pod, is no good"
    )]
    Unknown(String),
    /// The API does not authorize us.
    #[error(
        "{url}: the API does not let us (403): bind the ClusterRole {role} to the account that we are known by"
    )]
    Forbidden {
        /// What was asked.
        url: String,
        /// The role that lets us.
        role: &'static str,
    },
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// Our credentials for the API.
enum Bearer {
    /// By a client certificate, or not at all.
    None,
    Text(Zeroizing<String>),
    /// Read again each time, for it is replaced now and then.
    File(PathBuf),
}

/// A client of the Kubernetes API.
pub struct KubernetesApi {
    /// Without a slash at the end.
    server: String,
    client: HttpsClient,
    bearer: Bearer,
}

impl KubernetesApi {
    /// The API of the cluster in which this process runs as a pod.
    ///
    /// # Errors
    /// This process is not a pod.
    pub fn in_cluster() -> Result<Self, KubernetesApiError> {
        let variable = |name| env::var(name).ok().filter(|text| !text.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or(KubernetesApiError::NoPod)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let files = Path::new(POD);
        let server = format!("https://{host}:{port}");
        HttpsUrl::parse(&server)?;
        Ok(Self {
            server,
            client: HttpsClient::new(&TrustedRoots::File(files.join("ca.crt")))?,
            bearer: Bearer::File(files.join("token")),
        })
    }

    /// The API that the current context of a kubeconfig file names. Users with a token, a token file or a client
    /// certificate; no plugins.
    ///
    /// # Errors
    /// The file cannot be read, or says nothing that can be used.
    pub fn of_kubeconfig(path: &Path) -> Result<Self, KubernetesApiError> {
        let text = Zeroizing::new(read(path)?);
        let wrong = |field: &str, reason: String| KubernetesApiError::Config {
            path: path.to_owned(),
            field: field.to_owned(),
            reason,
        };
        let config: Config = serde_saphyr::from_str(&text)
            .map_err(|_| wrong("the whole", "it is no kubeconfig in YAML".to_owned()))?;
        let (cluster, user) = config
            .current()
            .map_err(|(field, name)| wrong(field, format!("there is none named {name:?}")))?;
        let beside = |file: &str| path.parent().unwrap_or(Path::new("")).join(file);
        // Data in base64 beats the file, as with kubectl.
        let pem = |data: &Option<String>, file: &Option<String>, field: &str| match (data, file) {
            (Some(data), _) => {
                let bytes = STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                bytes.map(Some).ok_or_else(|| wrong(field, "it is no PEM in base64".to_owned()))
            }
            (None, Some(file)) => read(&beside(file)).map(Some),
            (None, None) => Ok(None),
        };
        let roots = pem(&cluster.ca_data, &cluster.ca, "clusters[].cluster.certificate-authority-data")?;
        let chain = pem(&user.certificate_data, &user.certificate, "users[].user.client-certificate-data")?;
        let key = pem(&user.key_data, &user.key, "users[].user.client-key-data")?.map(Zeroizing::new);
        let identity = chain.as_deref().zip(key.as_ref().map(|key| key.as_str()));
        let bearer = match (&user.token, &user.token_file) {
            (Some(token), _) => Bearer::Text(Zeroizing::new(token.clone())),
            (None, Some(file)) => Bearer::File(beside(file)),
            (None, None) if identity.is_some() => Bearer::None,
            (None, None) => {
                let reason =
                    "a token, tokenFile, or client certificate and key is needed; plugins are not run";
                return Err(wrong("users[].user", reason.to_owned()));
            }
        };
        let roots = roots.map_or(TrustedRoots::System, TrustedRoots::Pem);
        HttpsUrl::parse(&cluster.server)
            .map_err(|error| wrong("clusters[].cluster.server", error.to_string()))?;
        Ok(Self {
            server: cluster.server.trim_end_matches('/').to_owned(),
            client: HttpsClient::with_identity(&roots, identity)?,
            bearer,
        })
    }

    /// Sends a TokenReview; returns the body of the answer, unparsed.
    pub(super) async fn review(&self, review: String) -> Result<Bytes, KubernetesApiError> {
        self.ask(REVIEWS, Some(review)).await
    }

    /// The JWKS of the keys that sign service accounts' tokens.
    pub(super) async fn keys(&self) -> Result<Bytes, KubernetesApiError> {
        self.ask(KEYS, None).await
    }

    async fn ask(&self, question: Question, json: Option<String>) -> Result<Bytes, KubernetesApiError> {
        let bearer = match &self.bearer {
            Bearer::None => None,
            Bearer::Text(token) => Some(token.clone()),
            Bearer::File(path) => Some(Zeroizing::new(read(path)?.trim().to_owned())),
        };
        let bearer = bearer.as_ref().map(|token| token.as_str());
        let (path, role) = question;
        let url = HttpsUrl::parse(&format!("{}{path}", self.server))?;
        let answer = self.client.send(&url, bearer, json, MAX_BYTES).await;
        answer.map_err(|error| match error {
            FetchError::Status { url, status: 401 } => KubernetesApiError::Unknown(url),
            FetchError::Status { url, status: 403 } => KubernetesApiError::Forbidden { url, role },
            error => error.into(),
        })
    }
}

impl fmt::Display for KubernetesApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)
    }
}

impl fmt::Debug for KubernetesApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KubernetesApi({self})")
    }
}

fn read(path: &Path) -> Result<String, KubernetesApiError> {
    fs::read_to_string(path).map_err(|source| KubernetesApiError::Io { path: path.to_owned(), source })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    current_context: String,
    contexts: Vec<NamedContext>,
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

impl Config {
    /// Cluster and user of the current context, or what is missing: its field and its name.
    fn current(&self) -> Result<(&Cluster, &User), (&'static str, &str)> {
        let name = &self.current_context;
        let context =
            self.contexts.iter().find(|one| one.name == *name).ok_or(("contexts", name.as_str()))?;
        let Context { cluster, user } = &context.context;
        let found =
            self.clusters.iter().find(|one| one.name == *cluster).ok_or(("clusters", cluster.as_str()))?;
        let known = self.users.iter().find(|one| one.name == *user).ok_or(("users", user.as_str()))?;
        Ok((&found.cluster, &known.user))
    }
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    server: String,
    #[serde(rename = "certificate-authority")]
    ca: Option<String>,
    #[serde(rename = "certificate-authority-data")]
    ca_data: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    #[serde(rename = "client-certificate")]
    certificate: Option<String>,
    #[serde(rename = "client-certificate-data")]
    certificate_data: Option<String>,
    #[serde(rename = "client-key")]
    key: Option<String>,
    #[serde(rename = "client-key-data")]
    key_data: Option<String>,
}
