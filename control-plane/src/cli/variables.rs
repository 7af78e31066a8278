//! Which flags that an error names were set by a variable: nobody typed them.

use std::ffi::OsString;

use clap::{Arg, Command};

/// A line for each flag in `said`, an error, that stands in no argument and has its value from a variable; with a line
/// feed at the end of each.
pub(super) fn blamed(
    said: &str,
    command: &Command,
    arguments: &[OsString],
    is_set: impl Fn(&str) -> bool,
) -> String {
    let arguments: Vec<_> = arguments.iter().map(|one| one.to_string_lossy()).collect();
    let mut flags: Vec<&Arg> = command.get_arguments().collect();
    let mut at = command;
    for argument in &arguments {
        let Some(below) = at.find_subcommand(&**argument) else { continue };
        at = below;
        flags.extend(at.get_arguments());
    }
    let is_typed = |flag: &Arg| {
        let long = flag.get_long().map(|long| format!("--{long}"));
        let short = flag.get_short().map(|short| format!("-{short}"));
        arguments.iter().any(|one| {
            let name = one.split('=').next().unwrap_or_default();
            long.as_deref() == Some(name)
                || short.as_ref().is_some_and(|short| !one.starts_with("--") && one.starts_with(short))
        })
    };
    let lines = flags.into_iter().filter_map(|flag| {
        let (long, variable) = (flag.get_long()?, flag.get_env()?.to_str()?);
        let is_blamed = names(said, long) && is_set(variable) && !is_typed(flag);
        is_blamed.then(|| format!("note: --{long} is set by the variable {variable}\n"))
    });
    lines.collect()
}

/// Whether a text has the flag as a whole word.
fn names(said: &str, long: &str) -> bool {
    let flag = format!("--{long}");
    said.match_indices(&flag).any(|(at, _)| {
        let next = said[at + flag.len()..].chars().next();
        next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '-')
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn notes(said: &str, arguments: &[&str], set: &str) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        blamed(said, &Cli::command(), &arguments, |variable| variable == set)
    }

    #[test]
    fn a_flag_that_nobody_typed_is_told_with_its_variable() {
        let said = "error: --trust-domain: ' ' is not allowed in a trust domain";
        let expected = "note: --trust-domain is set by the variable EASTWEST_TRUST_DOMAIN\n";
        assert_eq!(notes(said, &["serve"], "EASTWEST_TRUST_DOMAIN"), expected);
        assert_eq!(notes(said, &["serve", "--trust-domain", "a b"], "EASTWEST_TRUST_DOMAIN"), "");
        assert_eq!(notes(said, &["serve", "--trust-domain=a b"], "EASTWEST_TRUST_DOMAIN"), "");
        assert_eq!(notes(said, &["serve"], "EASTWEST_CONFIG_DIR"), "");
        assert_eq!(notes("--trust-domains", &["serve"], "EASTWEST_TRUST_DOMAIN"), "");
        let output = "error: invalid value 'xml' for '--output <OUTPUT>'";
        assert!(notes(output, &["check"], "EASTWEST_OUTPUT").contains("EASTWEST_OUTPUT"));
        assert_eq!(notes(output, &["check", "-oxml"], "EASTWEST_OUTPUT"), "");
        assert!(notes("--state-dir", &["ca", "show"], "EASTWEST_STATE_DIR").contains("EASTWEST_STATE_DIR"));
    }
}
