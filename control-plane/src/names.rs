//! Workloads and targets as people name them: in eastwest's own form, and in those of kubectl and istioctl.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use eastwest_engine::Port;
use eastwest_model::{Kind, Name, ObjectRef, WorkloadKey, names::is_dns_label};

/// How a workload may be named, for messages.
const WORKLOAD: &str =
    "write NAMESPACE/POD, POD.NAMESPACE, POD -n NAMESPACE, NAMESPACE/deploy/NAME or the address of a pod";
/// How a target may be named, for messages.
const TARGET: &str = "write HOST:PORT, for example reviews.shop:9080, svc/reviews.shop:http or 10.0.0.7:8080";

/// The words for kinds of workloads, as kubectl takes them. `None` = a workload of any kind that has the name.
const KINDS: [(&[&str], Option<Kind>); 8] = [
    (&["pod", "pods", "po"], None),
    (&["workloadentry", "workloadentries", "we"], None),
    (&["deployment", "deployments", "deploy"], Some(Kind::Deployment)),
    (&["statefulset", "statefulsets", "sts"], Some(Kind::StatefulSet)),
    (&["daemonset", "daemonsets", "ds"], Some(Kind::DaemonSet)),
    (&["replicaset", "replicasets", "rs"], Some(Kind::ReplicaSet)),
    (&["job", "jobs"], Some(Kind::Job)),
    (&["cronjob", "cronjobs", "cj"], Some(Kind::CronJob)),
];
const SERVICES: [&str; 3] = ["service", "services", "svc"];

/// A workload as somebody names it. Its text, in the form of [`fmt::Display`], leads to an equal one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkloadName {
    /// By namespace and name.
    Key(WorkloadKey),
    /// One of the workloads of a Deployment or its like.
    Of(ObjectRef),
    /// By its address.
    At(IpAddr),
}

/// What a client calls, as somebody names it. Its text leads to an equal one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetName {
    /// Whom.
    pub(crate) host: HostName,
    /// At which port.
    pub(crate) port: Port,
}

/// The host of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostName {
    /// A name as the client's application would write it, or an address.
    Host(String),
    /// A Service; without a namespace one of the client's.
    Service { namespace: Option<Name>, name: Name },
    /// A workload, by its own address.
    Workload(WorkloadName),
    /// The same, in the namespace of the client. `None` = of any kind.
    Neighbour { kind: Option<Kind>, name: Name },
}

impl WorkloadName {
    /// Reads what was typed; `namespace` counts for a name that has none.
    ///
    /// # Errors
    /// The text names no workload, or no namespace: how to write it.
    pub(crate) fn read(text: &str, namespace: Option<&str>) -> Result<Self, String> {
        let wrong = || format!("{text:?} names no workload: {WORKLOAD}");
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::At(address));
        }
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong());
        }
        match parts[..] {
            [name] => {
                let (namespace, name) = with_namespace(name, namespace)
                    .ok_or_else(|| format!("{text:?} names no namespace: {WORKLOAD}"))?;
                Ok(Self::Key(WorkloadKey { namespace, name }))
            }
            [word, _] if is_service(word) => Err(not_a_service(text)),
            [word, name] => match (kind(word), with_namespace(name, namespace)) {
                (Some(kind), Some((namespace, name))) => Ok(Self::of(kind, namespace, name)),
                // Without a namespace the word may be one.
                _ => Ok(Self::Key(WorkloadKey { namespace: word.into(), name: name.into() })),
            },
            [first, second, name] => {
                let (of, word) = if kind(second).is_some() { (first, second) } else { (second, first) };
                if is_service(word) || is_service(second) {
                    return Err(not_a_service(text));
                }
                let kind = kind(word).ok_or_else(wrong)?;
                Ok(Self::of(kind, of.into(), name.into()))
            }
            _ => Err(wrong()),
        }
    }

    /// Its namespace, unless it is an address.
    pub(crate) fn namespace(&self) -> Option<&Name> {
        match self {
            Self::Key(WorkloadKey { namespace, .. }) | Self::Of(ObjectRef { namespace, .. }) => {
                Some(namespace)
            }
            Self::At(_) => None,
        }
    }

    /// A workload of a kind; `None` = of any kind.
    pub(crate) fn of(kind: Option<Kind>, namespace: Name, name: Name) -> Self {
        match kind {
            Some(kind) => Self::Of(ObjectRef { kind, namespace, name }),
            None => Self::Key(WorkloadKey { namespace, name }),
        }
    }
}

