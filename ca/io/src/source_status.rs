//! Sources that are read again and again. When one cannot be read, what it contained before stays in force; the problem
//! is kept here, for pages and metrics.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use time::OffsetDateTime;

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceProblem {
    /// What is read from it.
    pub subject: &'static str,
    /// Which file or address it is; none where the message says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What is wrong, and what is in force instead.
    pub message: String,
    /// When it was found, in whole seconds.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// What a note changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: the problem was known, or there was and is none.
    None,
    /// There is a problem that was not known.
    Found,
    /// The problem is solved.
    Solved,
}

/// A source, and what is wrong with it now.
#[derive(Debug)]
pub struct SourceStatus {
    subject: &'static str,
    source: Option<String>,
    problem: Mutex<Option<SourceProblem>>,
}

impl SourceStatus {
    /// The file or address `source`, from which `subject` is read. It has no problem yet.
    pub fn new(subject: &'static str, source: impl Display) -> Self {
        Self { subject, source: Some(source.to_string()), problem: Mutex::default() }
    }

    /// The same for a subject whose problems name their place in the message.
    pub fn unnamed(subject: &'static str) -> Self {
        Self { subject, source: None, problem: Mutex::default() }
    }

    /// What is read from it.
    pub fn subject(&self) -> &'static str {
        self.subject
    }

    /// Notes the outcome of reading the source, now. Returns whether it is a problem that was not known.
    pub fn note(&self, outcome: Result<(), String>) -> bool {
        self.note_at(outcome, OffsetDateTime::now_utc()) == Change::Found
    }

    /// Notes the outcome of reading the source at `now`. A problem with the same message keeps its time.
    pub fn note_at(&self, outcome: Result<(), String>, now: OffsetDateTime) -> Change {
        let mut problem = self.lock();
        match outcome {
            Ok(()) => problem.take().map_or(Change::None, |_| Change::Solved),
            Err(message) if problem.as_ref().is_some_and(|known| known.message == message) => Change::None,
            Err(message) => {
                let since = now.replace_nanosecond(0).unwrap_or(now);
                let (subject, source) = (self.subject, self.source.clone());
                *problem = Some(SourceProblem { subject, source, message, since });
                Change::Found
            }
        }
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<SourceProblem> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<SourceProblem>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of `sources` have a problem, by subject, in the order in which the subjects appear.
pub fn count_problems(sources: &[Arc<SourceStatus>]) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = Vec::new();
    for source in sources {
        let problems = source.problem().is_some().into();
        match counts.iter_mut().find(|(subject, _)| *subject == source.subject) {
            Some((_, count)) => *count += problems,
            None => counts.push((source.subject, problems)),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn a_problem_is_found_once_and_solved_once() {
        let source = SourceStatus::new("keys", "/keys.json");
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds);
        let bad = |message: &str| Err(message.to_owned());
        assert_eq!(source.note_at(Ok(()), at(1)), Change::None);
        assert_eq!(source.note_at(bad("no file"), at(2)), Change::Found);
        assert_eq!(source.note_at(bad("no file"), at(3)), Change::None);
        assert_eq!(source.problem().unwrap().since, at(2));
        assert_eq!(source.note_at(bad("no JSON"), at(4)), Change::Found);
        let since = source.problem().unwrap();
        assert_eq!((since.message.as_str(), since.since), ("no JSON", at(4)));
        let (keys, rules) = (Arc::new(source), Arc::new(SourceStatus::unnamed("rules")));
        assert_eq!(count_problems(&[keys.clone(), rules, keys.clone()]), [("keys", 2), ("rules", 0)]);
        assert_eq!(keys.note_at(Ok(()), at(5)), Change::Solved);
        assert_eq!(keys.problem(), None);
    }
}
