//! Both families together or not at all. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hivemind_core::{RequestId, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::addresses::{Addresses, Found};
use super::holders::Holder;
use super::leases::{Lease, Leases};
use super::{Fill, Layout, Refusal, Strategy, Wish};
use crate::addr::{IpFamily, address_number};

/// The addresses of one network in memory, with who owns what: for a host that has one allocator, or for an agent that
/// was given a block. The [`IpamManager`](crate::IpamManager) does the same in a store, for several replicas.
///
/// A value without clock or randomness: the same calls give the same addresses, also after [`restore`](Self::restore).
///
/// ```
/// use std::time::Duration;
/// use hivemind_core::Timestamp;
/// use hivemind_net::ipam::{Allocator, Ask, Layout, Profile};
///
/// let layout = |net: &str| Ok::<_, hivemind_net::addr::InvalidAddress>(
///     Layout::new().with_subnet(net.parse()?, Profile::L2, false));
/// let mut ipam = Allocator::new(Some(layout("10.0.0.0/29")?), Some(layout("fd00::/64")?))
///     .with_cooldown(Duration::from_secs(30));
/// let now = Timestamp::from_secs(100);
/// let web = ipam.allocate(&Ask::new("web-1".parse()?, "req-1".parse()?), now)?;
/// assert_eq!((web.v4, web.v6), (Some("10.0.0.2".parse()?), Some("fd00::2".parse()?)));
/// assert!(ipam.release(&"web-1".parse()?, &"req-1".parse()?, now));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Allocator {
    v4: Option<Addresses>,
    v6: Option<Addresses>,
    leases: Leases,
    strategy: Strategy,
    cooldown: Duration,
}

/// The addresses of one workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pair {
    /// IPv4, if the network has it.
    pub v4: Option<Ipv4Addr>,
    /// IPv6, if the network has it.
    pub v6: Option<Ipv6Addr>,
    /// Whether one of them is used before its quarantine was over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
}

impl Pair {
    /// The address of one family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.v4.map(IpAddr::from),
            IpFamily::V6 => self.v6.map(IpAddr::from),
        }
    }

    pub(crate) fn set(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
    }
}

/// A request for the addresses of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// Who is to own them.
    pub owner: WorkloadId,
    /// In which request: the handle by which they are given back.
    pub request: RequestId,
    /// This IPv4 address, and no other.
    pub v4: Option<Ipv4Addr>,
    /// This IPv6 address, and no other.
    pub v6: Option<Ipv6Addr>,
    /// Whether an address may be used again before its quarantine is over, when nothing else is left.
    pub emergency: bool,
}

impl Ask {
    /// Any address of each family.
    pub fn new(owner: WorkloadId, request: RequestId) -> Self {
        Self { owner, request, v4: None, v6: None, emergency: false }
    }

    /// This address, and no other.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.v4 = Some(v4),
            IpAddr::V6(v6) => self.v6 = Some(v6),
        }
        self
    }

    /// Allows the use of an address before its quarantine is over, when nothing else is left.
    #[must_use]
    pub fn with_emergency(mut self) -> Self {
        self.emergency = true;
        self
    }

    fn address(&self, family: IpFamily) -> Option<IpAddr> {
        Pair { v4: self.v4, v6: self.v6, early: false }.address(family)
    }
}

/// Everything an [`Allocator`] knows, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AllocatorState {
    /// Who has what, from which request.
    pub held: BTreeMap<WorkloadId, (Pair, RequestId)>,
    /// What cools until when.
    pub cooling: BTreeMap<IpAddr, Timestamp>,
    /// The address proposed last in each family.
    pub last: BTreeMap<IpFamily, IpAddr>,
    /// How many were proposed in each family.
    pub turns: BTreeMap<IpFamily, u64>,
}

impl Allocator {
    /// All addresses of the layouts, free; of both families, or of one.
    pub fn new(v4: Option<Layout>, v6: Option<Layout>) -> Self {
        Self::restore(v4, v6, AllocatorState::default())
    }

