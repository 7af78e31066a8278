//! docs/CI.md: its script runs, its files are YAML, and its commands have the flags that it names.

use std::{collections::BTreeSet, fs, net::TcpListener, path::Path, time::Duration};

use eastwest_ca::oidc::JobRules;
use eastwest_tests::{pages::page, process::Process, programs};
use serde_json::Value;

use crate::harness::{Bench, PATIENCE, clients::certificates};

/// The blocks of code in one language, `""` for none.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    let mut of_language = fenced.filter_map(|block| block.split_once('\n')).collect::<Vec<_>>();
    of_language.retain(|(named, _)| *named == language);
    of_language.into_iter().map(|(_, text)| text.to_owned()).collect()
}

#[test]
fn the_shell_script_of_the_page_runs() {
    let bench = Bench::new();
    let scripts = blocks(&page("CI.md").unwrap(), "sh");
    assert_eq!(scripts.len(), 2, "the script, and what may follow it");
    let mut script = scripts.join("\n");
    for port in ["15012", "15014"] {
        assert!(script.contains(port), "{port}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        script = script.replace(port, &free.to_string());
    }
    let program = programs::eastwest().unwrap();
    let folder = program.parent().unwrap().display().to_string();
    let mut command = std::process::Command::new("sh");
    command.args(["-euc", &script]).env_clear().current_dir(bench.path(""));
    command.env("PATH", format!("{folder}:{}", std::env::var("PATH").unwrap()));
    let mut script = Process::spawn("the script of docs/CI.md", command, &bench.path("script.log")).unwrap();
    let status = script.wait(PATIENCE).unwrap_or_else(|error| panic!("{error}: {}", script.output()));
    let log = fs::read_to_string(bench.path("ca.log")).unwrap();
    assert!(status.success(), "{status}: {}{log}", script.output());
    assert_eq!(script.output().matches(": OK\n").count(), 3, "{}", script.output());
    assert!(log.contains("identity=spiffe://run-1.test/ns/shop/sa/client"), "{log}");
    for name in ["server", "client"] {
        let chain = fs::read_to_string(bench.path("certs").join(name).join("cert-chain.pem")).unwrap();
        assert_eq!(certificates(&chain).len(), 1);
    }
    // What it started, it has ended.
    let ended = || Ok(log_says_it_drained(&bench.path("ca.log")).then_some(()));
    eastwest_tests::process::until("the end of the server", Duration::from_secs(10), ended).unwrap();
}

fn log_says_it_drained(log: &Path) -> bool {
    fs::read_to_string(log).unwrap().contains("draining")
}

#[test]
fn the_examples_are_yaml() {
    let examples = blocks(&page("CI.md").unwrap(), "yaml");
    assert_eq!(examples.len(), 5, "GitHub and GitLab, with tokens and without, and rules");
    let mut rules = 0;
    for example in examples {
        let example: Value = serde_saphyr::from_str(&example).unwrap();
        assert!(example.is_object(), "{example}");
        if example["rules"].is_array() {
            rules += JobRules::from_value(&example).unwrap().iter().count();
        }
    }
    assert_eq!(rules, 2, "each of them is taken");
}

/// A flag that goes must go from the page as well.
#[test]
fn the_commands_of_the_page_exist_with_their_flags() {
    let bench = Bench::new();
    let page = page("CI.md").unwrap();
    let code = page.lines().filter_map(|line| line.split_once("eastwest ")).map(|(_, rest)| rest);
    let code = code.map(|rest| rest.split(['`', '|', '>', '<', '&']).next().unwrap().trim());
    let commands: BTreeSet<&str> =
        code.filter(|rest| rest.starts_with("ca ") || rest.starts_with("token")).collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let names: Vec<&str> = words.iter().copied().take_while(|word| !word.starts_with('-')).collect();
        let help = bench.run(&[&names[..], &["--help"]].concat());
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.success().contains(*flag), "eastwest {command}: there is no {flag}");
        }
    }
}
