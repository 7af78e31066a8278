//! The workloads of a Deployment and its like.

use std::sync::Arc;

use eastwest_model::{Kind, ObjectRef, Workload};

use super::Snapshot;

impl Snapshot {
    /// The workloads that a Deployment or its like has: its Pods, sorted by name, or its template where there is none of
    /// them. Empty if nothing is known of it.
    ///
    /// A template names its Pods by their labels. Where the template is not read, as in a cluster, the names and labels
    /// count that Kubernetes gives to the Pods of a controller.
    pub fn workloads_of(&self, controller: &ObjectRef) -> Vec<&Arc<Workload>> {
        let Some(space) = self.namespaces.get(&controller.namespace) else { return Vec::new() };
        let template = space.workloads.of_kind(controller.kind, &controller.name);
        let is_its = |one: &&Arc<Workload>| match (template, one.meta.object.kind) {
            (Some(template), Kind::Pod) => !template.meta.labels.is_empty() && template.is_template_of(one),
            (None, Kind::Pod) => is_made_by(controller, one),
            _ => one.meta.object == *controller,
        };
        let mut found: Vec<_> = space.workloads.values().filter(is_its).collect();
        found.sort_by_key(|one| (one.ended, one.meta.name()));
        found
    }
}

/// Whether the name and the labels of a Pod are those that Kubernetes gives to the Pods of a controller.
fn is_made_by(controller: &ObjectRef, pod: &Workload) -> bool {
    let label = |key: &str| pod.meta.labels.get(key).map(|value| &**value);
    let Some(rest) = pod.meta.name().strip_prefix(&*controller.name).and_then(|rest| rest.strip_prefix('-'))
    else {
        return false;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let job = label("batch.kubernetes.io/job-name").or_else(|| label("job-name"));
    match controller.kind {
        Kind::Deployment => {
            let hash = label("pod-template-hash");
            rest.split_once('-').is_some_and(|(set, _)| Some(set) == hash)
        }
        Kind::ReplicaSet => label("pod-template-hash").is_some() && !rest.contains('-'),
        Kind::StatefulSet => is_number(rest) && label("controller-revision-hash").is_some(),
        Kind::DaemonSet => !rest.contains('-') && label("pod-template-generation").is_some(),
        Kind::Job => job == Some(&*controller.name),
        Kind::CronJob => {
            let run = job.and_then(|job| job.strip_prefix(&*controller.name)?.strip_prefix('-'));
            run.is_some_and(is_number)
        }
        _ => false,
    }
}
