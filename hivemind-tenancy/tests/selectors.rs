//! Quota scopes and placement rely on label selectors: core's against an evaluator that knows only plain texts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;

use hivemind_core::labels::{AnySelector, LabelSelector, Labels, Selector};
use proptest::prelude::*;

/// A requirement as Kubernetes describes it: key, operator, values.
type Plain = (&'static str, &'static str, Vec<&'static str>);

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// What Kubernetes says about each operator, read literally.
fn meets((key, operator, values): &Plain, labels: &BTreeMap<&str, &str>) -> bool {
    let Some(found) = labels.get(key) else { return matches!(*operator, "NotIn" | "DoesNotExist") };
    let numbers = || number(found).zip(number(values[0]));
    match *operator {
        "In" => values.iter().any(|value| value == found),
        "NotIn" => values.iter().all(|value| value != found),
        "Exists" => true,
        "DoesNotExist" => false,
        "Gt" => numbers().is_some_and(|(found, bound)| found > bound),
        "Lt" => numbers().is_some_and(|(found, bound)| found < bound),
        other => panic!("no operator {other}"),
    }
}

/// The text form of a requirement.
fn text((key, operator, values): &Plain) -> String {
    let list = values.join(",");
    match *operator {
        "In" => format!("{key} in ({list})"),
        "NotIn" => format!("{key} notin ({list})"),
        "Exists" => (*key).to_owned(),
        "DoesNotExist" => format!("!{key}"),
        "Gt" => format!("{key} > {list}"),
        _ => format!("{key} < {list}"),
    }
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "notin", "x.io/c"])
}

fn plain() -> impl Strategy<Value = Plain> {
    let word = || prop::sample::select(vec!["", "a", "in", "1", "2", "07"]);
    let bound = prop::sample::select(vec!["0", "1", "2", "7", "9223372036854775807"]);
    prop_oneof![
        (key(), prop::sample::select(vec!["In", "NotIn"]), prop::collection::vec(word(), 1..4)),
        (key(), prop::sample::select(vec!["Exists", "DoesNotExist"]), Just(Vec::new())),
        (key(), prop::sample::select(vec!["Gt", "Lt"]), bound.prop_map(|bound| vec![bound])),
    ]
}

fn labels() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let value = prop::sample::select(vec!["", "a", "in", "0", "1", "2", "07", "8", "9999999999999999999"]);
    prop::collection::btree_map(key(), value, 0..5)
}

fn core_labels(plain: &BTreeMap<&str, &str>) -> Labels {
    plain.iter().map(|(key, value)| (key.parse().unwrap(), value.parse().unwrap())).collect()
}

fn read(all: &[Plain]) -> Selector {
    all.iter().map(text).collect::<Vec<_>>().join(", ").parse().unwrap()
}

proptest! {
    /// Read from text, as it is and made ready for many matches.
    #[test]
    fn a_selector_is_all_of_its_requirements(all in prop::collection::vec(plain(), 0..5), labels in labels()) {
        let expected = all.iter().all(|one| meets(one, &labels));
        let (selector, found) = (read(&all), core_labels(&labels));
        prop_assert_eq!(selector.matches(&found), expected, "{}", selector);
        prop_assert_eq!(selector.compile().matches(&found), expected, "compiled {}", selector);
    }

    /// The structured form means the same as the text.
    #[test]
    fn the_structured_form_means_the_same(
        all in prop::collection::vec(plain(), 0..4), same in labels(), labels in labels(),
    ) {
        let expressions: Vec<_> = all
            .iter()
            .map(|(key, operator, values)| {
                serde_json::json!({ "key": key, "operator": operator, "values": values })
            })
            .collect();
        let form = serde_json::json!({ "matchLabels": same, "matchExpressions": expressions });
        let form: LabelSelector = serde_json::from_value(form).unwrap();
        let equal = same.iter().all(|(key, value)| labels.get(key) == Some(value));
        let expected = equal && all.iter().all(|one| meets(one, &labels));
        prop_assert_eq!(Selector::try_from(form).unwrap().matches(&core_labels(&labels)), expected);
    }

    /// Several terms are alternatives; no term at all matches nothing.
    #[test]
    fn any_selector_is_one_of_its_terms(
        terms in prop::collection::vec(prop::collection::vec(plain(), 0..3), 0..3), labels in labels(),
    ) {
        let expected = terms.iter().any(|all| all.iter().all(|one| meets(one, &labels)));
        let any = AnySelector::new(terms.iter().map(|all| read(all)));
        prop_assert_eq!(any.matches(&core_labels(&labels)), expected);
    }
}
