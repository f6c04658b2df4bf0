//! Addresses for workloads, all or none. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::store::Key;
use hivemind_core::{Error, ErrorKind, NodeId, PoolName, Result, Stamped, TenantContext, WorkloadId};

use super::request::{AddressRequest, Fenced, NoAddress, NodeLost, NotFrom};
use super::session::Session;
use crate::NetworkConfig;
use crate::addr::IpFamily;
use crate::ipam::{Pair, Refusal, same_as_asked};
use crate::records::{Holder, Lease, holders};

/// Gives every workload of `requests` its lease.
pub(super) fn assign(
    session: &mut Session<'_>,
    ctx: &TenantContext,
    mut requests: Vec<AddressRequest>,
) -> Result<BTreeMap<WorkloadId, Lease>> {
    let pools = session.pools(ctx)?;
    let mut order: Vec<_> = pools.pools.values().map(Source::of).collect();
    order.sort_by_key(|source| (source.config.options().order, source.config.name()));
    let mut leases = Vec::with_capacity(requests.len());
    // A workload named twice is on the node named first; the order of the others makes no difference.
    requests.sort_by(|a, b| a.workload.cmp(&b.workload));
    requests.dedup_by(|later, first| later.workload == first.workload);
    requests.sort_by(|a, b| a.node.cmp(&b.node));
    // In order of nodes, the same node is looked at once.
    let mut at: Option<(NodeId, Option<u64>)> = None;
    for request in requests {
        let key = session.keys.holder(&request.workload)?;
        leases.push(match holders()?.get(session.view, &session.txn, &key)? {
            Some(holder) => {
                let lease = again(session, ctx, &request, &holder)?;
                (request.workload, lease)
            }
            None => {
                if at.as_ref().is_none_or(|(node, epoch)| (node, epoch) != (&request.node, &request.epoch)) {
                    admitted(session, &request)?;
                    at = Some((request.node.clone(), request.epoch));
                }
                let (pool, pair) = fresh(session, &order, &request)?;
                hold(session, ctx, pool, request, (key, pair))?
            }
        });
    }
    Ok(leases.into_iter().collect())
}

/// A pool, and the families that new addresses come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    config: &'a NetworkConfig,
    v4: bool,
    v6: bool,
}

impl<'a> Source<'a> {
    fn of(config: &'a NetworkConfig) -> Self {
        let giving = |family| config.giving().any(|giving| giving.family() == family);
        Self { config, v4: giving(IpFamily::V4), v6: giving(IpFamily::V6) }
    }

    fn gives(self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.v4,
            IpFamily::V6 => self.v6,
        }
    }
}

/// The lease that a workload has: where it is may have changed, or it comes back to addresses that were kept for it.
fn again(
    session: &mut Session<'_>,
    ctx: &TenantContext,
    request: &AddressRequest,
    found: &Stamped<Holder>,
) -> Result<Lease> {
    same_as_asked(&request.ask(ctx.request().clone()), found.lease.pair())
        .map_err(|e| e.into_error("assign"))?;
    if let Some(pool) = request.pool.as_ref().filter(|pool| **pool != found.lease.pool) {
        let (workload, has) = (&request.workload, &found.lease.pool);
        let message =
            format!("workload {workload} has addresses of pool {has}: release them before asking for {pool}");
        return Err(Error::new(ErrorKind::AlreadyExists, "assign", message));
    }
    let mut holder = (*found.value).clone();
    if holder.kept_until.take().is_some() {
        holder.lease.request = ctx.request().clone();
        holder.at = session.now;
    }
    if holder.moving.is_none() && holder.node != request.node {
        holder.node = request.node.clone();
        holder.at = session.now;
    }
    if holder == *found.value {
        holders()?.expect(&mut session.txn, found)?;
    } else {
        admitted(session, request)?;
        holder.missed = None;
        holders()?.update(&mut session.txn, found, &holder)?;
    }
    Ok(holder.lease)
}

