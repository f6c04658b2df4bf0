//! Gangs: workloads that run all or none, and hold room for each other until a deadline.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ReservationId, Result, Stamped, TenantContext, Timestamp};

use super::super::TenantManager;
use crate::placement::{gang_key, gangs, joined};
use crate::{Gang, GangState, Placement, PlacementPolicy, Unplaceable, WorkloadRequest};

/// How many workloads one sweep takes away at most: each is a record, and so is its node.
const SWEEP: usize = 50;

fn now(ctx: &TenantContext) -> Result<Timestamp> {
    let message = "a gang has a deadline, and the context no time: give it one";
    ctx.at().ok_or_else(|| Error::invalid("gang", message))
}

impl TenantManager {
    /// Stages room for every one of `workloads`, or holds what there is for them until `deadline`; call again, with
    /// the same workloads, when there is more. At the deadline everything is given back: by this call, or by
    /// [`stage_sweep_gangs`](Self::stage_sweep_gangs). A workload runs only once all are placed.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) without a time in the context, with a deadline that has passed, or with other workloads
    /// than the gang has. Otherwise as [`stage_place`](Self::stage_place), but that some do not fit is an answer.
    pub fn stage_gang(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &ReservationId,
        workloads: &[WorkloadRequest],
        deadline: Timestamp,
    ) -> Result<GangState> {
        let now = now(ctx)?;
        let old = gangs()?.get(view, txn, &gang_key(ctx, id)?)?;
        if let Some(old) = &old {
            let named =
                |one: &WorkloadRequest| old.held.contains_key(&one.id) || old.missing.contains(&one.id);
            if !workloads.iter().all(named) || workloads.len() != old.held.len() + old.missing.len() {
                let message = format!("gang {id} has other workloads: give those it began with");
                return Err(Error::invalid("gang", message));
            }
            if old.is_over(now) {
                self.give_back(view, txn, ctx, old)?;
                return Ok(GangState::GivenBack);
            }
        } else if now >= deadline {
            return Err(Error::invalid(
                "gang",
                format!("the deadline of gang {id} has passed: give a later one"),
            ));
        }
        let held = old.as_ref().map(|old| old.held.clone()).unwrap_or_default();
        let wanted: Vec<_> = workloads.iter().filter(|one| !held.contains_key(&one.id)).cloned().collect();
        match self.try_place(view, txn, ctx, &wanted, &PlacementPolicy::default())? {
            Ok(more) => {
                if let Some(old) = &old {
                    gangs()?.delete(txn, old)?;
                }
                Ok(GangState::Placed(joined(&held, &more)))
            }
            Err(why) => {
                let more = self.hold(view, txn, ctx, &wanted)?;
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

    /// Places those of `wanted` that fit, one by one.
    fn hold(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        wanted: &[WorkloadRequest],
    ) -> Result<Placement> {
        let mut held = Placement::new();
        for one in wanted {
            if let Ok(placed) =
                self.try_place(view, txn, ctx, std::slice::from_ref(one), &PlacementPolicy::default())?
            {
                held.extend(placed);
            }
        }
        Ok(held)
    }

    fn give_back(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        gang: &Stamped<Gang>,
    ) -> Result<()> {
        self.stage_unplace(view, txn, ctx, &gang.held)?;
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
