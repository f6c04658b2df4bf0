//! Nobody grants more than they hold: what a change of roles and bindings adds to anybody must be the grantor's own.
//! No I/O, no clock, no async.
//!
//! A change adds power by a new allow, or by a deny that goes. Both are taken apart into cells: one verb, one kind, one
//! name (or all that no rule names). A cell is held if one allow of the grantor's covers it wherever, whenever and
//! under whatever conditions it would apply, and no deny of the grantor's may touch it. What cannot be told for sure
//! counts as not held.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use hivemind_core::{AccessRequest, Error, ErrorKind, Principal, ResourceKind, Result, TenantContext, Verb};

use super::index::{Asker, CompiledRole, Grant, Policy};
use super::tree::{CLUSTER, Place, Tree};
use super::{AccessIndex, Effect, Inherit, RoleBinding, Rule, Scope, Stop};

/// A grantor would hand out what they do not hold. Detail of a [`Denied`](ErrorKind::Denied) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{grantor} would hand out more than they hold: {what} in {scope}; ask somebody who holds it there")]
#[non_exhaustive]
pub struct Escalation {
    /// Who wanted to.
    pub grantor: Principal,
    /// What they do not hold, or not so far, so long or so unconditionally.
    pub what: String,
    /// Where it would have been handed out.
    pub scope: Scope,
}

/// What a change hands out, cell by cell, and where and when it would act.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// The rules before; a cell that they denied and no longer do is handed out.
    pub(crate) before: &'a [Rule],
    /// The rules after; a cell that they allow and did not is handed out.
    pub(crate) after: &'a [Rule],
    /// Where, how far down and under which conditions.
    pub(crate) reach: &'a RoleBinding,
}

/// Requests that no rule tells apart.
#[derive(Debug)]
struct Cell {
    request: AccessRequest,
    /// Any verb that there may be some day, instead of that of the request.
    any_verb: bool,
}

impl Cell {
    fn is_meant_by(&self, rule: &Rule) -> bool {
        if self.any_verb {
            return rule.verbs.is_empty() && rule.is_about(&self.request);
        }
        rule.matches(&self.request)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessRequest { verb, kind, name, .. } = &self.request;
        if self.any_verb {
            f.write_str("all verbs")?
        } else {
            write!(f, "{verb}")?
        }
        write!(f, " on {kind}")?;
        name.as_ref().map_or(Ok(()), |name| write!(f, " {name:?}"))
    }
}

fn says(rules: &[Rule], effect: Effect, cell: &Cell) -> bool {
    rules.iter().any(|rule| rule.effect == effect && cell.is_meant_by(rule))
}

/// Of one role, a deny shadows an allow: where and when the one applies, so does the other.
fn allows(rules: &[Rule], cell: &Cell) -> bool {
    says(rules, Effect::Allow, cell) && !says(rules, Effect::Deny, cell)
}

impl Change<'_> {
    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.before.iter().chain(self.after)
    }

    /// The kinds that it is about, one by one if any rule tells them apart.
    fn kinds(&self, held: &Held<'_>) -> BTreeSet<ResourceKind> {
        let mut kinds: BTreeSet<_> = self.rules().flat_map(|rule| rule.kinds.iter().cloned()).collect();
        if self.rules().any(|rule| rule.kinds.is_empty()) {
            kinds.extend(held.iter().flat_map(|(_, rule)| rule.kinds.iter().cloned()));
            // A kind that no rule names stands for all such kinds.
            let free = (0_u64..).filter_map(|number| format!("other-{number}").parse().ok());
            kinds.extend(free.into_iter().find(|kind| !kinds.contains(kind)));
        }
        kinds
    }

    fn hands_out(&self, cell: &Cell) -> bool {
        let freed = says(self.before, Effect::Deny, cell) && !says(self.after, Effect::Deny, cell);
        freed || (allows(self.after, cell) && !allows(self.before, cell))
    }
}

impl AccessIndex {
    /// The bindings by which whoever asks in `ctx` holds all that `change` hands out.
    ///
    /// It looks at the asker's own grants alone, at those among them that reach where the change does: for each kind that
    /// the change is about, once for each verb and for each name that rules about that kind tell apart. No role names
    /// more than 256 kinds or names; a usual role is a handful of cells, and takes microseconds.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] with [`Escalation`] as detail if they do not.
    pub(crate) fn holds(&self, ctx: &TenantContext, change: &Change<'_>) -> Result<Vec<Arc<RoleBinding>>> {
        let policy = &*self.policy;
        let mut proof = BTreeMap::new();
        let own = policy.asker(ctx.principal(), ctx.groups());
        let actor = ctx.actor().map(|actor| policy.asker(&actor.principal, &actor.groups));
        for asker in [Some(own), actor].into_iter().flatten() {
            let held = policy.rules_of(asker, change.reach);
            for kind in change.kinds(&held) {
                let is_about = |rule: &Rule| rule.kinds.is_empty() || rule.kinds.contains(&kind);
                let held: Held<'_> = held.iter().filter(|(_, rule)| is_about(rule)).copied().collect();
                let rules = held.iter().map(|(_, rule)| *rule);
                let rules = rules.chain(change.rules().filter(|rule| is_about(rule)));
                for cell in cells(&kind, &rules.collect::<Vec<_>>()) {
                    if !change.hands_out(&cell) {
                        continue;
                    }
                    match policy.proof(&held, change.reach, &cell) {
                        Some(grant) => proof.insert((grant.from, grant.binding.name.clone()), &grant.binding),
                        None => return Err(refused(asker, &cell, &change.reach.scope)),
                    };
                }
            }
        }
        Ok(proof.into_values().cloned().collect())
    }
}

