use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::addr::AddressRange;
use crate::ipam::addresses::{Addresses, Found};
use crate::ipam::{Profile, Strategy as Order};
use crate::slab::Slab;

/// What an [`Allocator`](crate::ipam::Allocator) has of a family, with the names of the owners.
struct Space {
    addresses: Addresses,
    owners: Slab<WorkloadId>,
}

impl Space {
    /// All addresses of `layout`, free.
    fn new(family: IpFamily, layout: Layout) -> Self {
        Self {
            addresses: Addresses::restore(family, &layout, Vec::new(), [], (None, 0)),
            owners: Slab::default(),
        }
    }

    /// Uses another layout from now on: what it adds is free, what it lacks is drained. Looks at every address held.
    fn set_layout(&mut self, layout: &Layout) {
        self.addresses.set_layout(layout);
    }

    /// Takes an address for `owner`.
    fn take(&mut self, owner: WorkloadId, wish: Wish, now: Timestamp) -> Result<Found, Refusal> {
        let aim = self.addresses.aim(owner.as_str(), &wish, now);
        let found = self.addresses.find(aim, &wish, now, |slot| self.owners.get(slot).cloned())?;
        let slot = self.owners.insert(owner);
        self.addresses.take(found, slot);
        Ok(found)
    }

    /// Takes the address back, to cool until then; `false` if `owner` does not own it.
    fn give_back(&mut self, number: u128, owner: &WorkloadId, until: Option<Timestamp>) -> bool {
        let Some(slot) = self.addresses.owner(number) else { return false };
        let given_back =
            self.owners.get(slot) == Some(owner) && self.addresses.give_back(number, slot, until);
        if given_back {
            self.owners.remove(slot);
        }
        given_back
    }

    /// Frees every address whose quarantine is over; returns how many.
    fn thaw(&mut self, now: Timestamp) -> usize {
        self.addresses.thaw(now)
    }

    /// Who owns an address.
    fn owner(&self, number: u128) -> Option<&WorkloadId> {
        self.owners.get(self.addresses.owner(number)?)
    }

    /// Every owned address, in no order.
    fn owners(&self) -> impl Iterator<Item = (u128, &WorkloadId)> {
        self.addresses.owners().filter_map(|(number, slot)| Some((number, self.owners.get(slot)?)))
    }

    /// Every owned address, in order; sorts them.
    fn owned(&self) -> BTreeMap<u128, WorkloadId> {
        self.owners().map(|(number, owner)| (number, owner.clone())).collect()
    }

    /// What cools, by when it is over.
    fn cooling(&self) -> impl Iterator<Item = (Timestamp, u128)> {
        self.addresses.cooling()
    }

    /// The address proposed last, and after how many: to restore it.
    fn cursor(&self) -> (Option<u128>, u64) {
        self.addresses.cursor()
    }
}

fn owner(n: u8) -> WorkloadId {
    format!("w{n}").parse().unwrap()
}

