//! The default template: what every sidecar's pod gets, as a partial Pod.

use serde_json::{Value, json};

use crate::{Options, Texts, annotations::Wishes};

/// Name of the sidecar's container.
pub(crate) const PROXY: &str = "istio-proxy";
/// Name of the init container that sets the redirection.
pub(crate) const INIT: &str = "istio-init";
/// User and group of the sidecar.
pub(crate) const PROXY_ID: u32 = 1337;
/// The volume for the agent's files; it makes a folder of its own there, for the volume is open to all users.
const RUN: &str = "/run/eastwest";
/// Where the agent has its files.
const DIR: &str = "/run/eastwest/agent";
/// The agent's port with the readiness of the sidecar.
const STATUS_PORT: u16 = 15021;

/// What returns once the sidecar is ready.
pub(crate) const WAIT: [&str; 7] =
    ["eastwest", "ca", "wait-ready", "--server", "http://localhost:15021", "--timeout", "2m"];

/// The sidecar's container; `native` as an init container that keeps running.
pub(crate) fn proxy(options: &Options, wishes: &Wishes, labels: &Texts, native: bool) -> Value {
    let mut container = json!({
        "name": PROXY,
        "image": wishes.image.as_ref().unwrap_or(&options.image),
        "command": ["eastwest"],
        "args": arguments(options, wishes, labels),
        "env": environment(options, wishes),
        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}},
        "readinessProbe": probe(3, 4),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_ID,
            "runAsNonRoot": true,
            "runAsUser": PROXY_ID,
        },
        "volumeMounts": mounts(wishes),
    });
    for (kind, quantities) in &wishes.resources {
        container["resources"][kind] = quantities.clone();
    }
    for (field, value) in &wishes.readiness {
        container["readinessProbe"][field] = value.clone();
    }
    if native {
        container["restartPolicy"] = json!("Always");
        container["startupProbe"] = probe(1, 600);
    }
    container
}

fn probe(period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": "/healthz/ready", "port": STATUS_PORT},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    })
}

/// The command line of the agent, and of the Envoy that it starts.
fn arguments(options: &Options, wishes: &Wishes, labels: &Texts) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "agent",
        "--control-plane",
        &options.control_plane,
        "--cluster-id",
        &options.cluster_id,
        "--dir",
        DIR,
    ]
    .map(str::to_owned)
    .into();
    for (key, value) in labels {
        arguments.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    if let Some(time) = &wishes.config.drain_time {
        arguments.extend(["--drain-time".to_owned(), time.clone()]);
    }
    arguments.extend(["--", "envoy", "--disable-hot-restart"].map(str::to_owned));
    arguments.extend(["-c".to_owned(), format!("{DIR}/envoy.yaml")]);
    arguments.extend(["--log-level".to_owned(), wishes.log_level.as_deref().unwrap_or("warning").to_owned()]);
    if let Some(levels) = &wishes.component_log_level {
        arguments.extend(["--component-log-level".to_owned(), levels.clone()]);
    }
    let threads = wishes.config.concurrency.unwrap_or(2);
    // With 0 Envoy takes a thread for each core, as it does without the flag.
    if threads > 0 {
        arguments.extend(["--concurrency".to_owned(), threads.to_string()]);
    }
    arguments
}

fn environment(options: &Options, wishes: &Wishes) -> Vec<Value> {
    let from_field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut environment = vec![
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_NAMESPACE", "metadata.namespace"),
        from_field("INSTANCE_IP", "status.podIPs"),
        from_field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        from_field("HOST_IP", "status.hostIP"),
        from_field("NODE_NAME", "spec.nodeName"),
        json!({"name": "ISTIO_META_CLUSTER_ID", "value": options.cluster_id}),
    ];
    if let Some(level) = &wishes.agent_log_level {
        environment.push(json!({"name": "EASTWEST_LOG", "value": level}));
    }
    for (name, value) in &wishes.config.metadata {
        environment.retain(|known| known["name"] != name.as_str());
        environment.push(json!({"name": name, "value": value}));
    }
    environment
}

fn mounts(wishes: &Wishes) -> Vec<Value> {
    let mut mounts = vec![
        json!({"name": "istio-token", "mountPath": "/var/run/secrets/tokens", "readOnly": true}),
        json!({"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio", "readOnly": true}),
        json!({"name": "workload-socket", "mountPath": RUN}),
    ];
    mounts.extend(wishes.mounts.iter().cloned());
    mounts
}

/// The volumes that the sidecar mounts: its token, the trust anchor, and its work directory in memory.
pub(crate) fn volumes(wishes: &Wishes) -> Vec<Value> {
    let token = json!({"serviceAccountToken": {
        "audience": "istio-ca", "expirationSeconds": 43200, "path": "istio-token",
    }});
    let mut volumes = vec![
        json!({"name": "istio-token", "projected": {"sources": [token]}}),
        json!({"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}}),
        json!({"name": "workload-socket", "emptyDir": {"medium": "Memory"}}),
    ];
    volumes.extend(wishes.volumes.iter().cloned());
    volumes
}

/// The init container that sets the redirection; `None` where there is to be none.
pub(crate) fn init(options: &Options, wishes: &Wishes) -> Option<Value> {
    let mut arguments = vec!["redirect".to_owned()];
    for (flag, value) in &wishes.redirection {
        arguments.push(format!("{flag}={value}"));
    }
    (!wishes.unredirected).then(|| {
        json!({
            "name": INIT,
            "image": wishes.image.as_ref().unwrap_or(&options.image),
            "command": ["eastwest"],
            "args": arguments,
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
                "privileged": false,
                // The lock of iptables is a file in /run.
                "readOnlyRootFilesystem": false,
                "runAsGroup": 0,
                "runAsNonRoot": false,
                "runAsUser": 0,
            },
        })
    })
}
