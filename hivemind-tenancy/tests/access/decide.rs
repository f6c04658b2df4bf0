//! The index decides as the definitions say.

use std::collections::BTreeSet;

use hivemind_core::{Principal, TenantContext};
use hivemind_tenancy::rbac::{AccessIndex, Subject};
use proptest::prelude::*;

use crate::model::{State, any_tenant, context, request, state};
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

    /// The filter of a list says of every object what the decision on it would.
    #[test]
    fn the_predicate_of_a_list_equals_the_decision_on_each_object(
        state in state(),
        asked in prop::collection::vec((context(), request(), any_tenant()), 24),
    ) {
        let index = state.index();
        for (ctx, request, tenant) in asked {
            let predicate = index.visible(&ctx, request.verb, &request.kind);
            let there = ctx.for_tenant(tenant.clone());
            let expected = index.decide(&there, &request).allowed;
            prop_assert_eq!(predicate.matches(&tenant, request.name.as_deref(), &request.labels), expected);
            if expected {
                prop_assert!(predicate.tenants().contains(&tenant));
                let fits = |pattern: &String| match (pattern.strip_suffix('*'), &request.name) {
                    (_, None) => false,
                    (Some(start), Some(name)) => name.starts_with(start),
                    (None, Some(name)) => pattern == name,
                };
                prop_assert!(predicate.names().is_none_or(|names| names.iter().any(fits)));
            }
        }
    }

    /// Who can is who would be allowed, one by one.
    #[test]
    fn who_can_is_everybody_to_whom_it_is_allowed(
        state in state(),
        asked in prop::collection::vec((context(), request()), 8),
    ) {
        let index = state.index();
        let subjects: BTreeSet<_> = state.bindings.iter().flat_map(|one| one.subjects.clone()).collect();
        for (around, request) in asked {
            let can = index.who_can(&around, &request);
            for subject in &subjects {
                let nobody = Principal::User("nobody".parse().unwrap());
                let (who, group) = match subject {
                    Subject::Principal(principal) => (principal.clone(), None),
                    Subject::Group(group) => (nobody, Some(group.clone())),
                    _ => panic!("unknown"),
                };
                let ctx = TenantContext::new(around.tenant().clone(), who, "r".parse().unwrap());
                let ctx = group.into_iter().fold(ctx, TenantContext::with_group);
                let ctx = around.at().into_iter().fold(ctx, TenantContext::with_time);
                let ctx = around.source().into_iter().fold(ctx, TenantContext::with_source);
                let ctx = around.emergency().into_iter().fold(ctx, TenantContext::with_emergency);
                prop_assert_eq!(can.contains(subject), index.decide(&ctx, &request).allowed);
            }
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
