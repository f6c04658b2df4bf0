//! How large a transaction may be, in every adapter alike.

use super::{Txn, Write};
use crate::{Error, ErrorKind, Result};

/// What one request to a store may hold. The defaults are what fits into etcd's, so that what passes in memory passes
/// there: it takes 128 operations, one of which its adapter needs, and 1.5 MiB with keys, guards and framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most guards, and the most writes, of one transaction (etcd's `--max-txn-ops`).
    pub max_ops: usize,
    /// The most bytes of one transaction: keys and values (etcd's `--max-request-bytes`, less what it adds).
    pub max_txn_bytes: usize,
    /// The most bytes of one value.
    pub max_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_ops: 127, max_txn_bytes: 1_350_000, max_value_bytes: 1 << 20 }
    }
}

impl Limits {
    /// Other limits on operations and bytes of a transaction, and on bytes of a value.
    pub fn new(max_ops: usize, max_txn_bytes: usize, max_value_bytes: usize) -> Self {
        Self { max_ops, max_txn_bytes, max_value_bytes }
    }

    /// Succeeds if `txn` is small enough to be sent.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with [`OverLimit`] as detail.
    pub fn check(&self, txn: &Txn) -> Result<()> {
        let over = |what, found, allowed| {
            let detail = OverLimit { what, found, allowed };
            Err(Error::of(ErrorKind::Invalid, "commit", detail))
        };
        let operations = txn.guards().len().max(txn.writes().len());
        if operations > self.max_ops {
            return over("operations", operations, self.max_ops);
        }
        let mut bytes = 0;
        for (key, guard, write) in txn.ops() {
            bytes += key.as_bytes().len() * (usize::from(guard.is_some()) + usize::from(write.is_some()));
            if let Some(Write::Put(value)) = write {
                if value.len() > self.max_value_bytes {
                    return over("bytes in one value", value.len(), self.max_value_bytes);
                }
                bytes += value.len();
            }
        }
        if bytes > self.max_txn_bytes {
            return over("bytes", bytes, self.max_txn_bytes);
        }
        Ok(())
    }
}

/// A transaction is too large for the store. Detail of an [`Invalid`](crate::ErrorKind::Invalid) error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transaction has {found} {what}, the store takes {allowed}: split the request")]
#[non_exhaustive]
pub struct OverLimit {
    /// What there is too much of.
    pub what: &'static str,
    /// How much there is.
    pub found: usize,
    /// How much is allowed.
    pub allowed: usize,
}
