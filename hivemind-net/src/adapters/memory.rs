//! A kernel in memory: holds what is applied, refuses what a kernel would refuse, and remembers what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use hivemind_core::{Effect, Error, Result};

use crate::dataplane::state::Netns;
use crate::dataplane::{Connection, KernelState, Op};
use crate::ports::dataplane::{Dataplane, Stopped};

/// A [`Dataplane`] without a kernel.
#[derive(Debug, Default)]
pub struct MemoryDataplane {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: KernelState,
    log: Vec<Op>,
    connections: BTreeMap<Netns, BTreeSet<Connection>>,
}

impl MemoryDataplane {
    /// An empty kernel.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it holds.
    pub fn state(&self) -> KernelState {
        self.locked().state.clone()
    }

    /// Every change that was made, in order.
    pub fn log(&self) -> Vec<Op> {
        self.locked().log.clone()
    }

    /// Changes something behind the caller's back: what an administrator, a crash or another program would do.
    pub fn tamper(&self, change: impl FnOnce(&mut KernelState)) {
        change(&mut self.locked().state);
    }

    /// From now on it keeps track of this connection.
    pub fn track(&self, netns: &Netns, connection: Connection) {
        self.locked().connections.entry(netns.clone()).or_default().insert(connection);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Dataplane for MemoryDataplane {
    async fn read(&self, _also: &BTreeSet<Netns>) -> Result<KernelState> {
        Ok(self.state())
    }

    async fn apply(&self, ops: &[Op]) -> Result<()> {
        let mut inner = self.locked();
        for (done, op) in ops.iter().enumerate() {
            if let Err(refused) = inner.state.apply(op) {
                let effect = if done == 0 { Effect::NotStarted } else { Effect::Unknown };
                let stopped = Stopped::new(done, ops.len(), op, refused.to_string());
                return Err(Error::of(refused.kind(), "apply", stopped).with_effect(effect));
            }
            inner.log.push(op.clone());
        }
        Ok(())
    }

    async fn connections(&self, netns: &Netns) -> Result<Vec<Connection>> {
        Ok(self.locked().connections.get(netns).into_iter().flatten().cloned().collect())
    }

    async fn forget(&self, netns: &Netns, connections: &[Connection]) -> Result<usize> {
        let mut inner = self.locked();
        let Some(tracked) = inner.connections.get_mut(netns) else { return Ok(0) };
        Ok(connections.iter().filter(|connection| tracked.remove(*connection)).count())
    }
}
