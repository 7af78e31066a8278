//! Facts about a proxy that its view depends on, besides settings.

use eastwest_engine::listeners::{INBOUND_PORT, OUTBOUND_PORT};

/// The program that a view is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Stock Envoy: its own types.
    Envoy,
    /// Any other program: also [`TypeUrl::WORKLOAD_TLS`](eastwest_xds::TypeUrl::WORKLOAD_TLS), which repeats the
    /// settings of all hosts for each workload.
    Other,
}

/// What a view depends on besides settings: facts that a proxy reports about itself, and whether it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyFacts {
    /// The program.
    pub audience: Audience,
    /// The port to which inbound connections are redirected; usually 15006.
    pub inbound_port: u16,
    /// The port to which outbound connections are redirected, another one; usually 15001.
    pub outbound_port: u16,
    /// The proxy is authenticated. Only then it gets secrets, and only if its workload is known: the labels of an
    /// unknown workload are a claim of the proxy.
    pub proven: bool,
    /// Whether it can have internal listeners: plaintext ports then serve protocols in which the server speaks first
    /// without a delay.
    pub internal_listeners: bool,
}

impl ProxyFacts {
    /// The facts of most proxies that run a program.
    pub fn usual(audience: Audience) -> Self {
        Self {
            audience,
            inbound_port: INBOUND_PORT,
            outbound_port: OUTBOUND_PORT,
            proven: true,
            internal_listeners: false,
        }
    }
}
