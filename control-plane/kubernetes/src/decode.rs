//! Decoding of answers of the API: lines of a watch, pages of a list, statuses.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    kinds::Resource,
    prune::{Keep, Pruned},
};

/// The annotation of the bookmark that ends the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The name of an object within its resource; the namespace is empty for objects outside of namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

/// In place of a namespace: every one.
const EVERY: &str = "*";

impl Key {
    /// Objects of one name, in all namespaces.
    pub(crate) fn everywhere(name: &str) -> Self {
        Self { namespace: EVERY.into(), name: name.into() }
    }

    /// Whether it is a name in all namespaces.
    pub(crate) fn is_everywhere(&self) -> bool {
        &*self.namespace == EVERY
    }
}

/// An object of the API with the decoded fields of its resource, and with `apiVersion` and `kind`.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// The object.
    pub value: Value,
}

/// One line of a watch.
#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    Added(Object),
    Modified(Object),
    Deleted(Object),
    Bookmark {
        version: String,
        initial_events_end: bool,
    },
    /// The watch failed.
    Failed(Status),
}

/// The Status of a failed request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// A page of a list, besides its items.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct PageMeta {
    /// The resource version of the list.
    #[serde(rename = "resourceVersion")]
    pub(crate) version: String,
    /// The continue token of the next page; empty for the last page.
    #[serde(default, rename = "continue")]
    pub(crate) next: String,
}

/// Decodes one line of a watch of `resource` in `version`.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn line(resource: &Resource, version: &str, line: &[u8]) -> Result<Line, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let (kind, value) = deserializer
        .deserialize_map(LineVisitor(&resource.keep))
        .map_err(|error| format!("a line of the watch does not decode: {error}"))?;
    match kind.as_str() {
        "ADDED" => object(resource, version, value).map(Line::Added),
        "MODIFIED" => object(resource, version, value).map(Line::Modified),
        "DELETED" => object(resource, version, value).map(Line::Deleted),
        "BOOKMARK" => {
            let version = text(&value, "resourceVersion").unwrap_or_default().to_owned();
            let annotation =
                value.pointer("/metadata/annotations").and_then(|all| all.get(INITIAL_EVENTS_END));
            let initial_events_end = annotation.and_then(Value::as_str) == Some("true");
            Ok(Line::Bookmark { version, initial_events_end })
        }
        "ERROR" => Ok(Line::Failed(Status::deserialize(&value).unwrap_or_default())),
        other => Err(format!("a watch has no events of type {other:?}")),
    }
}

/// Decodes a page of a list of `resource` in `version`; calls `take` for each item.
///
/// # Errors
/// What is wrong with the page. Items that were taken before must be dropped.
pub(crate) fn page(
    resource: &Resource,
    version: &str,
    bytes: &[u8],
    take: &mut dyn FnMut(Object),
) -> Result<PageMeta, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let visitor = PageVisitor { resource, version, take };
    let page = deserializer.deserialize_map(visitor).and_then(|page| deserializer.end().map(|()| page));
    page.map_err(|error| format!("a page of the list does not decode: {error}"))
}

impl Resource {
    /// The part of an object, as JSON, that is decoded from the API's answers.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn prune(&self, object: &[u8]) -> Result<Value, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(object);
        let value = Pruned(&self.keep).deserialize(&mut deserializer)?;
        deserializer.end().map(|()| value.unwrap_or_default())
    }
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get("metadata")?.get(field)?.as_str()
}

/// Adds `apiVersion` and `kind`, which items of lists do not have.
fn object(resource: &Resource, version: &str, mut value: Value) -> Result<Object, String> {
    let Some(name) = text(&value, "name") else {
        return Err(format!("there is an object without a name among {}", resource.name()));
    };
    let namespace = text(&value, "namespace").unwrap_or_default();
    let key = Key { namespace: namespace.into(), name: name.into() };
    let object_version = text(&value, "resourceVersion").unwrap_or_default().to_owned();
    if let Value::Object(map) = &mut value {
        map.entry("apiVersion").or_insert_with(|| resource.api_version(version).into());
        map.entry("kind").or_insert_with(|| resource.kind.into());
    }
    Ok(Object { key, version: object_version, value })
}

/// `{"type": …, "object": …}`. API servers write the type first. It decides what is kept of the object.
struct LineVisitor<'a>(&'a Keep);

impl<'de> Visitor<'de> for LineVisitor<'_> {
    type Value = (String, Value);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event of a watch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut object) = (String::new(), Value::Null);
        while let Some(key) = entries.next_key::<Part>()? {
            match key {
                Part::Type => kind = entries.next_value()?,
                Part::Object => {
                    let of_resource = matches!(kind.as_str(), "ADDED" | "MODIFIED" | "DELETED");
                    let keep = if of_resource { self.0 } else { &Keep::Whole };
                    object = entries.next_value_seed(Pruned(keep))?.unwrap_or_default();
                }
                Part::Other => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok((kind, object))
    }
}

