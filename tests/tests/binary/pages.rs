//! The pages of the HTTP port, for browsers and for programs.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::harness::{Bench, PATIENCE, Server};

/// A page as a browser asks for it: status, head and body.
fn browsed(server: &Server, path: &str) -> (u16, String, String) {
    let mut connection = TcpStream::connect(server.http).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    write!(connection, "GET {path} HTTP/1.0\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

/// Every page that the list names is a link or a form for browsers, and a line for programs; each of them answers.
#[test]
fn the_list_of_pages_has_links_for_browsers() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (status, lines) = server.page("/debug/list");
    assert_eq!(status, 200);
    assert_eq!(server.page("/"), (200, lines.clone()));
    for path in ["/", "/debug/list"] {
        let (status, head, html) = browsed(&server, path);
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/html"), "{head}");
        assert!(!html.contains("<script"), "{html}");
        for page in lines.lines().map(|line| line.split(' ').next().unwrap()) {
            match page.split_once('?') {
                None => {
                    assert!(html.contains(&format!("<a href=\"{page}\">")), "{page}: {html}");
                    assert_eq!(server.page(page).0, 200, "{page}");
                }
                Some((page, query)) => {
                    assert!(html.contains(&format!("<form action=\"{page}\">")), "{page}: {html}");
                    for part in query.split('&') {
                        let name = part.split('=').next().unwrap();
                        assert!(html.contains(&format!("<input name=\"{name}\"")), "{name}: {html}");
                    }
                }
            }
        }
    }
}

#[test]
fn json_is_indented_for_browsers_and_says_the_same() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for path in [
        "/version",
        "/debug/check",
        "/debug/workloads",
        "/debug/tls?workload=bookshop/storefront-0",
        "/debug/config_dump?workload=bookshop/storefront-0&types=cds",
    ] {
        let (status, head, body) = browsed(&server, path);
        assert_eq!(status, 200, "{body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        assert!(body.lines().count() > 2, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), server.json(path), "{path}");
        assert_eq!(server.page(path).1.lines().count(), 1, "programs get it as it was");
    }
}

/// A bad query is answered with what is wrong and an example that works.
#[test]
fn a_bad_query_gets_a_sentence_and_an_example() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let long = format!("/debug/explain?client=bookshop/storefront-0&host={}&port=80", "a".repeat(60_000));
    for (path, said) in [
        ("/debug/tls", "the parameter workload is missing"),
        ("/debug/tls?workload=", "the parameter workload is missing"),
        ("/debug/tls?workload=storefront", "names no namespace"),
        ("/debug/explain", "the parameter client is missing"),
        (&*long, "the parameter host has 60000 bytes: a name has at most 1024"),
        ("/debug/explain?client=bookshop/storefront-0&port=80", "the parameter host is missing"),
        ("/debug/explain?client=bookshop/storefront-0&host=catalog", "the parameter port is missing"),
        ("/debug/explain?client=bookshop/storefront-0&host=catalog&port=0", "port=0: write"),
        ("/debug/config_dump", "the parameter workload is missing"),
        ("/debug/config_dump?workload=a/b&types=xyz", "xyz"),
        ("/debug/config_dump?workload=a/b&internal_listeners=maybe", "write true or false"),
    ] {
        let (status, text) = server.page(path);
        assert_eq!(status, 400, "{path}: {text}");
        assert!(text.contains(said), "{path}: {text}");
        let example = text.trim().rsplit(' ').next().unwrap();
        let example = example.replace("reviews.shop&port=9080", "catalog&port=80");
        assert_eq!(server.page(&example).0, 200, "{path}: {text}");
    }
    let (status, text) = server.page("/debug/config_dump?workload=bookshop/storefront-0&type=cds");
    assert!(status == 400 && text.contains("it takes workload, types"), "{text}");
    let (status, text) = server.page("/debug/nothing");
    assert!(status == 404 && text.contains("/debug/list"), "{text}");
}

/// What a person is told to try works: the workload has a sidecar, though another one comes first.
#[test]
fn examples_are_workloads_with_a_sidecar() {
    let bench = Bench::new();
    bench.write(
        "first.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: first, namespace: aaa}\nstatus: {phase: Running, podIP: 10.77.8.8}\n",
    );
    let server = bench.serve(&[]);
    let banner = server.output();
    let tried = banner.lines().find_map(|line| line.trim().strip_prefix("eastwest tls ")).unwrap();
    let example = tried.split(' ').next().unwrap();
    assert!(example != "aaa/first", "{banner}");
    let shown = bench.run(&["tls", example, "--server", &server.url(), "-o", "json"]).json();
    assert!(!shown["warnings"].to_string().contains("has no proxy"), "{shown}");
    assert!(server.page("/debug/tls").1.contains(&format!("workload={example}")));
}
