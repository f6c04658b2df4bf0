//! Other tenants to whose networks there is a way. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::Endpoint;
use super::super::compile::Domain;
use super::{NodeRules, PeerWay, name};
use crate::addr::IpFamily;
use crate::dataplane::rules::{
    Comparison, Data, DataType, Field, FieldType, Interval, NamedSet, SetKey, Statement, Value, Verdict,
};
use crate::dataplane::state::InvalidKernelName;

/// Whether packets may come from, or go to, other tenants under their own addresses.
pub(super) fn any(rules: &NodeRules<'_>) -> bool {
    rules.shared || !rules.peers.is_empty()
}

/// The addresses of other tenants' workloads that a packet may have, with the workloads: those in the pools of peers, and
/// where all tenants are routed in one namespace, all that are not this tenant's own.
fn others<'a>(rules: &'a NodeRules<'_>, domain: &'a Domain) -> impl Iterator<Item = (IpAddr, &'a Endpoint)> {
    let tenants = rules.engine.domains().filter(move |other| other.tenant != domain.tenant);
    tenants.flat_map(move |other| {
        let peer = rules.peers.get(&other.tenant);
        let all = other.endpoints.values().map(|placed| &placed.endpoint);
        let addresses = all.flat_map(|endpoint| endpoint.addresses().map(move |address| (address, endpoint)));
        addresses.filter(move |(address, _)| {
            peer.is_some_and(|peer| peer.contains(*address)) || rules.shared && !domain.has_address(*address)
        })
    })
}

/// The addresses of other tenants' workloads that a grant reaches, each with its peer.
pub(super) fn reached(rules: &NodeRules<'_>, domain: &Domain) -> BTreeMap<IpAddr, u32> {
    let mut found = BTreeMap::new();
    for (address, endpoint) in others(rules, domain) {
        if let Some(number) = domain.foreign_peer(endpoint.profile()) {
            // Of workloads that claim one address, it is the first one's, as everywhere.
            found.entry(address).or_insert(number);
        }
    }
    found
}

/// All addresses of a family that are other tenants'.
pub(super) fn beyond(rules: &NodeRules<'_>, domain: &Domain, family: IpFamily) -> NamedSet {
    let kind = match family {
        IpFamily::V4 => FieldType::V4,
        IpFamily::V6 => FieldType::V6,
    };
    let mut set = NamedSet::new([kind], DataType::Member).with_intervals();
    let pools = rules.peers.values().flat_map(|peer| &peer.pools).copied();
    let hosts = others(rules, domain).map(|(address, _)| IpNet::from(address));
    let nets: Vec<IpNet> = pools.chain(hosts).filter(|net| IpFamily::of(net.addr()) == family).collect();
    for net in IpNet::aggregate(&nets) {
        let key = SetKey::new([Interval::new(net.network().into(), net.broadcast().into())]);
        set.elements.insert(key, Data::Member);
    }
    set
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
