//! Why a decision came out as it did: which rule decided, or what is missing. No I/O, no clock, no async.

use hivemind_core::{AccessRequest, RoleName, TenantContext, TenantRef};

use super::conditions::Known;
use super::index::{Asked, Asker, Grant, Hit, Policy};
use super::tree::{CLUSTER, Place};
use super::{AccessIndex, Decision, Effect, Role, RoleBinding, Rule, Scope};

/// So many roles that would do are named, not more.
const NAMED: usize = 3;

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The rules that decided; none if it is denied because nothing allows it.
    pub rules: Vec<DecidingRule>,
    /// The reasons, or what is missing; one sentence each.
    pub because: Vec<String>,
    /// What would make it allowed, for whoever grants: it names roles that the asker need not know of.
    pub help: Vec<String>,
}

/// A rule that decided, and by which binding it applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct DecidingRule {
    /// The scope of the binding.
    pub scope: Scope,
    /// The name of the binding.
    pub binding: RoleName,
    /// The name of the role.
    pub role: RoleName,
    /// Which of the role's rules, from 0.
    pub rule: usize,
    /// Whether it allows or denies.
    pub effect: Effect,
}

/// What is found while one asker is looked at.
#[derive(Default)]
struct Found {
    deciding: Vec<(DecidingRule, String)>,
    almost: Vec<String>,
}

impl AccessIndex {
    /// Decides as [`decide`](Self::decide), and says why. It tells of the bindings of the tenant and of those above it,
    /// and of no other tenant's.
    /// To whom nothing is bound there it does not tell whether the tenant exists.
    pub fn explain(&self, ctx: &TenantContext, request: &AccessRequest) -> Explanation {
        let decision = self.decide(ctx, request);
        // A tenant that is not there looks like one in which nothing is bound to who asks.
        let place = self.policy.tree.place(ctx.tenant()).unwrap_or(Place::MAX);
        let asked = self.policy.asked(place, request);
        let mut told = Explanation { decision, rules: Vec::new(), because: Vec::new(), help: Vec::new() };
        let own = self.policy.asker(ctx.principal(), ctx.groups());
        self.tell(own, &asked, (ctx, request), "", &mut told);
        let Some(actor) = ctx.actor() else { return told };
        let asker = self.policy.asker(&actor.principal, &actor.groups);
        let prefix = format!("for {}, who impersonates: ", actor.principal);
        self.tell(asker, &asked, (ctx, request), &prefix, &mut told);
        let nothing = hivemind_core::labels::Labels::new();
        let unproven = |wanted: &Asked<'_>| !self.policy.allows(asker, wanted, ctx);
        let wanted = self.policy.impersonation(ctx, place, &nothing);
        if wanted.into_iter().any(|wanted| wanted.as_ref().is_none_or(unproven)) {
            told.because.push(format!(
                "{} may not impersonate {} with its groups",
                actor.principal,
                ctx.principal()
            ));
        }
        told
    }

    /// Adds what there is to say of one asker.
    fn tell(
        &self,
        asker: Asker<'_>,
        asked: &Asked<'_>,
        (ctx, request): (&TenantContext, &AccessRequest),
        prefix: &str,
        told: &mut Explanation,
    ) {
        let policy = &*self.policy;
        if !policy.knows(asker.principal) {
            told.because.push(format!("{prefix}{} is gone with its tenant", asker.principal));
            return;
        }
        let mut found = Found::default();
        policy.hits(asker, asked, ctx, |hit| {
            policy.note(&hit, ctx, &mut found);
            false
        });
        let denies = found.deciding.iter().any(|(rule, _)| rule.effect == Effect::Deny);
        let decisive = if denies { Effect::Deny } else { Effect::Allow };
        found.deciding.retain(|(rule, _)| rule.effect == decisive);
        found.deciding.sort();
        found.deciding.dedup();
        found.almost.sort();
        found.almost.dedup();
        if found.deciding.is_empty() {
            policy.missing(asker, asked, (ctx.tenant(), request), &mut found.almost);
            told.help.extend(policy.help(asker, asked, (ctx.tenant(), request)));
            told.because.extend(found.almost.into_iter().map(|text| format!("{prefix}{text}")));
            return;
        }
        for (rule, text) in found.deciding {
            told.rules.push(rule);
            told.because.push(format!("{prefix}{text}"));
        }
    }
}

impl Policy {
    /// Whether the asker may, in an emergency or otherwise.
    pub(super) fn allows(&self, asker: Asker<'_>, asked: &Asked<'_>, ctx: &TenantContext) -> bool {
        let (mut allowed, mut denied) = (false, false);
        self.hits(asker, asked, ctx, |hit| {
            allowed |= hit.counts() && hit.effect == Effect::Allow;
            denied |= hit.counts() && hit.effect == Effect::Deny;
            denied
        });
        allowed && !denied
    }

    fn note(&self, hit: &Hit<'_>, ctx: &TenantContext, found: &mut Found) {
        let binding = &*hit.grant.binding;
        let via = format!("role {} by {binding}", binding.role);
        if !hit.counts() {
            if hit.effect == Effect::Allow {
                found.almost.push(format!("{via} allows it, but {}", obstacle(binding, ctx, hit.applies)));
            }
            return;
        }
        let text = match hit.effect {
            Effect::Deny => format!("{via} denies it"),
            Effect::Allow if binding.emergency => format!("{via} allows it in an emergency"),
            Effect::Allow => format!("{via} allows it"),
        };
        let rule = DecidingRule {
            scope: binding.scope.clone(),
            binding: binding.name.clone(),
            role: binding.role.clone(),
            rule: hit.rule,
            effect: hit.effect,
        };
        found.deciding.push((rule, text));
    }

