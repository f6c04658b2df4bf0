//! Guarantees, borrowing, lending, over-commit, scopes, required limits, moves and changes of limits.

use hivemind_core::ErrorKind;
use hivemind_core::resources::ResourceName;
use hivemind_core::store::Txn;

use super::*;
use crate::quota::{
    OverQuota, QuotaRequest, QuotaScope, RequestAttributes, Returned, ScopedQuota, TemporaryLimit,
    TemporaryLimits, TenantQuota, WhenOver,
};

fn set(
    world: &World,
    tenant: &TenantRef,
    spec: QuotaSpec,
    when: WhenOver,
) -> Result<crate::quota::QuotaChange> {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, when))
}

fn charge(world: &World, tenant: &TenantRef, number: u8, cpu: u64) -> Result<()> {
    let (ctx, request) = (world.ctx(tenant), QuotaRequest::new(id(number), amount(cpu, 0)));
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request))
}

fn short(error: &hivemind_core::Error) -> Vec<String> {
    error.detail::<OverQuota>().unwrap().in_full().iter().map(ToString::to_string).collect()
}

/// A company of 10 cores with two teams.
fn company() -> (World, TenantRef, TenantRef, TenantRef) {
    let world = World::default();
    let corp = world.tenant("corp", None);
    let (red, blue) = (world.tenant("red", Some(&corp)), world.tenant("blue", Some(&corp)));
    set(&world, &corp, cpu(QuotaRule::default().with_max(10_000)), WhenOver::Refuse).unwrap();
    (world, corp, red, blue)
}

#[test]
fn a_denial_names_every_level_that_is_short_and_what_would_help() {
    let (world, _, red, blue) = company();
    set(&world, &red, cpu(QuotaRule::default().with_max(5_000)), WhenOver::Refuse).unwrap();
    charge(&world, &blue, 0, 7_000).unwrap();
    let error = charge(&world, &red, 1, 6_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(
        short(&error),
        [
            "cpu: limit 5, used 0, reserved 0, asked 6, short by 1",
            "cpu at tenant corp: limit 10, used 7, reserved 0, asked 6, short by 3",
        ]
    );
    let over = error.detail::<OverQuota>().unwrap();
    assert_eq!(
        over.in_full()[1].help(),
        "ask for at most 3 of cpu, release 3 below tenant corp, or raise its limit to 13"
    );
    assert!(TenantQuota.usage(&world.view(), &world.ctx(&red)).unwrap().used.is_zero());
}

#[test]
fn what_is_not_lent_of_a_guarantee_is_held_back_while_idle() {
    let (world, corp, red, blue) = company();
    let rule = QuotaRule::default().with_guaranteed(6_000).with_lending_limit(2_000);
    set(&world, &red, cpu(rule), WhenOver::Refuse).unwrap();
    assert_eq!(TenantQuota.usage(&world.view(), &world.ctx(&corp)).unwrap().held, amount(4_000, 0));
    assert_eq!(
        short(&charge(&world, &blue, 0, 7_000).unwrap_err()),
        ["cpu at tenant corp: limit 10, used 0, reserved 0, held for others 4, asked 7, short by 1"]
    );
    charge(&world, &blue, 0, 6_000).unwrap();
    // What was held back is there for its owner, and for no more than that.
    charge(&world, &red, 1, 4_000).unwrap();
    assert!(charge(&world, &red, 2, 1).is_err());
    assert!(TenantQuota.drift(&world.view(), &world.ctx(&corp)).unwrap().is_empty());
}

#[test]
fn borrowing_ends_at_its_limit() {
    let (world, _, red, _) = company();
    let rule = QuotaRule::default().with_guaranteed(3_000).with_borrowing_limit(1_000);
    set(&world, &red, cpu(rule), WhenOver::Refuse).unwrap();
    charge(&world, &red, 0, 4_000).unwrap();
    assert_eq!(
        short(&charge(&world, &red, 1, 1).unwrap_err()),
        ["cpu: limit 4, used 4, reserved 0, asked 1m, short by 1m"]
    );
}

#[test]
fn a_guarantee_that_the_tenants_above_cannot_keep_is_refused() {
    let (world, _, red, blue) = company();
    charge(&world, &blue, 0, 5_000).unwrap();
    let rule = QuotaRule::default().with_guaranteed(6_000).with_lending_limit(0);
    let error = set(&world, &red, cpu(rule), WhenOver::Flag).unwrap_err();
    assert_eq!(short(&error), ["cpu at tenant corp: limit 10, used 5, reserved 0, asked 6, short by 1"]);
}

#[test]
fn a_root_that_over_commits_admits_more_than_its_max() {
    let (world, corp, red, _) = company();
    let rule = QuotaRule::default().with_max(10_000).with_overcommit_per_mille(1_500);
    set(&world, &corp, cpu(rule), WhenOver::Refuse).unwrap();
    charge(&world, &red, 0, 15_000).unwrap();
    assert!(charge(&world, &red, 1, 1).is_err());
}

#[test]
fn a_scoped_quota_counts_what_it_is_about_and_what_was_there_before() {
    let (world, corp, red, _) = company();
    let (ctx, batch) = (world.ctx(&red), RequestAttributes::new("job"));
    let job = |number: u8, cpu| {
        let request = QuotaRequest::new(id(number), amount(cpu, 0)).with_attributes(batch.clone());
        world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request))
    };
    job(0, 1_000).unwrap();
    let jobs =
        ScopedQuota::new(QuotaScope::everything().with_kind("job")).with_limit(ResourceName::Cpu, 2_000);
    let spec = cpu(QuotaRule::default().with_max(10_000)).with_scoped("jobs", jobs);
    set(&world, &corp, spec, WhenOver::Refuse).unwrap();
    charge(&world, &red, 1, 3_000).unwrap();
    assert_eq!(
        short(&job(2, 1_500).unwrap_err()),
        ["cpu in quota jobs at tenant corp: limit 2, used 1, reserved 0, asked 1500m, short by 500m"]
    );
    job(2, 1_000).unwrap();
    world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id(0))).unwrap();
    job(3, 1_000).unwrap();
    assert!(TenantQuota.drift(&world.view(), &world.ctx(&corp)).unwrap().is_empty());
}

