//! The programs that talk to the kernel: iptables in its two forms, `nft`, and `ip`.

use std::{
    io::{ErrorKind, Write as _},
    process::{Command, Stdio},
};

use eastwest_redirect::Family;

use super::RedirectError;

/// How long another program that changes rules is waited for, in seconds.
const WAIT: &str = "--wait=30";

/// The programs of one form: restore and save.
type Form = (&'static str, &'static str);

/// The forms of a family, in order of preference. The last one, of a system with one form alone, counts where the others
/// are not installed.
fn forms(family: Family) -> [Form; 3] {
    match family {
        Family::V4 => [
            ("iptables-nft-restore", "iptables-nft-save"),
            ("iptables-legacy-restore", "iptables-legacy-save"),
            ("iptables-restore", "iptables-save"),
        ],
        Family::V6 => [
            ("ip6tables-nft-restore", "ip6tables-nft-save"),
            ("ip6tables-legacy-restore", "ip6tables-legacy-save"),
            ("ip6tables-restore", "ip6tables-save"),
        ],
    }
}

/// A form of iptables that is installed and can say what the kernel holds.
pub(super) struct Iptables {
    form: Form,
    family: Family,
    /// What its table `nat` holds, as it prints it.
    pub(super) saved: String,
}

impl Iptables {
    /// Those that are installed, each with what it holds or with why it cannot say.
    pub(super) fn installed(family: Family) -> Vec<Result<Self, String>> {
        let [nft, legacy, plain] = forms(family);
        let named: Vec<_> = [nft, legacy].into_iter().filter_map(|form| Self::read(form, family)).collect();
        match named.is_empty() {
            true => Self::read(plain, family).into_iter().collect(),
            false => named,
        }
    }

    /// `None` if it is not installed.
    fn read(form: Form, family: Family) -> Option<Result<Self, String>> {
        // Without `--table` the older form loads no module: it prints what there is.
        match output(form.1, &[], "") {
            Err(Trouble::NotInstalled) => None,
            Err(Trouble::Said(said)) => Some(Err(said)),
            Ok(saved) => Some(Ok(Self { form, family, saved })),
        }
    }

    /// Whether the kernel has its table `nat`, else why not. The older form loads its module for that.
    pub(super) fn works(&self) -> Result<(), String> {
        match output(self.form.0, &["--noflush", "--test", WAIT], "*nat\nCOMMIT\n") {
            Ok(_) => Ok(()),
            Err(Trouble::NotInstalled) => Err(format!("{} is not installed", self.form.0)),
            Err(Trouble::Said(said)) => Err(said),
        }
    }

    pub(super) fn restore(&self) -> &'static str {
        self.form.0
    }

    pub(super) fn is_legacy(&self) -> bool {
        self.form == forms(self.family)[1]
    }

    /// Changes the rules.
    pub(super) fn run(&self, text: &str) -> Result<(), RedirectError> {
        let done = output(self.form.0, &["--noflush", WAIT], text);
        done.map(drop).map_err(|trouble| trouble.into_error(self.form.0, self.family))
    }
}

/// Whether nftables work here, else why not.
pub(super) fn nft_works(family: Family) -> Result<(), String> {
    let protocol = if family == Family::V4 { "ip" } else { "ip6" };
    let script = format!("add table {protocol} eastwest-trial\n");
    match output("nft", &["--check", "--file", "-"], &script) {
        Ok(_) => Ok(()),
        Err(Trouble::NotInstalled) => Err("nft is not installed".to_owned()),
        Err(Trouble::Said(said)) => Err(said),
    }
}

/// Runs a script of nft.
pub(super) fn nft(script: &str, family: Family) -> Result<(), RedirectError> {
    let done = output("nft", &["--file", "-"], script);
    done.map(drop).map_err(|trouble| trouble.into_error("nft", family))
}

/// Gives the loopback interface an address, unless it has it.
pub(super) fn add_address(address: &str, family: Family) -> Result<(), RedirectError> {
    let done = output("ip", &["-6", "address", "replace", address, "dev", "lo"], "");
    done.map(drop).map_err(|trouble| trouble.into_error("ip", family))
}

enum Trouble {
    NotInstalled,
    /// The program's own words, in one line, its name before them.
    Said(String),
}

impl Trouble {
    fn into_error(self, program: &str, family: Family) -> RedirectError {
        let said = match self {
            Self::NotInstalled => "is not installed".to_owned(),
            Self::Said(said) => said,
        };
        RedirectError::Refused { family, program: program.to_owned(), said }
    }
}

/// Runs a program to its end with `input`; returns what it prints.
fn output(program: &str, arguments: &[&str], input: &str) -> Result<String, Trouble> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| Trouble::Said(format!("{program}: {error}"));
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => Trouble::NotInstalled,
        _ => failed(error),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read all says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Trouble::Said(format!("{program}: {}", in_a_line(&output.stderr, output.status)))),
    }
}

/// What a program wrote to its error stream, without the lines that only advise to look for help.
fn in_a_line(stderr: &[u8], status: std::process::ExitStatus) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Try `"));
    match lines.collect::<Vec<_>>().join(", ") {
        said if said.is_empty() => status.to_string(),
        said => said,
    }
}
