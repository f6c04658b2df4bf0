//! The index after a change, at a cost that grows with the change. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::store::Revision;
use hivemind_core::{RoleName, TenantId, TenantRef};

use super::super::tree::Place;
use super::super::{Role, RoleBinding, Scope};
use super::compile::{key_of, number_all};
use super::grant::{Grant, Held, from, spoken_of};
use super::{AccessIndex, Policy};

/// One change of a policy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PolicyChange {
    /// A tenant is there, below this parent, in place of one of that name.
    PutTenant(TenantRef, Option<TenantRef>),
    /// The tenant of that name is gone.
    RemoveTenant(TenantId),
    /// A role is there, in place of one of that name and tenant.
    PutRole(Arc<Role>),
    /// The role of that tenant, or of every tenant, is gone.
    RemoveRole(Option<TenantRef>, RoleName),
    /// A binding is there, in place of one of that name and scope.
    PutBinding(Arc<RoleBinding>),
    /// The binding of that name and scope is gone.
    RemoveBinding(Scope, RoleName),
}

/// A tenant and its parent.
type Placed = (TenantRef, Option<TenantRef>);

/// What is to be put into the tables, once for each name.
#[derive(Default)]
struct Pending {
    tenants: Vec<(TenantId, Option<Placed>)>,
    bindings: BTreeMap<(Place, String), Option<Arc<RoleBinding>>>,
    held: BTreeMap<(u32, String), Vec<Grant>>,
}

impl AccessIndex {
    /// The policy after `changes`, in their order, as of `revision`; this one stays as it is, and both share all that is
    /// the same. It decides and explains as one that is compiled anew.
    ///
    /// For each binding that changes it costs as much as its subjects hold, and a copy of about the square root of
    /// all subjects. A role costs a copy of the list of roles, however many bindings give it, and the tenants that
    /// change one walk over all tenants.
    #[must_use]
    pub fn changed(&self, revision: Revision, changes: impl IntoIterator<Item = PolicyChange>) -> Self {
        let (mut policy, mut pending) = (Policy::clone(&self.policy), Pending::default());
        for change in changes {
            policy.change(change, &mut pending);
        }
        policy.settle(pending);
        Self { policy: Arc::new(policy), revision: self.revision.max(revision) }
    }
}

impl Policy {
    fn change(&mut self, change: PolicyChange, pending: &mut Pending) {
        match change {
            PolicyChange::PutTenant(tenant, parent) => {
                pending.tenants.push((tenant.id.clone(), Some((tenant, parent))));
            }
            PolicyChange::RemoveTenant(id) => pending.tenants.push((id, None)),
            PolicyChange::PutRole(role) => self.roles.put(&mut self.tree, role),
            PolicyChange::RemoveRole(owner, name) => self.roles.remove(&self.tree, owner.as_ref(), &name),
            PolicyChange::PutBinding(binding) => {
                number_all(&mut self.tree, spoken_of(&binding));
                self.bind(&binding.scope, &binding.name, Some(&binding), pending);
            }
            PolicyChange::RemoveBinding(scope, name) => self.bind(&scope, &name, None, pending),
        }
    }

    /// Puts `new` in place of the binding of that name and scope.
    fn bind(
        &mut self,
        scope: &Scope,
        name: &RoleName,
        new: Option<&Arc<RoleBinding>>,
        pending: &mut Pending,
    ) {
        let place = from(&self.tree, scope);
        let key = (place, name.to_string());
        let old = match pending.bindings.get(&key) {
            Some(old) => old.clone(),
            None => self.bindings.get(place, name.as_str()).cloned(),
        };
        for subject in old.iter().flat_map(|old| &old.subjects) {
            let same = |grant: &Grant| grant.from == place && grant.binding.name == *name;
            self.held_by(key_of(&self.tree, subject), pending).retain(|grant| !same(grant));
        }
        if let Some(new) = new {
            let grant = Grant::new(&self.tree, &mut self.roles, new);
            for subject in &new.subjects {
                self.held_by(key_of(&self.tree, subject), pending).push(grant.clone());
            }
        }
        pending.bindings.insert(key, new.cloned());
    }

    /// What a subject will hold.
    fn held_by<'a>(&self, (space, name): (u32, &str), pending: &'a mut Pending) -> &'a mut Vec<Grant> {
        let now = || self.subjects.get(space, name).map(|held| held.grants().to_vec()).unwrap_or_default();
        pending.held.entry((space, name.to_owned())).or_insert_with(now)
    }

    fn settle(&mut self, pending: Pending) {
        if !pending.tenants.is_empty() {
            Arc::make_mut(&mut self.tree).change(pending.tenants);
        }
        let bindings = pending.bindings.iter();
        self.bindings.set_all(bindings.map(|((place, name), one)| (*place, name.as_str(), one.clone())));
        let held = pending.held.iter();
        self.subjects
            .set_all(held.map(|((space, name), all)| (*space, name.as_str(), Held::new(all.clone()))));
        if self.tree.len().saturating_add(self.roles.len()) > self.worn {
            // What comes and goes leaves numbers behind: once there are twice as many, all are given anew.
            let roles: Vec<_> = self.roles.iter().cloned().collect();
            let bindings = self.bindings.iter().map(|(_, _, binding)| Arc::clone(binding)).collect();
            *self = Self::compiled(&self.keyed, self.tree.parents(), roles, bindings);
        }
    }
}
