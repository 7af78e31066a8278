//! The Lease as the API has it.

use serde_json::{Map, Value, json};

/// What a Lease says, as far as an elector reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Who leads; empty if nobody does.
    pub(crate) holder: String,
    /// How long the holder leads after a renewal, in seconds.
    pub(crate) seconds: u64,
    /// Since when, by the clock of the holder.
    pub(crate) acquired: String,
    /// The last renewal, by the clock of the holder. It is compared, never read as a time.
    pub(crate) renewed: String,
    /// How often the holder changed.
    pub(crate) transitions: u64,
}

/// A Lease with everything that others may have written to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lease(Value);

impl Lease {
    /// From JSON text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lease: Value =
            serde_json::from_str(text).map_err(|error| format!("the answer is no Lease: {error}"))?;
        Ok(Self(lease))
    }

    /// One that is not there yet.
    pub(crate) fn named(name: &str) -> Self {
        Self(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "eastwest"}}}))
    }

    pub(crate) fn record(&self) -> Record {
        let spec = &self.0["spec"];
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| spec[field].as_u64().unwrap_or_default();
        Record {
            holder: text("holderIdentity"),
            seconds: number("leaseDurationSeconds"),
            acquired: text("acquireTime"),
            renewed: text("renewTime"),
            transitions: number("leaseTransitions"),
        }
    }

    /// The same Lease, at the same version, with another record.
    pub(crate) fn with(&self, record: &Record) -> Vec<u8> {
        let mut lease = self.0.clone();
        let spec = &mut lease["spec"];
        if !spec.is_object() {
            *spec = Value::Object(Map::new());
        }
        spec["holderIdentity"] = json!(record.holder);
        spec["leaseDurationSeconds"] = json!(record.seconds);
        spec["leaseTransitions"] = json!(record.transitions);
        // The API refuses empty times.
        for (field, time) in [("acquireTime", &record.acquired), ("renewTime", &record.renewed)] {
            spec[field] = if time.is_empty() { Value::Null } else { json!(time) };
        }
        lease.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_keeps_what_others_wrote() {
        let text = r#"{"kind":"Lease","metadata":{"name":"x","resourceVersion":"7","labels":{"a":"b"}},
            "spec":{"holderIdentity":"me","leaseDurationSeconds":15,"leaseTransitions":3,"strategy":"s",
            "acquireTime":"2026-01-01T00:00:00.000001Z","renewTime":"2026-01-01T00:00:05.000001Z"}}"#;
        let lease = Lease::parse(text).unwrap();
        let record = lease.record();
        assert_eq!((record.holder.as_str(), record.seconds, record.transitions), ("me", 15, 3));
        let again = Lease::parse(std::str::from_utf8(&lease.with(&record)).unwrap()).unwrap();
        assert_eq!(again, lease);
        let empty = Lease::named("x").record();
        assert_eq!(empty, Record::default());
    }
}
