//! One address for one workload: from the node's own subnets, a new one, or another node's. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::{NodeId, Result};

use super::request::AddressRequest;
use super::session::Session;
use crate::NetworkConfig;
use crate::addr::{Cidr, IpFamily, address_number};
use crate::config::FamilyConfig;
use crate::ipam::{FreeRanges, Refusal, Start, Strategy, Wish};
use crate::records::{Block, regions};

/// An address, as a number, and whether it had not rested; or why there is none.
pub(super) type Found = std::result::Result<(u128, bool), Refusal>;

/// What several blocks said, in one refusal.
#[derive(Default)]
struct Full {
    held: u64,
    cooling: u64,
    retry_after: Option<std::time::Duration>,
}

impl Full {
    fn add(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::OnlyCooling { cooling, retry_after, .. } => {
                self.cooling = self.cooling.saturating_add(*cooling);
                self.retry_after =
                    Some(self.retry_after.map_or(*retry_after, |before| before.min(*retry_after)));
            }
            Refusal::Exhausted { held, .. } => self.held = self.held.saturating_add(*held),
            _ => {}
        }
    }

    fn refusal(self, family: IpFamily) -> Refusal {
        match self.retry_after {
            Some(retry_after) => Refusal::OnlyCooling { family, cooling: self.cooling, retry_after },
            None => Refusal::Exhausted { family, held: self.held },
        }
    }
}

/// The number of a subnet that is so far into it.
fn point(subnet: Cidr, random: u128) -> u128 {
    subnet.first() | subnet.size().map_or(random, |size| random % size)
}

/// Whether a node that has so many subnets of a family may have another.
fn may_have_more(config: &NetworkConfig, has: usize) -> bool {
    let most = config.options().max_subnets_per_node.and_then(|most| usize::try_from(most).ok());
    most.is_none_or(|most| has < most)
}

