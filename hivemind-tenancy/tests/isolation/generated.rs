//! Clusters that nobody thought of: against a naive checker, and through chains of changes.

use std::collections::BTreeSet;

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{NodeId, TenantRef, WorkloadId};
use hivemind_tenancy::IsolationSettings;
use hivemind_tenancy::isolation::{
    BackupFacts, ClusterFacts, Intents, IpFamily, LevelSharing, NetworkFacts, NodeFacts, Violation,
    VolumeFacts, plan_change, verify,
};
use proptest::prelude::*;

use super::by_hand::tenant;

const TENANTS: usize = 4;

fn who(n: usize) -> TenantRef {
    tenant(&format!("t{n}"), u64::try_from(n).unwrap())
}

fn own(n: usize) -> String {
    format!("t-{n:016x}")
}

fn settings() -> impl Strategy<Value = IsolationSettings> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(network, storage, compute)| {
        IsolationSettings::default()
            .with_network_isolation(network)
            .with_storage_isolation(storage)
            .with_compute_isolation(compute)
    })
}

fn a_tenant() -> impl Strategy<Value = usize> {
    0..TENANTS
}

/// A name that is nobody's, or some tenant's own.
fn a_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("common".to_owned()), a_tenant().prop_map(own)]
}

fn a_node() -> impl Strategy<Value = NodeFacts> {
    let workloads = prop::collection::vec((a_tenant(), 0_u64..3), 0..4);
    (prop::option::of(a_name()), prop::option::of(a_name()), workloads).prop_map(
        |(label, taint, workloads)| {
            let mut node = NodeFacts::default();
            (node.label, node.taint) = (label, taint);
            node.capacity = Resources::new().with_cpu(MilliCpu::from_cores(8));
            for (index, (n, cores)) in workloads.into_iter().enumerate() {
                let uses = Resources::new().with_cpu(MilliCpu::from_cores(cores));
                node.workloads.entry(who(n)).or_default().insert(format!("w{index}").parse().unwrap(), uses);
            }
            node
        },
    )
}

fn facts() -> impl Strategy<Value = ClusterFacts> {
    let nodes = prop::collection::vec(a_node(), 0..5);
    let families = prop::collection::btree_set(prop::sample::select(&IpFamily::ALL[..]), 0..3);
    let network = (families, prop::collection::btree_set(a_tenant(), 0..2));
    let networks = prop::collection::btree_map(a_tenant(), network, 0..4);
    let volumes = prop::collection::vec((a_tenant(), a_name(), prop::option::of(a_name())), 0..5);
    let observers =
        prop::collection::btree_map(a_tenant(), prop::collection::btree_set(a_tenant(), 0..3), 0..4);
    let backups = prop::collection::btree_map(a_tenant(), (a_name(), prop::option::of(a_name())), 0..4);
    (nodes, networks, volumes, observers, backups).prop_map(
        |(nodes, networks, volumes, observers, backups)| {
            let mut facts = ClusterFacts::default();
            for (number, mut node) in nodes.into_iter().enumerate() {
                // A workload is on one node only.
                let named =
                    |(name, uses): (WorkloadId, _)| (format!("{name}-{number}").parse().unwrap(), uses);
                for workloads in node.workloads.values_mut() {
                    *workloads = std::mem::take(workloads).into_iter().map(named).collect();
                }
                facts.nodes.insert(format!("n{number}").parse().unwrap(), node);
            }
            for (n, (denied, admitted)) in networks {
                let mut network = NetworkFacts::default();
                network.denied = denied;
                network.admitted = admitted.into_iter().map(who).collect();
                facts.networks.insert(who(n), network);
            }
            for (index, (n, pool, key)) in volumes.into_iter().enumerate() {
                let mut volume = VolumeFacts::new(who(n), format!("v{index}").parse().unwrap(), pool);
                volume.key = key;
                facts.volumes.push(volume);
            }
            facts.observers = observers
                .into_iter()
                .map(|(by, seen)| (who(by), seen.into_iter().map(who).collect()))
                .collect();
            for (n, (repository, key)) in backups {
                let mut backup = BackupFacts::new(repository);
                backup.key = key;
                facts.backups.insert(who(n), backup);
            }
            facts
        },
    )
}

/// Asks of each tenant, and of each pair, every question by itself.
fn naive(isolation: &[IsolationSettings], facts: &ClusterFacts) -> BTreeSet<Violation> {
    let mut found = BTreeSet::new();
    let is_on = |node: &NodeId, n: usize| facts.nodes[node].workloads.contains_key(&who(n));
    for n in 0..isolation.len() {
        let (settings, tenant) = (isolation[n], who(n));
        for (id, node) in &facts.nodes {
            for missing in ["label", "taint"] {
                let value = if missing == "label" { &node.label } else { &node.taint };
                if settings.compute_isolation && is_on(id, n) && *value != Some(own(n)) {
                    let (missing, mark) = (missing.to_owned(), own(n));
                    found.insert(Violation::UnmarkedNode {
                        tenant: tenant.clone(),
                        node: id.clone(),
                        missing,
                        mark,
                    });
                }
            }
            for other in (0..isolation.len()).filter(|other| *other != n && is_on(id, *other)) {
                let (tenant, node, with) = (tenant.clone(), id.clone(), who(other));
                if settings.compute_isolation && facts.nodes[id].label == Some(own(n)) {
                    let (tenant, node, with) = (tenant.clone(), node.clone(), with.clone());
                    found.insert(Violation::ForeignOnDedicated { tenant, node, with });
                }
                if n < other
                    && is_on(id, n)
                    && (settings.compute_isolation || isolation[other].compute_isolation)
                {
                    found.insert(Violation::SharedNode { tenant, node, with });
                }
            }
        }
        let network = facts.networks.get(&tenant).cloned().unwrap_or_default();
        for family in IpFamily::ALL {
            if settings.network_isolation && !network.denied.contains(&family) {
                found.insert(Violation::OpenNetwork { tenant: tenant.clone(), family });
            }
        }
        for other in (0..isolation.len()).filter(|other| *other != n) {
            let with = who(other);
            if settings.network_isolation && network.admitted.contains(&with) {
                found.insert(Violation::ForeignAdmitted { tenant: tenant.clone(), with: with.clone() });
            }
            if facts.observers.get(&with).is_some_and(|seen| seen.contains(&tenant)) {
                found.insert(Violation::Overseen { tenant: tenant.clone(), by: with.clone() });
            }
            if settings.storage_isolation
                && facts.backups.get(&with).is_some_and(|one| one.repository == own(n))
            {
                found.insert(Violation::ForeignInRepository { tenant: tenant.clone(), with });
            }
        }
        if settings.storage_isolation {
            stored(n, facts, &mut found);
        }
    }
    found
}

