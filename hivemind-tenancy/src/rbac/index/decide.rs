//! The decision on the index: no allocation, whatever the answer. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, GroupName, Principal, TenantContext, Verb};

use super::super::conditions::Known;
use super::super::model::named;
use super::super::tree::{CLUSTER, Place};
use super::super::{Effect, RoleBinding, Subject};
use super::{AccessIndex, CompiledRule, Grant, NONE, Policy, Span};

/// Up to so many grants are looked through one by one; of more, those of each tenant above are searched for.
const FEW: u32 = 16;

/// Yes or no, as of one revision of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Whether it may be done only because of an emergency: put it on record before it is done.
    pub emergency: bool,
    /// The policy by which it was decided.
    pub revision: Revision,
}

/// The bit of a verb. What is not known yet has a bit of its own, which only a rule for all verbs has.
pub(super) fn verb_bit(verb: Verb) -> u16 {
    match verb {
        Verb::Get => 1,
        Verb::List => 1 << 1,
        Verb::Watch => 1 << 2,
        Verb::Create => 1 << 3,
        Verb::Update => 1 << 4,
        Verb::Delete => 1 << 5,
        Verb::Use => 1 << 6,
        Verb::Grant => 1 << 7,
        Verb::Impersonate => 1 << 8,
        _ => 1 << 15,
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Asker<'a> {
    pub(in super::super) principal: &'a Principal,
    pub(in super::super) groups: &'a BTreeSet<GroupName>,
}

impl Asker<'_> {
    pub(in super::super) fn is(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Principal(principal) => principal == self.principal,
            Subject::Group(group) => self.groups.contains(group),
        }
    }
}

/// What is asked, in the numbers of the index.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Asked<'a> {
    pub(in super::super) place: Place,
    pub(in super::super) verb: u16,
    pub(in super::super) kind: u32,
    pub(in super::super) name: Option<&'a str>,
    pub(in super::super) labels: &'a Labels,
}

/// A rule that speaks of what is asked, and whether its binding applies.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Hit<'a> {
    pub(in super::super) grant: &'a Grant,
    pub(in super::super) rule: usize,
    pub(in super::super) effect: Effect,
    pub(in super::super) applies: Known,
}

impl Hit<'_> {
    /// What is not known denies, and does not allow.
    pub(in super::super) fn counts(&self) -> bool {
        match self.effect {
            Effect::Allow => self.applies == Known::Yes,
            Effect::Deny => self.applies != Known::No,
        }
    }
}

/// What one asker may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    No,
    InEmergency,
    Yes,
}

impl May {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::InEmergency,
        }
    }
}

impl CompiledRule {
    pub(in super::super) fn matches(&self, asked: &Asked<'_>) -> bool {
        self.verbs & asked.verb != 0
            && (self.kinds.is_empty() || self.kinds.contains(&asked.kind))
            && (self.names.is_empty()
                || asked.name.is_some_and(|name| self.names.iter().any(|one| named(one, name))))
    }

    /// The names it is about; empty for all.
    pub(in super::super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Whether it speaks of the verb and the kind.
    pub(in super::super) fn is_about(&self, verb: u16, kind: u32) -> bool {
        self.verbs & verb != 0 && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }
}

impl Grant {
    /// Whether what it says with `effect` reaches `place`.
    pub(in super::super) fn reaches(&self, policy: &Policy, place: Place, effect: Effect) -> bool {
        if place < self.from || self.end <= place {
            return false;
        }
        let Some(limit) = policy.limits.get(self.limit as usize) else { return true };
        let end = if effect == Effect::Allow { limit.allow_end } else { self.end };
        let stopped = limit.stop.0 <= place && place < limit.stop.1;
        let level = || policy.tree.spot(place).map_or(0, |spot| spot.level);
        place < end && !stopped && (limit.deepest == u32::MAX || level() <= limit.deepest)
    }

    /// Whether it applies always, and all over from its first place to its last.
    pub(in super::super) fn is_plain(&self) -> bool {
        self.limit == NONE
    }

    fn is_conditional(&self, policy: &Policy) -> bool {
        self.limit != NONE && policy.limits.get(self.limit as usize).is_none_or(|limit| limit.conditional)
    }

    /// Whether its binding applies to an object of `labels`.
    pub(in super::super) fn applies(&self, policy: &Policy, ctx: &TenantContext, labels: &Labels) -> Known {
        if !self.is_conditional(policy) {
            return Known::Yes;
        }
        let binding = policy.binding(self);
        binding.map_or(Known::Unknown, |one| one.applies(ctx).min(one.conditions.on(labels)))
    }
}

impl Policy {
    pub(in super::super) fn binding(&self, grant: &Grant) -> Option<&RoleBinding> {
        self.bindings.get(grant.binding as usize).map(|binding| &**binding)
    }

    pub(in super::super) fn grants_of(&self, span: Span) -> &[Grant] {
        let (start, len) = (span.start as usize, span.len as usize);
        self.grants.get(start..start.saturating_add(len)).unwrap_or_default()
    }

    /// The grants of each of the asker's subjects.
    pub(in super::super) fn held<'a>(&'a self, asker: Asker<'a>) -> impl Iterator<Item = &'a [Grant]> {
        let own = self.principals.get(asker.principal);
        own.into_iter()
            .chain(asker.groups.iter().filter_map(|group| self.groups.get(group)))
            .map(|span| self.grants_of(*span))
    }

