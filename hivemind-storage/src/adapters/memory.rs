//! Volumes in a map, with content, so that snapshots and clones can be told from empty ones.

mod journal;
mod node;
mod provider;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hivemind_core::resources::ByteSize;
use hivemind_core::{
    Clock, Effect, Error, ErrorKind, OpToken, Pending, Progress, ProviderName, Result, Retry, Timestamp,
};

use self::journal::Subject;
pub use self::journal::{MemoryChange, MemoryJournal};
pub use self::node::MemoryNode;
use self::state::State;
pub use self::state::{MemoryGroup, MemoryHold, MemorySnapshot, MemoryVolume};
use crate::{Capabilities, NodeHandle, Topology, VolumeCondition, VolumeRef};

/// Volumes in a map: for tests, examples and simulation.
///
/// Shared by an `Arc` it outlives a control plane that crashes, as real storage does. With a
/// [journal](Self::with_journal) it outlives the process. Encryption and replicas are accepted and change nothing.
#[derive(Debug)]
pub struct MemoryProvider {
    name: ProviderName,
    capabilities: Capabilities,
    capacity: Option<ByteSize>,
    step: Option<ByteSize>,
    /// The places it has; empty for everywhere.
    places: Vec<Topology>,
    clock: Option<Arc<dyn Clock>>,
    /// One in n mutating calls loses its reply, and one in n is pending at first; zero for never.
    lose_every: u64,
    delay_every: u64,
    journal: Option<Arc<dyn MemoryJournal>>,
    state: Mutex<State>,
}

impl MemoryProvider {
    /// A provider without volumes and without bounds, which can do everything, everywhere: see
    /// [`with_places`](Self::with_places).
    pub fn new(name: ProviderName) -> Self {
        Self {
            name,
            capabilities: provider::everything(),
            capacity: None,
            step: None,
            places: Vec::new(),
            clock: None,
            lose_every: 0,
            delay_every: 0,
            journal: None,
            state: Mutex::default(),
        }
    }

    /// The provider that these changes lead to, made one after the other.
    pub fn restored(name: ProviderName, changes: impl IntoIterator<Item = MemoryChange>) -> Self {
        let mut state = State::default();
        changes.into_iter().for_each(|change| state.apply(change));
        Self { state: Mutex::new(state), ..Self::new(name) }
    }

    /// From now on every change is written to `journal` before anybody hears of it.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn MemoryJournal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// The fewest changes that lead here, in the order of keys.
    pub fn changes(&self) -> Vec<MemoryChange> {
        self.lock().all()
    }

    /// With room for so much; beyond it creation fails with [`ErrorKind::Exhausted`].
    #[must_use]
    pub fn with_capacity(mut self, capacity: ByteSize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// With volumes of whole steps: what is asked for is rounded up, where that is allowed.
    #[must_use]
    pub fn in_steps_of(mut self, step: ByteSize) -> Self {
        self.step = Some(step);
        self
    }

    /// Able to do this, and no more.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// With volumes in these places, each in one of them, instead of everywhere.
    #[must_use]
    pub fn with_places(mut self, places: impl IntoIterator<Item = Topology>) -> Self {
        self.places = places.into_iter().collect();
        self
    }

    /// With the time of this clock in snapshots; without one they count calls.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// About one in `n` mutating calls happens and fails with an unknown effect; zero for none.
    #[must_use]
    pub fn losing_one_in(mut self, n: u64) -> Self {
        self.lose_every = n;
        self
    }

    /// About one in `n` mutating calls is pending the first time it is made; zero for none.
    #[must_use]
    pub fn delaying_one_in(mut self, n: u64) -> Self {
        self.delay_every = n;
        self
    }

    /// Writes the whole content of a volume, as a workload on `node` would.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the volume is not on that node, for writing; [`ErrorKind::Exhausted`] if it has no
    /// room for so much; those of the journal.
    pub fn write(&self, volume: &VolumeRef, node: &NodeHandle, content: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let found = state.volume_mut("write", volume)?;
        // Without attaching, every node has every volume.
        let everywhere = !self.capabilities.has(crate::Capability::Attach);
        if !everywhere && !found.nodes.get(node).is_some_and(MemoryHold::writes) {
            let message = format!("volume {} is not on node {node}, or not for writing", volume.key.volume);
            return Err(Error::new(ErrorKind::Conflict, "write", message));
        }
        if content.len() > usize::try_from(found.size.as_bytes()).unwrap_or(usize::MAX) {
            let message = format!("volume {} has room for no more than {}", volume.key.volume, found.size);
            return Err(Error::new(ErrorKind::Exhausted, "write", message));
        }
        found.content = content.to_vec();
        self.record(&state, &[Subject::Volume(volume.key.clone())])
    }

    /// The whole content of a volume.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such volume.
    pub fn content(&self, volume: &VolumeRef) -> Result<Vec<u8>> {
        Ok(self.lock().volume("content", volume)?.content.clone())
    }

    /// Makes the provider say from now on that a volume is in this condition.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such volume; those of the journal.
    pub fn set_condition(&self, volume: &VolumeRef, condition: VolumeCondition) -> Result<()> {
        let mut state = self.lock();
        state.volume_mut("set_condition", volume)?.condition = condition;
        self.record(&state, &[Subject::Volume(volume.key.clone())])
    }

    /// How many mutating calls were made so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, state: &State) -> Timestamp {
        self.clock.as_ref().map_or_else(|| Timestamp::from_nanos(state.calls), |clock| clock.now())
    }

    fn record(&self, state: &State, subjects: &[Subject]) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        for subject in subjects {
            // It has happened already, so whoever repeats it writes it down again.
            let written = journal.record(&state.now(subject));
            written.map_err(|e| e.with_effect(Effect::Unknown).with_retry(Retry::Later))?;
        }
        Ok(())
    }

    /// Does `change` to `subjects` as one call, with the faults that are set up.
    fn call<T>(
        &self,
        operation: &'static str,
        token: &OpToken,
        subjects: &[Subject],
        change: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<Progress<T>> {
        let mut state = self.lock();
        state.calls += 1;
        // Scattered over the calls, so that no caller can fall into step with the faults.
        let scattered = state.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let nth = |every: u64| every > 0 && scattered.is_multiple_of(every);
        let (lost, delayed) = (nth(self.lose_every), nth(self.delay_every));
        if delayed && state.delayed.insert(token.clone()) {
            return Ok(Progress::Pending(Pending::new(token.clone(), Duration::from_secs(1))));
        }
        let done = change(&mut state)?;
        let touched = std::mem::take(&mut state.touched);
        self.record(&state, &[subjects, &touched].concat())?;
        if lost {
            let error = Error::new(ErrorKind::Unavailable, operation, "the reply was lost");
            return Err(error.with_effect(Effect::Unknown).with_retry(Retry::Later));
        }
        Ok(Progress::Ready(done))
    }

    fn room(&self, state: &State, more: ByteSize) -> Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let used = state.provisioned();
        if used.checked_add(more).is_some_and(|total| total <= capacity) {
            return Ok(());
        }
        let message = format!("{} asks for {more}, of {capacity} there are {used} in use", self.name);
        Err(Error::new(ErrorKind::Exhausted, "create_volume", message))
    }
}
