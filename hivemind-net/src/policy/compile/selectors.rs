//! Every way in which a rule names its peers, once, with the peers it means. No I/O, no clock, no async.

use hivemind_core::{Namespace, TenantRef};
use smallvec::{SmallVec, smallvec};

use super::super::digest::hash_of;
use super::super::model::Other;
use super::super::{Grant, Home, Peer};
use super::bits::Peers;
use super::index::Index;
use super::peers::PeerView;
use super::slab::Slab;

/// What is matched. The namespace is that of the policy, where it matters.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    Peer(Option<Namespace>, Peer),
    Grant(Grant),
}

/// A [`Matcher`] as it is in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wanted<'a> {
    Peer(Option<&'a Namespace>, &'a Peer),
    Grant(&'a Grant),
}

impl<'a> Wanted<'a> {
    pub(super) fn of(peer: &'a Peer, namespace: Option<&'a Namespace>) -> Self {
        let local = matches!(peer, Peer::Workloads(w) if w.tenant_selector().is_none() && w.namespace_selector().is_none());
        Self::Peer(namespace.filter(|_| local), peer)
    }

    /// The hash by which it is found.
    fn hash(self) -> u64 {
        match self {
            Self::Peer(namespace, Peer::Workloads(peer)) => hash_of(&(namespace, peer.digest().hash)),
            other => hash_of(&other),
        }
    }

    fn kept(self) -> Matcher {
        match self {
            Self::Peer(namespace, peer) => Matcher::Peer(namespace.cloned(), peer.clone()),
            Self::Grant(grant) => Matcher::Grant(grant.clone()),
        }
    }
}

impl Matcher {
    fn wanted(&self) -> Wanted<'_> {
        match self {
            Self::Peer(namespace, peer) => Wanted::Peer(namespace.as_ref(), peer),
            Self::Grant(grant) => Wanted::Grant(grant),
        }
    }

    /// Whether the peer is meant, in the domain of `tenant`.
    pub(super) fn matches(&self, tenant: &TenantRef, peer: PeerView<'_>) -> bool {
        match self {
            Self::Grant(grant) => peer.profile.is_some_and(|profile| grant.reaches(profile)),
            Self::Peer(_, Peer::Block(block)) => peer.prefix.is_some_and(|prefix| {
                let excepted = |net: &ipnet::IpNet| net.contains(&prefix.net);
                block.cidr().contains(&prefix.net) && !block.exceptions().iter().any(excepted)
            }),
            Self::Peer(_, Peer::Workloads(workloads))
                if !peer.profile.is_some_and(|profile| workloads.digest().may_mean(profile)) =>
            {
                false
            }
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
            Self::Peer(namespace, Peer::Workloads(peer)) => match (peer.digest().label(), namespace) {
                (Some(label), _) => Anchor::Label(label),
                (None, Some(namespace)) => Anchor::Namespace(hash_of(namespace)),
                (None, None) => Anchor::Anything,
            },
            Self::Peer(..) => Anchor::Address,
        }
    }
}

/// By what those are found whom a matcher means; by their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Label(u64),
    Namespace(u64),
    Address,
    Anything,
}

impl Anchor {
    fn key(self) -> u64 {
        match self {
            Self::Label(hash) | Self::Namespace(hash) => hash,
            Self::Address => 0,
            Self::Anything => 1,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) matcher: Matcher,
    /// Whom it means at present: finitely many.
    pub(super) peers: Peers,
    /// The policies that use it, one entry for each use.
    pub(super) policies: SmallVec<[u32; 4]>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Selectors {
    all: Slab<Entry>,
    numbers: Index,
    anchored: Index,
}

impl Selectors {
    /// One more use of what is wanted by `policy`; tells its number, and whether it is new and its peers are to be
    /// found.
    pub(super) fn acquire(&mut self, wanted: Wanted<'_>, policy: u32) -> (u32, bool) {
        let hash = wanted.hash();
        let is = |number| self.all.get(number).is_some_and(|entry: &Entry| entry.matcher.wanted() == wanted);
        if let Some(number) = self.numbers.find(hash, is)
            && let Some(entry) = self.all.get_mut(number)
        {
            entry.policies.push(policy);
            return (number, false);
        }
        let matcher = wanted.kept();
        let anchor = matcher.anchor().key();
        let number = self.all.insert(Entry { matcher, peers: Peers::default(), policies: smallvec![policy] });
        self.numbers.insert(hash, number);
        self.anchored.insert(anchor, number);
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
        self.anchored.remove(gone.matcher.anchor().key(), number);
        self.numbers.remove(gone.matcher.wanted().hash(), number);
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
        if self.anchored.is_empty() {
            return found;
        }
        let mut look = |anchor: Anchor| {
            found.extend(self.anchored.all(anchor.key()).filter(|number| {
                self.all.get(*number).is_some_and(|entry| entry.matcher.matches(tenant, peer))
            }));
        };
        if let Some(profile) = peer.profile {
            profile.marks().iter().for_each(|label| look(Anchor::Label(*label)));
            look(Anchor::Namespace(profile.namespace_mark()));
            look(Anchor::Anything);
        }
        if peer.prefix.is_some() {
            look(Anchor::Address);
        }
        found
    }

    /// The label or namespace by which to find whom `number` means.
    pub(super) fn anchor(&self, number: u32) -> Anchor {
        self.all.get(number).map_or(Anchor::Anything, |entry| entry.matcher.anchor())
    }
}
