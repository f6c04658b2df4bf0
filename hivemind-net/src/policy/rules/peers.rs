//! Other tenants to whose networks there is a way. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::TenantRef;
use ipnet::IpNet;

use super::super::compile::Domain;
use super::{NodeRules, PeerWay, name};
use crate::addr::IpFamily;
use crate::dataplane::rules::{
    Comparison, ConnectionState, Data, DataType, Field, FieldType, Interval, NamedSet, SetKey, Statement,
    Value, Verdict,
};
use crate::dataplane::state::InvalidKernelName;

/// Whether packets may come from, or go to, other tenants under their own addresses.
pub(super) fn any(rules: &NodeRules<'_>) -> bool {
    rules.shared || !rules.peers.is_empty()
}

/// The tenants that a grant reaches: of others, no workload needs to be looked at.
fn granted(domain: &Domain) -> BTreeSet<TenantRef> {
    domain.foreign().iter().map(|profile| profile.tenant().clone()).collect()
}

/// The addresses of other tenants' workloads that a grant reaches, each with its peer: of those that a packet may have,
/// which are in the pools of peers, or, where all tenants are routed in one namespace, are not this tenant's own.
pub(super) fn reached(rules: &NodeRules<'_>, domain: &Domain) -> BTreeMap<IpAddr, u32> {
    let mut found = BTreeMap::new();
    let world = rules.engine.world();
    for other in granted(domain) {
        let peer = rules.peers.get(&other);
        for endpoint in world.endpoints_of(&other) {
            let Some(number) = domain.foreign_peer(endpoint.profile()) else { continue };
            for address in endpoint.addresses() {
                let is_known = peer.is_some_and(|peer| peer.contains(address));
                if is_known || rules.shared && world.at(&domain.tenant, address).is_none() {
                    // Of workloads that claim one address, it is the first one's, as everywhere.
                    found.entry(address).or_insert(number);
                }
            }
        }
    }
    found
}

/// All addresses that are other tenants': the pools of peers, and where all tenants are routed in one namespace, those of
/// workloads outside these.
pub(super) fn beyond(rules: &NodeRules<'_>, domain: &Domain) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = rules.peers.values().flat_map(|peer| &peer.pools).copied().collect();
    let others = rules.engine.domains().filter(|other| rules.shared && other.tenant != domain.tenant);
    let (world, nothing) = (rules.engine.world(), BTreeSet::new());
    for other in others.map(|other| &other.tenant) {
        let pools = rules.peers.get(other).map_or(&nothing, |peer| &peer.pools);
        let outside = world.addresses_outside(other, pools);
        let outside = outside.filter(|address| world.at(&domain.tenant, *address).is_none());
        nets.extend(outside.map(IpNet::from));
    }
    IpNet::aggregate(&nets)
}

/// The pools of peers that a grant reaches anybody of.
pub(super) fn kin(rules: &NodeRules<'_>, domain: &Domain) -> Vec<IpNet> {
    let peers = granted(domain).into_iter().filter_map(|tenant| rules.peers.get(&tenant));
    IpNet::aggregate(&peers.flat_map(|peer| &peer.pools).copied().collect())
}

/// Those of `nets` that are of a family, as a set.
pub(super) fn members(nets: &[IpNet], family: IpFamily) -> NamedSet {
    let kind = match family {
        IpFamily::V4 => FieldType::V4,
        IpFamily::V6 => FieldType::V6,
    };
    let mut set = NamedSet::new([kind], DataType::Member).with_intervals();
    for net in nets.iter().filter(|net| IpFamily::of(net.addr()) == family) {
        let key = SetKey::new([Interval::new(net.network().into(), net.broadcast().into())]);
        set.elements.insert(key, Data::Member);
    }
    set
}

/// Routers of a peer are no workloads, and yet they tell what became of a packet to one of those: whatever is about a
/// connection that was let through comes back, as long as anybody there is reached.
pub(super) fn told(
    family: IpFamily,
    (source, destination): (Field, Field),
) -> Result<[Statement; 5], InvalidKernelName> {
    let (message, digit) = match family {
        IpFamily::V4 => (Field::IcmpType, "4"),
        IpFamily::V6 => (Field::Icmpv6Type, "6"),
    };
    let within = |field, what: &str| -> Result<_, InvalidKernelName> {
        Ok(Statement::InSet { fields: vec![field], set: name(&format!("{what}{digit}"))?, negate: false })
    };
    Ok([
        within(source, "kin")?,
        within(destination, "local")?,
        within(message, "essential")?,
        Statement::Connection([ConnectionState::Related].into()),
        Statement::Verdict(Verdict::Accept),
    ])
}

/// An address of another tenant's that no grant reaches is nobody's.
pub(super) fn stranger(field: Field, digit: &str) -> Result<[Statement; 3], InvalidKernelName> {
    let set = |what: &str, negate| -> Result<_, InvalidKernelName> {
        Ok(Statement::InSet { fields: vec![field], set: name(&format!("{what}{digit}"))?, negate })
    };
    Ok([set("beyond", false)?, set("reached", true)?, Statement::Verdict(Verdict::Drop)])
}

/// From the tenant's workloads on other nodes to the peer's on this one. Only one direction comes by here: its connection
/// is not known, or not well.
pub(super) fn handed_on(way: &PeerWay) -> [Statement; 3] {
    let by = |field, link: &_| Statement::Compare(field, Comparison::Equal, Value::Link(Clone::clone(link)));
    let (inward, outward) = (by(Field::InLink, &way.tunnel), by(Field::OutLink, &way.link));
    [inward, outward, Statement::Verdict(Verdict::Accept)]
}
