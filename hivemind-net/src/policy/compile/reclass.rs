//! Prefixes come and go, and addresses get the peers of their longest ones. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hivemind_core::WorkloadId;
use ipnet::IpNet;

use super::super::DnsName;
use super::domain::{Domain, place};
use super::peers::PeerKey;

impl Domain {
    fn addresses_in(&self, net: IpNet) -> Vec<(IpAddr, WorkloadId, u32)> {
        let all = self.addresses.range(place(net.network())..=place(net.broadcast()));
        let owners = all.filter_map(|((family, number), owners)| Some((family.address(*number)?, owners)));
        owners
            .flat_map(|(address, owners)| owners.iter().map(move |(id, peer)| (address, id.clone(), *peer)))
            .collect()
    }

    /// Gives every address in `net` the peer of its present longest prefix.
    fn reclass(&mut self, net: IpNet) {
        for (address, id, before) in self.addresses_in(net) {
            let Some(key) = self.peers.peer(before).map(|entry| entry.key) else { continue };
            let prefix = self.prefixes.longest(address);
            if prefix == key.prefix {
                continue;
            }
            let after = self.acquire_peer(PeerKey { prefix, ..key });
            self.put_address(place(address), &id, after);
            self.release_peer(before);
        }
    }

    pub(in crate::policy) fn acquire_prefix(&mut self, net: IpNet) {
        let (number, new) = self.prefixes.acquire(net);
        if new {
            self.acquire_peer(PeerKey { profile: None, prefix: Some(number) });
            self.reclass(net);
        }
    }

    pub(in crate::policy) fn release_prefix(&mut self, net: IpNet) {
        let Some((number, true)) = self.prefixes.release(net) else { return };
        self.prefixes.hide(number);
        self.reclass(net);
        if let Some(peer) = self.peers.number(PeerKey { profile: None, prefix: Some(number) }) {
            self.release_peer(peer);
        }
        self.prefixes.drop(number);
    }

    /// An address has just these domain names.
    pub(in crate::policy) fn put_names(&mut self, address: IpAddr, names: &BTreeSet<DnsName>) {
        let net = IpNet::from(address);
        let known = self.prefixes.longest(address).and_then(|number| self.prefixes.get(number));
        let had_names = known.is_some_and(|prefix| prefix.net == net && !prefix.names.is_empty());
        if !names.is_empty() && !had_names {
            self.named += 1;
            self.acquire_prefix(net);
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
            self.release_prefix(net);
        }
    }
}