fn refused(asker: Asker<'_>, cell: &Cell, scope: &Scope) -> Error {
    let detail =
        Escalation { grantor: asker.principal.clone(), what: cell.to_string(), scope: scope.clone() };
    Error::of(ErrorKind::Denied, "grant", detail)
}

type Held<'a> = Vec<(&'a Grant, &'a Rule)>;

impl Policy {
    /// Every rule of the asker's that applies anywhere in `reach`.
    fn rules_of<'a>(&'a self, asker: Asker<'a>, reach: &RoleBinding) -> Held<'a> {
        let Some(place) = self.place_of(&reach.scope) else { return Held::new() };
        let down = inherit_of(reach) != &Inherit::None;
        let is_there = |grant: &&Grant| {
            grant.may_reach(&self.tree, place) || (down && self.tree.is_within(grant.from, place))
        };
        let of_grant = |grant: &'a Grant| {
            let rules = self.role_of(grant).map(CompiledRole::written).unwrap_or_default();
            rules.iter().map(move |rule| (grant, rule))
        };
        self.held(asker).flatten().filter(is_there).flat_map(of_grant).collect()
    }

    /// The grant that covers `cell` all over `reach`, if none denies any of it.
    fn proof<'a>(&self, held: &Held<'a>, reach: &RoleBinding, cell: &Cell) -> Option<&'a Grant> {
        let place = self.place_of(&reach.scope)?;
        let about = || held.iter().filter(|(_, rule)| cell.is_meant_by(rule));
        let denies = |(_, rule): &(&Grant, &Rule)| rule.effect == Effect::Deny;
        let covers = |(grant, rule): &&(&'a Grant, &Rule)| {
            rule.effect == Effect::Allow
                && grant.reaches(&self.tree, place, Effect::Allow)
                && covers_when(&grant.binding, reach)
                && covers_where(&self.tree, grant.from, &grant.binding, place, reach)
        };
        if about().any(denies) { None } else { about().find(covers).map(|(grant, _)| *grant) }
    }

    fn place_of(&self, scope: &Scope) -> Option<Place> {
        match scope {
            Scope::Global => Some(CLUSTER),
            Scope::Tenant(tenant) => self.tree.place(tenant),
        }
    }
}

/// Whether `wide` applies whenever `narrow` does.
fn covers_when(wide: &RoleBinding, narrow: &RoleBinding) -> bool {
    let longer = wide.expires.is_none_or(|end| narrow.expires.is_some_and(|sooner| sooner <= end));
    longer && (!wide.emergency || narrow.emergency) && narrow.conditions.within(&wide.conditions)
}

fn inherit_of(binding: &RoleBinding) -> &Inherit {
    match (&binding.scope, &binding.inherit) {
        (Scope::Global, Inherit::None) => &Inherit::Down,
        (_, inherit) => inherit,
    }
}

/// Whether `wide` reaches wherever `narrow`, at `place`, does, whatever tenants there will be below.
fn covers_where(tree: &Tree, scope: Place, wide: &RoleBinding, place: Place, narrow: &RoleBinding) -> bool {
    if !tree.is_within(place, scope) {
        return false;
    }
    let depth = u64::from(tree.level(place).saturating_sub(tree.level(scope)));
    match (inherit_of(wide), inherit_of(narrow)) {
        (Inherit::Down, _) => true,
        (Inherit::None, Inherit::None) => place == scope,
        (Inherit::None, _) => false,
        (Inherit::DownUntil(Stop::Tenant(stop)), inner) => {
            let same = *inner == Inherit::None || inner == inherit_of(wide);
            same && tree.place(stop).is_some_and(|stop| !tree.is_within(place, stop))
        }
        (Inherit::DownUntil(Stop::Depth(most)), Inherit::None) => depth <= u64::from(*most),
        (Inherit::DownUntil(Stop::Depth(most)), Inherit::DownUntil(Stop::Depth(further))) => {
            depth + u64::from(*further) <= u64::from(*most)
        }
        (Inherit::DownUntil(Stop::Depth(_)), _) => false,
    }
}

/// One cell for each way in which `rules` tell requests about things of `kind` apart.
fn cells(kind: &ResourceKind, rules: &[&Rule]) -> Vec<Cell> {
    let mut found = Vec::new();
    for name in names(rules) {
        let named = |verb| {
            let request = AccessRequest::new(verb, kind.clone());
            name.iter().fold(request, |request, name| request.named(name.as_str()))
        };
        found.extend(Verb::ALL.iter().map(|verb| Cell { request: named(*verb), any_verb: false }));
        found.push(Cell { request: named(Verb::Get), any_verb: true });
    }
    found
}

/// One name for each way in which `rules` tell names apart, and none at all.
fn names(rules: &[&Rule]) -> BTreeSet<Option<String>> {
    let patterns: BTreeSet<&str> =
        rules.iter().flat_map(|rule| rule.names.iter().map(String::as_str)).collect();
    let starts: BTreeSet<&str> = patterns.iter().map(|one| one.strip_suffix('*').unwrap_or(one)).collect();
    // A character that nothing goes on with: the start and it stand for all that no longer pattern means.
    let other = |start: &str| {
        let names = ('!'..='\u{10ffff}').rev().map(|next| format!("{start}{next}"));
        names.into_iter().find(|name| !starts.iter().any(|longer| longer.starts_with(name.as_str())))
    };
    let exact = patterns.iter().filter(|one| !one.ends_with('*')).map(|one| Some((*one).to_owned()));
    let open = patterns.iter().filter_map(|one| one.strip_suffix('*')).filter_map(other).map(Some);
    exact.chain(open).chain([other(""), None]).collect()
}
