//! The pool beside a plain set of numbers.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

#[test]
fn a_vni_has_24_bits_and_is_not_zero() {
    for (number, valid) in [(0, false), (1, true), (16_777_215, true), (16_777_216, false)] {
        assert_eq!(Vni::new(number).is_ok(), valid, "{number}");
        assert_eq!(serde_json::from_str::<Vni>(&number.to_string()).is_ok(), valid, "{number}");
    }
    assert_eq!(Vni::new(0).unwrap_err().to_string(), "0 is no VNI: give a number from 1 to 16777215");
    assert!(VniPool::new(vni(2), vni(1)).is_err());
    assert_eq!(VniPool::default().capacity(), 16_777_215 - 4095);
}

proptest! {
    #[test]
    fn the_pool_is_the_plain_set(
        first in 1u32..100, len in 0u32..100,
        without in proptest::collection::vec((1u32..220, 0u32..30), 0..6),
        taken in proptest::collection::btree_set(1u32..220, 0..120),
        who in "[a-z]{1,8}",
    ) {
        let mut pool = VniPool::new(vni(first), vni(first + len)).unwrap();
        let mut plain: BTreeSet<u32> = (first..=first + len).collect();
        for (start, more) in without {
            pool = pool.without(vni(start), vni(start + more));
            plain.retain(|number| !(start..=start + more).contains(number));
        }
        prop_assert_eq!(pool.capacity() as usize, plain.len());
        for number in 1..250 {
            prop_assert_eq!(pool.contains(vni(number)), plain.contains(&number));
        }
        let free: BTreeSet<_> = plain.difference(&taken).copied().collect();
        prop_assert_eq!(
            pool.lowest(taken.iter().map(|number| vni(*number))).map(Vni::as_u32),
            free.first().copied()
        );
        let is_free = |vni: Vni| free.contains(&vni.as_u32());
        let proposed = pool.propose(&who, is_free);
        prop_assert_eq!(proposed, pool.propose(&who, is_free));
        match proposed {
            Some(proposed) => prop_assert!(is_free(proposed)),
            None => prop_assert!(free.len() * 4 < plain.len().max(1) * 3, "{} of {}", free.len(), plain.len()),
        }
    }
}
