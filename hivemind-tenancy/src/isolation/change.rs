//! What another level demands of a tenant that lives already. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hivemind_core::resources::Resources;
use hivemind_core::{NodeId, TenantRef, VolumeId, WorkloadId};
use serde::{Deserialize, Serialize};

use super::{
    BackupFacts, ClusterFacts, Intents, IpFamily, NetworkIntent, NodeFacts, NodeIntent, NodeSharing,
    StorageIntent,
};

/// One thing to do for a change of level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Move {
    /// Put the tenant's label and taint on a node, on which nobody else is.
    Dedicate {
        /// The node.
        node: NodeId,
        /// The value of label and taint.
        mark: String,
    },
    /// Take the tenant's label and taint off a node.
    Release {
        /// The node.
        node: NodeId,
    },
    /// Move a workload of the tenant to another node.
    Workload {
        /// Which one.
        workload: WorkloadId,
        /// From there.
        from: NodeId,
        /// To there.
        to: NodeId,
    },
    /// Keep other tenants out of the tenant's network, in both families, but for those named.
    Isolate {
        /// Whom a share lets in.
        admitted: BTreeSet<TenantRef>,
    },
    /// No longer keep other tenants out by default.
    Open,
    /// Move a volume to a pool, encrypted with a key.
    Volume {
        /// Which one.
        volume: VolumeId,
        /// The pool.
        pool: String,
        /// The key.
        key: String,
    },
    /// Move the tenant's backups to a repository, encrypted with a key.
    Backups {
        /// The repository.
        repository: String,
        /// The key.
        key: String,
    },
}

/// What is to be done, in this order, so that a tenant is kept apart as demanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChangePlan {
    /// Which tenant.
    pub tenant: TenantRef,
    /// What is to be done.
    pub moves: Vec<Move>,
}

/// Something in the way of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Obstacle {
    /// A workload has to leave its node, and fits on none that could be the tenant's own.
    NoNode {
        /// Which one.
        workload: WorkloadId,
        /// Where it is.
        from: NodeId,
        /// What it uses.
        needs: Resources,
    },
    /// Another tenant's volume is in what is to be the tenant's own pool.
    ForeignVolume {
        /// Whose.
        tenant: TenantRef,
        /// Which one.
        volume: VolumeId,
    },
    /// Another tenant's backups are in what is to be the tenant's own repository.
    ForeignBackups {
        /// Whose.
        tenant: TenantRef,
    },
    /// The tenant shares a node with one that may not be there once the node is shared.
    Apart {
        /// The node.
        node: NodeId,
        /// The other.
        with: TenantRef,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode { workload, from, needs } => write!(
                f,
                "workload {workload} must leave node {from} and needs {needs}: add a node that nobody is on"
            ),
            Self::ForeignVolume { tenant, volume } => {
                write!(f, "volume {volume} of tenant {} is in its pool: move it first", tenant.id)
            }
            Self::ForeignBackups { tenant } => {
                write!(f, "backups of tenant {} are in its repository: move them first", tenant.id)
            }
            Self::Apart { node, with } => {
                write!(f, "tenant {} may not be beside it on node {node}: move one of them first", with.id)
            }
        }
    }
}

/// A change of level that cannot be made as the cluster is: everything in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("tenant {}: {}", .tenant.id, .obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct Unsatisfiable {
    /// Which tenant.
    pub tenant: TenantRef,
    /// What is in the way.
    pub obstacles: Vec<Obstacle>,
}

