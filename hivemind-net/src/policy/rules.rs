//! Tables for one node's kernel: what a tenant's workloads there may send and get, as packet rules.
//! No I/O, no clock, no async.
//!
//! The cost per packet does not grow with the policies: an address becomes a mark by one look-up, and a mark, a protocol
//! and a port become a verdict by another. For the workloads of a node with the same policies there is one chain for each
//! direction, with one map of verdicts for peers of which something is said and one for all others. All chains are
//! alike, so a change of policies changes elements, not rules.

mod chains;
mod elements;
mod flush;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use hivemind_core::{NodeId, TenantRef, WorkloadId};
use ipnet::IpNet;

use super::{Class, EndpointKey, Engine};
use crate::dataplane::rules::{RuleName, RuleTable};
use crate::dataplane::state::{InvalidKernelName, LinkName};

pub use flush::{Connection, Established, orphaned_connections, stale_connections};

/// The network of another tenant to which there is a way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PeerNetwork {
    /// Whose it is.
    pub tenant: TenantRef,
    /// Its addresses; all of them are that tenant's, whether a workload has them or not.
    pub pools: BTreeSet<IpNet>,
    /// How packets get there, if each tenant has a router of its own.
    pub way: Option<PeerWay>,
}

/// The way to another tenant's router, as a tenant's router on the same node has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PeerWay {
    /// The link by which packets of the tenant come in from other nodes.
    pub tunnel: LinkName,
    /// The link to the other tenant's router.
    pub link: LinkName,
}

impl PeerWay {
    /// What comes in by `tunnel` leaves by `link`.
    pub fn new(tunnel: LinkName, link: LinkName) -> Self {
        Self { tunnel, link }
    }
}

impl PeerNetwork {
    /// The network of `tenant`, in the same routing table.
    pub fn new(tenant: TenantRef, pools: impl IntoIterator<Item = IpNet>) -> Self {
        Self { tenant, pools: pools.into_iter().map(|pool| pool.trunc()).collect(), way: None }
    }

    /// Behind a router of its own.
    #[must_use]
    pub fn by(mut self, way: PeerWay) -> Self {
        self.way = Some(way);
        self
    }

    /// Whether the address is one of its.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.contains(&address))
    }
}

/// What the rules of a tenant on a node are made of.
///
/// A packet is dropped unless rules say that it passes: also one of a workload that the engine does not know yet.
#[derive(Debug, Clone)]
pub struct NodeRules<'a> {
    pub(super) engine: &'a Engine,
    pub(super) tenant: TenantRef,
    pub(super) node: NodeId,
    pub(super) hosts: BTreeSet<IpAddr>,
    pub(super) links: BTreeMap<WorkloadId, LinkName>,
    pub(super) foreign: BTreeMap<IpAddr, EndpointKey>,
    pub(super) peers: BTreeMap<TenantRef, PeerNetwork>,
    pub(super) zone: Option<u16>,
    pub(super) shared: bool,
    pub(super) refusing: bool,
}

impl<'a> NodeRules<'a> {
    /// The rules for the workloads of `tenant` on `node`.
    pub fn new(engine: &'a Engine, tenant: TenantRef, node: NodeId) -> Self {
        Self {
            engine,
            tenant,
            node,
            hosts: BTreeSet::new(),
            links: BTreeMap::new(),
            foreign: BTreeMap::new(),
            peers: BTreeMap::new(),
            zone: None,
            shared: false,
            refusing: false,
        }
    }

    /// The addresses from which the node itself reaches its workloads.
    #[must_use]
    pub fn with_hosts(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.hosts.extend(addresses);
        self
    }

    /// The link that the workload's packets come in by: others with its addresses are dropped, and so are others of
    /// the link.
    #[must_use]
    pub fn with_link(mut self, workload: WorkloadId, link: LinkName) -> Self {
        self.links.insert(workload, link);
        self
    }

    /// The address in this tenant's network under which another tenant's workload is reached, and reaches out.
    #[must_use]
    pub fn with_foreign(mut self, address: IpAddr, workload: EndpointKey) -> Self {
        self.foreign.insert(address.to_canonical(), workload);
        self
    }

    /// Another tenant whose workloads are reached, and reach out, under their own addresses. Those of its addresses that
    /// no grant reaches are nobody's, and never taken for somebody outside. What is only handed on to it, from this
    /// tenant's workloads on other nodes, passes: it was judged there, and is judged again by the other tenant's rules.
    #[must_use]
    pub fn with_peer(mut self, peer: PeerNetwork) -> Self {
        self.peers.insert(peer.tenant.clone(), peer);
        self
    }

    /// The conntrack zone of the tenant: connections with equal addresses of different tenants are never mixed up.
    #[must_use]
    pub fn with_zone(mut self, zone: u16) -> Self {
        self.zone = Some(zone);
        self
    }

    /// In a namespace that others route through too: packets that are neither from nor to a workload are left alone. Under
    /// their addresses, workloads of other tenants that the engine knows are those, and what no grant reaches is dropped.
    /// [`with_peer`](Self::with_peer) tells whole pools, so that this holds for what the engine does not know yet as well.
    #[must_use]
    pub fn in_shared_namespace(mut self) -> Self {
        self.shared = true;
        self
    }

    /// What policies deny is answered at once: by a TCP reset, or that an administrator forbids it. Otherwise it is
    /// dropped without a word, as is always what comes from or goes to another tenant, and what is spoofed.
    #[must_use]
    pub fn with_refusals(mut self) -> Self {
        self.refusing = true;
        self
    }

    /// The table, to be put in force whole.
    ///
    /// # Errors
    /// None in practice; all names in it are made here.
    pub fn table(&self) -> Result<RuleTable, InvalidKernelName> {
        chains::table(self)
    }
}

/// FNV-1a: the same on every machine and in every version.
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

fn hash(parts: impl FnOnce(&mut Fnv) -> fmt::Result) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    // Writing into a hash never fails.
    let _ = parts(&mut fnv);
    fnv.0
}

/// A number for what policies can tell of a peer: the same wherever and whenever it is computed.
fn class_hash(class: &Class) -> u64 {
    hash(|fnv| {
        let net = match class {
            Class::Workloads(profile, net) => {
                write!(fnv, "{}|{}|{}", profile.tenant(), profile.namespace(), profile.labels())?;
                write!(fnv, "|{}|{}", profile.namespace_labels(), profile.tenant_labels())?;
                for (name, protocol, port) in profile.ports().iter() {
                    write!(fnv, "|{name}={protocol}/{port}")?;
                }
                net
            }
            Class::Outside(_, net) => net,
        };
        net.map_or(Ok(()), |net| write!(fnv, "|{net}"))
    })
}

fn name(text: &str) -> Result<RuleName, InvalidKernelName> {
    text.parse()
}