#[test]
fn what_must_be_covered_by_a_limit_is_denied_without_one() {
    let (world, _, red, _) = company();
    set(&world, &red, QuotaSpec::new().with_required(gpu()), WhenOver::Refuse).unwrap();
    let ctx = world.ctx(&red);
    let ask = |gpus| {
        let request = QuotaRequest::new(id(0), amount(1, gpus));
        world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request))
    };
    assert_eq!(
        short(&ask(2).unwrap_err()),
        ["nvidia.com/gpu: asked 2, but a limit is required and there is none: set one"]
    );
    ask(0).unwrap();
}

#[test]
fn a_limit_below_what_is_taken_is_refused_flagged_or_drained() {
    let (world, corp, red, blue) = company();
    let ctx = world.ctx(&red);
    let held = QuotaRequest::new(id(0), amount(1_000, 0)).held_until(at(9));
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &held)).unwrap();
    charge(&world, &red, 1, 3_000).unwrap();
    charge(&world, &blue, 2, 3_000).unwrap();
    let lower = || cpu(QuotaRule::default().with_max(4_000));
    assert_eq!(set(&world, &corp, lower(), WhenOver::Refuse).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_eq!(TenantQuota.over_quota(&world.view(), &world.ctx(&corp)).unwrap(), None);
    let change = set(&world, &corp, lower(), WhenOver::Drain).unwrap();
    assert_eq!(change.over.unwrap().short[0].short_by, 3_000);
    // What is only held goes first, then the newest.
    assert_eq!(change.drain, [(red.clone(), id(0)), (blue, id(2))]);
    assert!(TenantQuota.over_quota(&world.view(), &world.ctx(&corp)).unwrap().is_some());
    assert!(charge(&world, &red, 3, 1).is_err());
    for (tenant, id) in change.drain {
        let ctx = world.ctx(&tenant);
        let back = world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id)).unwrap();
        assert!(matches!(back, Returned::Now(_)));
    }
    assert_eq!(TenantQuota.over_quota(&world.view(), &world.ctx(&corp)).unwrap(), None);
    charge(&world, &red, 3, 1_000).unwrap();
}