/// What of a subnet may be given out, in several ways; the block is a part of the subnet or all of it.
fn worlds() -> Vec<(Cidr, Layout)> {
    let cidr = |text: &str| text.parse::<Cidr>().unwrap();
    let range =
        |first: &str, last: &str| AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    let of = |net: &str, profile, band| Layout::new().with_subnet(cidr(net), profile, band);
    vec![
        (cidr("10.0.0.0/29"), of("10.0.0.0/29", Profile::L2, false)),
        (cidr("10.0.0.0/26"), of("10.0.0.0/26", Profile::Service, true)),
        (cidr("10.0.0.0/28"), of("10.0.0.0/28", Profile::L2, false).reserving(range("10.0.0.3", "10.0.0.6"))),
        (
            cidr("10.0.0.32/27"),
            of("10.0.0.0/25", Profile::Routed, false).without(range("10.0.0.30", "10.0.0.55")),
        ),
        (cidr("fd00::ff00/124"), of("fd00::/112", Profile::Routed, true)),
        (cidr("fd00::/120"), of("fd00::/112", Profile::Routed, true).reserving(range("fd00::2", "fd00::f7"))),
        (cidr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120"), of("::/0", Profile::Routed, false)),
        (cidr("10.0.0.0/29"), Layout::new()),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Take {
        owner: u8,
        address: Option<u8>,
        emergency: bool,
        open_only: bool,
    },
    GiveBack {
        place: u8,
        owner: u8,
        cool: Option<u64>,
    },
    Wait(u64),
    Thaw,
    Keep,
    /// The layout becomes that of another world.
    Change(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), prop::option::weighted(0.2, 0u8..40), any::<bool>(), any::<bool>())
            .prop_map(|(owner, address, emergency, open_only)| Step::Take { owner, address, emergency, open_only }),
        6 => (0u8..40, any::<u8>(), prop::option::weighted(0.8, 0u64..9))
            .prop_map(|(place, owner, cool)| Step::GiveBack { place, owner, cool }),
        2 => (0u64..4).prop_map(Step::Wait),
        1 => Just(Step::Thaw),
        1 => Just(Step::Keep),
        1 => (0usize..8).prop_map(Step::Change),
    ]
}

fn reopened(space: &BlockSpace, layout: &Layout) -> BlockSpace {
    BlockSpace::restore(space.cidr(), layout, space.clone().into_state())
}

fn as_kept(space: &Space, first: u128) -> BlockState {
    let place = |number: u128| u8::try_from(number - first).unwrap();
    let owners = space.owned().into_iter().map(|(number, owner)| (place(number), owner)).collect();
    let mut cooling: Vec<_> = space.cooling().map(|(until, number)| (place(number), until)).collect();
    cooling.sort_unstable();
    let (last, turn) = space.cursor();
    BlockState { owners, cooling, last: last.map(place), turn }
}

proptest! {
    #[test]
    fn decides_as_an_allocator_does(
        world in 0usize..8,
        order in prop_oneof![
            Just(Order::Lowest), Just(Order::Next), Just(Order::Random { seed: 3 }), Just(Order::Hashed { seed: 3 })
        ],
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let (cidr, mut layout) = worlds()[world].clone();
        let mut block = BlockSpace::restore(cidr, &layout, BlockState::default());
        let mut space = Space::new(cidr.family(), layout.clone().within(cidr.range()));
        let mut now = Timestamp::from_secs(9);
        for step in steps {
            match step {
                Step::Take { owner: of, address, emergency, open_only } => {
                    let address = address.and_then(|place| cidr.family().address(cidr.first() + u128::from(place)));
                    let wish = Wish { address, strategy: order, emergency, open_only };
                    let expected = space.take(owner(of), wish, now).map(|taken| (taken.number, taken.early.is_some()));
                    prop_assert_eq!(block.take(&owner(of), wish, now), expected);
                }
                Step::GiveBack { place, owner: of, cool } => {
                    let number = cidr.first().saturating_add(u128::from(place));
                    let of = space.owner(number).cloned().filter(|_| of < 200).unwrap_or_else(|| owner(of));
                    let until = cool.map(|secs| now.after(Duration::from_secs(secs)));
                    prop_assert_eq!(block.give_back(number, &of, until), space.give_back(number, &of, until));
                }
                Step::Wait(secs) => now = now.after(Duration::from_secs(secs)),
                Step::Thaw => prop_assert_eq!(block.thaw(now), space.thaw(now)),
                Step::Keep => block = reopened(&block, &layout),
                Step::Change(to) => {
                    layout = worlds()[to].1.clone();
                    space.set_layout(&layout.clone().within(cidr.range()));
                    block = reopened(&block, &layout);
                }
            }
            prop_assert_eq!(block.clone().into_state(), as_kept(&space, cidr.first()));
        }
    }
}
