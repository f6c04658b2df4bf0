//! Rule tables straight from the evaluator, pair by pair: the plainest there can be.

use std::collections::BTreeMap;

use hivemind_core::NodeId;
use hivemind_net::dataplane::KernelState;
use hivemind_net::dataplane::rules::{
    BaseChain, Chain, Comparison, ConnectionState, Data, DataType, Family, Field, FieldType, Hook, NamedSet,
    RuleName, RuleTable, SetKey, Statement, TableKey, Value, Verdict,
};
use hivemind_net::overlay::OverlayWorkload;
use hivemind_net::policy::IpFamily;

use crate::cluster::{Cluster, KINDS, TENANTS, tenant};
use crate::probe::Kind;

fn rn(text: &str) -> RuleName {
    text.parse().unwrap()
}

/// Puts the policies of each tenant in force where its packets are routed.
pub(crate) fn add_tables(state: &mut KernelState, cluster: &Cluster, node: &NodeId) {
    for (of, _) in TENANTS {
        let local: Vec<_> =
            cluster.overlay.workloads(&tenant(of)).filter(|w| w.node == *node).cloned().collect();
        let Some(first) = local.first() else { continue };
        let link = first.effective_link().unwrap();
        let table = table(cluster, of, &local);
        let (_, router) =
            state.namespaces.iter_mut().find(|(_, netns)| netns.links.contains_key(&link)).unwrap();
        router.tables.insert(TableKey::new(Family::Inet, rn("hivemind")), table);
    }
}

fn table(cluster: &Cluster, of: &str, local: &[OverlayWorkload]) -> RuleTable {
    let mut table = RuleTable::new();
    let map = || NamedSet::new([FieldType::Link], DataType::Verdict);
    let mut sides = BTreeMap::from([("in", map()), ("out", map())]);
    for (number, workload) in local.iter().enumerate() {
        for (side, map) in &mut sides {
            let name = format!("{side}-{number}");
            let link = SetKey::exact([Value::Link(workload.effective_link().unwrap())]);
            map.elements.insert(link, Data::Verdict(Verdict::Jump(rn(&name))));
            table = add_side(table, cluster, of, workload, side, &name);
        }
    }
    let by = |field, map: &str| Statement::VerdictMap { fields: vec![field], map: rn(map) };
    let states = [ConnectionState::Established, ConnectionState::Related].into();
    let forward = Chain::base(BaseChain::filter(Hook::Forward).dropping())
        .with_rule([Statement::Connection(states), Statement::Verdict(Verdict::Accept)])
        .with_rule([by(Field::InLink, "out")])
        .with_rule([by(Field::OutLink, "in")])
        .with_rule([Statement::Counter, Statement::Verdict(Verdict::Accept)]);
    for (side, map) in sides {
        table = table.with_set(rn(side), map);
    }
    table.with_chain(rn("forward"), forward)
}

fn add_side(
    mut table: RuleTable,
    cluster: &Cluster,
    of: &str,
    own: &OverlayWorkload,
    side: &str,
    name: &str,
) -> RuleTable {
    let mut chain = Chain::default();
    for (family, kind, field) in [
        (IpFamily::V4, FieldType::V4, if side == "in" { Field::V4Source } else { Field::V4Destination }),
        (IpFamily::V6, FieldType::V6, if side == "in" { Field::V6Source } else { Field::V6Destination }),
    ] {
        let mut ports = NamedSet::new([kind, FieldType::Protocol, FieldType::Port], DataType::Member);
        let mut echoes = NamedSet::new([kind], DataType::Member);
        for peer in cluster.overlay.workloads(&tenant(of)) {
            let Some(address) = peer.addresses().find(|a| a.is_ipv6() == (family == IpFamily::V6)) else {
                continue;
            };
            for probe in KINDS {
                let (from, to) = if side == "in" { (peer, own) } else { (own, peer) };
                if !cluster.allowed(of, from.id.as_str(), to.id.as_str(), family, probe) {
                    continue;
                }
                let address = Value::from(address);
                match probe {
                    Kind::Tcp(port) => drop(ports.elements.insert(
                        SetKey::exact([address, Value::Protocol(6), Value::Port(port)]),
                        Data::Member,
                    )),
                    Kind::Udp(port) => drop(ports.elements.insert(
                        SetKey::exact([address, Value::Protocol(17), Value::Port(port)]),
                        Data::Member,
                    )),
                    Kind::Echo => drop(echoes.elements.insert(SetKey::exact([address]), Data::Member)),
                }
            }
        }
        let (ports_name, echoes_name) =
            (rn(&format!("{name}-{family:?}")), rn(&format!("{name}-{family:?}-echo")));
        let echo = match family {
            IpFamily::V4 => Statement::Compare(Field::IcmpType, Comparison::Equal, Value::IcmpType(8)),
            _ => Statement::Compare(Field::Icmpv6Type, Comparison::Equal, Value::Icmpv6Type(128)),
        };
        let among = |fields: &[Field], set: &RuleName| Statement::InSet {
            fields: fields.to_vec(),
            set: set.clone(),
            negate: false,
        };
        chain = chain
            .with_rule([
                among(&[field, Field::Protocol, Field::DestinationPort], &ports_name),
                Statement::Verdict(Verdict::Return),
            ])
            .with_rule([echo, among(&[field], &echoes_name), Statement::Verdict(Verdict::Return)]);
        table = table.with_set(ports_name, ports).with_set(echoes_name, echoes);
    }
    table.with_chain(rn(name), chain.with_rule([Statement::Counter, Statement::Verdict(Verdict::Drop)]))
}
