//! May this principal do that?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::store::Snapshot;
use crate::{Error, ErrorKind, InvalidName, Namespace, Result, TenantContext};

/// What a principal wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Verb {
    /// Read one.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// Make one.
    Create,
    /// Change one.
    Update,
    /// Remove one.
    Delete,
    /// Put one to use: mount a volume, run on a node, use a key.
    Use,
    /// Hand out a role.
    Grant,
    /// Act in the name of another principal.
    Impersonate,
}

impl Verb {
    /// Every verb there is, in order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Use,
        Self::Grant,
        Self::Impersonate,
    ];
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Use => "use",
            Self::Grant => "grant",
            Self::Impersonate => "impersonate",
        })
    }
}

/// The kind of a thing, in the plural as in Kubernetes: `apps`, `volumes`. A DNS label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceKind(Namespace);

impl ResourceKind {
    /// The kind as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ResourceKind {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One thing that a principal wants to do, in the tenant of the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccessRequest {
    /// What to do.
    pub verb: Verb,
    /// To what kind of thing.
    pub kind: ResourceKind,
    /// To which one; `None` for all, or for one that has no name yet.
    pub name: Option<String>,
    /// The labels it has, or would have.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl AccessRequest {
    /// `verb` on things of `kind`.
    pub fn new(verb: Verb, kind: ResourceKind) -> Self {
        Self { verb, kind, name: None, labels: Labels::new() }
    }

    /// On the one called `name`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// On one with these labels.
    #[must_use]
    pub fn labelled(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }
}

impl fmt::Display for AccessRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.kind)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// Yes or no, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AccessDecision {
    /// Whether it may be done.
    pub allowed: bool,
    /// The rules that decided, or what is missing; one sentence each.
    pub because: Vec<String>,
}

impl AccessDecision {
    /// Yes, for these reasons.
    pub fn allow(because: impl IntoIterator<Item = String>) -> Self {
        Self { allowed: true, because: because.into_iter().collect() }
    }

    /// No, for these reasons.
    pub fn deny(because: impl IntoIterator<Item = String>) -> Self {
        Self { allowed: false, because: because.into_iter().collect() }
    }

    /// The decision as a result, for `?`.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] with [`Denied`] as detail.
    pub fn into_result(self, ctx: &TenantContext, request: &AccessRequest) -> Result<()> {
        if self.allowed {
            return Ok(());
        }
        let detail = Denied { ctx: Box::new(ctx.clone()), request: request.clone(), because: self.because };
        Err(Error::of(ErrorKind::Denied, "authorize", detail))
    }
}

/// Who was denied what, and why. Detail of a [`Denied`](ErrorKind::Denied) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} may not {request} in tenant {}: {}", .ctx.principal(), .ctx.tenant().id, .because.join("; "))]
#[non_exhaustive]
pub struct Denied {
    /// Who asked, where.
    pub ctx: Box<TenantContext>,
    /// For what.
    pub request: AccessRequest,
    /// Why not; one sentence each.
    pub because: Vec<String>,
}

/// Decides whether a principal may do something.
///
/// # Contract
///
/// Pure and fast: a function of `view` and the adapter's own policy, without I/O. What nothing allows is denied. A
/// broken policy denies. The answer names the rules that decided.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// May `ctx` do `request`, by the state in `view`?
    fn authorize(&self, view: &Snapshot, ctx: &TenantContext, request: &AccessRequest) -> AccessDecision;
}

#[cfg(test)]
mod tests {
    use super::Verb;

    #[test]
    fn all_verbs_are_listed_once_and_in_order() {
        // A new verb does not compile here until it is listed.
        let place = |verb: Verb| match verb {
            Verb::Get => 0,
            Verb::List => 1,
            Verb::Watch => 2,
            Verb::Create => 3,
            Verb::Update => 4,
            Verb::Delete => 5,
            Verb::Use => 6,
            Verb::Grant => 7,
            Verb::Impersonate => 8,
        };
        let places: Vec<_> = Verb::ALL.iter().map(|verb| place(*verb)).collect();
        assert_eq!(places, (0..9).collect::<Vec<_>>());
    }
}