    /// What comes nearest to an allow: what the asker's roles allow instead, and where they allow it.
    fn missing(
        &self,
        asker: Asker<'_>,
        asked: &Asked<'_>,
        (tenant, request): (&TenantRef, &AccessRequest),
        almost: &mut Vec<String>,
    ) {
        let conditional = almost.len();
        let (mut bound, mut dangling) = (false, Vec::new());
        for grant in self.all_of(asker) {
            let binding = &*grant.binding;
            let Some(role) = self.role_of(grant) else {
                dangling.extend(self.is_above(grant, asked.place).then_some(binding));
                continue;
            };
            let via = format!("role {} by {binding}", binding.role);
            let matching = |rule: &Rule| rule.effect == Effect::Allow && rule.matches(request);
            let would = role.written().iter().any(matching);
            if grant.reaches(&self.tree, asked.place, Effect::Allow) {
                bound = true;
                if !would {
                    almost.push(format!("{via} {}", nearest(role.written(), request)));
                }
            } else if would && self.is_above(grant, asked.place) && almost.len() < conditional + NAMED {
                almost.push(format!("{via} allows it there, and does not reach tenant {}", tenant.id));
            }
        }
        for binding in dangling.into_iter().take(NAMED) {
            bound = true;
            almost.push(format!("{binding} names role {}, and one of the two does not exist", binding.role));
        }
        if !bound {
            almost.push(format!("no role is bound to {} in this tenant", asker.principal));
        }
    }

    /// Which roles would allow it.
    fn help(
        &self,
        asker: Asker<'_>,
        asked: &Asked<'_>,
        (tenant, request): (&TenantRef, &AccessRequest),
    ) -> Vec<String> {
        let told = |role: &Role| {
            let (role, principal, tenant) = (&role.name, asker.principal, &tenant.id);
            format!("role {role} would allow it: bind it to {principal} in tenant {tenant}")
        };
        // A tenant's own roles are not for strangers to hear of.
        let reaches = |grant: &Grant| {
            self.role_of(grant).is_some() && grant.reaches(&self.tree, asked.place, Effect::Allow)
        };
        let bound = self.held(asker).flatten().any(reaches);
        let roles = self.would_do(asked.place, request).filter(|role| bound || role.tenant.is_none());
        roles.take(NAMED).map(told).collect()
    }

    /// The grants of the asker, whatever table they lie in, in an order that does not depend on it.
    fn all_of<'a>(&'a self, asker: Asker<'a>) -> Vec<&'a Grant> {
        let mut all: Vec<_> = self.held(asker).flatten().collect();
        let name = |grant: &'a Grant| (&grant.binding.scope, &grant.binding.name);
        all.sort_by(|a, b| name(a).cmp(&name(b)));
        all.dedup_by(|a, b| name(a) == name(b));
        all
    }

    /// Whether the grant is of the tenant at `place`, or of one above it: who asks there hears of no other.
    fn is_above(&self, grant: &Grant, place: Place) -> bool {
        grant.from == CLUSTER || self.tree.is_within(place, grant.from)
    }

    /// The roles that allow `request` and may be bound at `place`: those of every tenant, then those of the tenant there
    /// and of each above it.
    fn would_do(&self, place: Place, request: &AccessRequest) -> impl Iterator<Item = &Role> {
        let up = |at: &Place| (*at != CLUSTER).then(|| self.tree.parent(*at));
        let owners = std::iter::successors(Some(place), up).filter(|at| *at != CLUSTER);
        let all = std::iter::once(CLUSTER).chain(owners).flat_map(|owner| self.roles.of(owner));
        all.map(|role| &**role).filter(move |role| {
            let has = |effect| role.rules.iter().any(|rule| rule.effect == effect && rule.matches(request));
            has(Effect::Allow) && !has(Effect::Deny)
        })
    }
}

/// Why a binding does not apply.
fn obstacle(binding: &RoleBinding, ctx: &TenantContext, applies: Known) -> String {
    if binding.emergency && ctx.emergency().is_none_or(|reason| reason.trim().is_empty()) {
        return "in an emergency alone: give a reason for one".to_owned();
    }
    match (binding.expires, ctx.at()) {
        (Some(end), Some(at)) if at >= end => return format!("it expired at {end}"),
        (Some(_), None) => return "it expires, and the request has no time".to_owned(),
        _ => {}
    }
    let unknown = if applies == Known::Unknown { ", of which the request does not tell enough" } else { "" };
    format!("only {}{unknown}", binding.conditions)
}

/// What the role does allow on the same things.
fn nearest(rules: &[Rule], request: &AccessRequest) -> String {
    let about = rules.iter().filter(|rule| rule.effect == Effect::Allow && rule.is_about(request));
    let mut verbs: Vec<_> = about.flat_map(|rule| &rule.verbs).map(ToString::to_string).collect();
    verbs.sort();
    verbs.dedup();
    if verbs.is_empty() {
        return format!("says nothing of {}", request.kind);
    }
    format!("allows {} on {}, not {}", verbs.join(", "), request.kind, request.verb)
}
