//! Addresses back, each exactly once. No I/O, no clock, no async.

use hivemind_core::{Error, ErrorKind, Result, Stamped, TenantContext, Timestamp, WorkloadId};

use super::session::Session;
use crate::addr::Cidr;
use crate::records::{Block, Holder, Lease, Pools, holders};

/// The holder of exactly this lease.
fn holder_of(
    session: &Session<'_>,
    ctx: &TenantContext,
    workload: &WorkloadId,
    lease: &Lease,
) -> Result<Stamped<Holder>> {
    let found = holders()?.get(session.view, &session.txn, &session.keys.holder(workload)?)?;
    found.filter(|holder| holder.lease == *lease).ok_or_else(|| {
        let message = format!(
            "tenant {} has no such lease of workload {workload}: it was released, or never given",
            ctx.tenant().id
        );
        Error::not_found("release", message)
    })
}

/// Gives the addresses of a lease back, to rest.
pub(super) fn release(
    session: &mut Session<'_>,
    ctx: &TenantContext,
    pools: &Pools,
    workload: &WorkloadId,
    lease: &Lease,
) -> Result<()> {
    let holder = holder_of(session, ctx, workload, lease)?;
    drop_lease(session, pools, &holder)
}

/// Keeps the addresses of a lease for the workload to come back to.
pub(super) fn keep(
    session: &mut Session<'_>,
    ctx: &TenantContext,
    workload: &WorkloadId,
    lease: &Lease,
    until: Timestamp,
) -> Result<()> {
    let found = holder_of(session, ctx, workload, lease)?;
    let mut holder = (*found.value).clone();
    holder.kept_until = Some(until);
    (holder.missed, holder.moving) = (None, None);
    holders()?.update(&mut session.txn, &found, &holder)
}

/// Gives back what a holder has.
pub(super) fn drop_lease(session: &mut Session<'_>, pools: &Pools, holder: &Stamped<Holder>) -> Result<()> {
    for address in holder.lease.addresses() {
        let host = Cidr::host(address);
        let lost = || {
            let message = format!("{address} of workload {} is not where it should be", holder.workload);
            Error::new(ErrorKind::Corrupt, "release", message)
        };
        let (config, subnet) = pools.subnet_of(host).ok_or_else(lost)?;
        let block = Block::around(subnet, host.first()).ok_or_else(lost)?;
        let cooldown = config.options().cooldown;
        let until = (!cooldown.is_zero()).then(|| session.now.after(cooldown));
        if !session.block(config, subnet, block)?.give_back(host.first(), &holder.workload, until) {
            return Err(lost());
        }
        session.changed(subnet, block);
    }
    holders()?.delete(&mut session.txn, holder)
}
