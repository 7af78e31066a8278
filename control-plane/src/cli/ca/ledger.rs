//! `eastwest ca ledger`: verifies and queries the ledger. A server may run meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use eastwest_ca::{
    TrustBundle,
    ledger::{Event, Hash, Record, Report, Wanted},
};
use eastwest_ca_server::{StateDir, StateError, ledger};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{super::Mistyped, Exit, Failure, Result};
use crate::{
    config::{Problems, duration},
    output::{OutputArgs, table},
};

/// The arguments of `eastwest ca ledger`.
#[derive(Debug, Args)]
pub(super) struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
    /// Root certificates (PEM) that the ledger is verified with [default: all roots of the state directory, also retired
    /// ones].
    #[arg(long, value_name = "FILE", global = true, env = "EASTWEST_LEDGER_ROOTS")]
    roots: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Verify all records. Exits with 1 at the first broken record and says what is wrong with it.
    Verify(VerifyArgs),
    /// Print the certificates and JWT-SVIDs that were issued or refused, oldest first.
    Query(QueryArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Check that the ledger still contains this record. `NUMBER:HASH` is the head that an earlier run printed. This
    /// detects a ledger that was cut off.
    #[arg(long, value_name = "NUMBER:HASH", env = "EASTWEST_LEDGER_HEAD")]
    head: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// Only records of this SPIFFE ID, or of this NAMESPACE/SERVICE-ACCOUNT.
    #[arg(long, value_name = "ID", env = "EASTWEST_LEDGER_IDENTITY")]
    identity: Option<String>,
    /// Only the certificate with this serial number, or the JWT-SVID with this `jti`, in hexadecimal.
    #[arg(long, value_name = "HEX", env = "EASTWEST_LEDGER_SERIAL")]
    serial: Option<String>,
    /// Only records since this time (RFC 3339), or since this long ago, for example 2h.
    #[arg(long, value_name = "TIME", env = "EASTWEST_LEDGER_SINCE")]
    since: Option<String>,
    /// Only records of this kind.
    #[arg(long, value_name = "KIND", env = "EASTWEST_LEDGER_KIND")]
    kind: Option<Kind>,
    /// Only refusals.
    #[arg(long, env = "EASTWEST_LEDGER_REFUSED")]
    refused: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was issued or refused.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Certificates.
    Certificate,
    /// JWT-SVIDs.
    JwtSvid,
}

impl From<Kind> for Wanted {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Certificate => Self::Certificate,
            Kind::JwtSvid => Self::JwtSvid,
        }
    }
}

impl LedgerArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        let roots = || match &self.roots {
            Some(file) => {
                let text = fs::read_to_string(file);
                let text = text.with_context(|| format!("--roots: cannot read {}", file.display()))?;
                TrustBundle::from_pem(&text).with_context(|| format!("--roots {}", file.display()))
            }
            None => match StateDir::open_existing(state_dir)?.ledger_roots() {
                Err(StateError::NoCa(_)) => Err(Mistyped(without_roots(state_dir)).into()),
                roots => Ok(roots?),
            },
        };
        match self.command {
            LedgerCommand::Verify(args) => args.run(state_dir, roots),
            LedgerCommand::Query(args) => args.run(state_dir, roots, now),
        }
    }
}

/// What to do where the ledger is in a directory and the CA is not.
fn without_roots(state_dir: &Path) -> String {
    format!(
        "--roots: {} has no root to verify a ledger with. If it is that of a control plane in Kubernetes mode, get the roots \
         of the cluster: kubectl get configmap istio-ca-root-cert -n istio-system -o jsonpath='{{.data.root-cert\\.pem}}' \
         > roots.pem, and name them: --roots roots.pem. Add roots that have retired since, for older records",
        state_dir.display()
    )
}

impl VerifyArgs {
    fn run(self, state_dir: &Path, roots: impl Fn() -> anyhow::Result<TrustBundle>) -> Result {
        let mut problems = Problems::default();
        let known = self.head.map(|text| problems.take("--head", head(&text)));
        let known = known.map(|known| known.ok_or(Failure::Usage(problems))).transpose()?;
        let report = ledger::verify(state_dir, &roots()?, known)?;
        self.output.print(&report, describe)?;
        Ok(Exit::Success)
    }
}

