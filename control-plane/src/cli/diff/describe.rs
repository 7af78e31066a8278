//! The report for a person: the verdict first, then what breaks, then all other changes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cli::{check::findings_table, explain::verdict},
    output::{cell, entries, plural_of, table},
};

/// How many names of a list are shown; JSON has them all.
const SHOWN: usize = 8;
/// What [`sign`] means.
const SIGNS: &str = "(+ added, ~ changed, - removed)";

/// The whole report.
pub(super) fn describe(report: &Value) -> String {
    let mut text = headline(report);
    text += &findings(entries(&report["findings"]));
    text += &objects(entries(&report["objects"]));
    text += &calls("WOULD BREAK", report, true);
    text += &calls("WOULD CHANGE", report, false);
    text += &servers(entries(&report["inbound"]));
    text += &resources(entries(&report["resources"]));
    text
}

/// The verdict in a line.
fn headline(report: &Value) -> String {
    let connections = |key: &str, what: &str| match report[key].as_u64().unwrap_or_default() {
        0 => None,
        1 => Some(format!("1 connection would {what}")),
        several => Some(format!("{several} connections would {what}")),
    };
    let errors = entries(&report["findings"]).iter().filter(|one| one["severity"] == "error").count();
    let refused = (errors > 0).then(|| {
        let what = plural_of(errors, "mistake, which is", "mistakes, which are");
        format!("the change has {what} left out of what follows")
    });
    let nothing = if errors > 0 { "nothing else breaks" } else { "nothing breaks" };
    let breaks = connections("breaks", "break").unwrap_or_else(|| nothing.to_owned());
    let others = [connections("changes", "change"), connections("downgrades", "lose mutual TLS")];
    let unjudged = match report["unjudged"].as_array().map_or(0, Vec::len) {
        0 => None,
        count => {
            let hosts = plural_of(count, "host has", "hosts have");
            Some(format!("{hosts} no endpoint here, so calls there are not judged"))
        }
    };
    let all = [refused, Some(breaks)].into_iter().chain(others).chain([unjudged]);
    all.flatten().collect::<Vec<_>>().join("; ") + "\n"
}

fn findings(findings: &[Value]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let errors = findings.iter().filter(|one| one["severity"] == "error").count();
    let refused = if errors > 0 { ": what is refused is not part of what follows" } else { "" };
    format!("\nFINDINGS about the change{refused}\n{}\n", findings_table(findings))
}

fn objects(changes: &[Value]) -> String {
    if changes.is_empty() {
        return "\nno object differs\n".to_owned();
    }
    let line = |one: &Value| format!("{} {}", sign(&cell(&one["change"])), cell(&one["object"]));
    let lines = listed(changes.iter().map(line).collect());
    format!("\nOBJECTS {SIGNS}\n  {}\n", lines.join("\n  "))
}

/// The calls that break, or those that only change. Calls that fare the same stand together.
fn calls(title: &str, report: &Value, breaking: bool) -> String {
    let mut text = String::new();
    for group in entries(&report["calls"]) {
        let mut fates: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for change in entries(&group["changes"]).iter().filter(|one| one["breaks"] == breaking) {
            let target = format!("{}:{}", cell(&change["host"]), cell(&change["port"]));
            let fate = side("today", &change["before"]) + &side("then", &change["after"]);
            fates.entry(fate).or_default().push(target);
        }
        let clients = names(entries(&group["clients"]).iter().map(cell).collect());
        for (fate, targets) in fates {
            let calls: String = listed(targets).iter().map(|target| format!("  → {target}\n")).collect();
            text += &format!("{clients}\n{calls}{fate}");
        }
    }
    if text.is_empty() { text } else { format!("\n{title}\n{text}") }
}

fn side(when: &str, call: &Value) -> String {
    if call.is_null() {
        return format!("    {when:6}No such service for this client\n");
    }
    let mode = call["mode"].as_str().map(|mode| format!(", client's mode {mode}")).unwrap_or_default();
    let decided: Vec<_> = entries(&call["decided_by"]).iter().map(cell).collect();
    let decided = if decided.is_empty() { "default".to_owned() } else { decided.join(", ") };
    format!(
        "    {when:6}{}{mode}: {}\n          decided by {decided}\n",
        verdict(&call["verdict"]),
        cell(&call["reason"])
    )
}

fn servers(changes: &[Value]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let decided = |setting: &Value| match &setting["policy"] {
        Value::Null => "default".to_owned(),
        policy => cell(policy),
    };
    let rows = changes.iter().map(|change| {
        let port = if change["port"].is_null() { "*".to_owned() } else { cell(&change["port"]) };
        [
            names(entries(&change["workloads"]).iter().map(cell).collect()),
            port,
            cell(&change["before"]["mode"]),
            decided(&change["before"]),
            cell(&change["after"]["mode"]),
            decided(&change["after"]),
        ]
    });
    let header = ["WORKLOADS", "PORT", "TODAY", "DECIDED BY", "THEN", "DECIDED BY"];
    format!("\nSERVERS\n{}\n", table(header, rows))
}

fn resources(groups: &[Value]) -> String {
    let mut text = String::new();
    for group in groups {
        text += &names(entries(&group["proxies"]).iter().map(cell).collect());
        text += "\n";
        for (resource_type, changes) in group["types"].as_object().into_iter().flatten() {
            let all = ["added", "changed", "removed"].into_iter().flat_map(|change| {
                entries(&changes[change]).iter().map(move |name| format!("{} {}", sign(change), cell(name)))
            });
            for line in listed(all.collect()) {
                text += &format!("  {resource_type:9}{line}\n");
            }
        }
    }
    if text.is_empty() { text } else { format!("\nRESOURCES {SIGNS}\n{text}") }
}

/// Names on one line.
fn names(all: Vec<String>) -> String {
    listed(all).join(", ")
}

/// The first names, and how many more there are.
fn listed(mut all: Vec<String>) -> Vec<String> {
    let total = all.len();
    if total > SHOWN {
        all.truncate(SHOWN - 1);
        all.push(format!("and {} more (see -o json)", total - all.len()));
    }
    all
}

fn sign(change: &str) -> char {
    match change {
        "added" => '+',
        "removed" => '-',
        _ => '~',
    }
}
