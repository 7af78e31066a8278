//! Logs of the commands that run on: their filter and format.

use std::io::IsTerminal as _;

use eastwest_io::{defects, stdio};
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

use super::{Failure, Result};
use crate::config::Problems;

/// How to write a filter, for messages.
const REMEDY: &str =
    "write a level (error, warn, info, debug, trace) or levels of modules, as in info,eastwest_ca=debug";

/// Logs to stderr: `EASTWEST_LOG` (default `info`) filters, `EASTWEST_LOG_FORMAT=json` makes each line an object. A line
/// that nobody takes is dropped. A panic is logged as well.
///
/// # Errors
/// A variable that means nothing.
pub(super) fn init() -> Result<()> {
    let mut problems = Problems::default();
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let filter = problems.take("EASTWEST_LOG", filter(given("EASTWEST_LOG").as_deref().unwrap_or("info")));
    let is_json = match given("EASTWEST_LOG_FORMAT").as_deref() {
        Some("json") => Some(true),
        None | Some("text") => Some(false),
        Some(other) => problems.take("EASTWEST_LOG_FORMAT", Err(format!("{other:?} is not text or json"))),
    };
    let (Some(filter), Some(is_json)) = (filter, is_json) else { return Err(Failure::Usage(problems)) };
    let logs = fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal());
    let logs = logs.with_writer(stdio::stderr);
    match is_json {
        true => logs.json().init(),
        false => logs.with_target(false).init(),
    }
    // The hook of the standard library would wait for a reader of stderr.
    defects::report_panics();
    Ok(())
}

/// Reads a filter: levels, `MODULE=LEVEL` or the form of spans, with commas between them. A word alone that is no level is
/// refused: as the name of a module it would silence all others.
fn filter(text: &str) -> std::result::Result<EnvFilter, String> {
    let directives = || text.split(',').map(str::trim);
    if let Some(wrong) = directives().find(|one| !is_directive(one)) {
        return Err(format!("{wrong:?} is not a level: {REMEDY}"));
    }
    let joined = directives().collect::<Vec<_>>().join(",");
    EnvFilter::builder().parse(joined).map_err(|error| format!("{error}: {REMEDY}"))
}

fn is_directive(text: &str) -> bool {
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let is_module = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    // The parser of the filter knows the form of spans.
    is_level(text)
        || text.contains('[')
        || text.split_once('=').is_some_and(|(module, level)| is_module(module) && is_level(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_modules_and_spans() {
        for text in [
            "info",
            "WARN",
            "off",
            "0",
            " debug ",
            "info,eastwest_ca=debug",
            "info, eastwest_ca::issuing=trace",
            "eastwest=trace,h2=off",
            "[request]=debug",
            "eastwest_ca[issue]=trace",
            "info,[issue{caller}]=trace",
        ] {
            assert!(filter(text).is_ok(), "{text}: {:?}", filter(text).err());
        }
    }

    /// None of these silences the log.
    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for (text, wrong) in [
            ("nonsense", "nonsense"),
            ("inof", "inof"),
            ("info;debug", "info;debug"),
            ("eastwest=trace,xx", "xx"),
            ("xx,info", "xx"),
            ("info,foo=bar", "foo=bar"),
            ("eastwest_ca", "eastwest_ca"),
            ("eastwest_ca=", "eastwest_ca="),
            ("=debug", "=debug"),
            ("info;eastwest_ca=debug", "info;eastwest_ca=debug"),
            ("eastwest ca=debug", "eastwest ca=debug"),
            ("info,", ""),
            (",", ""),
        ] {
            let said = filter(text).map(|_| ()).expect_err(text);
            assert!(
                said.contains(&format!("{wrong:?}")) && said.contains("info,eastwest_ca=debug"),
                "{said}"
            );
        }
        assert!(filter("info,[").is_err());
    }
}
