//! Roles and bindings. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::{
    AccessRequest, Error, GroupName, Principal, ResourceKind, Result, RoleName, Stored, TenantContext,
    TenantRef, Verb,
};
use serde::{Deserialize, Serialize};

/// The most rules of a role, and the most kinds and the most names in all of them.
const MAX_TERMS: usize = 256;

/// Whether a rule allows or denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "a rule allows or denies")]
pub enum Effect {
    /// What matches may be done, unless another rule denies it.
    Allow,
    /// What matches may not be done, whatever allows it.
    Deny,
}

/// What a role allows or denies. An empty set means all there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rule {
    /// Allows or denies.
    pub effect: Effect,
    /// Which verbs; empty for all.
    #[serde(default)]
    pub verbs: BTreeSet<Verb>,
    /// Which kinds of things; empty for all.
    #[serde(default)]
    pub kinds: BTreeSet<ResourceKind>,
    /// Which things by name; empty for all, and for those without a name yet. A `*` at the end stands for any rest.
    #[serde(default)]
    pub names: BTreeSet<String>,
}

impl Rule {
    /// Allows everything; narrow it down.
    pub fn allow() -> Self {
        Self { effect: Effect::Allow, verbs: BTreeSet::new(), kinds: BTreeSet::new(), names: BTreeSet::new() }
    }

    /// Denies everything; narrow it down.
    pub fn deny() -> Self {
        Self { effect: Effect::Deny, ..Self::allow() }
    }

    /// Only these verbs.
    #[must_use]
    pub fn verbs(mut self, verbs: impl IntoIterator<Item = Verb>) -> Self {
        self.verbs.extend(verbs);
        self
    }

    /// Only this kind, and others named so.
    #[must_use]
    pub fn kind(mut self, kind: ResourceKind) -> Self {
        self.kinds.insert(kind);
        self
    }

    /// Only the thing of this name, and others named so; `web-*` is every name that starts with `web-`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.names.insert(name.into());
        self
    }

    /// Whether it speaks of the kind, and the name, of `request`.
    pub(super) fn is_about(&self, request: &AccessRequest) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&request.kind))
            && (self.names.is_empty()
                || request.name.as_ref().is_some_and(|name| self.names.iter().any(|one| named(one, name))))
    }

    /// Whether it decides `request`.
    pub(super) fn matches(&self, request: &AccessRequest) -> bool {
        (self.verbs.is_empty() || self.verbs.contains(&request.verb)) && self.is_about(request)
    }
}

/// Whether `name` is meant by `pattern`: a name, or the start of one and `*`.
pub(super) fn named(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// Rules under a name: for every tenant, or one tenant's own. Where they act is up to the binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Role {
    /// The name, unique among the roles for every tenant, or among the tenant's own.
    pub name: RoleName,
    /// What it allows and denies.
    pub rules: Vec<Rule>,
    /// Whose own it is. It means nothing outside that tenant and the tenants below.
    #[serde(default)]
    pub tenant: Option<TenantRef>,
}

impl Stored for Role {
    const KIND: &'static str = "role";
}

impl Role {
    /// A role of these rules, for every tenant.
    pub fn new(name: RoleName, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { name, rules: rules.into_iter().collect(), tenant: None }
    }

    /// Succeeds if it is small enough: who hands it out is compared with it kind by kind and name by name.
    pub(crate) fn check(&self) -> Result<()> {
        let count = |of: fn(&Rule) -> usize| self.rules.iter().map(of).sum::<usize>();
        let sizes = [
            ("rules", self.rules.len()),
            ("kinds", count(|rule| rule.kinds.len())),
            ("names", count(|rule| rule.names.len())),
        ];
        match sizes.iter().find(|(_, size)| *size > MAX_TERMS) {
            Some((what, size)) => {
                let message = format!(
                    "role {} has {size} {what}, at most {MAX_TERMS} are allowed: split it",
                    self.name
                );
                Err(Error::invalid("put role", message))
            }
            None => Ok(()),
        }
    }

    /// The same as one tenant's own.
    #[must_use]
    pub fn of_tenant(mut self, tenant: TenantRef) -> Self {
        self.tenant = Some(tenant);
        self
    }
}

/// To whom a role is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Subject {
    /// One principal. A service account is named with its tenant and that tenant's generation.
    Principal(Principal),
    /// Everybody in a group.
    Group(GroupName),
}

impl Subject {
    /// Whether `ctx` is this subject.
    pub(crate) fn is(&self, ctx: &TenantContext) -> bool {
        match self {
            Self::Principal(principal) => principal == ctx.principal(),
            Self::Group(group) => ctx.groups().contains(group),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(principal) => principal.fmt(f),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// Where a role is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::exhaustive_enums, reason = "everywhere or in one tenant")]
pub enum Scope {
    /// In every tenant.
    Global,
    /// In one tenant of one generation.
    Tenant(TenantRef),
}

impl Scope {
    /// Its segment in keys; no tenant's name ends in `*`.
    pub(crate) fn segment(&self) -> String {
        match self {
            Self::Global => "*".to_owned(),
            Self::Tenant(tenant) => tenant.to_string(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("every tenant"),
            Self::Tenant(tenant) => write!(f, "tenant {}", tenant.id),
        }
    }
}
