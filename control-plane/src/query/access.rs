//! `eastwest can`: the question as it is typed and sent to a server, and its answer.

use eastwest_engine::can::{self, Client, Sent, Server};
use eastwest_model::{SpiffeId, Workload, WorkloadKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{QueryError, World};
use crate::names::{HostName, TargetName, WorkloadName};

/// May this call be made?
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CallQuestion {
    /// The caller.
    pub(crate) client: CallerName,
    /// The host, as [`HostName`] reads it.
    pub(crate) host: String,
    /// The number or the name of the port.
    pub(crate) port: String,
    /// What is sent.
    pub(crate) sent: Sent,
}

/// The caller as somebody names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallerName {
    /// A workload, as [`WorkloadName`] reads it.
    Workload(String),
    /// Anybody in plaintext.
    Plaintext,
    /// Anybody with this SPIFFE ID.
    Principal(String),
}

impl World {
    /// Answers now.
    pub(super) fn can(&self, question: &CallQuestion) -> Result<Value, QueryError> {
        let client = self.client(&question.client)?;
        let target = format!("{}:{}", question.host, question.port);
        let target = TargetName::read(&target, None).map_err(QueryError::Malformed)?;
        let snapshot = self.snapshot.completed();
        let server = match &target.host {
            HostName::Workload(name) => self.server(name, &target)?,
            HostName::Neighbour { kind, name } => {
                let namespace = namespace_of(&client).unwrap_or_else(|| "default".into());
                self.server(&WorkloadName::of(*kind, namespace, name.clone()), &target)?
            }
            host => {
                let nobody = WorkloadKey { namespace: "default".into(), name: "nobody".into() };
                let asking = match &client {
                    Client::Workload(key) => key,
                    Client::Plaintext | Client::Principal(_) => &nobody,
                };
                Server::Host(self.host(host, asking)?, target.port)
            }
        };
        let now = OffsetDateTime::now_utc().unix_timestamp();
        Ok(serde_json::to_value(can::can(&snapshot, &client, &server, &question.sent, now)?)?)
    }

    fn client(&self, name: &CallerName) -> Result<Client, QueryError> {
        Ok(match name {
            CallerName::Plaintext => Client::Plaintext,
            CallerName::Principal(id) => {
                let parsed = SpiffeId::parse(id);
                let wrong =
                    |error| QueryError::Malformed(format!("--principal: {id:?} is no SPIFFE ID: {error}"));
                Client::Principal(parsed.map_err(wrong)?)
            }
            CallerName::Workload(text) => {
                let name = WorkloadName::read(text, None).map_err(QueryError::Malformed)?;
                Client::Workload(self.workload(&name)?.key())
            }
        })
    }

    /// A workload at a port of its own, by number or by name.
    fn server(&self, name: &WorkloadName, target: &TargetName) -> Result<Server, QueryError> {
        let workload = self.workload(name)?;
        let port = target.port.to_string();
        let number = port.parse().ok().or_else(|| named_port(workload, &port));
        let number = number.ok_or_else(|| {
            QueryError::Malformed(format!(
                "{} has no container port {port:?}: write a number",
                workload.key()
            ))
        })?;
        Ok(Server::Workload(workload.key(), number))
    }
}

fn namespace_of(client: &Client) -> Option<eastwest_model::Name> {
    match client {
        Client::Workload(key) => Some(key.namespace.clone()),
        Client::Plaintext | Client::Principal(_) => None,
    }
}

fn named_port(workload: &Workload, name: &str) -> Option<u16> {
    let mut ports = workload.container_ports.iter();
    ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.port)
}
