//! `eastwest can`: may a call be made?

use std::{fs, net::IpAddr, path::PathBuf};

use clap::{ArgAction, Args};
use eastwest_engine::can::Sent;
use serde_json::Value;

use super::{Exit, Failure, Result, naming::NamespaceArgs, world::WorldArgs};
use crate::{
    config::Problems,
    names::{TargetName, WorkloadName},
    output::{OutputArgs, cell, entries},
    query::{CallQuestion, CallerName, Question},
};

/// The largest file with a token, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// The arguments of `eastwest can`.
#[derive(Debug, Args)]
pub(crate) struct CanArgs {
    /// CLIENT SERVER:PORT [METHOD [PATH]]. CLIENT is a workload as NAMESPACE/POD; leave it out with --plaintext or
    /// --principal. SERVER is a workload and PORT one of its own, or a host and a service port.
    #[arg(value_name = "CLIENT SERVER:PORT [METHOD [PATH]]", required = true, num_args = 1..=4)]
    call: Vec<String>,
    /// The client sends plaintext and is nobody in particular.
    #[arg(long, conflicts_with = "principal", env = "EASTWEST_CAN_PLAINTEXT")]
    plaintext: bool,
    /// The client is whoever has this identity, and uses mutual TLS where the server takes it.
    #[arg(long, value_name = "SPIFFE-ID", env = "EASTWEST_CAN_PRINCIPAL")]
    principal: Option<String>,
    /// A header of the request; may be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", action = ArgAction::Append, env = "EASTWEST_CAN_HEADER")]
    headers: Vec<String>,
    /// The authority (Host header) of the request [default: the server as it was typed].
    #[arg(long, value_name = "AUTHORITY", env = "EASTWEST_CAN_HOST")]
    host: Option<String>,
    /// The address of the connection's peer [default: that of the client].
    #[arg(long, value_name = "ADDRESS", env = "EASTWEST_CAN_SOURCE_IP")]
    source_ip: Option<IpAddr>,
    /// The client's address by X-Forwarded-For.
    #[arg(long, value_name = "ADDRESS", env = "EASTWEST_CAN_REMOTE_IP")]
    remote_ip: Option<String>,
    /// The server name of the handshake [default: that of a mesh client].
    #[arg(long, value_name = "NAME", env = "EASTWEST_CAN_SNI")]
    sni: Option<String>,
    /// A claim of a token that the first RequestAuthentication accepts; may be given several times.
    #[arg(long = "claim", value_name = "NAME=VALUE", action = ArgAction::Append, conflicts_with = "jwt", env = "EASTWEST_CAN_CLAIM")]
    claims: Vec<String>,
    /// A file with a token, which is sent as Authorization: Bearer.
    #[arg(long, value_name = "FILE", env = "EASTWEST_CAN_JWT")]
    jwt: Option<PathBuf>,
    /// Whether HTTP is sent, where the port does not declare it [default: true with a METHOD].
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "EASTWEST_CAN_HTTP")]
    http: Option<bool>,
    #[command(flatten)]
    names: NamespaceArgs,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl CanArgs {
    pub(super) fn run(self) -> Result {
        let question = self.question()?;
        let answer = self.world.ask(&Question::Can(Box::new(question)))?;
        self.output.print(&answer, describe)?;
        Ok(if answer["verdict"] == "ALLOW" { Exit::Success } else { Exit::Negative })
    }

    fn question(&self) -> Result<CallQuestion> {
        let mut call = self.call.iter();
        let client = match (&self.principal, self.plaintext) {
            (Some(id), _) => CallerName::Principal(id.clone()),
            (None, true) => CallerName::Plaintext,
            (None, false) => {
                let text = call.next().map(String::as_str).unwrap_or_default();
                CallerName::Workload(self.names.read("CLIENT", text, WorkloadName::read)?.to_string())
            }
        };
        let usage = "write SERVER:PORT, for example reviews.shop:9080 or shop/reviews-0:8080";
        let target = call.next().ok_or_else(|| Failure::usage("SERVER:PORT", usage))?;
        let TargetName { host, port } = self.names.read("SERVER:PORT", target, TargetName::read)?;
        let (method, path) = (call.next().cloned(), call.next().cloned());
        if call.next().is_some() {
            return Err(Failure::usage("PATH", "nothing may stand behind it"));
        }
        if method.as_deref().is_some_and(|method| http::Method::from_bytes(method.as_bytes()).is_err()) {
            return Err(Failure::usage("METHOD", "is no method of HTTP: write for example GET"));
        }
        let is_path = |path: &str| {
            let begins = path.starts_with('/') || path == "*" || path.contains("://");
            begins && !path.contains(|one: char| one.is_whitespace() || one.is_control())
        };
        if path.as_deref().is_some_and(|path| !is_path(path)) {
            return Err(Failure::usage("PATH", "is no path: write for example /orders?id=7"));
        }
        let sent = self.sent(method, path)?;
        Ok(CallQuestion { client, host: host.to_string(), port: port.to_string(), sent })
    }

    fn sent(&self, method: Option<String>, path: Option<String>) -> Result<Sent> {
        let mut problems = Problems::default();
        let mut pairs = |flag: &str, texts: &[String]| -> Vec<(String, String)> {
            let pair = |text: &str| {
                let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
                let parts = parts.map(|(name, value)| (name.to_owned(), value.to_owned()));
                // What stands there may be a secret.
                problems.take(flag, parts.ok_or("write NAME=VALUE"))
            };
            texts.iter().map(String::as_str).filter_map(pair).collect()
        };
        let mut headers = pairs("--header", &self.headers);
        let claims = pairs("--claim", &self.claims);
        if let Some(address) = &self.remote_ip {
            headers.push(("x-forwarded-for".to_owned(), address.clone()));
        }
        if let Some(file) = &self.jwt {
            let size = fs::metadata(file).map(|metadata| metadata.len());
            let read = match size {
                Ok(size) if size > MAX_TOKEN => Err(format!("{} is larger than 64 KiB", file.display())),
                _ => fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display())),
            };
            let token = problems.take("--jwt", read);
            headers
                .extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {}", token.trim()))));
        }
        if !problems.is_empty() {
            return Err(Failure::Usage(problems));
        }
        Ok(Sent {
            method,
            path,
            headers,
            host: self.host.clone(),
            source: self.source_ip,
            server_name: self.sni.clone(),
            claims,
            http: self.http,
        })
    }
}

