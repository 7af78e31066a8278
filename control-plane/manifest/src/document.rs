//! Text of a file → its documents, each with the line on which it begins; the bytes of YAML and JSON end here.
//!
//! A file is split at its `---` lines before it is parsed, so one broken document leaves the others readable and every
//! mistake of a file is reported at once. Lists (`kind: List`, typed lists, JSON arrays) are taken apart, and the items
//! of a List that does not parse are parsed one by one.

mod checked;
mod flow;
mod json;
mod list;

use serde_json::{Map, Value};
use serde_saphyr::UserMessageFormatter;

use self::checked::Checked;
pub(crate) use self::checked::{Duplicate, Step};

/// One object of a file, before anybody asked what it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    /// The line on which it begins, from 1. The items of a list that parses as a whole all have the line of the list.
    pub(crate) line: u32,
    /// Its content.
    pub(crate) value: Value,
    /// The keys that stand twice in it.
    pub(crate) duplicates: Vec<Duplicate>,
}

impl Document {
    fn new(line: u32, checked: Checked) -> Self {
        Self { line, value: checked.value, duplicates: checked.duplicates }
    }
}

/// A document that is neither YAML nor JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// The line of the mistake, from 1.
    pub(crate) line: u32,
    /// What is wrong.
    pub(crate) message: String,
    /// The text that does not parse.
    pub(crate) text: Box<str>,
}

/// The most documents of a file that are read, items of Lists among them.
pub(crate) const MOST: usize = 50_000;

/// The documents of a file in their order. Empty documents are left out.
pub(crate) fn read(text: &str, file: &str) -> Vec<Result<Document, SyntaxError>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parsed = if file.ends_with(".json") { json::documents(text) } else { yaml_documents(text) };
    let mut results = Vec::new();
    for result in parsed {
        if results.len() > MOST {
            break;
        }
        match result {
            Ok(document) if document.value.is_null() => {}
            Ok(document) => flatten(document, &mut results),
            Err(error) => results.push(Err(error)),
        }
    }
    if results.len() > MOST {
        results.truncate(MOST);
        results.push(Err(too_many(text)));
    }
    results
}

/// What is left of a file with too many documents counts as one that cannot be read: what it said before stays.
fn too_many(text: &str) -> SyntaxError {
    let line = to_line(text.lines().count().max(1));
    let message = format!("the file has more than {MOST} documents, and the rest is not read: split it");
    SyntaxError { line, message, text: Box::default() }
}

/// Takes lists apart. What stands twice in a list around its items changes no item and is passed over. An item may be
/// anything, also null: who reads it says what is wrong.
fn flatten(document: Document, into: &mut Vec<Result<Document, SyntaxError>>) {
    let Document { line, mut value, mut duplicates } = document;
    let (items, item_type, is_array) = match &mut value {
        Value::Array(items) => (std::mem::take(items), None, true),
        Value::Object(map) if is_list(map) => {
            let item_type = ItemType::of(map);
            let Some(Value::Array(items)) = map.remove("items") else { return };
            (items, item_type, false)
        }
        _ => return into.push(Ok(Document { line, value, duplicates })),
    };
    let mut lists: Vec<Vec<Duplicate>> = items.iter().map(|_| Vec::new()).collect();
    for mut duplicate in duplicates.drain(..) {
        let is_item = is_array || duplicate.0.pop() == Some(Step::Key("items".to_owned()));
        if let (true, Some(Step::Item(index))) = (is_item, duplicate.0.pop()) {
            lists[index].push(duplicate);
        }
    }
    for (mut value, duplicates) in items.into_iter().zip(lists) {
        if let Some(item_type) = &item_type {
            item_type.fill(&mut value);
        }
        flatten(Document { line, value, duplicates }, into);
    }
}

fn is_list(map: &Map<String, Value>) -> bool {
    let kind = map.get("kind").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("List")) && map.get("items").is_some_and(Value::is_array)
}

