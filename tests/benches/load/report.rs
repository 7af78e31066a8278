//! The figures, as a table and as JSON.

use std::{fmt::Write as _, fs, io, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::options::Options;

/// What was measured.
pub(crate) struct Report {
    /// The options of the run.
    setting: String,
    pub(crate) rows: Vec<Row>,
    /// Clients that hold something else than one that connects anew.
    pub(crate) stale: usize,
}

/// The figures of one event.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) event: String,
    pub(crate) rounds: usize,
    /// For each change the time to each client.
    pub(crate) taken: Vec<Vec<Duration>>,
    /// CPU time of the server, of all rounds.
    pub(crate) cpu: Duration,
    /// CPU time through wall time, where that is meant.
    pub(crate) share: Option<f64>,
    /// How often a thread of the server waited, in all rounds.
    pub(crate) switches: u64,
    /// Memory of the server at the end and at its most so far, in bytes.
    pub(crate) resident: u64,
    pub(crate) peak: u64,
    /// Memory that each client adds, in bytes.
    pub(crate) memory_each: Option<u64>,
    /// Bytes of responses, for each client concerned and round, and in all to the others.
    pub(crate) bytes_each: u64,
    pub(crate) bytes_others: u64,
    /// Updates that did not come.
    pub(crate) lost: usize,
}

/// The figures that are compared with a baseline: heading, key.
const COLUMNS: [(&str, &str); 6] = [
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("max ms", "max_ms"),
    ("CPU ms", "cpu_ms"),
    ("waits", "waits"),
    ("RSS MB", "resident_mb"),
];

impl Row {
    fn json(&self) -> Value {
        let mut all: Vec<_> = self.taken.iter().flatten().collect();
        all.sort();
        let at = |share: f64| {
            let place = (all.len() as f64 * share).ceil() as usize;
            all.get(place.max(1) - 1).map(|time| rounded(time.as_secs_f64() * 1e3))
        };
        let rounds = self.rounds.max(1) as f64;
        json!({
            "event": self.event, "rounds": self.rounds,
            "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0),
            "cpu_ms": rounded(self.cpu.as_secs_f64() * 1e3 / rounds),
            "core_percent": self.share.map(|share| rounded(share * 100.0)),
            "waits": rounded(self.switches as f64 / rounds),
            "resident_mb": rounded(self.resident as f64 / f64::from(1 << 20)),
            "peak_mb": rounded(self.peak as f64 / f64::from(1 << 20)),
            "memory_each_kib": self.memory_each.map(|bytes| bytes / 1024),
            "bytes_each": self.bytes_each, "bytes_others": self.bytes_others, "lost": self.lost,
        })
    }
}

/// Three digits are enough.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let Options { proxies, services, pods, proof, variant, .. } = options;
        let setting =
            format!("{proxies} proxies, {services} services with {pods} pods each, {proof:?}, {variant:?}");
        Self { setting, rows: Vec::new(), stale: 0 }
    }

    /// Whether an update was lost or a client ended with something stale.
    pub(crate) fn is_void(&self) -> bool {
        self.stale > 0 || self.rows.iter().any(|row| row.lost > 0)
    }

    /// The rows of a file that `write` wrote.
    pub(crate) fn read(file: &Path) -> io::Result<Vec<Value>> {
        let report: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
        Ok(report["rows"].as_array().cloned().unwrap_or_default())
    }

    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        let report = json!({"setting": self.setting, "rows": rows, "stale": self.stale});
        fs::write(file, format!("{report:#}\n"))
    }

    /// A table; behind each figure its ratio to that of the baseline.
    pub(crate) fn table(&self, baseline: Option<&Vec<Value>>) -> String {
        let mut table = format!("{}\n\n{:<16}{:>7}", self.setting, "event", "rounds");
        for (heading, _) in COLUMNS {
            write!(table, "{heading:>16}").unwrap();
        }
        writeln!(table, "{:>10}{:>12}{:>12}{:>8}", "RSS each", "bytes", "to others", "lost").unwrap();
        for row in self.rows.iter().map(Row::json) {
            let before = baseline.and_then(|rows| rows.iter().find(|one| one["event"] == row["event"]));
            write!(table, "{:<16}{:>7}", row["event"].as_str().unwrap(), row["rounds"].to_string()).unwrap();
            for (_, key) in COLUMNS {
                write!(table, "{:>16}", cell(&row[key], before.map(|before| &before[key]))).unwrap();
            }
            let each =
                row["memory_each_kib"].as_u64().map_or_else(|| "-".to_owned(), |kib| format!("{kib} KiB"));
            let [bytes, others, lost] =
                ["bytes_each", "bytes_others", "lost"].map(|key| row[key].to_string());
            write!(table, "{each:>10}{bytes:>12}{others:>12}{lost:>8}").unwrap();
            match row["core_percent"].as_f64() {
                Some(percent) => writeln!(table, "  {percent:.3} % of a core").unwrap(),
                None => writeln!(table).unwrap(),
            }
        }
        writeln!(table, "\nclients that hold something stale at the end: {}", self.stale).unwrap();
        table
    }
}

/// A figure, and its ratio.
fn cell(value: &Value, before: Option<&Value>) -> String {
    let Some(value) = value.as_f64() else { return "-".to_owned() };
    match before.and_then(Value::as_f64).filter(|before| *before > 0.0) {
        Some(before) => format!("{value:.1} ({:.2})", value / before),
        None => format!("{value:.1}"),
    }
}
