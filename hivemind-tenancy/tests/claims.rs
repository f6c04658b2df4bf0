//! A name is one tenant's at most, and nobody learns whose.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/tenure.rs"]
mod tenure;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{World, admin, ctx};
use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::testkit::{FaultPlan, FaultyStore, Sim, until_crash};
use hivemind_core::{
    Effect, ErrorKind, MemoryStore, Once, Result, StateStore, StateStoreExt, TenantRef, Timestamp, block_on,
    transact,
};
use hivemind_tenancy::claims::{NameClaim, NameStanding, NameTaken, UniqueName};
use hivemind_tenancy::{NameClaims, TenantManager, TenantSpec, TenantState};
use proptest::prelude::*;
use tenure::{born, dies, gets_into};

fn name(text: &str) -> UniqueName {
    text.parse().unwrap()
}

fn claim(world: &World, tenant: &TenantRef, text: &str) -> Result<NameClaim> {
    world.commit(|view, txn| NameClaims.stage_claim(view, txn, &ctx(tenant, "r"), &name(text)))
}

fn release(world: &World, tenant: &TenantRef, text: &str) -> Result<()> {
    world.commit(|view, txn| NameClaims.stage_release(view, txn, &ctx(tenant, "r"), &name(text)))
}

fn standing(world: &World, tenant: &TenantRef, text: &str) -> NameStanding {
    NameClaims.standing(&world.view(), &Txn::new(), &ctx(tenant, "r"), &name(text)).unwrap()
}

