//! Prometheus' grammar of names (<https://prometheus.io/docs/concepts/data_model/>). No I/O, no clock, no async.

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`
pub(super) fn is_metric_name(name: &str) -> bool {
    is_name(name, |c| c == ':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, and not `__…`, which Prometheus keeps for itself.
pub(super) fn is_label_name(name: &str) -> bool {
    !name.starts_with("__") && is_name(name, |_| false)
}

fn is_name(name: &str, also: impl Fn(char) -> bool) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || also(c);
    name.chars().next().is_some_and(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "_", "a1", "a_b", "http_requests_total"] {
            assert!(is_metric_name(good) && is_label_name(good), "{good}");
        }
        assert!(is_metric_name("job:rate") && !is_label_name("job:rate"));
        for bad in ["", "1a", "a-b", "a b", "ä", "a\n"] {
            assert!(!is_metric_name(bad) && !is_label_name(bad), "{bad:?}");
        }
        assert!(!is_label_name("__name__"));
    }
}
