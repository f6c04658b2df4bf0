//! Random tenants, roles, bindings and requests, from few names each, so that they meet.

use std::net::IpAddr;

use hivemind_core::labels::{Labels, Selector};
use hivemind_core::{
    AccessRequest, Generation, GroupName, Principal, TenantContext, TenantRef, Timestamp, Verb,
};
use hivemind_tenancy::rbac::{Conditions, Inherit, Rule, Scope, Stop, Subject, TimeWindow};
use hivemind_tenancy::{Role, RoleBinding};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// One of the tenants that a case makes, the system tenant, or one that is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick(usize);

/// How many tenants a case makes.
pub(crate) const TENANTS: usize = 5;
const KINDS: [&str; 6] = ["apps", "in", "users", "service-accounts", "nodes", "groups"];
const NAMES: [&str; 9] = ["a", "ab", "a*", "*", "", "\"x\\", "ada", "ci", "staff"];
const SELECTORS: [&str; 7] = ["", "e=x", "e!=x", "e", "!e", "e in (x,y),f", "e notin (y),x.io/f!=z"];
const SOURCES: [&str; 5] = ["10.0.0.1", "10.1.0.1", "::ffff:10.1.0.1", "fd00::1", "11.0.0.1"];
const NETWORKS: [&str; 6] =
    ["10.0.0.0/8", "10.1.2.3/16", "::/0", "fd00::1/128", "::ffff:10.0.0.0/104", "0.0.0.0/0"];

impl Pick {
    pub(crate) fn of(self, tenants: &[TenantRef]) -> TenantRef {
        let gone = || TenantRef::new("gone".parse().unwrap(), Generation::from_u64(9));
        match self.0 {
            TENANTS => TenantRef::system(),
            index => tenants.get(index).cloned().unwrap_or_else(gone),
        }
    }
}

fn pick() -> impl Strategy<Value = Pick> + Clone {
    prop_oneof![12 => 0..TENANTS, 1 => Just(TENANTS), 1 => Just(TENANTS + 1)].prop_map(Pick)
}

/// Each tenant's parent among those before it.
pub(crate) fn parents() -> impl Strategy<Value = Vec<Option<prop::sample::Index>>> {
    prop::collection::vec(weighted(0.7, any::<prop::sample::Index>()), TENANTS)
}

/// A principal; the tenant is for accounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who(usize, Pick);

impl Who {
    fn of(self, tenants: &[TenantRef]) -> Principal {
        match self.0 {
            0 => Principal::User("ada".parse().unwrap()),
            1 => Principal::User("bob".parse().unwrap()),
            2 => Principal::Node("ada".parse().unwrap()),
            3 => Principal::System("ada".parse().unwrap()),
            _ => Principal::ServiceAccount { tenant: self.1.of(tenants), name: "ci".parse().unwrap() },
        }
    }
}

fn who() -> impl Strategy<Value = Who> + Clone {
    (prop_oneof![4 => Just(0usize), 1 => 1..4usize, 3 => Just(4usize)], pick())
        .prop_map(|(n, pick)| Who(n, pick))
}

fn groups() -> impl Strategy<Value = Vec<GroupName>> + Clone {
    subsequence(vec!["night", "staff"], 0..=2)
        .prop_map(|names| names.into_iter().map(|name| name.parse().unwrap()).collect())
}

fn verb() -> impl Strategy<Value = Verb> {
    select(vec![Verb::Get, Verb::Delete, Verb::Impersonate])
}

fn time() -> impl Strategy<Value = Timestamp> + Clone {
    let day = 24 * 3600;
    let seconds = select(vec![0, 1, 8 * 3600, 3 * day, 4 * day + 8 * 3600, 10 * day + 23 * 3600]);
    let nanos = select(vec![0, 1, 999_999_999]);
    (seconds, nanos).prop_map(|(seconds, nanos)| Timestamp::from_nanos(seconds * 1_000_000_000 + nanos))
}