impl TargetName {
    /// Reads what was typed; `namespace` counts for a workload or Service without one, not for a name of DNS.
    ///
    /// # Errors
    /// The text is no target: how to write it.
    pub(crate) fn read(text: &str, namespace: Option<&str>) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no target: {TARGET}");
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or(rest);
            let port = if authority.contains(':') { "" } else { ":PORT" };
            return Err(format!("leave out {scheme}:// and the path: write {authority}{port}"));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(format!("{text:?} is an IPv6 address without a port: write [ADDRESS]:PORT"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|()| wrong())?;
        if host.is_empty() || host.ends_with('/') {
            return Err(wrong());
        }
        Ok(Self { host: HostName::read(host, namespace)?, port })
    }
}

impl HostName {
    /// Reads the host of a target; see [`TargetName::read`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn read(host: &str, namespace: Option<&str>) -> Result<Self, String> {
        let service = |namespace: Option<Name>, name: &str| Self::Service { namespace, name: name.into() };
        Ok(match host.split('/').collect::<Vec<_>>()[..] {
            [host] => Self::Host(host.to_owned()),
            [word, name] if is_service(word) => match with_namespace(name, namespace) {
                Some((namespace, name)) => Self::Service { namespace: Some(namespace), name },
                None => service(None, name),
            },
            [of, word, name] | [word, of, name] if is_service(word) => service(Some(of.into()), name),
            [word, name] if !name.is_empty() && with_namespace(name, namespace).is_none() => match kind(word)
            {
                Some(kind) => Self::Neighbour { kind, name: name.into() },
                None => Self::Workload(WorkloadName::read(host, namespace)?),
            },
            _ => Self::Workload(WorkloadName::read(host, namespace)?),
        })
    }
}

/// The namespace and the rest of a name: `--namespace`, or what stands behind the last dot.
fn with_namespace(name: &str, namespace: Option<&str>) -> Option<(Name, Name)> {
    match namespace {
        Some(namespace) => Some((namespace.into(), name.into())),
        None => name
            .rsplit_once('.')
            .filter(|(name, namespace)| !name.is_empty() && is_dns_label(namespace))
            .map(|(name, namespace)| (namespace.into(), name.into())),
    }
}

/// The kind that a word of kubectl means: `None` if it means none.
fn kind(word: &str) -> Option<Option<Kind>> {
    let word = word.to_ascii_lowercase();
    KINDS.iter().find(|(words, _)| words.contains(&&*word)).map(|(_, kind)| *kind)
}

fn is_service(word: &str) -> bool {
    SERVICES.contains(&&*word.to_ascii_lowercase())
}

fn not_a_service(text: &str) -> String {
    format!("{text:?} is a Service, not a workload: {WORKLOAD}")
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Of(ObjectRef { kind, namespace, name }) => {
                write!(f, "{namespace}/{}/{name}", kind.to_string().to_ascii_lowercase())
            }
            Self::At(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Service { namespace: Some(namespace), name } => write!(f, "{namespace}/svc/{name}"),
            Self::Service { namespace: None, name } => write!(f, "svc/{name}"),
            Self::Workload(WorkloadName::At(address)) => address.fmt(f),
            // A namespace that is called like a kind.
            Self::Workload(WorkloadName::Key(WorkloadKey { namespace, name }))
                if kind(namespace).is_some() =>
            {
                write!(f, "{namespace}/pod/{name}")
            }
            Self::Workload(workload) => workload.fmt(f),
            Self::Neighbour { kind: Some(kind), name } => {
                write!(f, "{}/{name}", kind.to_string().to_ascii_lowercase())
            }
            Self::Neighbour { kind: None, name } => write!(f, "pod/{name}"),
        }
    }
}