/// A field of an event.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Type,
    Object,
    #[serde(other)]
    Other,
}

struct PageVisitor<'a> {
    resource: &'a Resource,
    version: &'a str,
    take: &'a mut dyn FnMut(Object),
}

/// A field of a list.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PagePart {
    Metadata,
    Items,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for PageVisitor<'_> {
    type Value = PageMeta;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<PageMeta, A::Error> {
        let (mut meta, mut has_items) = (None, false);
        while let Some(key) = entries.next_key::<PagePart>()? {
            match key {
                PagePart::Metadata => meta = Some(entries.next_value()?),
                PagePart::Items => {
                    entries.next_value_seed(Items(&mut self))?;
                    has_items = true;
                }
                PagePart::Other => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        let meta: Option<PageMeta> = meta.filter(|_| has_items);
        meta.ok_or_else(|| A::Error::custom("a list needs metadata.resourceVersion and items"))
    }
}

/// The items of a list; Go writes an empty one as null.
struct Items<'a, 'b>(&'a mut PageVisitor<'b>);

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the items of a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let PageVisitor { resource, version, take } = self.0;
        while let Some(item) = items.next_element_seed(Pruned(&resource.keep))? {
            let item = object(resource, version, item.unwrap_or_default()).map_err(A::Error::custom)?;
            take(item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::RESOURCES;

    fn pods() -> &'static Resource {
        RESOURCES.iter().find(|resource| resource.kind == "Pod").unwrap()
    }

    fn read_line(text: &str) -> Result<Line, String> {
        line(pods(), "v1", text.as_bytes())
    }

    #[test]
    fn an_object_in_a_watch_is_pruned_and_keyed() {
        let text = r#"{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"shop",
            "resourceVersion":"7","managedFields":[{"manager":"kubelet"}]},"spec":{"volumes":[],"nodeName":"n1"}}}"#;
        let Ok(Line::Modified(object)) = read_line(text) else { panic!("no object") };
        assert_eq!(object.key, Key { namespace: "shop".into(), name: "a".into() });
        assert_eq!(object.version, "7");
        let value = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": "n1"},
            "metadata": {"name": "a", "namespace": "shop", "resourceVersion": "7"}});
        assert_eq!(object.value, value);
    }

    #[test]
    fn bookmarks_and_failures_are_kept_whole() {
        let bookmark = |annotations: &str| {
            let text = format!(
                r#"{{"type":"BOOKMARK","object":{{"kind":"Pod","metadata":{{"resourceVersion":"9"{annotations}}}}}}}"#
            );
            read_line(&text).unwrap()
        };
        let expected = |initial_events_end| Line::Bookmark { version: "9".to_owned(), initial_events_end };
        assert_eq!(bookmark(""), expected(false));
        assert_eq!(bookmark(r#","annotations":{"k8s.io/initial-events-end":"true"}"#), expected(true));
        let failure = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,
            "reason":"Expired","message":"too old resource version: 1 (9)"}}"#;
        let Ok(Line::Failed(status)) = read_line(failure) else { panic!("no failure") };
        assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_an_error() {
        for text in
            ["", "{", r#"{"type":"MOVED","object":{}}"#, r#"{"type":"ADDED","object":{"metadata":{}}}"#]
        {
            assert!(read_line(text).is_err(), "{text}");
        }
        // With the type after the object, the whole object is decoded.
        let late = r#"{"object":{"metadata":{"name":"a","resourceVersion":"1"}},"type":"DELETED"}"#;
        assert!(matches!(read_line(late), Ok(Line::Deleted(_))));
    }

    fn read_page(text: &str) -> Result<(Vec<String>, PageMeta), String> {
        let mut names = Vec::new();
        let meta = page(pods(), "v1", text.as_bytes(), &mut |object| {
            assert_eq!((&object.value["apiVersion"], &object.value["kind"]), (&json!("v1"), &json!("Pod")));
            names.push(object.key.name.into_string());
        })?;
        Ok((names, meta))
    }

    #[test]
    fn a_page_gives_its_items_and_where_the_next_one_begins() {
        let meta = |next: &str| PageMeta { version: "5".to_owned(), next: next.to_owned() };
        let text = r#"{"kind":"PodList","metadata":{"resourceVersion":"5","continue":"abc","remainingItemCount":1},
            "items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"},"spec":{"volumes":[{}]}}]}"#;
        assert_eq!(read_page(text).unwrap(), (vec!["a".to_owned(), "b".to_owned()], meta("abc")));
        let empty = r#"{"items":null,"metadata":{"resourceVersion":"5"}}"#;
        assert_eq!(read_page(empty).unwrap(), (Vec::new(), meta("")));
    }

    #[test]
    fn a_page_that_breaks_off_is_an_error_wherever_it_does() {
        let whole = r#"{"metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a"}}]}"#;
        read_page(whole).unwrap();
        for end in 0..whole.len() {
            assert!(read_page(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
        assert!(read_page(r#"{"kind":"Status","metadata":{},"code":500}"#).is_err());
    }
}
