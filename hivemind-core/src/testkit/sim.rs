//! A single-threaded executor with virtual time: the seed decides which ready task goes next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::SimRng;
use super::sim_task::{SimTask, task};
use crate::{BoxFuture, Clock, IdSource, Runtime, SeededIds, Timestamp};

/// When a simulation begins: not zero, so that code which mistakes the epoch for "never" is found.
const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const MAX_STEPS: u64 = 1_000_000;

/// A deterministic simulation: virtual time, seeded ids, a seeded scheduler, one thread.
///
/// At each step the seed picks one of the tasks that are ready. When none is, the clock jumps to the next timer. The
/// same seed gives the same schedule, which [`trace_hash`](Self::trace_hash) proves; a failing seed can be replayed.
/// Nothing outside may wake a task: use only the simulation's own [`clock`](Self::clock) and
/// [`runtime`](Self::runtime).
///
/// ```
/// use hivemind_core::testkit::Sim;
/// use std::time::Duration;
///
/// let sim = Sim::new(7);
/// let (clock, runtime) = (sim.clock(), sim.runtime());
/// let began = clock.now();
/// let waited = sim.run(async {
///     runtime.sleep(Duration::from_secs(3600)).await;
///     clock.now().since(began)
/// })?;
/// assert_eq!(waited, Duration::from_secs(3600));
/// # Ok::<(), hivemind_core::testkit::Stuck>(())
/// ```
#[derive(Debug)]
pub struct Sim {
    core: Arc<Core>,
    ids: Arc<SeededIds>,
    max_steps: u64,
}

/// A simulation came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stuck {
    /// No task is ready and no timer is set.
    #[error("seed {seed}: after {steps} steps all {tasks} tasks wait for something that nothing will do")]
    Deadlock {
        /// The seed that replays it.
        seed: u64,
        /// How many polls there were.
        steps: u64,
        /// How many tasks wait.
        tasks: usize,
    },
    /// The step bound was reached.
    #[error("seed {seed}: no end after {steps} steps: a livelock, or raise the bound with with_max_steps")]
    Livelock {
        /// The seed that replays it.
        seed: u64,
        /// How many polls there were.
        steps: u64,
    },
}

struct Core {
    seed: u64,
    state: Mutex<State>,
}

struct State {
    now: Timestamp,
    schedule: SimRng,
    forks: SimRng,
    next_id: u64,
    /// Spawned and not yet seen by the loop.
    spawned: Vec<(u64, BoxFuture<'static, ()>)>,
    ready: BTreeSet<u64>,
    timers: BTreeMap<(Timestamp, u64), Waker>,
    steps: u64,
    trace: u64,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        let mut state = self.lock();
        let id = state.fresh_id();
        state.spawned.push((id, future));
        state.ready.insert(id);
    }
}

impl State {
    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes the next task to poll, and notes it in the trace.
    fn pick(&mut self) -> Option<u64> {
        let nth = self.schedule.below(u64::try_from(self.ready.len()).unwrap_or(u64::MAX));
        let id = *self.ready.iter().nth(usize::try_from(nth).unwrap_or_default())?;
        self.ready.remove(&id);
        self.steps += 1;
        for word in [id, self.now.as_nanos()] {
            self.trace = SimRng::new(self.trace ^ word).next_u64();
        }
        Some(id)
    }

    /// The timers that are due, jumping to the next one if `idle`.
    fn due(&mut self, idle: bool) -> Vec<Waker> {
        if idle && let Some((at, _)) = self.timers.keys().next() {
            self.now = self.now.max(*at);
        }
        let later = self.timers.split_off(&(Timestamp::from_nanos(self.now.as_nanos().saturating_add(1)), 0));
        std::mem::replace(&mut self.timers, later).into_values().collect()
    }
}

struct TaskWaker {
    core: Arc<Core>,
    id: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.core.lock().ready.insert(self.id);
    }
}

