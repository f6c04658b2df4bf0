//! Policies come and go: their rules become selectors and ranges, and workloads get new sets. No I/O, no clock, no
//! async.

use std::collections::BTreeSet;
use std::sync::Arc;

use hivemind_core::Namespace;
use ipnet::IpNet;

use super::super::{Action, AnyPolicy, ClusterRule, Direction, Peer, PolicyRef, PolicyRule};
use super::bits::Peers;
use super::domain::Domain;
use super::policies::{Policy, Rule};
use super::selectors::{Anchor, Axis, Matcher, label_of};

impl Domain {
    /// Takes `policy`, in place of one of its name.
    pub(in crate::policy) fn put_policy(&mut self, policy: &Arc<AnyPolicy>) {
        let before = self.policies.number(&policy.key());
        nets_of(policy).into_iter().for_each(|net| self.acquire_prefix(net));
        let number = self.policies.insert(Policy::new(policy.clone()));
        self.resolve(number, policy);
        if let Some(before) = before {
            self.policies.hide(before);
        }
        self.policies.show(number);
        self.reassign([Some(number), before]);
        if let Some(before) = before {
            self.drop_policy(before);
        }
    }

    pub(in crate::policy) fn remove_policy(&mut self, key: &PolicyRef) {
        let Some(number) = self.policies.number(key) else { return };
        self.policies.hide(number);
        self.reassign([Some(number), None]);
        self.drop_policy(number);
    }

    fn drop_policy(&mut self, number: u32) {
        let Some(gone) = self.policies.remove(number) else { return };
        let rules = gone.ingress.iter().chain(&gone.egress).flatten();
        for selector in rules.filter_map(|rule| rule.peers.as_ref()).flatten() {
            self.selectors.release(*selector, number);
        }
        nets_of(&gone.source).into_iter().for_each(|net| self.release_prefix(net));
    }

    /// Gives a new set to every workload that one of the policies selects.
    fn reassign(&mut self, policies: [Option<u32>; 2]) {
        if self.loading {
            return;
        }
        let mut profiles = BTreeSet::new();
        for policy in policies.into_iter().flatten().filter_map(|number| self.policies.get(number)) {
            let selected = |number: &u32| {
                let entry = self.peers.profile(*number);
                entry.is_some_and(|entry| !entry.foreign && policy.selects(&entry.profile))
            };
            match &*policy.source {
                AnyPolicy::Network(network) => match label_of(Axis::Workload, network.spec().selector()) {
                    Some(label) => profiles.extend(self.peers.labelled(&label).filter(selected)),
                    None => profiles.extend(self.peers.of_namespace(network.namespace()).filter(selected)),
                },
                _ => profiles.extend(self.peers.profiles().map(|(number, _)| number).filter(selected)),
            }
        }
        profiles.into_iter().for_each(|profile| self.assign(profile));
    }

    /// Reads the rules of a policy into selectors and ranges.
    fn resolve(&mut self, number: u32, policy: &AnyPolicy) {
        let mut sides = [None, None];
        for (side, direction) in sides.iter_mut().zip(Direction::ALL) {
            *side = match policy {
                AnyPolicy::Network(network) => network.spec().rules(direction).map(|rules| {
                    let home = Some(network.namespace());
                    rules.iter().map(|rule| self.rule(number, Action::Allow, rule, home)).collect()
                }),
                AnyPolicy::Cluster(cluster) => {
                    let rules = cluster.rules(direction).iter();
                    Some(rules.map(|one| self.rule(number, one.action(), one.rule(), None)).collect())
                }
                AnyPolicy::Grant(grant) => (grant.direction() == direction).then(|| {
                    let peers = self.selector(number, Matcher::Grant(grant.clone()));
                    vec![Rule::new(Action::Allow, Some(vec![peers]), grant.ports())]
                }),
            };
        }
        let [ingress, egress] = sides;
        if let Some(policy) = self.policies.get_mut(number) {
            policy.ingress = ingress;
            policy.egress = egress;
        }
    }

    fn rule(&mut self, policy: u32, action: Action, rule: &PolicyRule, home: Option<&Namespace>) -> Rule {
        let peers = rule.peers().iter().map(|peer| self.selector(policy, Matcher::of(peer, home)));
        let peers: Vec<_> = peers.collect();
        Rule::new(action, Some(peers).filter(|all| !all.is_empty()), rule.ports())
    }

    fn selector(&mut self, policy: u32, matcher: Matcher) -> u32 {
        let (number, new) = self.selectors.acquire(matcher, policy);
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
        let mut meant = Peers::default();
        let Some(entry) = self.selectors.get(selector) else { return meant };
        let mut look = |peer: u32| {
            let Some(found) = self.peers.peer(peer) else { return };
            if entry.matcher.matches(&self.tenant, self.view(found.key)) {
                meant.put(peer, true);
            }
        };
        let peers_of =
            |profile: u32| self.peers.profile(profile).into_iter().flat_map(|one| &one.peers).copied();
        match self.selectors.anchor(selector) {
            Anchor::Label(label) => self.peers.labelled(&label).flat_map(peers_of).for_each(&mut look),
            Anchor::Namespace(name) => self.peers.of_namespace(&name).flat_map(peers_of).for_each(&mut look),
            Anchor::Anything => self.peers.profiles().flat_map(|(one, _)| peers_of(one)).for_each(&mut look),
            Anchor::Address => {
                self.prefixes.iter().flat_map(|(_, prefix)| &prefix.peers).copied().for_each(&mut look);
            }
        }
        meant
    }
}

/// The networks that a policy names.
pub(in crate::policy) fn nets_of(policy: &AnyPolicy) -> Vec<IpNet> {
    let of = |rules: &mut dyn Iterator<Item = &PolicyRule>| -> Vec<IpNet> {
        let peers = rules.flat_map(PolicyRule::peers);
        let blocks = peers.filter_map(|peer| if let Peer::Block(block) = peer { Some(block) } else { None });
        blocks.flat_map(|block| block.exceptions().iter().copied().chain([block.cidr()])).collect()
    };
    match policy {
        AnyPolicy::Network(one) => {
            of(&mut Direction::ALL.into_iter().filter_map(|d| one.spec().rules(d)).flatten())
        }
        AnyPolicy::Cluster(one) => {
            of(&mut Direction::ALL.into_iter().flat_map(|d| one.rules(d)).map(ClusterRule::rule))
        }
        AnyPolicy::Grant(_) => Vec::new(),
    }
}