    /// What is asked for by `request` at `place`.
    pub(in super::super) fn asked<'a>(&self, place: Place, request: &'a AccessRequest) -> Asked<'a> {
        Asked {
            place,
            verb: verb_bit(request.verb),
            kind: self.kinds.get(&request.kind).copied().unwrap_or(NONE),
            name: request.name.as_deref(),
            labels: &request.labels,
        }
    }

    /// Whether the asker exists: a service account does not outlive its tenant.
    pub(in super::super) fn knows(&self, principal: &Principal) -> bool {
        match principal {
            Principal::ServiceAccount { tenant, .. } => self.tree.place(tenant).is_some(),
            _ => true,
        }
    }

    /// Calls `each` with the grants among `grants` that may reach `place`, until it returns true.
    fn reaching<'a>(
        &self,
        grants: &'a [Grant],
        place: Place,
        each: &mut impl FnMut(&'a Grant) -> bool,
    ) -> bool {
        if grants.len() <= FEW as usize {
            return grants.iter().any(|grant| grant.from <= place && place < grant.end && each(grant));
        }
        let mut at = place;
        loop {
            let first = grants.partition_point(|grant| grant.from < at);
            let there = grants.iter().skip(first).take_while(|grant| grant.from == at);
            if there.filter(|grant| place < grant.end).any(&mut *each) {
                return true;
            }
            if at == CLUSTER {
                return false;
            }
            at = self.tree.spot(at).map_or(CLUSTER, |spot| spot.parent);
        }
    }

    /// Calls `each` with every rule the asker has that speaks of what is asked where it is asked, until it returns
    /// true.
    pub(in super::super) fn hits<'a>(
        &'a self,
        asker: Asker<'a>,
        asked: &Asked<'_>,
        ctx: &TenantContext,
        each: impl FnMut(Hit<'a>) -> bool,
    ) {
        self.hits_in(self.held(asker), asked, ctx, each);
    }

    /// The same for lists of grants, each of one subject.
    pub(in super::super) fn hits_in<'a>(
        &'a self,
        held: impl Iterator<Item = &'a [Grant]>,
        asked: &Asked<'_>,
        ctx: &TenantContext,
        mut each: impl FnMut(Hit<'a>) -> bool,
    ) {
        let mut of_grant = |grant: &'a Grant| {
            let Some(role) = self.roles.get(grant.role as usize) else { return false };
            let matching = role.rules.iter().enumerate().filter(|(_, rule)| rule.matches(asked));
            for (rule, CompiledRule { effect, .. }) in matching {
                let effect = *effect;
                if grant.reaches(self, asked.place, effect) {
                    let applies = grant.applies(self, ctx, asked.labels);
                    if each(Hit { grant, rule, effect, applies }) {
                        return true;
                    }
                }
            }
            false
        };
        for grants in held {
            if self.reaching(grants, asked.place, &mut of_grant) {
                return;
            }
        }
    }

    fn may(&self, asker: Asker<'_>, asked: &Asked<'_>, ctx: &TenantContext) -> May {
        if !self.knows(asker.principal) {
            return May::No;
        }
        let (mut may, mut denied) = (May::No, false);
        self.hits(asker, asked, ctx, |hit| {
            if !hit.counts() {
                return false;
            }
            match hit.effect {
                Effect::Deny => denied = true,
                Effect::Allow if may == May::Yes => {}
                Effect::Allow => {
                    let emergency = hit.grant.is_conditional(self)
                        && self.binding(hit.grant).is_none_or(|binding| binding.emergency);
                    may = if emergency { May::InEmergency } else { May::Yes };
                }
            }
            denied
        });
        if denied { May::No } else { may }
    }

    /// What `actor` asks for to act as the principal of `ctx`: as itself, and as a member of each group.
    pub(in super::super) fn impersonation<'a>(
        &self,
        ctx: &'a TenantContext,
        place: Place,
        labels: &'a Labels,
    ) -> impl Iterator<Item = Option<Asked<'a>>> {
        let kinds = self.impersonated;
        let asked = move |place, kind, name| {
            Some(Asked { place, verb: verb_bit(Verb::Impersonate), kind, name: Some(name), labels })
        };
        let own = match ctx.principal() {
            Principal::User(name) => asked(place, kinds.users, name.as_str()),
            Principal::ServiceAccount { tenant, name } => {
                self.tree.place(tenant).and_then(|place| asked(place, kinds.service_accounts, name.as_str()))
            }
            Principal::Node(name) => asked(place, kinds.nodes, name.as_str()),
            Principal::System(name) => asked(place, kinds.components, name.as_str()),
            _ => None,
        };
        let groups = ctx.groups().iter();
        std::iter::once(own).chain(groups.map(move |group| asked(place, kinds.groups, group.as_str())))
    }
}

impl AccessIndex {
    /// May `ctx` do `request`? Allocates nothing.
    ///
    /// Deny wins; what nothing allows is denied, and so is everything in a tenant that does not exist. Who
    /// impersonates may do what both the actor and the principal may, if the actor may impersonate the principal and
    /// each of its groups.
    pub fn decide(&self, ctx: &TenantContext, request: &AccessRequest) -> Decision {
        let may = self.policy.tree.place(ctx.tenant()).map_or(May::No, |place| self.at(place, ctx, request));
        Decision { allowed: may != May::No, emergency: may == May::InEmergency, revision: self.revision }
    }

    fn at(&self, place: Place, ctx: &TenantContext, request: &AccessRequest) -> May {
        let policy = &*self.policy;
        let asked = policy.asked(place, request);
        let own = policy.may(Asker { principal: ctx.principal(), groups: ctx.groups() }, &asked, ctx);
        let (Some(actor), false) = (ctx.actor(), own == May::No) else { return own };
        let asker = Asker { principal: &actor.principal, groups: &actor.groups };
        let nothing = Labels::new();
        let mut may = own.and(policy.may(asker, &asked, ctx));
        for wanted in policy.impersonation(ctx, place, &nothing) {
            may = may.and(wanted.map_or(May::No, |wanted| policy.may(asker, &wanted, ctx)));
        }
        may
    }
}
