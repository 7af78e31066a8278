//! The trusted roots, in every namespace and for the whole cluster.

mod plan;
mod trust_bundle;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use eastwest_kubernetes::{Api, Facts, NAMESPACE, OBSERVED_CONFIG_MAPS, Repeated, Source, send_if_different};
use kube::Client;
use tokio::{sync::watch, task::JoinSet, time::sleep_until};
use tracing::{debug, warn};

use self::plan::{Plan, Step};
use crate::{
    request::{self, Refusal},
    supervision::{supervise, while_leading},
};

/// Writes at the same time.
const AT_ONCE: usize = 8;
/// The time between two writes.
const PACE: Duration = Duration::from_millis(10);
/// How long changes are collected.
const COLLECT: Duration = Duration::from_millis(50);
/// How many problems are listed.
const LISTED: usize = 10;

/// How far the roots are published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publication {
    /// Whether this process writes them.
    pub leads: bool,
    /// Whether the current roots are in all namespaces but those that refuse them. Without the lead: false.
    pub complete: bool,
    /// The number of namespaces, without those that end.
    pub namespaces: usize,
    /// How many of them do not have the current roots.
    pub missing: usize,
    /// What is wrong, each with the object and a remedy; the first ten.
    pub problems: Vec<String>,
}

/// Tells how far the roots are published. A clone is another handle.
#[derive(Debug, Clone)]
pub struct Published(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config_maps: watch::Sender<Publication>,
    /// What is wrong with the ClusterTrustBundle.
    bundle: watch::Sender<Option<String>>,
}

impl Published {
    fn new() -> Self {
        Self(Arc::new(Inner { config_maps: watch::Sender::default(), bundle: watch::Sender::default() }))
    }

    /// How far the roots are published now.
    pub fn now(&self) -> Publication {
        let mut publication = self.0.config_maps.borrow().clone();
        if publication.leads {
            publication.problems.extend(self.0.bundle.borrow().clone());
        }
        publication
    }

    /// Whether nothing is left to write: this process does not lead, or every namespace has the current roots or refuses
    /// them. A ClusterTrustBundle that is refused is a problem, but does not count here.
    pub fn is_ready(&self) -> bool {
        let publication = self.0.config_maps.borrow();
        !publication.leads || publication.complete
    }

    fn set(&self, publication: Publication) {
        send_if_different(&self.0.config_maps, publication);
    }

    fn bundle(&self, problem: Option<String>) {
        self.0.bundle.send_replace(problem);
    }
}

/// Keeps the ConfigMap `istio-ca-root-cert` of every namespace and the ClusterTrustBundle `eastwest.dev:workload:root`
/// equal to `roots`, PEM, while this process leads. While `roots` is empty, nothing is written.
///
/// The ConfigMaps are watched by `source`. The future ends when `leads` is closed. Must be called within a tokio runtime.
pub fn publish_roots<T: Send + 'static>(
    api: &Api,
    source: &mut Source<T>,
    leads: watch::Receiver<bool>,
    roots: watch::Receiver<String>,
) -> (Published, impl Future<Output = ()> + Send + 'static) {
    source.observe_config_maps(plan::NAME);
    let published = Published::new();
    let publisher = Publisher {
        client: api.client(),
        facts: source.facts(),
        roots,
        published: published.clone(),
        log: Arc::default(),
    };
    let future = async move {
        let maps = || {
            let (publisher, leads) = (publisher.clone(), leads.clone());
            async move {
                let rests = || publisher.published.set(Publication::default());
                while_leading(leads, rests, || publisher.publish()).await;
            }
        };
        let bundle = || {
            let (publisher, leads) = (publisher.clone(), leads.clone());
            async move {
                let Publisher { client, roots, published, .. } = &publisher;
                let rests = || published.bundle(None);
                while_leading(leads, rests, || trust_bundle::publish(client, roots.clone(), published)).await;
            }
        };
        tokio::join!(supervise("roots in namespaces", maps), supervise("ClusterTrustBundle", bundle));
    };
    (published, future)
}

