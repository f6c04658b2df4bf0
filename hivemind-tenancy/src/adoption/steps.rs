//! One step of an adoption, or of its undo: as much as fits one transaction. No I/O, no clock, no async.

use hivemind_core::store::{Guard, Key, Record, Revision, Snapshot, Staged, Txn};
use hivemind_core::{Error, RequestId, Result, Stamped};

use super::journal::{Batch, Moved, Raw, State, batch_key, journal, kept, state_key, states};
use super::verdict::{Cost, Move, Verdict, decide, exists};
use super::{Adoptable, AdoptedMove, AdoptionPhase, AdoptionProblem, AdoptionStep, LeftBehind};
use crate::living::stage_lives;

/// The adoption `id`.
pub(super) fn load(view: &Snapshot, txn: &Txn, id: &RequestId) -> Result<Stamped<State>> {
    let missing = || Error::not_found("adoption", format!("there is no adoption {id}"));
    states()?.get(view, txn, &state_key(id)?)?.ok_or_else(missing)
}

/// Moves what comes next, at most `limit` resources.
pub(super) fn forward(
    view: &Snapshot,
    txn: &mut Txn,
    host: &dyn Adoptable,
    id: &RequestId,
    old: &Stamped<State>,
    limit: usize,
) -> Result<AdoptionStep> {
    let mut state = (*old.value).clone();
    let cursor = state.cursor.as_ref().map(Raw::key).transpose()?;
    let (mut batch, mut cost, mut step) = (Batch::default(), Cost::default(), AdoptionStep::default());
    let mut full = false;
    for record in view.scan(&host.prefix()) {
        if cursor.as_ref().is_some_and(|cursor| record.key <= *cursor) {
            continue;
        }
        let verdict = decide(view, txn, host, &state.rules, state.planned, record)?;
        let takes = match &verdict {
            Verdict::Goes(goes) => goes.cost,
            Verdict::Stays(_) => Cost::of_report(&record.key),
            Verdict::Nothing | Verdict::Owned | Verdict::Unmatched => Cost::default(),
        };
        full = batch.moved.len() + batch.left.len() >= limit || !cost.and(takes).fits();
        if full {
            break;
        }
        cost = cost.and(takes);
        match verdict {
            Verdict::Goes(goes) => step.moved.push(stage_move(view, txn, record, goes, &mut batch)?),
            Verdict::Stays(problem) => batch.left.push(LeftBehind::new(record.key.clone(), problem)),
            Verdict::Nothing | Verdict::Owned | Verdict::Unmatched => {}
        }
        state.cursor = Some(Raw::of(record.key.as_bytes()));
    }
    if !full {
        state.phase = AdoptionPhase::Done;
    }
    state.moved = state.moved.saturating_add(u64::try_from(batch.moved.len()).unwrap_or(u64::MAX));
    step.left.clone_from(&batch.left);
    step.phase = state.phase;
    if batch != Batch::default() {
        journal()?.create(view, txn, batch_key(&journal()?, id, state.batches)?, &batch)?;
        state.batches = state.batches.saturating_add(1);
    }
    states()?.update(txn, old, &state)?;
    Ok(step)
}

fn stage_move(
    view: &Snapshot,
    txn: &mut Txn,
    record: &Record,
    goes: Move,
    batch: &mut Batch,
) -> Result<AdoptedMove> {
    let Move { tenant, to, value, .. } = goes;
    // The verdict found it there in the same state; this makes it true at commit.
    stage_lives(view, txn, &tenant)?;
    let original = Raw::of(&record.value);
    replace(txn, &record.key, record.mod_revision, &to, value)?;
    let raw = |key: &Key| Raw::of(key.as_bytes());
    batch.moved.push(Moved { from: raw(&record.key), to: raw(&to), tenant: tenant.clone(), original });
    Ok(AdoptedMove { from: record.key.clone(), to, tenant })
}

/// Stages that what is at `from` since `revision` goes, and `value` is at `to`, where there is nothing else.
fn replace(txn: &mut Txn, from: &Key, revision: Revision, to: &Key, value: Vec<u8>) -> Result<()> {
    txn.guard(from, Guard::Unchanged(revision))?;
    if to != from {
        txn.guard(to, Guard::Absent)?;
        txn.delete(from.clone());
    }
    txn.put(to.clone(), value);
    Ok(())
}

/// Puts the last batch back where it was.
pub(super) fn back(
    view: &Snapshot,
    txn: &mut Txn,
    id: &RequestId,
    old: &Stamped<State>,
) -> Result<AdoptionStep> {
    let mut state = (*old.value).clone();
    let mut step = AdoptionStep::default();
    if let Some(number) = state.batches.checked_sub(1) {
        let batch = journal()?.require(view, txn, &batch_key(&journal()?, id, number)?)?;
        let Some(adopted_at) = batch.revision else {
            return Err(Error::invalid("undo adoption", "commit the step before it is undone"));
        };
        let mut lost = Batch::default();
        for moved in batch.moved.iter().rev() {
            let (from, to) = (moved.from.key()?, moved.to.key()?);
            if stage_return(view, txn, adopted_at, &from, &to, moved)? {
                step.moved.push(AdoptedMove { from: to, to: from, tenant: moved.tenant.clone() });
            } else {
                step.left.push(LeftBehind::new(to, AdoptionProblem::ChangedSinceAdoption));
                lost.moved.push(moved.clone());
            }
        }
        if !lost.moved.is_empty() {
            kept()?.create(view, txn, batch_key(&kept()?, id, number)?, &lost)?;
        }
        journal()?.delete(txn, &batch)?;
        state.batches = number;
    }
    state.restored = state.restored.saturating_add(u64::try_from(step.moved.len()).unwrap_or(u64::MAX));
    state.phase = if state.batches == 0 { AdoptionPhase::Undone } else { AdoptionPhase::Undoing };
    step.phase = state.phase;
    states()?.update(txn, old, &state)?;
    Ok(step)
}

/// Stages that one resource is as it was before, if nobody has touched it since.
fn stage_return(
    view: &Snapshot,
    txn: &mut Txn,
    adopted_at: Revision,
    from: &Key,
    to: &Key,
    moved: &Moved,
) -> Result<bool> {
    let untouched = view.get(to).is_some_and(|found| found.mod_revision == adopted_at)
        && txn.staged(to) == Staged::Untouched;
    if !untouched {
        return Ok(false);
    }
    if from != to && exists(view, txn, from) {
        return Ok(false);
    }
    replace(txn, to, adopted_at, from, moved.original.bytes()?)?;
    Ok(true)
}
