use hivemind_core::resources::{MilliCpu, ResourceName};
use proptest::prelude::*;

use super::*;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn cpu(amount: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_millis(amount))
}

fn waiting(tenant: &str, id: u64, amount: u64, arrived: u64) -> WaitingRequest {
    let id = format!("r{id}").parse().unwrap();
    WaitingRequest::new(tenant.parse().unwrap(), id, cpu(amount), at(arrived))
}

fn share(used: u64, total: u64, weight: u32) -> DominantShare {
    DominantShare::dominant(&cpu(used), &cpu(total), NonZeroU32::new(weight).unwrap())
}

fn shares(of: &[(&str, u64)]) -> BTreeMap<TenantId, DominantShare> {
    of.iter().map(|(tenant, used)| (tenant.parse().unwrap(), share(*used, 100, 1))).collect()
}

const STRICT: FairQueue = FairQueue { policy: QueuePolicy::StrictFifo, patience: Duration::from_secs(1000) };
const BEST: FairQueue = FairQueue { policy: QueuePolicy::BestEffortFifo, ..STRICT };

fn names(order: &[&WaitingRequest]) -> Vec<String> {
    order.iter().map(|one| format!("{}/{}", one.tenant, one.id)).collect()
}

fn fits_below(room: u64) -> impl Fn(&WaitingRequest) -> QueueFit {
    move |one| if one.amount.amount(&ResourceName::Cpu) <= room { QueueFit::Fits } else { QueueFit::NoRoom }
}

#[test]
fn the_dominant_share_is_the_largest_and_weights_divide_it() {
    let used = cpu(10).with(ResourceName::Memory, 60);
    let total = cpu(100).with(ResourceName::Memory, 100);
    let weight = NonZeroU32::new(2).unwrap();
    assert_eq!(DominantShare::dominant(&used, &total, weight), share(30, 100, 1));
    assert_eq!(DominantShare::dominant(&Resources::new(), &total, weight), DominantShare::ZERO);
    assert!(share(1, 0, 1) >= share(100, 100, 1));
}

#[test]
fn shares_too_large_for_products_are_compared() {
    let (low, high) = (share(u64::MAX - 1, u64::MAX, u32::MAX), share(u64::MAX, u64::MAX, u32::MAX));
    assert_eq!(
        (low.cmp(&high), high.cmp(&low), high.cmp(&high)),
        (Ordering::Less, Ordering::Greater, Ordering::Equal)
    );
    assert!(share(1, u64::MAX, u32::MAX) < share(1, u64::MAX - 1, u32::MAX));
}

#[test]
fn small_shares_come_first_then_arrival_and_borrowers_last() {
    let all = [
        waiting("small", 1, 1, 9).with_borrowing(true),
        waiting("large", 1, 1, 1),
        waiting("small", 2, 1, 5),
        waiting("small", 3, 1, 4),
    ];
    let order = BEST.order(&all, &shares(&[("large", 50), ("small", 10)]), at(10));
    assert_eq!(names(&order), ["small/r3", "small/r2", "large/r1", "small/r1"]);
}

#[test]
fn what_is_too_big_is_passed_only_as_the_policy_says() {
    let all = [waiting("a", 1, 50, 1), waiting("a", 2, 1, 2), waiting("b", 1, 1, 3)];
    let next = |queue: FairQueue| queue.next(&all, &shares(&[("b", 5)]), at(10), fits_below(10)).unwrap();
    assert_eq!(names(&[next(BEST)]), ["a/r2"]);
    assert_eq!(names(&[next(STRICT)]), ["b/r1"]);
}

#[test]
fn an_overdue_request_holds_up_others_for_room_but_not_for_its_own_limit() {
    let all = [waiting("a", 1, 50, 1), waiting("b", 1, 1, 900)];
    let none = shares(&[("a", 90)]);
    assert_eq!(BEST.next(&all, &none, at(1001), fits_below(10)), None);
    assert_eq!(BEST.next(&all, &none, at(1001), fits_below(50)), all.first());
    let limited =
        |one: &WaitingRequest| if one.amount == cpu(50) { QueueFit::OverLimit } else { QueueFit::Fits };
    assert_eq!(BEST.next(&all, &none, at(1001), limited), all.last());
}

#[test]
fn after_its_deadline_a_request_does_not_wait() {
    let all = [waiting("a", 1, 1, 1).with_deadline(at(10))];
    assert_eq!(BEST.order(&all, &BTreeMap::new(), at(9)).len(), 1);
    assert!(BEST.order(&all, &BTreeMap::new(), at(10)).is_empty());
    assert_eq!(BEST.next_change(&all, at(2)), Some(at(10)));
    assert_eq!(BEST.next_change(&all, at(10)), Some(at(1001)));
}

/// How long each job runs, in seconds, and how much there is.
const RUN: u64 = 3;
const ROOM: u64 = 10;

