//! Rules as scripts for `nft`: one table of ours for each family. A script is one transaction.

use std::fmt::Write as _;

use crate::{
    Family, Redirection,
    plan::{Match, Plan, Rule, Verdict},
};

/// The name of our table.
const TABLE: &str = "eastwest";

/// The script that sets the rules of these families, in place of those of an earlier run.
pub fn set(config: &Redirection, families: &[Family]) -> String {
    families.iter().map(|family| unset(&[*family]) + &table(config, *family)).collect()
}

/// The script that removes our rules; without an effect where there are none.
pub fn unset(families: &[Family]) -> String {
    let both = |family: &Family| {
        let protocol = protocol(*family);
        // A table that is not there cannot be deleted.
        format!("add table {protocol} {TABLE}\ndelete table {protocol} {TABLE}\n")
    };
    families.iter().map(both).collect()
}

fn table(config: &Redirection, family: Family) -> String {
    let plan = Plan::new(config, family);
    let mut text = format!("table {} {TABLE} {{\n", protocol(family));
    for (name, hook, priority, rules) in
        [("in", "prerouting", "dstnat", &plan.inbound), ("out", "output", "-100", &plan.outbound)]
    {
        let _ = writeln!(text, "  chain {name} {{\n    type nat hook {hook} priority {priority};");
        for rule in rules {
            let _ = writeln!(text, "    meta l4proto tcp {}", words(rule, config, family));
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn words(rule: &Rule, config: &Redirection, family: Family) -> String {
    let mut text: String = rule.when.iter().map(|one| word(one, family) + " ").collect();
    match rule.then {
        Verdict::Leave => text.push_str("return"),
        Verdict::Inbound => text.push_str(&format!("redirect to :{}", config.inbound_port)),
        Verdict::Outbound => text.push_str(&format!("redirect to :{}", config.outbound_port)),
    }
    text
}

fn word(one: &Match, family: Family) -> String {
    let protocol = protocol(family);
    match one {
        Match::ComesBy(name) => format!("iifname \"{}\"", pattern(name)),
        Match::GoesBy(name) => format!("oifname \"{}\"", pattern(name)),
        Match::Source(range) => format!("{protocol} saddr {}", range),
        Match::Destination(range) => format!("{protocol} daddr {}", range),
        Match::NotDestination(range) => format!("{protocol} daddr != {}", range),
        Match::Port(port) => format!("tcp dport {port}"),
        Match::NotPort(port) => format!("tcp dport != {port}"),
        Match::User(id) => format!("meta skuid {id}"),
        Match::NotUser(id) => format!("meta skuid != {id}"),
        Match::Group(id) => format!("meta skgid {id}"),
        Match::NotGroup(id) => format!("meta skgid != {id}"),
    }
}

/// nft writes the rest of a name as `*`.
fn pattern(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(begin) => format!("{begin}*"),
        None => name.to_owned(),
    }
}
