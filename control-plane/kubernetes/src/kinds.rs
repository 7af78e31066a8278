//! The resources that are watched, and the fields that are decoded of each.

use eastwest_model::{Group, Kind};
use serde::{
    Deserialize as _,
    de::{IntoDeserializer, value::Error},
};

use crate::prune::Keep;

/// A resource of the API.
#[derive(Debug)]
pub struct Resource {
    /// `Pod`.
    pub kind: &'static str,
    /// `discovery.k8s.io`; empty for the core group.
    pub group: &'static str,
    /// The supported versions, the preferred one first.
    pub versions: &'static [&'static str],
    /// The name in paths and in RBAC rules: `pods`.
    pub plural: &'static str,
    /// Whether its objects lie in namespaces.
    pub namespaced: bool,
    /// Defined by a CustomResourceDefinition, which may be missing.
    pub custom: bool,
    /// The fields that are decoded.
    pub keep: Keep,
    /// The fields that are noted for writers to the API ([`Facts`](crate::Facts)), as JSON pointers; `None`: nothing is
    /// noted of the objects.
    pub noted: Option<&'static [&'static str]>,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (self.group, self.plural) == (other.group, other.plural)
    }
}

impl Eq for Resource {}

impl Resource {
    /// `pods`, `destinationrules.networking.istio.io`: as in kubectl and messages of RBAC.
    pub fn name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The kind in the model, if the parser of manifests knows it. It is found by its name, so that the resource of a kind
    /// that becomes known needs no change here.
    pub fn parsed(&self) -> Option<Kind> {
        let kind = Kind::deserialize(IntoDeserializer::<Error>::into_deserializer(self.kind)).ok();
        kind.filter(|kind| kind.group().name() == self.group)
    }

    /// `v1` or `networking.istio.io/v1`.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The preferred one of the `served` versions that are supported.
    pub(crate) fn choose_version(&self, served: &[String]) -> Option<&'static str> {
        self.versions.iter().find(|version| served.iter().any(|served| served == *version)).copied()
    }
}

const fn core(kind: &'static str, plural: &'static str, namespaced: bool, keep: Keep) -> Resource {
    Resource {
        kind,
        group: Group::Core.name(),
        versions: &["v1"],
        plural,
        namespaced,
        custom: false,
        keep,
        noted: None,
    }
}

const fn security(kind: &'static str, plural: &'static str) -> Resource {
    let (group, versions) = (Group::Security.name(), &["v1", "v1beta1"]);
    Resource {
        kind,
        group,
        versions,
        plural,
        namespaced: true,
        custom: true,
        keep: POLICY,
        noted: CONDITIONS,
    }
}

const fn networking(kind: &'static str, plural: &'static str) -> Resource {
    let (group, versions) = (Group::Networking.name(), &["v1", "v1beta1", "v1alpha3"]);
    Resource {
        kind,
        group,
        versions,
        plural,
        namespaced: true,
        custom: true,
        keep: POLICY,
        noted: CONDITIONS,
    }
}

/// Of policies, the conditions of their status are noted.
const CONDITIONS: Option<&[&str]> = Some(&["/status/conditions"]);

/// The annotations that the parser reads.
const ANNOTATIONS: Keep = Keep::Only(&[
    ("alpha.istio.io/canonical-serviceaccounts", Keep::Whole),
    ("alpha.istio.io/kubernetes-serviceaccounts", Keep::Whole),
    ("networking.istio.io/exportTo", Keep::Whole),
]);

const METADATA: Keep = Keep::Only(&[
    ("name", Keep::Whole),
    ("namespace", Keep::Whole),
    ("uid", Keep::Whole),
    ("resourceVersion", Keep::Whole),
    ("generation", Keep::Whole),
    ("creationTimestamp", Keep::Whole),
    ("deletionTimestamp", Keep::Whole),
    ("labels", Keep::Whole),
    ("annotations", ANNOTATIONS),
]);

/// Everything except the copies of the object that its writers store in it.
const POLICY: Keep = Keep::Except(&[(
    "metadata",
    Keep::Except(&[
        ("managedFields", Keep::Nothing),
        ("annotations", Keep::Except(&[("kubectl.kubernetes.io/last-applied-configuration", Keep::Nothing)])),
    ]),
)]);

