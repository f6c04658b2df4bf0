//! How well a node that passes suits a workload, one wish each. No I/O, no clock, no async.
#![allow(clippy::exhaustive_structs, reason = "a wish has no data")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::cluster::{Ask, Cluster, FULL, Seat, share};
use super::filters::{CompiledTerm, fewest, spread_counts};
use super::rules::{AffinityTerm, Stance, Weighted, WhenUnsatisfiable};
use super::taint::discouraging;
use super::{NodeState, Packing, PlacedWorkload, Topology};

/// One more replica on a node weighs more than anything else.
pub(crate) const REPLICA: u64 = 1_000_000_000;
/// A wish of weight 100 weighs as much as the difference between an empty and a full node.
pub(crate) const WISH: u64 = 2 * FULL / 100;
/// A taint that is only a preference, or one workload more than in the emptiest place.
pub(crate) const STEP: u64 = 1_000_000;

/// A score made ready for one workload: the lower the better.
pub type Rate<'a> = Box<dyn Fn(&Seat<'_>) -> u64 + 'a>;

/// A wish about nodes. Plain data in, plain data out: it can be asked alone, without an engine.
pub trait Score: fmt::Debug + Send + Sync {
    /// Makes it ready for one workload.
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Rate<'a>;

    /// Whether what it says of a node depends on that node alone, so that only a node that changes is asked again.
    fn is_local(&self, ask: Ask<'_>) -> bool {
        let _ = ask;
        false
    }
}

/// Every wish.
pub fn scores() -> Vec<Box<dyn Score>> {
    vec![
        Box::new(Load),
        Box::new(Replicas),
        Box::new(NodePreference),
        Box::new(TaintPreference),
        Box::new(WorkloadPreference),
        Box::new(SpreadPreference),
        Box::new(HostPreference),
    ]
}

/// The emptiest node, or the fullest, as the request says.
#[derive(Debug, Clone, Copy)]
pub struct Load;

/// How far a node is from what the packing wants, before a workload that takes `more` of it comes.
pub(crate) fn rank(packing: Packing, load: u64) -> u64 {
    match packing {
        Packing::Spread => load,
        Packing::BinPack => FULL.saturating_sub(load),
    }
}

impl Score for Load {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Rate<'a> {
        Box::new(move |seat| {
            let more = share(&ask.workload.resources, &seat.node.capacity);
            rank(ask.packing, seat.load()).saturating_add(rank(ask.packing, more))
        })
    }
    fn is_local(&self, _: Ask<'_>) -> bool {
        true
    }
}

/// Workloads with the same spread key go to different nodes.
#[derive(Debug, Clone, Copy)]
pub struct Replicas;

impl Score for Replicas {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Rate<'a> {
        let Some(key) = ask.workload.spread_key.as_deref() else { return Box::new(|_| 0) };
        Box::new(move |seat| u64::from(seat.running.replicas(ask.tenant, key)).saturating_mul(REPLICA))
    }
    fn is_local(&self, _: Ask<'_>) -> bool {
        true
    }
}

/// The preferred terms of the node affinity.
#[derive(Debug, Clone, Copy)]
pub struct NodePreference;

impl Score for NodePreference {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Rate<'a> {
        let preferred = &ask.workload.node_affinity.preferred;
        let terms: Vec<_> = preferred
            .iter()
            .filter_map(|wish| Some((wish.weight(), CompiledTerm::new(&wish.term)?)))
            .collect();
        Box::new(move |seat| {
            let unmet = |(weight, term): &(u64, CompiledTerm)| {
                if term.matches(seat.node) { 0 } else { weight * WISH }
            };
            terms.iter().map(unmet).sum()
        })
    }
    fn is_local(&self, _: Ask<'_>) -> bool {
        true
    }
}

/// Taints that are only preferences.
#[derive(Debug, Clone, Copy)]
pub struct TaintPreference;

impl Score for TaintPreference {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Rate<'a> {
        Box::new(move |seat| {
            let against = discouraging(&seat.node.taints, &ask.workload.tolerations);
            u64::try_from(against).unwrap_or(u64::MAX).saturating_mul(STEP)
        })
    }
    fn is_local(&self, _: Ask<'_>) -> bool {
        true
    }
}

/// The workloads it would rather run beside, or apart from; and those that would rather have it beside them, or not.
///
/// The latter is what Kubernetes' `InterPodAffinity` does: terms of workloads that run count too where they select the
/// one that comes, those that they require by [`Ask::hard_affinity_weight`]. Other than there, a term counts once for a
/// place, however many hold it there.
#[derive(Debug, Clone, Copy)]
pub struct WorkloadPreference;