#[test]
fn a_move_takes_the_usage_along_and_is_refused_where_it_does_not_fit() {
    let (world, corp, red, blue) = company();
    let small = world.tenant("small", None);
    set(&world, &small, cpu(QuotaRule::default().with_max(2_000)), WhenOver::Refuse).unwrap();
    charge(&world, &red, 0, 3_000).unwrap();
    charge(&world, &blue, 1, 1_000).unwrap();
    let error = world.reparent(&red, Some(&small)).unwrap_err();
    assert_eq!(short(&error), ["cpu at tenant small: limit 2, used 0, reserved 0, asked 3, short by 1"]);
    world.reparent(&blue, Some(&small)).unwrap();
    assert!(world.reparent(&corp, Some(&red)).is_err());
    let used = |tenant: &TenantRef| TenantQuota.usage(&world.view(), &world.ctx(tenant)).unwrap().used;
    assert_eq!((used(&corp), used(&small)), (amount(3_000, 0), amount(1_000, 0)));
    // It is given back where the tenant is now.
    let ctx = world.ctx(&blue);
    world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id(1))).unwrap();
    assert_eq!((used(&corp), used(&small)), (amount(3_000, 0), amount(0, 0)));
}

#[test]
fn a_quota_that_is_refused_leaves_the_transaction_as_it_was() {
    let (world, _, red, _) = company();
    charge(&world, &red, 0, 5_000).unwrap();
    let (ctx, view) = (world.ctx(&red), world.view());
    for (spec, when) in [
        (QuotaRule::default().with_max(4_000), WhenOver::Refuse),
        (QuotaRule::default().with_guaranteed(11_000).with_lending_limit(0), WhenOver::Flag),
    ] {
        let mut txn = Txn::new();
        let refused = TenantQuota.stage_set_quota(&view, &mut txn, &ctx, &cpu(spec), when).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::QuotaExceeded);
        assert_eq!((txn.guards().len(), txn.writes().len()), (0, 0));
    }
}

#[test]
fn nothing_new_is_admitted_below_a_tenant_that_is_suspended() {
    let (world, corp, red, _) = company();
    charge(&world, &red, 0, 1_000).unwrap();
    world
        .commit(|view, txn| {
            let old = tenants()?.require(view, txn, &key(&corp.id)?)?;
            let state = TenantState::Suspended { drain_by: None };
            tenants()?.update(txn, &old, &Tenant { state, ..(*old.value).clone() })
        })
        .unwrap();
    let denied = charge(&world, &red, 1, 1).unwrap_err();
    assert_eq!((denied.kind(), denied.retry()), (ErrorKind::Conflict, hivemind_core::Retry::AfterChange));
    assert_eq!(denied.message(), "a tenant above tenant red admits nothing new now");
    let ctx = world.ctx(&red);
    let resize =
        |cpu| world.commit(|view, txn| TenantQuota.stage_resize(view, txn, &ctx, &id(0), &amount(cpu, 0)));
    assert_eq!(resize(1_001).unwrap_err().kind(), ErrorKind::Conflict);
    resize(999).unwrap();
    world.commit(|view, txn| TenantQuota.stage_release(view, txn, &ctx, &id(0))).unwrap();
}

