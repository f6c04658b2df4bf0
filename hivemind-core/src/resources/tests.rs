use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn nanos(text: &str) -> i128 {
    text.parse::<Quantity>().unwrap().as_nanos()
}

#[test]
fn reads_what_kubernetes_reads() {
    for (text, expected) in [
        ("0", 0),
        ("1", 1_000_000_000),
        ("-1", -1_000_000_000),
        ("+1", 1_000_000_000),
        ("250m", 250_000_000),
        ("1.5", 1_500_000_000),
        (".5", 500_000_000),
        ("5.", 5_000_000_000),
        ("1e3", 1_000_000_000_000),
        ("1E3", 1_000_000_000_000),
        ("1e-3", 1_000_000),
        ("1.5e+3", 1_500_000_000_000),
        ("100n", 100),
        ("5u", 5_000),
        ("3k", 3_000_000_000_000),
        ("1Ki", 1_024_000_000_000),
        ("0.5Mi", 524_288_000_000_000),
        ("2Gi", 2_147_483_648_000_000_000),
        ("1E", 1_000_000_000_000_000_000_000_000_000),
        ("1Ei", 1_152_921_504_606_846_976_000_000_000),
        ("0e9999", 0),
    ] {
        assert_eq!(nanos(text), expected, "{text}");
    }
}

