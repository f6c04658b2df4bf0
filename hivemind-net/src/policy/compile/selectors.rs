//! Every way in which a rule names its peers, once, with the peers it means. No I/O, no clock, no async.

use hivemind_core::{Namespace, TenantRef};
use smallvec::{SmallVec, smallvec};

use crate::slab::Slab;

use super::super::digest::{Mark, mark_of, short};
use super::super::model::Other;
use super::super::{Grant, Home, NetworkPolicy, Peer};
use super::bits::Peers;
use super::index::{Index, Lists};
use super::peers::PeerView;

/// A way of naming peers, as it is in a policy. The namespace is that of the policy, where it matters.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    Peer(Option<(&'a Namespace, Mark)>, &'a Peer),
    Grant(&'a Grant),
}

/// What two ways of naming peers have in common if they are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    kind: u8,
    namespace: Option<Mark>,
    id: Mark,
}

impl Key {
    fn hash(self) -> u64 {
        short(self.id) ^ self.namespace.map_or(0, short)
    }
}

impl<'a> Wanted<'a> {
    pub(super) fn of(peer: &'a Peer, policy: Option<&'a NetworkPolicy>) -> Self {
        let local = matches!(peer, Peer::Workloads(w) if w.tenant_selector().is_none() && w.namespace_selector().is_none());
        let home = policy.filter(|_| local).map(|policy| (policy.namespace(), policy.namespace_mark()));
        Self::Peer(home, peer)
    }

    fn key(self) -> Key {
        match self {
            Self::Peer(home, Peer::Workloads(peer)) => {
                Key { kind: 0, namespace: home.map(|(_, mark)| mark), id: peer.digest().id }
            }
            Self::Peer(_, peer) => Key { kind: 1, namespace: None, id: mark_of(peer) },
            Self::Grant(grant) => Key { kind: 2, namespace: None, id: mark_of(grant) },
        }
    }

    fn kept(self) -> Matcher {
        match self {
            Self::Peer(home, Peer::Workloads(peer)) if peer.digest().exact => Matcher::Labels {
                own: peer.tenant_selector().is_none(),
                namespace: home.map(|(_, mark)| mark),
                labels: peer.digest().labels.clone(),
            },
            Self::Peer(home, peer) => {
                Matcher::Peer(home.map(|(name, mark)| (name.clone(), mark)), peer.clone())
            }
            Self::Grant(grant) => Matcher::Grant(grant.clone()),
        }
    }
}

/// What is matched.
#[derive(Debug, Clone)]
pub(super) enum Matcher {
    /// Workloads with some labels, of the own tenant or of any, of a namespace or of all.
    Labels {
        own: bool,
        namespace: Option<Mark>,
        labels: SmallVec<[Mark; 2]>,
    },
    Peer(Option<(Namespace, Mark)>, Peer),
    Grant(Grant),
}

impl Matcher {
    /// Whether the peer is meant, in the domain of `tenant`.
    pub(super) fn matches(&self, tenant: &TenantRef, peer: PeerView<'_>) -> bool {
        match self {
            Self::Labels { own, namespace, labels } => peer.profile.is_some_and(|profile| {
                let fits = labels.iter().all(|label| profile.marks().contains(label));
                let at_home = namespace.is_none_or(|namespace| profile.namespace_mark() == namespace);
                fits && at_home && !(*own && peer.foreign)
            }),
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
                let home = Home { tenant, namespace: namespace.as_ref().map(|(name, _)| name) };
                let names = peer.prefix.map(|prefix| &prefix.names);
                peer_match.matches(home, Other { profile: peer.profile, address: None, names })
            }
        }
    }

    /// A label that all whom it means have; or their namespace.
    fn anchor(&self) -> Anchor {
        let (label, namespace) = match self {
            Self::Labels { namespace, labels, .. } => (labels.first().copied(), *namespace),
            Self::Peer(home, Peer::Workloads(peer)) => {
                (peer.digest().label(), home.as_ref().map(|(_, mark)| *mark))
            }
            Self::Peer(..) => return Anchor::Address,
            Self::Grant(_) => return Anchor::Anything,
        };
        label.map(Anchor::Label).or(namespace.map(Anchor::Namespace)).unwrap_or(Anchor::Anything)
    }
}

/// By what those are found whom a matcher means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Label(Mark),
    Namespace(Mark),
    Address,
    Anything,
}

impl Anchor {
    fn hash(self) -> u64 {
        match self {
            Self::Label(mark) | Self::Namespace(mark) => short(mark),
            Self::Address => 0,
            Self::Anything => 1,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    key: Key,
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
    anchored: Lists,
}

impl Selectors {
    /// One more use of what is wanted by `policy`; tells its number, and whether it is new and its peers are to be
    /// found.
    pub(super) fn acquire(&mut self, wanted: Wanted<'_>, policy: u32) -> (u32, bool) {
        let key = wanted.key();
        let is = |number| self.all.get(number).is_some_and(|entry: &Entry| entry.key == key);
        if let Some(number) = self.numbers.find(key.hash(), is)
            && let Some(entry) = self.all.get_mut(number)
        {
            entry.policies.push(policy);
            return (number, false);
        }
        let matcher = wanted.kept();
        let anchor = matcher.anchor().hash();
        let entry = Entry { key, matcher, peers: Peers::default(), policies: smallvec![policy] };
        let number = self.all.insert(entry);
        self.numbers.insert(key.hash(), number);
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
        self.anchored.remove(gone.matcher.anchor().hash(), number);
        self.numbers.remove(gone.key.hash(), number);
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
            found.extend(self.anchored.all(anchor.hash()).filter(|number| {
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
