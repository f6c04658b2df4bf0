//! The way out of the cluster, and under which address. No I/O, no clock, no async.
//!
//! A tenant's router has a link to the namespace of its machine, with a transit address on it that is the tenant's alone.
//! What leaves the cluster leaves by it, under that address; the machine forwards it under its own. So the machine needs
//! to know no tenant's addresses, and tenants may have equal ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::compile::{Compiler, GATEWAY, forward, set};
use super::model::{Encapsulation, OverlayConfig, OverlayNode};
use super::names::{egress_link, link_local, uplink_macs};
use super::plan::Masquerade;
use super::vni::Vni;
use crate::dataplane::KernelState;
use crate::dataplane::rules::{
    BaseChain, Chain, Comparison, ConnectionState, Family, Field, Hook, RuleTable, Statement, TableKey,
    Value, Verdict,
};
use crate::dataplane::state::{
    Address, AddressKey, InvalidKernelName, Link, LinkName, Neighbour, NeighbourKey, Netns, NetnsState,
    Route, RouteKey,
};

/// The router's end of the link to its machine.
pub(super) const UPLINK: &str = "up0";
const TABLE: &str = "hivemind-egress";
/// Its protocol number.
const UDP: u8 = 17;

/// Addresses between tenants' routers and their machines: one for each VNI, the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Transit {
    /// Without it nothing leaves by IPv4.
    #[serde(default)]
    pub v4: Option<Ipv4Net>,
    /// Without it nothing leaves by IPv6.
    #[serde(default)]
    pub v6: Option<Ipv6Net>,
    /// The VNI that has the first address.
    pub first: Vni,
}

impl Transit {
    /// No addresses yet; the VNIs count from `first`, usually the first of the pool.
    pub fn new(first: Vni) -> Self {
        Self { v4: None, v6: None, first }
    }

    /// The same, with a prefix, in place of the one of that IP version.
    #[must_use]
    pub fn with_prefix(mut self, prefix: IpNet) -> Self {
        match prefix.trunc() {
            IpNet::V4(v4) => self.v4 = Some(v4),
            IpNet::V6(v6) => self.v6 = Some(v6),
        }
        self
    }

    fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.v4.map(IpNet::V4).into_iter().chain(self.v6.map(IpNet::V6))
    }

    /// The addresses of `vni`.
    ///
    /// # Errors
    /// The prefix that is too small for it.
    pub fn addresses(&self, vni: Vni) -> Result<Vec<IpAddr>, IpNet> {
        // The first address of a prefix is that of the network itself.
        let offset = vni.as_u32().checked_sub(self.first.as_u32()).map(|offset| offset.saturating_add(1));
        self.prefixes().map(|prefix| offset.and_then(|offset| nth(prefix, offset)).ok_or(prefix)).collect()
    }
}

/// The address that lies `offset` after the first of `prefix`, if it is in it.
fn nth(prefix: IpNet, offset: u32) -> Option<IpAddr> {
    let address = match prefix {
        IpNet::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.network().to_bits().checked_add(offset)?)),
        IpNet::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.network().to_bits().checked_add(offset.into())?)),
    };
    prefix.contains(&address).then_some(address)
}

/// Goes on with packets whose source, or destination, is in `prefix`.
fn within(prefix: IpNet, source: bool) -> Statement {
    let field = match (prefix, source) {
        (IpNet::V4(_), true) => Field::V4Source,
        (IpNet::V4(_), false) => Field::V4Destination,
        (IpNet::V6(_), true) => Field::V6Source,
        (IpNet::V6(_), false) => Field::V6Destination,
    };
    Statement::Prefix { field, prefix: prefix.trunc(), negate: false }
}

/// Packets from `sources` to elsewhere than `inside` leave under the address of the link.
fn masquerading(sources: &[IpNet], inside: &[IpNet]) -> Result<RuleTable, InvalidKernelName> {
    let mut chain = Chain::base(BaseChain::source_nat());
    for prefix in inside {
        chain = chain.with_rule([within(*prefix, false), Statement::Verdict(Verdict::Accept)]);
    }
    for prefix in sources {
        chain = chain.with_rule([within(*prefix, true), Statement::Masquerade]);
    }
    Ok(RuleTable::new().with_chain("leaving".parse()?, chain))
}

/// What a workload sends out is never taken for a packet between nodes, wherever it goes: a tunnel end believes whoever
/// speaks to it, and would let a frame into any tenant's network.
fn no_tunnels(out: &LinkName, port: u16) -> Chain {
    let is = |field, value| Statement::Compare(field, Comparison::Equal, value);
    Chain::base(BaseChain::filter(Hook::Forward)).with_rule([
        is(Field::OutLink, Value::Link(out.clone())),
        is(Field::Protocol, Value::Protocol(UDP)),
        is(Field::DestinationPort, Value::Port(port)),
        Statement::Verdict(Verdict::Drop),
    ])
}

