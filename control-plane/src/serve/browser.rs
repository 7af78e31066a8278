//! The pages as a browser gets them: the list of pages with links and forms, and JSON with indentation. Who does not ask
//! for HTML gets what programs get.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse as _, Response},
};

use super::idle_thread;

/// Paths, each with its line for `/debug/list`.
pub(super) type Pages = &'static [(&'static str, &'static str)];

/// Largest page that is indented, in bytes; a larger one is served as it is.
const LIMIT: usize = 256 << 20;

/// Whether somebody looks at the answer with a browser.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts
        .into_iter()
        .flat_map(|value| value.split(','))
        .any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html"))
}

/// Indents JSON for browsers.
pub(super) async fn indented(request: Request, next: Next) -> Response {
    let is_browser = is_browser(request.headers());
    let response = next.run(request).await;
    let json = HeaderValue::from_static("application/json");
    if !is_browser || response.headers().get(header::CONTENT_TYPE) != Some(&json) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let Ok(text) = to_bytes(body, LIMIT).await else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "this page is too large for a browser\n").into_response();
    };
    let indented = idle_thread::run("page", {
        let text = text.clone();
        move || indent(&text)
    });
    // A page that cannot be indented is served as it is.
    let body = match indented.await {
        Ok(Ok(indented)) => Body::from(indented),
        Ok(Err(_)) | Err(_) => Body::from(text),
    };
    Response::from_parts(head, body)
}

/// The same JSON, with a line for each value.
fn indent(json: &[u8]) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(json.len() * 2);
    let mut pretty = serde_json::Serializer::pretty(&mut text);
    serde_transcode::transcode(&mut serde_json::Deserializer::from_slice(json), &mut pretty)?;
    text.push(b'\n');
    Ok(text)
}

/// The list of pages: with links for a browser, else a line for each.
pub(super) fn list(headers: &HeaderMap, pages: &[Pages]) -> Response {
    let all = || pages.iter().copied().flatten();
    if !is_browser(headers) {
        return all().map(|(path, about)| format!("{path:50} {about}\n")).collect::<String>().into_response();
    }
    let rows: String = all().map(|(path, about)| row(path, about)).collect();
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>eastwest</title></head>\n<body>\n\
         <h1>eastwest {}</h1>\n<table>\n{rows}</table>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    ))
    .into_response()
}

/// A row of the table: a link, or a form for a page that asks for something.
fn row(path: &str, about: &str) -> String {
    let about = escaped(about);
    let Some((path, query)) = path.split_once('?') else {
        return format!("<tr><td><a href=\"{path}\">{path}</a></td><td>{about}</td></tr>\n");
    };
    let input = |part: &str| {
        let (name, example) = part.split_once('=').unwrap_or((part, ""));
        format!(" <label>{name} <input name=\"{name}\" placeholder=\"{example}\" required></label>")
    };
    let inputs: String = query.split('&').map(input).collect();
    format!(
        "<tr><td><form action=\"{path}\">{path}{inputs} <button>Show</button></form></td><td>{about}</td></tr>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn indentation_changes_white_space_only() {
        let value = json!({
            "empty": {}, "none": [], "text": "a \"quoted\" [b]: {c}, \\", "list": [1, [true, null], {"x": 1.5e3}],
        });
        let pretty = indent(value.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&pretty).unwrap(), value);
        let expected = serde_json::to_string_pretty(&value).unwrap() + "\n";
        assert_eq!(String::from_utf8(pretty).unwrap(), expected);
    }

    #[test]
    fn browsers_say_that_they_take_html() {
        let asks = |accept: &'static str| {
            is_browser(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(asks("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!asks("*/*") && !asks("application/json") && !is_browser(&HeaderMap::new()));
    }
}