/// New addresses, from the first pool that has some.
fn fresh<'a>(
    session: &mut Session<'_>,
    order: &[Source<'a>],
    request: &AddressRequest,
) -> Result<(&'a PoolName, Pair)> {
    let eligible = || order.iter().filter(|source| not_eligible(source.config, request).is_none());
    let several = eligible().nth(1).is_some();
    let mut refused = Vec::new();
    for source in eligible() {
        let config = source.config;
        // What a pool that gives one family only has staged is dropped, if there is another pool to ask.
        let mut trial = several.then(|| session.clone());
        let outcome = pair(trial.as_mut().unwrap_or(session), *source, request)?;
        match outcome {
            Ok(pair) => {
                if let Some(trial) = trial {
                    *session = trial;
                }
                return Ok((config.name(), pair));
            }
            Err(refusal) => refused.push((config.name().clone(), NotFrom::Refused(refusal))),
        }
    }
    let others = order
        .iter()
        .map(|source| source.config)
        .filter_map(|config| Some((config.name().clone(), not_eligible(config, request)?)));
    refused.extend(others);
    Err(NoAddress::new(request, refused).into_error())
}

fn not_eligible(config: &NetworkConfig, request: &AddressRequest) -> Option<NotFrom> {
    if request.pool.as_ref().is_some_and(|pool| pool != config.name()) {
        return Some(NotFrom::NotNamed);
    }
    let nodes = &config.options().nodes;
    (!nodes.matches(&request.labels)).then(|| NotFrom::OtherNodes(nodes.to_string()))
}

/// An address of each family that the pool gives, or why not.
fn pair(
    session: &mut Session<'_>,
    source: Source<'_>,
    request: &AddressRequest,
) -> Result<std::result::Result<Pair, Refusal>> {
    let config = source.config;
    let mut pair = Pair::default();
    for family in IpFamily::BOTH {
        match (config.family(family), request.address(family)) {
            (None, Some(address)) => return Ok(Err(Refusal::Outside { address })),
            (None, None) => {}
            // The pool is leaving the family.
            (Some(_), None) if !source.gives(family) => {}
            (Some(networks), _) => match session.take(config, networks, request)? {
                Ok((number, early)) => {
                    family.address(number).into_iter().for_each(|address| pair.set(address));
                    pair.early |= early;
                }
                Err(refusal) => return Ok(Err(refusal)),
            },
        }
    }
    Ok(Ok(pair))
}

/// The node may be given addresses, and will still be so when the transaction commits.
fn admitted(session: &mut Session<'_>, request: &AddressRequest) -> Result<()> {
    let found = session.node(&request.node)?;
    let (epoch, lost) = found.as_ref().map_or((0, None), |node| (node.epoch, node.lost));
    if let Some(given) = request.epoch.filter(|given| *given != epoch) {
        let detail = Fenced { node: request.node.clone(), given, epoch };
        return Err(Error::of(ErrorKind::Denied, "assign", detail));
    }
    if let Some(since) = lost {
        let detail = NodeLost { node: request.node.clone(), since, epoch };
        return Err(Error::of(ErrorKind::Denied, "assign", detail));
    }
    session.expect_node(&request.node, found.as_ref())
}

/// Stages that the workload has these addresses.
fn hold(
    session: &mut Session<'_>,
    ctx: &TenantContext,
    pool: &PoolName,
    request: AddressRequest,
    (key, pair): (Key, Pair),
) -> Result<(WorkloadId, Lease)> {
    let lease = Lease {
        v4: pair.v4,
        v6: pair.v6,
        pool: pool.clone(),
        request: ctx.request().clone(),
        early: pair.early,
    };
    let holder = Holder {
        workload: request.workload,
        lease,
        node: request.node,
        at: session.now,
        moving: None,
        kept_until: None,
        missed: None,
    };
    holders()?.create(session.view, &mut session.txn, key, &holder)?;
    Ok((holder.workload, holder.lease))
}
