//! More important workloads put out less important ones, and it ends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::labels::Labels;
use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{ErrorKind, Generation, TenantRef, WorkloadId};
use hivemind_tenancy::placement::{
    Ask, DisruptionBudget, Packing, Preemption, Reach, Rejection, Unplaceable, WorkloadRequest,
};
use hivemind_tenancy::{ClusterIndex, Node};
use proptest::prelude::*;

fn tenant(name: &str) -> TenantRef {
    TenantRef::new(name.parse().unwrap(), Generation::from_u64(1))
}

fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

fn workload(name: &str, size: u64, priority: i32) -> WorkloadRequest {
    let app = name.split('-').next().unwrap();
    WorkloadRequest::new(name.parse().unwrap(), cores(size))
        .with_priority(priority)
        .with_labels(Labels::new().with("app", app).unwrap())
}

/// Nodes of these sizes, filled with what runs.
fn index(nodes: &[u64], running: &[(&TenantRef, WorkloadRequest)]) -> ClusterIndex {
    let mut index = ClusterIndex::new(Packing::Spread, 1);
    for (number, size) in nodes.iter().enumerate() {
        index.add_node(Node::new(format!("n{number}").parse().unwrap(), cores(*size))).unwrap();
    }
    for (tenant, workload) in running {
        index.place(Ask::new(tenant, workload)).unwrap();
    }
    index
}

fn names(decided: &Preemption) -> Vec<&str> {
    decided.victims.iter().map(|(_, id)| id.as_str()).collect()
}

#[test]
fn only_strictly_less_important_ones_of_the_own_tenant_go_unless_told() {
    let (acme, other) = (tenant("acme"), tenant("other"));
    let mut index = index(&[2], &[(&acme, workload("a", 1, 5)), (&other, workload("b", 1, 0))]);
    let mut ask = |size, priority, reach| {
        let workload = workload("w", size, priority);
        let decided = index.preempt(Ask::new(&acme, &workload), reach, &[]);
        decided.map(|decided| names(&decided).join(",")).map_err(|e| e.kind())
    };
    assert_eq!(ask(1, 5, Reach::OwnTenant), Err(ErrorKind::Exhausted), "an equal stays");
    assert_eq!(ask(1, 6, Reach::OwnTenant), Ok("a".to_owned()));
    assert_eq!(ask(1, 6, Reach::AllTenants), Ok("b".to_owned()), "the least important first");
    assert_eq!(ask(2, 6, Reach::AllTenants), Ok("b,a".to_owned()));
    assert_eq!(ask(3, 6, Reach::AllTenants), Err(ErrorKind::Exhausted));
}

#[test]
fn nobody_goes_if_there_is_room_and_reasons_are_given_if_it_does_not_help() {
    let acme = tenant("acme");
    let mut index = index(&[2, 1], &[(&acme, workload("a", 2, 0))]);
    let ask = workload("w", 1, 9);
    let decided = index.preempt(Ask::new(&acme, &ask), Reach::OwnTenant, &[]).unwrap();
    assert_eq!((decided.node.as_str(), decided.victims.len()), ("n1", 0));
    let error = index.preempt(Ask::new(&acme, &workload("w", 9, 9)), Reach::OwnTenant, &[]).unwrap_err();
    let why = &error.detail::<Unplaceable>().unwrap().workloads[0].rejected;
    assert_eq!(*why, BTreeMap::from([(Rejection::Full, 2)]));
    // Room is not what keeps it away: nobody is put out for nothing.
    let elsewhere = workload("w", 2, 9).on("zone=x".parse().unwrap());
    assert!(index.preempt(Ask::new(&acme, &elsewhere), Reach::OwnTenant, &[]).is_err());
}

