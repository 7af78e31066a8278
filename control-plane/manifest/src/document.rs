//! Text of a file → its documents, each with the line on which it begins; the bytes of YAML and JSON end here.
//!
//! A file is split at its `---` lines before it is parsed, so one broken document leaves the others readable and every
//! mistake of a file is reported at once. Lists (`kind: List`, typed lists, JSON arrays) are taken apart.

mod json;

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

/// One object of a file, before anybody asked what it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The line on which it begins, from 1. The items of a list all have the line of the list.
    pub(crate) line: u32,
    /// Its content.
    pub(crate) value: Value,
}

/// A document that is neither YAML nor JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The line of the mistake, from 1.
    pub(crate) line: u32,
    /// What is wrong.
    pub(crate) message: String,
}

/// The documents of a file in their order, and those that do not parse. Empty documents are left out.
pub(crate) fn read(text: &str, file: &str) -> (Vec<Document>, Vec<SyntaxError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = if file.ends_with(".json") { json::documents(text) } else { yaml_documents(text) };
    let (mut documents, mut errors) = (Vec::new(), Vec::new());
    for result in parsed {
        match result {
            Ok(document) => flatten(document, &mut documents),
            Err(error) => errors.push(error),
        }
    }
    (documents, errors)
}

/// Takes lists apart; items of a typed list (`PodList`) may lack the kind and version that the list tells.
fn flatten(document: Document, into: &mut Vec<Document>) {
    let Document { line, mut value } = document;
    let (items, item_type) = match &mut value {
        Value::Null => return,
        Value::Array(items) => (std::mem::take(items), None),
        Value::Object(map) => match (map.get("kind").and_then(Value::as_str), map.get("items")) {
            (Some(kind), Some(Value::Array(_))) if kind.ends_with("List") => {
                let item_kind = kind.trim_end_matches("List").to_owned();
                let version = map.get("apiVersion").cloned();
                let Some(Value::Array(items)) = map.remove("items") else { return };
                (items, Some((item_kind, version)).filter(|(kind, _)| !kind.is_empty()))
            }
            _ => return into.push(Document { line, value }),
        },
        _ => return into.push(Document { line, value }),
    };
    for mut value in items {
        if let (Value::Object(map), Some((kind, version))) = (&mut value, &item_type) {
            map.entry("kind").or_insert_with(|| kind.as_str().into());
            map.entry("apiVersion").or_insert_with(|| version.clone().unwrap_or_default());
        }
        flatten(Document { line, value }, into);
    }
}

fn yaml_documents(text: &str) -> Vec<Result<Document, SyntaxError>> {
    let documents = split(text).into_iter().filter_map(|(line, text)| {
        // Lines that say nothing come first; the document begins at the first that does.
        let skipped = text.lines().take_while(|line| is_silent(line)).count();
        (skipped < text.lines().count()).then(|| yaml_document(text, line, line + to_line(skipped)))
    });
    documents.collect()
}

/// Whether a text says nothing at all, as a file does that is just being written anew.
pub fn is_blank(text: &str) -> bool {
    text.lines().all(is_silent)
}

/// A line that carries no content: blank, a comment or a directive (`%YAML 1.2`).
fn is_silent(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%'])
}

fn yaml_document(text: &str, first_line: u32, line: u32) -> Result<Document, SyntaxError> {
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(value) => Ok(Document { line, value }),
        Err(error) => {
            let error = error.without_snippet();
            let at = error.location().map_or(1, |location| location.line()).max(1);
            let line = first_line.saturating_add(u32::try_from(at - 1).unwrap_or(u32::MAX));
            let message = without_location(&error.render_with_formatter(&UserMessageFormatter));
            Err(SyntaxError { line, message: format!("this is not valid YAML: {message}") })
        }
    }
}

/// The parser's message without the place, which a diagnostic tells by itself and counts from the file's beginning.
fn without_location(message: &str) -> String {
    let message = message.split("\n").next().unwrap_or(message);
    let end = message.find(" at line ").unwrap_or(message.len());
    let message = &message[..end];
    match message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message.to_owned(),
    }
}

/// YAML 1.2 core typing (`yes` is text), duplicate keys refused, and bounds on what a small file can blow up to.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
            max_aliases: 10_000,
            max_anchors: 10_000,
            max_merge_keys: 10_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
    }
}

/// Cuts a stream at its document markers. `---` or `...` in the first column followed by white space is a marker
/// wherever it stands, also inside a quoted or block scalar (YAML 1.2.2 §9.1.4).
fn split(text: &str) -> Vec<(u32, &str)> {
    let (mut documents, mut start, mut start_line, mut offset) = (Vec::new(), 0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker = ["---", "..."].iter().any(|marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        });
        if marker {
            documents.push((start_line, &text[start..offset]));
            // Content may follow on the same line: `--- {kind: Pod}`.
            (start, start_line) = (offset + 3, to_line(number + 1));
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents
}

fn to_line(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
