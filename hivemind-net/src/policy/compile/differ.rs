//! Two states of a domain side by side, for `what_if`. They have equal peers by number. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::super::{Class, Direction, Profile};
use super::bits::Peers;
use super::domain::Domain;
use super::peers::PeerKey;
use super::sets::SetEntry;

impl Domain {
    fn entry_of(&self, profile: &Profile) -> Option<&SetEntry> {
        self.sets.get(self.set_of(profile)?)
    }

    /// The peers about which the tables of `profile` differ from those of `then`.
    pub(in crate::policy) fn differing(
        &self,
        then: &Self,
        profile: &Arc<Profile>,
        direction: Direction,
    ) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let (Some(now), Some(then_set)) = (self.entry_of(profile), then.entry_of(profile)) else {
            return found;
        };
        let tables = [
            (now.table(direction), then_set.table(direction)),
            (now.border(direction), then_set.border(direction)),
        ];
        for (one, other) in tables {
            let mut different = Peers::default();
            one.differences(other, &mut different);
            if different.all_but {
                found
                    .extend(self.peers.peers().map(|(number, _)| number).filter(|peer| different.has(*peer)));
            } else {
                found.extend(different.bits.iter());
            }
        }
        // Who is known to one of them alone is denied by the other.
        let gone = self.peers.peers().filter(|(number, _)| then.peers.peer(*number).is_none());
        found.extend(gone.map(|(number, _)| number));
        found
    }

    pub(in crate::policy) fn peer_numbers(&self) -> Vec<u32> {
        self.peers.peers().map(|(number, _)| number).collect()
    }

    pub(in crate::policy) fn class_of(&self, number: u32) -> Option<Class> {
        let key = self.peers.peer(number)?.key;
        let net = key.prefix.and_then(|prefix| self.prefixes.get(prefix)).map(|prefix| prefix.net);
        match key.profile {
            Some(profile) => Some(Class::Workloads(self.peers.profile(profile)?.profile.clone(), net)),
            None => Some(Class::Outside(self.tenant.clone(), net)),
        }
    }

    /// The peers that workloads of `profile` are.
    pub(in crate::policy) fn classes_of(&self, profile: &Arc<Profile>) -> Vec<Class> {
        let entry = self.peers.profile_number(profile).and_then(|number| self.peers.profile(number));
        let numbers = entry.into_iter().flat_map(|entry| entry.peers.iter());
        numbers.filter_map(|number| self.class_of(number)).collect()
    }

    pub(in crate::policy) fn number_of(&self, class: &Class) -> Option<u32> {
        let (profile, net) = match class {
            Class::Workloads(profile, net) => (Some(self.peers.profile_number(profile)?), net),
            Class::Outside(_, net) => (None, net),
        };
        let prefix = match net {
            Some(net) => Some(self.prefixes.find(*net)?),
            None => None,
        };
        self.peers.number(PeerKey { profile, prefix })
    }

    pub(in crate::policy) fn longest_prefix(&self, address: IpAddr) -> Option<IpNet> {
        self.prefixes.get(self.prefixes.longest(address.to_canonical())?).map(|prefix| prefix.net)
    }

    /// Where the verdict on `peer` may change along the keys.
    pub(in crate::policy) fn cuts(
        &self,
        profile: &Arc<Profile>,
        direction: Direction,
        peer: Option<u32>,
        cuts: &mut BTreeSet<u32>,
    ) {
        let Some(set) = self.entry_of(profile) else { return };
        let foreign = peer.and_then(|peer| self.peers.peer(peer)).is_some_and(|entry| entry.foreign);
        cuts.extend(set.table(direction).ranges().map(|(first, ..)| first));
        if foreign {
            cuts.extend(set.border(direction).ranges().map(|(first, ..)| first));
        }
    }

    /// What the tables say of a key, essential or not.
    pub(in crate::policy) fn table_passes(
        &self,
        profile: &Arc<Profile>,
        direction: Direction,
        peer: u32,
        key: u32,
    ) -> bool {
        let (Some(set), Some(other)) = (self.entry_of(profile), self.peers.peer(peer)) else { return false };
        (!other.foreign || set.border(direction).passes(peer, key)) && set.table(direction).passes(peer, key)
    }
}
