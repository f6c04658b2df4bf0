//! Usage sampled into the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::testkit::{FaultPlan, FaultyStore, until_crash};
use hivemind_core::{ErrorKind, QuotaGate};
use proptest::prelude::*;

use super::*;
use crate::quota::{InvalidWindows, MAX_SAMPLED, TenantQuota};

const HOUR: Duration = Duration::from_secs(10);

fn team() -> (World, TenantRef) {
    let world = World::default();
    let team = world.tenant("team", None);
    (world, team)
}

fn charge(world: &World, tenant: &TenantRef, number: u8, cpu: u64) {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(number), &amount(cpu, 0))).unwrap();
}

fn release(world: &World, tenant: &TenantRef, number: u8) {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id(number))).unwrap();
}

fn sample(world: &World, tenant: &TenantRef, now: u64, keep: u16) -> Result<()> {
    let ctx = world.ctx(tenant).with_time(at(now));
    world.commit(|view, txn| TenantQuota.stage_sample(view, txn, &ctx, HOUR, keep))
}

fn peaks(world: &World, tenant: &TenantRef) -> Vec<(u64, u64)> {
    let trends = TenantQuota.trends(&world.view(), &Txn::new(), &world.ctx(tenant)).unwrap();
    let all = trends
        .get(&ResourceName::Cpu)
        .map(|trend| trend.high_waters().map(|one| (one.start.as_secs(), one.peak)).collect());
    all.unwrap_or_default()
}

#[test]
fn a_trend_tells_when_a_limit_will_be_reached() {
    let (world, team) = team();
    for window in 0..4u8 {
        charge(&world, &team, window, 2);
        sample(&world, &team, u64::from(window) * 10, 10).unwrap();
    }
    assert_eq!(peaks(&world, &team), [(0, 2), (10, 4), (20, 6), (30, 8)]);
    let trends = TenantQuota.trends(&world.view(), &Txn::new(), &world.ctx(&team)).unwrap();
    assert_eq!(trends[&ResourceName::Cpu].exhausted_at(20), Some(at(90)));
}

#[test]
fn other_windows_begin_anew_and_what_was_not_used_is_forgotten() {
    let (world, team) = team();
    charge(&world, &team, 0, 2);
    sample(&world, &team, 5, 2).unwrap();
    release(&world, &team, 0);
    sample(&world, &team, 15, 2).unwrap();
    assert_eq!(peaks(&world, &team), [(0, 2), (10, 2)], "it was in use when the window began");
    sample(&world, &team, 15, 3).unwrap();
    assert_eq!(peaks(&world, &team), []);
    let error = sample(&world, &team, 15, 1).unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.detail::<InvalidWindows>().is_some());
    let ctx = world.ctx(&team);
    let untimed = world.commit(|view, txn| TenantQuota.stage_sample(view, txn, &ctx, HOUR, 2));
    assert_eq!(untimed.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn the_record_is_bounded_and_goes_with_the_tenant() {
    let (world, team) = team();
    let ctx = world.ctx(&team).with_time(at(1));
    let all = (0..MAX_SAMPLED + 9)
        .fold(Resources::new(), |all, n| all.with(format!("example.com/r{n:03}").parse().unwrap(), 1));
    world.commit(|view, txn| TenantQuota.reserve(view, txn, &ctx, &id(0), &all)).unwrap();
    sample(&world, &team, 1, 256).unwrap();
    let kept = || TenantQuota.trends(&world.view(), &Txn::new(), &ctx).unwrap().len();
    assert_eq!(kept(), MAX_SAMPLED);
    release(&world, &team, 0);
    world.commit(|view, txn| TenantQuota.stage_close(view, txn, &ctx)).unwrap();
    assert_eq!(kept(), 0);
}

#[test]
fn a_sample_sees_what_is_staged_before_it_and_two_managers_conflict() {
    let (world, team) = team();
    let ctx = world.ctx(&team).with_time(at(1));
    world
        .commit(|view, txn| {
            TenantQuota.reserve(view, txn, &ctx, &id(0), &amount(3, 0))?;
            TenantQuota.stage_sample(view, txn, &ctx, HOUR, 4)
        })
        .unwrap();
    assert_eq!(peaks(&world, &team), [(0, 3)]);
    let staged = [1, 2].map(|_| {
        let mut txn = Txn::new();
        let ctx = ctx.clone().with_time(at(11));
        TenantQuota.stage_sample(&world.view(), &mut txn, &ctx, HOUR, 4).unwrap();
        txn
    });
    let told = staged.each_ref().map(|txn| block_on(world.store.commit(txn)).map_err(|e| e.kind()));
    assert!(told[0].is_ok());
    assert_eq!(told[1], Err(ErrorKind::Conflict));
    sample(&world, &team, 11, 4).unwrap();
    assert_eq!(peaks(&world, &team), [(0, 3), (10, 3)]);
}

#[test]
fn a_crash_loses_a_sample_at_most() {
    for crash in 0..12 {
        let (world, team) = team();
        charge(&world, &team, 0, 5);
        let plan = FaultPlan::new(crash).with_crash_at(crash);
        let store = Arc::new(FaultyStore::new(Arc::new(world.store.clone()), plan));
        let work = async {
            for now in [0, 10, 20] {
                let view = store.snapshot(&[Prefix::ROOT]).await.unwrap();
                let (ctx, mut txn) = (world.ctx(&team).with_time(at(now)), Txn::new());
                TenantQuota.stage_sample(&view, &mut txn, &ctx, HOUR, 4).unwrap();
                let _ = store.commit(&txn).await;
            }
        };
        let _ = block_on(until_crash(&store, work));
        sample(&world, &team, 30, 4).unwrap();
        let peaks = peaks(&world, &team);
        assert!(peaks.last() == Some(&(30, 5)) && peaks.iter().all(|(_, peak)| *peak == 5), "{peaks:?}");
    }
}

proptest! {
    /// The model keeps every sample, and looks at all of them for each window.
    #[test]
    fn peaks_are_those_of_all_samples(
        keep in 2..6u16,
        steps in prop::collection::vec((0..4u8, 1..9u64, 0..14u64), 1..25),
    ) {
        let (world, team) = team();
        let mut live = BTreeMap::<u8, u64>::new();
        let (mut samples, mut now) = (Vec::<(u64, u64)>::new(), 0);
        for (number, cpu, wait) in steps {
            now += wait;
            if live.remove(&number).is_some() {
                release(&world, &team, number);
            } else {
                charge(&world, &team, number, cpu);
                live.insert(number, cpu);
            }
            sample(&world, &team, now, keep).unwrap();
            samples.push((now, live.values().sum()));
            let (current, first) = (now / 10, samples[0].0 / 10);
            let oldest = (current + 1).saturating_sub(u64::from(keep)).max(first);
            let expected: Vec<_> = (oldest..=current).map(|window| {
                // What was in use when it began counts, too.
                let before = samples.iter().rfind(|(at, _)| at / 10 < window).map(|(_, used)| *used);
                let within = samples.iter().filter(|(at, _)| at / 10 == window).map(|(_, used)| *used);
                (window * 10, within.chain(before).max().unwrap_or(0))
            }).collect();
            // What was never used in any window is not kept, and a later use begins anew.
            if expected.iter().all(|(_, peak)| *peak == 0) {
                prop_assert!(peaks(&world, &team).is_empty());
                samples.clear();
                if live.is_empty() { break; }
            } else {
                prop_assert_eq!(peaks(&world, &team), expected);
            }
        }
    }
}
