//! The table of a tenant on a node. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::super::compile::Domain;
use super::super::{Direction, Endpoint, NamedPorts, Protocol, Traffic};
use super::elements::{Verdicts, bytes, ports, protocols, verdict};
use super::{NodeRules, class_hash, hash, name, peers};
use crate::addr::IpFamily;
use crate::dataplane::rules::{
    BaseChain, Chain, Comparison, ConnectionState, Data, DataType, Field, FieldType, Hook, Interval,
    MarkSource, NamedSet, Rejection, RuleName, RuleTable, SetKey, Statement, Value, Verdict,
};
use crate::dataplane::state::InvalidKernelName;

/// Before connections are tracked.
const BEFORE_TRACKING: i32 = -300;

const NO_PORTS: &NamedPorts = &NamedPorts::NONE;

type Made<T> = Result<T, InvalidKernelName>;

struct Builder<'a> {
    rules: &'a NodeRules<'a>,
    domain: &'a Domain,
    local: Vec<&'a Endpoint>,
    /// A mark for each peer.
    marks: BTreeMap<u32, u32>,
    table: RuleTable,
}

pub(super) fn table(rules: &NodeRules<'_>) -> Made<RuleTable> {
    let nothing;
    let domain = match rules.engine.domain(&rules.tenant) {
        Some(domain) => domain,
        // Where others route too, what is known to be this tenant's alone is dropped: its links, and its stand-ins.
        None if rules.shared => {
            nothing = Domain::new(rules.tenant.clone());
            &nothing
        }
        None => return Ok(RuleTable::new().with_chain(name("forward")?, forward_base(rules))),
    };
    let all = rules.engine.world().endpoints_of(&rules.tenant);
    let local = all.filter(|endpoint| *endpoint.node() == rules.node).collect();
    let mut builder = Builder { rules, domain, local, marks: marks(domain), table: RuleTable::new() };
    builder.addresses()?;
    let jumps = builder.directions()?;
    builder.forward(jumps)?;
    Ok(builder.table)
}

fn forward_base(rules: &NodeRules<'_>) -> Chain {
    let base = BaseChain::filter(Hook::Forward);
    Chain::base(if rules.shared { base } else { base.dropping() })
}

/// A mark for each peer, made of what it is; the rare ones that would be equal are counted on, in a fixed order.
fn marks(domain: &Domain) -> BTreeMap<u32, u32> {
    let classes = domain.peer_numbers().into_iter().filter_map(|peer| Some((domain.class_of(peer)?, peer)));
    let classes: BTreeMap<_, _> = classes.collect();
    let mut taken = BTreeSet::from([0]);
    let mut marks = BTreeMap::new();
    for (class, peer) in classes {
        let full = class_hash(&class);
        let mut mark = u32::try_from((full ^ (full >> 32)) & 0xffff_ffff).unwrap_or_default();
        while !taken.insert(mark) {
            mark = mark.wrapping_add(1);
        }
        marks.insert(peer, mark);
    }
    marks
}

fn family_fields(family: IpFamily) -> (Field, Field, FieldType, &'static str) {
    match family {
        IpFamily::V4 => (Field::V4Source, Field::V4Destination, FieldType::V4, "4"),
        IpFamily::V6 => (Field::V6Source, Field::V6Destination, FieldType::V6, "6"),
    }
}

fn jump(to: &RuleName) -> Data {
    Data::Verdict(Verdict::Jump(to.clone()))
}

fn in_set(fields: impl IntoIterator<Item = Field>, set: &RuleName) -> Statement {
    Statement::InSet { fields: fields.into_iter().collect(), set: set.clone(), negate: false }
}

