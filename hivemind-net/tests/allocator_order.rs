//! Exactly which address is given, who owns which, and what is free, against a plain set.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hivemind_core::{RequestId, Timestamp, WorkloadId};
use hivemind_net::addr::{AddressRange, IpFamily, address_number};
use hivemind_net::ipam::{Allocator, Ask, Layout, Profile, Strategy as Order};
use proptest::prelude::*;

/// So many addresses there are at most: some groups of four, some words of groups.
const WINDOW: u128 = 700;

fn request() -> RequestId {
    "r".parse().unwrap()
}

fn address(number: u128) -> IpAddr {
    IpFamily::V6.address(number).unwrap()
}

/// Ranges of the window that are left out, or given only to those who ask.
type Holes = Vec<(u128, u128, bool)>;

fn holes() -> impl Strategy<Value = Holes> {
    prop::collection::vec((0..WINDOW, 0u128..150, any::<bool>()), 0..4)
}

fn layout(base: u128, holes: &Holes) -> Layout {
    let range = |first: u128, last: u128| {
        AddressRange::new(address(base + first), address(base + last.min(WINDOW - 1))).unwrap()
    };
    let all = Layout::new().with_subnet("::/0".parse().unwrap(), Profile::Service, false);
    holes.iter().fold(all.within(range(0, WINDOW)), |layout, (first, len, reserved)| {
        let hole = range(*first, first + len);
        if *reserved { layout.reserving(hole) } else { layout.without(hole) }
    })
}

#[derive(Debug, Clone)]
enum Step {
    /// So many, for anybody.
    Any(usize),
    Named(u128),
    /// Those that are owned from some place on, so many.
    Release(usize, usize),
    Layout(Holes),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..400).prop_map(Step::Any),
        3 => (0..WINDOW + 8).prop_map(Step::Named),
        3 => (0usize..700, 1usize..300).prop_map(|(from, n)| Step::Release(from, n)),
        1 => holes().prop_map(Step::Layout),
        1 => Just(Step::Restore),
    ]
}

struct Model {
    base: u128,
    layout: Layout,
    owned: BTreeMap<u128, WorkloadId>,
    last: Option<u128>,
    made: usize,
}

impl Model {
    fn all(&self) -> impl Iterator<Item = u128> {
        (0..WINDOW).filter_map(|n| self.base.checked_add(n))
    }

    fn free(&self, open: bool) -> BTreeSet<u128> {
        let set = if open { self.layout.open() } else { self.layout.reserved() };
        self.all().filter(|n| set.contains(*n) && !self.owned.contains_key(n)).collect()
    }

    fn expected(&self, order: Order) -> Option<u128> {
        let free = self.free(true);
        let from = match (order, self.last) {
            (Order::Next, Some(last)) => last.checked_add(1).unwrap_or_default(),
            _ => 0,
        };
        free.range(from..).next().or(free.first()).copied()
    }

    fn give(&mut self, number: u128) -> Ask {
        self.made += 1;
        let owner: WorkloadId = format!("w{}", self.made).parse().unwrap();
        self.owned.insert(number, owner.clone());
        Ask::new(owner, request())
    }

    /// All free ranges, counted one by one.
    fn fragments(free: &BTreeSet<u128>) -> u64 {
        free.iter().filter(|n| n.checked_sub(1).is_none_or(|before| !free.contains(&before))).count() as u64
    }

