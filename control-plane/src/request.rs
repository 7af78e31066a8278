//! A request as people write it: a method, a URL and headers.

use eastwest_engine::route::{Request, Scheme};

/// How a URL may be written, for messages.
const URL: &str = "write http://HOST[:PORT]/PATH, tcp://HOST:PORT or tls://SERVER-NAME:PORT";
/// The longest method, in bytes.
const LONGEST_METHOD: usize = 32;

/// Reads a URL: what is dialled, how it begins, and the path.
///
/// # Errors
/// The text is no such URL: how to write it.
pub(crate) fn read_url(text: &str) -> Result<Request, String> {
    let wrong = || format!("{text:?} is no URL: {URL}");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let (scheme, usual) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, Some(80)),
        "https" => (Scheme::Tls, Some(443)),
        "tls" => (Scheme::Tls, None),
        "tcp" => (Scheme::Tcp, None),
        _ => return Err(wrong()),
    };
    if authority.contains('@') {
        return Err(format!("{text:?} holds a user: {URL}"));
    }
    let (host, port) = match (authority.rfind(':'), authority.rfind(']')) {
        (Some(colon), bracket) if bracket.is_none_or(|bracket| bracket < colon) => {
            let port = authority[colon + 1..].parse::<u16>().ok().filter(|port| *port > 0);
            (&authority[..colon], Some(port.ok_or_else(wrong)?))
        }
        _ => (authority, usual),
    };
    let port = port.ok_or_else(|| format!("{text:?} has no port: {URL}"))?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong());
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Request {
        scheme,
        host: host.to_owned(),
        port,
        authority: None,
        method: "GET".to_owned(),
        path,
        headers: Vec::new(),
    })
}

/// Reads a method.
///
/// # Errors
/// The text is none.
pub(crate) fn read_method(text: &str) -> Result<String, String> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !text.is_empty() && text.len() <= LONGEST_METHOD && text.chars().all(is_letter) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no method: write GET, POST and the like, in front of the URL")),
    }
}

/// Reads a header, `NAME=VALUE`.
///
/// # Errors
/// The text is none: how to write it.
pub(crate) fn read_header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text:?} is no header: write NAME=VALUE");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    match name.is_empty() || text.contains(|c: char| c.is_control()) {
        true => Err(wrong()),
        false => Ok((name.to_ascii_lowercase(), value.to_owned())),
    }
}

/// The URL of a request; reading it gives the same target.
pub(crate) fn url(request: &Request) -> String {
    let scheme = match request.scheme {
        Scheme::Http => "http",
        Scheme::Tls => "tls",
        Scheme::Tcp => "tcp",
    };
    format!("{scheme}://{}:{}{}", request.host, request.port, request.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_what_is_dialled() {
        for (text, scheme, host, port, path) in [
            ("http://reviews/x?y=1", Scheme::Http, "reviews", 80, "/x?y=1"),
            ("http://reviews", Scheme::Http, "reviews", 80, "/"),
            ("HTTP://reviews.shop:9080/#top", Scheme::Http, "reviews.shop", 9080, "/"),
            ("http://reviews?a=b", Scheme::Http, "reviews", 80, "/?a=b"),
            ("https://pay.example/x", Scheme::Tls, "pay.example", 443, "/x"),
            ("http://[2001:db8::1]/", Scheme::Http, "[2001:db8::1]", 80, "/"),
            ("tcp://[2001:db8::1]:5432", Scheme::Tcp, "[2001:db8::1]", 5432, "/"),
            ("tls://pay.example:443", Scheme::Tls, "pay.example", 443, "/"),
        ] {
            let read = read_url(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (read.scheme, &*read.host, read.port, &*read.path),
                (scheme, host, port, path),
                "{text}"
            );
            assert_eq!(read_url(&url(&read)).as_ref(), Ok(&read), "{text}");
        }
        for wrong in [
            "",
            "reviews",
            "reviews:80",
            "ftp://a/",
            "http://",
            "http://:80/",
            "http://a:0/",
            "http://a:x/",
            "http://a:99999/",
            "tcp://a",
            "tls://a",
            "http://u@a/",
            "http://a b/",
        ] {
            assert!(read_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn methods_and_headers_are_checked() {
        assert_eq!(read_method("M-SEARCH"), Ok("M-SEARCH".to_owned()));
        assert!(read_method("").is_err() && read_method("GET /").is_err());
        assert_eq!(read_header("X-User=a=b"), Ok(("x-user".to_owned(), "a=b".to_owned())));
        assert!(read_header("x").is_err() && read_header("=x").is_err() && read_header("a=b\nc").is_err());
    }
}
