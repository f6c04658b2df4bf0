//! Whose run a store holds: one record, written before anything else.

use hivemind_core::store::{Prefix, ScanRequest};
use hivemind_core::{
    Error, ErrorKind, Once, Principal, Result, StateStore, StateStoreExt, TenantContext, TenantRef,
    Timestamp, transact,
};
use serde::{Deserialize, Serialize};

use super::Plan;

/// A run: what is done, and where its outside world is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The fingerprint of the plan.
    pub plan: String,
    /// The plan in words.
    pub what: String,
    /// The id of the outside world that belongs to it.
    pub world: String,
}

impl Run {
    /// The run of `plan` in the world of that id.
    ///
    /// # Errors
    /// None in practice: a plan can be written down.
    pub fn new(plan: &Plan, world: &str) -> Result<Self> {
        Ok(Self { plan: plan.fingerprint()?, what: plan.in_words(), world: world.to_owned() })
    }
}

fn once(now: Timestamp) -> Result<Once> {
    let invalid = |e| Error::of(ErrorKind::Internal, "claim", e);
    let operator = Principal::User("operator".parse().map_err(invalid)?);
    let ctx = TenantContext::new(TenantRef::system(), operator, "run".parse().map_err(invalid)?);
    Once::new(&ctx, "claim", now)
}

/// The run that `store` holds, if any.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if it holds something else; those of the store.
pub async fn held(store: &dyn StateStore) -> Result<Option<Run>> {
    if store.scan(&ScanRequest::new(Prefix::ROOT).limit(1)).await?.records.is_empty() {
        return Ok(None);
    }
    let view = store.snapshot(&[Once::prefix()?]).await?;
    let found = once(Timestamp::EPOCH)?.answer(&view)?.ok_or_else(|| {
        let message = "the store holds something else than a run of quickstart: use an empty one";
        Error::new(ErrorKind::AlreadyExists, "claim", message)
    })?;
    Ok(Some(found.value))
}

/// Makes `store` hold `run`, unless it holds one already; returns the one it holds.
///
/// # Errors
/// Those of the store.
pub async fn claim(store: &dyn StateStore, run: &Run, now: Timestamp) -> Result<Run> {
    Ok(transact(store, &once(now)?, &[], |_, _| Ok(run.clone())).await?.value)
}
