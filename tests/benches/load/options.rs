//! What to measure.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures what connected proxies cost `eastwest serve`.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask bench load")]
pub(crate) struct Options {
    /// The number of proxies, each a connection with a stream that holds everything.
    #[arg(long, default_value_t = 500)]
    pub(crate) proxies: usize,
    /// The number of Services.
    #[arg(long, default_value_t = 1000)]
    pub(crate) services: usize,
    /// Pods of each Service.
    #[arg(long, default_value_t = 2)]
    pub(crate) pods: usize,
    /// How the clients prove who they are.
    #[arg(long, value_enum, default_value_t = Proof::Plaintext)]
    pub(crate) proof: Proof,
    /// The variant of the protocol.
    #[arg(long, value_enum, default_value_t = Variant::Delta)]
    pub(crate) variant: Variant,
    /// What happens, in this order.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Event::ALL)]
    pub(crate) events: Vec<Event>,
    /// How often each change is made.
    #[arg(long, default_value_t = 40)]
    pub(crate) rounds: usize,
    /// The length of `idle` and `churn`, in seconds.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// Clients that never read, for `stalled`.
    #[arg(long, default_value_t = 30)]
    pub(crate) stalled: usize,
    /// The processor of the server; the clients run on the others. Without it the system chooses.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Writes the figures to this file, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Prints the ratios to the figures of an earlier run, which `--json` wrote.
    #[arg(long)]
    pub(crate) baseline: Option<PathBuf>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proof {
    /// Not at all, on the plaintext port.
    Plaintext,
    /// By a service-account token over TLS.
    Token,
    /// By a client certificate.
    Mtls,
}

/// The variant of the xDS protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Changes.
    Delta,
    /// Lists.
    StateOfTheWorld,
}

/// What happens to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Event {
    /// Nothing, with all proxies connected.
    Idle,
    /// An endpoint becomes ready or unready, which concerns every proxy.
    Endpoint,
    /// The PeerAuthentication of one namespace changes between PERMISSIVE and STRICT.
    Namespace,
    /// The same for the mesh.
    Mesh,
    /// Ten endpoints change each second.
    Churn,
    /// Clients that never read connect, and endpoints change.
    Stalled,
    /// The server is killed and started; clients come back with what they hold.
    RestartHolding,
    /// The same, and they come back with nothing.
    RestartEmpty,
}

impl Event {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Idle,
        Self::Endpoint,
        Self::Namespace,
        Self::Mesh,
        Self::Churn,
        Self::Stalled,
        Self::RestartHolding,
        Self::RestartEmpty,
    ];

    /// The word for it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}
