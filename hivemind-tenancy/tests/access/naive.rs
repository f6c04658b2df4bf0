//! The reference: looks at every rule of every binding and walks up every tree, straight from the definitions.

use std::collections::BTreeSet;

use hivemind_core::labels::Labels;
use hivemind_core::{AccessRequest, GroupName, Principal, TenantContext, TenantRef, Timestamp, Verb};
use hivemind_tenancy::RoleBinding;
use hivemind_tenancy::rbac::{Effect, Inherit, Rule, Scope, Stop, Subject, TimeWindow};

use super::model::State;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    No,
    InEmergency,
    Yes,
}

impl State {
    /// The tenant and all above it; `None` if it hangs on nothing.
    fn chain(&self, tenant: &TenantRef) -> Option<Vec<TenantRef>> {
        let mut chain = vec![tenant.clone()];
        if *tenant == TenantRef::system() {
            return Some(chain);
        }
        loop {
            let last = chain.last()?;
            let (_, parent) = self.tenants.iter().find(|(tenant, _)| tenant == last)?;
            let Some(parent) = parent else { return Some(chain) };
            if chain.contains(parent) {
                return None;
            }
            chain.push(parent.clone());
        }
    }

    fn reaches(&self, binding: &RoleBinding, tenant: &TenantRef, effect: Effect) -> bool {
        let Some(chain) = self.chain(tenant) else { return false };
        let distance = match &binding.scope {
            Scope::Global => chain.len(),
            Scope::Tenant(scope) => match chain.iter().position(|above| above == scope) {
                Some(distance) => distance,
                None => return false,
            },
        };
        let down = match &binding.inherit {
            Inherit::None => binding.scope == Scope::Global || distance == 0,
            Inherit::Down => true,
            Inherit::DownUntil(Stop::Tenant(stop)) => match self.chain(stop) {
                Some(_) => !chain.contains(stop),
                None => effect == Effect::Deny || distance == 0,
            },
            Inherit::DownUntil(Stop::Depth(depth)) => distance <= *depth as usize,
            _ => panic!("unknown"),
        };
        let owned = match (&binding.role_of, &binding.scope) {
            (None, _) => true,
            (Some(_), Scope::Global) => false,
            (Some(owner), Scope::Tenant(scope)) => {
                self.chain(scope).is_some_and(|chain| chain.contains(owner))
            }
        };
        down && owned
    }

    fn may_as(
        &self,
        principal: &Principal,
        groups: &BTreeSet<GroupName>,
        tenant: &TenantRef,
        ctx: &TenantContext,
        request: &AccessRequest,
    ) -> May {
        if let Principal::ServiceAccount { tenant, .. } = principal
            && self.chain(tenant).is_none()
        {
            return May::No;
        }
        let mut may = May::No;
        for binding in &self.bindings {
            let is = |subject: &Subject| match subject {
                Subject::Principal(one) => one == principal,
                Subject::Group(group) => groups.contains(group),
                _ => panic!("unknown"),
            };
            let role =
                self.roles.iter().find(|role| role.name == binding.role && role.tenant == binding.role_of);
            let Some(role) = role.filter(|_| binding.subjects.iter().any(is)) else { continue };
            for rule in role.rules.iter().filter(|rule| speaks(rule, request)) {
                if !self.reaches(binding, tenant, rule.effect) {
                    continue;
                }
                match (rule.effect, holds(binding, ctx, &request.labels)) {
                    (Effect::Deny, Some(true) | None) => return May::No,
                    (Effect::Allow, Some(true)) if !binding.emergency => may = May::Yes,
                    (Effect::Allow, Some(true)) if may == May::No => may = May::InEmergency,
                    _ => {}
                }
            }
        }
        may
    }

    pub fn may(&self, ctx: &TenantContext, request: &AccessRequest) -> May {
        if self.chain(ctx.tenant()).is_none() {
            return May::No;
        }
        let mut all = vec![self.may_as(ctx.principal(), ctx.groups(), ctx.tenant(), ctx, request)];
        if let Some(actor) = ctx.actor() {
            let (actor, own) = (&actor.principal, &actor.groups);
            all.push(self.may_as(actor, own, ctx.tenant(), ctx, request));
            let (kind, name, place) = match ctx.principal() {
                Principal::User(name) => ("users", name.to_string(), ctx.tenant()),
                Principal::ServiceAccount { tenant, name } => ("service-accounts", name.to_string(), tenant),
                _ => panic!("not generated"),
            };
            let act = |kind: &str, name: String| {
                AccessRequest::new(Verb::Impersonate, kind.parse().unwrap()).named(name)
            };
            let alive = self.chain(place).is_some();
            all.push(if alive { self.may_as(actor, own, place, ctx, &act(kind, name)) } else { May::No });
            for group in ctx.groups() {
                all.push(self.may_as(actor, own, ctx.tenant(), ctx, &act("groups", group.to_string())));
            }
        }
        if all.contains(&May::No) {
            May::No
        } else if all.contains(&May::InEmergency) {
            May::InEmergency
        } else {
            May::Yes
        }
    }
}

fn speaks(rule: &Rule, request: &AccessRequest) -> bool {
    let named = |pattern: &String| match (pattern.strip_suffix('*'), &request.name) {
        (_, None) => false,
        (Some(start), Some(name)) => name.starts_with(start),
        (None, Some(name)) => pattern == name,
    };
    (rule.verbs.is_empty() || rule.verbs.contains(&request.verb))
        && (rule.kinds.is_empty() || rule.kinds.contains(&request.kind))
        && (rule.names.is_empty() || rule.names.iter().any(named))
}

/// Whether the binding applies; `None` if nobody can tell.
fn holds(binding: &RoleBinding, ctx: &TenantContext, labels: &Labels) -> Option<bool> {
    let conditions = &binding.conditions;
    let within = |at: Timestamp| {
        conditions.windows.iter().any(|window| match window {
            TimeWindow::Once { from, until } => *from <= at && at < *until,
            _ => panic!("not generated"),
        })
    };
    let reason = ctx.emergency().is_some_and(|reason| !reason.trim().is_empty());
    let mut parts = vec![Some(!binding.emergency || reason)];
    if let Some(end) = binding.expires {
        parts.push(ctx.at().map(|at| at < end));
    }
    if !conditions.windows.is_empty() {
        parts.push(ctx.at().map(within));
    }
    if !conditions.networks.is_empty() {
        parts.push(ctx.source().map(|from| conditions.networks.iter().any(|net| net.contains(&from))));
    }
    if !conditions.labels.is_everything() {
        parts.push((!labels.is_empty()).then(|| conditions.labels.matches(labels)));
    }
    if parts.contains(&Some(false)) {
        Some(false)
    } else if parts.contains(&None) {
        None
    } else {
        Some(true)
    }
}
