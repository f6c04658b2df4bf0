//! What a share is. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;

use hivemind_core::{
    AccessRequest, Error, ResourceKind, Result, Stored, TenantContext, TenantRef, Timestamp, Verb,
};
use serde::{Deserialize, Serialize};

/// The longest name of a shared thing, in bytes.
const MAX_NAME: usize = 256;

/// Names a share: whose things, to whom, which. There is one share at most of each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShareId {
    /// Whose things, of which generation.
    pub owner: TenantRef,
    /// Who is to have access, of which generation.
    pub recipient: TenantRef,
    /// To what kind of thing.
    pub kind: ResourceKind,
    /// To which one; `None` for all of the kind, also those to come.
    pub name: Option<String>,
}

impl ShareId {
    /// Everything of `kind` that `owner` has, to `recipient`.
    pub fn new(owner: TenantRef, recipient: TenantRef, kind: ResourceKind) -> Self {
        Self { owner, recipient, kind, name: None }
    }

    /// Only the thing called `name`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Its key within the collection: recipient, owner, kind, name.
    pub(super) fn segments(&self) -> [String; 4] {
        let name = match &self.name {
            None => "*".to_owned(),
            // The sign tells one thing called `*` from all things.
            Some(name) => format!("={}", name.replace('%', "%25").replace('/', "%2f")),
        };
        [self.recipient.to_string(), self.owner.to_string(), self.kind.to_string(), name]
    }

    /// Whether `tenant` is one of both sides.
    pub(super) fn concerns(&self, tenant: &TenantRef) -> bool {
        self.owner == *tenant || self.recipient == *tenant
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        write!(f, " of tenant {} with tenant {}", self.owner.id, self.recipient.id)
    }
}

/// What the tenant of a context offers to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShareOffer {
    /// To whom, of which generation.
    pub recipient: TenantRef,
    /// To what kind of thing.
    pub kind: ResourceKind,
    /// To which one; `None` for all of the kind, also those to come.
    pub name: Option<String>,
    /// What may be done with it; at least one, and neither grant nor impersonate.
    pub verbs: BTreeSet<Verb>,
    /// Until when; `None` until one side ends it.
    pub expires: Option<Timestamp>,
}

impl ShareOffer {
    /// `verbs` on everything of `kind`, to `recipient`, until one side ends it.
    pub fn new(recipient: TenantRef, kind: ResourceKind, verbs: impl IntoIterator<Item = Verb>) -> Self {
        Self { recipient, kind, name: None, verbs: verbs.into_iter().collect(), expires: None }
    }

    /// Only on the thing called `name`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only until `at`.
    #[must_use]
    pub fn until(mut self, at: Timestamp) -> Self {
        self.expires = Some(at);
        self
    }

    /// The offer as a share of `owner`.
    pub(super) fn by(&self, owner: &TenantRef, now: Timestamp) -> Result<Share> {
        let invalid = |message: String| Err(Error::invalid("offer share", message));
        let Self { recipient, kind, name, verbs, expires } = self.clone();
        if recipient == *owner || recipient == TenantRef::system() {
            return invalid(format!("tenant {} needs no share: name another tenant", recipient.id));
        }
        if verbs.is_empty() {
            return invalid("it allows nothing: name at least one verb".to_owned());
        }
        if let Some(verb) = verbs.iter().find(|verb| matches!(verb, Verb::Grant | Verb::Impersonate)) {
            return invalid(format!("{verb} cannot be shared: it would hand out more than things"));
        }
        if let Some(name) = name.as_ref().filter(|name| name.is_empty() || name.len() > MAX_NAME) {
            return invalid(format!("a name of {} bytes; allowed are 1 to {MAX_NAME}", name.len()));
        }
        if expires.is_some_and(|expires| expires <= now) {
            return invalid("it is over before it begins: give a later time".to_owned());
        }
        let id = ShareId { owner: owner.clone(), recipient, kind, name };
        Ok(Share { id, verbs, expires, offered_at: now, accepted_at: None })
    }
}

/// How a share stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ShareStanding {
    /// The recipient has not accepted it: nothing may be done by it.
    Offered,
    /// Both sides agree.
    InForce,
    /// Its time is over.
    Expired,
}

/// Access of one tenant to things of another, by the consent of both.
///
/// It does not say who agreed on either side: the audit log of each side does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Share {
    /// Whose things, to whom, which.
    pub id: ShareId,
    /// What may be done with them.
    pub verbs: BTreeSet<Verb>,
    /// Until when; `None` until one side ends it.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// When the owner offered it.
    pub offered_at: Timestamp,
    /// When the recipient accepted it.
    #[serde(default)]
    pub accepted_at: Option<Timestamp>,
}

impl Stored for Share {
    const KIND: &'static str = "share";
}

impl Share {
    /// How it stands at `now`. Without a time, what expires counts as expired.
    pub fn standing(&self, now: Option<Timestamp>) -> ShareStanding {
        let over = self.expires.is_some_and(|expires| now.is_none_or(|now| expires <= now));
        match self.accepted_at {
            _ if over => ShareStanding::Expired,
            Some(_) => ShareStanding::InForce,
            None => ShareStanding::Offered,
        }
    }

    /// Whether it allows `request` in the circumstances of `ctx`, if both tenants are there.
    pub(super) fn allows(&self, ctx: &TenantContext, request: &AccessRequest) -> bool {
        let it = self.id.name.is_none() || self.id.name == request.name;
        let these = self.id.recipient == *ctx.tenant() && self.id.kind == request.kind && it;
        these && self.verbs.contains(&request.verb) && self.standing(ctx.at()) == ShareStanding::InForce
    }

    /// Whether both offer the same: who agreed to one agreed to the other.
    pub(super) fn same_terms(&self, other: &Self) -> bool {
        self.id == other.id && self.verbs == other.verbs && self.expires == other.expires
    }

    /// What it allows, for the record.
    pub(super) fn terms(&self) -> String {
        let verbs: Vec<_> = self.verbs.iter().map(ToString::to_string).collect();
        match self.expires {
            Some(expires) => format!("{} until {expires}", verbs.join(", ")),
            None => format!("{} until it is ended", verbs.join(", ")),
        }
    }
}
