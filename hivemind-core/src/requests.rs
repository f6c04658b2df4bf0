//! The same request, sent twice, happens once and gets the same answer: idempotency records.
//!
//! The record is committed in the same transaction as what the request did. So whoever finds it knows that the
//! request happened, also after a lost reply, a crash or a restart; and what it answered.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::collection::{Collection, Stored, decode};
use crate::store::{Conflict, Guard, Key, Prefix, Revision, Snapshot, Txn};
use crate::{
    Effect, Error, ErrorKind, Principal, Result, StateStore, StateStoreExt, TenantContext, Timestamp,
};

/// How often a commit with an unknown outcome, or a decision on an outdated snapshot, is repeated.
const ATTEMPTS: u32 = 16;

/// Names one operation of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Once {
    key: Key,
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    at: Timestamp,
    body: serde_json::Value,
}

impl Stored for Answer {
    const KIND: &'static str = "answer";
}

fn segment(principal: &Principal) -> String {
    match principal {
        Principal::User(name) => format!("user:{name}"),
        Principal::ServiceAccount { tenant, name } => format!("service-account:{tenant}:{name}"),
        Principal::Node(name) => format!("node:{name}"),
        Principal::System(name) => format!("system:{name}"),
    }
}

fn answers() -> Result<Collection<Answer>> {
    let prefix =
        Prefix::new(["core", "requests"]).map_err(|e| Error::of(ErrorKind::Internal, "requests", e))?;
    Ok(Collection::new(prefix))
}

/// What a request answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<T> {
    /// The answer.
    pub value: T,
    /// The transaction in which the request happened.
    pub revision: Revision,
    /// Whether the request had happened before this call.
    pub replayed: bool,
}

impl Once {
    /// `operation` of the request of `ctx`, at `now`. An operation that a request does several times has a name for
    /// each.
    ///
    /// A request id belongs to one principal of one tenant: others may use the same and hear nothing of it. It stands
    /// for one set of arguments; sent again with others, the request gets its first answer.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if `operation` cannot be part of a key.
    pub fn new(ctx: &TenantContext, operation: &str, now: Timestamp) -> Result<Self> {
        let mut sender = segment(ctx.principal());
        if let Some(actor) = ctx.actor() {
            sender = format!("{sender}:by:{}", segment(&actor.principal));
        }
        let tenant = ctx.tenant().to_string();
        let key = answers()?.key([tenant.as_str(), &sender, ctx.request().as_str(), operation])?;
        Ok(Self { key, at: now })
    }

    /// Where the idempotency record is: include it in a snapshot from which [`answer`](Self::answer) reads.
    pub fn prefix() -> Result<Prefix> {
        Ok(answers()?.prefix().clone())
    }

    /// What the request answered, if it has happened by the state in `view`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the answer was of another type.
    pub fn answer<T: DeserializeOwned>(&self, view: &Snapshot) -> Result<Option<Answered<T>>> {
        let Some(found) = answers()?.get(view, &Txn::new(), &self.key)? else { return Ok(None) };
        let revision = found.revision.unwrap_or_default();
        Ok(Some(Answered { value: self.typed(&found.body)?, revision, replayed: true }))
    }

    fn typed<T: DeserializeOwned>(&self, body: &serde_json::Value) -> Result<T> {
        T::deserialize(body).map_err(|e| {
            Error::new(
                ErrorKind::Corrupt,
                "answer",
                format!("the answer at {} is of another type: {e}", self.key),
            )
        })
    }

    /// Commits `txn` and `value` as its answer, exactly once.
    ///
    /// A commit with an unknown outcome is repeated until it is known. If the request turns out to have happened
    /// before, its first answer is returned and nothing is changed.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the state changed under the decision: decide again. An error whose effect is still
    /// [`Effect::Unknown`] means that the store did not answer at all: repeat the same request later.
    pub async fn commit<T>(&self, store: &dyn StateStore, mut txn: Txn, value: T) -> Result<Answered<T>>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        let body = serde_json::to_value(&value)
            .map_err(|e| Error::internal("commit", format!("the answer cannot be written: {e}")))?;
        txn.guard(&self.key, Guard::Absent)?;
        txn.put(self.key.clone(), crate::collection::encode(&Answer { at: self.at, body })?);
        let mut outcome = store.commit(&txn).await;
        let mut attempts = 1;
        let mut doubtful = false;
        while matches!(&outcome, Err(e) if e.effect() == Effect::Unknown) && attempts < ATTEMPTS {
            doubtful = true;
            outcome = store.commit(&txn).await;
            attempts += 1;
        }
        // Once in doubt, a later failure that did nothing itself does not tell what the first attempt did.
        let honest = |e: Error| if doubtful { e.with_effect(Effect::Unknown) } else { e };
        match outcome {
            Ok(revision) => Ok(Answered { value, revision, replayed: false }),
            Err(conflict) if conflict.detail::<Conflict>().is_some() => {
                // Our own lost commit, or an earlier sender of the same request, would have left the record.
                match store.get(&self.key, None).await.map_err(honest)? {
                    None => Err(conflict),
                    Some(record) => {
                        let answer = decode::<Answer>(&self.key, &record.value)?;
                        let value = self.typed(&answer.body)?;
                        Ok(Answered { value, revision: record.mod_revision, replayed: true })
                    }
                }
            }
            Err(other) => Err(honest(other)),
        }
    }
}

