//! Limit ranges of a tenant and of those above it.

use std::collections::BTreeMap;

use hivemind_core::ErrorKind;
use hivemind_core::store::Txn;
use proptest::prelude::*;

use super::*;
use crate::quota::{
    Bounds, Demand, LimitRange, QuotaRequest, RangeViolations, RequestAttributes, TenantQuota, WhenOver,
};

fn range(kind: &str, bounds: Bounds) -> LimitRange {
    LimitRange::new(kind, BTreeMap::from([(ResourceName::Cpu, bounds)])).unwrap()
}

fn demand(request: u64, limit: u64) -> Demand {
    let cpu = |of| Resources::new().with_cpu(MilliCpu::from_millis(of));
    Demand::new(cpu(request), cpu(limit))
}

fn set(world: &World, tenant: &TenantRef, spec: QuotaSpec) -> Result<()> {
    let ctx = world.ctx(tenant);
    world
        .commit(|view, txn| TenantQuota.stage_set_quota(view, txn, &ctx, &spec, WhenOver::Refuse))
        .map(|_| ())
}

/// A team below a company, with such bounds for pods.
fn bounded(own: Bounds, above: Bounds) -> (World, TenantRef) {
    let world = World::default();
    let corp = world.tenant("corp", None);
    let team = world.tenant("team", Some(&corp));
    set(&world, &corp, QuotaSpec::new().with_limit_range(range("pod", above))).unwrap();
    set(&world, &team, QuotaSpec::new().with_limit_range(range("pod", own))).unwrap();
    (world, team)
}

fn apply(world: &World, tenant: &TenantRef, demand: &Demand) -> Result<Demand> {
    TenantQuota.defaulted(&world.view(), &Txn::new(), &world.ctx(tenant), "pod", demand)
}

#[test]
fn own_defaults_come_first_and_those_above_fill_the_rest() {
    let above = Bounds::default().with_default_request(900).with_default_limit(2_000);
    let (world, team) = bounded(Bounds::default().with_default_request(100), above);
    assert_eq!(apply(&world, &team, &demand(0, 0)).unwrap(), demand(100, 2_000));
    assert_eq!(apply(&world, &team, &demand(0, 300)).unwrap(), demand(300, 300));
}

#[test]
fn a_limit_that_the_own_range_demands_may_be_the_default_of_one_above() {
    let own = Bounds::default().with_max_ratio_per_mille(4_000);
    let (world, team) = bounded(own, Bounds::default().with_default_limit(400));
    assert_eq!(apply(&world, &team, &demand(100, 0)).unwrap(), demand(100, 400));
    assert!(apply(&world, &team, &demand(99, 0)).is_err());
}

#[test]
fn everything_that_any_level_refuses_is_listed() {
    let own = Bounds::default().with_min(100).with_max(4_000);
    let (world, team) = bounded(own, Bounds::default().with_max(1_000).with_max_ratio_per_mille(2_000));
    let error = apply(&world, &team, &demand(50, 5_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.message(),
        "pod of tenant team: cpu: request 50m is below the least, 100m; cpu: limit 5 is above the highest, 4; \
         at a tenant above: cpu: limit 5 is above the highest, 1; \
         at a tenant above: cpu: limit 5 is above 2000/1000 of request 50m"
    );
    let depths: Vec<_> =
        error.detail::<RangeViolations>().unwrap().found.iter().map(|found| found.depth).collect();
    assert_eq!(depths, [0, 0, 1, 1]);
}

#[test]
fn a_range_is_about_its_kind_only_and_what_has_none_stays_as_it_is() {
    let (world, team) = bounded(Bounds::default().with_max(100), Bounds::default().with_max(100));
    let other =
        TenantQuota.defaulted(&world.view(), &Txn::new(), &world.ctx(&team), "volume", &demand(0, 900));
    assert_eq!(other.unwrap(), demand(0, 900));
    let free = world.tenant("free", None);
    assert_eq!(apply(&world, &free, &demand(0, 900)).unwrap(), demand(0, 900));
}

#[test]
fn two_ranges_for_one_kind_are_refused_and_a_later_one_replaces() {
    let world = World::default();
    let acme = world.tenant("acme", None);
    let (one, other) =
        (range("pod", Bounds::default().with_max(1)), range("pod", Bounds::default().with_max(2)));
    let replaced = QuotaSpec::new().with_limit_range(one.clone()).with_limit_range(other.clone());
    assert_eq!(replaced.limit_ranges, std::slice::from_ref(&other));
    let twice = QuotaSpec { limit_ranges: vec![one, other], ..QuotaSpec::new() };
    assert_eq!(
        set(&world, &acme, twice).unwrap_err().message(),
        "there are two limit ranges for \"pod\": join them"
    );
}

#[test]
fn a_quota_stored_before_there_were_ranges_has_none() {
    let old: QuotaSpec = serde_json::from_str(r#"{"rules":{"cpu":{"max":7}}}"#).unwrap();
    assert_eq!(old, cpu(QuotaRule::default().with_max(7)));
}

fn some() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(1u64..6)
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let all = (some(), some(), some(), some(), prop::option::of(prop::sample::select(vec![1_000, 2_000])));
    let bounds = all.prop_map(|(default_request, default_limit, min, max, max_ratio_per_mille)| Bounds {
        default_request,
        default_limit,
        min,
        max,
        max_ratio_per_mille,
    });
    bounds.prop_filter("contradicts itself", |bounds| {
        LimitRange::new("pod", BTreeMap::from([(ResourceName::Cpu, *bounds)])).is_ok()
    })
}

fn pods(number: u8, amount: u64, demands: impl IntoIterator<Item = Demand>) -> QuotaRequest {
    let amount = Resources::new().with_cpu(MilliCpu::from_millis(amount));
    let attributes = RequestAttributes::new("pod");
    QuotaRequest::new(id(number), amount).with_attributes(attributes).with_demands(demands)
}

fn charge(world: &World, tenant: &TenantRef, request: &QuotaRequest) -> Result<()> {
    let ctx = world.ctx(tenant);
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &ctx, request))
}

