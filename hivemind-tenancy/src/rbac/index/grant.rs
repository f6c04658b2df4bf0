//! A binding, as one of its subjects holds it. No I/O, no clock, no async.

use std::sync::Arc;

use hivemind_core::labels::Labels;
use hivemind_core::{Principal, RoleName, TenantContext, TenantRef};

use super::super::conditions::Known;
use super::super::tree::{CLUSTER, Place, Tree};
use super::super::{Effect, Inherit, RoleBinding, Scope, Stop, Subject};
use super::Policy;
use super::roles::{CompiledRole, Roles};

/// How far down a grant reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Here,
    Down,
    UntilTenant,
    UntilDepth,
}

/// A binding, as one of its subjects has it: all that a decision needs of it if it has no conditions.
#[derive(Debug, Clone)]
pub(in super::super) struct Grant {
    /// Where it begins.
    pub(in super::super) from: Place,
    /// The number of its role.
    pub(in super::super) role: u32,
    /// Where it stops, or after how many levels.
    stop: u32,
    reach: Reach,
    /// Whether its binding has conditions, an expiry, or is for emergencies.
    conditional: bool,
    pub(in super::super) emergency: bool,
    pub(in super::super) binding: Arc<RoleBinding>,
}

impl Grant {
    pub(super) fn new(tree: &Tree, roles: &mut Roles, binding: &Arc<RoleBinding>) -> Self {
        let (reach, stop) = match &binding.inherit {
            Inherit::None if binding.scope == Scope::Global => (Reach::Down, 0),
            Inherit::None => (Reach::Here, 0),
            Inherit::Down => (Reach::Down, 0),
            Inherit::DownUntil(Stop::Tenant(stop)) => (Reach::UntilTenant, place(tree, stop)),
            Inherit::DownUntil(Stop::Depth(depth)) => (Reach::UntilDepth, *depth),
        };
        Self {
            from: from(tree, &binding.scope),
            role: roles.number(tree, binding.role_of.as_ref(), &binding.role),
            stop,
            reach,
            conditional: !binding.conditions.is_always() || binding.expires.is_some() || binding.emergency,
            emergency: binding.emergency,
            binding: Arc::clone(binding),
        }
    }

    /// Whether a walk down from where it begins may come to `place`.
    pub(in super::super) fn may_reach(&self, tree: &Tree, place: Place) -> bool {
        self.from == place || (self.reach != Reach::Here && tree.is_within(place, self.from))
    }

    /// Whether what it says with `effect` reaches `place`.
    pub(in super::super) fn reaches(&self, tree: &Tree, place: Place, effect: Effect) -> bool {
        if !self.may_reach(tree, place) {
            return false;
        }
        match self.reach {
            Reach::Here | Reach::Down => true,
            Reach::UntilTenant if tree.is_there(self.stop) => !tree.is_within(place, self.stop),
            // Nobody knows any more where to stop.
            Reach::UntilTenant => effect == Effect::Deny || place == self.from,
            Reach::UntilDepth => tree.level(place) <= tree.level(self.from).saturating_add(self.stop),
        }
    }

    /// Whether it applies always, and all over from where it begins.
    pub(in super::super) fn is_plain(&self) -> bool {
        !self.conditional && matches!(self.reach, Reach::Here | Reach::Down)
    }

    /// Whether it, if it is plain, reaches all that `other` reaches.
    pub(in super::super) fn is_wider(&self, tree: &Tree, other: &Self) -> bool {
        match self.reach {
            Reach::Down => tree.is_within(other.from, self.from),
            _ => self.from == other.from && other.reach == Reach::Here,
        }
    }

    /// Whether its binding applies to an object of `labels`.
    pub(in super::super) fn applies(&self, ctx: &TenantContext, labels: &Labels) -> Known {
        if !self.conditional {
            return Known::Yes;
        }
        self.binding.applies(ctx).min(self.binding.conditions.on(labels))
    }

    /// Its order among those of a subject: by where it begins, so that those of a place are found by halves.
    fn order(&self) -> (Place, &str) {
        (self.from, self.binding.name.as_str())
    }
}

/// The number of a tenant that has one.
fn place(tree: &Tree, tenant: &TenantRef) -> Place {
    tree.known(tenant).unwrap_or(Place::MAX)
}

/// Where a scope begins, if its tenant has a number.
pub(super) fn from(tree: &Tree, scope: &Scope) -> Place {
    match scope {
        Scope::Global => CLUSTER,
        Scope::Tenant(tenant) => place(tree, tenant),
    }
}

/// The tenants that a binding speaks of.
pub(in super::super) fn spoken_of(binding: &RoleBinding) -> impl Iterator<Item = &TenantRef> {
    let scope = match &binding.scope {
        Scope::Global => None,
        Scope::Tenant(tenant) => Some(tenant),
    };
    let stop = match &binding.inherit {
        Inherit::DownUntil(Stop::Tenant(tenant)) => Some(tenant),
        _ => None,
    };
    let accounts = binding.subjects.iter().filter_map(|subject| match subject {
        Subject::Principal(Principal::ServiceAccount { tenant, .. }) => Some(tenant),
        _ => None,
    });
    scope.into_iter().chain(stop).chain(&binding.role_of).chain(accounts)
}

/// The grants of a subject, in the order of where they begin.
#[derive(Debug, Clone)]
pub(in super::super) enum Held {
    One(Grant),
    Many(Arc<[Grant]>),
}

impl Held {
    /// `None` if there are none.
    pub(super) fn new(mut grants: Vec<Grant>) -> Option<Self> {
        grants.sort_by(|a, b| a.order().cmp(&b.order()));
        match grants.len() {
            0 | 1 => grants.pop().map(Self::One),
            _ => Some(Self::Many(grants.into())),
        }
    }

    pub(super) fn grants(&self) -> &[Grant] {
        match self {
            Self::One(grant) => std::slice::from_ref(grant),
            Self::Many(grants) => grants,
        }
    }
}

impl Policy {
    /// The role that `grant` gives, if it and the tenant exist and it may be bound there.
    pub(in super::super) fn role_of(&self, grant: &Grant) -> Option<&CompiledRole> {
        self.existing(grant.from, self.roles.get(grant.role)?)
    }

    /// The role of that name, if it may be bound at `place`.
    pub(in super::super) fn role_at(
        &self,
        place: Place,
        owner: Option<&TenantRef>,
        name: &RoleName,
    ) -> Option<&CompiledRole> {
        self.existing(place, self.roles.named(&self.tree, owner, name)?)
    }

    fn existing<'a>(&self, from: Place, role: &'a CompiledRole) -> Option<&'a CompiledRole> {
        (self.is_for(from, role) && self.tree.is_there(from)).then_some(role)
    }

    /// The same as [`role_of`](Self::role_of) for a grant that begins at a tenant that exists.
    pub(super) fn role_within(&self, grant: &Grant) -> Option<&CompiledRole> {
        self.roles.get(grant.role).filter(|role| self.is_for(grant.from, role))
    }

    /// A tenant's own role is nothing to tenants that are not below.
    fn is_for(&self, from: Place, role: &CompiledRole) -> bool {
        let owned = || from != CLUSTER && self.tree.is_within(from, role.owner);
        role.exists() && (role.owner == CLUSTER || owned())
    }
}
