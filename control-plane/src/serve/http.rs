//! The HTTP port of a mesh: the pages of every server, and the debug pages.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Query, Request, State},
    http::{StatusCode, Uri, header, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use eastwest_engine::route;
use eastwest_model::{Diagnostic, Severity};
use eastwest_translate::ResourceType;
use eastwest_xds_server::Connections;

use super::{
    Shared,
    answering::Unanswered,
    browser::Pages,
    pages::{self, Served},
    proxies,
};
use crate::{
    names::{HostName, TargetName, WorkloadName},
    query::{self, QueryError, Question, World},
    request,
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
        "/debug/route?client=NS/POD&url=URL",
        "where a request goes, and how; &method=, &host= and &headers=, lines of NAME=VALUE, describe it",
    ),
    (
        "/debug/config_dump?workload=NS/POD",
        "the resources of a workload's proxy, no private keys; &types=cds,lds chooses, &internal_listeners=true as for \
         `eastwest agent`",
    ),
    (
        "/debug/proxy_config?workload=NS/POD",
        "what a workload's proxy may have now and the objects behind it, no private keys; &diff=true compares with what \
         the connected proxy has accepted",
    ),
    ("/debug/workloads", "the workloads that are known"),
];

/// What each debug page takes behind the `?`; `namespace` counts for names without one.
const PARAMETERS: [(&str, &[&str]); 13] = [
    ("/debug/list", &[]),
    ("/debug/ca", &[]),
    ("/debug/syncz", &[]),
    ("/debug/config_errors", &[]),
    ("/debug/sources", &[]),
    ("/debug/check", &[]),
    ("/debug/workloads", &[]),
    ("/debug/tls", &["workload", "namespace"]),
    ("/debug/explain", &["client", "host", "port", "namespace"]),
    ("/debug/route", &["client", "url", "method", "host", "headers", "namespace"]),
    ("/debug/can", &[]),
    ("/debug/config_dump", &["workload", "types", "internal_listeners", "namespace"]),
    ("/debug/proxy_config", &["workload", "types", "internal_listeners", "diff", "namespace"]),
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
        .route("/debug/route", get(route))
        .route("/debug/can", post(can))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/proxy_config", get(proxy_config))
        .route("/debug/workloads", get(workloads))
        .with_state(Arc::new(shared));
    pages::common(PAGES, served).merge(mesh).layer(from_fn(known_parameters))
}

/// Refuses a parameter that the page does not have: without it the answer would be to another question.
async fn known_parameters(request: Request, next: Next) -> Response {
    match unknown_parameter(request.uri()) {
        Some(mistake) => (StatusCode::BAD_REQUEST, format!("{mistake}\n")).into_response(),
        None => next.run(request).await,
    }
}

/// What to say about the first parameter that a debug page does not have.
fn unknown_parameter(uri: &Uri) -> Option<String> {
    let (page, known) = PARAMETERS.into_iter().find(|(page, _)| *page == uri.path())?;
    let given = Parameters::of(uri).0;
    let unknown = given.keys().find(|name| !known.contains(&name.as_str()))?;
    Some(match known {
        [] => format!("the page {page} takes no parameters, and {unknown:?} is given: leave it out"),
        known => format!("the page {page} has no parameter {unknown:?}; it takes {}", known.join(", ")),
    })
}

async fn syncz(State(shared): App) -> Response {
    let connections = shared.xds.connections().list();
    let world = shared.world.borrow().clone();
    if connections.iter().flat_map(|one| &one.types).all(|one| one.rejected.is_empty()) {
        return Json(proxies::statuses(connections, &world.snapshot)).into_response();
    }
    // The objects behind what was refused take some computing.
    let page = move || Ok(serde_json::to_vec(&proxies::statuses(connections, &world.snapshot))?);
    respond_with(shared.answering.run(page).await)
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

async fn route(app: App, parameters: Parameters) -> Response {
    let question = || {
        let client = parameters.workload("client")?;
        let url = request::read_url(parameters.required("url")?)?;
        let headers = parameters.get("headers").unwrap_or_default().lines();
        let request = route::Request {
            method: request::read_method(parameters.get("method").unwrap_or("GET"))?,
            authority: parameters.get("host").map(str::to_owned),
            headers: headers.map(request::read_header).collect::<Result<_, _>>()?,
            ..url
        };
        Ok(Question::Route { client, request })
    };
    respond(&app, "/debug/route?client=NS/POD&url=http://reviews.shop:9080/", question()).await
}

async fn can(app: App, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(question) => answer(&app, Question::Can(question)).await,
        // The text of the error quotes nothing of a token: it says what was expected, and where.
        Err(error) => {
            (StatusCode::BAD_REQUEST, format!("not a question of `eastwest can`: {error}\n")).into_response()
        }
    }
}

