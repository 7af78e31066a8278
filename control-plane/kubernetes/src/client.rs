//! Configuration and client of the API.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
    config::{KubeConfigOptions, Kubeconfig},
};
use thiserror::Error;
use tower::{BoxError, ServiceBuilder};

use crate::watch::task::{get, reason};

/// Timeout of a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Timeout of a request for the version.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an idle connection is kept. A request on a dead one fails only at its deadline, so this is short.
const IDLE: Duration = Duration::from_secs(5);
/// How many idle connections are kept: TokenReviews come in bursts.
const MAX_IDLE: usize = 64;

/// Selects an API.
#[derive(Debug, Clone, Default)]
pub struct ApiOptions {
    /// The kubeconfig file. Without it: the account of the pod if this is one, else the files that `KUBECONFIG` names,
    /// else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// The context; without it the current one. With a context, the account of the pod is not used.
    pub context: Option<String>,
}

/// The API of a cluster.
#[derive(Clone)]
pub struct Api {
    client: Client,
    origin: Origin,
}

/// The source of the address and the credentials of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The kubeconfig files, or `the pod's service account`.
    pub source: String,
    /// The context within them.
    pub context: Option<String>,
    /// The API's address.
    pub server: Option<String>,
}

/// An API that cannot be used.
#[derive(Debug, Error)]
#[error("cannot use the Kubernetes API of {origin}: {reason}")]
pub struct ApiError {
    /// The source of its configuration.
    pub origin: Origin,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.source)?;
        for (what, value) in [("context", &self.context), ("server", &self.server)] {
            if let Some(value) = value {
                write!(formatter, ", {what} {value}")?;
            }
        }
        Ok(())
    }
}

impl Api {
    /// Reads the configuration and makes a client. Sends no request. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The configuration is missing or not valid; the error names file, context and server.
    pub async fn find(options: &ApiOptions) -> Result<Self, ApiError> {
        let (config, origin) = match &options.kubeconfig {
            Some(path) => kubeconfig(std::slice::from_ref(path), options).await?,
            None if options.context.is_none() && is_in_cluster() => in_cluster()?,
            None => kubeconfig(&default_kubeconfigs(), options).await?,
        };
        match client(config) {
            Ok(client) => Ok(Self { client, origin }),
            Err(reason) => Err(ApiError { origin, reason }),
        }
    }

    /// The client. It does not retry and does not log.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API's address.
    pub fn server(&self) -> &str {
        self.origin.server.as_deref().unwrap_or_default()
    }

    /// The source of address and credentials.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Requests the version of the API, to verify that it answers.
    ///
    /// # Errors
    /// The API does not answer; the error names file, context, server and reason.
    pub async fn version(&self) -> Result<String, ApiError> {
        let error = |reason| ApiError { origin: self.origin.clone(), reason };
        let answer = tokio::time::timeout(ANSWER, get(&self.client, "/version")).await;
        let answer = answer.map_err(|_| error(format!("no answer within {} s", ANSWER.as_secs())))?;
        let version = answer.map_err(|failure| error(failure.message))?;
        Ok(version["gitVersion"].as_str().unwrap_or("of unknown version").to_owned())
    }
}

/// Whether an API is configured where [`Api::find`] looks without options: this is a pod, `KUBECONFIG` names files, or
/// `~/.kube/config` exists.
pub fn is_configured() -> bool {
    let named = env::var_os("KUBECONFIG").is_some_and(|files| !files.is_empty());
    is_in_cluster() || named || default_kubeconfigs().iter().any(|path| path.exists())
}

/// Whether this process runs in a pod, by the variable that kubelets set.
fn is_in_cluster() -> bool {
    env::var_os("KUBERNETES_SERVICE_HOST").is_some_and(|host| !host.is_empty())
}

