//! The decision on the index: no allocation, whatever the answer. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::store::Revision;
use hivemind_core::{AccessRequest, GroupName, Principal, TenantContext, Verb};

use super::super::Effect;
use super::super::conditions::Known;
use super::super::tree::{CLUSTER, Place};
use super::roles::{ACCOUNTS, COMPONENTS, GROUPS, NODES, USERS};
use super::{AccessIndex, Grant, Held, Policy};

/// Up to so many grants are looked through one by one; of more, those of each tenant above are searched for.
const FEW: usize = 16;

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
    groups: &'a BTreeSet<GroupName>,
    /// What the principal holds itself.
    own: Option<&'a Held>,
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

impl Policy {
    /// Who asks, and what they hold themselves.
    pub(in super::super) fn asker<'a>(
        &'a self,
        principal: &'a Principal,
        groups: &'a BTreeSet<GroupName>,
    ) -> Asker<'a> {
        let key = super::key_of(&self.tree, principal);
        Asker { principal, groups, own: key.and_then(|(space, name)| self.subjects.get(space, name)) }
    }

    /// The grants of each of the asker's subjects.
    pub(in super::super) fn held<'a>(&'a self, asker: Asker<'a>) -> impl Iterator<Item = &'a [Grant]> {
        let groups = asker.groups.iter().filter_map(|group| self.subjects.get(super::GROUPS, group.as_str()));
        asker.own.into_iter().chain(groups).map(Held::grants)
    }

    /// What is asked for by `request` at `place`.
    pub(in super::super) fn asked<'a>(&self, place: Place, request: &'a AccessRequest) -> Asked<'a> {
        Asked {
            place,
            verb: verb_bit(request.verb),
            kind: self.roles.kind(&request.kind),
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
        if grants.len() <= FEW {
            return grants.iter().any(|grant| grant.may_reach(&self.tree, place) && each(grant));
        }
        let mut at = place;
        loop {
            let first = grants.partition_point(|grant| grant.from < at);
            let mut there = grants.iter().skip(first).take_while(|grant| grant.from == at);
            if there.any(|grant| grant.may_reach(&self.tree, place) && each(grant)) {
                return true;
            }
            if at == CLUSTER {
                return false;
            }
            at = self.tree.parent(at);
        }
    }

    /// Calls `each` with every rule the asker has that speaks of what is asked where it is asked, until it returns
    /// true.
    pub(in super::super) fn hits<'a>(
        &'a self,
        asker: Asker<'a>,
        asked: &Asked<'_>,
        ctx: &TenantContext,
        mut each: impl FnMut(Hit<'a>) -> bool,
    ) {
        if asker.own.is_some_and(|own| self.hits_among(own.grants(), asked, ctx, &mut each)) {
            return;
        }
        for group in asker.groups {
            let held = self.subjects.get(super::GROUPS, group.as_str());
            if held.is_some_and(|held| self.hits_among(held.grants(), asked, ctx, &mut each)) {
                return;
            }
        }
    }

    /// The same for the grants of one subject; whether `each` returned true.
    pub(in super::super) fn hits_among<'a>(
        &'a self,
        grants: &'a [Grant],
        asked: &Asked<'_>,
        ctx: &TenantContext,
        each: &mut impl FnMut(Hit<'a>) -> bool,
    ) -> bool {
        self.reaching(grants, asked.place, &mut |grant| {
            let Some(role) = self.role_within(grant) else { return false };
            for (rule, compiled) in role.rules.iter().enumerate() {
                let effect = compiled.effect;
                if compiled.matches(asked) && grant.reaches(&self.tree, asked.place, effect) {
                    let applies = grant.applies(ctx, asked.labels);
                    if each(Hit { grant, rule, effect, applies }) {
                        return true;
                    }
                }
            }
            false
        })
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
                Effect::Allow => may = if hit.grant.emergency { May::InEmergency } else { May::Yes },
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
        let asked = move |place, kind, name| {
            Some(Asked { place, verb: verb_bit(Verb::Impersonate), kind, name: Some(name), labels })
        };
        let own = match ctx.principal() {
            Principal::User(name) => asked(place, USERS, name.as_str()),
            Principal::ServiceAccount { tenant, name } => {
                self.tree.place(tenant).and_then(|place| asked(place, ACCOUNTS, name.as_str()))
            }
            Principal::Node(name) => asked(place, NODES, name.as_str()),
            Principal::System(name) => asked(place, COMPONENTS, name.as_str()),
            _ => None,
        };
        let groups = ctx.groups().iter();
        std::iter::once(own).chain(groups.map(move |group| asked(place, GROUPS, group.as_str())))
    }
}

impl AccessIndex {
    /// May `ctx` do `request`? Allocates nothing.
    ///
    /// Deny wins; what nothing allows is denied, and so is everything in a tenant that does not exist. Who
    /// impersonates may do what both the actor and the principal may, if the actor may impersonate the principal and
    /// each of its groups.
    pub fn decide(&self, ctx: &TenantContext, request: &AccessRequest) -> Decision {
        // Neither the tenant nor the asker is likely to be in the cache: both are on their way before either is used.
        let home = self.policy.tree.seek(ctx.tenant()).fetch();
        let own = self.policy.asker(ctx.principal(), ctx.groups());
        let place = home.get().and_then(|named| named.there());
        let may = place.map_or(May::No, |place| self.at(place, own, ctx, request));
        Decision { allowed: may != May::No, emergency: may == May::InEmergency, revision: self.revision }
    }

    fn at(&self, place: Place, own: Asker<'_>, ctx: &TenantContext, request: &AccessRequest) -> May {
        let policy = &*self.policy;
        let asked = policy.asked(place, request);
        let own = policy.may(own, &asked, ctx);
        let (Some(actor), false) = (ctx.actor(), own == May::No) else { return own };
        let asker = policy.asker(&actor.principal, &actor.groups);
        let nothing = Labels::new();
        let mut may = own.and(policy.may(asker, &asked, ctx));
        for wanted in policy.impersonation(ctx, place, &nothing) {
            may = may.and(wanted.map_or(May::No, |wanted| policy.may(asker, &wanted, ctx)));
        }
        may
    }
}
