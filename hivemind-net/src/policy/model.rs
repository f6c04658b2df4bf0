//! What policies are made of: plain data that is valid from construction on. No I/O, no clock, no async.

mod block;
mod cluster;
mod dns;
mod forms;
mod grant;
mod name;
mod network;
mod peer;
mod port;
mod profile;
mod traffic;

pub use block::{InvalidBlock, IpBlock};
pub use cluster::{Action, ClusterPolicy, ClusterRule, Tier};
pub use dns::{DnsName, InvalidDnsName, NamePattern};
pub use grant::{Grant, GrantTo};
pub use name::{InvalidPolicyName, PolicyName, PortName};
pub(super) use network::name_mark;
pub use network::{Direction, InvalidPolicy, NetworkPolicy, PolicyProblem, PolicyRule, PolicySpec};
pub(super) use peer::Other;
pub use peer::{Home, Peer, WorkloadPeer};
pub use port::{InvalidPort, NamedPort, PortMatch};
pub use profile::{NAMESPACE_LABEL, NamedPorts, Profile, TENANT_LABEL};
pub use traffic::{InvalidProtocol, Protocol, Traffic};