async fn config_dump(app: App, parameters: Parameters) -> Response {
    let question = || {
        Ok(Question::Render {
            workload: parameters.workload("workload")?,
            types: parameters.types()?,
            internal_listeners: parameters.flag("internal_listeners")?,
        })
    };
    respond(&app, "/debug/config_dump?workload=NS/POD&types=cds,lds", question()).await
}

async fn proxy_config(app: App, parameters: Parameters) -> Response {
    let question = || {
        Ok(Question::Config {
            workload: parameters.workload("workload")?,
            types: parameters.types()?,
            internal_listeners: parameters.flag("internal_listeners")?,
            diff: parameters.flag("diff")?,
        })
    };
    respond(&app, "/debug/proxy_config?workload=NS/POD&types=cds,lds", question()).await
}

/// What stands behind the `?` of a page.
struct Parameters(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.uri))
    }
}

impl Parameters {
    /// A query that is not one has no parameters, and the page says which it needs.
    fn of(uri: &Uri) -> Self {
        Self(Query::try_from_uri(uri).map(|Query(given)| given).unwrap_or_default())
    }

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

    fn types(&self) -> Result<Vec<ResourceType>, String> {
        let names = self.get("types").unwrap_or_default().split(',').filter(|name| !name.is_empty());
        names.map(|name| name.parse::<ResourceType>().map_err(|error| error.to_string())).collect()
    }

    /// A flag that is false if it is absent.
    fn flag(&self, name: &str) -> Result<bool, String> {
        let text = self.get(name).unwrap_or("false");
        text.parse().map_err(|_| format!("{name}={text}: write true or false"))
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
    let (world, connections) = (shared.world.borrow().clone(), Arc::clone(shared.xds.connections()));
    respond_with(shared.answering.run(move || answered(&world, &connections, &question)).await)
}

/// The answer, of a proxy that is connected from what it may have now.
fn answered(world: &World, connections: &Connections, question: &Question) -> Result<Vec<u8>, QueryError> {
    if let Question::Config { workload, types, internal_listeners, diff } = question {
        let settings = world.settings(workload)?;
        let key = &settings.workload;
        // The newest stream is that of the proxy that runs.
        let Some(client) = connections.newest_of_pod(&key.namespace, &key.name) else {
            return Ok(serde_json::to_vec(&query::config(settings, types, *internal_listeners, *diff)?)?);
        };
        let mut value = serde_json::to_value(proxies::config(&client, &settings, types, *diff)?)?;
        value.sort_all_objects();
        return Ok(serde_json::to_vec(&value)?);
    }
    Ok(serde_json::to_vec(&world.answer(question)?)?)
}

fn respond_with(answered: Result<Result<Vec<u8>, QueryError>, Unanswered>) -> Response {
    match answered {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error @ (QueryError::Json(_) | QueryError::Resource(_)))) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        Ok(Err(error)) => (StatusCode::NOT_FOUND, format!("{error}\n")).into_response(),
        Err(busy) => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{busy}\n"))
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_parameter_is_told_with_those_that_are_known() {
        let said = |uri: &str| unknown_parameter(&uri.parse().unwrap());
        for (uri, known) in [
            (
                "/debug/config_dump?workload=a/b&type=foo",
                "\"type\"; it takes workload, types, internal_listeners",
            ),
            ("/debug/config_dump?tpye=cds", "\"tpye\"; it takes workload, types"),
            ("/debug/tls?workload=a/b&types=cds", "\"types\"; it takes workload, namespace"),
            ("/debug/explain?client=a/b&host=c&prot=80", "\"prot\"; it takes client, host, port"),
            ("/debug/syncz?proxy=x", "takes no parameters"),
        ] {
            assert!(said(uri).is_some_and(|said| said.contains(known)), "{uri}: {:?}", said(uri));
        }
        for uri in [
            "/debug/config_dump?workload=a/b&types=cds,lds&internal_listeners=true",
            "/debug/explain?client=b&host=c&port=80&namespace=a",
            "/debug/tls?",
            "/debug/syncz",
            "/metrics?x=y",
        ] {
            assert_eq!(said(uri), None, "{uri}");
        }
    }

    /// A page without a row takes any parameter.
    #[test]
    fn each_debug_page_says_what_it_takes() {
        for (page, _) in PAGES {
            let (page, query) = page.split_once('?').unwrap_or((page, ""));
            let row = PARAMETERS.iter().find(|(known, _)| *known == page);
            let (_, known) = row.unwrap_or_else(|| panic!("{page}"));
            let names = query.split('&').filter_map(|part| part.split_once('=')).map(|(name, _)| name);
            assert!(names.into_iter().all(|name| known.contains(&name)), "{page}");
        }
    }
}
