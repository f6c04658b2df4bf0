//! The index decides as the definitions say, whatever the hashes of names are.

#![allow(
    dead_code,
    unreachable_pub,
    unreachable_patterns,
    reason = "the reference is that of other tests, too"
)]

#[path = "../../../tests/access/model.rs"]
mod model;
#[path = "../../../tests/access/naive.rs"]
mod naive;

use hivemind_core::store::Revision;
use proptest::prelude::*;

use self::model::{State, context, request, state};
use self::naive::May;
use super::{AccessIndex, Keyed, Policy};

/// The index of `state`, with only the bits of `mask` of each hash.
fn weak(state: &State, mask: u64) -> AccessIndex {
    let roles = state.roles.iter().cloned().map(Into::into);
    let bindings = state.bindings.iter().cloned().map(Into::into).collect();
    let policy = Policy::compiled(&Keyed::weak(mask), state.tenants.clone(), roles, bindings);
    AccessIndex { policy: policy.into(), revision: Revision::new(1) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn names_of_one_hash_are_never_taken_for_each_other(
        state in state(),
        mask in prop_oneof![Just(0), Just(1), Just(1 << 33), Just(1 << 40)],
        asked in prop::collection::vec((context(), request()), 16),
    ) {
        let index = weak(&state, mask);
        for (ctx, request) in &asked {
            let decision = index.decide(ctx, request);
            let may = match (decision.allowed, decision.emergency) {
                (false, _) => May::No,
                (true, true) => May::InEmergency,
                (true, false) => May::Yes,
            };
            prop_assert_eq!(may, state.may(ctx, request), "{:?} {}", ctx, request);
            prop_assert_eq!(index.explain(ctx, request), state.index().explain(ctx, request));
        }
    }
}
