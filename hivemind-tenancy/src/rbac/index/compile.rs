//! From roles and bindings to the index. No I/O, no clock, no async.

use std::sync::Arc;

use hivemind_core::TenantRef;

use super::super::tree::Tree;
use super::super::{Role, RoleBinding, Subject};
use super::grant::{Grant, Held, from, spoken_of};
use super::roles::Roles;
use super::table::{Keyed, Table};
use super::{GROUPS, Policy};

/// So few numbers are never given anew.
const WORN: usize = 64;

impl Policy {
    pub(super) fn compiled(
        keyed: &Keyed,
        tenants: impl IntoIterator<Item = (TenantRef, Option<TenantRef>)>,
        roles: impl IntoIterator<Item = Arc<Role>>,
        bindings: Vec<Arc<RoleBinding>>,
    ) -> Self {
        let mut tree = Arc::new(Tree::new(keyed.clone(), tenants));
        let mut roles = Roles::new(keyed, &mut tree, roles);
        number_all(&mut tree, bindings.iter().flat_map(|binding| spoken_of(binding)));
        let named = bindings.iter().map(|one| (from(&tree, &one.scope), one.name.as_str(), one));
        let last = |mut same: Vec<&Arc<RoleBinding>>| same.pop().cloned();
        let bindings = Table::new(keyed.clone(), named, last);
        let mut held = Vec::with_capacity(bindings.len());
        for (_, _, binding) in bindings.iter() {
            let grant = Grant::new(&tree, &mut roles, binding);
            for subject in &binding.subjects {
                let (space, name) = key_of(&tree, subject);
                held.push((space, name, grant.clone()));
            }
        }
        let subjects = Table::new(keyed.clone(), held, Held::new);
        let worn = tree.len().saturating_add(roles.len()).saturating_mul(2).saturating_add(WORN);
        Self { keyed: keyed.clone(), tree, roles, bindings, subjects, worn }
    }
}

/// Gives each tenant a number that has none. Copies the tree only if there is one.
pub(super) fn number_all<'a>(tree: &mut Arc<Tree>, tenants: impl IntoIterator<Item = &'a TenantRef>) {
    for tenant in tenants {
        if tree.known(tenant).is_none() {
            Arc::make_mut(tree).number(tenant);
        }
    }
}

/// Under what the grants of a subject are, if the tenants it speaks of have numbers.
pub(super) fn key_of<'a>(tree: &Tree, subject: &'a Subject) -> (u32, &'a str) {
    match subject {
        Subject::Group(group) => (GROUPS, group.as_str()),
        // A principal of a kind that is not known yet holds nothing, under no name.
        Subject::Principal(principal) => super::key_of(tree, principal).unwrap_or((u32::MAX, "")),
    }
}
