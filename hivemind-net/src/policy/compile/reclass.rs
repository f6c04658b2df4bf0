//! Prefixes come and go, and addresses get the peers of their longest ones. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::{DnsName, World};
use super::domain::Domain;
use super::peers::PeerKey;

impl Domain {
    /// The prefix `number` came, or is hidden: addresses in no longer one than that get other peers.
    fn reclass(&mut self, world: &World, (number, net): (u32, IpNet), came: bool) {
        let tenant = self.tenant.clone();
        for (address, owners) in world.claims(&tenant, (net.network(), net.broadcast())) {
            let is_longer = |net: &IpNet, other: u32| {
                self.prefixes.get(other).is_some_and(|other| other.net.prefix_len() > net.prefix_len())
            };
            if self.prefixes.longest(address).is_some_and(|longest| is_longer(&net, longest)) {
                continue;
            }
            let shorter = self.prefixes.longest_below(address, net.prefix_len());
            let (before, after) = if came { (shorter, Some(number)) } else { (Some(number), shorter) };
            for owner in owners {
                let Some(profile) = self.peers.profile_number(owner.profile()) else { continue };
                let key = |prefix| PeerKey { profile: Some(profile), prefix };
                self.acquire_peer(key(after));
                if let Some(before) = self.peers.number(key(before)) {
                    self.release_peer(before);
                }
            }
        }
    }

    pub(in crate::policy) fn acquire_prefix(&mut self, world: &World, net: IpNet) {
        let (number, new) = self.prefixes.acquire(net);
        if new {
            self.acquire_peer(PeerKey { profile: None, prefix: Some(number) });
            self.reclass(world, (number, net), true);
        }
    }

    pub(in crate::policy) fn release_prefix(&mut self, world: &World, net: IpNet) {
        let Some((number, true)) = self.prefixes.release(net) else { return };
        self.prefixes.hide(number);
        self.reclass(world, (number, net), false);
        if let Some(peer) = self.peers.number(PeerKey { profile: None, prefix: Some(number) }) {
            self.release_peer(peer);
        }
        self.prefixes.drop(number);
    }

    /// An address has just these domain names.
    pub(in crate::policy) fn put_names(&mut self, world: &World, address: IpAddr, names: &BTreeSet<DnsName>) {
        let net = IpNet::from(address);
        let known = self.prefixes.longest(address).and_then(|number| self.prefixes.get(number));
        let had_names = known.is_some_and(|prefix| prefix.net == net && !prefix.names.is_empty());
        if !names.is_empty() && !had_names {
            self.named += 1;
            self.acquire_prefix(world, net);
        }
        let Some(number) = self.prefixes.longest(address) else { return };
        let Some(prefix) = self.prefixes.get(number).filter(|prefix| prefix.net == net) else { return };
        let peers: Vec<_> = prefix.peers.iter().collect();
        let keyed = |number: u32| Some((number, self.peers.peer(number)?.key));
        let peers: Vec<_> = peers.into_iter().filter_map(keyed).collect();
        peers.iter().for_each(|(number, key)| self.match_peer(*number, *key, false));
        if let Some(prefix) = self.prefixes.get_mut(number) {
            prefix.names.clone_from(names);
        }
        peers.iter().for_each(|(number, key)| self.match_peer(*number, *key, true));
        if names.is_empty() && had_names {
            self.named = self.named.saturating_sub(1);
            self.release_prefix(world, net);
        }
    }
}
