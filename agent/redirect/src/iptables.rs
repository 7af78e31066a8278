//! Rules as text for `iptables-restore` and `ip6tables-restore`, with `--noflush`: only our chains are touched.
//!
//! The text that sets rules first removes what an earlier run has left. A restore is one transaction, so a second run
//! changes nothing, and no connection meets half of the rules.

use std::fmt::Write as _;

use crate::{
    Family, Redirection,
    plan::{Match, Plan, Rule, Verdict},
};

/// What the names of all our chains begin with, so that nobody else's are touched.
const PREFIX: &str = "EASTWEST_";
const IN: &str = "EASTWEST_IN";
const IN_REDIRECT: &str = "EASTWEST_IN_REDIRECT";
const OUT: &str = "EASTWEST_OUT";
const OUT_REDIRECT: &str = "EASTWEST_OUT_REDIRECT";

/// Whether what `iptables-save` printed has rules of ours, or any rules of the table `nat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// Chains of ours.
    pub ours: bool,
    /// Any rule of the table `nat`, ours included.
    pub any: bool,
}

/// What is in the table `nat` by what `iptables-save` printed.
pub fn present(saved: &str) -> Present {
    nat(saved).fold(Present::default(), |found, line| Present {
        ours: found.ours || chain(line).is_some(),
        any: found.any || line.starts_with("-A "),
    })
}

/// The text that sets the rules of a family. `saved` is what `iptables-save` printed; empty if there is nothing yet.
pub fn set(config: &Redirection, family: Family, saved: &str) -> String {
    let plan = Plan::new(config, family);
    let mut text = String::from("*nat\n");
    for line in removal(saved) {
        let _ = writeln!(text, "{line}");
    }
    for name in [IN, IN_REDIRECT, OUT, OUT_REDIRECT] {
        let _ = writeln!(text, ":{name} - [0:0]");
    }
    for (chain, port) in [(IN_REDIRECT, config.inbound_port), (OUT_REDIRECT, config.outbound_port)] {
        let _ = writeln!(text, "-A {chain} -p tcp -j REDIRECT --to-ports {port}");
    }
    for (chain, rules) in [(IN, &plan.inbound), (OUT, &plan.outbound)] {
        for rule in rules {
            let _ = writeln!(text, "-A {chain}{}", words(rule));
        }
    }
    let _ = write!(text, "-A PREROUTING -p tcp -j {IN}\n-A OUTPUT -p tcp -j {OUT}\nCOMMIT\n");
    text
}

/// The text that removes our rules; `None` if there are none. `saved` is what `iptables-save` printed.
pub fn unset(saved: &str) -> Option<String> {
    present(saved).ours.then(|| {
        let lines: String = removal(saved).map(|line| line + "\n").collect();
        format!("*nat\n{lines}COMMIT\n")
    })
}

/// Jumps into our chains first, then what is in them, then the chains.
fn removal(saved: &str) -> impl Iterator<Item = String> {
    let jumps = nat(saved).filter(|line| {
        let into = line.split_once(" -j ").map(|(_, target)| target);
        let is_ours = |line: &str| line.starts_with(&format!("-A {PREFIX}"));
        into.is_some_and(|target| target.starts_with(PREFIX)) && !is_ours(line)
    });
    let jumps = jumps.map(|line| line.replacen("-A ", "-D ", 1));
    let flushed = nat(saved).filter_map(chain).map(|name| format!("-F {name}"));
    let removed = nat(saved).filter_map(chain).map(|name| format!("-X {name}"));
    jumps.chain(flushed).chain(removed)
}

/// The lines of the table `nat`.
fn nat(saved: &str) -> impl Iterator<Item = &str> {
    let lines = saved.lines().map(str::trim);
    lines.skip_while(|line| *line != "*nat").skip(1).take_while(|line| *line != "COMMIT")
}

/// The name of the chain that a line declares, if it is ours.
fn chain(line: &str) -> Option<&str> {
    line.strip_prefix(':')?.split(' ').next().filter(|name| name.starts_with(PREFIX))
}

/// All that follows the name of the chain.
fn words(rule: &Rule) -> String {
    let mut text: String = rule.when.iter().map(|one| format!(" {}", word(one))).collect();
    let target = match rule.then {
        Verdict::Leave => "RETURN",
        Verdict::Inbound => IN_REDIRECT,
        Verdict::Outbound => OUT_REDIRECT,
    };
    let _ = write!(text, " -j {target}");
    text
}

fn word(one: &Match) -> String {
    match one {
        Match::ComesBy(name) => format!("-i {name}"),
        Match::GoesBy(name) => format!("-o {name}"),
        Match::Source(range) => format!("-s {}", range),
        Match::Destination(range) => format!("-d {}", range),
        Match::NotDestination(range) => format!("! -d {}", range),
        Match::Port(port) => format!("-p tcp --dport {port}"),
        Match::NotPort(port) => format!("-p tcp ! --dport {port}"),
        Match::User(id) => format!("-m owner --uid-owner {id}"),
        Match::NotUser(id) => format!("-m owner ! --uid-owner {id}"),
        Match::Group(id) => format!("-m owner --gid-owner {id}"),
        Match::NotGroup(id) => format!("-m owner ! --gid-owner {id}"),
    }
}
