//! Policies in the Cedar language are checked when they are read.
#![cfg(feature = "cedar")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use hivemind_core::{Error, ErrorKind};
use hivemind_tenancy::cedar::{InvalidPolicies, PolicySet, Problem, schema};
use proptest::prelude::*;

fn schema_of(kinds: &[&str]) -> String {
    schema(kinds.iter().map(|kind| kind.parse().unwrap()))
}

fn problems(error: &Error) -> &[Problem] {
    assert_eq!(error.kind(), ErrorKind::Invalid);
    &error.detail::<InvalidPolicies>().unwrap().problems
}

#[test]
fn a_slip_in_the_text_is_named_with_its_place() {
    let error = PolicySet::parse("permit(principal, action, resource);\n  permit(principal,, resource);")
        .unwrap_err();
    assert_eq!(problems(&error)[0].position, Some((2, 20)));
    assert!(error.message().starts_with("policies: line 2, column 20: "), "{error}");
    let error = PolicySet::parse("permit(principal, action, resource) when { \"é\" == }").unwrap_err();
    assert_eq!(problems(&error)[0].position, Some((1, 51)), "{error}");
}

#[test]
fn ids_come_from_annotations_and_are_unique() {
    let policies = PolicySet::parse(
        "@id(\"a \\\"b\\\"\") permit(principal, action, resource);
         forbid(principal, action, resource);",
    )
    .unwrap();
    assert_eq!(policies.ids().into_iter().collect::<Vec<_>>(), ["a \"b\"", "policy1"]);
    let printed = PolicySet::parse(&policies.to_string()).unwrap();
    assert_eq!((printed.ids(), printed.to_string()), (policies.ids(), policies.to_string()));
    let twice =
        "@id(\"a\") permit(principal, action, resource);@id(\"a\") forbid(principal, action, resource);";
    assert_eq!(problems(&PolicySet::parse(twice).unwrap_err())[0].policy.as_deref(), Some("a"));
    let template = "@id(\"t\") permit(principal == ?principal, action, resource);";
    let error = PolicySet::parse(template).unwrap_err();
    assert_eq!(error.message(), "policies: policy t: is a template; write out its slots");
}

#[test]
fn a_schema_finds_what_could_not_work() {
    let schema = schema_of(&["apps", "role-bindings", "in"]);
    let fine = r#"
        permit(principal in Group::"staff", action == Action::"get", resource is role_bindings);
        permit(principal is ServiceAccount, action, resource is _in) when { principal in resource.tenant };
        forbid(principal, action, resource is apps) unless {
            context has source && context.source.isInRange(ip("10.0.0.0/8")) && resource has name
            && resource.hasTag("env") && resource.getTag("env") == "dev" && resource.tenant.state == "active"
        };"#;
    PolicySet::parse_for(fine, &schema).unwrap();
    for (condition, says) in [
        ("context.time.seconds < 5", "time"),
        ("context has time && context.time.seconds < \"5\"", "Long"),
        ("resource.name == \"x\"", "name"),
        ("principal in Groop::\"staff\"", "Groop"),
        ("action == Action::\"gett\"", "gett"),
        ("context has source && context.source.isInRange(ip(\"10.0.0.0/99\"))", "10.0.0.0/99"),
        ("resource is volumes", "volumes"),
        ("1 == 2", "impossible"),
    ] {
        let text = format!(
            "@id(\"good\") permit(principal, action, resource);\n\n@id(\"bad\") forbid(principal, action, resource is apps)\nwhen {{ {condition} }};"
        );
        let error = PolicySet::parse_for(&text, &schema).unwrap_err();
        let first = &problems(&error)[0];
        assert_eq!(first.policy.as_deref(), Some("bad"), "{condition}: {error}");
        assert!(first.position.is_some_and(|(line, _)| line >= 3), "{condition}: {error}");
        assert!(error.message().contains(says), "{condition}: {error}");
    }
}

#[test]
fn a_broken_schema_is_told_apart_from_broken_policies() {
    let error =
        PolicySet::parse_for("permit(principal, action, resource);", "entity User;\nentity in;").unwrap_err();
    assert_eq!(problems(&error)[0].position.map(|(line, _)| line), Some(2), "{error}");
    assert!(error.message().starts_with("schema: line 2, "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_kind_fits_into_the_schema_and_keeps_its_own_type(
        kinds in prop::collection::btree_set("[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?|in|is|has|like|if|then|else|true", 1..5),
    ) {
        let all: Vec<_> = kinds.iter().map(String::as_str).collect();
        let types: std::collections::BTreeSet<_> =
            all.iter().map(|kind| hivemind_tenancy::cedar::entity_type(&kind.parse().unwrap())).collect();
        prop_assert_eq!(types.len(), all.len());
        for type_name in types {
            let text = format!("permit(principal, action, resource is {type_name});");
            prop_assert!(PolicySet::parse_for(&text, &schema_of(&all)).is_ok(), "{}", text);
        }
    }

    #[test]
    fn reading_never_panics(text in "[a-z(){};=\"\\\\ ?@:é\n]{0,40}") {
        let _ = PolicySet::parse(&text);
    }
}