    /// As it was when [`state`](Self::state) was asked for.
    pub fn restore(v4: Option<Layout>, v6: Option<Layout>, state: AllocatorState) -> Self {
        let leases = Leases::restore(state.held);
        let of = |family, layout| {
            let owned = leases.iter().filter_map(|(slot, lease)| {
                Some((address_number(lease.pair.address(family)?), Holder::owner(slot)))
            });
            let cooling = state.cooling.iter().filter(|(address, _)| IpFamily::of(**address) == family);
            let cooling = cooling.map(|(address, until)| (address_number(*address), *until));
            let last = state.last.get(&family).map(|address| address_number(*address));
            let turn = state.turns.get(&family).copied().unwrap_or_default();
            Addresses::restore(family, &layout, owned.collect(), cooling, (last, turn))
        };
        let (v4, v6) = (v4.map(|l| of(IpFamily::V4, l)), v6.map(|l| of(IpFamily::V6, l)));
        Self { v4, v6, leases, strategy: Strategy::default(), cooldown: Duration::ZERO }
    }

    /// With another strategy than [`Strategy::Next`].
    #[must_use]
    pub fn with_strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Keeps an address out of use for so long after it was given back.
    #[must_use]
    pub fn with_cooldown(mut self, cooldown: Duration) -> Self {
        self.cooldown = cooldown;
        self
    }

