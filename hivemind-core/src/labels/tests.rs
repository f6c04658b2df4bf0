use proptest::prelude::*;

use super::*;

#[test]
fn keys_and_values_follow_kubernetes_grammar() {
    let long = "a".repeat(63);
    for good in ["a", "A9", "a-b_c.d", "example.com/a", "x.y-z.io/App", &long] {
        assert!(LabelKey::new(good).is_ok(), "{good}");
    }
    let too_long = "a".repeat(64);
    let long_prefix = format!("{}/a", "a.".repeat(127));
    for bad in ["", "-a", "a-", "a b", "/a", "a/", "a/b/c", "A.com/a", "a..b/c", "ä", &too_long, &long_prefix]
    {
        assert!(LabelKey::new(bad).is_err(), "{bad}");
        assert!(serde_json::from_value::<LabelKey>(bad.into()).is_err(), "{bad} from JSON");
    }
    assert!(LabelValue::new("").is_ok() && LabelValue::new("v1.2_3-x").is_ok());
    for bad in ["-", "a/b", "a b", &too_long] {
        assert!(LabelValue::new(bad).is_err(), "{bad}");
    }
    let error = LabelKey::new("a b").unwrap_err().to_string();
    assert!(error.starts_with("label key \"a b\": give 1 to 63 of"), "{error}");
}

#[test]
fn matches_as_kubernetes_does() {
    let labels = Labels::new().with("env", "prod").unwrap().with("n", "10").unwrap().with("e", "").unwrap();
    for (selector, expected) in [
        ("", true),
        ("env=prod", true),
        ("env==prod", true),
        ("env=dev", false),
        ("env!=prod", false),
        ("missing!=x", true),
        ("missing=x", false),
        ("missing notin (x)", true),
        ("env in (dev, prod)", true),
        ("env notin (dev, prod)", false),
        ("env", true),
        ("!env", false),
        ("!missing", true),
        ("n>9", true),
        ("n>10", false),
        ("n<11", true),
        ("env>1", false),
        ("missing<1", false),
        ("e=", true),
        ("env in (,prod)", true),
        ("e in (,x)", true),
        ("env=prod,n>9,!missing", true),
        ("env=prod,n>99", false),
    ] {
        let parsed: Selector = selector.parse().unwrap();
        assert_eq!(parsed.matches(&labels), expected, "{selector}");
        assert_eq!(parsed.compile().matches(&labels), expected, "compiled {selector}");
        let value_of = |key: &str| labels.get(key).map(LabelValue::as_str);
        assert_eq!(parsed.matches_values(value_of), expected, "values of {selector}");
    }
    assert!(!AnySelector::default().matches(&labels));
    assert!(AnySelector::new(["env=dev".parse().unwrap(), "n".parse().unwrap()]).matches(&labels));
}

#[test]
fn refuses_and_says_where() {
    for (text, position, says) in [
        (",", 0, "expected a key"),
        ("a=b,", 4, "expected a key"),
        ("a=b c", 4, "expected ',' or the end"),
        ("a b", 2, "expected '='"),
        ("a in b", 5, "expected '('"),
        ("a in (b", 7, "expected ',' or ')'"),
        ("a>b", 0, "one integer"),
        ("a>", 0, "one integer"),
        ("a=b=c", 3, "expected ',' or the end"),
        ("!a=b", 2, "expected ',' or the end"),
        ("-a", 0, "label key"),
        ("a=-b", 2, "label value"),
        ("x=y, a in (b, c!)", 15, "expected ',' or ')'"),
    ] {
        let error = text.parse::<Selector>().unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.reason.contains(says), "{text}: {error}");
    }
}

#[test]
fn reads_the_structured_form() {
    let json =
        r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"In","values":["d","e"]}]}"#;
    let form: LabelSelector = serde_json::from_str(json).unwrap();
    assert_eq!(Selector::try_from(form).unwrap().to_string(), "a=b,c in (d,e)");
    let bad = r#"{"matchExpressions":[{"key":"c","operator":"Exists","values":["d"]}]}"#;
    let form: LabelSelector = serde_json::from_str(bad).unwrap();
    assert_eq!(Selector::try_from(form).unwrap_err().to_string(), "Exists on c takes no value, not 1 values");
    assert!(serde_json::from_str::<LabelSelector>(r#"{"matchLabel":{}}"#).is_err());
}

fn key() -> impl Strategy<Value = LabelKey> {
    prop::sample::select(vec!["a", "b", "in", "notin", "x.io/c"]).prop_map(|key| key.parse().unwrap())
}

fn value() -> impl Strategy<Value = LabelValue> {
    prop::sample::select(vec!["", "a", "in", "1", "2", "07", "9999999999999999999"])
        .prop_map(|v| v.parse().unwrap())
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operators =
        [Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist, Operator::Gt, Operator::Lt];
    (key(), prop::sample::select(operators.to_vec()), prop::collection::vec(value(), 0..4))
        .prop_filter_map("operator takes other values", |(key, operator, values)| {
            Requirement::new(key, operator, values).ok()
        })
}

fn selector() -> impl Strategy<Value = Selector> {
    prop::collection::vec(requirement(), 0..5)
        .prop_map(|all| all.into_iter().fold(Selector::everything(), Selector::and))
}

proptest! {
    #[test]
    fn printing_and_reading_keeps_it(selector in selector()) {
        prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
    }

    #[test]
    fn compiled_matches_like_the_naive_one(
        selector in selector(),
        labels in prop::collection::vec((key(), value()), 0..5),
    ) {
        let labels: Labels = labels.into_iter().collect();
        prop_assert_eq!(selector.compile().matches(&labels), selector.matches(&labels));
    }

    #[test]
    fn reading_never_panics_and_points_into_the_text(text in "[a-c =!<>(),1ä]{0,16}") {
        if let Err(error) = text.parse::<Selector>() {
            prop_assert!(error.position <= text.len());
        }
    }
}
