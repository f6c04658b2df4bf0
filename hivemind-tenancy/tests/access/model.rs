//! A small universe of tenants, roles, bindings and requests, at random.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::store::Revision;
use hivemind_core::{
    AccessRequest, Generation, GroupName, Principal, TenantContext, TenantRef, Timestamp, Verb,
};
use hivemind_tenancy::rbac::{AccessIndex, Conditions, Inherit, Rule, Scope, Stop, Subject, TimeWindow};
use hivemind_tenancy::{Role, RoleBinding};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub const VERBS: [Verb; 4] = [Verb::Get, Verb::Delete, Verb::Grant, Verb::Impersonate];
pub const KINDS: [&str; 5] = ["apps", "users", "groups", "service-accounts", "roles"];
pub const NAMES: [&str; 5] = ["web-1", "web-2", "bob", "ci", "staff"];

/// Everything an index is made of.
#[derive(Debug, Clone)]
pub struct State {
    pub tenants: Vec<(TenantRef, Option<TenantRef>)>,
    pub roles: Vec<Role>,
    pub bindings: Vec<RoleBinding>,
}

impl State {
    pub fn index(&self) -> AccessIndex {
        let (tenants, roles, bindings) = (self.tenants.clone(), self.roles.clone(), self.bindings.clone());
        AccessIndex::new(Revision::new(1), tenants, roles, bindings)
    }
}

/// The tenant of that number. Those of generation 0 are gone.
pub fn tenant(number: usize, generation: u64) -> TenantRef {
    TenantRef::new(format!("t{number}").parse().unwrap(), Generation::from_u64(generation))
}

pub fn any_tenant() -> impl Strategy<Value = TenantRef> {
    prop_oneof![
        12 => (0usize..5).prop_map(|number| tenant(number, 1)),
        1 => (0usize..5).prop_map(|number| tenant(number, 0)),
        1 => Just(TenantRef::system()),
    ]
}

fn tenants() -> impl Strategy<Value = Vec<(TenantRef, Option<TenantRef>)>> {
    // Each has a parent among all, itself and those that are gone included: some hang on nothing.
    let one = |number: usize| {
        let parent = prop_oneof![
            6 => Just(number.checked_sub(1)),
            4 => (0..number.max(1)).prop_map(Some),
            4 => Just(None),
            1 => (0usize..6).prop_map(Some),
        ];
        parent.prop_map(move |up| {
            (tenant(number, 1), up.filter(|up| *up != number || number == 4).map(|up| tenant(up, 1)))
        })
    };
    (one(0), one(1), one(2), one(3), one(4)).prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e])
}

pub fn rule() -> impl Strategy<Value = Rule> {
    let names = vec!["web-1", "web-*", "bob", "ci", "*"];
    let few = |all: Vec<&'static str>| prop_oneof![2 => Just(vec![]), 1 => subsequence(all, 1..3)];
    let verbs = prop_oneof![1 => Just(vec![]), 2 => subsequence(VERBS.to_vec(), 1..3)];
    (prop::bool::weighted(0.2), verbs, few(KINDS.to_vec()), few(names)).prop_map(
        |(deny, verbs, kinds, names)| {
            let rule = if deny { Rule::deny() } else { Rule::allow() }.verbs(verbs);
            let rule = kinds.into_iter().fold(rule, |rule, kind| rule.kind(kind.parse().unwrap()));
            names.into_iter().fold(rule, Rule::named)
        },
    )
}

fn roles() -> impl Strategy<Value = Vec<Role>> {
    let owner = prop_oneof![4 => Just(None), 1 => any_tenant().prop_map(Some)];
    prop::collection::vec((prop::collection::vec(rule(), 0..3), owner), 3).prop_map(|roles| {
        let role = |(number, (rules, owner)): (usize, (Vec<Rule>, Option<TenantRef>))| {
            let role = Role::new(format!("r{number}").parse().unwrap(), rules);
            owner.into_iter().fold(role, Role::of_tenant)
        };
        roles.into_iter().enumerate().map(role).collect()
    })
}

pub fn user(name: &str) -> Principal {
    Principal::User(name.parse().unwrap())
}

pub fn principal() -> impl Strategy<Value = Principal> {
    let account = |tenant| Principal::ServiceAccount { tenant, name: "ci".parse().unwrap() };
    prop_oneof![3 => Just(user("ada")), 3 => Just(user("bob")), 2 => any_tenant().prop_map(account)]
}

fn subjects() -> impl Strategy<Value = BTreeSet<Subject>> {
    let group = select(vec!["staff", "ops"]).prop_map(|name| Subject::Group(name.parse().unwrap()));
    prop::collection::btree_set(prop_oneof![3 => principal().prop_map(Subject::Principal), 1 => group], 1..4)
}

pub fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![1 => Just(Scope::Global), 4 => any_tenant().prop_map(Scope::Tenant)]
}

