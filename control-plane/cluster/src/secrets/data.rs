//! The content of a Secret. It is wiped when it is dropped, and no message and no `Debug` shows it.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

/// The keys of a Secret and their contents.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Data(pub(super) BTreeMap<String, Zeroizing<Vec<u8>>>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A Secret at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    pub(super) data: Data,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    data: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    resource_version: String,
}

impl Snapshot {
    /// From an object of the API as JSON text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The message of an error may quote what does not parse.
        let object: Object = serde_json::from_str(text).map_err(|_| "the answer is no Secret".to_owned())?;
        let data = object.data.unwrap_or_default().into_iter();
        Ok(Self { version: object.metadata.resource_version, data: decode(data) })
    }

    /// From an object of a watch, which is wiped.
    pub(super) fn take(version: String, mut object: Value) -> Self {
        let mut pairs = Vec::new();
        if let Some(Value::Object(data)) = object.get_mut("data") {
            for (name, content) in std::mem::take(data) {
                let content = if let Value::String(text) = content { Some(text) } else { None };
                pairs.push((name, content));
            }
        }
        Self { version, data: decode(pairs.into_iter()) }
    }
}

/// What is no base64, which the API refuses, counts as empty.
fn decode(pairs: impl Iterator<Item = (String, Option<String>)>) -> Data {
    Data(
        pairs
            .map(|(name, text)| {
                let mut text = text.unwrap_or_default();
                let content = STANDARD.decode(&text).unwrap_or_default();
                text.zeroize();
                (name, Zeroizing::new(content))
            })
            .collect(),
    )
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    metadata: Value,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind_of_secret: Option<&'static str>,
    data: BTreeMap<&'a str, Option<&'a str>>,
}

type Encoded<'a> = BTreeMap<&'a str, Option<Zeroizing<String>>>;

fn body(metadata: Value, kind_of_secret: Option<&'static str>, data: &Encoded<'_>) -> Vec<u8> {
    let data = data.iter().map(|(name, text)| (*name, text.as_deref().map(String::as_str))).collect();
    let body = Body { api_version: "v1", kind: "Secret", metadata, kind_of_secret, data };
    serde_json::to_vec(&body).unwrap_or_default() // names and text always become JSON
}

fn encode(content: &Zeroizing<Vec<u8>>) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(STANDARD.encode(&**content)))
}

/// The request body that creates a Secret.
pub(super) fn creation(name: &str, kind_of_secret: &'static str, data: &Data) -> Vec<u8> {
    let encoded = data.0.iter().map(|(name, content)| (name.as_str(), encode(content))).collect();
    let metadata = json!({"name": name, "labels": {"app.kubernetes.io/managed-by": "eastwest"}});
    body(metadata, Some(kind_of_secret), &encoded)
}

/// The merge patch that makes `new` of a Secret, if it still is `old`; `None` if nothing differs.
pub(super) fn patch(old: &Snapshot, new: &Data) -> Option<Vec<u8>> {
    let mut encoded: Encoded<'_> = BTreeMap::new();
    for (name, content) in &new.0 {
        if old.data.0.get(name) != Some(content) {
            encoded.insert(name, encode(content));
        }
    }
    let removed = old.data.0.keys().filter(|name| !new.0.contains_key(*name));
    encoded.extend(removed.map(|name| (name.as_str(), None)));
    (!encoded.is_empty()).then(|| body(json!({"resourceVersion": old.version}), None, &encoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> Data {
        let pair =
            |(name, text): &(&str, &str)| ((*name).to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
        Data(pairs.iter().map(pair).collect())
    }

    #[test]
    fn a_patch_names_what_differs_and_the_version() {
        let old = Snapshot { version: "7".to_owned(), data: data(&[("a", "1"), ("b", "2"), ("c", "3")]) };
        assert_eq!(patch(&old, &old.data.clone()), None);
        let patch: Value =
            serde_json::from_slice(&patch(&old, &data(&[("a", "1"), ("b", "x"), ("d", "")])).unwrap())
                .unwrap();
        assert_eq!(patch["metadata"], json!({"resourceVersion": "7"}));
        assert_eq!(patch["data"], json!({"b": "eA==", "c": null, "d": ""}));
    }

    #[test]
    fn contents_survive_and_are_never_shown() {
        let secret = data(&[("ca-key.pem", "SECRET"), ("empty", "")]);
        let body = creation("x", "istio.io/ca-root", &secret);
        let text =
            String::from_utf8(body).unwrap().replace("\"labels\"", "\"resourceVersion\":\"4\",\"labels\"");
        let snapshot = Snapshot::parse(&text).unwrap();
        assert_eq!((snapshot.version.as_str(), &snapshot.data), ("4", &secret));
        let watched = Snapshot::take("4".to_owned(), serde_json::from_str(&text).unwrap());
        assert_eq!(watched, snapshot);
        assert!(!format!("{snapshot:?}").contains("SECRET"));
        assert!(!Snapshot::parse(r#"{"data": "U0VDUkVU"}"#).unwrap_err().contains("U0V"));
        assert!(Snapshot::parse(r#"{"metadata": {}, "data": null}"#).unwrap().data.0.is_empty());
    }
}
