//! The alert engine on a store: its state is records like any other, so it survives restarts and is backed up.

use std::collections::BTreeMap;
use std::sync::Arc;

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    AlertName, Clock, Collection, Effect, Error, ErrorKind, Result, StateStore, StateStoreExt, Timestamp,
};

use crate::alert::RuleState;
use crate::notify::Alert;
use crate::{AlertEngine, AlertState, Registry, Sample, Transition};

/// How often an evaluation is repeated when another replica evaluates at the same time.
const ATTEMPTS: u32 = 16;
/// How many rules change in one transaction.
const RULES: usize = 50;

/// Evaluates alerts on a registry's samples and keeps their state in the store, a record for each rule.
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

fn states() -> Result<Collection<RuleState>> {
    let prefix =
        Prefix::new(["observe", "alerts"]).map_err(|e| Error::of(ErrorKind::Internal, "alerts", e))?;
    Ok(Collection::new(prefix))
}

fn read(view: &Snapshot) -> Result<AlertState> {
    let mut rules = BTreeMap::new();
    let states = states()?;
    for record in states.list(view, &Txn::new(), states.prefix())? {
        let name = record.stored_at.segments().next_back().and_then(|name| std::str::from_utf8(name).ok());
        let name = name.and_then(|name| name.parse::<AlertName>().ok());
        let Some(name) = name else {
            let what = format!("{} is not the name of an alert", record.stored_at);
            return Err(Error::new(ErrorKind::Corrupt, "alerts", what));
        };
        rules.insert(name, (*record.value).clone());
    }
    Ok(AlertState { rules })
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
        read(&self.store.snapshot(&[states()?.prefix().clone()]).await?)
    }

    /// All that fires, by the store's newest state: what [`NotifyLoop`](crate::notify::NotifyLoop) tells of.
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
        let states = states()?;
        let view = self.store.snapshot(&[states.prefix().clone()]).await?;
        let before = read(&view)?;
        let mut after = before.clone();
        let transitions = self.engine.evaluate(&mut after, now, samples);
        let changed: Vec<_> =
            after.rules.iter().filter(|(name, state)| before.rules.get(*name) != Some(*state)).collect();
        let Some(some) = changed.chunks(RULES).next() else { return Ok(false) };
        let mut txn = Txn::new();
        for (name, state) in some {
            let key = states.key([name.as_str()])?;
            match states.get(&view, &txn, &key)? {
                Some(old) => states.update(&mut txn, &old, state)?,
                None => states.create(&view, &mut txn, key, state)?,
            }
        }
        match self.store.commit(&txn).await {
            Ok(_) => {}
            // Did it happen? If the state reads as we left it, we or an equal decision did it.
            Err(e) if e.effect() == Effect::Unknown => {
                let now_there = self.state().await?;
                if !some.iter().all(|(name, state)| now_there.rules.get(*name) == Some(*state)) {
                    return Err(
                        Error::new(ErrorKind::Conflict, "tick", "the state of alerts changed").with_source(e)
                    );
                }
            }
            Err(other) => return Err(other),
        }
        told.extend(transitions.into_iter().filter(|one| some.iter().any(|(name, _)| **name == one.rule)));
        Ok(changed.len() > some.len())
    }
}