/// The questions about data of a tenant whose storage is isolated.
fn stored(n: usize, facts: &ClusterFacts, found: &mut BTreeSet<Violation>) {
    let tenant = who(n);
    for one in &facts.volumes {
        let volume = one.volume.clone();
        if one.tenant != tenant {
            if one.pool == own(n) {
                let with = one.tenant.clone();
                found.insert(Violation::ForeignInPool { tenant: tenant.clone(), with, volume });
            }
            continue;
        }
        if one.pool != own(n) {
            let (tenant, volume, pool) = (tenant.clone(), volume.clone(), one.pool.clone());
            found.insert(Violation::SharedPool { tenant, volume, pool });
        }
        if one.key != Some(own(n)) {
            found.insert(Violation::ForeignKey { tenant: tenant.clone(), volume });
        }
    }
    let Some(backup) = facts.backups.get(&tenant) else { return };
    if backup.repository != own(n) {
        let repository = backup.repository.clone();
        found.insert(Violation::SharedRepository { tenant: tenant.clone(), repository });
    }
    if backup.key != Some(own(n)) {
        found.insert(Violation::ForeignBackupKey { tenant });
    }
}

fn intents(isolation: &[IsolationSettings]) -> Vec<Intents> {
    isolation.iter().enumerate().map(|(n, settings)| Intents::new(who(n), *settings)).collect()
}

proptest! {
    #[test]
    fn verify_finds_what_the_naive_checker_finds(
        isolation in prop::collection::vec(settings(), TENANTS), facts in facts(),
    ) {
        let intents = intents(&isolation);
        let found = verify(&intents, &LevelSharing::of(&intents), &facts);
        let sorted: Vec<_> = naive(&isolation, &facts).into_iter().collect();
        prop_assert_eq!(found, sorted);
    }

    /// In a cluster where all is well, levels change one after the other: each change that can be made leaves all well,
    /// and touches nothing of other tenants.
    #[test]
    fn a_change_that_is_carried_out_leaves_no_violation(
        mut facts in facts(),
        changes in prop::collection::vec((a_tenant(), settings()), 1..8),
    ) {
        let mut isolation = vec![IsolationSettings::default(); TENANTS];
        facts.observers.clear();
        for node in facts.nodes.values_mut() {
            (node.label, node.taint) = (None, None);
        }
        for (n, settings) in changes {
            let mut wanted = isolation.clone();
            wanted[n] = settings;
            let intents = intents(&wanted);
            let sharing = LevelSharing::of(&intents);
            let before = facts.clone();
            let Ok(plan) = plan_change(&intents[n], &sharing, &facts) else { continue };
            plan.apply(&mut facts);
            prop_assert_eq!(verify(&intents, &sharing, &facts), vec![]);
            for other in (0..TENANTS).filter(|other| *other != n) {
                for (id, node) in &facts.nodes {
                    prop_assert_eq!(node.workloads.get(&who(other)), before.nodes[id].workloads.get(&who(other)));
                }
                prop_assert_eq!(facts.networks.get(&who(other)), before.networks.get(&who(other)));
                prop_assert_eq!(facts.backups.get(&who(other)), before.backups.get(&who(other)));
            }
            for node in facts.nodes.values() {
                let used: u64 = node.workloads.values().flatten().map(|(_, one)| one.cpu().as_millis()).sum();
                prop_assert!(used <= node.capacity.cpu().as_millis());
            }
            let count = |facts: &ClusterFacts| facts.nodes.values().flat_map(|node| node.workloads.values().flatten()).count();
            prop_assert_eq!(count(&facts), count(&before), "a workload was lost");
            isolation = wanted;
        }
    }

    /// A change is refused only where it must be: with an empty node for every workload and nothing in its places, there
    /// is always a plan.
    #[test]
    fn with_room_enough_there_is_always_a_plan(mut facts in facts(), n in a_tenant(), settings in settings()) {
        for node in facts.nodes.values_mut() {
            (node.label, node.taint) = (None, None);
        }
        facts.volumes.retain(|one| one.pool == "common");
        facts.backups.retain(|_, one| one.repository == "common");
        for extra in 0..20 {
            let mut empty = NodeFacts::default();
            empty.capacity = Resources::new().with_cpu(MilliCpu::from_cores(8));
            facts.nodes.insert(format!("extra{extra}").parse().unwrap(), empty);
        }
        let to = Intents::new(who(n), settings);
        prop_assert!(plan_change(&to, &LevelSharing::of([&to]), &facts).is_ok());
    }
}