#[test]
fn refuses_what_is_not_a_quantity_and_says_why() {
    for (text, says) in [
        ("", "expected a digit at byte 0"),
        ("-", "expected a digit at byte 1"),
        (".", "expected a digit"),
        ("Gi", "expected a digit"),
        ("--1", "expected a digit at byte 1"),
        ("1K", "\"K\" is not one of"),
        ("1 Gi", "\" Gi\" is not one of"),
        ("1e", "\"e\" is not one of"),
        ("1e3m", "\"e3m\" is not one of"),
        ("1.2.3", "\".3\" is not one of"),
        ("0.1n", "finer than one billionth"),
        ("1e-10", "finer than one billionth"),
        ("1e9999", "too large"),
        ("1e99999", "is not one of"),
        ("99999999999999999999999999999999999999999", "too large"),
        ("1٣", "is not one of"),
    ] {
        let error = text.parse::<Quantity>().unwrap_err().to_string();
        assert!(error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn prints_the_canonical_form() {
    for (text, printed) in [
        ("1000m", "1"),
        ("0.25", "250m"),
        ("1500", "1500"),
        ("1000", "1k"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("0.5Ki", "512"),
        ("2000e3", "2e6"),
        ("-1024Ki", "-1Mi"),
        ("0Gi", "0"),
    ] {
        assert_eq!(text.parse::<Quantity>().unwrap().to_string(), printed, "{text}");
    }
}

#[test]
fn units_refuse_what_they_cannot_count() {
    assert_eq!("0.25".parse::<MilliCpu>().unwrap().as_millis(), 250);
    assert_eq!("1.5Gi".parse::<ByteSize>().unwrap(), ByteSize::from_mib(1536));
    assert_eq!(serde_json::from_str::<MilliCpu>("2").unwrap(), MilliCpu::from_cores(2));
    assert_eq!(serde_json::from_str::<ByteSize>("1024").unwrap().to_string(), "1Ki");
    assert_eq!(serde_json::to_string(&MilliCpu::from_millis(250)).unwrap(), "\"250m\"");
    for (bad, says) in [("0.0001", "finer than one thousandth of a core"), ("-1", "negative"), ("1E9", "1G")]
    {
        match bad.parse::<MilliCpu>() {
            Err(error) => assert!(error.to_string().contains(says), "{error}"),
            Ok(good) => assert_eq!(good.to_string(), says),
        }
    }
    assert!("100m".parse::<ByteSize>().is_err());
    assert!("1e30".parse::<ByteSize>().unwrap_err().to_string().contains("too large"));
    assert!(serde_json::from_str::<Count>("1.5").is_err());
}

#[test]
fn names_are_validated() {
    for good in ["cpu", "nvidia.com/gpu", "containers", "example.com/licence_a"] {
        assert_eq!(good.parse::<ResourceName>().unwrap().to_string(), good);
    }
    for bad in ["", "/gpu", "a/b/c", "gpu!", "NVIDIA.com/", &"x".repeat(64)] {
        assert!(bad.parse::<ResourceName>().is_err(), "{bad}");
    }
}

#[test]
fn a_vector_reads_and_prints() {
    let json = r#"{"cpu":"250m","memory":"2Gi","nvidia.com/gpu":"1"}"#;
    let resources: Resources = serde_json::from_str(json).unwrap();
    assert_eq!(resources.to_string(), "cpu=250m memory=2Gi nvidia.com/gpu=1");
    assert_eq!(serde_json::to_string(&resources).unwrap(), json);
    assert!(serde_json::from_str::<Resources>(r#"{"cpu":"1x"}"#).is_err());
    assert_eq!(serde_json::from_str::<Resources>(r#"{"cpu":2}"#).unwrap().cpu(), MilliCpu::from_cores(2));
    assert_eq!(Resources::new().to_string(), "nothing");
}

/// The naive model: a map of big numbers.
fn model(resources: &Resources) -> BTreeMap<ResourceName, u128> {
    resources.iter().map(|(name, amount)| (name, u128::from(amount))).collect()
}

fn resources() -> impl Strategy<Value = Resources> {
    let amount = || prop_oneof![0u64..4, Just(u64::MAX), any::<u64>()];
    let name = prop::sample::select(vec!["cpu", "memory", "storage", "a/gpu", "b"]);
    prop::collection::btree_map(name, amount(), 0..5).prop_map(|map| {
        map.into_iter().fold(Resources::new(), |all, (name, amount)| all.with(name.parse().unwrap(), amount))
    })
}

proptest! {
    #[test]
    fn printing_and_reading_a_quantity_keeps_it(text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,6})?(n|u|m|k|M|G|Ki|Mi|Gi|Ti|e[0-9]|E-?[0-3])?") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert_eq!(quantity.to_string().parse::<Quantity>().unwrap(), quantity);
        }
    }

    #[test]
    fn reading_never_panics(text in "\\PC{0,20}") {
        let _ = text.parse::<Quantity>();
        let _ = text.parse::<ResourceName>();
    }

    #[test]
    fn printing_and_reading_a_unit_keeps_it(n in any::<u64>()) {
        prop_assert_eq!(MilliCpu::from_millis(n).to_string().parse::<MilliCpu>().unwrap(), MilliCpu::from_millis(n));
        prop_assert_eq!(ByteSize::from_bytes(n).to_string().parse::<ByteSize>().unwrap(), ByteSize::from_bytes(n));
        prop_assert_eq!(Count::new(n).to_string().parse::<Count>().unwrap(), Count::new(n));
    }

    #[test]
    fn printing_and_reading_a_vector_keeps_it(all in resources()) {
        let json = serde_json::to_string(&all).unwrap();
        prop_assert_eq!(serde_json::from_str::<Resources>(&json).unwrap(), all);
    }

    #[test]
    fn adding_is_exact_commutes_and_associates(a in resources(), b in resources(), c in resources()) {
        let mut expected = model(&a);
        for (name, amount) in model(&b) {
            *expected.entry(name).or_default() += amount;
        }
        match a.checked_add(&b) {
            Ok(sum) => prop_assert_eq!(model(&sum), expected),
            Err(error) => prop_assert!(expected[&error.resource] > u128::from(u64::MAX)),
        }
        prop_assert_eq!(a.checked_add(&b).ok(), b.checked_add(&a).ok());
        let left = a.checked_add(&b).ok().and_then(|ab| ab.checked_add(&c).ok());
        let right = b.checked_add(&c).ok().and_then(|bc| a.checked_add(&bc).ok());
        prop_assert_eq!(left, right);
    }

    #[test]
    fn taking_away_is_the_inverse_and_never_below_zero(a in resources(), b in resources()) {
        if let Ok(sum) = a.checked_add(&b) {
            prop_assert_eq!(sum.checked_sub(&b).unwrap(), a.clone());
        }
        prop_assert_eq!(b.fits_in(&a), a.checked_sub(&b).is_ok());
        prop_assert_eq!(b.fits_in(&a), b.shortfalls(&a).is_empty());
        for (name, left) in a.saturating_sub(&b).iter() {
            prop_assert_eq!(left, a.amount(&name).saturating_sub(b.amount(&name)));
        }
    }
}
