//! Policies come and go: their rules become selectors and ranges, and workloads get new sets.
//! No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::smallvec;

use super::super::{
    Action, AnyPolicy, ClusterRule, Direction, NetworkPolicy, Peer, PolicyRef, PolicyRule, PortMatch, World,
};
use super::bits::{Bits, Peers};
use super::domain::Domain;
use super::groups::Joined;
use super::policies::{Policy, Rule};
use super::selectors::{Anchor, Wanted};
use super::table::Sources;

impl Domain {
    /// Takes policies of names that there are not yet.
    pub(in crate::policy) fn load_policies(&mut self, world: &World, all: &[&Arc<AnyPolicy>]) {
        self.policies.reserve(all.len());
        for some in all.chunks(AHEAD) {
            touch(some);
            some.iter().for_each(|policy| self.put_policy(world, policy));
        }
    }

    /// Takes `policy`, in place of one of its name.
    pub(in crate::policy) fn put_policy(&mut self, world: &World, policy: &Arc<AnyPolicy>) {
        // What is loaded is there once.
        let before = if self.loading { None } else { self.policies.number(&policy.key()) };
        let rules = self.resolve(world, self.policies.next(), policy);
        let number = self.policies.insert(Policy::new(policy.clone(), rules));
        if self.loading {
            self.policies.show(number);
            return;
        }
        let unordered = self.policies.get(number).is_some_and(Policy::is_unordered);
        if unordered {
            self.exchange(before, Some(number));
        } else {
            // Its place among the cluster's policies may be another.
            self.exchange(before, None);
            self.exchange(None, Some(number));
        }
        if let Some(before) = before {
            self.drop_policy(world, before);
        }
    }

    pub(in crate::policy) fn remove_policy(&mut self, world: &World, key: &PolicyRef) {
        let Some(number) = self.policies.number(key) else { return };
        self.exchange(Some(number), None);
        self.drop_policy(world, number);
    }

    fn drop_policy(&mut self, world: &World, number: u32) {
        let Some(gone) = self.policies.remove(number) else { return };
        gone.selectors().for_each(|selector| self.selectors.release(selector, number));
        nets_of(&gone.source).for_each(|net| self.release_prefix(world, net));
    }

    /// Lets one policy go and another come. The tables of a group that stays are edited; if a group comes or goes, or
    /// has named ports in ingress only now or no longer, those it selects get other sets.
    fn exchange(&mut self, out: Option<u32>, put: Option<u32>) {
        // First the one that comes: a group that both are in stays.
        let came = put.map(|number| (number, self.policies.show(number)));
        let went = out.map(|number| (number, self.policies.hide(number)));
        let of = |number: u32| self.policies.get(number).map(|policy| policy.group);
        let group = |change: Option<(u32, Joined)>| change.and_then(|(number, _)| of(number));
        let (coming, going) = (group(came), group(went));
        if coming == going {
            self.edit_sets(coming, (out, put));
        } else {
            self.edit_sets(going.filter(|_| !went.is_some_and(|(_, one)| one.alone)), (out, None));
            self.edit_sets(coming.filter(|_| !came.is_some_and(|(_, one)| one.alone)), (None, put));
        }
        let renewed = |change: Option<(u32, Joined)>| change.is_some_and(|(_, one)| one.alone || one.naming);
        let mut profiles = BTreeSet::new();
        for group in [coming.filter(|_| renewed(came)), going.filter(|_| renewed(went))].into_iter().flatten()
        {
            self.selected(group, &mut profiles);
        }
        profiles.into_iter().for_each(|profile| self.assign(profile));
        if let Some(group) = going.filter(|_| went.is_some_and(|(_, one)| one.alone)) {
            self.policies.groups.remove(group);
        }
    }

    fn edit_sets(&mut self, group: Option<u32>, change: (Option<u32>, Option<u32>)) {
        let Some(group) = group.and_then(|group| self.policies.groups.get(group)) else { return };
        let sources = Sources { selectors: &self.selectors, policies: &self.policies, peers: &self.peers };
        group.sets.iter().for_each(|set| self.sets.edit(sources, set, change));
    }

    /// The profiles of this tenant that a group selects.
    fn selected(&self, group: u32, profiles: &mut BTreeSet<u32>) {
        let Some(group) = self.policies.groups.get(group) else { return };
        let selected = |number: &u32| {
            let entry = self.peers.profile(*number);
            entry.is_some_and(|entry| !entry.foreign && group.selects(&entry.profile))
        };
        match group.where_about() {
            Some((_, Some(label))) => profiles.extend(self.peers.labelled(label).filter(selected)),
            Some((namespace, None)) => profiles.extend(self.peers.of_namespace(namespace).filter(selected)),
            None => profiles.extend(self.peers.profiles().map(|(number, _)| number).filter(selected)),
        }
    }

