//! One tenant's network: its workloads, the policies about them, and the tables of both. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use hivemind_core::TenantRef;

use super::super::eval::{All, Applicable, LISTED};
use super::super::{Action, AnyPolicy, Because, Direction, Endpoint, NamedPorts, Profile, Traffic};
use super::groups::Group;
use super::peers::{PeerKey, PeerTable, PeerView};
use super::policies::{Policies, Policy};
use super::prefixes::Prefixes;
use super::resolve::AHEAD;
use super::selectors::Selectors;
use super::sets::{SetKey, Sets};
use super::table::{Deciding, Sources};

#[derive(Debug, Clone)]
pub(in crate::policy) struct Domain {
    pub(in crate::policy) tenant: TenantRef,
    /// How many workloads it has.
    workloads: usize,
    /// How many addresses have domain names.
    pub(super) named: usize,
    pub(super) prefixes: Prefixes,
    pub(super) peers: PeerTable,
    pub(super) selectors: Selectors,
    pub(super) policies: Policies,
    pub(super) sets: Sets,
    /// While everything is loaded, no set is made.
    pub(super) loading: bool,
}

/// The peer that has no profile, and whose address is in no prefix.
const NOBODY: PeerKey = PeerKey { profile: None, prefix: None };

/// Brings what is read of some profiles into the caches, and waits for all of it at once.
fn touch<'a>(profiles: impl Iterator<Item = &'a Profile> + Clone) {
    profiles.clone().for_each(|one| {
        black_box((one.id_mark(), one.own_marks().len()));
    });
    profiles.for_each(|one| {
        black_box((one.marks().first(), one.marks().last()));
    });
}

impl Domain {
    pub(in crate::policy) fn new(tenant: TenantRef) -> Self {
        let mut domain = Self {
            tenant,
            workloads: 0,
            named: 0,
            prefixes: Prefixes::default(),
            peers: PeerTable::default(),
            selectors: Selectors::default(),
            policies: Policies::default(),
            sets: Sets::default(),
            loading: true,
        };
        domain.peers.acquire(NOBODY);
        domain
    }

    /// Everything is there: makes the tables, and keeps them from now on.
    pub(in crate::policy) fn loaded(&mut self) {
        self.loading = false;
        let own: Vec<_> = self.peers.profiles().filter(|(_, entry)| !entry.foreign).map(|(n, _)| n).collect();
        own.into_iter().for_each(|profile| self.assign(profile));
    }

    // ---- workloads

    /// Takes workloads that are not there yet.
    pub(in crate::policy) fn load_endpoints(&mut self, all: &[&Endpoint]) {
        self.peers.reserve(all.len());
        for some in all.chunks(AHEAD) {
            touch(some.iter().map(|endpoint| &**endpoint.profile()));
            some.iter().for_each(|endpoint| self.take_endpoint(endpoint));
        }
    }

    /// Takes a workload in place of what it was before.
    pub(in crate::policy) fn put_endpoint(&mut self, before: Option<&Endpoint>, endpoint: &Endpoint) {
        // The new one comes before the old one goes: what both have is then not made twice.
        self.take_endpoint(endpoint);
        if let Some(before) = before {
            self.remove_endpoint(before);
        }
    }

    /// Uses the profile of a workload, and its peers, one for each address.
    fn take_endpoint(&mut self, endpoint: &Endpoint) {
        self.workloads += 1;
        let profile = self.acquire_profile(endpoint.profile(), false);
        for address in endpoint.addresses() {
            self.acquire_peer(PeerKey { profile: Some(profile), prefix: self.prefixes.longest(address) });
        }
    }

    pub(in crate::policy) fn remove_endpoint(&mut self, endpoint: &Endpoint) {
        let Some(profile) = self.peers.profile_number(endpoint.profile()) else { return };
        self.workloads = self.workloads.saturating_sub(1);
        for address in endpoint.addresses() {
            let key = PeerKey { profile: Some(profile), prefix: self.prefixes.longest(address) };
            if let Some(peer) = self.peers.number(key) {
                self.release_peer(peer);
            }
        }
        self.release_profile(profile);
    }

