//! The allocator against plain sets: every strategy, both families, growing, shrinking, reserving, quarantine.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::{RequestId, Timestamp, WorkloadId};
use hivemind_net::addr::{AddressRange, Cidr, IpFamily, address_number};
use hivemind_net::ipam::{
    Allocator, Ask, FreeBits, FreeRanges, Layout, Pair, Profile, Refusal, Strategy as Order,
};
use proptest::prelude::*;

fn owner(n: usize) -> WorkloadId {
    format!("w{n}").parse().unwrap()
}

fn request(n: usize) -> RequestId {
    format!("r{n}").parse().unwrap()
}

fn layout(nets: &[&str]) -> Layout {
    nets.iter().fold(Layout::new(), |all, net| all.with_subnet(net.parse().unwrap(), Profile::L2, false))
}

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

const COOLDOWN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
enum Step {
    Allocate { owner: usize, emergency: bool, v4: Option<u8>, v6: Option<u8> },
    Release { owner: usize, stale: bool },
    Wait(u8),
    Layout(usize),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let small = || prop::option::weighted(0.2, 0u8..40);
    prop_oneof![
        6 => (0usize..24, prop::bool::weighted(0.2), small(), small())
            .prop_map(|(owner, emergency, v4, v6)| Step::Allocate { owner, emergency, v4, v6 }),
        4 => (0usize..24, prop::bool::weighted(0.1)).prop_map(|(owner, stale)| Step::Release { owner, stale }),
        3 => (0u8..8).prop_map(Step::Wait),
        1 => (0usize..4).prop_map(Step::Layout),
        1 => Just(Step::Restore),
    ]
}

/// IPv4: from nothing at all to 29 addresses, with and without what is excluded and reserved.
fn v4_layouts() -> [Layout; 4] {
    [
        layout(&["10.0.0.0/28"]),
        layout(&["10.0.0.0/28", "10.0.0.16/28"]).reserving(range("10.0.0.18", "10.0.0.20")),
        layout(&["10.0.0.0/27"])
            .without(range("10.0.0.4", "10.0.0.9"))
            .reserving(range("10.0.0.0", "10.0.0.3")),
        layout(&["10.0.0.16/31"]).with_subnet("10.0.0.0/28".parse().unwrap(), Profile::Service, true),
    ]
}

/// The model: which addresses there are, by layout, kept as plain sets.
struct Model {
    layout: Layout,
    owned: BTreeMap<u128, WorkloadId>,
    cooling: BTreeMap<u128, Timestamp>,
}

impl Model {
    fn free(&self, number: u128, now: Timestamp) -> bool {
        !self.owned.contains_key(&number) && self.cooling.get(&number).is_none_or(|until| *until <= now)
    }

    /// Those among the first 64 numbers from `base` that anybody may have.
    fn for_anybody(&self, base: u128, now: Timestamp) -> BTreeSet<u128> {
        let open = |n: &u128| self.layout.open().contains(*n) || self.layout.band().contains(*n);
        (0..64).map(|n| base + n).filter(|n| open(n) && self.free(*n, now)).collect()
    }
}