const fn object(spec: Keep, status: Keep) -> [(&'static str, Keep); 5] {
    [
        ("apiVersion", Keep::Whole),
        ("kind", Keep::Whole),
        ("metadata", METADATA),
        ("spec", spec),
        ("status", status),
    ]
}

const METADATA_ONLY: Keep = Keep::Only(&object(Keep::Nothing, Keep::Nothing));

const CONTAINERS: Keep = Keep::Only(&[
    ("name", Keep::Whole),
    ("ports", Keep::Whole),
    ("restartPolicy", Keep::Whole),
    ("env", Keep::Matching { field: "name", prefix: "ISTIO_META_" }),
]);

const POD: Keep = Keep::Only(&object(
    Keep::Only(&[
        ("serviceAccountName", Keep::Whole),
        ("nodeName", Keep::Whole),
        ("hostNetwork", Keep::Whole),
        ("containers", CONTAINERS),
        ("initContainers", CONTAINERS),
    ]),
    Keep::Only(&[
        ("phase", Keep::Whole),
        ("podIP", Keep::Whole),
        ("podIPs", Keep::Whole),
        ("conditions", Keep::Only(&[("type", Keep::Whole), ("status", Keep::Whole)])),
    ]),
));

const SERVICE: Keep = Keep::Only(&object(Keep::Whole, Keep::Nothing));

const ENDPOINT_SLICE: Keep = Keep::Only(&[
    ("apiVersion", Keep::Whole),
    ("kind", Keep::Whole),
    ("metadata", METADATA),
    ("addressType", Keep::Whole),
    ("ports", Keep::Whole),
    (
        "endpoints",
        Keep::Only(&[
            ("addresses", Keep::Whole),
            ("conditions", Keep::Whole),
            ("nodeName", Keep::Whole),
            ("zone", Keep::Whole),
            ("targetRef", Keep::Only(&[("kind", Keep::Whole), ("name", Keep::Whole)])),
        ]),
    ),
]);

const DEFINITION: Keep = Keep::Only(&object(
    Keep::Only(&[
        ("group", Keep::Whole),
        ("names", Keep::Only(&[("plural", Keep::Whole)])),
        ("versions", Keep::Only(&[("name", Keep::Whole), ("served", Keep::Whole)])),
    ]),
    Keep::Only(&[("conditions", Keep::Only(&[("type", Keep::Whole), ("status", Keep::Whole)]))]),
));

/// Namespaces.
pub const NAMESPACE: Resource =
    Resource { noted: Some(&[]), ..core("Namespace", "namespaces", false, METADATA_ONLY) };

/// ServiceAccounts.
pub const SERVICE_ACCOUNT: Resource =
    Resource { noted: Some(&[]), ..core("ServiceAccount", "serviceaccounts", true, METADATA_ONLY) };

/// The resources that are watched in all namespaces.
pub const RESOURCES: &[Resource] = &[
    NAMESPACE,
    core("Node", "nodes", false, METADATA_ONLY),
    SERVICE_ACCOUNT,
    core("Service", "services", true, SERVICE),
    core("Pod", "pods", true, POD),
    Resource {
        kind: "EndpointSlice",
        group: Group::Discovery.name(),
        versions: &["v1"],
        plural: "endpointslices",
        namespaced: true,
        custom: false,
        keep: ENDPOINT_SLICE,
        noted: None,
    },
    security("PeerAuthentication", "peerauthentications"),
    security("AuthorizationPolicy", "authorizationpolicies"),
    security("RequestAuthentication", "requestauthentications"),
    networking("DestinationRule", "destinationrules"),
    networking("VirtualService", "virtualservices"),
    networking("ServiceEntry", "serviceentries"),
    networking("WorkloadEntry", "workloadentries"),
    networking("Sidecar", "sidecars"),
    networking("Gateway", "gateways"),
];

/// ConfigMaps, watched by name.
pub const CONFIG_MAP: &Resource = &core("ConfigMap", "configmaps", true, POLICY);

/// ConfigMaps of one name in all namespaces, for writers: labels and data are noted.
pub const OBSERVED_CONFIG_MAPS: &Resource = &Resource {
    noted: Some(&["/metadata/labels", "/data"]),
    ..core("ConfigMap", "configmaps", true, POLICY)
};

/// Secrets, watched by name.
pub const SECRET: &Resource = &core("Secret", "secrets", true, POLICY);

/// CustomResourceDefinitions, which tell which custom resources are served.
pub const DEFINITIONS: &Resource = &Resource {
    kind: "CustomResourceDefinition",
    group: "apiextensions.k8s.io",
    versions: &["v1"],
    plural: "customresourcedefinitions",
    namespaced: false,
    custom: false,
    keep: DEFINITION,
    noted: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_understood_version_that_is_served_is_chosen() {
        let rules = RESOURCES.iter().find(|resource| resource.kind == "DestinationRule").unwrap();
        let choose = |served: &[&str]| {
            rules.choose_version(&served.iter().map(|version| (*version).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(choose(&["v1alpha3", "v1beta1", "v1"]), Some("v1"));
        assert_eq!(choose(&["v1alpha3", "v2"]), Some("v1alpha3"));
        assert_eq!(choose(&["v2"]), None);
        assert_eq!(choose(&[]), None);
        assert_eq!(rules.name(), "destinationrules.networking.istio.io");
        assert_eq!(rules.api_version("v1"), "networking.istio.io/v1");
        assert_eq!((SECRET.name(), SECRET.api_version("v1")), ("secrets".to_owned(), "v1".to_owned()));
    }
}