#[test]
fn the_node_with_the_least_important_and_fewest_victims_is_taken() {
    let acme = tenant("acme");
    let running = [("a", 4, 3), ("c", 4, 1), ("b-1", 2, 1), ("b-2", 2, 1)]
        .map(|(name, size, priority)| (&acme, workload(name, size, priority)));
    let mut index = index(&[4, 4, 4], &running);
    let ask = workload("w", 4, 9);
    let decided = index.preempt(Ask::new(&acme, &ask), Reach::OwnTenant, &[]).unwrap();
    assert_eq!(names(&decided), ["c"]);
    index.put_out(Ask::new(&acme, &ask), &decided).unwrap();
    assert_eq!(index.running(&decided.node).unwrap(), [(acme.clone(), "w".parse().unwrap())]);
    // The same decision does not apply twice, and changes nothing.
    let again = workload("v", 4, 9);
    assert_eq!(index.put_out(Ask::new(&acme, &again), &decided).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(index.running(&decided.node).unwrap().len(), 1);
}

#[test]
fn budgets_are_kept() {
    let acme = tenant("acme");
    let running =
        [("a-1", 0), ("a-2", 0), ("b-1", 3)].map(|(name, priority)| (&acme, workload(name, 1, priority)));
    let mut index = index(&[3], &running);
    let budget = |left| DisruptionBudget::new(acme.clone(), "app=a".parse().unwrap(), left);
    let mut ask = |size, budgets: &[DisruptionBudget]| {
        let workload = workload("w", size, 9);
        let decided = index.preempt(Ask::new(&acme, &workload), Reach::OwnTenant, budgets);
        decided.map(|decided| decided.victims.len()).map_err(|e| e.kind())
    };
    assert_eq!(ask(2, &[]), Ok(2));
    assert_eq!(ask(2, &[budget(1)]), Ok(2), "one of a, and the more important b");
    assert_eq!(ask(2, &[budget(2)]), Err(ErrorKind::Exhausted));
    assert_eq!(ask(1, &[budget(2)]), Ok(1));
    assert_eq!(ask(1, &[budget(0), budget(2)]), Ok(1), "the stricter of two counts");
}

#[test]
fn whom_it_must_run_beside_stays() {
    let acme = tenant("acme");
    let mut index = index(&[2], &[(&acme, workload("db", 1, 0)), (&acme, workload("x", 1, 5))]);
    let mut ask = workload("w", 1, 9);
    let beside = hivemind_tenancy::placement::AffinityTerm::new(
        "app=db".parse().unwrap(),
        hivemind_tenancy::placement::Topology::Node,
    );
    ask.affinity.required.push(beside);
    let decided = index.preempt(Ask::new(&acme, &ask), Reach::OwnTenant, &[]).unwrap();
    assert_eq!(names(&decided), ["x"]);
}

/// A node that shrank below what runs there has to lose that much first.
#[test]
fn a_node_that_holds_more_than_it_can_is_no_bargain() {
    let acme = tenant("acme");
    let running = ["a", "b", "c", "d"].map(|name| (&acme, workload(name, 1, 0)));
    let mut index = index(&[4], &running);
    index.update_node(Node::new("n0".parse().unwrap(), cores(2))).unwrap();
    let ask = workload("w", 1, 9);
    let decided = index.preempt(Ask::new(&acme, &ask), Reach::OwnTenant, &[]).unwrap();
    assert_eq!(decided.victims.len(), 3, "one of two is left, beside the one that comes");
    // Half of the decision is not enough.
    let mut half = decided.clone();
    half.victims.truncate(1);
    assert_eq!(index.put_out(Ask::new(&acme, &ask), &half).unwrap_err().kind(), ErrorKind::Conflict);
    index.put_out(Ask::new(&acme, &ask), &decided).unwrap();
    assert_eq!(index.running(&decided.node).unwrap().len(), 2);
}

#[test]
fn a_decision_that_no_longer_holds_puts_nobody_out() {
    let acme = tenant("acme");
    let mut index = index(&[1, 1], &[(&acme, workload("a", 1, 0)), (&acme, workload("b", 1, 5))]);
    let ask = workload("w", 1, 3);
    let decided = index.preempt(Ask::new(&acme, &ask), Reach::OwnTenant, &[]).unwrap();
    assert_eq!(names(&decided), ["a"]);
    let refused = |index: &mut ClusterIndex, decided: &Preemption| {
        let kind = index.put_out(Ask::new(&acme, &ask), decided).unwrap_err().kind();
        (kind, index.running(&decided.node).unwrap().len())
    };
    // One victim named twice makes no more room than once.
    let mut twice = decided.clone();
    twice.victims.push(twice.victims[0].clone());
    assert_eq!(refused(&mut index, &twice), (ErrorKind::Conflict, 1));
    // The victim has become more important.
    index.unassign(&acme, &"a".parse().unwrap()).unwrap();
    assert_eq!(index.place(Ask::new(&acme, &workload("a", 1, 9))).unwrap(), decided.node);
    assert_eq!(refused(&mut index, &decided), (ErrorKind::Conflict, 1));
    // Whom it was for runs by now.
    index.unassign(&acme, &"a".parse().unwrap()).unwrap();
    index.place(Ask::new(&acme, &workload("a", 1, 0))).unwrap();
    index.add_node(Node::new("n9".parse().unwrap(), cores(1))).unwrap();
    index.place(Ask::new(&acme, &ask)).unwrap();
    assert_eq!(refused(&mut index, &decided), (ErrorKind::AlreadyExists, 1));
}

/// A cluster with what runs and what waits.
struct Sim {
    index: ClusterIndex,
    tenants: Vec<TenantRef>,
    all: BTreeMap<WorkloadId, (usize, WorkloadRequest)>,
    waiting: BTreeSet<WorkloadId>,
    budgets: Vec<DisruptionBudget>,
    /// Who put out whom.
    put_out: BTreeSet<(WorkloadId, WorkloadId)>,
}

impl Sim {
    fn new(nodes: &[u64], workloads: &[(usize, u64, i32)], left: u64) -> Self {
        let tenants = vec![tenant("a"), tenant("b")];
        let named = |(number, (who, size, priority)): (usize, &(usize, u64, i32))| {
            let workload = workload(&format!("w{}-{number}", number % 2), *size, *priority);
            (workload.id.clone(), (*who, workload))
        };
        let all: BTreeMap<_, _> = workloads.iter().enumerate().map(named).collect();
        let budgets = vec![DisruptionBudget::new(tenants[0].clone(), "app=w0".parse().unwrap(), left)];
        let waiting = all.keys().cloned().collect();
        Self { index: index(nodes, &[]), tenants, all, waiting, budgets, put_out: BTreeSet::new() }
    }

    /// The priorities that run, the highest first.
    fn potential(&self) -> Vec<Reverse<i32>> {
        let running = self.all.iter().filter(|(id, _)| !self.waiting.contains(*id));
        let mut all: Vec<_> = running.map(|(_, (_, workload))| Reverse(workload.priority)).collect();
        all.sort();
        all
    }

    fn protected(&self) -> u64 {
        let of = |(id, (who, workload)): &(&WorkloadId, &(usize, WorkloadRequest))| {
            *who == 0 && !self.waiting.contains(*id) && workload.labels.get("app").unwrap().as_str() == "w0"
        };
        self.all.iter().filter(of).count() as u64
    }

    /// Whether it got room, by putting out others or not. What it does is checked.
    fn step(&mut self, id: &WorkloadId) -> Result<bool, TestCaseError> {
        let (who, workload) = self.all[id].clone();
        let ask = Ask::new(&self.tenants[who], &workload);
        let Ok(decided) = self.index.preempt(ask, Reach::AllTenants, &self.budgets) else { return Ok(false) };
        let (before, protected) = (self.potential(), self.protected());
        self.index.put_out(ask, &decided).unwrap();
        self.waiting.remove(id);
        for (_, victim) in &decided.victims {
            prop_assert!(self.all[victim].1.priority < workload.priority);
            prop_assert!(!self.put_out.contains(&(victim.clone(), id.clone())), "{victim} once put out {id}");
            self.put_out.insert((id.clone(), victim.clone()));
            self.waiting.insert(victim.clone());
        }
        // The list grows at its end, or a place in it gets a higher priority: in this order both are progress.
        let after = self.potential();
        let first = before.iter().zip(&after).position(|(before, after)| before != after);
        let larger = first.map_or(after.len() > before.len(), |at| after[at] < before[at]);
        prop_assert!(larger, "{before:?} became {after:?}");
        prop_assert!(self.protected() >= protected.min(self.budgets[0].min_available));
        Ok(true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The most important first: every workload gets its turn once, so that it ends within as many steps as there are
    /// workloads, and nobody who waits then could put out anybody.
    #[test]
    fn pitfall_07_preemption_reaches_a_fixpoint_within_as_many_steps_as_workloads(
        nodes in prop::collection::vec(1u64..6, 1..5),
        workloads in prop::collection::vec((0usize..2, 1u64..5, 0i32..5), 1..16),
        first in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
        left in 0u64..3,
    ) {
        let mut sim = Sim::new(&nodes, &workloads, left);
        // Some run already, whoever came first.
        for index in first {
            let id = sim.all.keys().nth(index.index(workloads.len())).unwrap().clone();
            let (who, workload) = &sim.all[&id];
            if sim.waiting.contains(&id) && sim.index.place(Ask::new(&sim.tenants[*who], workload)).is_ok() {
                sim.waiting.remove(&id);
            }
        }
        let (mut steps, mut refused) = (0, BTreeSet::new());
        loop {
            let next = sim.waiting.iter().filter(|id| !refused.contains(*id));
            let Some(id) = next.max_by_key(|id| (sim.all[*id].1.priority, Reverse((*id).clone()))).cloned() else { break };
            steps += 1;
            prop_assert!(steps <= workloads.len(), "still not settled");
            if !sim.step(&id)? {
                refused.insert(id);
            }
        }
        // A budget may allow later what it did not allow before; without one, nobody who waits could do more.
        for id in sim.waiting.clone().into_iter().filter(|_| left == 0) {
            prop_assert!(!sim.step(&id)?, "{id} was refused too early");
        }
    }

    /// In whatever order they try again and again: it ends, and no victim ever puts out who put it out.
    #[test]
    fn pitfall_07_no_order_of_attempts_goes_in_circles(
        nodes in prop::collection::vec(1u64..6, 1..4),
        workloads in prop::collection::vec((0usize..2, 1u64..5, 0i32..4), 1..10),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        left in 0u64..3,
    ) {
        let mut sim = Sim::new(&nodes, &workloads, left);
        for index in order {
            if sim.waiting.is_empty() { break }
            let id = sim.waiting.iter().nth(index.index(sim.waiting.len())).unwrap().clone();
            sim.step(&id)?;
        }
        // From here, everybody in turn until nothing moves: the growing list of priorities bounds it.
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for id in sim.waiting.clone() {
                moved |= sim.waiting.contains(&id) && sim.step(&id)?;
            }
            if !moved { break }
            rounds += 1;
            prop_assert!(rounds <= 1 << workloads.len(), "it goes in circles");
        }
    }
}
