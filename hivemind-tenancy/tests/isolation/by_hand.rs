//! Cases that a person thought of.

use std::collections::BTreeSet;

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{Generation, NodeId, TenantRef};
use hivemind_tenancy::isolation::{
    BackupFacts, ClusterFacts, Finding, Intents, IpFamily, LevelSharing, Move, NetworkFacts, NetworkIntent,
    NodeFacts, NodeIntent, StorageIntent, VolumeFacts, compile, plan_change, verify,
};
use hivemind_tenancy::{IsolationLevel, IsolationSettings, TenantSpec};

use crate::common::World;

pub(crate) fn tenant(id: &str, generation: u64) -> TenantRef {
    TenantRef::new(id.parse().unwrap(), Generation::from_u64(generation))
}

fn cores(cores: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(cores))
}

fn node(occupants: &[(&TenantRef, u64)]) -> NodeFacts {
    let mut node = NodeFacts::default();
    node.capacity = cores(4);
    for (tenant, used) in occupants {
        let name = format!("{}-1", tenant.id).parse().unwrap();
        node.workloads.entry((*tenant).clone()).or_default().insert(name, cores(*used));
    }
    node
}

#[test]
fn each_level_demands_what_its_name_says() {
    let acme = tenant("acme", 1);
    let of = |level: IsolationLevel| Intents::new(acme.clone(), level.settings());
    let hard = of(IsolationLevel::Hard);
    assert!(matches!(&hard.node, NodeIntent::Dedicated { mark } if mark == "t-0000000000000001"));
    assert!(matches!(&hard.storage, StorageIntent::Dedicated(own) if own.key == "t-0000000000000001"));
    assert!(hard.backup.own.is_some());
    let soft = of(IsolationLevel::Soft);
    assert_eq!(
        (soft.node, soft.network, soft.storage),
        (NodeIntent::Shared, NetworkIntent::Shared, StorageIntent::Shared)
    );
    let network = of(IsolationLevel::NetworkOnly);
    assert_eq!((network.node, network.storage), (NodeIntent::Shared, StorageIntent::Shared));
    assert!(matches!(network.network, NetworkIntent::Isolated { .. }));
    for level in [IsolationLevel::Hard, IsolationLevel::Soft, IsolationLevel::NetworkOnly] {
        assert_eq!(of(level).observe.tenants, BTreeSet::from([acme.clone()]));
        assert_eq!(of(level).backup.scope, acme);
        assert!(level.findings().is_empty());
    }
}

#[test]
fn a_tenant_is_kept_apart_wherever_one_above_it_is() {
    let world = World::new();
    let spec = |id: &str, level| TenantSpec::new(id.parse().unwrap()).with_isolation(level);
    let root = world.tenant(spec("root", IsolationLevel::NetworkOnly));
    let compute = IsolationSettings::default().with_compute_isolation(true).with_network_isolation(true);
    let leaf = world.tenant(spec("leaf", IsolationLevel::Custom(compute)).below(root.tenant.clone()));
    // A parent that becomes stricter later makes those below it stricter, whatever their records say.
    let mut strict = root.clone();
    strict.isolation_level = IsolationLevel::Hard;
    assert_eq!(compile(&leaf, [&root]).storage, StorageIntent::Shared);
    let now = compile(&leaf, [&strict]);
    assert!(matches!(now.storage, StorageIntent::Dedicated(_)));
    assert!(!now.isolation.resource_guarantees);
}

#[test]
fn settings_that_do_not_protect_as_they_seem_are_flagged() {
    let compute = IsolationSettings::default().with_compute_isolation(true);
    assert_eq!(compute.findings(), [Finding::ComputeWithoutStorage, Finding::ComputeWithoutNetwork]);
    assert_eq!(IsolationLevel::Custom(IsolationSettings::default()).findings(), [Finding::NothingIsolated]);
    let full = compute.with_storage_isolation(true).with_network_isolation(true);
    assert!(full.findings().is_empty());
    assert!(Finding::ComputeWithoutStorage.to_string().contains("isolate storage too"));
}