impl FromStr for WorkloadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, None)
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each form means what it says, and what it means has one text that leads to it again.
    #[test]
    fn names_have_one_canonical_text() {
        for (text, flag, canonical) in [
            ("shop/web-0", None, "shop/web-0"),
            ("web-0.shop", None, "shop/web-0"),
            ("web-0", Some("shop"), "shop/web-0"),
            // With the flag, dots belong to the name.
            ("web.v1", Some("shop"), "shop/web.v1"),
            ("pod/web-0", Some("shop"), "shop/web-0"),
            ("shop/po/web-0", None, "shop/web-0"),
            ("Pod/shop/web-0", None, "shop/web-0"),
            ("deploy/web", Some("shop"), "shop/deployment/web"),
            ("deploy/web.shop", None, "shop/deployment/web"),
            ("Deployment/shop/web", None, "shop/deployment/web"),
            ("shop/sts/db", None, "shop/statefulset/db"),
            ("shop/cj/nightly", None, "shop/cronjob/nightly"),
            // A namespace may be called like a kind.
            ("deploy/web-0", None, "deploy/web-0"),
            ("deploy/pod/web-0", None, "deploy/web-0"),
            ("10.0.0.7", None, "10.0.0.7"),
            ("[2001:db8::1]", None, "2001:db8::1"),
        ] {
            let name = WorkloadName::read(text, flag).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(name.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(name), "{text}");
        }
        for wrong in [
            "",
            "web",
            "/web",
            "shop/",
            "a/b/c",
            "a/b/c/d",
            "svc/web",
            "shop/svc/web",
            "Service/shop/web",
            ".",
        ] {
            let error = WorkloadName::read(wrong, None).expect_err(wrong);
            assert!(error.contains("NAMESPACE/POD"), "{wrong}: {error}");
        }
    }

    #[test]
    fn targets_have_one_canonical_text() {
        for (text, flag, host, port) in [
            ("reviews:9080", None, "reviews", "9080"),
            ("reviews.shop:http", Some("other"), "reviews.shop", "http"),
            ("10.0.0.7:80", None, "10.0.0.7", "80"),
            ("[2001:db8::1]:80", None, "[2001:db8::1]", "80"),
            ("svc/web:80", None, "svc/web", "80"),
            ("svc/web:80", Some("shop"), "shop/svc/web", "80"),
            ("svc/web.shop:80", None, "shop/svc/web", "80"),
            ("shop/svc/web:80", None, "shop/svc/web", "80"),
            ("Service/shop/web:80", None, "shop/svc/web", "80"),
            ("shop/web-0:8080", None, "shop/web-0", "8080"),
            ("shop/deploy/web:8080", None, "shop/deployment/web", "8080"),
            ("deploy/web:8080", None, "deployment/web", "8080"),
            ("deploy/web.shop:8080", None, "shop/deployment/web", "8080"),
            ("deploy/web:8080", Some("shop"), "shop/deployment/web", "8080"),
            ("pod/web-0:http", None, "pod/web-0", "http"),
            ("po/web-0:http", Some("shop"), "shop/web-0", "http"),
            // A namespace may be called like a kind.
            ("deploy/pod/web-0:80", None, "deploy/pod/web-0", "80"),
            ("web-0:80", Some("deploy"), "web-0", "80"),
            ("pod/web-0:80", Some("deploy"), "deploy/pod/web-0", "80"),
        ] {
            let target = TargetName::read(text, flag).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((&*target.host.to_string(), &*target.port.to_string()), (host, port), "{text}");
            assert_eq!(host.parse(), Ok(target.host), "{text}");
        }
        for wrong in
            ["", "web", ":80", "web:", "web:0", "web:99999", "shop/:80", "http://web:80/x", "web:80/x"]
        {
            assert!(TargetName::read(wrong, None).is_err(), "{wrong}");
        }
    }
}