/// The kind and version that a typed list (`PodList`) tells of its items.
struct ItemType {
    kind: Value,
    version: Value,
}

impl ItemType {
    fn of(list: &Map<String, Value>) -> Option<Self> {
        let kind = list.get("kind")?.as_str()?.trim_end_matches("List");
        let version = list.get("apiVersion").cloned().unwrap_or_default();
        (!kind.is_empty()).then(|| Self { kind: kind.into(), version })
    }

    /// Items of a typed list may lack both.
    fn fill(&self, item: &mut Value) {
        if let Value::Object(map) = item {
            map.entry("kind").or_insert_with(|| self.kind.clone());
            map.entry("apiVersion").or_insert_with(|| self.version.clone());
        }
    }
}

fn yaml_documents(text: &str) -> Vec<Result<Document, SyntaxError>> {
    let documents = split(text).into_iter().filter(|(_, text)| !is_blank(text));
    documents
        // One more shows that there are too many.
        .take(MOST + 1)
        .flat_map(|(line, text)| {
            let whole = yaml_document(text, line);
            match whole.is_err().then(|| list_items(text, line)).flatten() {
                Some(items) => items,
                None => vec![whole],
            }
        })
        .collect()
}

/// The items of a List that does not parse, each for itself.
fn list_items(text: &str, first_line: u32) -> Option<Vec<Result<Document, SyntaxError>>> {
    let list::Cut { head, items } = list::cut(text)?;
    let head = yaml_document(&head, first_line).ok()?.value;
    let head = head
        .as_object()
        .filter(|head| head.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")))?;
    let item_type = ItemType::of(head);
    let items = items.iter().map(|(before, item)| {
        let mut document = yaml_document(item, first_line.saturating_add(to_line(*before)))?;
        if let Some(item_type) = &item_type {
            item_type.fill(&mut document.value);
        }
        Ok(document)
    });
    Some(items.collect())
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

/// The key with which a text of YAML ends, if nothing stands behind it: `mtls:`, or `mesh: |`.
pub(crate) fn empty_at_the_end(text: &str) -> Option<&str> {
    let last = text.lines().rev().find(|line| !line.trim().is_empty())?.trim().trim_start_matches("- ");
    let (key, value) = last.rsplit_once(':')?;
    let is_key = !key.is_empty() && !key.contains(['#', ' ', '{', '[', '"', '\'']);
    (is_key && matches!(value.trim(), "" | "|" | ">" | "|-" | ">-")).then_some(key)
}

/// Parses one document; `first_line` is the number of the text's first line.
fn yaml_document(text: &str, first_line: u32) -> Result<Document, SyntaxError> {
    // Lines that say nothing come first; the document begins at the first that does.
    let skipped = text.lines().take_while(|line| is_silent(line)).count();
    match serde_saphyr::from_str_with_options(&flow::quoted(text), options()) {
        Ok(checked) => Ok(Document::new(first_line.saturating_add(to_line(skipped)), checked)),
        Err(error) => {
            let error = error.without_snippet();
            let at = error.location().map_or(1, |location| location.line()).max(1);
            let line = first_line.saturating_add(u32::try_from(at - 1).unwrap_or(u32::MAX));
            let message = without_location(&error.render_with_formatter(&UserMessageFormatter));
            let message = format!("this is not valid YAML: {message}{}", template_hint(text));
            Err(SyntaxError { line, message, text: text.into() })
        }
    }
}

/// What to do about a template, which is no manifest yet.
fn template_hint(text: &str) -> &'static str {
    match text.contains("{{") && text.contains("}}") {
        true => "; it looks like a template: render it first, as with `helm template`, and keep it elsewhere",
        false => "",
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

/// YAML 1.2 core typing (`yes` is text), except that `0644` is octal; duplicate keys handed to [`Checked`], and bounds on
/// what a small file can blow up to.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // As Kubernetes reads the modes of files.
        legacy_octal_numbers: true,
        strict_booleans: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
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
