//! Leader election with fencing: at most one leader can commit, whatever clocks and pauses do.
//!
//! Two records: the *term*, rewritten only when leadership changes hands, and the *heartbeat*, rewritten by the leader
//! again and again. A follower takes over when it has watched one heartbeat stand still for a whole lease by its own
//! clock, so clocks need not agree. Every transaction of a leader is guarded by its term, so a leader that was paused
//! and does not know yet that it has been succeeded cannot commit.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::collection::{Collection, Stamped, Stored};
use crate::store::{Conflict, Guard, Key, Prefix, Revision, Txn};
use crate::{
    Clock, ComponentName, Effect, Error, ErrorKind, IdSource, IdSourceExt, Result, StateStore, StateStoreExt,
    Timestamp,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Term {
    pub(crate) holder: ComponentName,
    /// Tells apart two candidates of one name, such as a process and its restarted self.
    pub(crate) candidate: u64,
}

impl Stored for Term {
    const KIND: &'static str = "term";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Heartbeat {
    beat: u64,
}

impl Stored for Heartbeat {
    const KIND: &'static str = "heartbeat";
}

/// Proof of leadership, to be put into every transaction of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leadership {
    key: Key,
    term: Revision,
}

/// The terms of an election, and the key of the one there is.
pub(crate) fn terms(election: &ComponentName) -> Result<(Collection<Term>, Key)> {
    let prefix = Prefix::new(["core", "election", election.as_str()])
        .map_err(|e| Error::of(ErrorKind::Invalid, "candidate", e))?;
    let terms = Collection::new(prefix);
    let key = terms.key(["term"])?;
    Ok((terms, key))
}

impl Leadership {
    /// The proof that the record at `key`, put by `term`, is ours.
    pub(crate) fn new(key: Key, term: Revision) -> Self {
        Self { key, term }
    }

    /// Makes `txn` fail with a conflict on the term's key if somebody else has become leader.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if the transaction is guarded by another term already.
    pub fn fence(&self, txn: &mut Txn) -> Result<()> {
        txn.guard(&self.key, Guard::Unchanged(self.term))
    }

    /// The fencing number: later terms have higher ones. Hand it to outside systems that can compare.
    pub fn fencing_token(&self) -> Revision {
        self.term
    }
}

/// Whether a candidate leads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "a candidate leads or follows")]
pub enum Standing {
    /// It leads, by this proof.
    Leader(Leadership),
    /// Somebody else does, or may.
    Follower {
        /// The last known leader.
        leader: Option<ComponentName>,
    },
}

/// One candidate in an election.
///
/// Call [`tick`](Self::tick) about three times per lease. `docs/leader-election.md` has the reasoning.
#[derive(Debug)]
pub struct Candidate {
    store: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    me: Term,
    lease: Duration,
    terms: Collection<Term>,
    beats: Collection<Heartbeat>,
    term_key: Key,
    beat_key: Key,
    /// The heartbeat that stands, and since when by our clock.
    seen: Option<(Revision, Timestamp)>,
}

impl Candidate {
    /// `name` stands for the election `election`; a leader silent for `lease` is succeeded.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a lease of zero.
    pub fn new(
        election: &ComponentName,
        name: ComponentName,
        lease: Duration,
        store: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        ids: &dyn IdSource,
    ) -> Result<Self> {
        if lease.is_zero() {
            return Err(Error::invalid("candidate", "a lease of zero would change leaders all the time"));
        }
        let (terms, term_key) = terms(election)?;
        let beats = Collection::new(terms.prefix().clone());
        let beat_key = beats.key(["heartbeat"])?;
        let me = Term { holder: name, candidate: ids.next_u64() };
        Ok(Self { store, clock, me, lease, terms, beats, term_key, beat_key, seen: None })
    }

    /// Looks, and renews, takes over or waits. Repeat after a failure.
    ///
    /// # Errors
    /// Those of the store. A lost race is not one.
    pub async fn tick(&mut self) -> Result<Standing> {
        let view = self.store.snapshot(&[self.terms.prefix().clone()]).await?;
        let mut txn = Txn::new();
        let term = self.terms.get(&view, &txn, &self.term_key)?;
        let beat = self.beats.get(&view, &txn, &self.beat_key)?;
        let now = self.clock.now();
        let mine = term.as_ref().filter(|term| *term.value == self.me).and_then(|term| term.revision);

        if mine.is_none() && !self.vacant(term.as_ref(), beat.as_ref(), now) {
            return Ok(Standing::Follower { leader: term.map(|term| term.holder.clone()) });
        }
        match (&term, mine) {
            (Some(term), Some(_)) => self.terms.expect(&mut txn, term)?,
            (Some(term), None) => self.terms.update(&mut txn, term, &self.me)?,
            (None, _) => self.terms.create(&view, &mut txn, self.term_key.clone(), &self.me)?,
        }
        match &beat {
            Some(beat) => {
                let next = Heartbeat { beat: beat.beat.wrapping_add(1) };
                self.beats.update(&mut txn, beat, &next)?;
            }
            None => self.beats.create(&view, &mut txn, self.beat_key.clone(), &Heartbeat { beat: 0 })?,
        }
        match self.store.commit(&txn).await {
            Ok(revision) => {
                self.seen = Some((revision, now));
                let term = mine.unwrap_or(revision);
                Ok(Standing::Leader(Leadership::new(self.term_key.clone(), term)))
            }
            // Lost the race, or won it without hearing so: the next tick tells.
            Err(e) if e.detail::<Conflict>().is_some() || e.effect() == Effect::Unknown => {
                Ok(Standing::Follower { leader: term.map(|term| term.holder.clone()) })
            }
            Err(other) => Err(other),
        }
    }

