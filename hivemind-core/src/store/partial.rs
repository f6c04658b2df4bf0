//! What a snapshot notes of which not everything is read: what was looked for and may be there all the same.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::{Key, Prefix};

/// What was read so far, and what was looked for beyond it.
#[derive(Debug, Default)]
pub(super) struct Partial {
    keys: BTreeSet<Key>,
    prefixes: Vec<Prefix>,
    missed: Mutex<Missed>,
}

/// What a decision looked for and was not read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) keys: BTreeSet<Key>,
    pub(crate) prefixes: BTreeSet<Prefix>,
}

impl Partial {
    pub(super) fn has_read(&mut self, key: Key) {
        self.keys.insert(key);
    }

    pub(super) fn has_read_below(&mut self, prefix: Prefix) {
        self.prefixes.push(prefix);
    }

    pub(super) fn look_for(&self, key: &Key) {
        if !self.keys.contains(key) && !self.prefixes.iter().any(|prefix| prefix.covers(key)) {
            self.missed.lock().unwrap_or_else(PoisonError::into_inner).keys.insert(key.clone());
        }
    }

    pub(super) fn look_below(&self, prefix: &Prefix) {
        if !self.prefixes.iter().any(|read| prefix.as_bytes().starts_with(read.as_bytes())) {
            self.missed.lock().unwrap_or_else(PoisonError::into_inner).prefixes.insert(prefix.clone());
        }
    }

    pub(super) fn missed(&self) -> Missed {
        std::mem::take(&mut *self.missed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
