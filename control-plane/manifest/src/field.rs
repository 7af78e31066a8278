//! A cursor over a document that knows where it stands and collects what is wrong.
//!
//! Reading never stops at a mistake: a getter notes it and answers with nothing, so that one pass finds all of them.
//! An object with an error among its findings is refused afterwards, whatever was read.

use std::{cell::RefCell, collections::BTreeSet, fmt::Display, ops::RangeInclusive, rc::Rc};

use eastwest_model::{Name, Severity};
use serde_json::Value;

use crate::{
    document::{Duplicate, Step},
    spelling,
};

static NOTHING: Value = Value::Null;

/// The longest path or message, in characters; both quote what the input has.
const MAX_TEXT: usize = 400;

/// Something wrong with one field of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The path, e.g. `spec.portLevelMtls.8080.mode`.
    pub(crate) field: String,
    pub(crate) message: String,
    /// The whole object is refused for it.
    pub(crate) refuses: bool,
}

impl Finding {
    /// A warning about a whole object.
    pub(crate) fn warning(message: String) -> Self {
        Self { severity: Severity::Warning, field: String::new(), message, refuses: false }
    }
}

/// What was found in one object. A set, for two readers of one field find the same.
#[derive(Debug, Default)]
pub(crate) struct Findings(RefCell<BTreeSet<Finding>>);

impl Findings {
    fn add(&self, severity: Severity, refuses: bool, field: &str, message: &str) {
        let (field, message) = (shorten(field, MAX_TEXT), shorten(message, MAX_TEXT));
        let finding = Finding { severity, field, message, refuses };
        self.0.borrow_mut().insert(finding);
    }

    /// The findings, errors first.
    pub(crate) fn into_set(self) -> BTreeSet<Finding> {
        self.0.into_inner()
    }
}

/// What an item of a list is called, if it has a name or a number: `subset "v2"`, `port 9080`.
fn label(list: &str, item: &Value) -> Option<String> {
    let what = match list {
        "portLevelSettings" => "port",
        list => list.strip_suffix('s').filter(|one| !one.is_empty())?,
    };
    let name = item.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let number = || {
        let port = item.get("port");
        let keys =
            [item.get("number"), item.get("containerPort"), port, port.and_then(|port| port.get("number"))];
        keys.into_iter().flatten().find_map(Value::as_u64).filter(|number| *number > 0)
    };
    let name = name.map(|name| format!("{:?}", shorten(name, 63)));
    Some(format!("{what} {}", name.or_else(|| number().map(|number| number.to_string()))?))
}

fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A place in a document. A field that is absent or null is a field too: its getters answer with nothing.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    value: &'a Value,
    path: String,
    /// The items of lists around it by their names, for messages: a path has their places alone.
    named: Rc<str>,
    findings: &'a Findings,
}

impl<'a> Field<'a> {
    /// A whole document.
    pub(crate) fn root(value: &'a Value, findings: &'a Findings) -> Self {
        Self { value, path: String::new(), named: "".into(), findings }
    }

    fn child(&self, value: &'a Value, path: String) -> Self {
        Self { value, path, named: Rc::clone(&self.named), findings: self.findings }
    }

    /// An item of this list.
    fn item(&self, index: usize, value: &'a Value) -> Self {
        let list = self.path.rsplit(['.', ']']).next().unwrap_or_default();
        let named = match (label(list, value), &*self.named) {
            (None, _) => Rc::clone(&self.named),
            (Some(label), "") => label.into(),
            (Some(label), around) => format!("{around}, {label}").into(),
        };
        Self { named, ..self.child(value, format!("{}[{index}]", self.path)) }
    }

    /// The field `key` of a mapping.
    pub(crate) fn get(&self, key: &str) -> Self {
        let value = match self.value {
            Value::Object(map) => map.get(key),
            Value::Null => None,
            _ => self.unlike("a mapping"),
        };
        self.child(value.unwrap_or(&NOTHING), self.path_to(key))
    }

