//! What has a call going on: CSI wants a second one answered `ABORTED`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::Status;

/// The names and ids that have a call going on.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<Mutex<BTreeSet<String>>>);

/// While it lives, the thing has a call going on.
#[derive(Debug)]
pub(super) struct Guard {
    busy: Busy,
    thing: String,
}

impl Busy {
    /// Begins a call on `id`, which is a `kind` of thing.
    pub(super) fn begin(&self, kind: &str, id: &str) -> Result<Guard, Status> {
        let thing = format!("{kind} {id}");
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(thing.clone()) {
            return Ok(Guard { busy: self.clone(), thing });
        }
        Err(Status::aborted(format!("{thing} has a call going on: repeat this one later")))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.busy.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.thing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_at_a_time() {
        let busy = Busy::default();
        let first = busy.begin("volume", "a").unwrap();
        assert_eq!(busy.begin("volume", "a").unwrap_err().code(), tonic::Code::Aborted);
        assert!(busy.begin("snapshot", "a").is_ok() && busy.begin("volume", "b").is_ok());
        drop(first);
        assert!(busy.begin("volume", "a").is_ok());
    }
}