/// Runs a cluster in which small jobs of fresh tenants arrive without end; returns when the first of `early`, and the
/// last, got their turn.
fn last_turn(queue: FairQueue, early: &[WaitingRequest], arrivals: &[u64], end: u64) -> Option<u64> {
    let (mut line, mut running, mut last, mut got) = (early.to_vec(), Vec::<(u64, u64)>::new(), 0, 0);
    for now in 0..end {
        running.retain(|(until, _)| *until > now);
        let new = arrivals[usize::try_from(now).unwrap() % arrivals.len()];
        line.extend((0..new).map(|n| waiting(&format!("fresh-{now}-{n}"), n, 1 + n % 3, now)));
        loop {
            let used: u64 = running.iter().map(|(_, amount)| amount).sum();
            // The first tenant always has the largest share.
            let Some(one) = queue.next(&line, &shares(&[("big", 99)]), at(now), fits_below(ROOM - used))
            else {
                break;
            };
            let one = one.clone();
            running.push((now + RUN, one.amount.amount(&ResourceName::Cpu)));
            line.retain(|other| *other != one);
            if one.tenant.as_str() == "big" {
                (last, got) = (now, got + 1);
            }
        }
    }
    (got == early.len()).then_some(last)
}

#[test]
fn without_patience_a_large_request_of_a_large_tenant_would_starve() {
    let endless = FairQueue { patience: Duration::from_secs(u64::MAX), ..BEST };
    assert_eq!(last_turn(endless, &[waiting("big", 0, ROOM, 0)], &[4], 60), None);
}

/// Shares small enough for the naive comparison by products.
fn fraction() -> impl Strategy<Value = (u64, u64, u32)> {
    (0..1000u64, 1..1000u64, 1..50u32)
}

proptest! {
    #[test]
    fn comparing_is_cross_multiplying(a in fraction(), b in fraction()) {
        let (left, right) = (a.0 * b.1 * u64::from(b.2), b.0 * a.1 * u64::from(a.2));
        prop_assert_eq!(share(a.0, a.1, a.2).cmp(&share(b.0, b.1, b.2)), left.cmp(&right));
    }

    /// Any numbers at all; one weight for both cancels out, so that products of the rest fit.
    #[test]
    fn huge_fractions_keep_an_order(a in any::<(u64, u64)>(), b in any::<(u64, u64)>(), weight in 1..u32::MAX) {
        let (left, right) = (share(a.0, a.1, weight), share(b.0, b.1, weight));
        let products = (u128::from(a.0) * u128::from(b.1.max(1))).cmp(&(u128::from(b.0) * u128::from(a.1.max(1))));
        prop_assert_eq!(left.cmp(&right), products);
        prop_assert_eq!(right.cmp(&left), products.reverse());
    }

    /// The model picks the best of what is left again and again, by the rules as they are written.
    #[test]
    fn the_order_follows_the_rules(
        list in proptest::collection::vec((0..3usize, 0..20u64, any::<bool>()), 0..12), used in any::<[u8; 3]>(),
    ) {
        let tenants = ["a", "b", "c"];
        let queue = FairQueue { patience: Duration::from_secs(10), ..BEST };
        let all: Vec<_> = (0..).zip(&list)
            .map(|(id, (tenant, arrived, borrows))| {
                waiting(tenants[*tenant], id, 1, *arrived).with_borrowing(*borrows)
            })
            .collect();
        let used_of = |one: &WaitingRequest| u64::from(used[tenants.iter().position(|t| *t == one.tenant.as_str()).unwrap()]);
        let of: Vec<_> = tenants.iter().zip(used).map(|(tenant, used)| (*tenant, u64::from(used))).collect();
        let key = |one: &WaitingRequest| {
            let overdue = one.arrived <= at(10);
            let used = if overdue { 0 } else { used_of(one) };
            (one.borrowing, !overdue, used, one.arrived, one.tenant.clone(), one.id.clone())
        };
        let mut left: Vec<&WaitingRequest> = all.iter().collect();
        for one in queue.order(&all, &shares(&of), at(20)) {
            let best = (0..left.len()).min_by_key(|index| key(left[*index])).unwrap();
            prop_assert_eq!(one, left.remove(best));
        }
        prop_assert!(left.is_empty());
    }

    /// However others arrive, each early request gets its turn: at the latest when its patience is over and those
    /// before it have run one after the other.
    #[test]
    fn nobody_starves(
        amounts in proptest::collection::vec(1..=ROOM, 1..4),
        arrivals in proptest::collection::vec(0..6u64, 1..6),
        patience in 0..12u64,
        strict in any::<bool>(),
    ) {
        let policy = if strict { QueuePolicy::StrictFifo } else { QueuePolicy::BestEffortFifo };
        let queue = FairQueue::new(policy, Duration::from_secs(patience));
        let early: Vec<_> = (0..).zip(&amounts).map(|(id, amount)| waiting("big", id, *amount, 0)).collect();
        // What runs already and what arrived in the same second may come before each of them.
        let others = arrivals[0];
        let bound = patience + RUN * (1 + u64::try_from(early.len()).unwrap() + others);
        let last = last_turn(queue, &early, &arrivals, bound + 1);
        prop_assert!(last.is_some(), "not all had their turn by {bound}");
    }
}