/// The wishes about the workload of `ask` that workloads of its tenant have, each once.
fn theirs<'c>(ask: Ask<'_>, cluster: &'c Cluster<'_>) -> BTreeSet<(&'c AffinityTerm, Stance)> {
    let speaking = if cluster.speaks(ask.tenant) { cluster.seats() } else { &[] };
    let up = speaking.iter().filter(|seat| seat.node.state != NodeState::Failed);
    let all = up.flat_map(|seat| seat.of(ask.tenant)).flat_map(PlacedWorkload::stances);
    let wishes = all.filter(|(_, stance)| stance.wish(ask.hard_affinity_weight).is_some());
    wishes.filter(|(term, _)| term.workloads.matches(&ask.workload.labels)).collect()
}

impl Score for WorkloadPreference {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Rate<'a> {
        let affinity = &ask.workload.affinity;
        let ready = |wishes: &'a [Weighted<AffinityTerm>], wanted: bool| {
            let count = |wish: &'a Weighted<AffinityTerm>| {
                let selector = wish.term.workloads.compile();
                let counts =
                    cluster.count(&wish.term.topology, ask.tenant, |one| selector.matches(&one.labels));
                (wish.weight(), wish.term.topology.clone(), counts, wanted)
            };
            wishes.iter().map(count).collect::<Vec<_>>()
        };
        let mut all = ready(&affinity.preferred, true);
        all.extend(ready(&affinity.anti_preferred, false));
        for (term, stance) in theirs(ask, cluster) {
            let Some((weight, wanted)) = stance.wish(ask.hard_affinity_weight) else { continue };
            let holds = |one: &PlacedWorkload| one.stances().any(|held| held == (term, stance));
            let counts = cluster.count(&term.topology, ask.tenant, holds);
            if !counts.is_empty() {
                all.push((weight, term.topology.clone(), counts, wanted));
            }
        }
        Box::new(move |seat| {
            let unmet =
                |(weight, topology, counts, wanted): &(u64, Topology, BTreeMap<String, u64>, bool)| {
                    let there = topology.domain(seat.node).is_some_and(|domain| counts.contains_key(domain));
                    if there == *wanted { 0 } else { weight * WISH }
                };
            all.iter().map(unmet).sum()
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        // What it prefers, others that are like it prefer too; and those it must be beside draw them.
        let affinity = &ask.workload.affinity;
        affinity.preferred.is_empty() && affinity.anti_preferred.is_empty() && affinity.required.is_empty()
    }
}

/// Spreads that are only preferences.
#[derive(Debug, Clone, Copy)]
pub struct SpreadPreference;

impl Score for SpreadPreference {
    fn prepare<'a>(&self, ask: Ask<'a>, cluster: &Cluster<'_>) -> Rate<'a> {
        let soft = ask.workload.spread.iter().filter(|one| one.when == WhenUnsatisfiable::ScheduleAnyway);
        let ready: Vec<_> = soft
            .map(|spread| {
                let counts = spread_counts(ask, cluster, spread);
                let least = fewest(spread, counts.values().copied());
                let most = counts.values().copied().max().unwrap_or_default();
                (&spread.topology, counts, least, most)
            })
            .collect();
        Box::new(move |seat| {
            let uneven = |(topology, counts, least, most): &(&Topology, BTreeMap<String, u64>, u64, u64)| {
                let here = topology.domain(seat.node).and_then(|domain| counts.get(domain)).copied();
                // A node in no place is worse than the fullest place.
                here.unwrap_or(most + 1).saturating_sub(*least).saturating_mul(STEP)
            };
            ready.iter().map(uneven).fold(0, u64::saturating_add)
        })
    }
    fn is_local(&self, ask: Ask<'_>) -> bool {
        ask.workload.spread.iter().all(|one| one.when != WhenUnsatisfiable::ScheduleAnyway)
    }
}

/// What the host has against a node.
#[derive(Debug, Clone, Copy)]
pub struct HostPreference;

impl Score for HostPreference {
    fn prepare<'a>(&self, ask: Ask<'a>, _: &Cluster<'_>) -> Rate<'a> {
        Box::new(move |seat| ask.opinion.and_then(|opinion| opinion.of(seat.node)).unwrap_or_default())
    }
    fn is_local(&self, _: Ask<'_>) -> bool {
        true
    }
}