/// A cluster in which everything is wrong once.
#[test]
fn every_violation_is_listed_with_what_to_do() {
    let (a, b) = (tenant("a", 1), tenant("b", 2));
    let intents = [
        Intents::new(a.clone(), IsolationLevel::Hard.settings()),
        Intents::new(b.clone(), IsolationLevel::Soft.settings()),
    ];
    let mut facts = ClusterFacts::default();
    facts.nodes.insert("n1".parse().unwrap(), node(&[(&a, 1), (&b, 1)]));
    let mut marked = node(&[(&b, 1)]);
    marked.label = Some("t-0000000000000001".to_owned());
    facts.nodes.insert("n2".parse().unwrap(), marked);
    let mut network = NetworkFacts::default();
    network.denied.insert(IpFamily::V4);
    network.admitted.insert(b.clone());
    facts.networks.insert(a.clone(), network);
    facts.volumes.push(VolumeFacts::new(a.clone(), "va".parse().unwrap(), "common"));
    facts.volumes.push(VolumeFacts::new(b.clone(), "vb".parse().unwrap(), "t-0000000000000001"));
    facts.observers.insert(b.clone(), BTreeSet::from([a.clone(), b.clone()]));
    facts.backups.insert(a.clone(), BackupFacts::new("common"));
    facts.backups.insert(b.clone(), BackupFacts::new("t-0000000000000001"));
    let told: Vec<_> =
        verify(&intents, &LevelSharing::of(&intents), &facts).iter().map(ToString::to_string).collect();
    let expected = [
        "tenants a and b are both on node n1: move the workloads of tenant a or of tenant b to another node",
        "tenant a is on node n1, which has not its label: put the label hivemind.dev/dedicated-to=t-0000000000000001 on \
         node n1, or move the workloads to one that has it",
        "tenant a is on node n1, which has not its taint: put the taint hivemind.dev/dedicated-to=t-0000000000000001 on \
         node n1, or move the workloads to one that has it",
        "node n2 is tenant a's own, and tenant b is there: move the workloads of tenant b away from node n2",
        "other tenants reach tenant a over IPv6: put a policy in force that denies IPv6 from other tenants to tenant a",
        "tenant b is let into the network of tenant a: remove the policy that lets tenant b in, or have tenant a share \
         with it",
        "volume va of tenant a is in pool common: move volume va to the tenant's own pool",
        "volume va of tenant a is not encrypted with its key: encrypt volume va with the tenant's own key",
        "volume vb of tenant b is in the pool of tenant a: move volume vb of tenant b to another pool",
        "tenant b sees series and logs of tenant a: filter what tenant b sees: without tenant a",
        "backups of tenant a are in repository common: move the backups of tenant a to its own repository",
        "backups of tenant a are not encrypted with its key: encrypt the backups of tenant a with its own key",
        "backups of tenant b are in the repository of tenant a: move the backups of tenant b to another repository",
    ];
    assert_eq!(told, expected);
    // An explicit share makes one of them right.
    let shared = [intents[0].clone().admitting(b), intents[1].clone()];
    assert_eq!(verify(&shared, &LevelSharing::of(&shared), &facts).len(), expected.len() - 1);
}

#[test]
fn a_change_that_cannot_be_made_names_all_that_is_in_its_way() {
    let (a, b) = (tenant("a", 1), tenant("b", 2));
    let mut facts = ClusterFacts::default();
    facts.nodes.insert("n1".parse().unwrap(), node(&[(&a, 1), (&b, 1)]));
    facts.volumes.push(VolumeFacts::new(b.clone(), "vb".parse().unwrap(), "t-0000000000000001"));
    let to = Intents::new(a, IsolationLevel::Hard.settings());
    let sharing = LevelSharing::of([&to]);
    let stuck = plan_change(&to, &sharing, &facts).unwrap_err();
    assert_eq!(
        stuck.to_string(),
        "tenant a: workload a-1 must leave node n1 and needs cpu=1: add a node that nobody is on; \
         volume vb of tenant b is in its pool: move it first"
    );
    facts.volumes.clear();
    facts.nodes.insert("n2".parse().unwrap(), node(&[]));
    let plan = plan_change(&to, &sharing, &facts).unwrap();
    let (n1, n2): (NodeId, NodeId) = ("n1".parse().unwrap(), "n2".parse().unwrap());
    assert_eq!(
        plan.moves[..2],
        [
            Move::Dedicate { node: n2.clone(), mark: "t-0000000000000001".to_owned() },
            Move::Workload { workload: "a-1".parse().unwrap(), from: n1, to: n2 },
        ]
    );
}

#[test]
fn a_host_may_know_more_than_levels_say() {
    let (a, b) = (tenant("a", 1), tenant("b", 2));
    let intents = [&a, &b].map(|one| Intents::new(one.clone(), IsolationLevel::Soft.settings()));
    let mut facts = ClusterFacts::default();
    facts.nodes.insert("gpu".parse().unwrap(), node(&[(&a, 1), (&b, 1)]));
    facts.nodes.insert("plain".parse().unwrap(), node(&[(&a, 1), (&b, 1)]));
    assert!(verify(&intents, &LevelSharing::default(), &facts).is_empty());
    let no_shared_gpu = |node: &NodeId, a: &TenantRef, b: &TenantRef| a == b || node.as_str() != "gpu";
    let found = verify(&intents, &no_shared_gpu, &facts);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("both on node gpu"));
    let apart = plan_change(&intents[0], &no_shared_gpu, &facts).unwrap_err();
    assert_eq!(apart.obstacles.len(), 1);
}
