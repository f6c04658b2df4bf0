//! The profiles and peers of a domain, by number. No I/O, no clock, no async.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::slab::Slab;

use super::super::digest::{Mark, short};
use super::super::{NamedPort, Profile};
use super::bits::Peers;
use super::index::{Few, Index, Lists};
use super::prefixes::Prefix;

/// What tells one peer from another: the number of a profile, and that of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerKey {
    pub(super) profile: Option<u32>,
    pub(super) prefix: Option<u32>,
}

/// A peer, as matchers see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerView<'a> {
    pub(super) profile: Option<&'a Profile>,
    /// Whether the profile is another tenant's.
    pub(super) foreign: bool,
    pub(super) prefix: Option<&'a Prefix>,
}

#[derive(Debug, Clone)]
pub(super) struct ProfileEntry {
    pub(super) profile: Arc<Profile>,
    /// Of another tenant.
    pub(super) foreign: bool,
    pub(super) refs: usize,
    /// Its set of policies, once it is known.
    pub(super) set: Option<u32>,
    /// Its peers, one for each prefix that its addresses are in.
    pub(super) peers: Few,
}

#[derive(Debug, Clone)]
pub(super) struct PeerEntry {
    pub(super) key: PeerKey,
    pub(super) foreign: bool,
    refs: usize,
}

#[derive(Debug, Clone, Default)]
pub(super) struct PeerTable {
    profiles: Slab<ProfileEntry>,
    profile_numbers: Index,
    by_label: Lists,
    by_namespace: Lists,
    peers: Slab<PeerEntry>,
    peer_numbers: HashMap<PeerKey, u32, FixedState>,
    /// For each named port, the peers that have it, by its number.
    named: BTreeMap<NamedPort, BTreeMap<u16, Peers>>,
}

impl PeerTable {
    /// Makes room for so many more workloads, which may all differ.
    pub(super) fn reserve(&mut self, more: usize) {
        self.profiles.reserve(more);
        self.profile_numbers.reserve(more);
        self.by_label.reserve(more);
        self.peers.reserve(more);
        self.peer_numbers.reserve(more);
    }

    /// One more use of `profile`; tells its number, and whether it is new.
    pub(super) fn acquire_profile(&mut self, profile: &Arc<Profile>, foreign: bool) -> (u32, bool) {
        if let Some(number) = self.profile_number(profile)
            && let Some(entry) = self.profiles.get_mut(number)
        {
            entry.refs += 1;
            return (number, false);
        }
        let entry =
            ProfileEntry { profile: profile.clone(), foreign, refs: 1, set: None, peers: Few::default() };
        let number = self.profiles.insert(entry);
        self.profile_numbers.insert(short(profile.id_mark()), number);
        for label in profile.marks() {
            self.by_label.insert(short(*label), number);
        }
        self.by_namespace.insert(short(profile.namespace_mark()), number);
        (number, true)
    }

    /// One use less; gives the profile back with the last.
    pub(super) fn release_profile(&mut self, number: u32) -> Option<ProfileEntry> {
        let entry = self.profiles.get_mut(number)?;
        entry.refs = entry.refs.saturating_sub(1);
        if entry.refs > 0 {
            return None;
        }
        let gone = self.profiles.remove(number)?;
        self.profile_numbers.remove(short(gone.profile.id_mark()), number);
        for label in gone.profile.marks() {
            self.by_label.remove(short(*label), number);
        }
        self.by_namespace.remove(short(gone.profile.namespace_mark()), number);
        Some(gone)
    }

    /// One more use of the peer; tells its number, and whether it is new.
    pub(super) fn acquire(&mut self, key: PeerKey) -> (u32, bool) {
        if let Some(number) = self.peer_numbers.get(&key)
            && let Some(entry) = self.peers.get_mut(*number)
        {
            entry.refs += 1;
            return (*number, false);
        }
        let foreign =
            key.profile.and_then(|number| self.profiles.get(number)).is_some_and(|found| found.foreign);
        let number = self.peers.insert(PeerEntry { key, foreign, refs: 1 });
        self.peer_numbers.insert(key, number);
        if let Some(entry) = key.profile.and_then(|profile| self.profiles.get_mut(profile)) {
            entry.peers.insert(number);
            for (name, protocol, port) in entry.profile.ports().iter() {
                let ports = self.named.entry(NamedPort { protocol, name: name.clone() }).or_default();
                ports.entry(port).or_default().put(number, true);
            }
        }
        (number, true)
    }

    /// One use less; tells whether it was the last, and [`PeerTable::drop`] is to follow.
    pub(super) fn release(&mut self, number: u32) -> bool {
        let Some(entry) = self.peers.get_mut(number) else { return false };
        entry.refs = entry.refs.saturating_sub(1);
        entry.refs == 0
    }

    pub(super) fn drop(&mut self, number: u32) {
        let Some(gone) = self.peers.remove(number) else { return };
        self.peer_numbers.remove(&gone.key);
        let Some(entry) = gone.key.profile.and_then(|profile| self.profiles.get_mut(profile)) else { return };
        entry.peers.remove(number);
        for (name, protocol, port) in entry.profile.ports().iter() {
            let name = NamedPort { protocol, name: name.clone() };
            let Some(ports) = self.named.get_mut(&name) else { continue };
            if let Some(peers) = ports.get_mut(&port) {
                peers.put(number, false);
                if peers.bits.is_empty() {
                    ports.remove(&port);
                }
            }
            if ports.is_empty() {
                self.named.remove(&name);
            }
        }
    }

    pub(super) fn number(&self, key: PeerKey) -> Option<u32> {
        self.peer_numbers.get(&key).copied()
    }

    pub(super) fn peer(&self, number: u32) -> Option<&PeerEntry> {
        self.peers.get(number)
    }

    /// No peer has a higher number.
    pub(super) fn highest(&self) -> u32 {
        self.peers.highest()
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (u32, &PeerEntry)> {
        self.peers.iter()
    }

    pub(super) fn profile(&self, number: u32) -> Option<&ProfileEntry> {
        self.profiles.get(number)
    }

    pub(super) fn profile_mut(&mut self, number: u32) -> Option<&mut ProfileEntry> {
        self.profiles.get_mut(number)
    }

    pub(super) fn profiles(&self) -> impl Iterator<Item = (u32, &ProfileEntry)> {
        self.profiles.iter()
    }

    pub(super) fn profile_number(&self, profile: &Profile) -> Option<u32> {
        let is =
            |number| self.profiles.get(number).is_some_and(|one| one.profile.id_mark() == profile.id_mark());
        self.profile_numbers.find(short(profile.id_mark()), is)
    }

    /// Those that have a label; perhaps others too.
    pub(super) fn labelled(&self, label: Mark) -> impl Iterator<Item = u32> {
        self.by_label.all(short(label))
    }

    /// Those of a namespace; perhaps others too.
    pub(super) fn of_namespace(&self, namespace: Mark) -> impl Iterator<Item = u32> {
        self.by_namespace.all(short(namespace))
    }

    /// The numbers that peers give a named port, each with those peers.
    pub(super) fn named(&self, name: &NamedPort) -> Option<&BTreeMap<u16, Peers>> {
        self.named.get(name)
    }
}