fn rule() -> impl Strategy<Value = Rule> {
    let few =
        |all: &[&'static str], most| prop_oneof![2 => Just(vec![]), 1 => subsequence(all.to_vec(), 1..=most)];
    let verbs = prop_oneof![Just(vec![]), prop::collection::vec(verb(), 1..3)];
    (weighted(0.15, Just(())), verbs, few(&KINDS, 3), few(&NAMES, 3)).prop_map(
        |(deny, verbs, kinds, names)| {
            let rule = if deny.is_some() { Rule::deny() } else { Rule::allow() }.verbs(verbs);
            let rule = kinds.into_iter().fold(rule, |rule, kind| rule.kind(kind.parse().unwrap()));
            names.into_iter().fold(rule, Rule::named)
        },
    )
}

/// A role before its tenant is known.
#[derive(Debug, Clone)]
pub(crate) struct RoleDraft(Role, Option<Pick>);

impl RoleDraft {
    pub(crate) fn of(&self, tenants: &[TenantRef]) -> Role {
        let role = self.0.clone();
        match self.1 {
            Some(pick) => role.of_tenant(pick.of(tenants)),
            None => role,
        }
    }
}

/// Roles `r0`, `r1` and so on.
pub(crate) fn roles() -> impl Strategy<Value = Vec<RoleDraft>> {
    prop::collection::vec((prop::collection::vec(rule(), 1..5), weighted(0.2, pick())), 2..5).prop_map(
        |all| {
            let role = |(number, (rules, owner))| {
                RoleDraft(Role::new(format!("r{number}").parse().unwrap(), rules), owner)
            };
            all.into_iter().enumerate().map(role).collect()
        },
    )
}

/// How far down, before tenants are known.
#[derive(Debug, Clone, Copy)]
enum Reach {
    Alone,
    Down,
    Tenant(Pick),
    Depth(u32),
}

/// A binding before its tenants are known.
#[derive(Debug, Clone)]
pub(crate) struct BindingDraft {
    role: usize,
    scope: Option<Pick>,
    subjects: Vec<Result<Who, GroupName>>,
    reach: Reach,
    conditions: Conditions,
    expires: Option<Timestamp>,
    emergency: bool,
}

impl BindingDraft {
    /// The binding `b` and its number, of one of `roles` or of one that does not exist.
    pub(crate) fn of(&self, number: usize, roles: &[Role], tenants: &[TenantRef]) -> RoleBinding {
        let scope = self.scope.map_or(Scope::Global, |pick| Scope::Tenant(pick.of(tenants)));
        let subjects = self.subjects.iter().map(|subject| match subject {
            Ok(who) => Subject::Principal(who.of(tenants)),
            Err(group) => Subject::Group(group.clone()),
        });
        let role = roles.get(self.role);
        let name = role.map_or_else(|| "none".parse().unwrap(), |role| role.name.clone());
        let inherit = match self.reach {
            Reach::Alone => Inherit::None,
            Reach::Down => Inherit::Down,
            Reach::Tenant(pick) => Inherit::DownUntil(Stop::Tenant(pick.of(tenants))),
            Reach::Depth(depth) => Inherit::DownUntil(Stop::Depth(depth)),
        };
        let mut binding = RoleBinding::new(format!("b{number}").parse().unwrap(), name, scope, subjects)
            .with_inherit(inherit)
            .with_conditions(self.conditions.clone());
        binding.role_of = role.and_then(|role| role.tenant.clone());
        binding.expires = self.expires;
        binding.emergency = self.emergency;
        binding
    }
}

fn window() -> impl Strategy<Value = TimeWindow> {
    let minute = || select(vec![0u16, 1, 480, 481, 1380, 1440]);
    prop_oneof![
        (time(), time()).prop_map(|(from, until)| TimeWindow::Once { from, until }),
        (subsequence((0..8u8).collect::<Vec<_>>(), 0..4), minute(), minute()).prop_map(
            |(days, from, until)| { TimeWindow::Weekly { days: days.into_iter().collect(), from, until } }
        ),
    ]
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let windows = prop_oneof![5 => Just(vec![]), 1 => prop::collection::vec(window(), 1..3)];
    let networks = prop_oneof![5 => Just(vec![]), 1 => subsequence(NETWORKS.to_vec(), 1..3)];
    let labels = prop_oneof![5 => Just(""), 1 => select(SELECTORS.to_vec())];
    (windows, networks, labels).prop_map(|(windows, networks, labels)| {
        let conditions = windows.into_iter().fold(Conditions::default(), Conditions::with_window);
        let networks = networks.into_iter().map(|network| network.parse().unwrap());
        networks.fold(conditions, Conditions::with_network).with_labels(labels.parse::<Selector>().unwrap())
    })
}

pub(crate) fn bindings() -> impl Strategy<Value = Vec<BindingDraft>> {
    let subject = prop_oneof![
        2 => who().prop_map(Ok),
        1 => select(vec!["night", "staff"]).prop_map(|name| Err(name.parse().unwrap())),
    ];
    let reach = prop_oneof![
        1 => Just(Reach::Alone),
        3 => Just(Reach::Down),
        1 => pick().prop_map(Reach::Tenant),
        1 => (0..3u32).prop_map(Reach::Depth),
    ];
    let binding =
        (
            0..5usize,
            weighted(0.6, pick()),
            prop::collection::vec(subject, 0..6),
            reach,
            conditions(),
            weighted(0.2, time()),
            prop::bool::weighted(0.15),
        )
            .prop_map(|(role, scope, subjects, reach, conditions, expires, emergency)| {
                BindingDraft { role, scope, subjects, reach, conditions, expires, emergency }
            });
    prop::collection::vec(binding, 0..16)
}

/// A request before its tenants are known.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    tenant: Pick,
    who: (Who, Vec<GroupName>),
    actor: Option<(Who, Vec<GroupName>)>,
    at: Option<Timestamp>,
    source: Option<&'static str>,
    emergency: Option<&'static str>,
    pub(crate) request: AccessRequest,
}

