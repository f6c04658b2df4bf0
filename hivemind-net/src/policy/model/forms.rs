//! The written forms: Kubernetes' field names, checked as a whole. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::labels::{LabelSelector, Selector};
use hivemind_core::{Namespace, TenantRef};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::block::parse_cidr;
use super::network::check_names;
use super::port::Kind;
use super::{
    Action, ClusterPolicy, ClusterRule, Direction, InvalidBlock, InvalidPolicy, InvalidPort, IpBlock,
    NamedPort, NetworkPolicy, Peer, PolicyName, PolicyProblem, PolicyRule, PolicySpec, PortMatch, Protocol,
    Tier, WorkloadPeer,
};

/// A selector as text, or in Kubernetes' structured form.
#[derive(Clone, Default)]
pub(super) struct SelectorForm(Selector);

impl Serialize for SelectorForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SelectorForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SelectorForm;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a selector as text, or an object with matchLabels and matchExpressions")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SelectorForm, E> {
                text.parse().map(SelectorForm).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SelectorForm, A::Error> {
                let form = LabelSelector::deserialize(MapAccessDeserializer::new(map))?;
                form.try_into().map(SelectorForm).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockForm {
    cidr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<Vec<String>>,
}

impl TryFrom<BlockForm> for IpBlock {
    type Error = InvalidBlock;
    fn try_from(form: BlockForm) -> Result<Self, InvalidBlock> {
        let whole = Self::new(parse_cidr(&form.cidr)?)?;
        let except = form.except.unwrap_or_default();
        except.iter().try_fold(whole, |block, except| block.except(parse_cidr(except)?))
    }
}

impl From<IpBlock> for BlockForm {
    fn from(block: IpBlock) -> Self {
        let except: Vec<_> = block.exceptions().iter().map(ToString::to_string).collect();
        Self { cidr: block.cidr().to_string(), except: Some(except).filter(|all| !all.is_empty()) }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "a port is a number of 1 to 65535, or a name")]
enum NumberOrName {
    Number(u16),
    Name(String),
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PortForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<NumberOrName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

impl TryFrom<PortForm> for PortMatch {
    type Error = PolicyProblem;
    fn try_from(form: PortForm) -> Result<Self, PolicyProblem> {
        let PortForm { protocol, port, end_port, kind, code } = form;
        if protocol.as_deref() == Some("any") {
            let more = port.is_some() || end_port.is_some() || kind.is_some() || code.is_some();
            return if more { Err(InvalidPort::AnyWithMore.into()) } else { Ok(Self::any()) };
        }
        let protocol: Protocol = protocol.map_or(Ok(Protocol::TCP), |text| text.parse())?;
        let made = match (port, end_port, kind, code) {
            (None, None, None, None) => Ok(Self::protocol(protocol)),
            (None, None, Some(kind), code) => Self::icmp(protocol, kind, code),
            (None, None, None, Some(code)) => Err(InvalidPort::CodeWithoutType(code)),
            (None, Some(end), ..) => Err(InvalidPort::EndWithoutStart(end)),
            (Some(NumberOrName::Number(port)), end, None, None) => {
                Self::range(protocol, port, end.unwrap_or(port))
            }
            (Some(NumberOrName::Name(name)), None, None, None) => Self::named(protocol, name.parse()?),
            (Some(NumberOrName::Name(_)), Some(end), None, None) => Err(InvalidPort::EndWithoutStart(end)),
            (Some(_), ..) => Err(InvalidPort::PortAndType),
        };
        Ok(made?)
    }
}

impl From<PortMatch> for PortForm {
    fn from(port: PortMatch) -> Self {
        let protocol = |protocol: Protocol| Some(protocol.to_string());
        let empty = Self::default();
        match port.0 {
            Kind::Any => Self { protocol: Some("any".to_owned()), ..empty },
            Kind::Numbers(of, 0, u16::MAX) => Self { protocol: protocol(of), ..empty },
            Kind::Numbers(of, first, last) if of.is_icmp() => {
                let ([kind, low], [_, high]) = (first.to_be_bytes(), last.to_be_bytes());
                let code = Some(low).filter(|_| low == high);
                Self { protocol: protocol(of), kind: Some(kind), code, ..empty }
            }
            Kind::Numbers(of, first, last) => {
                let end_port = Some(last).filter(|_| first != last);
                Self { protocol: protocol(of), port: Some(NumberOrName::Number(first)), end_port, ..empty }
            }
            Kind::Named(NamedPort { protocol: of, name }) => {
                Self { protocol: protocol(of), port: Some(NumberOrName::Name(name.into())), ..empty }
            }
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PeerForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_selector: Option<SelectorForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace_selector: Option<SelectorForm>,
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "podSelector")]
    workload_selector: Option<SelectorForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip_block: Option<BlockForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns_name: Option<String>,
}

impl TryFrom<PeerForm> for Peer {
    type Error = PolicyProblem;
    fn try_from(form: PeerForm) -> Result<Self, PolicyProblem> {
        let PeerForm { tenant_selector, namespace_selector, workload_selector, ip_block, dns_name } = form;
        let inner = |form: Option<SelectorForm>| form.map(|form| form.0);
        let workloads =
            WorkloadPeer::all_of(inner(tenant_selector), inner(namespace_selector), inner(workload_selector));
        let selects =
            [&workloads.tenants, &workloads.namespaces, &workloads.workloads].iter().any(|s| s.is_some());
        match (selects, ip_block, dns_name) {
            (true, None, None) => Ok(Self::Workloads(workloads)),
            (false, Some(block), None) => Ok(Self::Block(block.try_into()?)),
            (false, None, Some(name)) => Ok(Self::Names(name.parse()?)),
            (false, None, None) => Err(PolicyProblem::NoPeer),
            _ => Err(PolicyProblem::MixedPeer),
        }
    }
}

impl From<WorkloadPeer> for PeerForm {
    fn from(peer: WorkloadPeer) -> Self {
        Self {
            tenant_selector: peer.tenants.map(SelectorForm),
            namespace_selector: peer.namespaces.map(SelectorForm),
            workload_selector: peer.workloads.map(SelectorForm),
            ..Self::default()
        }
    }
}

impl From<Peer> for PeerForm {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Workloads(peer) => peer.into(),
            Peer::Block(block) => Self { ip_block: Some(block.into()), ..Self::default() },
            Peer::Names(name) => Self { dns_name: Some(name.to_string()), ..Self::default() },
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IngressForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Vec<PeerForm>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortForm>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EgressForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Vec<PeerForm>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortForm>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyForm {
    tenant: TenantRef,
    namespace: Namespace,
    name: PolicyName,
    spec: PolicySpec,
}

impl From<PolicyForm> for NetworkPolicy {
    fn from(form: PolicyForm) -> Self {
        Self::new(form.tenant, form.namespace, form.name, form.spec)
    }
}

impl From<NetworkPolicy> for PolicyForm {
    fn from(policy: NetworkPolicy) -> Self {
        let NetworkPolicy { tenant, namespace, name, spec, .. } = policy;
        Self { tenant, namespace, name, spec }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SpecForm {
    #[serde(default, alias = "podSelector")]
    workload_selector: Option<SelectorForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy_types: Option<Vec<Direction>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ingress: Option<Vec<IngressForm>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<Vec<EgressForm>>,
}

type Lists = (Option<Vec<PeerForm>>, Option<Vec<PortForm>>);

/// Reads one rule's lists; `null`, absent and empty are all "no condition", as in Kubernetes.
fn rule(direction: Direction, index: usize, (peers, ports): Lists) -> Result<PolicyRule, InvalidPolicy> {
    let list = direction.of(("from", "to"));
    let at = |list: &str, item: usize| format!("{direction}[{index}].{list}[{item}]");
    let peers = peers.unwrap_or_default().into_iter().enumerate();
    let peers = peers.map(|(item, form)| Peer::try_from(form).map_err(|e| e.at(at(list, item))));
    let ports = ports.unwrap_or_default().into_iter().enumerate();
    let ports = ports.map(|(item, form)| PortMatch::try_from(form).map_err(|e| e.at(at("ports", item))));
    let rule =
        PolicyRule { peers: peers.collect::<Result<_, _>>()?, ports: ports.collect::<Result<_, _>>()? };
    check_names(direction, index, &rule.peers)?;
    Ok(rule)
}

fn forms<P, F: From<P>>(all: impl IntoIterator<Item = P>) -> Option<Vec<F>> {
    Some(all.into_iter().map(F::from).collect()).filter(|all: &Vec<F>| !all.is_empty())
}

impl TryFrom<SpecForm> for PolicySpec {
    type Error = InvalidPolicy;
    fn try_from(form: SpecForm) -> Result<Self, InvalidPolicy> {
        let ingress = form.ingress.unwrap_or_default().into_iter().map(|one| (one.from, one.ports));
        let egress = form.egress.unwrap_or_default().into_iter().map(|one| (one.to, one.ports));
        let read = |direction, lists: Vec<Lists>| -> Result<Vec<_>, _> {
            lists.into_iter().enumerate().map(|(index, lists)| rule(direction, index, lists)).collect()
        };
        let ingress = read(Direction::Ingress, ingress.collect())?;
        let egress = read(Direction::Egress, egress.collect())?;
        // Kubernetes' default: ingress always, egress if there are egress rules.
        let types = form.policy_types.filter(|types| !types.is_empty()).unwrap_or_else(|| {
            if egress.is_empty() { vec![Direction::Ingress] } else { Direction::ALL.to_vec() }
        });
        let isolated = |direction, rules| types.contains(&direction).then_some(rules);
        Ok(Self {
            ingress: isolated(Direction::Ingress, ingress),
            egress: isolated(Direction::Egress, egress),
            ..Self::silent(form.workload_selector.unwrap_or_default().0)
        })
    }
}

impl From<PolicySpec> for SpecForm {
    fn from(spec: PolicySpec) -> Self {
        let isolated =
            Direction::ALL.into_iter().filter(|direction| spec.rules(*direction).is_some()).collect();
        let ingress = |rule: PolicyRule| IngressForm { from: forms(rule.peers), ports: forms(rule.ports) };
        let egress = |rule: PolicyRule| EgressForm { to: forms(rule.peers), ports: forms(rule.ports) };
        Self {
            workload_selector: Some(SelectorForm(spec.selector)),
            policy_types: Some(isolated),
            ingress: spec.ingress.map(|rules| rules.into_iter().map(ingress).collect()),
            egress: spec.egress.map(|rules| rules.into_iter().map(egress).collect()),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterRuleForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<PolicyName>,
    action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Vec<PeerForm>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Vec<PeerForm>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<PortForm>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClusterForm {
    name: PolicyName,
    tier: Tier,
    priority: u16,
    subject: PeerForm,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ingress: Vec<ClusterRuleForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    egress: Vec<ClusterRuleForm>,
}

impl TryFrom<ClusterForm> for ClusterPolicy {
    type Error = InvalidPolicy;
    fn try_from(form: ClusterForm) -> Result<Self, InvalidPolicy> {
        let subject = match Peer::try_from(form.subject).map_err(|e| e.at("subject"))? {
            Peer::Workloads(subject) => subject,
            Peer::Block(_) | Peer::Names(_) => return Err(PolicyProblem::NoPeer.at("subject")),
        };
        let mut policy = Self::new(form.name, form.tier, form.priority, subject)?;
        for (direction, rules) in [(Direction::Ingress, form.ingress), (Direction::Egress, form.egress)] {
            for (index, one) in rules.into_iter().enumerate() {
                let (peers, wrong) = direction.of(((one.from.clone(), one.to.clone()), (one.to, one.from)));
                if wrong.is_some() || peers.as_ref().is_none_or(Vec::is_empty) {
                    return Err(PolicyProblem::NoPeers.at(format!("{direction}[{index}]")));
                }
                let rule = rule(direction, index, (peers, one.ports))?;
                policy =
                    policy.with_rule(direction, ClusterRule { name: one.name, action: one.action, rule })?;
            }
        }
        Ok(policy)
    }
}

impl From<ClusterPolicy> for ClusterForm {
    fn from(policy: ClusterPolicy) -> Self {
        let form = |direction, one: ClusterRule| {
            let peers = forms(one.rule.peers);
            let (from, to) = match direction {
                Direction::Ingress => (peers, None),
                Direction::Egress => (None, peers),
            };
            ClusterRuleForm { name: one.name, action: one.action, from, to, ports: forms(one.rule.ports) }
        };
        Self {
            name: policy.name,
            tier: policy.tier,
            priority: policy.priority,
            subject: policy.subject.into(),
            ingress: policy.ingress.into_iter().map(|one| form(Direction::Ingress, one)).collect(),
            egress: policy.egress.into_iter().map(|one| form(Direction::Egress, one)).collect(),
        }
    }
}
