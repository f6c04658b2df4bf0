//! A decision allocates nothing, whatever is asked and whatever the answer.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use hivemind_core::labels::Labels;
use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, Generation, Principal, TenantContext, TenantRef, Timestamp, Verb};
use hivemind_tenancy::rbac::{AccessIndex, Conditions, Inherit, Rule, Scope, Subject};
use hivemind_tenancy::{Role, RoleBinding};

fn user(name: &str) -> Principal {
    Principal::User(name.parse().unwrap())
}

#[test]
fn a_decision_allocates_nothing() {
    let acme = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let child = TenantRef::new("child".parse().unwrap(), Generation::from_u64(1));
    let role = Role::new("all".parse().unwrap(), [Rule::allow(), Rule::deny().named("billing-*")]);
    let conditions = Conditions::default()
        .with_network("10.0.0.0/8".parse().unwrap())
        .with_labels("env in (prod, dev)".parse().unwrap());
    let bound = |number: usize, who: Subject| {
        let name = format!("b{number}").parse().unwrap();
        RoleBinding::new(name, "all".parse().unwrap(), Scope::Tenant(acme.clone()), [who])
            .with_inherit(Inherit::Down)
    };
    // So many for one subject that they are searched.
    let mut bindings: Vec<_> = (0..40).map(|number| bound(number, Subject::Principal(user("ada")))).collect();
    let limited = bound(40, Subject::Group("ops".parse().unwrap()));
    bindings.push(limited.with_conditions(conditions).with_expiry(Timestamp::from_secs(9)).for_emergencies());
    let tenants = [(acme.clone(), None), (child.clone(), Some(acme.clone()))];
    let index = AccessIndex::new(Revision::new(1), tenants, [role], bindings);

    let ctx = |who| TenantContext::new(child.clone(), user(who), "r".parse().unwrap());
    let emergency = ctx("eve")
        .with_group("ops".parse().unwrap())
        .with_time(Timestamp::from_secs(1))
        .with_source("10.1.1.1".parse().unwrap())
        .with_emergency("fire");
    let all =
        [ctx("ada"), ctx("eve"), emergency, ctx("ada").impersonating(user("eve"), ["ops".parse().unwrap()])];
    let labels = Labels::new().with("env", "prod").unwrap();
    let get = AccessRequest::new(Verb::Get, "apps".parse().unwrap()).labelled(labels);
    let mut answers = Vec::with_capacity(8);
    let counted = allocation_counter::measure(|| {
        for ctx in &all {
            answers.push(index.decide(ctx, &get).allowed);
        }
    });
    let billing = get.clone().named("billing-eu");
    let denied = allocation_counter::measure(|| assert!(!index.decide(&all[0], &billing).allowed));
    assert_eq!(answers, [true, false, true, false]);
    assert_eq!((counted.count_total, denied.count_total), (0, 0));
    assert!(
        allocation_counter::measure(|| drop(std::hint::black_box(answers.clone()))).count_total > 0,
        "nothing is counted"
    );
}