    fn check(&self, ipam: &Allocator) -> Result<(), TestCaseError> {
        let fill = ipam.fill(IpFamily::V6, Timestamp::from_secs(1)).unwrap();
        let (free, reserved) = (self.free(true), self.free(false));
        prop_assert_eq!((fill.free, fill.fragments), (free.len() as u128, Self::fragments(&free)));
        prop_assert_eq!((fill.reserved, fill.owned), (reserved.len() as u128, self.owned.len() as u64));
        prop_assert_eq!((fill.usable, fill.cooling), (self.layout.size(), 0));
        for number in self.all() {
            prop_assert_eq!(ipam.owner(address(number)), self.owned.get(&number));
        }
        let owned = ipam.owned(IpFamily::V6).into_iter().map(|(at, owner)| (address_number(at), owner));
        prop_assert_eq!(&owned.collect::<BTreeMap<_, _>>(), &self.owned);
        prop_assert_eq!(ipam.len(), self.owned.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The window begins at the first number, before a power of two, in the midst of a group, or ends at the last number.
    #[test]
    fn every_address_is_the_one_of_a_plain_set(
        base in prop::sample::select(vec![1, (1u128 << 66) - 333, (1u128 << 127) + 6, u128::MAX - (WINDOW - 1)]),
        order in prop::sample::select(vec![Order::Lowest, Order::Next]),
        first in holes(),
        steps in prop::collection::vec(step(), 1..16),
    ) {
        let now = Timestamp::from_secs(1);
        let new = layout(base, &first);
        let mut ipam = Allocator::new(None, Some(new.clone())).with_strategy(order);
        let mut model = Model { base, layout: new, owned: BTreeMap::new(), last: None, made: 0 };
        for step in steps {
            match step {
                Step::Any(times) => for _ in 0..times {
                    let Some(number) = model.expected(order) else {
                        let ask = Ask::new("nobody".parse().unwrap(), request());
                        prop_assert!(ipam.allocate(&ask, now).is_err());
                        break;
                    };
                    let ask = model.give(number);
                    let pair = ipam.allocate(&ask, now).unwrap();
                    prop_assert_eq!(pair.v6.map(|at| address_number(at.into())), Some(number));
                    model.last = Some(number);
                },
                Step::Named(n) => {
                    let Some(number) = base.checked_add(n) else { continue };
                    if model.layout.contains(number) && !model.owned.contains_key(&number) {
                        let ask = model.give(number).with_address(address(number));
                        prop_assert!(ipam.allocate(&ask, now).is_ok());
                    } else {
                        let ask = Ask::new("nobody".parse().unwrap(), request()).with_address(address(number));
                        prop_assert!(ipam.allocate(&ask, now).is_err());
                    }
                }
                Step::Release(from, n) => {
                    let some: Vec<_> = model.owned.iter().skip(from).take(n).map(|(n, w)| (*n, w.clone())).collect();
                    for (number, owner) in some {
                        prop_assert!(ipam.release(&owner, &request(), now) && !ipam.release(&owner, &request(), now));
                        model.owned.remove(&number);
                    }
                }
                Step::Layout(holes) => {
                    model.layout = layout(base, &holes);
                    ipam.set_layout(IpFamily::V6, &model.layout);
                }
                Step::Restore => {
                    let state = ipam.state();
                    ipam = Allocator::restore(None, Some(model.layout.clone()), state.clone()).with_strategy(order);
                    prop_assert_eq!(ipam.state(), state);
                }
            }
            model.check(&ipam)?;
        }
    }
}

#[test]
fn all_numbers_there_are_have_an_end() {
    let all = || Some(Layout::new().with_subnet("::/0".parse().unwrap(), Profile::Service, false));
    let now = Timestamp::from_secs(1);
    let ask = |n: usize| Ask::new(format!("w{n}").parse().unwrap(), request());
    let mut ipam = Allocator::new(None, all());
    let free =
        |ipam: &Allocator| ipam.fill(IpFamily::V6, now).map(|fill| (fill.free, fill.fragments)).unwrap();
    assert_eq!(free(&ipam), (u128::MAX, 1));
    let last: IpAddr = address(u128::MAX);
    ipam.allocate(&ask(0).with_address(last), now).unwrap();
    assert_eq!(free(&ipam), (u128::MAX - 1, 1));
    let middle = u128::MAX / 4 * 2 + 1;
    ipam.allocate(&ask(1).with_address(address(middle)), now).unwrap();
    assert_eq!(free(&ipam), (u128::MAX - 2, 2));
    assert_eq!(ipam.allocate(&ask(2), now).unwrap().v6, Some("::1".parse().unwrap()));
    let back = Allocator::restore(None, all(), ipam.state());
    assert_eq!((back.owner(last), free(&back)), (Some(&ask(0).owner), (u128::MAX - 3, 2)));
}