#[test]
fn another_tenants_name_is_taken_without_a_word_about_it() {
    let world = World::new();
    let (acme, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    claim(&world, &acme, "hosts:www.example.org").unwrap();
    claim(&world, &acme, "ranges:10.1.0.0/16").unwrap();
    let before = block_on(world.store.revision()).unwrap();
    for asked in ["hosts:WWW.example.org", "ranges:10.1.0.0/16", "ranges:10.0.0.0/8", "ranges:10.1.2.3"] {
        let error = claim(&world, &globex, asked).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(error.detail::<NameTaken>().unwrap().name, name(asked));
        let told = format!("{error:?} {error}");
        assert!(!told.contains("acme"), "{told}");
        assert!(asked.contains("10.1.0.0/16") || !told.contains("10.1.0.0/16"), "{told}");
        assert_eq!(standing(&world, &globex, asked), NameStanding::Taken);
        // Whether it is somebody else's or nobody's is told alike.
        let foreign = release(&world, &globex, asked).unwrap_err().to_string();
        let nobodys = release(&world, &globex, "hosts:nobodys.org").unwrap_err().to_string();
        assert_eq!(foreign.replace(&name(asked).to_string(), ""), nobodys.replace("hosts:nobodys.org", ""));
        let view = world.view();
        let lookup = NameClaims.lookup(&view, &Txn::new(), &ctx(&globex, "r"), &name(asked)).unwrap_err();
        assert_eq!(lookup.kind(), ErrorKind::NotFound);
    }
    assert!(NameClaims.list(&world.view(), &Txn::new(), &ctx(&globex, "r")).unwrap().is_empty());
    let swept = world.commit(|view, txn| NameClaims.stage_release_all(view, txn, &ctx(&globex, "r"), 9));
    assert_eq!(swept.unwrap(), 0);
    assert_eq!(block_on(world.store.revision()).unwrap(), before);
    assert_eq!(standing(&world, &acme, "ranges:10.1.0.0/16"), NameStanding::Own);
    let router = NameClaims.lookup(&world.view(), &Txn::new(), &admin("r"), &name("hosts:www.example.org"));
    assert_eq!(router.unwrap().owner, acme);
}

#[test]
fn what_a_tenant_that_is_gone_had_is_free_also_for_its_namesake() {
    let world = World::new();
    let (old, globex) = (born(&world, "acme", 0), born(&world, "globex", 0));
    for text in ["hosts:a.org", "hosts:b.org", "ranges:10.0.0.0/8"] {
        claim(&world, &old, text).unwrap();
    }
    dies(&world, &old);
    let new = born(&world, "acme", 1);
    assert!(NameClaims.list(&world.view(), &Txn::new(), &ctx(&new, "r")).unwrap().is_empty());
    assert_eq!(release(&world, &new, "hosts:a.org").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(claim(&world, &old, "hosts:c.org").unwrap_err().kind(), ErrorKind::NotFound);
    claim(&world, &new, "hosts:a.org").unwrap();
    claim(&world, &globex, "ranges:10.9.0.0/16").unwrap();
    let foreign = world.commit(|view, txn| NameClaims.stage_sweep(view, txn, &ctx(&globex, "r"), 9));
    assert_eq!(foreign.unwrap_err().kind(), ErrorKind::Denied);
    let sweep = || world.commit(|view, txn| NameClaims.stage_sweep(view, txn, &admin("r"), 1)).unwrap();
    assert_eq!((sweep(), sweep(), sweep()), (1, 1, 0));
    assert_eq!(standing(&world, &new, "hosts:a.org"), NameStanding::Own);
    assert_eq!(standing(&world, &globex, "ranges:10.9.0.0/16"), NameStanding::Own);
}

#[test]
fn a_tenant_that_is_suspended_keeps_its_names_and_gets_no_more() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    claim(&world, &acme, "hosts:a.org").unwrap();
    gets_into(&world, &acme, TenantState::Suspended { drain_by: None });
    let error = claim(&world, &acme, "hosts:b.org").unwrap_err();
    assert_eq!(error.message(), "tenant acme is suspended: it takes nothing new");
    assert_eq!(standing(&world, &acme, "hosts:a.org"), NameStanding::Own);
    release(&world, &acme, "hosts:a.org").unwrap();
}

#[test]
fn a_tenant_deleted_meanwhile_makes_its_claim_conflict() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    let (view, mut txn) = (world.view(), Txn::new());
    NameClaims.stage_claim(&view, &mut txn, &ctx(&acme, "r"), &name("hosts:a.org")).unwrap();
    dies(&world, &acme);
    assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn claims_in_one_transaction_see_each_other() {
    let world = World::new();
    let acme = born(&world, "acme", 0);
    let (view, mut txn, ctx) = (world.view(), Txn::new(), ctx(&acme, "r"));
    NameClaims.stage_claim(&view, &mut txn, &ctx, &name("ranges:10.0.0.0/8")).unwrap();
    let own = NameClaims.stage_claim(&view, &mut txn, &ctx, &name("ranges:10.1.0.0/16")).unwrap_err();
    assert_eq!(own.message(), "ranges:10.1.0.0/16 overlaps ranges:10.0.0.0/8, which the tenant has already");
    NameClaims.stage_release(&view, &mut txn, &ctx, &name("ranges:10.0.0.0/8")).unwrap();
    NameClaims.stage_claim(&view, &mut txn, &ctx, &name("ranges:10.1.0.0/16")).unwrap();
    block_on(world.store.commit(&txn)).unwrap();
    assert_eq!(NameClaims.list(&world.view(), &Txn::new(), &ctx).unwrap().len(), 1);
}

/// Of two transactions decided on the same view, that cannot both be, one commits.
#[test]
fn exactly_one_of_two_claims_at_the_same_time_wins() {
    for (first, second) in [
        ("hosts:a.org", "hosts:a.org"),
        ("ranges:10.0.0.0/8", "ranges:10.1.0.0/16"),
        ("ranges:10.1.0.0/16", "ranges:10.0.0.0/8"),
        ("ranges:fd00::/8", "ranges:fd00:1::/48"),
    ] {
        let world = World::new();
        let both = [born(&world, "acme", 0), born(&world, "globex", 0)];
        let view = world.view();
        let staged = [(&both[0], first), (&both[1], second)].map(|(tenant, text)| {
            let mut txn = Txn::new();
            NameClaims.stage_claim(&view, &mut txn, &ctx(tenant, "r"), &name(text)).unwrap();
            txn
        });
        block_on(world.store.commit(&staged[0])).unwrap();
        let lost = block_on(world.store.commit(&staged[1])).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Conflict, "{first} {second}");
        assert_eq!(claim(&world, &both[1], second).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}

/// Asks for six blocks, half of them overlapping the next writer's; returns those it was told are its own.
async fn write(
    store: &dyn StateStore,
    tenant: &TenantRef,
    writer: u64,
    now: Timestamp,
) -> BTreeSet<UniqueName> {
    let scope = [hivemind_tenancy::prefix().unwrap()];
    let mut own = BTreeSet::new();
    for number in 0..6 {
        let ctx = ctx(tenant, &format!("w{writer}-{number}"));
        let once = Once::new(&ctx, "claim", now).unwrap();
        let asked = match (writer + number) % 3 {
            0 => name(&format!("hosts:h{number}.org")),
            1 => name(&format!("ranges:10.{}.0.0/15", number * 2)),
            _ => name(&format!("ranges:10.{}.0.0/16", number * 2 + 1)),
        };
        loop {
            let decide = |view: &Snapshot, txn: &mut Txn| NameClaims.stage_claim(view, txn, &ctx, &asked);
            match transact(store, &once, &scope, decide).await {
                Ok(answer) => break assert!(own.insert(answer.value.name)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => break,
                Err(e) => assert!(
                    e.effect() == Effect::Unknown
                        || matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
                    "{e}"
                ),
            }
        }
    }
    own
}

#[test]
fn what_a_writer_was_told_it_has_nobody_else_has_whatever_fails() {
    let (mut injected, mut refused) = (0, 0);
    for seed in 0..200 {
        let sim = Sim::new(seed);
        let disk = Arc::new(MemoryStore::new());
        let manager = TenantManager::new(disk.clone(), sim.clock(), sim.ids());
        let tenants = [0, 1, 2].map(|n| {
            let spec = TenantSpec::new(format!("t{n}").parse().unwrap());
            sim.run(manager.create(&admin(&format!("create-{n}")), spec)).unwrap().unwrap().tenant
        });
        let tasks: Vec<_> = (0u64..)
            .zip(tenants.clone())
            .map(|(writer, tenant)| {
                let (disk, clock, runtime) = (disk.clone(), sim.clock(), sim.runtime());
                sim.spawn(async move {
                    for life in 0..3 {
                        let plan = FaultPlan::rough(seed * 100 + writer * 10 + life)
                            .with_latency(runtime.clone(), Duration::ZERO..=Duration::from_millis(3));
                        let plan =
                            if life < 2 { plan.with_crash_at(2 + seed % 17 * (life + 1)) } else { plan };
                        let store = FaultyStore::new(disk.clone(), plan);
                        let now = clock.now();
                        if let Ok(own) = until_crash(&store, write(&store, &tenant, writer, now)).await {
                            return (own, store.counts().lost_replies + store.counts().conflicts);
                        }
                    }
                    panic!("the last life does not crash");
                })
            })
            .collect();
        let answers = sim.run(async {
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await);
            }
            answers
        });
        let mut taken: Vec<UniqueName> = Vec::new();
        for (tenant, (told, faults)) in tenants.iter().zip(answers.unwrap()) {
            injected += faults;
            refused += 6 - told.len();
            let view = sim.run(disk.snapshot(&[Prefix::ROOT])).unwrap().unwrap();
            let listed = NameClaims.list(&view, &Txn::new(), &ctx(tenant, "r")).unwrap();
            let listed: BTreeSet<_> = listed.into_iter().map(|claim| claim.name).collect();
            assert_eq!(listed, told, "seed {seed}");
            assert!(told.iter().all(|own| taken.iter().all(|held| !held.overlaps(own))), "seed {seed}");
            taken.extend(told);
        }
    }
    assert!(injected > 100 && refused > 100, "{injected} {refused}");
}

#[derive(Debug, Clone)]
enum Step {
    Claim(usize, String),
    Release(usize, String),
    Reborn(usize),
    Sweep(usize),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => (0u8..3).prop_map(|n| format!("hosts:h{n}.org")),
        2 => (0u8..32, 27u8..=32).prop_map(|(host, len)| {
            let all = 1u32 << (32 - len);
            format!("ranges:10.0.0.{}/{len}", u32::from(host) / all * all)
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..3, text()).prop_map(|(tenant, text)| Step::Claim(tenant, text)),
        4 => (0usize..3, text()).prop_map(|(tenant, text)| Step::Release(tenant, text)),
        1 => (0usize..3).prop_map(Step::Reborn),
        1 => (0usize..3).prop_map(Step::Sweep),
    ]
}

/// What a name takes up: every single address, or the host.
fn takes_up(text: &str) -> BTreeSet<String> {
    let Some((address, len)) = text.strip_prefix("ranges:10.0.0.").and_then(|rest| rest.split_once('/'))
    else {
        return [text.to_owned()].into();
    };
    let first: u32 = address.parse().unwrap();
    (first..first + (1 << (32 - len.parse::<u32>().unwrap()))).map(|n| format!("address {n}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn claims_are_those_of_a_list_of_what_each_name_takes_up(steps in prop::collection::vec(step(), 0..50)) {
        let world = World::new();
        let ids = ["acme", "globex", "initech"];
        let mut tenants: Vec<_> = ids.iter().map(|id| born(&world, id, 0)).collect();
        let mut model: Vec<(usize, String)> = Vec::new();
        for (life, step) in steps.into_iter().enumerate() {
            match step {
                Step::Claim(tenant, text) => {
                    let wanted = takes_up(&text);
                    let clash = model.iter().find(|(_, held)| !takes_up(held).is_disjoint(&wanted)).cloned();
                    let got = claim(&world, &tenants[tenant], &text);
                    match clash {
                        None => {
                            prop_assert!(got.is_ok());
                            model.push((tenant, text));
                        }
                        Some(held) if held == (tenant, text.clone()) => prop_assert!(got.is_ok()),
                        Some(_) => prop_assert_eq!(got.unwrap_err().kind(), ErrorKind::AlreadyExists),
                    }
                }
                Step::Release(tenant, text) => {
                    let at = model.iter().position(|held| *held == (tenant, text.clone()));
                    let got = release(&world, &tenants[tenant], &text);
                    prop_assert_eq!(got.is_ok(), at.is_some());
                    at.map(|at| model.remove(at));
                }
                Step::Reborn(tenant) => {
                    dies(&world, &tenants[tenant]);
                    tenants[tenant] = born(&world, ids[tenant], life as u64 + 1);
                    model.retain(|(owner, _)| *owner != tenant);
                }
                Step::Sweep(limit) => {
                    world.commit(|view, txn| NameClaims.stage_sweep(view, txn, &admin("r"), limit)).unwrap();
                }
            }
            let view = world.view();
            for (index, tenant) in tenants.iter().enumerate() {
                let listed = NameClaims.list(&view, &Txn::new(), &ctx(tenant, "r")).unwrap();
                let listed: BTreeSet<_> = listed.iter().map(|claim| claim.name.to_string()).collect();
                let held: BTreeSet<_> =
                    model.iter().filter(|(owner, _)| *owner == index).map(|(_, text)| text.clone()).collect();
                prop_assert_eq!(listed, held);
            }
        }
    }
}
