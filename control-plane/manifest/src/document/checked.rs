//! A value of YAML or JSON in which a key may stand twice, with the places where one does.
//!
//! Such a value parses, so one mistake costs only the object that it stands in, also in a List.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into the value of a key.
    Key(String),
    /// Into an item of a list, from 0.
    Item(usize),
}

/// The place of a key that stands twice: the steps to it, the last one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duplicate(pub(super) Vec<Step>);

impl Duplicate {
    /// The steps from the object to the key.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.0.iter().rev()
    }

    /// The key.
    pub(crate) fn key(&self) -> &str {
        match self.0.first() {
            Some(Step::Key(key)) => key,
            _ => "",
        }
    }
}

/// A value, and the keys that stand twice in it. The value has the first of them.
pub(super) struct Checked {
    pub(super) value: Value,
    pub(super) duplicates: Vec<Duplicate>,
}

impl Checked {
    /// Its duplicates go to `into`, one step further from the root.
    fn below(self, step: impl Fn() -> Step, into: &mut Vec<Duplicate>) -> Value {
        into.extend(self.duplicates.into_iter().map(|mut duplicate| {
            duplicate.0.push(step());
            duplicate
        }));
        self.value
    }
}

impl<V: Into<Value>> From<V> for Checked {
    fn from(value: V) -> Self {
        Self { value: value.into(), duplicates: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Checked, E> {
        Ok(Value::Null.into())
    }

    fn visit_none<E: Error>(self) -> Result<Checked, E> {
        Ok(Value::Null.into())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Checked, D::Error> {
        Checked::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Checked, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Checked, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Checked, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Checked, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Checked, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Checked, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        let (mut list, mut duplicates) = (Vec::new(), Vec::new());
        while let Some(item) = items.next_element::<Checked>()? {
            let index = list.len();
            list.push(item.below(|| Step::Item(index), &mut duplicates));
        }
        Ok(Checked { value: list.into(), duplicates })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
        let (mut map, mut duplicates) = (Map::new(), Vec::new());
        while let Some((key, value)) = entries.next_entry::<String, Checked>()? {
            if map.contains_key(&key) {
                duplicates.push(Duplicate(vec![Step::Key(key)]));
                continue;
            }
            let value = value.below(|| Step::Key(key.clone()), &mut duplicates);
            map.insert(key, value);
        }
        Ok(Checked { value: map.into(), duplicates })
    }
}
