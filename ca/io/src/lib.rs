//! Files, sockets and streams: what every process of eastwest needs of the system, once.
//!
//! | module | what it holds |
//! |---|---|
//! | [`files`] | replacing, creating and removing files so that a crash leaves the old or the new content |
//! | [`watch`] | waiting for changes in a set of folders |
//! | [`accept`] | the accept loop of all ports, its limits, and the connections of the gRPC ports |
//! | [`closer`], [`peer_certificates`], `open`, `limits`, `corked` | parts of such a connection |
//! | [`grpc`] | limits of the gRPC ports |
//! | [`http`] | pages over HTTP, with deadlines and limits |
//! | [`defects`] | what a panic costs, and when the process ends for one |
//! | [`descriptors`] | how many file descriptors the process may have |
//! | [`tls`] | TLS configuration with ring, for servers and clients |
//! | [`https`] | the client for small documents over HTTPS |
//! | [`stdio`] | standard output and error of a process that serves |
//! | [`source_status`] | whether a file or address that is followed can be read |

pub mod accept;
pub mod closer;
mod corked;
pub mod defects;
pub mod descriptors;
pub mod files;
pub mod grpc;
pub mod http;
pub mod https;
mod limits;
mod open;
pub mod peer_certificates;
pub mod source_status;
pub mod stdio;
pub mod tls;
pub mod watch;

pub use accept::{Connection, Incoming, PeerConnection};
pub use closer::ConnectionCloser;
pub use grpc::grpc_server;
pub use https::{FetchError, HttpsClient, HttpsUrl, TrustedRoots, check_address};
pub use limits::AcceptLimits;
pub use open::OpenCalls;
pub use peer_certificates::PeerCertificates;
pub use source_status::{SourceProblem, SourceStatus};
pub use watch::{FolderEvent, FolderId, FolderWatch};
