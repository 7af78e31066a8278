//! Paths as a proxy sees them: normalized (Z33), and matched by templates (Z34).

use eastwest_model::mesh::PathNormalization;

/// The path of a request line, normalized, with its query; a fragment is cut off.
pub(super) fn normalized(written: &str, how: PathNormalization) -> String {
    let written = written.split('#').next().unwrap_or_default();
    let (path, query) = match written.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (written, None),
    };
    let path = match how {
        PathNormalization::None => path.to_owned(),
        PathNormalization::Base => canonical(path),
        PathNormalization::MergeSlashes => merged(&canonical(path)),
        PathNormalization::DecodeAndMergeSlashes => merged(&canonical(&unescaped_slashes(path))),
    };
    query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
}

/// The part of a normalized path that paths of rules are compared with.
pub(super) fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// Backslashes are slashes, escaped unreserved characters are decoded, dot segments are resolved.
fn canonical(path: &str) -> String {
    let decoded = decode_unreserved(&path.replace('\\', "/"));
    let Some(rest) = decoded.strip_prefix('/') else { return decoded };
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = rest.split('/').collect();
    let last = segments.len() - 1;
    for (at, segment) in segments.into_iter().enumerate() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if at == last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The byte that `%XY` at the begin of `rest` stands for.
fn escaped_byte(rest: &str) -> Option<u8> {
    let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    rest.starts_with('%').then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn decode_unreserved(path: &str) -> String {
    let is_unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(next) = rest.chars().next() {
        match escaped_byte(rest).filter(is_unreserved) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[3..];
            }
            None => {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    out
}

fn unescaped_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/").replace("%5C", "\\").replace("%5c", "\\")
}

fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// Whether a path fits a template in Envoy's syntax: `*` is one segment that is not empty, `**` any rest.
pub(super) fn fits(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/').peekable(), path);
    while let Some(segment) = wanted.next() {
        let is_last = wanted.peek().is_none();
        if segment == "**" {
            let tail: Vec<&str> = wanted.collect();
            let tail = tail.join("/");
            // What follows the rest is literal: it ends the path.
            return is_last || given.ends_with(&format!("/{tail}"));
        }
        let (head, rest) = given.split_once('/').map_or((given, None), |(head, rest)| (head, Some(rest)));
        let holds = if segment == "*" { !head.is_empty() } else { head == segment };
        match (holds, rest, is_last) {
            (true, None, true) => return true,
            (true, Some(rest), false) => given = rest,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z33_paths_are_normalized_as_the_mesh_says() {
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
        for (how, written, seen) in [
            (None, "/a/../%61", "/a/../%61"),
            (Base, "/a/../b", "/b"),
            (Base, "/a/%2e%2E/b", "/b"),
            (Base, "/a/.", "/a/"),
            (Base, "/a/b/..", "/a/"),
            (Base, "/../../x", "/x"),
            (Base, "/%61dmin", "/admin"),
            (Base, "/a\\b", "/a/b"),
            (Base, "//a", "//a"),
            (Base, "/a%2Fb;c%3f", "/a%2Fb;c%3f"),
            (Base, "/a%zz%", "/a%zz%"),
            (Base, "/a?x=/../y#z", "/a?x=/../y"),
            (MergeSlashes, "/a/..//admin", "/admin"),
            (MergeSlashes, "/%2fadmin", "/%2fadmin"),
            (DecodeAndMergeSlashes, "/%2fadmin", "/admin"),
            (DecodeAndMergeSlashes, "/a%5Cb%5c", "/a/b/"),
        ] {
            assert_eq!(normalized(written, how), seen, "{written}");
        }
    }

    #[test]
    fn z34_templates_fit_whole_segments() {
        for (template, yes, no) in [
            ("/f/**", "/f/", "/f"),
            ("/f/**", "/f/a/b", "/g/a"),
            ("/a/*/b", "/a/1/b", "/a/1/2/b"),
            ("/a/*/b", "/a/%2F/b", "/a//b"),
            ("/a/*/b/**", "/a/1/b/", "/a/1/b"),
            ("/a/**/b", "/a/x/y/b", "/a/b"),
            ("/*", "/x", "/"),
        ] {
            assert!(fits(template, yes), "{template} {yes}");
            assert!(!fits(template, no), "{template} {no}");
        }
    }
}