pub fn inherit() -> impl Strategy<Value = Inherit> {
    prop_oneof![
        3 => Just(Inherit::None),
        3 => Just(Inherit::Down),
        1 => any_tenant().prop_map(|stop| Inherit::DownUntil(Stop::Tenant(stop))),
        1 => (0u32..3).prop_map(|depth| Inherit::DownUntil(Stop::Depth(depth))),
    ]
}

pub fn conditions() -> impl Strategy<Value = Conditions> {
    let window = TimeWindow::Once { from: Timestamp::from_secs(10), until: Timestamp::from_secs(20) };
    prop_oneof![
        6 => Just(Conditions::default()),
        1 => Just(Conditions::default().with_window(window)),
        1 => Just(Conditions::default().with_network("10.0.0.0/8".parse().unwrap())),
        1 => Just(Conditions::default().with_network("10.1.0.0/16".parse().unwrap())),
        1 => Just(Conditions::default().with_labels("env=prod".parse().unwrap())),
        1 => Just(Conditions::default().with_labels("env!=prod".parse().unwrap())),
    ]
}

pub fn binding(roles: Vec<Role>) -> impl Strategy<Value = RoleBinding> {
    let expiry = prop_oneof![4 => Just(None), 1 => Just(Some(15)), 1 => Just(Some(25))];
    let shape =
        (0..=roles.len(), scope(), inherit(), conditions(), expiry, prop::bool::weighted(0.15), subjects());
    shape.prop_map(move |(role, scope, inherit, conditions, expiry, emergency, subjects)| {
        let owner = roles.get(role).and_then(|role| role.tenant.clone());
        let (name, role) = ("b".parse().unwrap(), format!("r{role}").parse().unwrap());
        let binding =
            RoleBinding::new(name, role, scope, subjects).with_inherit(inherit).with_conditions(conditions);
        let binding = owner.into_iter().fold(binding, RoleBinding::with_role_of);
        let binding = expiry.into_iter().fold(binding, |one, at| one.with_expiry(Timestamp::from_secs(at)));
        if emergency { binding.for_emergencies() } else { binding }
    })
}

pub fn state() -> impl Strategy<Value = State> {
    (tenants(), roles()).prop_flat_map(|(tenants, roles)| {
        let bindings = prop::collection::vec(binding(roles.clone()), 0..8);
        (Just(tenants), Just(roles), bindings).prop_map(|(tenants, roles, bindings)| {
            let named = |(number, one): (usize, RoleBinding)| {
                let mut one = one;
                one.name = format!("b{number}").parse().unwrap();
                one
            };
            State { tenants, roles, bindings: bindings.into_iter().enumerate().map(named).collect() }
        })
    })
}

fn groups() -> impl Strategy<Value = Vec<GroupName>> {
    subsequence(vec!["staff", "ops"], 0..2)
        .prop_map(|names| names.into_iter().map(|name| name.parse().unwrap()).collect())
}

pub fn context() -> impl Strategy<Value = TenantContext> {
    let time = prop_oneof![1 => Just(None), 4 => select(vec![5u64, 15, 22, 30]).prop_map(Some)];
    let source =
        prop_oneof![1 => Just(None), 4 => select(vec!["10.1.0.1", "10.2.0.1", "::1"]).prop_map(Some)];
    let reason = select(vec![None, None, None, Some(" "), Some("fire")]);
    let actor = prop_oneof![3 => Just(None), 1 => (principal(), groups()).prop_map(Some)];
    (any_tenant(), principal(), groups(), time, source, reason, actor).prop_map(
        |(tenant, principal, groups, time, source, reason, actor)| {
            let ctx = TenantContext::new(
                tenant,
                actor.as_ref().map_or(&principal, |actor| &actor.0).clone(),
                "r".parse().unwrap(),
            );
            let ctx = match actor {
                None => groups.into_iter().fold(ctx, TenantContext::with_group),
                Some((_, own)) => {
                    own.into_iter().fold(ctx, TenantContext::with_group).impersonating(principal, groups)
                }
            };
            let ctx = time.into_iter().fold(ctx, |ctx, at| ctx.with_time(Timestamp::from_secs(at)));
            let ctx = source.into_iter().fold(ctx, |ctx, from| ctx.with_source(from.parse().unwrap()));
            reason.into_iter().fold(ctx, TenantContext::with_emergency)
        },
    )
}

pub fn labels() -> impl Strategy<Value = Labels> {
    let of = |value| Labels::new().with("env", value).unwrap();
    select(vec![Labels::new(), of("prod"), of("dev")])
}

pub fn request() -> impl Strategy<Value = AccessRequest> {
    (select(VERBS.to_vec()), select(KINDS.to_vec()), prop::option::of(select(NAMES.to_vec())), labels())
        .prop_map(|(verb, kind, name, labels)| {
            let request = AccessRequest::new(verb, kind.parse().unwrap()).labelled(labels);
            name.into_iter().fold(request, AccessRequest::named)
        })
}
