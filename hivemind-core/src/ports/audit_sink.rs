//! Who did what, for the record.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{AccessRequest, Result, TenantContext, Timestamp};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
    /// It failed.
    Failed,
}

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// Who, for which tenant, in which request.
    pub ctx: TenantContext,
    /// What was asked.
    pub request: AccessRequest,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// Why, one sentence each; no secrets.
    pub because: Vec<String>,
}

impl AuditEvent {
    /// `ctx` asked for `request` at `at`, and it ended in `outcome`.
    pub fn new(at: Timestamp, ctx: TenantContext, request: AccessRequest, outcome: AuditOutcome) -> Self {
        Self { at, ctx, request, outcome, because: Vec::new() }
    }

    /// With reasons.
    #[must_use]
    pub fn because(mut self, because: Vec<String>) -> Self {
        self.because = because;
        self
    }
}

/// Keeps audit events.
///
/// # Contract
///
/// When `append` returns, the event is kept as safely as the adapter can. Events of one caller stay in order.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AuditSink: fmt::Debug + Send + Sync + 'static {
    /// Keeps `event`.
    async fn append(&self, event: &AuditEvent) -> Result<()>;
}
