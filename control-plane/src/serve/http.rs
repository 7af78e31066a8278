//! The HTTP port of a mesh: the pages of every server, and the debug pages.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    extract::{FromRequestParts, Query, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use eastwest_model::{Diagnostic, Severity};
use eastwest_translate::ResourceType;

use super::{
    Shared,
    browser::Pages,
    pages::{self, Served},
};
use crate::{
    names::{HostName, TargetName, WorkloadName},
    query::{QueryError, Question},
};

type App = State<Arc<Shared>>;

/// The longest name in a question, in bytes.
const LONGEST: usize = 1024;

/// The pages of a mesh, with a line on each for `/debug/list`.
const PAGES: Pages = &[
    ("/debug/syncz", "connected proxies: what each was sent, acknowledged and refused, by type"),
    ("/debug/config_errors", "input that is refused, and why"),
    (
        "/debug/sources",
        "each followed resource of the Kubernetes API: versions, objects, last event, whether it is live",
    ),
    ("/debug/check", "all findings about the input, warnings too"),
    ("/debug/tls?workload=NS/POD", "the effective TLS settings of a workload"),
    ("/debug/explain?client=NS/POD&host=HOST&port=PORT", "one client-to-server pair"),
    (
        "/debug/config_dump?workload=NS/POD",
        "the resources of a workload's proxy, no private keys; &types=cds,lds chooses, &internal_listeners=true as for \
         `eastwest agent`",
    ),
    ("/debug/workloads", "the workloads that are known"),
];

/// The routes of the HTTP port.
pub(super) fn routes(shared: Shared, served: Served) -> Router {
    let mesh = Router::new()
        .route("/debug/syncz", get(syncz))
        .route("/debug/config_errors", get(config_errors))
        .route("/debug/sources", get(async |State(shared): App| shared.sources.page()))
        .route("/debug/check", get(async |app: App| answer(&app, Question::Check).await))
        .route("/debug/tls", get(tls))
        .route("/debug/explain", get(explain))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/workloads", get(workloads))
        .with_state(Arc::new(shared));
    pages::common(PAGES, served).merge(mesh)
}

async fn syncz(State(shared): App) -> Response {
    Json(shared.xds.connections().list()).into_response()
}

async fn config_errors(State(shared): App) -> Response {
    let world = shared.world.borrow().clone();
    let refused = |finding: &&Diagnostic| finding.severity == Severity::Error;
    Json(world.input.iter().filter(refused).collect::<Vec<_>>()).into_response()
}

async fn workloads(State(shared): App) -> Response {
    let world = shared.world.borrow().clone();
    Json(world.snapshot.workloads().map(|workload| workload.key()).collect::<Vec<_>>()).into_response()
}

async fn tls(app: App, parameters: Parameters) -> Response {
    let question = parameters.workload("workload").map(Question::Tls);
    respond(&app, "/debug/tls?workload=NS/POD", question).await
}

async fn explain(app: App, parameters: Parameters) -> Response {
    let question = || {
        let client = parameters.workload("client")?;
        let host = HostName::read(parameters.required("host")?, parameters.get("namespace"))?;
        let port = parameters.required("port")?;
        let port = port.parse().map_err(|()| format!("port={port}: write a port's number or name"))?;
        Ok(Question::Explain { client, target: TargetName { host, port } })
    };
    respond(&app, "/debug/explain?client=NS/POD&host=reviews.shop&port=9080", question()).await
}

async fn config_dump(app: App, parameters: Parameters) -> Response {
    let question = || {
        let types = parameters.get("types").unwrap_or_default().split(',').filter(|name| !name.is_empty());
        let types = types.map(|name| name.parse::<ResourceType>().map_err(|error| error.to_string()));
        let internal = parameters.get("internal_listeners").unwrap_or("false");
        let internal_listeners =
            internal.parse().map_err(|_| format!("internal_listeners={internal}: write true or false"))?;
        Ok(Question::Render {
            workload: parameters.workload("workload")?,
            types: types.collect::<Result<_, _>>()?,
            internal_listeners,
        })
    };
    respond(&app, "/debug/config_dump?workload=NS/POD&types=cds,lds", question()).await
}

/// What stands behind the `?` of a page.
struct Parameters(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // A query that is not one has no parameters, and the page says which it needs.
        Ok(Self(Query::try_from_uri(&parts.uri).map(|Query(given)| given).unwrap_or_default()))
    }
}

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, String> {
        let value = self.get(name).ok_or_else(|| format!("the parameter {name} is missing"))?;
        match value.len() {
            0..=LONGEST => Ok(value),
            length => Err(format!("the parameter {name} has {length} bytes: a name has at most {LONGEST}")),
        }
    }

    fn workload(&self, name: &str) -> Result<WorkloadName, String> {
        WorkloadName::read(self.required(name)?, self.get("namespace"))
    }
}

/// The answer to a question; one that cannot be asked is answered with the mistake and an example.
async fn respond(app: &App, example: &str, question: Result<Question, String>) -> Response {
    match question {
        Ok(question) => answer(app, question).await,
        Err(mistake) => {
            let known = app.0.world.borrow().example().map(|one| one.key().to_string());
            let some = known.unwrap_or_else(|| "NS/POD".to_owned());
            let example = example.replace("NS/POD", &some);
            (StatusCode::BAD_REQUEST, format!("{mistake}; for example {example}\n")).into_response()
        }
    }
}

async fn answer(State(shared): &App, question: Question) -> Response {
    let world = shared.world.borrow().clone();
    let answered = shared.answering.run(move || {
        let value = world.answer(&question)?;
        Ok::<_, QueryError>(serde_json::to_vec(&value)?)
    });
    match answered.await {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error @ (QueryError::Json(_) | QueryError::Resource(_)))) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        Ok(Err(error)) => (StatusCode::NOT_FOUND, format!("{error}\n")).into_response(),
        Err(busy) => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{busy}\n"))
            .into_response(),
    }
}