impl QueryArgs {
    fn run(
        self,
        state_dir: &Path,
        roots: impl Fn() -> anyhow::Result<TrustBundle>,
        now: OffsetDateTime,
    ) -> Result {
        let mut problems = Problems::default();
        let since = self.since.map(|text| problems.take("--since", time_of(&text, now)));
        let since = since.map(|since| since.ok_or(Failure::Usage(problems))).transpose()?;
        let serial = self.serial.map(|text| text.replace(':', "").to_ascii_lowercase());
        let wanted = self.kind.map(Wanted::from);
        let query = ledger::Query { identity: self.identity, serial, wanted, since, refused: self.refused };
        let (records, report) = ledger::query(state_dir, &roots()?, &query);
        // The records before a broken one are shown: they verify.
        self.output.print(&records, |records| {
            let header =
                ["TIME", "EVENT", "KIND", "IDENTITY", "SERIAL", "UNTIL", "PROOF", "NODE", "POD", "DETAIL"];
            table(header, records.iter().filter_map(row))
        })?;
        report?;
        Ok(Exit::Success)
    }
}

fn head(text: &str) -> std::result::Result<(u64, Hash), String> {
    let parts =
        text.split_once(':').and_then(|(number, hash)| Some((number.parse().ok()?, hash.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?} is not NUMBER:HASH as `eastwest ca ledger verify` prints it"))
}

/// A time, or how long before `now`.
fn time_of(text: &str, now: OffsetDateTime) -> std::result::Result<OffsetDateTime, String> {
    let ago = || duration(text).ok().and_then(|ago| now.checked_sub(ago.try_into().ok()?));
    OffsetDateTime::parse(text, &Rfc3339).ok().or_else(ago).ok_or_else(|| {
        format!("{text:?} is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 2h or 7d")
    })
}

fn describe(report: &Report) -> String {
    let Report { first_segment, segments, records, issued, jwt_svids, refused, checkpoints, .. } = report;
    let mut text = format!(
        "the ledger is whole\nrecords      {records} in {} from number {first_segment}, with {}\nissued       {issued}\n\
         JWT-SVIDs    {jwt_svids}\nrefused      {refused}\n",
        counted(*segments, "segment"),
        counted(*checkpoints, "checkpoint"),
    );
    if report.uncovered > 0 || report.unfinished > 0 {
        text += &format!(
            "unfinished   {} and {} left by a crash; nothing in them was handed out\n",
            counted(report.uncovered, "record"),
            counted(report.unfinished, "byte")
        );
    }
    if report.repaired > 0 {
        text += &format!("repaired     {} after a crash\n", counted(report.repaired, "time"));
    }
    text + &format!("head         {}:{}", report.last, report.head)
}

/// A number with its noun, in the plural unless it is 1.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn row(record: &Record) -> Option<[String; 10]> {
    let time = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    let or_none = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let (event, kind, requester, identity, serial, until, detail) = match &record.event {
        Event::Issued(issued) => (
            "issued".to_owned(),
            Wanted::Certificate,
            &issued.requester,
            issued.identity.to_string(),
            issued.serial.clone(),
            time(issued.not_after),
            "-".to_owned(),
        ),
        Event::JwtSvid(svid) => (
            "issued".to_owned(),
            Wanted::JwtSvid,
            &svid.requester,
            svid.identity.to_string(),
            svid.jti.clone(),
            time(svid.not_after),
            format!("for {}", svid.audience.join(", ").escape_debug()),
        ),
        Event::Refused(refused) => (
            if refused.count > 1 { format!("{} refused", refused.count) } else { "refused".to_owned() },
            refused.wanted,
            &refused.requester,
            or_none(refused.requester.caller.as_ref().map(|caller| caller.as_str())),
            "-".to_owned(),
            "-".to_owned(),
            format!("{}: {}", refused.code, refused.reason.escape_debug()),
        ),
        _ => return None,
    };
    let [proof, node, pod] =
        [&requester.proof, &requester.node, &requester.pod].map(|text| or_none(text.as_deref()));
    let kind = match kind {
        Wanted::Certificate => "certificate".to_owned(),
        Wanted::JwtSvid => "JWT-SVID".to_owned(),
    };
    Some([time(record.time), event, kind, identity, serial, until, proof, node, pod, detail])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_segment_is_no_plural() {
        let report = Report { segments: 1, first_segment: 1, checkpoints: 2, ..Report::default() };
        let text = describe(&report);
        assert!(text.contains("in 1 segment from number 1, with 2 checkpoints"), "{text}");
    }

    #[test]
    fn times_and_heads() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(1);
        assert_eq!(time_of("2h", now), Ok(now - time::Duration::hours(2)));
        assert_eq!(time_of("1970-01-02T00:00:00Z", now), Ok(now));
        assert!(time_of("yesterday", now).unwrap_err().contains("neither a time"));
        assert_eq!(head(&format!("7:{}", "ab".repeat(32))).map(|(number, _)| number), Ok(7));
        for bad in ["", "7", "7:ab", "x:00"] {
            assert!(head(bad).is_err(), "{bad}");
        }
    }
}
