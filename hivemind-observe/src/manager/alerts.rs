//! The alert engine on a store: its state is records like any other, so it survives restarts and is backed up.

use std::sync::Arc;

use hivemind_core::{Clock, Error, ErrorKind, Result, StateStore, Timestamp};

use super::records::{Named, Records};
use crate::alert::RuleState;
use crate::notify::Alert;
use crate::{AlertEngine, AlertState, Registry, Sample, Transition};

/// How often an evaluation is repeated when another replica evaluates at the same time.
const ATTEMPTS: u32 = 16;

/// Evaluates alerts on a registry's samples and keeps their state in the store, a record for each rule.
///
/// Call [`tick`](Self::tick) every few seconds, on the replica that leads: what its registry does not have is gone for it. On several only if all
/// of them measure the same. Each transition happens once, and is returned by one of them; by two only if the reply to one was lost.
#[derive(Debug, Clone)]
pub struct AlertManager {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    registry: Registry,
    engine: AlertEngine,
}

fn state_of(records: Named<RuleState>) -> Result<AlertState> {
    let named = records.into_iter().map(|(name, state)| match name.parse() {
        Ok(name) => Ok((name, state)),
        Err(e) => Err(Error::of(ErrorKind::Corrupt, "alerts", e)),
    });
    Ok(AlertState { rules: named.collect::<Result<_>>()? })
}

fn records_of(state: &AlertState) -> Named<RuleState> {
    state.rules.iter().map(|(name, state)| (name.to_string(), state.clone())).collect()
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

    fn records(&self) -> Result<Records<RuleState>> {
        Records::of(&self.store, "alerts")
    }

    /// What the alerts remember, by the store's newest state.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn state(&self) -> Result<AlertState> {
        state_of(self.records()?.read().await?.1)
    }

    /// All that fires, by the store's newest state: what [`NotifyLoop`](crate::NotifyLoop) tells of.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn firing(&self) -> Result<Vec<Alert>> {
        Ok(self.engine.firing(&self.state().await?))
    }

    /// Evaluates every rule once, on the samples of now.
    ///
    /// After an error some rules may have been brought up to now, and what they did is told by nobody; the totals in
    /// [`state`](Self::state) count it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn tick(&self) -> Result<Vec<Transition>> {
        let (now, samples) = (self.clock.now(), self.registry.samples());
        let mut told = Vec::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.step(now, &samples, &mut told).await {
                Ok(false) => return Ok(told),
                Ok(true) => attempts = 0,
                Err(e) if attempts < ATTEMPTS && e.kind() == ErrorKind::Conflict => {}
                Err(other) => return Err(other),
            }
        }
    }

    /// Brings some rules up to `now`; tells whether there may be more.
    async fn step(&self, now: Timestamp, samples: &[Sample], told: &mut Vec<Transition>) -> Result<bool> {
        let records = self.records()?;
        let (view, before) = records.read().await?;
        let mut state = state_of(before.clone())?;
        let transitions = self.engine.evaluate(&mut state, now, samples);
        let done = records.commit(&view, &before, &records_of(&state)).await?;
        told.extend(transitions.into_iter().filter(|one| done.contains(one.rule.as_str())));
        Ok(!done.is_empty())
    }
}
