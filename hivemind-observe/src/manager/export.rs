//! Ended spans go out: in batches, again after a failure, and never more than are kept.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hivemind_core::{Clock, Error, ErrorKind, Result, Retry, Runtime, Timestamp};

use crate::SpanExporter;
use crate::trace::{Attributes, SpanData, Tracer};

/// How spans are exported.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ExportOptions {
    /// What the process is: OpenTelemetry's resource, such as `service.name`.
    pub resource: Attributes,
    /// How many spans go out at once.
    pub batch: usize,
    /// How often a batch is tried before it is dropped.
    pub attempts: u32,
    /// How long it waits after the first failure, and at most; it doubles each time.
    pub pauses: (Duration, Duration),
}

impl Default for ExportOptions {
    /// 512 spans at once, up to 10 times, after 1 to 60 seconds.
    fn default() -> Self {
        let pauses = (Duration::from_secs(1), Duration::from_secs(60));
        Self { resource: Attributes::new(), batch: 512, attempts: 10, pauses }
    }
}

impl ExportOptions {
    /// What the process is.
    #[must_use]
    pub fn with_resource(mut self, resource: Attributes) -> Self {
        self.resource = resource;
        self
    }

    /// How many spans go out at once; none is one.
    #[must_use]
    pub fn with_batch(mut self, spans: usize) -> Self {
        self.batch = spans.max(1);
        self
    }

    /// How often a batch is tried before it is dropped; never is once.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}

/// Takes ended spans from a [`Tracer`] to a [`SpanExporter`]. Nothing is spawned: the host calls [`tick`](Self::tick), or
/// [`run`](Self::run), and [`drain`](Self::drain) at the end, for as long as it wants to wait.
#[derive(Debug)]
pub struct ExportLoop {
    tracer: Tracer,
    clock: Arc<dyn Clock>,
    exporter: Arc<dyn SpanExporter>,
    options: ExportOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A batch that is on its way, or waits to be tried again.
    pending: Option<Pending>,
    /// Somebody is at it.
    busy: bool,
}

#[derive(Debug, Clone)]
struct Pending {
    spans: Arc<[SpanData]>,
    /// How often it was tried; a try that was dropped half-way counts.
    tried: u32,
    /// Not before.
    due: Timestamp,
}

/// Gives the turn back, also if the future is dropped.
struct Turn<'a>(&'a ExportLoop);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().busy = false;
    }
}

impl ExportLoop {
    /// With the default options.
    pub fn new(tracer: Tracer, clock: Arc<dyn Clock>, exporter: Arc<dyn SpanExporter>) -> Self {
        Self::with_options(tracer, clock, exporter, ExportOptions::default())
    }

    /// With other options.
    pub fn with_options(
        tracer: Tracer,
        clock: Arc<dyn Clock>,
        exporter: Arc<dyn SpanExporter>,
        options: ExportOptions,
    ) -> Self {
        Self { tracer, clock, exporter, options, state: Mutex::default() }
    }

    /// Exports one batch, if there is one and it is due; tells how many spans went out. Of several ticks at one time one
    /// does something.
    ///
    /// # Errors
    /// Those of the exporter. The batch is tried again when it is due, or was dropped and counted as `refused` or
    /// `given_up`.
    pub async fn tick(&self) -> Result<usize> {
        self.step(false).await
    }

    /// Exports all that waits, whether it is due or not, until the first failure. A host that wants to wait only so long
    /// drops the future: what was not sent by then is still there.
    ///
    /// # Errors
    /// Those of the exporter, as of [`tick`](Self::tick); [`ErrorKind::Unavailable`] if another call is at it, and will not be waited for.
    pub async fn drain(&self) -> Result<usize> {
        let mut sent = 0;
        loop {
            match self.step(true).await? {
                0 => return Ok(sent),
                some => sent += some,
            }
        }
    }

    /// Exports whatever waits every `interval`, until `shutdown` is ready; then drains once. Failures are tried again.
    pub async fn run(&self, runtime: &dyn Runtime, interval: Duration, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut round = pin!(async {
                while matches!(self.tick().await, Ok(1..)) {}
                runtime.sleep(interval).await;
            });
            let stopped = std::future::poll_fn(|context| {
                if shutdown.as_mut().poll(context).is_ready() {
                    return Poll::Ready(true);
                }
                round.as_mut().poll(context).map(|()| false)
            });
            if stopped.await {
                break;
            }
        }
        // What fails now stays, for a host that goes on.
        let _ = self.drain().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn step(&self, at_once: bool) -> Result<usize> {
        let Some((batch, _turn)) = self.begin(at_once) else {
            if at_once && self.state().busy {
                return Err(Error::new(ErrorKind::Unavailable, "export", "another export is under way"));
            }
            return Ok(0);
        };
        let sent = self.exporter.export(&self.options.resource, &batch).await;
        let Err(error) = sent else {
            self.state().pending = None;
            return Ok(batch.len());
        };
        self.failed(&batch, &error);
        Err(error)
    }

    /// The next batch, and the turn to send it.
    fn begin(&self, at_once: bool) -> Option<(Arc<[SpanData]>, Turn<'_>)> {
        let now = self.clock.now();
        let mut state = self.state();
        if state.busy {
            return None;
        }
        let mut pending = match state.pending.take() {
            Some(pending) => pending,
            None => {
                let spans = self.tracer.take(self.options.batch);
                let first = Pending { spans: spans.into(), tried: 0, due: now };
                Some(first).filter(|first| !first.spans.is_empty())?
            }
        };
        let due = at_once || pending.due <= now;
        if due {
            pending.tried = pending.tried.saturating_add(1);
            // Should the future be dropped, it is tried again like after a failure.
            pending.due = now.after(self.pause(pending.tried));
        }
        let batch = pending.spans.clone();
        state.pending = Some(pending);
        state.busy = due;
        due.then(|| (batch, Turn(self)))
    }

    fn failed(&self, batch: &[SpanData], error: &Error) {
        let mut state = self.state();
        let Some(pending) = &mut state.pending else { return };
        let reason = if error.retry() == Retry::Never {
            "refused"
        } else if pending.tried >= self.options.attempts {
            "given_up"
        } else {
            pending.due = self.clock.now().after(self.pause(pending.tried));
            return;
        };
        state.pending = None;
        drop(state);
        self.tracer.count_dropped(batch, reason);
    }

    fn pause(&self, tried: u32) -> Duration {
        let (first, most) = self.options.pauses;
        first.saturating_mul(2_u32.saturating_pow(tried.saturating_sub(1))).min(most)
    }
}