    /// The place that `steps` lead to.
    fn place<'s>(&self, steps: impl Iterator<Item = &'s Step>) -> Self {
        steps.fold(self.clone(), |field, step| match step {
            Step::Key(key) => field.get(key),
            Step::Item(index) => field.item(*index, field.value.get(index).unwrap_or(&NOTHING)),
        })
    }

    /// Notes the keys that stand twice below this place.
    pub(crate) fn refuse(&self, duplicates: &[Duplicate]) {
        for duplicate in duplicates {
            let key = duplicate.key();
            self.place(duplicate.steps())
                .error(format_args!("the key {key:?} stands twice: keep one of them"));
        }
    }

    /// `path.key`, or `path[key]` for a key that would read like two, as label keys do.
    fn path_to(&self, key: &str) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match (&*self.path, !key.is_empty() && key.chars().all(is_plain)) {
            ("", _) => key.to_owned(),
            (path, true) => format!("{path}.{key}"),
            (path, false) => format!("{path}[{key}]"),
        }
    }

    /// Present and not null.
    pub(crate) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// A mapping, be it empty.
    pub(crate) fn is_mapping(&self) -> bool {
        self.value.is_object()
    }

    /// The field must be set.
    pub(crate) fn required(&self, remedy: &str) -> &Self {
        if !self.is_set() {
            self.error(format_args!("missing: {remedy}"));
        }
        self
    }

    /// Text.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::Null => None,
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Number(_) => {
                self.error(format_args!("{0} is not text: put it in quotes, \"{0}\"", self.value));
                None
            }
            _ => self.unlike("text"),
        }
    }

    /// Text that is not empty; the empty text counts as unset, as in protobuf.
    pub(crate) fn name(&self) -> Option<Name> {
        self.text().filter(|text| !text.is_empty()).map(Into::into)
    }

    /// Text that no message may quote.
    pub(crate) fn secret(&self) -> Option<&'a str> {
        match self.value {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => {
                self.error("is not text");
                None
            }
        }
    }

    /// True or false.
    pub(crate) fn flag(&self) -> Option<bool> {
        match self.value {
            Value::Null => None,
            Value::Bool(flag) => Some(*flag),
            _ => self.unlike("true or false"),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn integer<T: TryFrom<u64>>(&self, bounds: RangeInclusive<u64>) -> Option<T> {
        let number = match self.value {
            Value::Null => return None,
            Value::Number(number) => number.as_u64().filter(|number| bounds.contains(number)),
            _ => None,
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => self.unlike(&format!("a number from {} to {}", bounds.start(), bounds.end())),
        }
    }

    /// A port, 1 to 65535.
    pub(crate) fn port(&self) -> Option<u16> {
        self.integer(1..=65535)
    }

    /// A port's number or name (IntOrString): text that is a number counts as the number, 0 and "" as unset.
    pub(crate) fn port_or_name(&self) -> Option<Result<u16, Name>> {
        match self.value {
            Value::String(text) if text.is_empty() || text == "0" => None,
            Value::String(text) => Some(text.parse().map_err(|_| text.as_str().into())),
            Value::Number(number) if number.as_u64() == Some(0) => None,
            _ => self.port().map(Ok),
        }
    }

    /// A decimal number within bounds, as it is written.
    pub(crate) fn decimal(&self, least: f64, most: f64) -> Option<Name> {
        let number = match self.value {
            Value::Null => return None,
            Value::Number(number) => number.as_f64().filter(|number| (least..=most).contains(number)),
            _ => None,
        };
        match number {
            Some(number) => Some(number.to_string().into()),
            None if most == f64::MAX => self.unlike(&format!("a number of at least {least}")),
            None => self.unlike(&format!("a number from {least} to {most}")),
        }
    }

    /// Reads this field without findings, for whoever says himself what is wrong in it.
    pub(crate) fn unchecked<T>(&self, read: impl FnOnce(&Field<'_>) -> T) -> T {
        let findings = Findings::default();
        read(&Field {
            value: self.value,
            path: self.path.clone(),
            named: Rc::clone(&self.named),
            findings: &findings,
        })
    }

    /// The root of another document that this text holds; its findings are noted as if they stood here.
    pub(crate) fn inside<T>(&self, value: &Value, read: impl FnOnce(&Field<'_>) -> T) -> T {
        read(&Field {
            value,
            path: self.path.clone(),
            named: Rc::clone(&self.named),
            findings: self.findings,
        })
    }

    /// The text through a parser whose error says what is wrong and what would be right.
    pub(crate) fn parse<T, E: Display>(&self, parser: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text()?;
        parser(text).map_err(|error| self.error(format_args!("{text:?} is refused: {error}"))).ok()
    }

    /// One of some words, `what` in the plural.
    pub(crate) fn choice<T: Copy>(&self, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = spelling::did_you_mean(text, known.iter().copied());
        self.error(format_args!("{text:?} is not among the {what} {}{hint}", known.join(", ")));
        None
    }

    /// The items of a list; empty when unset.
    pub(crate) fn list(&self) -> Vec<Self> {
        let items = match self.value {
            Value::Null => return Vec::new(),
            Value::Array(items) => items,
            _ => return self.unlike("a list").unwrap_or_default(),
        };
        let fields = items.iter().enumerate().map(|(index, value)| self.item(index, value));
        fields.filter(|item| item.is_set() || item.unlike::<()>("an item").is_some()).collect()
    }

    /// The texts of a list.
    pub(crate) fn names(&self) -> Vec<Name> {
        self.list().iter().filter_map(Self::text).map(Into::into).collect()
    }

    /// The entries of a mapping in their order; empty when unset.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Self)> {
        match self.value {
            Value::Null => Vec::new(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.as_str(), self.child(value, self.path_to(key)))).collect()
            }
            _ => self.unlike("a mapping").unwrap_or_default(),
        }
    }

    /// Warns of every field of this mapping that is not `known`: the API server would prune it, and a misspelt
    /// field silently does nothing (POLICY.md V3). Anything but a mapping is an error.
    pub(crate) fn knows(&self, known: &[&str]) -> &Self {
        let Value::Object(map) = self.value else {
            self.entries(); // Notes what is no mapping.
            return self;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = spelling::did_you_mean(key, known.iter().copied());
            let hint = if hint.is_empty() { format!("; known are {}", known.join(", ")) } else { hint };
            self.get(key).warn(format_args!("there is no field {key:?} here, it is ignored{hint}"));
        }
        self
    }

    /// Warns of every field of this mapping that looks like one of `known` and is none of them; for mappings that have
    /// more fields than anybody here needs to know.
    pub(crate) fn slips(&self, known: &[&str]) -> &Self {
        let Value::Object(map) = self.value else { return self };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = spelling::did_you_mean(key, known.iter().copied());
            if !hint.is_empty() {
                self.get(key).warn(format_args!("there is no field {key:?} here, it is ignored{hint}"));
            }
        }
        self
    }

    /// Whether any of `keys` is set; an empty list counts as unset, as in protobuf.
    pub(crate) fn has_any(&self, keys: &[&str]) -> bool {
        let Value::Object(map) = self.value else { return false };
        let set = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
        keys.iter().any(|key| map.get(*key).is_some_and(set))
    }

    /// Notes an error at this place.
    pub(crate) fn error(&self, message: impl Display) {
        self.note(Severity::Error, true, &message);
    }

    /// Notes an error that costs this value alone: the object is taken without it.
    pub(crate) fn left_out(&self, message: impl Display) {
        self.note(Severity::Error, false, &message);
    }

    /// Notes a warning at this place.
    pub(crate) fn warn(&self, message: impl Display) {
        self.note(Severity::Warning, false, &message);
    }

    fn note(&self, severity: Severity, refuses: bool, message: &dyn Display) {
        let message = match &*self.named {
            "" => message.to_string(),
            named => format!("{message} ({named})"),
        };
        self.findings.add(severity, refuses, &self.path, &message);
    }

    fn unlike<T>(&self, expected: &str) -> Option<T> {
        let shown = shorten(&self.value.to_string(), 60);
        self.error(format_args!("{shown} is not {expected}"));
        None
    }
}
