//! Plans and ranges in the words of etcd's client, and its replies in ours. No I/O, no clock, no async.

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::layout::{self, Namespace, Range};
use super::txn::{Answer, Plan, Reply, Step};
use crate::store::{Guard, Key, Record, Revision};
use crate::{Error, Result};

/// gRPC's code for a lease that is gone.
pub(super) const NOT_FOUND: i32 = 5;

/// etcd's number of `revision`, which may be larger than any that etcd has.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.as_u64()).unwrap_or(i64::MAX)
}

/// The revision of etcd's `number`, which is never negative.
pub(super) fn revision(number: i64) -> Revision {
    Revision::new(u64::try_from(number).unwrap_or_default())
}

impl Plan<'_> {
    pub(super) fn request(&self, space: &Namespace) -> EtcdTxn {
        let steps = |steps: &[Step<'_>]| steps.iter().map(|step| step.request(space)).collect::<Vec<_>>();
        let when: Vec<_> = self.when.iter().map(|(key, guard)| compare(space, key, *guard)).collect();
        EtcdTxn::new().when(when).and_then(steps(&self.then)).or_else(steps(&self.otherwise))
    }
}

fn compare(space: &Namespace, key: &Key, guard: Guard) -> Compare {
    let at = space.record(key);
    match guard {
        Guard::Absent => Compare::create_revision(at, CompareOp::Equal, 0),
        Guard::Exists => Compare::create_revision(at, CompareOp::Greater, 0),
        // To etcd, a missing key is one last put at zero.
        Guard::Unchanged(Revision::ZERO) => Compare::create_revision(at, CompareOp::Less, 0),
        Guard::Unchanged(revision) => Compare::mod_revision(at, CompareOp::Equal, number(revision)),
    }
}

impl Step<'_> {
    fn request(&self, space: &Namespace) -> TxnOp {
        let keys_only = || Some(GetOptions::new().with_keys_only());
        match self {
            Self::Put(key, value) => TxnOp::put(space.record(key), value.to_vec(), None),
            Self::Delete(key) => TxnOp::delete(space.record(key), None),
            Self::Tick { deletes } => TxnOp::put(space.clock(), layout::tick(*deletes), None),
            Self::Newest => TxnOp::get(space.clock(), keys_only()),
            Self::Find(key) => TxnOp::get(space.record(key), keys_only()),
            Self::Nested(plan) => TxnOp::txn(plan.request(space)),
        }
    }
}

impl From<&TxnResponse> for Reply {
    fn from(response: &TxnResponse) -> Self {
        let answers = response.op_responses().iter().map(Answer::from).collect();
        Self { succeeded: response.succeeded(), answers }
    }
}

impl From<&TxnOpResponse> for Answer {
    fn from(response: &TxnOpResponse) -> Self {
        match response {
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) => Self::Written,
            TxnOpResponse::Get(found) => Self::Found(last_put(found)),
            TxnOpResponse::Txn(reply) => Self::Nested(reply.into()),
        }
    }
}

/// When the one key of `found` was last put, if it exists.
pub(super) fn last_put(found: &GetResponse) -> Option<Revision> {
    found.kvs().first().map(|kv| revision(kv.mod_revision()))
}

/// Asks for a range.
pub(super) fn get(range: &Range, options: GetOptions) -> TxnOp {
    let options = match &range.end {
        Some(end) => options.with_range(end.clone()),
        None => options,
    };
    TxnOp::get(range.start.clone(), Some(options))
}

/// The record in `found`; the clock is none.
pub(super) fn record(space: &Namespace, found: KeyValue) -> Result<Option<Record>> {
    let (modified, created) = (revision(found.mod_revision()), revision(found.create_revision()));
    let (key, value) = found.into_key_value();
    Ok(space.key(&key)?.map(|key| Record::new(key, value.into(), modified, created)))
}

/// etcd broke its own protocol.
pub(super) fn broken(operation: &'static str, what: &str) -> Error {
    Error::internal(operation, format!("etcd's reply makes no sense: {what}"))
}
