//! The signer and roots in force and their problems, for a page, for metrics and for the log.

use std::{collections::BTreeMap, path::PathBuf};

use eastwest_ca::{CertificateSummary, rotation::Rotation};
use eastwest_io::{SourceProblem, SourceStatus, source_status::Change};
use prometheus::proto::MetricFamily;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::scrape::{counter, gauge, number};

/// Where the signer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "directory", rename_all = "kebab-case")]
pub enum Source {
    /// A root of our own, kept in a state directory.
    StateDir(PathBuf),
    /// A CA that is plugged in from a directory.
    PluggedIn(PathBuf),
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
    /// The end of the signing chain.
    Expiry,
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
            Self::Expiry => "expiry",
        }
    }

    /// As the log shows it.
    fn name(self) -> &'static str {
        match self {
            Self::PluggedInCa => "plugged-in CA",
            Self::RevocationLists => "revocation lists",
            Self::StateDir => "state directory",
            Self::Expiry => "expiry",
        }
    }
}

pub(crate) fn rfc3339(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}
