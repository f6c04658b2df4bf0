//! Many who ask for the status of volumes at once, and few calls to the provider.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use hivemind_core::{Error, Result};

use crate::{StorageProvider, VolumeRef, VolumeStatus};

/// How many volumes one call asks for, at most.
const LARGEST: usize = 1000;

/// Asks a provider for the status of volumes: whoever asks while a call is under way waits, and then all that wait are
/// asked for in one call.
///
/// It has no timer and no task: the first of those who wait makes the call for all. If its future is dropped, another
/// one takes its place.
#[derive(Debug)]
pub struct StatusBatcher {
    provider: Arc<dyn StorageProvider>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<(VolumeRef, oneshot::Sender<Turn>)>,
    /// Somebody makes a call, or was told to make the next one.
    busy: bool,
}

/// What one that waits is told.
#[expect(clippy::large_enum_variant, reason = "it is handed over once and never kept")]
enum Turn {
    /// The answer.
    Answer(Result<VolumeStatus>),
    /// Make the next call, for all that wait.
    Lead,
}

/// Whoever makes a call hands on when it is done, or dropped.
struct Lead<'a>(&'a StatusBatcher);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        // Whoever does not wait any more cannot be told: the next one is.
        while !queue.waiting.is_empty() {
            let (_, next) = queue.waiting.remove(0);
            if next.send(Turn::Lead).is_ok() {
                return;
            }
        }
        queue.busy = false;
    }
}

/// Whoever waits hands on, too, if it was told to lead and is dropped before it heard of that.
struct Waits<'a> {
    batcher: &'a StatusBatcher,
    receiver: oneshot::Receiver<Turn>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Some(Turn::Lead)) = self.receiver.try_recv() {
            drop(Lead(self.batcher));
        }
    }
}

impl StatusBatcher {
    /// Asks `provider`.
    pub fn new(provider: Arc<dyn StorageProvider>) -> Self {
        Self { provider, queue: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a volume is.
    ///
    /// # Errors
    /// Those of the provider; one volume's do not spoil another's answer.
    pub async fn status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        loop {
            let waits = {
                let mut queue = self.lock();
                if queue.busy {
                    let (sender, receiver) = oneshot::channel();
                    queue.waiting.push((volume.clone(), sender));
                    Some(receiver)
                } else {
                    queue.busy = true;
                    None
                }
            };
            let Some(waits) = waits else { return self.lead(volume).await };
            let mut waits = Waits { batcher: self, receiver: waits };
            match (&mut waits.receiver).await {
                Ok(Turn::Answer(answer)) => return answer,
                Ok(Turn::Lead) => return self.lead(volume).await,
                // Whoever made the call for us is gone: ask again.
                Err(oneshot::Canceled) => {}
            }
        }
    }

    /// Asks for `own` and for all that wait, and tells them.
    async fn lead(&self, own: &VolumeRef) -> Result<VolumeStatus> {
        let _hands_on = Lead(self);
        let others: Vec<_> = {
            let mut queue = self.lock();
            let many = queue.waiting.len().min(LARGEST - 1);
            queue.waiting.drain(..many).collect()
        };
        let mut asked: Vec<VolumeRef> = others.iter().map(|(volume, _)| volume.clone()).collect();
        asked.push(own.clone());
        let mut answers = match self.provider.get_volume_statuses(&asked).await {
            Ok(answers) if answers.len() == asked.len() => answers,
            Ok(answers) => {
                let message =
                    format!("{} volumes were asked for and {} answered", asked.len(), answers.len());
                asked.iter().map(|_| Err(Error::internal("get_volume_statuses", message.clone()))).collect()
            }
            Err(e) => asked.iter().map(|_| Err(copy_of(&e))).collect(),
        };
        let answer =
            answers.pop().unwrap_or_else(|| Err(Error::internal("get_volume_statuses", "no answer")));
        for ((_, waits), answer) in others.into_iter().zip(answers) {
            // Whoever does not wait any more needs no answer.
            let _ = waits.send(Turn::Answer(answer));
        }
        answer
    }
}

fn copy_of(e: &Error) -> Error {
    Error::new(e.kind(), e.operation(), e.message()).with_retry(e.retry()).with_effect(e.effect())
}

#[cfg(test)]
mod tests;
