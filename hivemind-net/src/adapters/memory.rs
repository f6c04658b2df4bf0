//! A kernel in memory: holds what is applied, refuses what a kernel would refuse, and remembers what it was told.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use hivemind_core::{Effect, Error, ErrorKind, Result};

use crate::dataplane::state::Netns;
use crate::dataplane::{KernelState, Op};
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
                return Err(Error::of(ErrorKind::Conflict, "apply", stopped).with_effect(effect));
            }
            inner.log.push(op.clone());
        }
        Ok(())
    }
}