/// The answer for a person: the verdict, then every policy that applies with what did not match.
fn describe(answer: &Value) -> String {
    let verdict = if answer["verdict"] == "ALLOW" { "Allowed" } else { "Denied" };
    let tls = match answer["tls"].as_str() {
        Some("MUTUAL") => format!("mutual TLS, the client is {}", cell(&answer["principal"])),
        Some("PLAINTEXT") => "plaintext, the client has no identity".to_owned(),
        _ => "refused".to_owned(),
    };
    let mut text = format!(
        "{verdict}: {}\n\nserver      {} port {}, {}\nconnection  {tls}\ndecided by  {}\n",
        cell(&answer["reason"]),
        cell(&answer["server"]),
        cell(&answer["port"]),
        cell(&answer["protocol"]),
        decided_by(answer),
    );
    let policies = entries(&answer["policies"]);
    if !policies.is_empty() {
        text += "\nPOLICIES\n";
    }
    for policy in policies {
        text += &describe_policy(policy);
    }
    let servers = entries(&answer["servers"]);
    if !servers.is_empty() {
        text += "\nWORKLOADS\n";
    }
    for server in servers {
        text += &format!(
            "  {} port {}: {} by {}\n",
            cell(&server["server"]),
            cell(&server["port"]),
            cell(&server["verdict"]),
            decided_by(server)
        );
    }
    text
}

fn decided_by(answer: &Value) -> String {
    match (answer["by"].as_str(), answer["rule"].as_u64()) {
        (None, _) => "nothing: no policy matched".to_owned(),
        (Some("default-deny"), _) => "default deny".to_owned(),
        (Some(object), Some(rule)) => format!("{object}, rule {rule}"),
        (Some(object), None) => object.to_owned(),
    }
}

fn describe_policy(policy: &Value) -> String {
    let trial = if policy["dry_run"] == true { " (dry run)" } else { "" };
    let matched = match policy["rule"].as_u64() {
        Some(rule) => format!("rule {rule} matches"),
        None => "no rule matches".to_owned(),
    };
    let mut text = format!("  {:6} {}{trial}: {matched}\n", cell(&policy["action"]), cell(&policy["object"]));
    for failed in entries(&policy["failed"]) {
        let wanted: Vec<String> = entries(&failed["want"]).iter().map(cell).collect();
        text += &format!(
            "           rule {}: {} is {}, and the request has {}\n",
            cell(&failed["rule"]),
            cell(&failed["condition"]),
            wanted.join(", "),
            if failed["got"].is_null() { "none".to_owned() } else { cell(&failed["got"]) },
        );
    }
    text
}