impl Session<'_> {
    /// An address of one family of a pool for the workload.
    pub(super) fn take(
        &mut self,
        config: &NetworkConfig,
        family: &FamilyConfig,
        ask: &AddressRequest,
    ) -> Result<Found> {
        if ask.address(family.family()).is_some() {
            return self.take_this(config, family, ask);
        }
        let mut full = Full::default();
        let own = self.own_subnets(config, family, &ask.node)?;
        for subnet in own.iter() {
            if let Some(found) = self.take_in(config, *subnet, ask, false, &mut full)? {
                return Ok(Ok(found));
            }
        }
        let pinned = false;
        if may_have_more(config, own.len())
            && let Some(subnet) = self.take_subnet(config, family, &ask.node, pinned)?
            && let Some(found) = self.take_in(config, subnet, ask, false, &mut full)?
        {
            return Ok(Ok(found));
        }
        let others = if config.options().strict_affinity {
            Vec::new()
        } else {
            self.other_subnets(config, family, &ask.node)?
        };
        for subnet in &others {
            if let Some(found) = self.borrow_in(config, *subnet, ask, false, &mut full)? {
                return Ok(Ok(found));
            }
        }
        if ask.emergency {
            let mut full = Full::default();
            for subnet in own.iter().chain(&others) {
                if let Some(found) = self.borrow_in(config, *subnet, ask, true, &mut full)? {
                    return Ok(Ok(found));
                }
            }
        }
        Ok(Err(full.refusal(family.family())))
    }

    /// The subnets of other nodes and of lost ones, beginning at a place that depends on the node, so that two nodes
    /// that borrow rarely meet. Looks at every region: only a pool without a free subnet comes here.
    fn other_subnets(
        &self,
        config: &NetworkConfig,
        family: &FamilyConfig,
        node: &NodeId,
    ) -> Result<Vec<Cidr>> {
        let prefix = self.keys.regions(config.name(), family.family())?;
        let mut others = Vec::new();
        for region in regions()?.list(self.view, &self.txn, &prefix)? {
            let subnets = region.subnets(family).filter(|(subnet, owner)| {
                *owner != Some(node) && family.active().any(|cidr| cidr.covers(*subnet))
            });
            others.extend(subnets.map(|(subnet, _)| subnet));
        }
        let hash = crate::ipam::hash(0, node.as_str().as_bytes());
        let start = u128::try_from(others.len().max(1)).map_or(0, |len| hash % len);
        others.rotate_left(usize::try_from(start).unwrap_or_default());
        Ok(others)
    }

    /// An address of somebody else's subnet, whose owner must not change meanwhile.
    fn borrow_in(
        &mut self,
        config: &NetworkConfig,
        subnet: Cidr,
        ask: &AddressRequest,
        emergency: bool,
        full: &mut Full,
    ) -> Result<Option<(u128, bool)>> {
        let found = self.take_in(config, subnet, ask, emergency, full)?;
        if found.is_some() {
            self.subnet_owner(config, subnet)?;
        }
        Ok(found)
    }

    /// An address of a subnet, block by block.
    fn take_in(
        &mut self,
        config: &NetworkConfig,
        subnet: Cidr,
        ask: &AddressRequest,
        emergency: bool,
        full: &mut Full,
    ) -> Result<Option<(u128, bool)>> {
        let (strategy, band) = (config.options().strategy, config.options().static_band);
        // The first candidate has room, most likely: then nobody needs to know the others.
        let whole = Block::around(subnet, subnet.first()) == Some(subnet);
        let likely = if whole { Some(subnet) } else { self.likely(config, subnet, strategy, ask)? };
        if let Some(cidr) = likely {
            let wish = Wish { address: None, strategy, emergency, open_only: band };
            match self.take_of(config, (subnet, cidr), &ask.workload, wish)? {
                Ok(taken) => return Ok(Some(taken)),
                // There is no other.
                Err(refusal) if whole && !band => {
                    full.add(&refusal);
                    return Ok(None);
                }
                Err(_) => {}
            }
        }
        let candidates = self.candidates(config, subnet, strategy, ask)?;
        // What is given out last is so in all blocks of the subnet, not in each.
        for open_only in [true, false].into_iter().skip(usize::from(!band)) {
            let wish = Wish { address: None, strategy, emergency, open_only };
            for cidr in &candidates {
                match self.take_of(config, (subnet, *cidr), &ask.workload, wish)? {
                    Ok(taken) => return Ok(Some(taken)),
                    Err(refusal) if !open_only => full.add(&refusal),
                    Err(_) => {}
                }
            }
        }
        Ok(None)
    }

    /// The first of several [`candidates`](Self::candidates), if it can be told without a look at all.
    fn likely(
        &mut self,
        config: &NetworkConfig,
        subnet: Cidr,
        strategy: Strategy,
        ask: &AddressRequest,
    ) -> Result<Option<Cidr>> {
        let known = self.blocks_of(config, subnet)?;
        let turn = u64::try_from(known.len()).unwrap_or(u64::MAX);
        Ok(match strategy.start(ask.workload.as_str(), turn, None) {
            Start::Anywhere(random) => Block::around(subnet, point(subnet, random)),
            _ if strategy == Strategy::Next => known.last().copied(),
            _ => None,
        })
    }

    /// The blocks of a subnet in which to search, in this order: each that has a record, and one that has none.
    fn candidates(
        &mut self,
        config: &NetworkConfig,
        subnet: Cidr,
        strategy: Strategy,
        ask: &AddressRequest,
    ) -> Result<Vec<Cidr>> {
        let first = Block::around(subnet, subnet.first());
        if first == Some(subnet) {
            return Ok(vec![subnet]);
        }
        let known = self.blocks_of(config, subnet)?;
        let layout = config.layout(subnet);
        let unused = |set: &FreeRanges| {
            let mut unused = set.clone();
            known.iter().for_each(|block| drop(unused.remove(block.first(), block.last())));
            unused
        };
        let (open, band) = (unused(layout.open()), unused(layout.band()));
        // One of what is given out first, and one of what is given out last.
        let from = |number: u128| {
            let of = |set: &FreeRanges| set.at_or_after(number).or_else(|| set.at_or_after(0));
            let found = [of(&open), of(&band)].into_iter().flatten();
            found.filter_map(|number| Block::around(subnet, number)).collect::<Vec<_>>()
        };
        let turn = u64::try_from(known.len()).unwrap_or(u64::MAX);
        let mut order = Vec::new();
        match strategy.start(ask.workload.as_str(), turn, None) {
            Start::Anywhere(random) => {
                let point = point(subnet, random);
                order.extend(Block::around(subnet, point));
                order.extend(from(point));
            }
            // The last one has room, most likely; then one that nobody has used after it.
            _ if strategy == Strategy::Next => {
                order.extend(known.last());
                order.extend(from(
                    known.last().and_then(|last| last.last().checked_add(1)).unwrap_or_default(),
                ));
            }
            _ => {
                let lowest = from(0);
                order
                    .extend(known.iter().filter(|block| lowest.first().is_none_or(|lowest| *block < lowest)));
                order.extend(lowest);
            }
        }
        order.extend(known);
        let mut seen = BTreeSet::new();
        order.retain(|block| seen.insert(*block));
        Ok(order)
    }

    /// The address that was asked for.
    fn take_this(
        &mut self,
        config: &NetworkConfig,
        family: &FamilyConfig,
        ask: &AddressRequest,
    ) -> Result<Found> {
        let Some(address) = ask.address(family.family()) else {
            return Ok(Err(Refusal::Exhausted { family: family.family(), held: 0 }));
        };
        let number = address_number(address);
        let excluded = |why| Ok(Err(Refusal::Excluded { address, why }));
        let (Some(cidr), Some(subnet)) = (family.cidr_of(number), family.subnet_of(number)) else {
            return Ok(Err(Refusal::Outside { address }));
        };
        if family.is_draining(cidr) {
            return excluded("its network is being drained");
        }
        let host = Cidr::host(address).range();
        if config.excluded().iter().any(|range| range.overlaps(host)) {
            return excluded("it is in an excluded range");
        }
        if !config.layout(subnet).contains(number) {
            return excluded("it is a special address of its subnet");
        }
        let owner = self.subnet_owner(config, subnet)?;
        let own = match owner {
            Some(owner) => owner.as_ref() == Some(&ask.node),
            None if !may_have_more(config, self.own_subnets(config, family, &ask.node)?.len()) => {
                return excluded("its subnet is nobody's, and the node has as many as the pool allows");
            }
            None => self.take_this_subnet(config, family, &ask.node, subnet)?,
        };
        if !own && config.options().strict_affinity {
            return excluded("its subnet belongs to another node, and the pool does not lend");
        }
        let Some(block) = Block::around(subnet, number) else { return Ok(Err(Refusal::Outside { address })) };
        let strategy = config.options().strategy;
        let wish = Wish { address: Some(address), strategy, emergency: ask.emergency, open_only: false };
        self.take_of(config, (subnet, block), &ask.workload, wish)
    }
}