/// What has to be done so that the tenant of `to` is kept apart as `to` demands. No other tenant is disturbed: nothing of
/// theirs is moved. `sharing` is as it will be: with the new level.
///
/// # Errors
/// [`Unsatisfiable`] names everything that is in the way.
pub fn plan_change(
    to: &Intents,
    sharing: &impl NodeSharing,
    facts: &ClusterFacts,
) -> Result<ChangePlan, Unsatisfiable> {
    let (mut moves, mut obstacles) = (Vec::new(), Vec::new());
    match &to.node {
        NodeIntent::Dedicated { mark } => dedicate(&to.tenant, mark, facts, &mut moves, &mut obstacles),
        NodeIntent::Shared => share(&to.tenant, sharing, facts, &mut moves, &mut obstacles),
    }
    moves.extend(network(to, facts));
    if let StorageIntent::Dedicated(own) = &to.storage {
        for one in &facts.volumes {
            if one.tenant != to.tenant {
                if one.pool == own.name {
                    obstacles.push(Obstacle::ForeignVolume {
                        tenant: one.tenant.clone(),
                        volume: one.volume.clone(),
                    });
                }
            } else if one.pool != own.name || one.key.as_ref() != Some(&own.key) {
                let (pool, key) = (own.name.clone(), own.key.clone());
                moves.push(Move::Volume { volume: one.volume.clone(), pool, key });
            }
        }
    }
    if let Some(own) = &to.backup.own {
        for (tenant, one) in &facts.backups {
            if *tenant != to.tenant {
                if one.repository == own.name {
                    obstacles.push(Obstacle::ForeignBackups { tenant: tenant.clone() });
                }
            } else if one.repository != own.name || one.key.as_ref() != Some(&own.key) {
                moves.push(Move::Backups { repository: own.name.clone(), key: own.key.clone() });
            }
        }
    }
    let tenant = to.tenant.clone();
    match obstacles.is_empty() {
        true => Ok(ChangePlan { tenant, moves }),
        false => Err(Unsatisfiable { tenant, obstacles }),
    }
}

/// Whether the node is, or can be, the tenant's own as it is.
fn can_be_own(tenant: &TenantRef, mark: &str, node: &NodeFacts) -> bool {
    let alone = node.workloads.iter().all(|(one, workloads)| one == tenant || workloads.is_empty());
    let free = |value: &Option<String>| value.as_deref().is_none_or(|value| value == mark);
    alone && free(&node.label) && free(&node.taint)
}

/// What is left of the node's capacity; `None` if it holds more than it has.
fn room(node: &NodeFacts) -> Option<Resources> {
    let mut left = node.capacity.clone();
    for used in node.workloads.values().flat_map(BTreeMap::values) {
        left = left.checked_sub(used).ok()?;
    }
    Some(left)
}

fn dedicate(
    tenant: &TenantRef,
    mark: &str,
    facts: &ClusterFacts,
    moves: &mut Vec<Move>,
    obstacles: &mut Vec<Obstacle>,
) {
    let is_on = |node: &NodeFacts| node.workloads.get(tenant).is_some_and(|all| !all.is_empty());
    let (own, others): (Vec<_>, Vec<_>) =
        facts.nodes.iter().partition(|(_, node)| can_be_own(tenant, mark, node));
    // Nodes that it is on already come first, so that no more become its own than must.
    let (settled, empty): (Vec<_>, Vec<_>) = own.into_iter().partition(|(_, node)| is_on(node));
    let mut dedicated: BTreeSet<&NodeId> = settled.iter().map(|(id, _)| *id).collect();
    let candidates = settled.iter().chain(&empty);
    let mut rooms: Vec<_> = candidates.filter_map(|(id, node)| Some((*id, room(node)?))).collect();
    let mut workloads = Vec::new();
    for (from, node) in others {
        for (workload, needs) in node.workloads.get(tenant).into_iter().flatten() {
            let fits = rooms.iter_mut().find_map(|(id, left)| {
                *left = left.checked_sub(needs).ok()?;
                Some(*id)
            });
            match fits {
                Some(to) => {
                    dedicated.insert(to);
                    workloads.push(Move::Workload {
                        workload: workload.clone(),
                        from: from.clone(),
                        to: to.clone(),
                    });
                }
                None => {
                    let (workload, from) = (workload.clone(), from.clone());
                    obstacles.push(Obstacle::NoNode { workload, from, needs: needs.clone() });
                }
            }
        }
    }
    let unmarked = |id: &&NodeId| {
        let node = facts.nodes.get(*id);
        node.is_some_and(|node| node.label.as_deref() != Some(mark) || node.taint.as_deref() != Some(mark))
    };
    // Marked before anything moves there, so that nobody else comes meanwhile.
    let dedicated = dedicated.into_iter().filter(unmarked);
    moves.extend(dedicated.map(|node| Move::Dedicate { node: node.clone(), mark: mark.to_owned() }));
    moves.extend(workloads);
}