impl Builder<'_> {
    fn set(&mut self, at: &str, set: NamedSet) -> Made<RuleName> {
        let at = name(at)?;
        self.table.sets.insert(at.clone(), set);
        Ok(at)
    }

    /// Which address is which peer, which are here, and which are the host's.
    fn addresses(&mut self) -> Made<()> {
        let foreign = self.rules.foreign.iter().map(|(address, key)| {
            let endpoint = self.rules.engine.world().endpoint(key);
            (*address, endpoint.and_then(|endpoint| self.domain.foreign_peer(endpoint.profile())))
        });
        // An address of another tenant's workload that is gone, or that no grant reaches, is nobody's: it is never taken
        // for one outside.
        let foreign: BTreeMap<IpAddr, Option<u32>> = foreign.collect();
        let reached = peers::reached(self.rules, self.domain);
        let known = foreign.iter().filter_map(|(address, peer)| Some((*address, (*peer)?)));
        let known = known.chain(reached.clone()).collect();
        let beyond = peers::beyond(self.rules, self.domain);
        let kin = peers::kin(self.rules, self.domain);
        for family in IpFamily::BOTH {
            let (_, _, kind, digit) = family_fields(family);
            let mut peers = NamedSet::new([kind], DataType::Mark).with_intervals();
            for (first, last, peer) in self.domain.address_map(self.rules.engine.world(), family, &known) {
                let Some(mark) = self.marks.get(&peer) else { continue };
                let key = SetKey::new([Interval::new(first.into(), last.into())]);
                peers.elements.insert(key, Data::Mark(*mark));
            }
            self.set(&format!("peers{digit}"), peers)?;
            let strangers = foreign.iter().filter(|(_, peer)| peer.is_none()).map(|(address, _)| *address);
            self.members(&format!("strangers{digit}"), family, strangers.collect())?;
            self.members(&format!("foreign{digit}"), family, foreign.keys().copied().collect())?;
            if peers::any(self.rules) {
                self.set(&format!("beyond{digit}"), peers::members(&beyond, family))?;
                self.set(&format!("kin{digit}"), peers::members(&kin, family))?;
                self.members(&format!("reached{digit}"), family, reached.keys().copied().collect())?;
            }
            let local = self.local.iter().filter_map(|endpoint| endpoint.address(family)).collect();
            self.members(&format!("local{digit}"), family, local)?;
            self.members(&format!("hosts{digit}"), family, self.rules.hosts.iter().copied().collect())?;
            self.links(family, digit)?;
            self.selves(family, digit)?;
        }
        let links = self.rules.links.values().map(|link| SetKey::exact([Value::Link(link.clone())]));
        let mut set = NamedSet::new([FieldType::Link], DataType::Member);
        set.elements.extend(links.map(|key| (key, Data::Member)));
        self.set("links", set)?;
        let essential =
            |make: fn(u8, u8) -> Traffic| (0..=u8::MAX).filter(move |kind| make(*kind, 0).is_essential());
        let mut v4 = NamedSet::new([FieldType::IcmpType], DataType::Member);
        v4.elements.extend(
            essential(Traffic::icmp).map(|kind| (SetKey::exact([Value::IcmpType(kind)]), Data::Member)),
        );
        self.set("essential4", v4)?;
        let mut v6 = NamedSet::new([FieldType::Icmpv6Type], DataType::Member);
        let kinds = essential(Traffic::icmp_v6);
        v6.elements.extend(kinds.map(|kind| (SetKey::exact([Value::Icmpv6Type(kind)]), Data::Member)));
        self.set("essential6", v6)?;
        Ok(())
    }

    fn members(&mut self, at: &str, family: IpFamily, addresses: Vec<IpAddr>) -> Made<RuleName> {
        let (_, _, kind, _) = family_fields(family);
        let mut set = NamedSet::new([kind], DataType::Member);
        for address in addresses.into_iter().filter(|address| IpFamily::of(*address) == family) {
            set.elements.insert(SetKey::exact([address.into()]), Data::Member);
        }
        self.set(at, set)
    }

    /// Who sends to itself: by way of a service that it is behind, or such a packet would not be here.
    fn selves(&mut self, family: IpFamily, digit: &str) -> Made<RuleName> {
        let (_, _, kind, _) = family_fields(family);
        let mut set = NamedSet::new([kind, kind], DataType::Member);
        for address in self.local.iter().filter_map(|endpoint| endpoint.address(family)) {
            set.elements.insert(SetKey::exact([address.into(), address.into()]), Data::Member);
        }
        self.set(&format!("selves{digit}"), set)
    }

    /// Which link has which addresses.
    fn links(&mut self, family: IpFamily, digit: &str) -> Made<()> {
        let (_, _, kind, _) = family_fields(family);
        let mut own = NamedSet::new([FieldType::Link, kind], DataType::Member);
        for endpoint in &self.local {
            let link = self.rules.links.get(&endpoint.key().id);
            if let Some((link, address)) = link.zip(endpoint.address(family)) {
                own.elements.insert(SetKey::exact([Value::Link(link.clone()), address.into()]), Data::Member);
            }
        }
        self.set(&format!("own{digit}"), own)?;
        Ok(())
    }

    /// The chains of both directions; tells for each address which to jump to.
    fn directions(&mut self) -> Made<BTreeMap<(Direction, IpFamily), NamedSet>> {
        let mut jumps = BTreeMap::new();
        for direction in Direction::ALL {
            let mut chains = BTreeMap::new();
            for endpoint in self.local.clone() {
                let Some(set) = self.domain.set_of(endpoint.profile()) else { continue };
                let chain = match chains.get(&set) {
                    Some(chain) => Clone::clone(chain),
                    None => {
                        let chain = self.chain(set, direction)?;
                        chains.insert(set, chain.clone());
                        chain
                    }
                };
                for family in IpFamily::BOTH {
                    let (_, _, kind, _) = family_fields(family);
                    let map = jumps
                        .entry((direction, family))
                        .or_insert_with(|| NamedSet::new([kind], DataType::Verdict));
                    if let Some(address) = endpoint.address(family) {
                        // Of workloads that claim one address, it is the first one's, as everywhere.
                        map.elements.entry(SetKey::exact([address.into()])).or_insert_with(|| jump(&chain));
                    }
                }
            }
        }
        Ok(jumps)
    }

    /// What happens to what policies deny: it is dropped, or refused by a chain of its own.
    fn denied(&mut self) -> Made<Verdict> {
        if !self.rules.refusing {
            return Ok(Verdict::Drop);
        }
        let tcp = Value::Protocol(Protocol::TCP.number());
        let tcp = Statement::Compare(Field::Protocol, Comparison::Equal, tcp);
        let chain = Chain::default().with_rule([tcp, Statement::Reject(Rejection::TcpReset)]);
        let chain = chain.with_rule([Statement::Reject(Rejection::Prohibited)]);
        let at = name("refused")?;
        self.table.chains.insert(at.clone(), chain);
        Ok(Verdict::Goto(at))
    }

    /// The chain of a set: what it says of marked peers, then of all others, then nothing passes.
    fn chain(&mut self, set: u32, direction: Direction) -> Made<RuleName> {
        let (policies, own) = self.domain.set_parts(set).unwrap_or((Vec::new(), NO_PORTS));
        let id = hash(|fnv| {
            policies.iter().try_for_each(|policy| write!(fnv, "{policy:?}|"))?;
            own.iter().try_for_each(|(name, protocol, port)| write!(fnv, "{name}={protocol}/{port}|"))
        });
        let letter = direction.of(("i", "e"));
        // Names of policies are the tenant's to choose, and those of two sets may be made to give one number.
        let mut id = id;
        while self.table.chains.contains_key(&name(&format!("{letter}-{id:016x}"))?) {
            id = id.wrapping_add(1);
        }
        let at = |what: &str| format!("{letter}{what}-{id:016x}");
        let denied = self.denied()?;
        let common = self.domain.runs(set, direction, None);
        let mut named = Maps::new(true);
        for peer in self.domain.named_peers(set, direction) {
            let Some(mark) = self.marks.get(&peer) else { continue };
            let own = self.domain.runs(set, direction, Some(peer));
            // Another tenant learns nothing, not even that there is somebody.
            let denied = if self.domain.is_foreign(peer) { &Verdict::Drop } else { &denied };
            named.add(Some(*mark), &Verdicts::differing(&own, &common), denied);
        }
        let mut others = Maps::new(false);
        others.add(None, &Verdicts::of(&common).passing(), &denied);
        let mut chain = Chain::default().with_rule([Statement::SetMark(MarkSource::Value(0))]);
        for family in IpFamily::BOTH {
            let (source, destination, _, digit) = family_fields(family);
            let fields = vec![direction.of((source, destination))];
            let map = name(&format!("peers{digit}"))?;
            chain = chain.with_rule([Statement::SetMark(MarkSource::Map { fields, map })]);
        }
        for (maps, what) in [(named, "n"), (others, "o")] {
            let marked = maps.marked;
            for (map, message, suffix) in [
                (maps.icmp_v6, [Field::Icmpv6Type, Field::Icmpv6Code], "6"),
                (maps.icmp, [Field::IcmpType, Field::IcmpCode], "4"),
            ] {
                let map = self.set(&at(&format!("{what}{suffix}")), map)?;
                let fields = marked.then_some(Field::Mark).into_iter().chain(message).collect();
                chain = chain.with_rule([Statement::VerdictMap { fields, map }]);
            }
            let map = self.set(&at(what), maps.ports)?;
            let fields = [Field::Protocol, Field::DestinationPort];
            let fields = marked.then_some(Field::Mark).into_iter().chain(fields).collect();
            chain = chain.with_rule([Statement::VerdictMap { fields, map }]);
        }
        let chain_name = name(&at(""))?;
        let chain = chain.with_rule([Statement::Verdict(denied)]);
        self.table.chains.insert(chain_name.clone(), chain);
        Ok(chain_name)
    }

    fn forward(&mut self, jumps: BTreeMap<(Direction, IpFamily), NamedSet>) -> Made<()> {
        let accept = || Statement::Verdict(Verdict::Accept);
        let drop = || Statement::Verdict(Verdict::Drop);
        let local = [name("local4")?, name("local6")?];
        let mut chain = forward_base(self.rules);
        for kind in [134, 137] {
            let router = Statement::Compare(Field::Icmpv6Type, Comparison::Equal, Value::Icmpv6Type(kind));
            let [_, local] = &local;
            chain = chain.with_rule([router, in_set([Field::V6Source], local), drop()]);
        }
        for family in IpFamily::BOTH {
            let (source, destination, _, digit) = family_fields(family);
            let fields = vec![Field::InLink, source];
            let own = Statement::InSet { fields, set: name(&format!("own{digit}"))?, negate: true };
            chain = chain.with_rule([in_set([Field::InLink], &name("links")?), own, drop()]);
            for field in [source, destination] {
                chain = chain.with_rule([in_set([field], &name(&format!("strangers{digit}"))?), drop()]);
            }
        }
        if self.rules.shared {
            // Neither from nor to a workload of ours: not ours to decide.
            for family in IpFamily::BOTH {
                let (source, destination, _, digit) = family_fields(family);
                let outside = |field| {
                    Ok(Statement::InSet {
                        fields: vec![field],
                        set: name(&format!("local{digit}"))?,
                        negate: true,
                    })
                };
                chain = chain.with_rule([outside(source)?, outside(destination)?, accept()]);
            }
        }
        if peers::any(self.rules) {
            for family in IpFamily::BOTH {
                let (source, destination, _, digit) = family_fields(family);
                chain = chain.with_rule(peers::told(family, (source, destination))?);
                chain = chain.with_rule(peers::stranger(source, digit)?);
                chain = chain.with_rule(peers::stranger(destination, digit)?);
            }
        }
        for way in self.rules.peers.values().filter_map(|peer| peer.way.as_ref()) {
            chain = chain.with_rule(peers::handed_on(way));
        }
        for (family, field) in [(IpFamily::V4, Field::IcmpType), (IpFamily::V6, Field::Icmpv6Type)] {
            let (source, destination, _, digit) = family_fields(family);
            let mut rule = vec![in_set([field], &name(&format!("essential{digit}"))?)];
            let elsewhere = ["foreign", "beyond"].into_iter().take(1 + usize::from(peers::any(self.rules)));
            for set in elsewhere {
                let set = name(&format!("{set}{digit}"))?;
                let not = |field| Statement::InSet { fields: vec![field], set: set.clone(), negate: true };
                rule.extend([not(source), not(destination)]);
            }
            rule.push(accept());
            chain = chain.with_rule(rule);
        }
        let known = BTreeSet::from([ConnectionState::Established, ConnectionState::Related]);
        chain = chain.with_rule([Statement::Connection(known), accept()]);
        for family in IpFamily::BOTH {
            let (source, destination, _, digit) = family_fields(family);
            chain =
                chain.with_rule([in_set([source, destination], &name(&format!("selves{digit}"))?), accept()]);
            let host = in_set([source], &name(&format!("hosts{digit}"))?);
            chain =
                chain.with_rule([host, in_set([destination], &name(&format!("local{digit}"))?), accept()]);
        }
        for ((direction, family), map) in jumps {
            let (source, destination, _, digit) = family_fields(family);
            let map = self.set(&format!("{direction}{digit}"), map)?;
            let fields = vec![direction.of((destination, source))];
            chain = chain.with_rule([Statement::VerdictMap { fields, map }]);
        }
        for family in IpFamily::BOTH {
            let (source, destination, _, digit) = family_fields(family);
            for field in [source, destination] {
                chain = chain.with_rule([in_set([field], &name(&format!("local{digit}"))?), accept()]);
            }
        }
        self.table.chains.insert(name("forward")?, chain);
        if let Some(zone) = self.rules.zone {
            let base = BaseChain::filter(Hook::Prerouting).with_priority(BEFORE_TRACKING);
            let chain = Chain::base(base).with_rule([Statement::SetZone(zone)]);
            self.table.chains.insert(name("zone")?, chain);
        }
        Ok(())
    }
}

