//! Sources that are read again and again: when one is bad, what was read before stays in force, and here stands why.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::proto::MetricFamily;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    scrape::{gauges, label, number},
    trust::root_status::rfc3339,
};

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceProblem {
    /// What is read from it.
    pub subject: &'static str,
    /// Which file or address it is.
    pub source: String,
    /// What is wrong, and what is in force instead.
    pub message: String,
    /// When it was found, RFC 3339.
    pub since: String,
}

/// A source, and what is wrong with it now.
#[derive(Debug)]
pub struct Followed {
    subject: &'static str,
    source: String,
    wrong: Mutex<Option<SourceProblem>>,
}

impl Followed {
    /// A source of `subject` with which nothing is wrong yet.
    pub(crate) fn new(subject: &'static str, source: impl Display) -> Arc<Self> {
        Arc::new(Self { subject, source: source.to_string(), wrong: Mutex::default() })
    }

    /// Notes what reading it gave; whether that is a mistake which was not known.
    pub(crate) fn note(&self, read: Result<(), String>) -> bool {
        let mut wrong = self.lock();
        let known = wrong.take();
        let Err(message) = read else { return false };
        let same = known.filter(|known| known.message == message);
        let news = same.is_none();
        *wrong = Some(same.unwrap_or_else(|| SourceProblem {
            subject: self.subject,
            source: self.source.clone(),
            message,
            since: rfc3339(OffsetDateTime::now_utc()),
        }));
        news
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<SourceProblem> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<SourceProblem>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many sources of each subject are bad.
pub(crate) fn family(followed: &[Arc<Followed>]) -> MetricFamily {
    let mut bad: BTreeMap<&str, u64> = BTreeMap::new();
    for one in followed {
        *bad.entry(one.subject).or_default() += u64::from(one.problem().is_some());
    }
    gauges(
        "eastwest_source_problems",
        "Files and addresses that could not be read again, so that what they said before stays; /debug/ca tells.",
        bad.into_iter().map(|(subject, bad)| (vec![label("subject", subject)], number(bad))),
    )
}