fn share(
    tenant: &TenantRef,
    sharing: &impl NodeSharing,
    facts: &ClusterFacts,
    moves: &mut Vec<Move>,
    obstacles: &mut Vec<Obstacle>,
) {
    let mark = Intents::new(tenant.clone(), super::IsolationLevel::Hard.settings()).node;
    for (id, node) in &facts.nodes {
        let marked = |value: &Option<String>| match (&mark, value) {
            (NodeIntent::Dedicated { mark }, Some(value)) => mark == value,
            _ => false,
        };
        if marked(&node.label) || marked(&node.taint) {
            moves.push(Move::Release { node: id.clone() });
        }
        if node.workloads.get(tenant).is_none_or(BTreeMap::is_empty) {
            continue;
        }
        let here = node.workloads.iter().filter(|(_, all)| !all.is_empty()).map(|(one, _)| one);
        for with in here.filter(|with| !sharing.may_share(id, tenant, with)) {
            obstacles.push(Obstacle::Apart { node: id.clone(), with: with.clone() });
        }
    }
}

fn network(to: &Intents, facts: &ClusterFacts) -> Option<Move> {
    let there = facts.networks.get(&to.tenant);
    match &to.network {
        NetworkIntent::Shared => there.filter(|all| !all.denied.is_empty()).map(|_| Move::Open),
        NetworkIntent::Isolated { admitted } => {
            let denied = there.is_some_and(|all| IpFamily::ALL.iter().all(|one| all.denied.contains(one)));
            let known = there.is_none_or(|all| all.admitted.is_subset(admitted));
            (!denied || !known).then(|| Move::Isolate { admitted: admitted.clone() })
        }
    }
}

impl ChangePlan {
    /// What the cluster is like once all of it is done. A move of something that is not there does nothing.
    pub fn apply(&self, facts: &mut ClusterFacts) {
        for one in &self.moves {
            self.apply_one(one, facts);
        }
    }

    fn apply_one(&self, one: &Move, facts: &mut ClusterFacts) {
        let tenant = &self.tenant;
        match one {
            Move::Dedicate { node, mark } => {
                if let Some(node) = facts.nodes.get_mut(node) {
                    node.label = Some(mark.clone());
                    node.taint = Some(mark.clone());
                }
            }
            Move::Release { node } => {
                if let Some(node) = facts.nodes.get_mut(node) {
                    node.label = None;
                    node.taint = None;
                }
            }
            Move::Workload { workload, from, to } => {
                let theirs = facts.nodes.get_mut(from).and_then(|node| node.workloads.get_mut(tenant));
                let Some(needs) = theirs.and_then(|all| all.remove(workload)) else { return };
                if let Some(node) = facts.nodes.get_mut(to) {
                    node.workloads.entry(tenant.clone()).or_default().insert(workload.clone(), needs);
                }
            }
            Move::Isolate { admitted } => {
                let network = facts.networks.entry(tenant.clone()).or_default();
                network.denied = IpFamily::ALL.into();
                network.admitted = admitted.clone();
            }
            Move::Open => {
                if let Some(network) = facts.networks.get_mut(tenant) {
                    network.denied.clear();
                }
            }
            Move::Volume { volume, pool, key } => {
                let theirs =
                    facts.volumes.iter_mut().filter(|one| one.tenant == *tenant && one.volume == *volume);
                for one in theirs {
                    one.pool.clone_from(pool);
                    one.key = Some(key.clone());
                }
            }
            Move::Backups { repository, key } => {
                let moved = BackupFacts::new(repository.clone()).with_key(key.clone());
                facts.backups.insert(tenant.clone(), moved);
            }
        }
    }
}