    /// An address of each family for the owner, both or none. An owner that has addresses keeps them.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub fn allocate(&mut self, ask: &Ask, now: Timestamp) -> Result<Pair, Refusal> {
        let hash = self.leases.hash(&ask.owner);
        let Self { v4, v6, leases, strategy, .. } = self;
        let wish = |family| Wish {
            address: ask.address(family),
            strategy: *strategy,
            emergency: ask.emergency,
            open_only: false,
        };
        let owner = ask.owner.as_str();
        // Names and both families are tables larger than the caches: one wait for all of them rather than one for each.
        let mut both = [(v4, wish(IpFamily::V4)), (v6, wish(IpFamily::V6))].map(|(space, wish)| {
            let aim = space.as_mut().map(|space| space.aim(owner, &wish, now));
            (space, wish, aim)
        });
        leases.touch(hash);
        for (space, _, aim) in &both {
            if let (Some(space), Some(aim)) = (space, aim) {
                space.touch(aim);
            }
        }
        if let Some(lease) = leases.find(hash, &ask.owner).and_then(|slot| leases.get(slot)) {
            return same_as_asked(ask, lease.pair);
        }
        for (space, wish, _) in &both {
            if let (None, Some(address)) = (space, wish.address) {
                return Err(Refusal::Outside { address });
            }
        }
        // Nothing is taken before both are found, so that nothing has to be undone.
        let mut found = [None, None];
        for ((space, wish, aim), found) in both.iter_mut().zip(&mut found) {
            if let (Some(space), Some(aim)) = (space, aim.take()) {
                let who = |slot| leases.get(slot).map(|lease| lease.owner.clone());
                *found = Some(space.find(aim, wish, now, who)?);
            }
        }
        let [v4, v6] = found;
        let pair = pair_of(v4, v6);
        let lease = Lease { owner: ask.owner.clone(), request: ask.request.clone(), pair };
        let Some(slot) = leases.insert(hash, lease) else {
            let full = both.iter().find_map(|(space, ..)| space.as_ref());
            return full.map_or(Ok(pair), |space| Err(space.exhausted()));
        };
        for ((space, ..), found) in both.iter_mut().zip(found) {
            if let (Some(space), Some(found)) = (space, found) {
                space.take(found, slot);
            }
        }
        Ok(pair)
    }

    /// Takes the addresses back that `owner` got in `request`; `false` if it has none of that request, such as the
    /// second time.
    pub fn release(&mut self, owner: &WorkloadId, request: &RequestId, now: Timestamp) -> bool {
        let hash = self.leases.hash(owner);
        let Some(slot) = self.leases.find(hash, owner) else { return false };
        let Some(pair) = self.leases.get(slot).filter(|held| held.request == *request).map(|held| held.pair)
        else {
            return false;
        };
        self.leases.remove(hash, slot);
        let until = (!self.cooldown.is_zero()).then(|| now.after(self.cooldown));
        for space in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            if let Some(address) = pair.address(space.family()) {
                space.give_back(address_number(address), slot, until);
            }
        }
        true
    }

    /// What an owner has.
    pub fn lease(&self, owner: &WorkloadId) -> Option<Pair> {
        let slot = self.leases.find(self.leases.hash(owner), owner)?;
        self.leases.get(slot).map(|lease| lease.pair)
    }

    /// How many owners there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no owner.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who owns an address.
    pub fn owner(&self, address: IpAddr) -> Option<&WorkloadId> {
        let slot = self.addresses(IpFamily::of(address))?.owner(address_number(address))?;
        self.leases.get(slot).map(|lease| &lease.owner)
    }

    /// Who has which address of a family, in order; sorts them.
    pub fn owned(&self, family: IpFamily) -> BTreeMap<IpAddr, WorkloadId> {
        let all = self.addresses(family).into_iter().flat_map(Addresses::owners);
        let all = all.filter_map(|(number, slot)| {
            Some((family.address(number)?, self.leases.get(slot)?.owner.clone()))
        });
        all.collect()
    }

    fn addresses(&self, family: IpFamily) -> Option<&Addresses> {
        match family {
            IpFamily::V4 => self.v4.as_ref(),
            IpFamily::V6 => self.v6.as_ref(),
        }
    }

    /// How full a family is.
    pub fn fill(&self, family: IpFamily, now: Timestamp) -> Option<Fill> {
        self.addresses(family).map(|space| space.fill(now))
    }

    /// How many look-ups in what is free all operations took, in both families.
    pub fn probes(&self) -> u64 {
        [&self.v4, &self.v6].into_iter().flatten().map(Addresses::probes).sum()
    }

    /// Grows, shrinks or drains a family that there is: what the layout adds is free, what it lacks is given out no
    /// more, and owners keep what they have. Looks at every address held.
    pub fn set_layout(&mut self, family: IpFamily, layout: &Layout) {
        let space = match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        };
        if let Some(space) = space {
            space.set_layout(layout);
        }
    }

    /// Everything it knows, to be kept and [restored](Self::restore).
    pub fn state(&self) -> AllocatorState {
        let mut state = AllocatorState { held: self.leases.state(), ..AllocatorState::default() };
        for space in [&self.v4, &self.v6].into_iter().flatten() {
            let family = space.family();
            let cooling = space.cooling().filter_map(|(until, n)| Some((family.address(n)?, until)));
            state.cooling.extend(cooling);
            let (last, turn) = space.cursor();
            state.last.extend(last.and_then(|last| family.address(last)).map(|last| (family, last)));
            state.turns.insert(family, turn);
        }
        state
    }
}

/// What an owner has, unless it asked for something else by name.
pub(crate) fn same_as_asked(ask: &Ask, has: Pair) -> Result<Pair, Refusal> {
    for family in IpFamily::BOTH {
        match (ask.address(family), has.address(family)) {
            (Some(asked), Some(has)) if asked != has => {
                return Err(Refusal::HasAnother { owner: ask.owner.clone(), has, asked });
            }
            (Some(address), None) => return Err(Refusal::Outside { address }),
            _ => {}
        }
    }
    Ok(has)
}

fn pair_of(v4: Option<Found>, v6: Option<Found>) -> Pair {
    let mut pair = Pair::default();
    for (family, taken) in [(IpFamily::V4, v4), (IpFamily::V6, v6)] {
        if let Some(address) = taken.and_then(|taken| family.address(taken.number)) {
            pair.set(address);
        }
        pair.early |= taken.is_some_and(|taken| taken.early.is_some());
    }
    pair
}