impl Sim {
    /// The simulation of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut root = SimRng::new(seed);
        let state = State {
            now: START,
            schedule: root.fork(),
            forks: root.fork(),
            next_id: 0,
            spawned: Vec::new(),
            ready: BTreeSet::new(),
            timers: BTreeMap::new(),
            steps: 0,
            trace: 0,
        };
        let ids = Arc::new(SeededIds::new(root.next_u64()));
        Self { core: Arc::new(Core { seed, state: Mutex::new(state) }), ids, max_steps: MAX_STEPS }
    }

    /// Gives up after `steps` polls in all; a million unless told.
    #[must_use]
    pub fn with_max_steps(mut self, steps: u64) -> Self {
        self.max_steps = steps;
        self
    }

    /// The virtual clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SimClock(Arc::clone(&self.core)))
    }

    /// Sleeps in virtual time, and spawns into this simulation.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(SimRuntime(Arc::clone(&self.core)))
    }

    /// The simulation's ids: each call gives the same source, so that no id repeats.
    pub fn ids(&self) -> Arc<dyn IdSource> {
        Arc::clone(&self.ids) as Arc<dyn IdSource>
    }

    /// A generator by the seed; each call gives another one.
    pub fn rng(&self) -> SimRng {
        self.core.lock().forks.fork()
    }

    /// Starts a task that goes on while [`run`](Self::run) does; await the handle for its output.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> SimTask<T> {
        let (work, handle) = task(future);
        self.core.spawn(Box::pin(work));
        handle
    }

    /// How many polls there were.
    pub fn steps(&self) -> u64 {
        self.core.lock().steps
    }

    /// A number that stands for the whole schedule: which task was polled when, in order.
    pub fn trace_hash(&self) -> u64 {
        self.core.lock().trace
    }

    /// Drives `main` and every spawned task until `main` is done, and drops the tasks that are not.
    ///
    /// Can be called again: time goes on where it was.
    ///
    /// # Errors
    /// [`Stuck`] if nothing can ever happen again, or if too much does.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> Result<T, Stuck> {
        let mut tasks = BTreeMap::new();
        let outcome = self.drive(pin!(main), &mut tasks);
        // Outside the lock, and again while dropping spawns more: a dropped task may call the runtime.
        drop(tasks);
        loop {
            let left = std::mem::take(&mut self.core.lock().spawned);
            if left.is_empty() {
                return outcome;
            }
        }
    }

    fn drive<T>(
        &self,
        mut main: Pin<&mut impl Future<Output = T>>,
        tasks: &mut BTreeMap<u64, Task>,
    ) -> Result<T, Stuck> {
        let main_id = self.core.lock().fresh_id();
        let main_waker = self.waker(main_id);
        main_waker.wake_by_ref();
        loop {
            let Some(id) = self.next(tasks)? else { continue };
            if id == main_id {
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                    return Ok(output);
                }
            } else if let Some(task) = tasks.get_mut(&id)
                && task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready()
            {
                tasks.remove(&id);
            }
        }
    }

    /// Adopts what was spawned, fires what is due, and picks; `None` if timers were fired instead.
    fn next(&self, tasks: &mut BTreeMap<u64, Task>) -> Result<Option<u64>, Stuck> {
        let (seed, mut state) = (self.core.seed, self.core.lock());
        for (id, future) in std::mem::take(&mut state.spawned) {
            tasks.insert(id, Task { future, waker: self.waker(id) });
        }
        let idle = state.ready.is_empty();
        let due = state.due(idle);
        if !due.is_empty() {
            drop(state);
            due.into_iter().for_each(Waker::wake);
            return Ok(None);
        }
        if state.steps >= self.max_steps {
            return Err(Stuck::Livelock { seed, steps: state.steps });
        }
        match state.pick() {
            Some(id) => Ok(Some(id)),
            None => Err(Stuck::Deadlock { seed, steps: state.steps, tasks: tasks.len() + 1 }),
        }
    }

    fn waker(&self, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { core: Arc::clone(&self.core), id }))
    }
}

struct Task {
    future: BoxFuture<'static, ()>,
    waker: Waker,
}

#[derive(Debug)]
struct SimClock(Arc<Core>);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.0.lock().now
    }
}

#[derive(Debug)]
struct SimRuntime(Arc<Core>);

impl Runtime for SimRuntime {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { core: Arc::clone(&self.0), duration, timer: None })
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.0.spawn(future);
    }
}

/// Registered at its first poll, forgotten when dropped. Even a sleep of zero lets others go first.
struct Sleep {
    core: Arc<Core>,
    duration: Duration,
    timer: Option<(Timestamp, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let core = Arc::clone(&self.core);
        let mut state = core.lock();
        let timer = match self.timer {
            Some((at, _)) if state.now >= at => return Poll::Ready(()),
            Some(timer) => timer,
            None => (state.now.after(self.duration), state.fresh_id()),
        };
        self.timer = Some(timer);
        // The end of time never comes.
        let replaced =
            if timer.0 < Timestamp::MAX { state.timers.insert(timer, context.waker().clone()) } else { None };
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let forgotten = self.timer.and_then(|timer| self.core.lock().timers.remove(&timer));
        // Outside the lock: the waker may be the last owner of something.
        drop(forgotten);
    }
}