    /// Gives up leadership, so that a successor need not wait.
    ///
    /// # Errors
    /// Those of the store; the lease then runs out by itself.
    pub async fn resign(&mut self) -> Result<()> {
        let view = self.store.snapshot(&[self.terms.prefix().clone()]).await?;
        let mut txn = Txn::new();
        let Some(term) = self.terms.get(&view, &txn, &self.term_key)?.filter(|term| *term.value == self.me)
        else {
            return Ok(());
        };
        self.terms.delete(&mut txn, &term)?;
        match self.store.commit(&txn).await {
            Err(e) if e.kind() != ErrorKind::Conflict => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether nobody leads, or the one heartbeat has stood still for a whole lease before our eyes.
    fn vacant(
        &mut self,
        term: Option<&Stamped<Term>>,
        beat: Option<&Stamped<Heartbeat>>,
        now: Timestamp,
    ) -> bool {
        let Some((_, beat)) = term.zip(beat) else { return true };
        let revision = beat.revision.unwrap_or_default();
        match self.seen {
            Some((seen, since)) if seen == revision => now.since(since) >= self.lease,
            _ => {
                self.seen = Some((revision, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, MemoryStore, SeededIds, block_on};

    const LEASE: Duration = Duration::from_secs(10);

    struct World {
        store: MemoryStore,
        clock: Arc<ManualClock>,
        ids: SeededIds,
    }

    impl World {
        fn new() -> Self {
            Self { store: MemoryStore::new(), clock: Arc::default(), ids: SeededIds::new(1) }
        }

        fn candidate(&self, name: &str) -> Candidate {
            let election = "controller".parse().unwrap();
            let store = Arc::new(self.store.clone());
            Candidate::new(&election, name.parse().unwrap(), LEASE, store, self.clock.clone(), &self.ids)
                .unwrap()
        }
    }

    fn leads(candidate: &mut Candidate) -> Option<Leadership> {
        match block_on(candidate.tick()).unwrap() {
            Standing::Leader(leadership) => Some(leadership),
            Standing::Follower { .. } => None,
        }
    }

    #[test]
    fn a_silent_leader_is_succeeded_and_fenced() {
        let world = World::new();
        let (mut a, mut b) = (world.candidate("a"), world.candidate("b"));
        let old = leads(&mut a).unwrap();
        assert!(leads(&mut b).is_none());
        world.clock.advance(LEASE);
        let new = leads(&mut b).unwrap();
        assert!(new.fencing_token() > old.fencing_token());

        let mut txn = Txn::new();
        old.fence(&mut txn).unwrap();
        txn.put(Key::new(["x"]).unwrap(), "stale");
        assert_eq!(block_on(world.store.commit(&txn)).unwrap_err().kind(), ErrorKind::Conflict);
        assert!(leads(&mut a).is_none());
    }

    #[test]
    fn a_leader_that_beats_stays_for_ever() {
        let world = World::new();
        let (mut a, mut b) = (world.candidate("a"), world.candidate("b"));
        let first = leads(&mut a).unwrap();
        for _ in 0..20 {
            world.clock.advance(LEASE / 2);
            assert_eq!(leads(&mut a).as_ref(), Some(&first));
            assert!(leads(&mut b).is_none());
        }
    }

    #[test]
    fn a_restarted_leader_is_another_candidate() {
        let world = World::new();
        assert!(leads(&mut world.candidate("a")).is_some());
        let mut again = world.candidate("a");
        assert!(leads(&mut again).is_none());
        world.clock.advance(LEASE);
        assert!(leads(&mut again).is_some());
    }

    #[test]
    fn resigning_makes_room_at_once() {
        let world = World::new();
        let (mut a, mut b) = (world.candidate("a"), world.candidate("b"));
        assert!(leads(&mut a).is_some());
        block_on(b.resign()).unwrap();
        assert!(leads(&mut b).is_none());
        block_on(a.resign()).unwrap();
        assert!(leads(&mut b).is_some());
    }
}
