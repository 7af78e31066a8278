//! A Pod, or the template of one, with its sidecar.

use serde_json::{Map, Value, json};

use crate::{
    Mistake, Options, Texts,
    annotations::Wishes,
    decision::{OVERRIDES, REVISION, STATUS},
    merge::overlay,
    probes,
    template::{self, INIT, PROXY, PROXY_ID},
    texts,
};

/// The label by which a control plane knows a pod with a sidecar.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// Gives a pod its sidecar. `owner` is the name of what makes the pod, or its own. Returns what has no effect, with hints.
///
/// # Errors
/// Every annotation and field with which it cannot be done; the pod is as it was.
pub(crate) fn inject(pod: &mut Value, owner: &str, options: &Options) -> Result<Vec<String>, Vec<Mistake>> {
    let mut wishes = Wishes::read(&texts(&pod["metadata"]["annotations"]))?;
    check_users(pod)?;
    let native = wishes.native.unwrap_or(options.native_sidecar);
    let labels = labels(&texts(&pod["metadata"]["labels"]), owner);
    let mut patch = json!({"metadata": {"labels": labels}, "spec": {"volumes": template::volumes(&wishes)}});
    let mut proxy = template::proxy(options, &wishes, &labels, native);
    let mut init = template::init(options, &wishes);
    if let Some(over) = options.template.clone() {
        let (over_proxy, over_init) = apply_override(&mut patch, over);
        over_proxy.into_iter().for_each(|over| overlay(&mut proxy, over));
        if let Some(init) = &mut init {
            over_init.into_iter().for_each(|over| overlay(init, over));
        }
    }
    let written = take_written(pod);
    for container in written.iter().flat_map(|(_, containers)| containers) {
        let target = if container["name"] == PROXY { Some(&mut proxy) } else { init.as_mut() };
        if let Some(target) = target {
            overlay(target, without_auto_image(container.clone()));
        }
    }
    if !native && wishes.config.hold {
        proxy["lifecycle"]["postStart"] = json!({"exec": {"command": template::WAIT}});
    }
    if !wishes.keep_probes {
        let (originals, mut warnings) = probes::rewrite(pod);
        wishes.warnings.append(&mut warnings);
        if !originals.is_empty() {
            let text = Value::Object(originals).to_string();
            overlay(&mut proxy, json!({"env": [{"name": "ISTIO_KUBE_APP_PROBERS", "value": text}]}));
        }
    }
    let first = pod["spec"]["containers"][0]["name"].clone();
    annotate(&mut patch, &written, &first, options, native, init.is_some());
    overlay(pod, patch);
    place(pod, init, proxy, native, wishes.config.hold);
    Ok(std::mem::take(&mut wishes.warnings))
}

/// A process that runs as the sidecar's user would pass by the sidecar in both directions.
fn check_users(pod: &Value) -> Result<(), Vec<Mistake>> {
    let spec = &pod["spec"];
    let mistake = |place: String| Mistake {
        place,
        message: format!(
            "{PROXY_ID} is the user of the sidecar, whose connections are not redirected; choose another"
        ),
    };
    let mut mistakes = Vec::new();
    if spec["securityContext"]["runAsUser"] == PROXY_ID {
        mistakes.push(mistake("field spec.securityContext.runAsUser".to_owned()));
    }
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            if name != PROXY && container["securityContext"]["runAsUser"] == PROXY_ID {
                mistakes.push(mistake(format!("field spec.{list}[{name}].securityContext.runAsUser")));
            }
        }
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        let message = "the pod has no containers".to_owned();
        mistakes.push(Mistake { place: "field spec.containers".to_owned(), message });
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The labels of the pod with those that a sidecar adds. What the pod has stays.
fn labels(own: &Texts, owner: &str) -> Texts {
    let first = |keys: &[&str]| keys.iter().find_map(|key| own.get(*key)).cloned();
    let name = first(&["app.kubernetes.io/name", "app"]).unwrap_or_else(|| owner.to_owned());
    let revision = first(&["app.kubernetes.io/version", "version"]).unwrap_or_else(|| "latest".to_owned());
    let mut labels = own.clone();
    for (key, value) in [
        (TLS_MODE, "istio".to_owned()),
        ("service.istio.io/canonical-name", label_value(&name)),
        ("service.istio.io/canonical-revision", label_value(&revision)),
    ] {
        labels.entry(key.to_owned()).or_insert(value);
    }
    labels
}