#[derive(Clone)]
struct Publisher {
    client: Client,
    facts: Facts,
    roots: watch::Receiver<String>,
    published: Published,
    log: Arc<Repeated>,
}

/// The end of a write to a namespace: the version that it came to.
type Ended = (Box<str>, Result<String, Refusal>);

impl Publisher {
    /// Writes while the future lives.
    async fn publish(&self) {
        let (mut roots, mut changes) = (self.roots.clone(), self.facts.changes());
        let (mut plan, mut writes) = (Plan::default(), JoinSet::<Ended>::new());
        let (mut queue, mut paced) = (VecDeque::new(), Instant::now());
        let (mut roots_end, mut step_at) = (false, Instant::now());
        let mut wanted: Arc<str> = "".into();
        loop {
            let now = Instant::now();
            if step_at <= now {
                changes.borrow_and_update();
                wanted = roots.borrow_and_update().as_str().into();
                let step = self.step(&mut plan, &wanted, now);
                let Step { write, wake, .. } = step;
                queue.extend(write);
                step_at = wake.unwrap_or(now + Duration::from_secs(60));
            }
            let has_room = !queue.is_empty() && !wanted.is_empty() && writes.len() < AT_ONCE;
            tokio::select! {
                ended = writes.join_next(), if !writes.is_empty() => {
                    match ended {
                        Some(Ok((namespace, result))) => {
                            debug!(namespace = &*namespace, ok = result.is_ok(), "wrote the roots to a namespace");
                            plan.written(&namespace, result, Instant::now());
                        }
                        // Nobody knows which write panicked: all are compared again.
                        Some(Err(_)) => plan = Plan::default(),
                        None => {}
                    }
                    // Progress is told, and a failure needs a time to repeat the write.
                    step_at = step_at.min(now + COLLECT);
                }
                () = sleep_until(paced.into()), if has_room => {
                    if let Some(namespace) = queue.pop_front() {
                        paced = Instant::now() + PACE;
                        writes.spawn(write(self.client.clone(), namespace, wanted.clone()));
                    }
                }
                changed = roots.changed(), if !roots_end => {
                    roots_end = changed.is_err();
                    step_at = now;
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    step_at = step_at.min(now + COLLECT);
                }
                () = sleep_until(step_at.into()) => {}
            }
        }
    }

    fn step(&self, plan: &mut Plan, roots: &str, now: Instant) -> Step {
        let unready = |problem: &str| {
            let problems = vec![problem.to_owned()];
            self.published.set(Publication { leads: true, problems, ..Publication::default() });
            Step::default()
        };
        if roots.is_empty() {
            return unready("there are no roots yet");
        }
        let step = self.facts.read(|all| match (all.of(&NAMESPACE), all.of(OBSERVED_CONFIG_MAPS)) {
            (Some(namespaces), Some(config_maps)) => Ok(plan.step(namespaces, config_maps, roots, now)),
            (None, _) => Err("namespaces are not listed yet"),
            (_, None) => Err("the ConfigMaps istio-ca-root-cert are not listed yet"),
        });
        let step = match step {
            Ok(step) => step,
            Err(problem) => return unready(problem),
        };
        for (namespace, problem) in plan.problems() {
            if self.log.is_due(namespace, now) {
                warn!(namespace, error = problem, "the roots are not published in a namespace");
            }
        }
        self.published.set(Publication {
            leads: true,
            complete: step.missing == step.refused && (step.refused < step.namespaces || step.missing == 0),
            namespaces: step.namespaces,
            missing: step.missing,
            problems: plan.problems().map(|(_, problem)| problem).take(LISTED).collect(),
        });
        step
    }
}

async fn write(client: Client, namespace: Box<str>, roots: Arc<str>) -> Ended {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{}", plan::NAME);
    let result = request::apply(&client, &path, &plan::config_map(&namespace, &roots)).await;
    (
        namespace,
        result.map(|made| made["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()),
    )
}
