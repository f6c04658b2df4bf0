use proptest::prelude::*;

use super::*;

fn cpu(bounds: Bounds) -> Result<LimitRange, InvalidLimitRange> {
    LimitRange::new("pod", BTreeMap::from([(ResourceName::Cpu, bounds)]))
}

fn demand(request: u64, limit: u64) -> Demand {
    let amount = |of| Resources::new().with(ResourceName::Cpu, of);
    Demand::new(amount(request), amount(limit))
}

fn explained(range: &LimitRange, demand: &Demand) -> Vec<String> {
    range.apply(demand).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn what_gives_nothing_gets_the_defaults() {
    let range = cpu(Bounds::default().with_default_request(100).with_default_limit(500)).unwrap();
    assert_eq!(range.apply(&demand(0, 0)), Ok(demand(100, 500)));
}

#[test]
fn a_limit_alone_is_the_request_too_and_a_highest_limit_is_the_default_limit() {
    let range = cpu(Bounds::default().with_default_request(100).with_max(500)).unwrap();
    assert_eq!(range.apply(&demand(0, 50)), Ok(demand(50, 50)));
    assert_eq!(range.apply(&demand(0, 300)), Ok(demand(300, 300)));
    assert_eq!(range.apply(&demand(50, 0)), Ok(demand(50, 500)));
}

#[test]
fn a_highest_limit_of_zero_refuses_only_what_asks_for_some() {
    let none = cpu(Bounds::default().with_max(0)).unwrap();
    assert_eq!(none.apply(&demand(0, 0)), Ok(demand(0, 0)));
    assert_eq!(explained(&none, &demand(5, 0)), ["cpu: limit 5m is above the highest, 0"]);
    assert_eq!(explained(&none, &demand(0, 5)), ["cpu: limit 5m is above the highest, 0"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let bounds = Bounds::default().with_min(100).with_max(1000).with_max_ratio_per_mille(2000);
    let range = cpu(bounds).unwrap();
    assert_eq!(
        explained(&range, &demand(50, 2000)),
        [
            "cpu: request 50m is below the least, 100m",
            "cpu: limit 2 is above the highest, 1",
            "cpu: limit 2 is above 2000/1000 of request 50m",
        ]
    );
    assert_eq!(explained(&range, &demand(1500, 1000)), ["cpu: request 1500m is above limit 1"]);
}

#[test]
fn a_ratio_wants_a_limit() {
    let range = cpu(Bounds::default().with_max_ratio_per_mille(1500)).unwrap();
    assert_eq!(
        explained(&range, &demand(100, 0)),
        ["cpu: give a limit of at most 1500/1000 of request 100m"]
    );
    assert_eq!(range.apply(&demand(100, 150)), Ok(demand(100, 150)));
    assert!(range.apply(&demand(100, 151)).is_err());
}

#[test]
fn bounds_that_refuse_their_own_defaults_are_refused() {
    let above = cpu(Bounds::default().with_default_limit(2000).with_max(1000)).unwrap_err();
    assert_eq!(
        above.to_string(),
        "the bounds of cpu for pod refuse their own defaults: limit 2 is above the highest, 1"
    );
    assert!(cpu(Bounds::default().with_min(2).with_max(1)).is_err());
    let text = r#"{"kind":"pod","bounds":{"cpu":{"min":2,"max":1}}}"#;
    assert!(serde_json::from_str::<LimitRange>(text).is_err());
}

#[test]
fn a_resource_without_bounds_is_left_as_it_is() {
    let memory = Resources::new().with(ResourceName::Memory, 7);
    let range = cpu(Bounds::default().with_default_request(1)).unwrap();
    let filled = range.apply(&Demand::new(memory, Resources::new())).unwrap();
    assert_eq!(filled.request.amount(&ResourceName::Memory), 7);
    assert_eq!(filled.limit.amount(&ResourceName::Memory), 0);
}

/// Each bound read literally, on demands whose request and limit are both given.
fn naive(bounds: &Bounds, request: u64, limit: u64) -> bool {
    bounds.min.is_none_or(|min| request >= min)
        && bounds.max.is_none_or(|max| limit <= max)
        && bounds.max_ratio_per_mille.is_none_or(|ratio| limit * 1000 <= request * ratio)
        && request <= limit
}

fn some_bounds() -> impl Strategy<Value = Bounds> {
    let amount = || proptest::option::of(0..12u64);
    (amount(), amount(), amount(), amount(), proptest::option::of(0..5000u64)).prop_map(
        |(default_request, default_limit, min, max, max_ratio_per_mille)| Bounds {
            default_request,
            default_limit,
            min,
            max,
            max_ratio_per_mille,
        },
    )
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(bounds in some_bounds(), request in 0..12u64, limit in 0..12u64) {
        let Ok(range) = cpu(bounds) else { return Ok(()) };
        if let Ok(once) = range.apply(&demand(request, limit)) {
            prop_assert_eq!(range.apply(&once), Ok(once));
        }
    }

    #[test]
    fn what_is_given_is_kept_and_checked_literally(
        bounds in some_bounds(), request in 1..12u64, limit in 1..12u64,
    ) {
        let Ok(range) = cpu(bounds) else { return Ok(()) };
        let expected = naive(&bounds, request, limit);
        prop_assert_eq!(range.apply(&demand(request, limit)).ok(), expected.then(|| demand(request, limit)));
    }

    #[test]
    fn huge_amounts_do_not_wrap(request in any::<u64>(), limit in any::<u64>(), ratio in any::<u64>()) {
        let range = cpu(Bounds::default().with_max_ratio_per_mille(ratio)).unwrap();
        if range.apply(&demand(request, limit)).is_ok() && request > 0 {
            prop_assert!(u128::from(limit) * 1000 <= u128::from(request) * u128::from(ratio));
        }
    }
}