#[test]
fn amounts_too_large_to_be_counted_are_short_and_do_not_wrap() {
    let world = World::default();
    let acme = world.tenant("acme", None);
    charge(&world, &acme, 0, u64::MAX).unwrap();
    let error = charge(&world, &acme, 1, u64::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    assert_eq!(error.detail::<OverQuota>().unwrap().in_full()[0].short_by, u64::MAX);
}

#[test]
fn a_commit_needs_a_time_before_the_deadline_and_an_abort_something_that_is_only_held() {
    let world = World::default();
    let ctx = world.ctx(&world.tenant("acme", None));
    let held = QuotaRequest::new(id(0), amount(1, 0)).held_until(at(9));
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &held)).unwrap();
    let commit = |ctx: &TenantContext| {
        world.commit(|view, txn| TenantQuota.stage_commit(view, txn, ctx, &id(0))).map_err(|e| e.kind())
    };
    assert_eq!(commit(&ctx), Err(ErrorKind::Invalid));
    assert_eq!(commit(&ctx.clone().with_time(at(9))), Err(ErrorKind::NotFound));
    assert_eq!(commit(&ctx.clone().with_time(at(8))), Ok(()));
    // The same request again gets the same answer.
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &held)).unwrap();
    let abort = world.commit(|view, txn| TenantQuota.stage_abort(view, txn, &ctx, &id(0)));
    assert_eq!(abort.unwrap_err().kind(), ErrorKind::Conflict);
    let late = QuotaRequest::new(id(1), amount(1, 0)).held_until(at(9));
    let late = TenantQuota.stage_request(&world.view(), &mut Txn::new(), &ctx.with_time(at(9)), &late);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn an_id_whose_hold_is_over_is_free_whether_or_not_it_was_swept() {
    for sweep in [false, true] {
        let world = World::default();
        let acme = world.tenant("acme", None);
        set(&world, &acme, cpu(QuotaRule::default().with_max(10)), WhenOver::Flag).unwrap();
        let ask = |cpu, deadline: Option<u64>, now| {
            let (ctx, plain) =
                (world.ctx(&acme).with_time(at(now)), QuotaRequest::new(id(0), amount(cpu, 0)));
            let request = deadline.map_or(plain.clone(), |deadline| plain.held_until(at(deadline)));
            world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, &request))
        };
        let used = || {
            let usage = TenantQuota.usage(&world.view(), &world.ctx(&acme)).unwrap();
            usage.used.amount(&ResourceName::Cpu) + usage.reserved.amount(&ResourceName::Cpu)
        };
        ask(8, Some(9), 1).unwrap();
        set(&world, &acme, cpu(QuotaRule::default().with_max(6)), WhenOver::Flag).unwrap();
        if sweep {
            let ctx = world.ctx(&acme).with_time(at(9));
            world.commit(|view, txn| TenantQuota.stage_expire(view, txn, &ctx, at(9))).unwrap();
        } else {
            assert_eq!(ask(7, Some(20), 8).unwrap_err().kind(), ErrorKind::AlreadyExists);
            ask(8, Some(20), 8).unwrap();
        }
        assert_eq!(ask(8, Some(9), 9).unwrap_err().kind(), ErrorKind::Invalid, "the same is over");
        assert_eq!(ask(8, Some(20), 9).unwrap_err().kind(), ErrorKind::QuotaExceeded, "it is a new request");
        assert_eq!(used(), if sweep { 0 } else { 8 }, "what is denied changes nothing");
        ask(5, Some(20), 9).unwrap();
        assert_eq!(used(), 5);
        ask(6, None, 20).unwrap();
        assert_eq!(used(), 6);
        assert!(TenantQuota.drift(&world.view(), &world.ctx(&acme)).unwrap().is_empty());
    }
}

#[test]
fn a_temporary_limit_holds_for_its_time_and_raises_nothing_without_one() {
    let world = World::default();
    let acme = world.tenant("acme", None);
    let more = TemporaryLimits::new()
        .with(ResourceName::Cpu, TemporaryLimit::until(at(20), 5_000).with_from(at(10)));
    let spec = cpu(QuotaRule::default().with_max(1_000)).with_temporary(more);
    set(&world, &acme, spec, WhenOver::Refuse).unwrap();
    let ctx = world.ctx(&acme);
    let ask = |ctx: &TenantContext, number: u8, cpu| {
        let request = QuotaRequest::new(id(number), amount(cpu, 0));
        world.commit(|view, txn| TenantQuota.stage_request(view, txn, ctx, &request))
    };
    for too_soon_or_late in [ctx.clone(), ctx.clone().with_time(at(9)), ctx.clone().with_time(at(20))] {
        assert!(ask(&too_soon_or_late, 0, 3_000).is_err());
    }
    let during = ctx.clone().with_time(at(10));
    ask(&during, 0, 3_000).unwrap();
    assert_eq!(TenantQuota.over_quota(&world.view(), &during).unwrap(), None);
    // Afterwards nothing is taken away, and nothing more is admitted.
    let after = ctx.with_time(at(20));
    assert_eq!(TenantQuota.over_quota(&world.view(), &after).unwrap().unwrap().short[0].short_by, 2_000);
    assert!(ask(&after, 1, 1).is_err());
    assert_eq!(TenantQuota.usage(&world.view(), &after).unwrap().used, amount(3_000, 0));
}
