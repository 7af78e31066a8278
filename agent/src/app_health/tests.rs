//! Probes against applications that listen.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use tokio::net::TcpListener;

use super::{AppHealth, answer, parse};

/// An application on a port of its own; its port.
async fn application() -> u16 {
    let headers = |headers: HeaderMap| async move {
        let is_right = headers["host"] == "shop" && headers["x-a"] == "b";
        if is_right { StatusCode::NO_CONTENT } else { StatusCode::IM_A_TEAPOT }
    };
    let routes = Router::new()
        .route("/ready", get(|| async { "ready" }))
        .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/slow", get(std::future::pending::<StatusCode>))
        .route("/headers", get(headers))
        .route("/moved", get(|| async { Redirect::to("/broken") }))
        .route("/gone", get(|| async { Redirect::to("https://login.example.com/") }))
        .route("/loop", get(|| async { Redirect::to("/loop").into_response() }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async { axum::serve(listener, routes).await });
    port
}

/// The status for a probe of `127.0.0.1`, and the text beside it.
async fn probed(probe: &str) -> (u16, String) {
    let probes = parse(&format!("{{\"/app-health/app/readyz\": {probe}}}")).unwrap();
    let health = AppHealth { probes: Arc::new(probes), address: Ipv4Addr::LOCALHOST.into() };
    let uri = Uri::from_static("/app-health/app/readyz");
    let (status, text) = answer(State(health), uri).await;
    (status.as_u16(), text)
}

fn get_of(port: u16, path: &str) -> String {
    format!(r#"{{"httpGet": {{"path": "{path}", "port": {port}}}}}"#)
}

#[tokio::test]
async fn the_status_of_the_application_is_passed_on() {
    let port = application().await;
    for (path, expected) in [
        ("/ready", 200),
        ("/broken", 500),
        ("/nowhere", 404),
        ("/moved", 500),
        ("/gone", 200),
        ("/loop", 503),
    ] {
        assert_eq!(probed(&get_of(port, path)).await.0, expected, "{path}");
    }
    let headers = format!(
        r#"{{"httpGet": {{"path": "/headers", "port": {port},
            "httpHeaders": [{{"name": "Host", "value": "shop"}}, {{"name": "X-A", "value": "b"}}]}}}}"#
    );
    assert_eq!(probed(&headers).await.0, 204);
    let (status, said) = probed(&get_of(port, "/slow")).await;
    assert!(status == 503 && said.contains("no answer within 1s"), "{said}");
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let port = application().await;
    assert_eq!(probed(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#)).await.0, 200);
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = closed.local_addr().unwrap().port();
    drop(closed);
    let (status, said) = probed(&format!(r#"{{"tcpSocket": {{"port": {nobody}}}}}"#)).await;
    assert!(status == 503 && said.contains(&nobody.to_string()), "{said}");
}

/// The redirection leaves alone what comes from Envoy's address.
#[tokio::test]
async fn the_application_is_asked_from_envoy_s_address() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = listener.local_addr().unwrap();
    let connected = tokio::spawn(super::connect(target));
    let (_, peer): (_, SocketAddr) =
        tokio::time::timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    assert_eq!(peer.ip(), Ipv4Addr::new(127, 0, 0, 6));
    connected.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_the_paths_of_probes_are_answered() {
    let health = AppHealth { probes: Arc::default(), address: Ipv4Addr::LOCALHOST.into() };
    assert_eq!(answer(State(health), Uri::from_static("/metrics")).await.0, StatusCode::NOT_FOUND);
}