/// The three maps of verdicts.
struct Maps {
    marked: bool,
    ports: NamedSet,
    icmp: NamedSet,
    icmp_v6: NamedSet,
}

impl Maps {
    fn new(marked: bool) -> Self {
        let map = |kinds: &[FieldType]| {
            let mark = marked.then_some(FieldType::Mark);
            NamedSet::new(mark.into_iter().chain(kinds.iter().copied()), DataType::Verdict).with_intervals()
        };
        let ports = map(&[FieldType::Protocol, FieldType::Port]);
        let icmp = map(&[FieldType::IcmpType, FieldType::IcmpCode]);
        let icmp_v6 = map(&[FieldType::Icmpv6Type, FieldType::Icmpv6Code]);
        Self { marked, ports, icmp, icmp_v6 }
    }

    fn add(&mut self, mark: Option<u32>, verdicts: &Verdicts, denied: &Verdict) {
        let key = |parts: Vec<Interval>| {
            SetKey::new(mark.map(|mark| Interval::from(Value::Mark(mark))).into_iter().chain(parts))
        };
        for (protocol, numbers, passes) in &verdicts.ports {
            self.ports
                .elements
                .insert(key(vec![protocols(*protocol), ports(*numbers)]), verdict(*passes, denied));
        }
        for (types, codes, passes) in &verdicts.icmp {
            let message = vec![bytes(Value::IcmpType, *types), bytes(Value::IcmpCode, *codes)];
            self.icmp.elements.insert(key(message), verdict(*passes, denied));
        }
        for (types, codes, passes) in &verdicts.icmp_v6 {
            let message = vec![bytes(Value::Icmpv6Type, *types), bytes(Value::Icmpv6Code, *codes)];
            self.icmp_v6.elements.insert(key(message), verdict(*passes, denied));
        }
    }
}