fn check(
    step: (&Ask, Result<Pair, Refusal>),
    models: &mut [(IpFamily, u128, Model)],
    held: &mut BTreeMap<WorkloadId, (Pair, RequestId)>,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    let (ask, outcome) = step;
    if let Some((pair, _)) = held.get(&ask.owner) {
        let same = |family| match (ask_for(ask, family), pair.address(family)) {
            (Some(asked), Some(has)) => asked == has,
            _ => true,
        };
        let expected = if same(IpFamily::V4) && same(IpFamily::V6) { Ok(*pair) } else { Err(()) };
        prop_assert_eq!(outcome.map_err(drop), expected);
        return Ok(());
    }
    let mut possible = true;
    for (family, base, model) in models.iter() {
        let cools = || {
            model
                .cooling
                .iter()
                .any(|(n, _)| model.layout.open().contains(*n) || model.layout.band().contains(*n))
        };
        possible &= match ask_for(ask, *family).map(address_number) {
            Some(n) => {
                model.layout.contains(n)
                    && !model.owned.contains_key(&n)
                    && (model.free(n, now) || ask.emergency)
            }
            None => !model.for_anybody(*base, now).is_empty() || (ask.emergency && cools()),
        };
    }
    prop_assert_eq!(outcome.is_ok(), possible, "{:?}", outcome);
    let pair = match outcome {
        Ok(pair) => pair,
        Err(Refusal::OnlyCooling { family, retry_after, .. }) => {
            let model = &models.iter().find(|(f, ..)| *f == family).unwrap().2;
            prop_assert!(model.cooling.values().any(|until| *until == now.after(retry_after)));
            return Ok(());
        }
        Err(_) => return Ok(()),
    };
    let mut early = false;
    for (family, base, model) in models.iter_mut() {
        let number = address_number(pair.address(*family).unwrap());
        let band = model.layout.band().contains(number);
        match ask_for(ask, *family) {
            Some(address) => prop_assert_eq!(address_number(address), number),
            None => {
                let any = model.for_anybody(*base, now);
                prop_assert!(any.is_empty() || any.contains(&number));
                prop_assert!(model.layout.contains(number) && !model.layout.reserved().contains(number));
                let open =
                    any.iter().any(|n| model.layout.open().contains(*n) && !model.cooling.contains_key(n));
                prop_assert!(!band || !open, "the band is used last");
            }
        }
        early |= model.cooling.get(&number).is_some_and(|until| *until > now);
        model.cooling.remove(&number);
        prop_assert!(model.owned.insert(number, ask.owner.clone()).is_none(), "two owners");
    }
    prop_assert_eq!(pair.early, early);
    held.insert(ask.owner.clone(), (pair, ask.request.clone()));
    Ok(())
}