fn in_cluster() -> Result<(Config, Origin), ApiError> {
    let mut origin = Origin { source: "the pod's service account".to_owned(), context: None, server: None };
    match Config::incluster() {
        Ok(config) => {
            origin.server = Some(config.cluster_url.to_string().trim_end_matches('/').to_owned());
            Ok((config, origin))
        }
        Err(error) => Err(ApiError { origin, reason: reason(&error) }),
    }
}

/// The files of `KUBECONFIG`, else `~/.kube/config`.
fn default_kubeconfigs() -> Vec<PathBuf> {
    let given = env::var_os("KUBECONFIG").unwrap_or_default();
    let given: Vec<_> = env::split_paths(&given).filter(|path| !path.as_os_str().is_empty()).collect();
    if !given.is_empty() {
        return given;
    }
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    vec![home.join(".kube/config")]
}

async fn kubeconfig(paths: &[PathBuf], options: &ApiOptions) -> Result<(Config, Origin), ApiError> {
    let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    let mut origin = Origin { source: names.join(", "), context: options.context.clone(), server: None };
    let kubeconfig = match read(paths) {
        Ok(kubeconfig) => kubeconfig,
        Err(reason) => return Err(ApiError { origin, reason }),
    };
    origin.context =
        origin.context.or_else(|| kubeconfig.current_context.clone().filter(|name| !name.is_empty()));
    let Some(name) = &origin.context else {
        let reason =
            format!("there is no current context; name one with --context: {}", contexts(&kubeconfig));
        return Err(ApiError { origin, reason });
    };
    let Some(context) = kubeconfig.contexts.iter().find(|context| context.name == *name) else {
        let reason = format!("there is no such context; there are {}", contexts(&kubeconfig));
        return Err(ApiError { origin, reason });
    };
    let cluster = context.context.as_ref().map(|context| context.cluster.clone()).unwrap_or_default();
    let cluster =
        kubeconfig.clusters.iter().find(|one| one.name == cluster).and_then(|one| one.cluster.clone());
    origin.server = cluster.as_ref().and_then(|cluster| cluster.server.clone());
    let proxy = cluster.and_then(|cluster| cluster.proxy_url);
    let chosen = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    match Config::from_custom_kubeconfig(kubeconfig, &chosen).await {
        Ok(mut config) => {
            // Only the proxy of the cluster's entry is used, not that of the environment.
            config.proxy_url = config.proxy_url.filter(|_| proxy.is_some());
            Ok((config, origin))
        }
        Err(error) => Err(ApiError { origin, reason: reason(&error) }),
    }
}

fn read(paths: &[PathBuf]) -> Result<Kubeconfig, String> {
    let mut merged = Kubeconfig::default();
    // As with kubectl, one of several files may be missing, a single one may not.
    let missing = |path: &Path| paths.len() > 1 && !path.exists();
    for path in paths.iter().filter(|path| !missing(path)) {
        // Errors of the parser have an excerpt of the file in further lines, which may hold a key.
        let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let one = Kubeconfig::read_from(path).map_err(|error| first_line(reason(&error)))?;
        merged = merged.merge(one).map_err(|error| reason(&error))?;
    }
    Ok(merged)
}

fn contexts(kubeconfig: &Kubeconfig) -> String {
    let names: Vec<_> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Makes a client without the layers of `Client::try_from` that log each failure as an error and that retry: the watches
/// do both with their own back-off.
fn client(config: Config) -> Result<Client, String> {
    if let Some(proxy) = &config.proxy_url {
        return Err(format!("the proxy {proxy} of its cluster cannot be used: proxies are not supported"));
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    let connector =
        config.rustls_https_connector_with_connector(connector).map_err(|error| reason(&error))?;
    let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(IDLE)
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .pool_max_idle_per_host(MAX_IDLE);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(|error| reason(&error))?)
        .layer(config.extra_headers_layer().map_err(|error| reason(&error))?)
        .map_err(BoxError::from)
        .service(builder.build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace))
}
