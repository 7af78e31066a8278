//! The signer and roots in force and their problems, for a page, for metrics and for the log.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use eastwest_ca::{CertificateSummary, rotation::Rotation};
use eastwest_io::{SourceProblem, SourceStatus, source_status::Change};
use prometheus::proto::MetricFamily;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::scrape::{counter, gauge, number};

/// Where the signer comes from.
///
/// As JSON: `{"kind": "state-dir|plugged-in", "directory": "…"}` or
/// `{"kind": "secret|plugged-in-secret", "place": "Secret NAMESPACE/NAME"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A root of our own, kept in a state directory.
    StateDir(PathBuf),
    /// A CA that is plugged in from a directory.
    PluggedIn(PathBuf),
    /// A root of our own, kept in a Kubernetes Secret: `NAMESPACE/NAME`.
    Secret(String),
    /// A CA that is plugged in from a Kubernetes Secret: `NAMESPACE/NAME`.
    PluggedInSecret(String),
}

impl Source {
    /// Whether it is a CA of somebody else.
    pub fn is_plugged_in(&self) -> bool {
        matches!(self, Self::PluggedIn(_) | Self::PluggedInSecret(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StateDir(path) | Self::PluggedIn(path) => path.display().fmt(f),
            Self::Secret(name) | Self::PluggedInSecret(name) => write!(f, "Secret {name}"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, content) = match self {
            Self::StateDir(_) => ("state-dir", "directory"),
            Self::PluggedIn(_) => ("plugged-in", "directory"),
            Self::Secret(_) => ("secret", "place"),
            Self::PluggedInSecret(_) => ("plugged-in-secret", "place"),
        };
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kind", kind)?;
        match self {
            Self::StateDir(path) | Self::PluggedIn(path) => map.serialize_entry(content, path)?,
            Self::Secret(_) | Self::PluggedInSecret(_) => map.serialize_entry(content, &self.to_string())?,
        }
        map.end()
    }
}

/// The subject of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Key and certificates of a plugged-in CA.
    PluggedInCa,
    /// Its revocation lists.
    RevocationLists,
    /// The state directory.
    StateDir,
    /// The Secrets with our own root and what replicas share.
    Secret,
    /// The end of the signing chain.
    Expiry,
    /// The wall clock.
    Clock,
}

/// The revocation lists in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RevocationStatus {
    /// How many lists.
    pub lists: usize,
    /// How many certificates they name.
    pub certificates: usize,
    /// Since when a newer list should be there, RFC 3339.
    pub overdue_since: Option<String>,
}

/// The signer, the roots and the revocations in force. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootStatus {
    /// Where the signer comes from.
    pub source: Source,
    /// Since when all this is in force, RFC 3339.
    pub since: String,
    /// How often it was replaced since the start.
    pub reloads: u64,
    /// The signing certificate and those above it, the root last.
    pub signing_chain: Vec<CertificateSummary>,
    /// The trusted roots.
    pub roots: Vec<CertificateSummary>,
    /// The revocation lists.
    pub revocations: RevocationStatus,
    /// How far the rotation of our own root is; none where a CA is plugged in.
    pub rotation: Option<Rotation>,
    /// The problem.
    pub problems: Vec<SourceProblem>,
}

impl RootStatus {
    /// The numbers in it.
    pub(crate) fn families(&self) -> [MetricFamily; 4] {
        let count = |items: usize| number(items as u64);
        [
            gauge("eastwest_ca_roots", "Roots in the trust bundle.", count(self.roots.len())),
            counter(
                "eastwest_ca_reloads",
                "Times that signer, roots or revocations were replaced.",
                number(self.reloads),
            ),
            gauge(
                "eastwest_ca_revoked",
                "Certificates on the revocation lists.",
                count(self.revocations.certificates),
            ),
            gauge(
                "eastwest_ca_problems",
                "What is wrong with the sources of signer, roots and revocations; /debug/ca tells.",
                count(self.problems.len()),
            ),
        ]
    }
}

/// The current problems. Each is logged when it appears, changes or is solved.
#[derive(Debug, Default)]
pub(crate) struct Problems(BTreeMap<Subject, SourceStatus>);

impl Problems {
    pub(crate) fn found(&mut self, subject: Subject, message: String, now: OffsetDateTime) {
        self.note(subject, Err(message), now);
    }

    /// Notes what a check found.
    pub(crate) fn note(&mut self, subject: Subject, outcome: Result<(), String>, now: OffsetDateTime) {
        let message = outcome.as_ref().err().cloned().unwrap_or_default();
        let status = self.0.entry(subject).or_insert_with(|| SourceStatus::unnamed(subject.id()));
        match status.note_at(outcome, now) {
            Change::None => {}
            Change::Found => tracing::error!(subject = subject.name(), "{message}"),
            Change::Solved => tracing::info!(subject = subject.name(), "no longer a problem"),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    pub(crate) fn all(&self) -> Vec<SourceProblem> {
        self.0.values().filter_map(SourceStatus::problem).collect()
    }
}

impl Subject {
    /// As pages show it.
    fn id(self) -> &'static str {
        match self {
            Self::PluggedInCa => "plugged-in-ca",
            Self::RevocationLists => "revocation-lists",
            Self::StateDir => "state-dir",
            Self::Secret => "ca-secret",
            Self::Expiry => "expiry",
            Self::Clock => "clock",
        }
    }

    /// As the log shows it.
    fn name(self) -> &'static str {
        match self {
            Self::PluggedInCa => "plugged-in CA",
            Self::RevocationLists => "revocation lists",
            Self::StateDir => "state directory",
            Self::Secret => "CA Secret",
            Self::Expiry => "expiry",
            Self::Clock => "wall clock",
        }
    }
}

pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_told_by_kind_and_place() {
        let json = |source: Source| serde_json::to_string(&source).unwrap();
        assert_eq!(json(Source::StateDir("/a".into())), r#"{"kind":"state-dir","directory":"/a"}"#);
        assert_eq!(json(Source::PluggedIn("/a".into())), r#"{"kind":"plugged-in","directory":"/a"}"#);
        assert_eq!(json(Source::Secret("a/b".into())), r#"{"kind":"secret","place":"Secret a/b"}"#);
        let plugged = json(Source::PluggedInSecret("a/b".into()));
        assert_eq!(plugged, r#"{"kind":"plugged-in-secret","place":"Secret a/b"}"#);
    }
}