    /// Reads the rules of a policy, which gets `number`, into selectors and ranges.
    fn resolve(&mut self, world: &World, number: u32, policy: &AnyPolicy) -> [Option<Box<[Rule]>>; 2] {
        Direction::ALL.map(|direction| match policy {
            AnyPolicy::Network(network) => network.spec().rules(direction).map(|rules| {
                let home = Some(network);
                rules.iter().map(|rule| self.rule(world, number, (Action::Allow, rule), home)).collect()
            }),
            AnyPolicy::Cluster(cluster) => {
                let rules = cluster.rules(direction).iter();
                Some(rules.map(|one| self.rule(world, number, (one.action(), one.rule()), None)).collect())
            }
            AnyPolicy::Grant(grant) => (grant.direction() == direction).then(|| {
                let peers = self.selector(number, Wanted::Grant(grant));
                Box::from([Rule::new(Action::Allow, Some(smallvec![peers]), grant.ports())])
            }),
        })
    }

    fn rule(
        &mut self,
        world: &World,
        policy: u32,
        (action, rule): (Action, &PolicyRule),
        home: Option<&NetworkPolicy>,
    ) -> Rule {
        let peers = rule.peers().iter().map(|peer| {
            nets_of_peer(peer).for_each(|net| self.acquire_prefix(world, net));
            self.selector(policy, Wanted::of(peer, home))
        });
        let peers = (!rule.peers().is_empty()).then(|| peers.collect());
        Rule::new(action, peers, rule.ports())
    }

    fn selector(&mut self, policy: u32, wanted: Wanted<'_>) -> u32 {
        let (number, new) = self.selectors.acquire(wanted, policy);
        if new {
            let peers = self.meant_by(number);
            if let Some(entry) = self.selectors.get_mut(number) {
                entry.peers = peers;
            }
        }
        number
    }

    /// Whom a selector means at present.
    fn meant_by(&self, selector: u32) -> Peers {
        let mut meant = Peers { all_but: false, bits: Bits::with_room(self.peers.highest()) };
        let Some(entry) = self.selectors.get(selector) else { return meant };
        let mut look = |peer: u32| {
            let Some(found) = self.peers.peer(peer) else { return };
            if entry.matcher.matches(&self.tenant, self.view(found.key)) {
                meant.bits.put(peer, true);
            }
        };
        let peers_of =
            |profile: u32| self.peers.profile(profile).into_iter().flat_map(|one| one.peers.iter());
        match self.selectors.anchor(selector) {
            Anchor::Label(label) => self.peers.labelled(label).flat_map(peers_of).for_each(&mut look),
            Anchor::Namespace(name) => self.peers.of_namespace(name).flat_map(peers_of).for_each(&mut look),
            Anchor::Anything => self.peers.profiles().flat_map(|(one, _)| peers_of(one)).for_each(&mut look),
            Anchor::Address => {
                self.prefixes.iter().flat_map(|(_, prefix)| prefix.peers.iter()).for_each(&mut look);
            }
        }
        meant
    }
}

/// How many things are asked for before the first of them is read. They lie all over memory: asked for one by one, each
/// is waited for.
pub(super) const AHEAD: usize = 16;

/// Brings what is read of some policies into the caches, and waits for all of it at once.
fn touch(policies: &[&Arc<AnyPolicy>]) {
    let all = policies.iter().filter_map(|policy| match &***policy {
        AnyPolicy::Network(network) => Some(network),
        AnyPolicy::Cluster(_) | AnyPolicy::Grant(_) => None,
    });
    all.clone().for_each(|one| {
        black_box((one.name_mark(), one.spec().digest().exact));
    });
    let rules =
        all.filter_map(|one| one.spec().rules(Direction::Ingress).or(one.spec().rules(Direction::Egress)));
    rules.filter_map(<[_]>::first).for_each(|rule| {
        let peer =
            rule.peers().first().map(|peer| matches!(peer, Peer::Workloads(one) if one.digest().exact));
        black_box((peer, rule.ports().first().and_then(PortMatch::keys)));
    });
}

/// The networks that a policy names.
pub(in crate::policy) fn nets_of(policy: &AnyPolicy) -> impl Iterator<Item = IpNet> {
    let (network, cluster) = match policy {
        AnyPolicy::Network(one) => (Some(one.spec()), None),
        AnyPolicy::Cluster(one) => (None, Some(one)),
        AnyPolicy::Grant(_) => (None, None),
    };
    let network = Direction::ALL.into_iter().filter_map(move |direction| network?.rules(direction)).flatten();
    let cluster = cluster.into_iter().flat_map(|one| Direction::ALL.into_iter().flat_map(|d| one.rules(d)));
    let peers = network.chain(cluster.map(ClusterRule::rule)).flat_map(PolicyRule::peers);
    peers.flat_map(nets_of_peer)
}

fn nets_of_peer(peer: &Peer) -> impl Iterator<Item = IpNet> {
    let block = if let Peer::Block(block) = peer { Some(block) } else { None };
    block.into_iter().flat_map(|block| block.exceptions().iter().copied().chain([block.cidr()]))
}