/// Whether tables of this module may have that name.
pub(super) fn is_reserved(key: &TableKey) -> bool {
    key.name.as_str().starts_with(TABLE)
}

fn table(suffix: &str) -> Result<TableKey, InvalidKernelName> {
    Ok(TableKey::new(Family::Inet, format!("{TABLE}{suffix}").parse()?))
}

/// Both ends of the way out: what `compile::base` adds for a tenant whose packets may leave.
pub(super) fn tenant(
    compiler: &Compiler<'_>,
    routing: &Netns,
    masquerade: &Masquerade,
    kernel: &mut KernelState,
) -> Result<(), InvalidKernelName> {
    let vni = compiler.tenant.network.vni;
    // Peers know the tenant's own addresses.
    let peers = compiler.peers.iter().flat_map(|peer| &peer.network.pools);
    let known: Vec<_> = masquerade.inside.iter().chain(peers).copied().collect();
    let Encapsulation::Vxlan { port } = compiler.config.encapsulation else {
        // Nothing of a tenant leaves by a node where it only has routes to it.
        if compiler.is_present() {
            let rules = masquerading(&masquerade.sources, &known)?;
            kernel.namespace_mut(routing).tables.insert(table(&format!("-{vni}"))?, rules);
        }
        return Ok(());
    };
    let Some(transit) = compiler.config.transit.as_ref().and_then(|t| t.addresses(vni).ok()) else {
        return Ok(());
    };
    let (inside, outside) = (UPLINK.parse::<LinkName>()?, egress_link(vni)?);
    let (router_mac, machine_mac) = uplink_macs(&compiler.at.id, vni);
    let end = |mac| Link::veth_end(mac, compiler.mtu).with_link_local(false).with_up();
    kernel.add_veth((routing, &inside, end(router_mac)), (&Netns::Host, &outside, end(machine_mac)));

    let router = kernel.namespace_mut(routing);
    let rules = masquerading(&masquerade.sources, &known)?
        .with_chain("no-tunnels".parse()?, no_tunnels(&inside, port));
    router.tables.insert(table("")?, rules);
    router
        .addresses
        .insert(AddressKey::new(inside.clone(), link_local(router_mac).into(), 64), Address::new());
    let key = NeighbourKey::new(inside.clone(), GATEWAY.into());
    router.neighbours.insert(key, Neighbour::Permanent(machine_mac));
    for address in &transit {
        let whole = IpNet::from(*address).prefix_len();
        router.addresses.insert(AddressKey::new(inside.clone(), *address, whole), Address::new());
        let anywhere = if address.is_ipv4() { Ipv4Net::default().into() } else { Ipv6Net::default().into() };
        router.routes.insert(RouteKey::new(anywhere), Route::via(inside.clone(), GATEWAY.into(), false));
    }

    let machine = kernel.namespace_mut(&Netns::Host);
    machine.addresses.insert(AddressKey::new(outside.clone(), GATEWAY.into(), 64), Address::new());
    for address in transit {
        machine.routes.insert(RouteKey::new(IpNet::from(address)), Route::on_link(outside.clone()));
        let key = NeighbourKey::new(outside.clone(), address);
        machine.neighbours.insert(key, Neighbour::Permanent(router_mac));
    }
    Ok(())
}

/// What the machine needs, whichever tenants are on it.
pub(super) fn machine(
    config: &OverlayConfig,
    at: &OverlayNode,
    host: &mut NetnsState,
) -> Result<(), InvalidKernelName> {
    let Some(transit) = &config.transit else { return Ok(()) };
    forward(host)?;
    if let Some(uplink) = &at.uplink {
        set(host, &format!("net/ipv6/conf/{uplink}/accept_ra"), "2")?;
    }
    let prefixes: Vec<_> = transit.prefixes().collect();
    // One tenant's router never speaks to another's. Not every packet of a tenant comes under a transit address: what is
    // routed by the world keeps its own. So it is answers alone that get to a transit address, from wherever they come.
    let mut between = Chain::base(BaseChain::filter(Hook::Forward));
    for prefix in &prefixes {
        let drop = || Statement::Verdict(Verdict::Drop);
        between = between.with_rule([within(*prefix, true), within(*prefix, false), drop()]);
        let asking = [ConnectionState::New, ConnectionState::Invalid, ConnectionState::Untracked];
        between = between.with_rule([within(*prefix, false), Statement::Connection(asking.into()), drop()]);
    }
    let rules = masquerading(&prefixes, &[])?.with_chain("between-tenants".parse()?, between);
    host.tables.insert(table("")?, rules);
    Ok(())
}