/// Reads the state below `scope`, lets `decide` stage a transaction, and commits it exactly once.
///
/// On a conflict it reads and decides again, a bounded number of times. A refusal of `decide` is final.
///
/// # Errors
/// Those of `decide` and of [`Once::commit`].
pub async fn transact<T>(
    store: &dyn StateStore,
    once: &Once,
    scope: &[Prefix],
    mut decide: impl FnMut(&Snapshot, &mut Txn) -> Result<T> + Send,
) -> Result<Answered<T>>
where
    T: Serialize + DeserializeOwned + Send,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        if let Some(record) = store.get(&once.key, None).await? {
            return match once.answer(&Snapshot::new(record.mod_revision, [record]))? {
                Some(answer) => Ok(answer),
                None => Err(Error::internal("transact", "a record that was just read is missing")),
            };
        }
        let view = store.snapshot(scope).await?;
        let mut txn = Txn::new();
        let value = decide(&view, &mut txn)?;
        match once.commit(store, txn, value).await {
            Err(e) if e.kind() == ErrorKind::Conflict && attempts < ATTEMPTS => {}
            outcome => return outcome,
        }
    }
}

/// Forgets the requests answered before `before`; returns how many. Do not repeat a forgotten request.
///
/// # Errors
/// Those of the store; what was forgotten until then stays forgotten.
pub async fn forget_requests(store: &dyn StateStore, before: Timestamp) -> Result<usize> {
    let answers = answers()?;
    let view = store.snapshot(&[answers.prefix().clone()]).await?;
    let all = answers.list(&view, &Txn::new(), answers.prefix())?;
    let old: Vec<_> = all.into_iter().filter(|answer| answer.at < before).collect();
    for batch in old.chunks(store.limits().max_ops.max(1)) {
        let mut txn = Txn::new();
        for answer in batch {
            answers.delete(&mut txn, answer)?;
        }
        store.commit(&txn).await?;
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, MemoryStore, TenantRef, block_on};

    fn key(name: &str) -> Key {
        Key::new(["t", name]).unwrap()
    }

    fn once_of(tenant: u64, user: &str, request: &str) -> Once {
        let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(tenant));
        let user = Principal::User(user.parse().unwrap());
        let ctx = TenantContext::new(tenant, user, request.parse().unwrap());
        Once::new(&ctx, "op", Timestamp::from_secs(9)).unwrap()
    }

    fn once(request: &str) -> Once {
        once_of(1, "ada", request)
    }

    #[test]
    fn a_request_id_belongs_to_one_principal_of_one_tenant() {
        let store = MemoryStore::new();
        let run = |once: &Once, answer: u32| {
            block_on(transact(&store, once, &[], |_, _| Ok(answer))).unwrap().value
        };
        assert_eq!(run(&once_of(1, "ada", "r1"), 1), 1);
        assert_eq!(run(&once_of(2, "ada", "r1"), 2), 2);
        assert_eq!(run(&once_of(1, "eve", "r1"), 3), 3);
        assert_eq!(run(&once_of(1, "ada", "r1"), 4), 1);
    }

    #[test]
    fn the_same_request_happens_once_and_answers_the_same() {
        let store = MemoryStore::new();
        let run = |answer: u32| {
            block_on(transact(&store, &once("r1"), &[], move |_, txn| {
                txn.put(key("a"), "x");
                Ok(answer)
            }))
            .unwrap()
        };
        let first = run(1);
        let second = run(2);
        assert_eq!((first.value, first.replayed), (1, false));
        assert_eq!((second.value, second.replayed, second.revision), (1, true, first.revision));
        assert_eq!(block_on(store.revision()).unwrap(), first.revision);
    }

    #[test]
    fn a_refusal_changes_nothing_and_is_final() {
        let store = MemoryStore::new();
        let mut asked = 0;
        let outcome = block_on(transact::<()>(&store, &once("r1"), &[], |_, txn| {
            asked += 1;
            txn.put(key("a"), "x");
            Err(Error::new(ErrorKind::QuotaExceeded, "reserve", "no room"))
        }));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::QuotaExceeded);
        assert_eq!((asked, block_on(store.revision()).unwrap()), (1, Revision::ZERO));
    }

    #[test]
    fn a_conflict_is_decided_again_on_the_newer_state() {
        let store = MemoryStore::new();
        let scope = [Prefix::new(["t"]).unwrap()];
        let mut seen = Vec::new();
        let rival = store.clone();
        block_on(transact(&store, &once("r1"), &scope, |view, txn| {
            let found = view.get(&key("a")).map(|record| record.mod_revision);
            seen.push(found.is_some());
            if found.is_none() {
                let mut theirs = Txn::new();
                theirs.put(key("a"), "theirs");
                block_on(rival.commit(&theirs)).unwrap();
            }
            txn.guard(&key("a"), found.map_or(Guard::Absent, Guard::Unchanged))?;
            txn.put(key("a"), "ours");
            Ok(())
        }))
        .unwrap();
        assert_eq!(seen, [false, true]);
    }

    #[test]
    fn forgets_old_requests_only() {
        let store = MemoryStore::new();
        block_on(transact(&store, &once("r1"), &[], |_, _| Ok(()))).unwrap();
        assert_eq!(block_on(forget_requests(&store, Timestamp::from_secs(9))).unwrap(), 0);
        assert_eq!(block_on(forget_requests(&store, Timestamp::from_secs(10))).unwrap(), 1);
    }
}
