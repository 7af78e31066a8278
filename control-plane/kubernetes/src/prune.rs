//! Pruned decoding: a tree of fields guides the deserializer, which skips everything else.
//!
//! A Pod of the API has about 10 KB, of which the parser reads 1 KB. Skipped fields are not allocated. The tree of a kind
//! has every field that the parser of manifests reads, so that a pruned object parses like the whole one.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What to keep of a value. For a list it applies to each item.
#[derive(Debug, Clone, Copy)]
pub enum Keep {
    /// All of it.
    Whole,
    /// Nothing.
    Nothing,
    /// Of a mapping, these fields.
    Only(&'static [(&'static str, Keep)]),
    /// Of a mapping, all fields; of these, only a part.
    Except(&'static [(&'static str, Keep)]),
    /// A whole mapping if the text of `field` begins with `prefix`, else nothing.
    Matching {
        /// The field.
        field: &'static str,
        /// The beginning of its text.
        prefix: &'static str,
    },
}

impl Keep {
    fn of(&self, key: &str) -> &'static Self {
        let named = |fields: &'static [(&'static str, Self)]| fields.iter().find(|(name, _)| *name == key);
        match self {
            Self::Only(fields) => named(fields).map_or(&Self::Nothing, |(_, keep)| keep),
            Self::Except(fields) => named(fields).map_or(&Self::Whole, |(_, keep)| keep),
            Self::Whole | Self::Matching { .. } => &Self::Whole,
            Self::Nothing => &Self::Nothing,
        }
    }
}

/// Decodes a value; `None` if nothing of it is kept. A scalar is kept where a mapping is expected, so that the parser
/// reports the wrong type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pruned<'a>(pub(crate) &'a Keep);

impl<'de> DeserializeSeed<'de> for Pruned<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            Keep::Nothing => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| None),
            Keep::Whole => <Value as serde::Deserialize>::deserialize(deserializer).map(Some),
            Keep::Only(_) | Keep::Except(_) | Keep::Matching { .. } => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Pruned<'_> {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            kept.extend(item);
        }
        Ok(Some(Value::Array(kept)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut kept = Map::new();
        let mut matches = !matches!(self.0, Keep::Matching { .. });
        while let Some(key) = entries.next_key_seed(Key(self.0))? {
            let Some((name, keep)) = key else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let Some(value) = entries.next_value_seed(Pruned(keep))? else { continue };
            if let Keep::Matching { field, prefix } = self.0
                && name == *field
            {
                matches = value.as_str().is_some_and(|text| text.starts_with(prefix));
                if !matches {
                    while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(None);
                }
            }
            kept.insert(name, value);
        }
        Ok(matches.then_some(Value::Object(kept)))
    }
}

/// The key of a field that is kept, and what to keep of it. The key of any other field is not allocated.
struct Key<'a>(&'a Keep);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<(String, &'static Keep)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<(String, &'static Keep)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        let keep = self.0.of(key);
        Ok((!matches!(keep, Keep::Nothing)).then(|| (key.to_owned(), keep)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prune(keep: &Keep, text: &str) -> Option<Value> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = Pruned(keep).deserialize(&mut deserializer).unwrap();
        deserializer.end().unwrap();
        value
    }

    #[test]
    fn only_named_fields_are_kept_in_mappings_and_in_the_items_of_lists() {
        const TREE: Keep = Keep::Only(&[
            ("a", Keep::Whole),
            ("list", Keep::Only(&[("x", Keep::Whole)])),
            ("none", Keep::Nothing),
        ]);
        let text = r#"{"z": [1, {"q": null}], "a": {"any": [1.5, -2, true]}, "none": 1,
            "list": [{"x": 1, "y": 2}, {"y": 3}, null, "text"]}"#;
        let expected = json!({"a": {"any": [1.5, -2, true]}, "list": [{"x": 1}, {}, null, "text"]});
        assert_eq!(prune(&TREE, text), Some(expected));
    }

    #[test]
    fn exceptions_are_dropped_and_the_rest_is_kept() {
        const TREE: Keep = Keep::Except(&[("metadata", Keep::Except(&[("managedFields", Keep::Nothing)]))]);
        let text = r#"{"metadata": {"managedFields": [{}], "name": "a"}, "spec": {"b": [1]}}"#;
        assert_eq!(prune(&TREE, text), Some(json!({"metadata": {"name": "a"}, "spec": {"b": [1]}})));
    }

    #[test]
    fn items_are_kept_by_the_beginning_of_a_field_wherever_it_stands() {
        const TREE: Keep = Keep::Matching { field: "name", prefix: "ISTIO_" };
        let text = r#"[{"name": "ISTIO_A", "value": "1"}, {"name": "PATH", "value": {"x": []}},
            {"value": "2", "name": "ISTIO_B"}, {"value": "3", "name": "HOME"}, {"value": "4"}, {"name": 1}]"#;
        let expected = json!([{"name": "ISTIO_A", "value": "1"}, {"value": "2", "name": "ISTIO_B"}]);
        assert_eq!(prune(&TREE, text), Some(expected));
    }

    #[test]
    fn a_value_of_another_type_is_kept_for_the_parser_to_refuse() {
        const TREE: Keep = Keep::Only(&[("spec", Keep::Only(&[("a", Keep::Whole)]))]);
        for text in [r#"{"spec":"text"}"#, r#"{"spec":null}"#, r#"{"spec":1}"#, "true"] {
            assert_eq!(prune(&TREE, text), Some(serde_json::from_str(text).unwrap()));
        }
    }
}
