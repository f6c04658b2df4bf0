//! Roles by number, and their rules in the numbers of the index. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::{ResourceKind, RoleName, TenantRef};

use super::super::model::named;
use super::super::tree::{CLUSTER, Place, Tree};
use super::super::{Effect, Role, Rule};
use super::compile::number_all;
use super::decide::{Asked, verb_bit};
use super::table::{Keyed, Table};

/// Stands for a kind that no rule names.
pub(super) const NONE: u32 = u32::MAX;

/// The kinds under which principals are impersonated: numbers that they have in every index.
const IMPERSONATED: [&str; 5] = ["users", "service-accounts", "nodes", "system-components", "groups"];
pub(super) const USERS: u32 = 0;
pub(super) const ACCOUNTS: u32 = 1;
pub(super) const NODES: u32 = 2;
pub(super) const COMPONENTS: u32 = 3;
pub(super) const GROUPS: u32 = 4;

/// Every role, and those that are spoken of. A role keeps its number when it changes or goes.
#[derive(Debug, Clone)]
pub(in super::super) struct Roles {
    all: Arc<Vec<CompiledRole>>,
    /// By the place of the owner, the whole cluster for roles of every tenant.
    names: Arc<BTreeMap<Place, BTreeMap<RoleName, u32>>>,
    kinds: Table<(), u32>,
}

#[derive(Debug, Clone)]
pub(in super::super) struct CompiledRole {
    pub(super) owner: Place,
    /// `None` if it is only spoken of.
    role: Option<Arc<Role>>,
    pub(in super::super) rules: Arc<[CompiledRule]>,
}

#[derive(Debug)]
pub(in super::super) struct CompiledRule {
    pub(in super::super) effect: Effect,
    verbs: u16,
    kinds: Kinds,
    names: Box<[Box<str>]>,
}

#[derive(Debug)]
enum Kinds {
    All,
    One(u32),
    Some(Box<[u32]>),
}

impl Kinds {
    fn has(&self, kind: u32) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => *one == kind,
            Self::Some(some) => some.contains(&kind),
        }
    }
}

impl CompiledRule {
    #[inline]
    pub(in super::super) fn matches(&self, asked: &Asked<'_>) -> bool {
        self.is_about(asked.verb, asked.kind)
            && (self.names.is_empty()
                || asked.name.is_some_and(|name| self.names.iter().any(|one| named(one, name))))
    }

    /// The names it is about; empty for all.
    pub(in super::super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Whether it speaks of the verb and the kind.
    #[inline]
    pub(in super::super) fn is_about(&self, verb: u16, kind: u32) -> bool {
        self.verbs & verb != 0 && self.kinds.has(kind)
    }
}

impl CompiledRole {
    pub(super) fn exists(&self) -> bool {
        self.role.is_some()
    }

    /// Its rules as they were written.
    pub(in super::super) fn written(&self) -> &[Rule] {
        self.role.as_ref().map(|role| role.rules.as_slice()).unwrap_or_default()
    }
}

impl Roles {
    pub(super) fn new(
        keyed: &Keyed,
        tree: &mut Arc<Tree>,
        roles: impl IntoIterator<Item = Arc<Role>>,
    ) -> Self {
        let kinds = (0..).zip(IMPERSONATED).map(|(number, kind)| ((), kind, number));
        let kinds = Table::new(keyed.clone(), kinds, |mut numbers| numbers.pop());
        let mut all = Self { all: Arc::default(), names: Arc::default(), kinds };
        for role in roles {
            all.put(tree, role);
        }
        all
    }

    /// Puts `role` in place of one of that name.
    pub(super) fn put(&mut self, tree: &mut Arc<Tree>, role: Arc<Role>) {
        number_all(tree, &role.tenant);
        let number = self.number(tree, role.tenant.as_ref(), &role.name);
        let rules = role.rules.iter().map(|rule| self.compiled(rule)).collect();
        if let Some(place) = Arc::make_mut(&mut self.all).get_mut(number as usize) {
            (place.rules, place.role) = (rules, Some(role));
        }
    }

    /// Takes the role away. What is bound to it stays so, for one of that name may come.
    pub(super) fn remove(&mut self, tree: &Tree, owner: Option<&TenantRef>, name: &RoleName) {
        let Some(number) = self.known(tree, owner, name) else { return };
        if let Some(place) = Arc::make_mut(&mut self.all).get_mut(number as usize) {
            (place.rules, place.role) = (Arc::default(), None);
        }
    }

    fn known(&self, tree: &Tree, owner: Option<&TenantRef>, name: &RoleName) -> Option<u32> {
        let owner = owner.map_or(Some(CLUSTER), |tenant| tree.known(tenant))?;
        self.names.get(&owner)?.get(name).copied()
    }

    /// The role of that name, if it is spoken of.
    pub(super) fn named(
        &self,
        tree: &Tree,
        owner: Option<&TenantRef>,
        name: &RoleName,
    ) -> Option<&CompiledRole> {
        self.get(self.known(tree, owner, name)?)
    }

    /// The number of a role, whether it exists or not.
    pub(super) fn number(&mut self, tree: &Tree, owner: Option<&TenantRef>, name: &RoleName) -> u32 {
        if let Some(number) = self.known(tree, owner, name) {
            return number;
        }
        let owner = owner.map_or(CLUSTER, |tenant| tree.known(tenant).unwrap_or(Place::MAX));
        let number = u32::try_from(self.all.len()).unwrap_or(NONE);
        Arc::make_mut(&mut self.names).entry(owner).or_default().insert(name.clone(), number);
        Arc::make_mut(&mut self.all).push(CompiledRole { owner, role: None, rules: Arc::default() });
        number
    }

    fn compiled(&mut self, rule: &Rule) -> CompiledRule {
        let verbs = if rule.verbs.is_empty() {
            u16::MAX
        } else {
            rule.verbs.iter().fold(0, |all, verb| all | verb_bit(*verb))
        };
        let mut kinds: Vec<_> = rule.kinds.iter().map(|kind| self.intern(kind)).collect();
        let kinds = match kinds.len() {
            0 => Kinds::All,
            1 => Kinds::One(kinds.pop().unwrap_or(NONE)),
            _ => Kinds::Some(kinds.into()),
        };
        let names = rule.names.iter().map(|name| name.as_str().into()).collect();
        CompiledRule { effect: rule.effect, verbs, kinds, names }
    }

    fn intern(&mut self, kind: &ResourceKind) -> u32 {
        if let Some(number) = self.kinds.get((), kind.as_str()) {
            return *number;
        }
        let number = u32::try_from(self.kinds.len()).unwrap_or(NONE);
        self.kinds.set_all([((), kind.as_str(), Some(number))]);
        number
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The number of a kind; `NONE` if no rule names it.
    pub(super) fn kind(&self, kind: &ResourceKind) -> u32 {
        self.kinds.get((), kind.as_str()).copied().unwrap_or(NONE)
    }

    pub(super) fn get(&self, number: u32) -> Option<&CompiledRole> {
        self.all.get(number as usize)
    }

    /// Every role that exists, those of every tenant first, then owner by owner.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.names.keys().flat_map(|owner| self.of(*owner))
    }

    /// The roles of one owner, or with `CLUSTER` those of every tenant, by name.
    pub(in super::super) fn of(&self, owner: Place) -> impl Iterator<Item = &Arc<Role>> {
        let theirs = self.names.get(&owner).into_iter().flat_map(BTreeMap::values);
        theirs.filter_map(|number| self.get(*number)?.role.as_ref())
    }
}
