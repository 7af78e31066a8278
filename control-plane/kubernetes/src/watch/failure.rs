//! Failures of list and watch requests, classified by how to recover.

use std::time::Duration;

use crate::decode::Status;

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// What failed, for status and log.
    pub(crate) message: String,
    /// The pause that the API asked for (`Retry-After`).
    pub(crate) retry_after: Option<Duration>,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No connection, or one that broke off.
    Unreachable,
    /// The deadline of the step passed.
    TimedOut,
    /// The API does not have the resource version: too old or too new. Only a fresh list helps.
    Expired,
    /// The API cannot stream lists.
    NoStreaming,
    /// 403: an RBAC rule is missing.
    Forbidden,
    /// 401: the credentials are not valid.
    Unauthorized,
    /// 404: the resource is not served at the moment.
    NotFound,
    /// Any other status that is no success.
    Refused,
    /// The answer does not decode.
    Malformed,
}

impl Failure {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), retry_after: None }
    }

    /// Classifies a status. `streaming`: the request was for a streaming list.
    pub(crate) fn of_status(status: &Status, streaming: bool) -> Self {
        // A server that lost its history (etcd restored from a snapshot) answers with 504.
        let lost = status.code == 504 && status.message.contains("resource version");
        let cause = match status.code {
            410 => Cause::Expired,
            _ if lost => Cause::Expired,
            400 | 422 if streaming => Cause::NoStreaming,
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 => Cause::NotFound,
            _ => Cause::Refused,
        };
        let message = if status.message.is_empty() { &status.reason } else { &status.message };
        Self::new(cause, format!("the API answered {}: {}", status.code, message.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_how_to_go_on() {
        let cause = |code, message: &str, streaming| {
            let status = Status { code, reason: "R".to_owned(), message: message.to_owned() };
            Failure::of_status(&status, streaming).cause
        };
        assert_eq!(cause(410, "too old resource version", false), Cause::Expired);
        assert_eq!(cause(504, "Too large resource version: 9, current: 1", false), Cause::Expired);
        assert_eq!(cause(504, "the backend is slow", false), Cause::Refused);
        assert_eq!(cause(422, "sendInitialEvents is forbidden", true), Cause::NoStreaming);
        assert_eq!(cause(422, "", false), Cause::Refused);
        assert_eq!(cause(403, "", true), Cause::Forbidden);
        assert_eq!(cause(401, "", false), Cause::Unauthorized);
        assert_eq!(cause(404, "", false), Cause::NotFound);
        assert_eq!(cause(429, "", false), Cause::Refused);
        assert_eq!(cause(500, "", true), Cause::Refused);
    }
}