    /// Whether nothing of the tenant is left.
    pub(in crate::policy) fn is_idle(&self) -> bool {
        self.workloads == 0 && self.named == 0 && !self.policies.any_own()
    }

    /// A profile of another tenant, which a grant reaches.
    pub(in crate::policy) fn put_foreign(&mut self, profile: &Arc<Profile>) {
        if self.peers.profile_number(profile).is_none() {
            let number = self.acquire_profile(profile, true);
            self.acquire_peer(PeerKey { profile: Some(number), prefix: None });
        }
    }

    pub(in crate::policy) fn remove_foreign(&mut self, profile: &Arc<Profile>) {
        let Some(number) = self.peers.profile_number(profile) else { return };
        if let Some(peer) = self.peers.number(PeerKey { profile: Some(number), prefix: None }) {
            self.release_peer(peer);
        }
        self.release_profile(number);
    }

    /// Whether a grant of this tenant reaches `profile`.
    pub(in crate::policy) fn grants(&self, profile: &Profile) -> bool {
        self.policies
            .grants()
            .any(|policy| matches!(&*policy.source, AnyPolicy::Grant(grant) if grant.reaches(profile)))
    }

    pub(in crate::policy) fn has_grants(&self) -> bool {
        self.policies.grants().next().is_some()
    }

    pub(in crate::policy) fn has_profile(&self, profile: &Arc<Profile>) -> bool {
        self.peers.profile_number(profile).is_some()
    }

    /// The profiles of other tenants that are known here.
    pub(in crate::policy) fn foreign(&self) -> Vec<Arc<Profile>> {
        self.peers
            .profiles()
            .filter(|(_, entry)| entry.foreign)
            .map(|(_, entry)| entry.profile.clone())
            .collect()
    }

    /// The profiles of this tenant's workloads.
    pub(in crate::policy) fn own(&self) -> Vec<Arc<Profile>> {
        self.peers
            .profiles()
            .filter(|(_, entry)| !entry.foreign)
            .map(|(_, entry)| entry.profile.clone())
            .collect()
    }

    fn acquire_profile(&mut self, profile: &Arc<Profile>, foreign: bool) -> u32 {
        let (number, new) = self.peers.acquire_profile(profile, foreign);
        if new && !foreign {
            self.assign(number);
        }
        number
    }

    fn release_profile(&mut self, number: u32) {
        if let Some(gone) = self.peers.release_profile(number)
            && let Some(set) = gone.set
        {
            self.release_set(set);
        }
    }

    // ---- sets

    /// Gives a profile the set of the policies that select it at present.
    pub(super) fn assign(&mut self, number: u32) {
        if self.loading {
            return;
        }
        let Some(entry) = self.peers.profile(number) else { return };
        let groups = self.policies.groups.selecting(&entry.profile);
        let names =
            groups.iter().filter_map(|group| self.policies.groups.get(*group)).any(Group::names_ports);
        let ports = if names { entry.profile.ports().clone() } else { NamedPorts::NONE };
        let sources = Sources { selectors: &self.selectors, policies: &self.policies, peers: &self.peers };
        let (set, new) = self.sets.acquire(sources, SetKey { groups, ports });
        if new && let Some(made) = self.sets.get(set) {
            for group in &made.key.groups {
                if let Some(group) = self.policies.groups.get_mut(*group) {
                    group.sets.insert(set);
                }
            }
        }
        let Some(entry) = self.peers.profile_mut(number) else { return };
        if let Some(before) = entry.set.replace(set) {
            self.release_set(before);
        }
    }

    fn release_set(&mut self, set: u32) {
        let Some(gone) = self.sets.release(set) else { return };
        for group in gone.key.groups {
            if let Some(group) = self.policies.groups.get_mut(group) {
                group.sets.remove(set);
            }
        }
    }

    // ---- peers

