//! The index decides as the definitions say.

use hivemind_tenancy::AccessIndex;
use proptest::prelude::*;

use crate::model::{State, context, request, state};
use crate::naive::May;

fn told(
    index: &AccessIndex,
    ctx: &hivemind_core::TenantContext,
    request: &hivemind_core::AccessRequest,
) -> May {
    let decision = index.decide(ctx, request);
    match (decision.allowed, decision.emergency) {
        (false, _) => May::No,
        (true, true) => May::InEmergency,
        (true, false) => May::Yes,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_index_equals_the_naive_evaluator(
        state in state(),
        asked in prop::collection::vec((context(), request()), 24),
    ) {
        let index = state.index();
        for (ctx, request) in &asked {
            let expected = state.may(ctx, request);
            prop_assert_eq!(told(&index, ctx, request), expected, "{:?} {}", ctx, request);
            let explained = index.explain(ctx, request);
            prop_assert_eq!(explained.decision, index.decide(ctx, request));
            prop_assert!(!explained.because.is_empty(), "{:?} {}", ctx, request);
        }
    }

    /// So many grants of one subject that they are searched, not looked through.
    #[test]
    fn many_grants_of_one_subject_decide_as_few_do(
        states in prop::collection::vec(state(), 6),
        asked in prop::collection::vec((context(), request()), 8),
    ) {
        let mut all = State { bindings: Vec::new(), ..states[0].clone() };
        for (number, state) in states.iter().enumerate() {
            for (at, binding) in state.bindings.iter().enumerate() {
                let mut binding = binding.clone();
                binding.name = format!("b{number}-{at}").parse().unwrap();
                all.bindings.push(binding);
            }
        }
        let index = all.index();
        for (ctx, request) in &asked {
            prop_assert_eq!(told(&index, ctx, request), all.may(ctx, request));
        }
    }
}