impl Question {
    pub(crate) fn ctx(&self, tenants: &[TenantRef]) -> TenantContext {
        let tenant = self.tenant.of(tenants);
        let (who, groups) = self.actor.as_ref().unwrap_or(&self.who);
        let mut ctx = TenantContext::new(tenant, who.of(tenants), "r".parse().unwrap());
        ctx = groups.iter().cloned().fold(ctx, TenantContext::with_group);
        if self.actor.is_some() {
            ctx = ctx.impersonating(self.who.0.of(tenants), self.who.1.clone());
        }
        ctx = self.at.map_or(ctx.clone(), |at| ctx.with_time(at));
        ctx = self.source.map_or(ctx.clone(), |ip| ctx.with_source(ip.parse::<IpAddr>().unwrap()));
        self.emergency.map_or(ctx.clone(), |reason| ctx.with_emergency(reason))
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    let label =
        |key: &'static str| weighted(0.4, select(vec!["x", "y", "z"])).prop_map(move |value| (key, value));
    (label("e"), label("f"), label("x.io/f")).prop_map(|(a, b, c)| {
        let given = [a, b, c].into_iter().filter_map(|(key, value)| Some((key, value?)));
        given.fold(Labels::new(), |labels, (key, value)| labels.with(key, value).unwrap())
    })
}

pub(crate) fn questions() -> impl Strategy<Value = Vec<Question>> {
    let request = (verb(), select(KINDS.to_vec()), weighted(0.7, select(NAMES.to_vec())), labels());
    let question = (
        pick(),
        (who(), groups()),
        weighted(0.25, (who(), groups())),
        weighted(0.7, time()),
        weighted(0.7, select(SOURCES.to_vec())),
        weighted(0.3, select(vec!["fire", " "])),
        request,
    )
        .prop_map(|(tenant, who, actor, at, source, emergency, (verb, kind, name, labels))| {
            let mut request = AccessRequest::new(verb, kind.parse().unwrap()).labelled(labels);
            request.name = name.map(str::to_owned);
            Question { tenant, who, actor, at, source, emergency, request }
        });
    prop::collection::vec(question, 12)
}