/// At most 63 characters, the last one a letter or digit.
fn label_value(text: &str) -> String {
    let cut: String = text.chars().take(63).collect();
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Puts a partial Pod over the patch; its containers of the sidecar are returned, for they go elsewhere.
fn apply_override(patch: &mut Value, mut over: Value) -> (Vec<Value>, Vec<Value>) {
    let (mut proxy, mut init) = (Vec::new(), Vec::new());
    for (_, containers) in take_written(&mut over) {
        for container in containers {
            if container["name"] == PROXY { proxy.push(container) } else { init.push(container) }
        }
    }
    for list in ["containers", "initContainers"] {
        if over["spec"][list].as_array().is_some_and(Vec::is_empty) {
            over["spec"].as_object_mut().map(|spec| spec.shift_remove(list));
        }
    }
    for key in ["apiVersion", "kind", "status"] {
        over.as_object_mut().map(|over| over.shift_remove(key));
    }
    overlay(patch, over);
    (proxy, init)
}

/// Takes the containers that belong to the sidecar out of a pod: the list they stand in, and they.
fn take_written(pod: &mut Value) -> Vec<(&'static str, Vec<Value>)> {
    let mut found = Vec::new();
    for list in ["containers", "initContainers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        let is_ours = |container: &Value| container["name"] == PROXY || container["name"] == INIT;
        let (ours, others) = std::mem::take(containers).into_iter().partition(is_ours);
        *containers = others;
        found.push((list, ours));
    }
    found.retain(|(_, ours): &(_, Vec<Value>)| !ours.is_empty());
    found
}

/// `image: auto` stands for that of the template.
fn without_auto_image(mut container: Value) -> Value {
    if container["image"] == "auto" {
        container.as_object_mut().map(|container| container.shift_remove("image"));
    }
    container
}

fn annotate(
    patch: &mut Value,
    written: &[(&'static str, Vec<Value>)],
    first: &Value,
    options: &Options,
    native: bool,
    redirected: bool,
) {
    let mut inits = Vec::new();
    inits.extend(redirected.then_some(INIT));
    inits.extend(native.then_some(PROXY));
    let containers: Vec<_> = (!native).then_some(PROXY).into_iter().collect();
    let volumes = patch["spec"]["volumes"].as_array().into_iter().flatten();
    let volumes: Vec<_> = volumes.map(|volume| volume["name"].clone()).collect();
    let status = json!({
        "initContainers": inits, "containers": containers, "volumes": volumes, "revision": options.revision,
    });
    let mut annotations = json!({
        STATUS: status.to_string(),
        REVISION: options.revision,
        "kubectl.kubernetes.io/default-container": first,
    });
    if !written.is_empty() {
        let written: Map<_, _> =
            written.iter().map(|(list, containers)| ((*list).to_owned(), json!(containers))).collect();
        annotations[OVERRIDES] = Value::Object(written).to_string().into();
    }
    let given = patch["metadata"]["annotations"].take();
    if !given.is_null() {
        overlay(&mut annotations, given);
    }
    patch["metadata"]["annotations"] = annotations;
}

/// Puts the containers where they belong: the redirection first, then a native sidecar, then the pod's own.
fn place(pod: &mut Value, init: Option<Value>, proxy: Value, native: bool, first: bool) {
    let take = |pod: &mut Value, list: &str| match pod["spec"][list].take() {
        Value::Array(containers) => containers,
        _ => Vec::new(),
    };
    let mut inits: Vec<_> = init.into_iter().collect();
    let mut containers = take(pod, "containers");
    match (native, first) {
        (true, _) => inits.push(proxy),
        (false, true) => containers.insert(0, proxy),
        (false, false) => containers.push(proxy),
    }
    inits.append(&mut take(pod, "initContainers"));
    pod["spec"]["containers"] = Value::Array(containers);
    match inits.is_empty() {
        true => drop(pod["spec"].as_object_mut().and_then(|spec| spec.shift_remove("initContainers"))),
        false => pod["spec"]["initContainers"] = Value::Array(inits),
    }
}