fn ask_for(ask: &Ask, family: IpFamily) -> Option<IpAddr> {
    match family {
        IpFamily::V4 => ask.v4.map(IpAddr::from),
        IpFamily::V6 => ask.v6.map(IpAddr::from),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_operation_does_what_a_plain_set_does(
        order in prop::sample::select(vec![Order::Lowest, Order::Next, Order::Random { seed: 3 }, Order::Hashed { seed: 4 }]),
        v6_net in prop::sample::select(vec!["fd00::/123", "fd00::/127", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0/122"]),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let v6_base = v6_net.parse::<Cidr>().unwrap().first();
        let v4_base = address_number("10.0.0.0".parse().unwrap());
        let of = |layout: Layout| Model { layout, owned: BTreeMap::new(), cooling: BTreeMap::new() };
        let mut models = [
            (IpFamily::V4, v4_base, of(v4_layouts()[0].clone())),
            (IpFamily::V6, v6_base.min(u128::MAX - 63), of(layout(&[v6_net]))),
        ];
        let new = |models: &[(IpFamily, u128, Model); 2]| (Some(models[0].2.layout.clone()), Some(models[1].2.layout.clone()));
        let (v4, v6) = new(&models);
        let mut ipam = Allocator::new(v4, v6).with_strategy(order).with_cooldown(COOLDOWN);
        let (mut now, mut turn) = (Timestamp::from_secs(1000), 0);
        let mut held = BTreeMap::new();
        for step in steps {
            turn += 1;
            match step {
                Step::Allocate { owner: n, emergency, v4, v6 } => {
                    let mut ask = Ask::new(owner(n), request(turn));
                    ask.emergency = emergency;
                    ask.v4 = v4.map(|n| format!("10.0.0.{n}").parse().unwrap());
                    ask.v6 = v6.map(|n| std::net::Ipv6Addr::from(v6_base.saturating_add(n.into())));
                    check((&ask, ipam.allocate(&ask, now)), &mut models, &mut held, now)?;
                }
                Step::Release { owner: n, stale } => {
                    let known = held.get(&owner(n)).map(|(_, request): &(Pair, RequestId)| request.clone());
                    let handle = known.clone().filter(|_| !stale).unwrap_or_else(|| request(9999));
                    let there = known.as_ref() == Some(&handle);
                    prop_assert_eq!(ipam.release(&owner(n), &handle, now), there);
                    prop_assert!(!there || !ipam.release(&owner(n), &handle, now), "twice");
                    if there {
                        held.remove(&owner(n));
                        for (_, _, model) in &mut models {
                            let number = *model.owned.iter().find(|(_, w)| **w == owner(n)).unwrap().0;
                            model.owned.remove(&number);
                            model.cooling.insert(number, now.after(COOLDOWN));
                        }
                    }
                }
                Step::Wait(seconds) => now = now.after(Duration::from_secs(seconds.into())),
                Step::Layout(n) => {
                    models[0].2.layout = v4_layouts()[n].clone();
                    ipam.set_layout(IpFamily::V4, &v4_layouts()[n]);
                }
                Step::Restore => {
                    let json = serde_json::to_string(&ipam.state()).unwrap();
                    let (v4, v6) = new(&models);
                    let twin = Allocator::restore(v4, v6, serde_json::from_str(&json).unwrap());
                    let mut twin = twin.with_strategy(order).with_cooldown(COOLDOWN);
                    prop_assert_eq!(twin.state(), ipam.state());
                    let ask = Ask::new(owner(99), request(turn));
                    prop_assert_eq!(twin.clone().allocate(&ask, now), ipam.clone().allocate(&ask, now));
                    std::mem::swap(&mut twin, &mut ipam);
                }
            }
            let state = ipam.state();
            prop_assert_eq!(&state.held, &held);
            for (family, _, model) in &models {
                let owned = ipam.owned(*family).into_iter().map(|(address, owner)| (address_number(address), owner));
                prop_assert_eq!(&owned.collect::<BTreeMap<_, _>>(), &model.owned);
            }
        }
    }
}

#[test]
fn pitfall_04_half_of_a_pair_never_stays() {
    let mut ipam = Allocator::new(Some(layout(&["10.0.0.0/24"])), Some(layout(&["fd00::/127"])))
        .with_strategy(Order::Random { seed: 1 });
    let now = Timestamp::from_secs(1);
    for n in 0..2 {
        ipam.allocate(&Ask::new(owner(n), request(n)), now).unwrap();
    }
    let before = ipam.state();
    let refused = ipam.allocate(&Ask::new(owner(2), request(2)), now).unwrap_err();
    assert_eq!(refused, Refusal::Exhausted { family: IpFamily::V6, held: 2 });
    assert_eq!(refused.retry_after(), None);
    assert_eq!(ipam.state(), before, "not even the turn of the random numbers");
    assert!(ipam.release(&owner(0), &request(0), now));
    assert!(ipam.allocate(&Ask::new(owner(2), request(2)), now).is_ok());
}

#[test]
fn pitfall_06_an_address_rests_before_it_is_used_again() {
    let nets = || (Some(layout(&["10.0.0.0/30"])), Some(layout(&["fd00::/64"])));
    let (v4, v6) = nets();
    let mut ipam = Allocator::new(v4, v6).with_cooldown(COOLDOWN);
    let at = |seconds: u64| Timestamp::from_secs(1000 + seconds);
    let first = ipam.allocate(&Ask::new(owner(1), request(1)), at(0)).unwrap();
    assert!(ipam.release(&owner(1), &request(1), at(0)));
    for restart in [false, true] {
        if restart {
            let (v4, v6) = nets();
            ipam = Allocator::restore(v4, v6, ipam.state()).with_cooldown(COOLDOWN);
        }
        let refused = ipam.allocate(&Ask::new(owner(2), request(2)), at(4)).unwrap_err();
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(6)), "{refused}");
        let named = Ask::new(owner(2), request(2)).with_address(first.v4.unwrap().into());
        assert!(
            matches!(ipam.allocate(&named, at(4)), Err(Refusal::Cooling { until, .. }) if until == at(10))
        );
    }
    let mut urgent = ipam.clone();
    let early = urgent.allocate(&Ask::new(owner(2), request(2)).with_emergency(), at(4)).unwrap();
    assert!(early.early && early.v4 == first.v4);
    let late = ipam.allocate(&Ask::new(owner(2), request(2)), at(10)).unwrap();
    assert!(!late.early && late.v4 == first.v4);
}

#[test]
fn pitfall_07_allocation_takes_as_many_steps_at_any_fill() {
    let nets = || (Some(layout(&["10.0.0.0/15"])), Some(layout(&["fd00::/64"])));
    for order in [Order::Lowest, Order::Next, Order::Random { seed: 1 }, Order::Hashed { seed: 1 }] {
        let (v4, v6) = nets();
        let mut ipam = Allocator::new(v4, v6).with_strategy(order).with_cooldown(COOLDOWN);
        let now = Timestamp::from_secs(1);
        let mut most = 0;
        let all = 131_069;
        for n in 0..all {
            let before = ipam.probes();
            ipam.allocate(&Ask::new(owner(n), request(n)), now).unwrap();
            most = most.max(ipam.probes() - before);
        }
        // Full but for one in the middle; then every other one free.
        ipam.release(&owner(all / 2), &request(all / 2), now);
        let later = now.after(COOLDOWN);
        let before = ipam.probes();
        ipam.allocate(&Ask::new(owner(all), request(all)), later).unwrap();
        most = most.max(ipam.probes() - before);
        for n in (0..all - 1).step_by(2).filter(|n| *n != all / 2) {
            assert!(ipam.release(&owner(n), &request(n), now));
        }
        for n in (0..all - 1).step_by(2).filter(|n| *n != all / 2).take(1000) {
            let before = ipam.probes();
            ipam.allocate(&Ask::new(owner(n), request(n)), later).unwrap();
            most = most.max(ipam.probes() - before);
        }
        // Some levels of words, each looked at a few times.
        assert!(most <= 64, "{order:?}: {most} steps");
    }
}

#[test]
fn pitfall_08_an_empty_pool_of_any_size_is_small() {
    for (v4, v6) in [("10.0.0.0/8", "fd00::/64"), ("0.0.0.0/0", "::/0"), ("10.0.0.0/32", "fd00::/128")] {
        let mut kept = None;
        let used = allocation_counter::measure(|| {
            let of = |net: &str| Layout::new().with_subnet(net.parse().unwrap(), Profile::Service, false);
            kept = Some(Allocator::new(Some(of(v4)), Some(of(v6))));
        });
        let bytes = used.bytes_current + i64::try_from(size_of::<Allocator>()).unwrap();
        assert!(bytes <= 2 * 1024, "{bytes} bytes for {v4} and {v6}: 1 KiB a family");
    }
}

#[test]
fn a_fragment_costs_at_most_64_bytes() {
    for random in [false, true] {
        // Between two that are taken there is one free, or so much that no two are of the same word.
        for apart in [2, 1 << 20] {
            let mut ranges = FreeRanges::new();
            let mut bits = FreeBits::default();
            let number = |n: u128| if random { (n * 0x9e37_79b1) % (1 << 17) * apart } else { n * apart };
            let of_ranges = allocation_counter::measure(|| {
                ranges = FreeRanges::from_range(0, 1 << 40);
                // An odd factor visits all numbers below 2^17, in no order.
                for n in 1..100_000 {
                    ranges.take(number(n));
                }
            });
            let of_bits = allocation_counter::measure(|| {
                bits = FreeBits::new(&FreeRanges::from_range(0, 1 << 40));
                for n in 1..100_000 {
                    bits.take(number(n));
                }
            });
            let fragments = ranges.fragments();
            assert_eq!(bits.ranges(), ranges.ranges().collect::<Vec<_>>());
            for used in [of_ranges, of_bits] {
                let each = used.bytes_current / i64::try_from(fragments).unwrap();
                assert!(fragments > 90_000 && each <= 64, "{each} bytes, {apart} apart");
            }
        }
    }
}

#[test]
fn a_hashed_owner_comes_back_to_its_address() {
    let (v4, v6) = (Some(layout(&["10.0.0.0/16"])), Some(layout(&["fd00::/64"])));
    let mut ipam = Allocator::new(v4, v6).with_strategy(Order::Hashed { seed: 9 });
    let now = Timestamp::from_secs(1);
    let first = ipam.allocate(&Ask::new(owner(1), request(1)), now).unwrap();
    for n in 2..200 {
        ipam.allocate(&Ask::new(owner(n), request(n)), now).unwrap();
    }
    ipam.release(&owner(1), &request(1), now);
    assert_eq!(ipam.allocate(&Ask::new(owner(1), request(2)), now).unwrap(), first);
    assert_eq!(ipam.owner(first.v6.unwrap().into()), Some(&owner(1)));
}

/// What a restart, another replica or another version must answer: computed apart from this code, by the definition of
/// SplitMix64. Addresses from the seed and the owner's name, in an empty network.
#[test]
fn the_addresses_of_hashed_owners_never_change() {
    for (seed, who, v4, v6) in [
        (9, "web-1", "10.0.128.150", "fd00::6665:5de1:16b4:e6cd"),
        (9, "web-2", "10.0.3.254", "fd00::d3ae:f5f7:f31d:4fd2"),
        (9, "db-a-very-long-name-of-a-workload-0", "10.0.42.75", "fd00::a63:51b4:b663:8aa6"),
        (10, "web-1", "10.0.84.159", "fd00::ba7b:c773:2f76:2080"),
        (0, "a", "10.0.3.72", "fd00::475f:f26a:1f43:bbbd"),
    ] {
        let mut ipam = Allocator::new(Some(layout(&["10.0.0.0/16"])), Some(layout(&["fd00::/64"])))
            .with_strategy(Order::Hashed { seed });
        let pair =
            ipam.allocate(&Ask::new(who.parse().unwrap(), request(0)), Timestamp::from_secs(1)).unwrap();
        assert_eq!(
            (pair.v4, pair.v6),
            (Some(v4.parse().unwrap()), Some(v6.parse().unwrap())),
            "{seed} {who}"
        );
    }
}

#[test]
fn pitfall_06_what_is_drained_or_reserved_rests_on_whatever_is_urgent() {
    let now = Timestamp::from_secs(1000);
    let both = layout(&["10.0.0.0/29", "10.0.1.0/29"]);
    let mut ipam = Allocator::new(Some(both.clone()), None).with_cooldown(COOLDOWN);
    let address = ipam.allocate(&Ask::new(owner(0), request(0)), now).unwrap().v4.unwrap();
    assert!(ipam.release(&owner(0), &request(0), now));
    let asked = Ask::new(owner(1), request(1)).with_address(address.into()).with_emergency();
    // Drained, asked for by name in an emergency and refused; taken back into use: it still rests.
    ipam.set_layout(IpFamily::V4, &layout(&["10.0.1.0/29"]));
    assert!(matches!(ipam.allocate(&asked, now), Err(Refusal::Outside { .. })));
    ipam.set_layout(IpFamily::V4, &both);
    let plain = Ask::new(owner(1), request(1)).with_address(address.into());
    assert!(
        matches!(ipam.allocate(&plain, now), Err(Refusal::Cooling { .. })),
        "its quarantine was forgotten"
    );
    // Reserved meanwhile: an emergency of somebody who asks for none by name neither gets it nor ends its rest.
    let of = |net: &str| net.parse::<Cidr>().unwrap();
    let one = Layout::new().with_subnet(of("10.0.0.2/32"), Profile::L2, false);
    let mut ipam = Allocator::new(Some(one.clone()), None).with_cooldown(COOLDOWN);
    ipam.allocate(&Ask::new(owner(0), request(0)), now).unwrap();
    assert!(ipam.release(&owner(0), &request(0), now));
    ipam.set_layout(IpFamily::V4, &one.reserving(range("10.0.0.2", "10.0.0.2")));
    let urgent = Ask::new(owner(1), request(1)).with_emergency();
    let full = Refusal::Exhausted { family: IpFamily::V4, held: 0 };
    assert_eq!(ipam.allocate(&urgent, now).unwrap_err(), full, "nothing that anybody may have will be free");
    let named = Ask::new(owner(1), request(1)).with_address("10.0.0.2".parse().unwrap());
    assert!(matches!(ipam.allocate(&named, now), Err(Refusal::Cooling { .. })));
    assert!(ipam.allocate(&named, now.after(COOLDOWN)).is_ok());
}