#[test]
fn a_charge_by_demands_is_bounded_on_every_level() {
    let own = Bounds::default().with_min(100);
    let (world, team) = bounded(own, Bounds::default().with_max(1_000));
    let good = demand(100, 1_000);
    for bad in [demand(99, 500), demand(100, 1_001)] {
        let error = charge(&world, &team, &pods(0, 9_000, [good.clone(), bad])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.detail::<RangeViolations>().unwrap().found.len(), 1);
    }
    let error = charge(&world, &team, &pods(0, 199, [good.clone(), good.clone()])).unwrap_err();
    assert_eq!(error.message(), "the demands of reservation r0 ask for more than its cpu=199m: charge all");
    assert_eq!(TenantQuota.usage(&world.view(), &world.ctx(&team)).unwrap(), Default::default());
    charge(&world, &team, &pods(0, 200, [good.clone(), good.clone()])).unwrap();
    charge(&world, &team, &pods(0, 200, [good])).unwrap();
}

#[test]
fn a_charge_by_demands_grows_by_demands_only() {
    let (world, team) = bounded(Bounds::default().with_max(1_000), Bounds::default());
    charge(&world, &team, &pods(0, 500, [demand(500, 900)])).unwrap();
    charge(&world, &team, &pods(1, 500, [])).unwrap();
    let resize = |request: &QuotaRequest| {
        let ctx = world.ctx(&team);
        world.commit(|view, txn| TenantQuota.stage_resize_request(view, txn, &ctx, request))
    };
    let error = resize(&pods(0, 2_000, [])).unwrap_err();
    assert_eq!(error.message(), "reservation r0 was charged by demands: say those it grows by");
    assert!(resize(&pods(0, 2_000, [demand(2_000, 2_000)])).is_err());
    resize(&pods(0, 100, [])).unwrap();
    let twice = [demand(900, 900), demand(1_000, 1_000)];
    // What it is stays as it was charged first, whatever is said later.
    let other =
        QuotaRequest { attributes: RequestAttributes::new("volume"), ..pods(0, 2_000, twice.clone()) };
    resize(&other).unwrap();
    resize(&pods(1, 700, [])).unwrap();
    resize(&pods(1, 1_900, twice)).unwrap();
    assert!(resize(&pods(1, 2_000, [])).is_err(), "it is by demands now");
}

proptest! {
    /// The model goes up level by level, once to fill and once to compare.
    #[test]
    fn what_is_admitted_is_within_the_bounds_of_every_level(
        own in bounds(), above in bounds(), request in 0u64..8, limit in 0u64..8,
    ) {
        let (world, team) = bounded(own, above);
        let decided = apply(&world, &team, &demand(request, limit));
        let (mut request, mut limit) = (request, limit);
        for level in [own, above] {
            let given = limit;
            if given == 0 {
                limit = level.default_limit.or(level.max).unwrap_or(0);
            }
            if request == 0 {
                request = if given > 0 { given } else { level.default_request.unwrap_or(limit) };
            }
        }
        let fits = [own, above].iter().all(|level| {
            (limit == 0 || request <= limit)
                && level.min.is_none_or(|min| request >= min)
                && level.max.is_none_or(|max| (1..=max).contains(&limit))
                && level.max_ratio_per_mille.is_none_or(|ratio| {
                    request == 0 || (limit > 0 && limit * 1000 <= ratio * request)
                })
        });
        prop_assert_eq!(decided.is_ok(), fits);
        if let Ok(filled) = decided {
            prop_assert_eq!(filled, demand(request, limit));
        }
    }

    /// A charge by demands is admitted exactly if every one of them, with no defaults, is within the bounds of both
    /// levels; and what `defaulted` makes of a demand always is.
    #[test]
    fn a_charge_is_refused_exactly_if_one_demand_is(
        own in (0..4u64, 1..9u64), above in (0..4u64, 1..9u64, 1..4u64),
        asked in prop::collection::vec((0..9u64, 0..9u64), 0..4),
    ) {
        let of = |(min, more): (u64, u64)| Bounds::default().with_min(min).with_max(min + more);
        let (world, team) = bounded(of(own), of((above.0, above.1)).with_max_ratio_per_mille(above.2 * 1000));
        let allowed = |(request, limit): &(u64, u64)| {
            let within = |(min, more): (u64, u64)| *request >= min && *limit <= min + more;
            let limited = *limit > 0 && request <= limit;
            limited && within(own) && within((above.0, above.1)) && (*request == 0 || *limit <= above.2 * request)
        };
        let demands: Vec<_> = asked.iter().map(|(request, limit)| demand(*request, *limit)).collect();
        let charged = charge(&world, &team, &pods(0, 99, demands.clone()));
        prop_assert_eq!(charged.is_ok(), asked.iter().all(allowed), "{:?}", charged);
        let filled: Vec<_> = demands.iter().filter_map(|one| apply(&world, &team, one).ok()).collect();
        charge(&world, &team, &pods(1, 99, filled)).unwrap();
    }
}