    pub(super) fn view(&self, key: PeerKey) -> PeerView<'_> {
        let entry = key.profile.and_then(|number| self.peers.profile(number));
        PeerView {
            profile: entry.map(|entry| &*entry.profile),
            foreign: entry.is_some_and(|entry| entry.foreign),
            prefix: key.prefix.and_then(|number| self.prefixes.get(number)),
        }
    }

    pub(super) fn acquire_peer(&mut self, key: PeerKey) -> u32 {
        let (number, new) = self.peers.acquire(key);
        if new {
            if let Some(prefix) = key.prefix.and_then(|prefix| self.prefixes.get_mut(prefix)) {
                prefix.peers.insert(number);
            }
            self.match_peer(number, key, true);
        }
        number
    }

    pub(super) fn release_peer(&mut self, number: u32) {
        if !self.peers.release(number) {
            return;
        }
        let Some(key) = self.peers.peer(number).map(|entry| entry.key) else { return };
        let touched = self.mark(number, key, false);
        let naming = self.naming(key);
        let foreign = self.peers.peer(number).is_some_and(|entry| entry.foreign);
        self.peers.drop(number);
        if let Some(prefix) = key.prefix.and_then(|prefix| self.prefixes.get_mut(prefix)) {
            prefix.peers.remove(number);
        }
        self.refresh(number, foreign, &touched, naming);
    }

    /// Puts the peer into all selectors that mean it, or takes it out, and brings the tables in line.
    pub(super) fn match_peer(&mut self, number: u32, key: PeerKey, inside: bool) {
        let touched = self.mark(number, key, inside);
        let naming = self.naming(key);
        let foreign = self.peers.peer(number).is_some_and(|entry| entry.foreign);
        self.refresh(number, foreign, &touched, naming);
    }

    fn mark(&mut self, number: u32, key: PeerKey, inside: bool) -> Vec<u32> {
        let touched = self.selectors.meaning(&self.tenant, self.view(key));
        for selector in &touched {
            if let Some(entry) = self.selectors.get_mut(*selector) {
                entry.peers.put(number, inside);
            }
        }
        touched
    }

    /// The sets with a named port that the peer has: its coming and going may change their ranges.
    fn naming(&self, key: PeerKey) -> BTreeSet<u32> {
        let Some(profile) = self.view(key).profile.filter(|profile| !profile.ports().is_empty()) else {
            return BTreeSet::new();
        };
        let groups = self.policies.naming(profile).filter_map(|one| self.policies.groups.get(one.group));
        groups.flat_map(|group| group.sets.iter()).collect()
    }

    /// Brings the tables in line with a peer that `selectors` mean anew, or no longer.
    fn refresh(&mut self, peer: u32, foreign: bool, selectors: &[u32], naming: BTreeSet<u32>) {
        if self.loading {
            return;
        }
        let using = selectors.iter().filter_map(|one| self.selectors.get(*one)).flat_map(|one| &one.policies);
        let mut policies: Vec<u32> = using.copied().collect();
        policies.sort_unstable();
        policies.dedup();
        let sources = Sources { selectors: &self.selectors, policies: &self.policies, peers: &self.peers };
        for policy in policies {
            let group = self.policies.get(policy).and_then(|one| self.policies.groups.get(one.group));
            let sets = group.into_iter().flat_map(|group| group.sets.iter());
            for set in sets.filter(|set| !naming.contains(set)) {
                self.sets.refresh(sources, set, (peer, foreign), policy);
            }
        }
        naming.into_iter().for_each(|set| self.sets.rebuild(sources, set));
    }

    // ---- questions

    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { selectors: &self.selectors, policies: &self.policies, peers: &self.peers }
    }

    /// The peer that a workload of the tenant is over `address`, one of its own.
    pub(in crate::policy) fn own_peer(&self, profile: &Profile, address: IpAddr) -> Option<u32> {
        let profile = self.peers.profile_number(profile)?;
        self.peers.number(PeerKey { profile: Some(profile), prefix: self.prefixes.longest(address) })
    }

    /// The peer that another tenant's workload is.
    pub(in crate::policy) fn foreign_peer(&self, profile: &Arc<Profile>) -> Option<u32> {
        let profile = self.peers.profile_number(profile)?;
        self.peers.number(PeerKey { profile: Some(profile), prefix: None })
    }

    /// The peer that an address outside is.
    pub(in crate::policy) fn outside_peer(&self, address: IpAddr) -> Option<u32> {
        self.peers.number(PeerKey { profile: None, prefix: self.prefixes.longest(address) })
    }

    /// The set of the tenant's workloads with `profile`.
    pub(in crate::policy) fn set_of(&self, profile: &Profile) -> Option<u32> {
        self.peers.profile(self.peers.profile_number(profile)?)?.set
    }

    /// Whether a peer is another tenant's.
    pub(in crate::policy) fn is_foreign(&self, peer: u32) -> bool {
        self.peers.peer(peer).is_some_and(|entry| entry.foreign)
    }

    /// Whether `traffic` may pass between a workload with the set and `peer`, of another tenant or not.
    pub(in crate::policy) fn passes(
        &self,
        set: u32,
        direction: Direction,
        (peer, foreign): (u32, bool),
        traffic: Traffic,
    ) -> bool {
        let Some(set) = self.sets.get(set) else { return false };
        let key = traffic.key();
        if foreign && !set.border(direction).passes(peer, key) {
            return false;
        }
        if direction == Direction::Egress && traffic.is_from_routers() {
            return false;
        }
        traffic.is_essential() || set.table(direction).passes(peer, key)
    }

    /// What they say and why, in the same order.
    pub(in crate::policy) fn decide(
        &self,
        set: u32,
        direction: Direction,
        (peer, foreign): (u32, bool),
        traffic: Traffic,
    ) -> Option<(bool, Because)> {
        let set = self.sets.get(set)?;
        let key = traffic.key();
        if foreign && !set.border(direction).passes(peer, key) {
            return Some((false, Because::Border));
        }
        if direction == Direction::Egress && traffic.is_from_routers() {
            return Some((false, Because::RouterOnly));
        }
        if traffic.is_essential() {
            return Some((true, Because::Essential));
        }
        Some(match set.table(direction).deciding(self.sources(), direction, peer, key) {
            Deciding::Line(line, action) => {
                let policy = self.policies.get(line.policy)?.source.key();
                (action == Action::Allow, Because::Rule { policy, rule: line.rule as usize })
            }
            Deciding::Isolation => (false, Because::Isolated(set.isolating(&self.policies, direction))),
            Deciding::Nothing => (true, Because::Unselected),
        })
    }

    /// The policies of a set.
    pub(in crate::policy) fn applicable(&self, set: u32) -> impl Iterator<Item = &AnyPolicy> {
        let groups = self.sets.get(set).map_or(&[][..], |set| &set.key.groups);
        self.policies.of_groups(groups).map(|(_, policy)| &*policy.source)
    }

    /// The policies of a set; if those of the tenant have many rules, of them those alone that mean `peer`, or have no
    /// rules.
    pub(in crate::policy) fn applicable_to(
        &self,
        number: u32,
        peer: u32,
        direction: Direction,
    ) -> Applicable<'_> {
        let Some(set) = self.sets.get(number) else { return Applicable::default() };
        let groups = set.key.groups.iter().filter_map(|group| self.policies.groups.get(*group));
        let rules = groups.clone().map(|group| group.rules(direction)).sum();
        let key = self.peers.peer(peer).map(|entry| entry.key);
        let Some(key) = key.filter(|_| rules > LISTED) else {
            return Applicable::of(self.applicable(number));
        };
        let mut asked: Vec<u32> = groups.flat_map(Group::always).collect();
        let meaning = self.selectors.meaning(&self.tenant, self.view(key));
        let meaning = meaning.into_iter().filter_map(|selector| self.selectors.get(selector));
        let here = |policy: &Policy| {
            self.policies.groups.get(policy.group).is_some_and(|group| group.sets.has(number))
        };
        asked.extend(
            meaning
                .flat_map(|selector| &selector.policies)
                .copied()
                .filter(|policy| self.policies.get(*policy).is_some_and(here)),
        );
        asked.sort_unstable();
        asked.dedup();
        let asked = asked.into_iter().filter_map(|policy| self.policies.get(policy));
        let isolating = set.isolating(&self.policies, direction);
        let all = Some(All { isolating, rules });
        Applicable { all, ..Applicable::of(asked.map(|policy| &*policy.source)) }
    }
}
