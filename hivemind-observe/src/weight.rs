//! How large things are as records, so that none is too large for a store. No I/O, no clock, no async.

use std::collections::BTreeMap;

/// What a record has of a thing beside its labels, at most.
const REST: usize = 256;

/// At most so many bytes of JSON hold a thing with these labels.
pub(crate) fn weight(labels: &BTreeMap<String, String>) -> usize {
    let text = |text: &str| text.bytes().map(escaped).sum::<usize>() + 3;
    labels.iter().map(|(label, value)| text(label) + text(value)).sum::<usize>() + REST
}

/// How many bytes JSON writes for one.
fn escaped(byte: u8) -> usize {
    match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    }
}

/// Those of `all` that weigh no more than `most` together, without what is too heavy for what is left; and how many are left out.
pub(crate) fn cut<T>(mut all: Vec<T>, most: usize, weight: impl Fn(&T) -> usize) -> (Vec<T>, usize) {
    let (count, mut room) = (all.len(), most);
    all.retain(|one| {
        let left = room.checked_sub(weight(one));
        room = left.unwrap_or(room);
        left.is_some()
    });
    let left_out = count - all.len();
    (all, left_out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn labels_weigh_at_least_what_they_take_as_json(labels: BTreeMap<String, String>) {
            let json = serde_json::to_string(&labels).unwrap();
            prop_assert!(weight(&labels) >= json.len() + REST - 3, "{}", json);
        }
    }

    #[test]
    fn what_is_too_much_is_left_and_counted() {
        let by_value = |one: &usize| *one;
        assert_eq!(cut(vec![1, 2, 3, 1], 3, by_value), (vec![1, 2], 2));
        assert_eq!(cut(vec![4, 1], 3, by_value), (vec![1], 1));
        assert_eq!(cut(Vec::new(), 0, by_value), (vec![], 0));
    }
}
