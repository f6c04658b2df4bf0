//! The alert engine on a store: its state is a record like any other, so it survives restarts and is backed up.

use std::sync::Arc;

use hivemind_core::store::{Key, Prefix, Txn};
use hivemind_core::{Clock, Collection, Effect, Error, ErrorKind, Result, StateStore, StateStoreExt};

use crate::{AlertEngine, AlertState, Registry, Transition};

/// How often an evaluation is repeated when another replica evaluates at the same time.
const ATTEMPTS: u32 = 16;

/// Evaluates alerts on a registry's samples and keeps their state in the store.
///
/// Call [`tick`](Self::tick) every few seconds, on one replica or on all: each transition happens once, and is returned
/// by one of them; by two only if the reply to one was lost.
#[derive(Debug, Clone)]
pub struct AlertManager {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    registry: Registry,
    engine: AlertEngine,
}

fn states() -> Result<Collection<AlertState>> {
    let prefix =
        Prefix::new(["observe", "alerts"]).map_err(|e| Error::of(ErrorKind::Internal, "alerts", e))?;
    Ok(Collection::new(prefix))
}

fn state_key() -> Result<Key> {
    states()?.key(["state"])
}

impl AlertManager {
    /// Alerts by `engine` on the metrics of `registry`.
    pub fn new(
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        registry: Registry,
        engine: AlertEngine,
    ) -> Self {
        Self { store, clock, registry, engine }
    }

    /// What the alerts remember, by the store's newest state.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn state(&self) -> Result<AlertState> {
        let view = self.store.snapshot(&[states()?.prefix().clone()]).await?;
        let found = states()?.get(&view, &Txn::new(), &state_key()?)?;
        Ok(found.map(|state| (*state.value).clone()).unwrap_or_default())
    }

    /// Evaluates every rule once, on the samples of now.
    ///
    /// After an error with an unknown effect the totals in [`state`](Self::state) tell what fired.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tick(&self) -> Result<Vec<Transition>> {
        let (now, samples) = (self.clock.now(), self.registry.samples());
        let (states, key) = (states()?, state_key()?);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let view = self.store.snapshot(&[states.prefix().clone()]).await?;
            let mut txn = Txn::new();
            let old = states.get(&view, &txn, &key)?;
            let before = old.as_ref().map(|old| (*old.value).clone()).unwrap_or_default();
            let mut after = before.clone();
            let transitions = self.engine.evaluate(&mut after, now, &samples);
            if after == before {
                return Ok(transitions);
            }
            match &old {
                Some(old) => states.update(&mut txn, old, &after)?,
                None => states.create(&view, &mut txn, key.clone(), &after)?,
            }
            match self.store.commit(&txn).await {
                Ok(_) => return Ok(transitions),
                Err(e) if e.kind() == ErrorKind::Conflict && attempts < ATTEMPTS => {}
                // Did it happen? If the state reads as we left it, we or an equal decision did it.
                Err(e) if e.effect() == Effect::Unknown && attempts < ATTEMPTS => {
                    if self.state().await? == after {
                        return Ok(transitions);
                    }
                }
                Err(other) => return Err(other),
            }
        }
    }
}
