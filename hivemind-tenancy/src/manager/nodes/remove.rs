//! Nodes that go, with what runs on them or not, and what their taints put out.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, NodeId, Result, TenantContext, TenantRef, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::super::TenantManager;
use super::administered;
use super::displace::{VICTIMS, all_budgets, stage_kept};
use crate::placement::NodeState;
use crate::placement::{DisplacedBy, allocations, evictions, nodes, within_budgets};

/// What becomes of what runs on a node that is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Removal {
    /// A node that runs something stays.
    IfEmpty,
    /// It is put out as far as disruption budgets allow; the node stays, cordoned, while there is some left.
    Drain,
    /// It is put out, whatever budgets say: the node is lost.
    Force,
}

/// How far the removal of a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeRemoval {
    /// What this call put out, by tenant and name.
    pub displaced: Vec<(TenantRef, WorkloadId)>,
    /// How many still run there: call again when those displaced run elsewhere.
    pub left: usize,
}

impl NodeRemoval {
    /// Whether the node is gone.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }
}

impl TenantManager {
    /// Stages that a node goes, and of what runs on it as much as fits one transaction: 32 workloads. Each is on record
    /// ([`displaced`](Self::displaced)); its charge is the host's to give back. When nothing is left the node goes too.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such node, [`ErrorKind::Denied`] outside the context of the system tenant,
    /// [`ErrorKind::Conflict`] if something runs there and `how` is [`Removal::IfEmpty`].
    pub fn stage_remove_node(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &NodeId,
        how: Removal,
    ) -> Result<NodeRemoval> {
        administered(ctx)?;
        let node = nodes()?.require(view, txn, &nodes()?.key([id.as_str()])?)?;
        let running = allocations()?.require(view, txn, &allocations()?.key([id.as_str()])?)?;
        let named = running
            .workloads
            .iter()
            .flat_map(|(tenant, theirs)| theirs.keys().map(|workload| (tenant.clone(), workload.clone())));
        let mut all: Vec<_> = named.collect();
        let there = all.len();
        match how {
            Removal::IfEmpty if there > 0 => {
                let message = format!("node {id} runs {there} workloads: drain it, or remove it by force");
                return Err(Error::new(ErrorKind::Conflict, "remove node", message));
            }
            Removal::IfEmpty | Removal::Force => all.truncate(VICTIMS),
            Removal::Drain => {
                let cluster = self.nodes(view, txn)?;
                let pairs: Vec<_> = cluster.iter().map(|(one, here)| (&*one.value, &*here.value)).collect();
                let budgets = all_budgets(view, txn)?;
                all = within_budgets(&budgets, &pairs, all);
                all.truncate(VICTIMS);
                stage_kept(txn, &budgets, &cluster, &all)?;
            }
        }
        if !all.is_empty() {
            let by = if how == Removal::Force { DisplacedBy::Removal } else { DisplacedBy::Drain };
            self.stage_displace(view, txn, (id, &running), &all, by)?;
        }
        let left = there.saturating_sub(all.len());
        if left == 0 {
            // What was staged above is what goes.
            let running = allocations()?.require(view, txn, &running.stored_at)?;
            allocations()?.delete(txn, &running)?;
            nodes()?.delete(txn, &node)?;
        } else if node.state == NodeState::Ready {
            let mut cordoned = (*node.value).clone();
            cordoned.state = NodeState::Cordoned;
            nodes()?.update(txn, &node, &cordoned)?;
        }
        Ok(NodeRemoval { displaced: all, left })
    }

    /// Stages that what a `NoExecute` taint puts out at `now` goes, as many as fit one transaction; returns whether there
    /// are more. Budgets do not count here, as in Kubernetes: the taint tells that the node is of no use. Run it when
    /// the first of [`evictions`] is due.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the context of the system tenant.
    pub fn stage_evict(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        now: Timestamp,
    ) -> Result<bool> {
        administered(ctx)?;
        let cluster = self.nodes(view, txn)?;
        // Beside three records of each workload, each node has two.
        let mut room = 3 * VICTIMS + 2;
        for (node, running) in &cluster {
            let all = evictions(&[(&*node.value, &*running.value)]);
            let due = all.into_iter().filter(|one| one.is_due(now));
            let mut victims: Vec<_> = due.map(|one| (one.tenant, one.workload)).collect();
            let most = room.saturating_sub(2) / 3;
            let more = victims.len() > most;
            victims.truncate(most);
            if !victims.is_empty() {
                // The taint must still be there.
                nodes()?.expect(txn, node)?;
                self.stage_displace(view, txn, (&node.id, running), &victims, DisplacedBy::Taint)?;
                room = room.saturating_sub(2 + 3 * victims.len());
            }
            if more {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
