//! Gangs: workloads that run all or none, and hold room for each other until a deadline.

use std::collections::BTreeSet;

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ReservationId, Result, Stamped, TenantContext, Timestamp};

use super::super::TenantManager;
use crate::placement::{Gang, GangState, Placement, PlacementPolicy, Unplaceable, WorkloadRequest};
use crate::placement::{gang_key, gangs, joined, placement_key, placements};

/// The most workloads of a gang: with a node of its own for each, that and all tenants above fit into one transaction.
const MEMBERS: usize = 32;

/// How many workloads one sweep takes away at most: each is a record, and so is its node.
const SWEEP: usize = 50;

fn now(ctx: &TenantContext) -> Result<Timestamp> {
    let message = "a gang has a deadline, and the context no time: give it one";
    ctx.at().ok_or_else(|| Error::invalid("gang", message))
}

/// Those of `gang` that still run where it holds room: the others were put out or taken away.
fn still_held(view: &Snapshot, txn: &Txn, gang: &Gang) -> Result<Placement> {
    let mut held = Placement::new();
    for (workload, node) in &gang.held {
        let found = placements()?.get(view, txn, &placement_key(&gang.tenant, workload)?)?;
        if found.is_some_and(|found| found.node == *node) {
            held.insert(workload.clone(), node.clone());
        }
    }
    Ok(held)
}

/// Fails if `workloads` are not those the gang began with, each once.
fn same_members(id: &ReservationId, gang: &Gang, workloads: &[WorkloadRequest]) -> Result<()> {
    let named: BTreeSet<_> = workloads.iter().map(|one| &one.id).collect();
    let members: BTreeSet<_> = gang.held.keys().chain(&gang.missing).collect();
    if named == members && named.len() == workloads.len() {
        return Ok(());
    }
    Err(Error::invalid("gang", format!("gang {id} has other workloads: give those it began with")))
}

impl TenantManager {
    /// Stages room for every one of `workloads`, or holds what there is for them until `deadline`; call again, with
    /// the same workloads, when there is more. At the deadline everything is given back: by this call, or by
    /// [`stage_sweep_gangs`](Self::stage_sweep_gangs). A workload runs only once all are placed. One that was put out or
    /// taken away meanwhile waits for room again.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) without a time in the context, with a deadline that has passed,
    /// with other workloads than the gang has, or with more than 32 of them. Otherwise as [`stage_place`](Self::stage_place), but that some do not fit is an answer.
    pub fn stage_gang(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        workloads: &[WorkloadRequest],
        deadline: Timestamp,
    ) -> Result<GangState> {
        self.stage_gang_by(view, txn, ctx, id, workloads, deadline, &PlacementPolicy::default())
    }

    /// As [`stage_gang`](Self::stage_gang), in the way that `policy` says: for all of them, as for a batch, and for each
    /// that only holds room.
    ///
    /// # Errors
    /// As [`stage_gang`](Self::stage_gang).
    #[allow(clippy::too_many_arguments, reason = "those of stage_gang, and the policy")]
    pub fn stage_gang_by(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        workloads: &[WorkloadRequest],
        deadline: Timestamp,
        policy: &PlacementPolicy,
    ) -> Result<GangState> {
        let now = now(ctx)?;
        let old = gangs()?.get(view, txn, &gang_key(ctx, id)?)?;
        match &old {
            Some(old) if old.is_over(now) => {
                self.give_back(view, txn, ctx, old)?;
                return Ok(GangState::GivenBack);
            }
            Some(old) => same_members(id, old, workloads)?,
            None if now >= deadline => {
                let message = format!("the deadline of gang {id} has passed: give a later one");
                return Err(Error::invalid("gang", message));
            }
            None if workloads.len() > MEMBERS => {
                let message = format!("{} workloads: a gang has at most {MEMBERS}", workloads.len());
                return Err(Error::invalid("gang", message));
            }
            None => {}
        }
        let held = old.as_ref().map(|old| still_held(view, txn, old)).transpose()?.unwrap_or_default();
        let wanted: Vec<_> = workloads.iter().filter(|one| !held.contains_key(&one.id)).cloned().collect();
        match self.try_place(view, txn, ctx, &wanted, policy)? {
            Ok(more) => {
                if let Some(old) = &old {
                    gangs()?.delete(txn, old)?;
                }
                Ok(GangState::Placed(joined(&held, &more)))
            }
            Err(why) => {
                let more = self.hold(view, txn, ctx, &wanted, policy)?;
                let deadline = old.as_ref().map_or(deadline, |old| old.deadline);
                let held = joined(&held, &more);
                let missing =
                    wanted.iter().map(|one| one.id.clone()).filter(|id| !held.contains_key(id)).collect();
                let gang = Gang { tenant: ctx.tenant().clone(), deadline, held, missing };
                self.keep(view, txn, ctx, id, old, gang, why)
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one step of the function above")]
    fn keep(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        old: Option<Stamped<Gang>>,
        gang: Gang,
        why: Unplaceable,
    ) -> Result<GangState> {
        match &old {
            Some(old) if *old.value == gang => gangs()?.expect(txn, old)?,
            Some(old) => gangs()?.update(txn, old, &gang)?,
            None => gangs()?.create(view, txn, gang_key(ctx, id)?, &gang)?,
        }
        Ok(GangState::Holding { gang, why })
    }

    /// Places those of `wanted` that fit, one by one, until no other does: one may make room for another by a rule, such
    /// as that they run beside each other.
    fn hold(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        wanted: &[WorkloadRequest],
        policy: &PlacementPolicy,
    ) -> Result<Placement> {
        let mut held = Placement::new();
        loop {
            let before = held.len();
            for one in wanted {
                if held.contains_key(&one.id) {
                    continue;
                }
                if let Ok(placed) = self.try_place(view, txn, ctx, std::slice::from_ref(one), policy)? {
                    held.extend(placed);
                }
            }
            if held.len() == before {
                return Ok(held);
            }
        }
    }

    fn give_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        gang: &Stamped<Gang>,
    ) -> Result<()> {
        self.stage_unplace(view, txn, ctx, &still_held(view, txn, gang)?)?;
        gangs()?.delete(txn, gang)
    }

    /// Stages that gangs of all tenants whose deadline has come give back what they hold, as many as fit into one
    /// transaction; returns whether there are more. Run it at [`next_gang_deadline`](Self::next_gang_deadline).
    ///
    /// # Errors
    /// [`Denied`](hivemind_core::ErrorKind::Denied) outside the context of the system tenant, [`Invalid`](hivemind_core::ErrorKind::Invalid) without a time in it.
    pub fn stage_sweep_gangs(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<bool> {
        super::administered(ctx)?;
        let now = now(ctx)?;
        let mut taken = 0;
        for gang in gangs()?.list(view, txn, gangs()?.prefix())?.iter().filter(|gang| gang.is_over(now)) {
            if taken > 0 && taken + gang.held.len() > SWEEP {
                return Ok(true);
            }
            taken += gang.held.len() + 1;
            self.give_back(view, txn, &ctx.clone().for_tenant(gang.tenant.clone()), gang)?;
        }
        Ok(false)
    }

    /// When the next gang gives back what it holds.
    ///
    /// # Errors
    /// [`Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn next_gang_deadline(&self, view: &Snapshot) -> Result<Option<Timestamp>> {
        let all = gangs()?.list(view, &Txn::new(), gangs()?.prefix())?;
        Ok(all.iter().map(|gang| gang.deadline).min())
    }
}
