//! Every way in which a rule names its peers, once, with the peers it means. No I/O, no clock, no async.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use hivemind_core::labels::{LabelKey, LabelValue, Labels, Operator, Selector};
use hivemind_core::{Namespace, TenantRef};

use super::super::model::Other;
use super::super::{Grant, Home, Peer, Profile};
use super::bits::Peers;
use super::peers::PeerView;
use super::slab::Slab;

/// What is matched. The namespace is that of the policy, where it matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Matcher {
    Peer(Option<Namespace>, Peer),
    Grant(Grant),
}

impl Matcher {
    pub(super) fn of(peer: &Peer, namespace: Option<&Namespace>) -> Self {
        let local = matches!(peer, Peer::Workloads(w) if w.tenant_selector().is_none() && w.namespace_selector().is_none());
        Self::Peer(namespace.filter(|_| local).cloned(), peer.clone())
    }

    /// Whether the peer is meant, in the domain of `tenant`.
    pub(super) fn matches(&self, tenant: &TenantRef, peer: PeerView<'_>) -> bool {
        match self {
            Self::Grant(grant) => peer.profile.is_some_and(|profile| grant.reaches(profile)),
            Self::Peer(_, Peer::Block(block)) => peer.prefix.is_some_and(|prefix| {
                let excepted = |net: &ipnet::IpNet| net.contains(&prefix.net);
                block.cidr().contains(&prefix.net) && !block.exceptions().iter().any(excepted)
            }),
            Self::Peer(namespace, peer_match) => {
                let home = Home { tenant, namespace: namespace.as_ref() };
                let names = peer.prefix.map(|prefix| &prefix.names);
                peer_match.matches(home, Other { profile: peer.profile, address: None, names })
            }
        }
    }

    /// A label that all whom it means have; or their namespace.
    fn anchor(&self) -> Anchor {
        match self {
            Self::Grant(_) => Anchor::Anything,
            Self::Peer(namespace, Peer::Workloads(peer)) => {
                let axes = [
                    (Axis::Workload, peer.workload_selector()),
                    (Axis::Namespace, peer.namespace_selector()),
                    (Axis::Tenant, peer.tenant_selector()),
                ];
                let label = axes.into_iter().find_map(|(axis, selector)| label_of(axis, selector?));
                match (label, namespace) {
                    (Some(label), _) => Anchor::Label(label),
                    (None, Some(namespace)) => Anchor::Namespace(namespace.clone()),
                    (None, None) => Anchor::Anything,
                }
            }
            Self::Peer(..) => Anchor::Address,
        }
    }
}

/// Whose label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Axis {
    Workload,
    Namespace,
    Tenant,
}

pub(super) type LabelAt = (Axis, LabelKey, LabelValue);

/// A label that `selector` asks for, with just one value.
pub(super) fn label_of(axis: Axis, selector: &Selector) -> Option<LabelAt> {
    let mut single = selector
        .requirements()
        .iter()
        .filter(|one| one.operator() == Operator::In && one.values().len() == 1);
    let one = single.next()?;
    Some((axis, one.key().clone(), one.values().first()?.clone()))
}

/// Every label of a profile and around it.
pub(super) fn labels_of(profile: &Profile) -> impl Iterator<Item = LabelAt> {
    let at =
        |axis, labels: &Labels| labels.iter().map(|(k, v)| (axis, k.clone(), v.clone())).collect::<Vec<_>>();
    let all = [
        at(Axis::Workload, profile.labels()),
        at(Axis::Namespace, profile.namespace_labels()),
        at(Axis::Tenant, profile.tenant_labels()),
    ];
    all.into_iter().flatten()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Anchor {
    Label(LabelAt),
    Namespace(Namespace),
    Address,
    Anything,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) matcher: Matcher,
    /// Whom it means at present: finitely many.
    pub(super) peers: Peers,
    /// The policies that use it, one entry for each use.
    pub(super) policies: Vec<u32>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Selectors {
    all: Slab<Entry>,
    numbers: HashMap<Matcher, u32, FixedState>,
    anchored: HashMap<Anchor, BTreeSet<u32>, FixedState>,
}

impl Selectors {
    /// One more use of `matcher` by `policy`; tells its number, and whether it is new and its peers are to be found.
    pub(super) fn acquire(&mut self, matcher: Matcher, policy: u32) -> (u32, bool) {
        if let Some(number) = self.numbers.get(&matcher)
            && let Some(entry) = self.all.get_mut(*number)
        {
            entry.policies.push(policy);
            return (*number, false);
        }
        let anchor = matcher.anchor();
        let entry = Entry { matcher: matcher.clone(), peers: Peers::default(), policies: vec![policy] };
        let number = self.all.insert(entry);
        self.numbers.insert(matcher, number);
        self.anchored.entry(anchor).or_default().insert(number);
        (number, true)
    }

    pub(super) fn release(&mut self, number: u32, policy: u32) {
        let Some(entry) = self.all.get_mut(number) else { return };
        if let Some(at) = entry.policies.iter().position(|one| *one == policy) {
            entry.policies.swap_remove(at);
        }
        if !entry.policies.is_empty() {
            return;
        }
        let Some(gone) = self.all.remove(number) else { return };
        let anchor = gone.matcher.anchor();
        if let Some(anchored) = self.anchored.get_mut(&anchor) {
            anchored.remove(&number);
            if anchored.is_empty() {
                self.anchored.remove(&anchor);
            }
        }
        self.numbers.remove(&gone.matcher);
    }

    pub(super) fn get(&self, number: u32) -> Option<&Entry> {
        self.all.get(number)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Entry> {
        self.all.get_mut(number)
    }

    /// Those that mean `peer`.
    pub(super) fn meaning(&self, tenant: &TenantRef, peer: PeerView<'_>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut look = |anchor: &Anchor| {
            let candidates = self.anchored.get(anchor).into_iter().flatten();
            found.extend(candidates.filter(|number| {
                self.all.get(**number).is_some_and(|entry| entry.matcher.matches(tenant, peer))
            }));
        };
        if let Some(profile) = peer.profile {
            labels_of(profile).for_each(|label| look(&Anchor::Label(label)));
            look(&Anchor::Namespace(profile.namespace().clone()));
            look(&Anchor::Anything);
        }
        if peer.prefix.is_some() {
            look(&Anchor::Address);
        }
        found
    }

    /// The label or namespace by which to find whom `number` means.
    pub(super) fn anchor(&self, number: u32) -> Anchor {
        self.all.get(number).map_or(Anchor::Anything, |entry| entry.matcher.anchor())
    }
}
