//! Other tenants to whose networks there is a way. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::compile::Domain;
use super::{NodeRules, PeerNetwork, name};
use crate::addr::IpFamily;
use crate::dataplane::rules::{
    Comparison, Data, DataType, Field, FieldType, Interval, NamedSet, SetKey, Statement, Value, Verdict,
};
use crate::dataplane::state::InvalidKernelName;

/// The addresses of other tenants' workloads that a grant reaches, each with its peer.
pub(super) fn reached(rules: &NodeRules<'_>, domain: &Domain) -> BTreeMap<IpAddr, u32> {
    let mut found = BTreeMap::new();
    for peer in rules.peers.values() {
        let all = rules.engine.domain(&peer.tenant).into_iter().flat_map(|other| other.endpoints.values());
        for endpoint in all.map(|placed| &placed.endpoint) {
            let Some(number) = domain.foreign_peer(endpoint.profile()) else { continue };
            for address in endpoint.addresses().filter(|address| peer.contains(*address)) {
                // Of workloads that claim one address, it is the first one's, as everywhere.
                found.entry(address).or_insert(number);
            }
        }
    }
    found
}

/// All addresses of a family that are other tenants'.
pub(super) fn beyond(rules: &NodeRules<'_>, family: IpFamily) -> NamedSet {
    let kind = match family {
        IpFamily::V4 => FieldType::V4,
        IpFamily::V6 => FieldType::V6,
    };
    let mut set = NamedSet::new([kind], DataType::Member).with_intervals();
    let pools = rules.peers.values().flat_map(|peer| &peer.pools).copied();
    let pools: Vec<IpNet> = pools.filter(|pool| IpFamily::of(pool.addr()) == family).collect();
    for pool in IpNet::aggregate(&pools) {
        let key = SetKey::new([Interval::new(pool.network().into(), pool.broadcast().into())]);
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
pub(super) fn handed_on(peer: &PeerNetwork) -> [Statement; 3] {
    let by = |field, link: &_| Statement::Compare(field, Comparison::Equal, Value::Link(Clone::clone(link)));
    let (inward, outward) = (by(Field::InLink, &peer.tunnel), by(Field::OutLink, &peer.link));
    [inward, outward, Statement::Verdict(Verdict::Accept)]
}
