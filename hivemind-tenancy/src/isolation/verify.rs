//! Does a cluster do what isolation demands? No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, TenantRef};

use super::{
    BackupFacts, ClusterFacts, Intents, IpFamily, NetworkIntent, NodeFacts, NodeIntent, NodeSharing,
    OwnPlace, StorageIntent, Violation,
};

/// What is whose own, looked up once.
#[derive(Default)]
struct Owners<'a> {
    intents: BTreeMap<&'a TenantRef, &'a Intents>,
    marks: BTreeMap<&'a str, &'a TenantRef>,
    pools: BTreeMap<&'a str, &'a TenantRef>,
    repositories: BTreeMap<&'a str, &'a TenantRef>,
}

impl<'a> Owners<'a> {
    fn of(all: &'a [Intents]) -> Self {
        let mut owners = Self::default();
        for one in all {
            owners.intents.insert(&one.tenant, one);
            if let NodeIntent::Dedicated { mark } = &one.node {
                owners.marks.insert(mark, &one.tenant);
            }
            if let StorageIntent::Dedicated(own) = &one.storage {
                owners.pools.insert(&own.name, &one.tenant);
            }
            if let Some(own) = &one.backup.own {
                owners.repositories.insert(&own.name, &one.tenant);
            }
        }
        owners
    }
}

/// Every way in which the cluster does not do what `intents` demand, in order; empty if it does it all.
///
/// It visits each fact once, and each pair of tenants that are on one node.
pub fn verify(intents: &[Intents], sharing: &impl NodeSharing, facts: &ClusterFacts) -> Vec<Violation> {
    let owners = Owners::of(intents);
    let mut found = Vec::new();
    for (node, here) in &facts.nodes {
        on_node(&owners, sharing, node, here, &mut found);
    }
    networks(intents, facts, &mut found);
    volumes(&owners, facts, &mut found);
    for (by, seen) in &facts.observers {
        let allowed = owners.intents.get(by).map(|one| &one.observe.tenants);
        let unfiltered =
            seen.iter().filter(|one| *one != by && !allowed.is_some_and(|all| all.contains(one)));
        found.extend(unfiltered.map(|tenant| Violation::Overseen { tenant: tenant.clone(), by: by.clone() }));
    }
    for (tenant, backup) in &facts.backups {
        backups(&owners, tenant, backup, &mut found);
    }
    found.sort();
    found
}

fn on_node(
    owners: &Owners<'_>,
    sharing: &impl NodeSharing,
    node: &NodeId,
    here: &NodeFacts,
    found: &mut Vec<Violation>,
) {
    let occupants: Vec<_> =
        here.workloads.iter().filter(|(_, all)| !all.is_empty()).map(|(one, _)| one).collect();
    for (index, tenant) in occupants.iter().enumerate() {
        for with in occupants.iter().skip(index + 1).filter(|with| !sharing.may_share(node, tenant, with)) {
            let (tenant, with) = ((*tenant).clone(), (*with).clone());
            found.push(Violation::SharedNode { tenant, node: node.clone(), with });
        }
        let Some(NodeIntent::Dedicated { mark }) = owners.intents.get(*tenant).map(|one| &one.node) else {
            continue;
        };
        for (missing, value) in [("label", &here.label), ("taint", &here.taint)] {
            if value.as_ref() != Some(mark) {
                let (tenant, missing) = ((*tenant).clone(), missing.to_owned());
                found.push(Violation::UnmarkedNode {
                    tenant,
                    node: node.clone(),
                    missing,
                    mark: mark.clone(),
                });
            }
        }
    }
    let owner = here.label.as_deref().and_then(|mark| owners.marks.get(mark));
    if let Some(owner) = owner {
        for with in occupants.iter().filter(|one| *one != owner) {
            let (tenant, with) = ((*owner).clone(), (*with).clone());
            found.push(Violation::ForeignOnDedicated { tenant, node: node.clone(), with });
        }
    }
}

fn networks(intents: &[Intents], facts: &ClusterFacts, found: &mut Vec<Violation>) {
    for one in intents {
        let NetworkIntent::Isolated { admitted } = &one.network else { continue };
        let tenant = &one.tenant;
        let there = facts.networks.get(tenant);
        let open =
            IpFamily::ALL.into_iter().filter(|family| !there.is_some_and(|all| all.denied.contains(family)));
        found.extend(open.map(|family| Violation::OpenNetwork { tenant: tenant.clone(), family }));
        let let_in = there.into_iter().flat_map(|all| &all.admitted);
        let foreign = let_in.filter(|with| *with != tenant && !admitted.contains(with));
        found.extend(
            foreign.map(|with| Violation::ForeignAdmitted { tenant: tenant.clone(), with: with.clone() }),
        );
    }
}

fn volumes(owners: &Owners<'_>, facts: &ClusterFacts, found: &mut Vec<Violation>) {
    for one in &facts.volumes {
        let (tenant, volume) = (one.tenant.clone(), one.volume.clone());
        if let Some(owner) = owners.pools.get(one.pool.as_str()).filter(|owner| ***owner != tenant) {
            let (owner, with, volume) = ((*owner).clone(), tenant.clone(), volume.clone());
            found.push(Violation::ForeignInPool { tenant: owner, with, volume });
        }
        let Some(StorageIntent::Dedicated(own)) = owners.intents.get(&tenant).map(|one| &one.storage) else {
            continue;
        };
        if one.pool != own.name {
            let (tenant, volume) = (tenant.clone(), volume.clone());
            found.push(Violation::SharedPool { tenant, volume, pool: one.pool.clone() });
        }
        if one.key.as_ref() != Some(&own.key) {
            found.push(Violation::ForeignKey { tenant, volume });
        }
    }
}

fn backups(owners: &Owners<'_>, tenant: &TenantRef, backup: &BackupFacts, found: &mut Vec<Violation>) {
    if let Some(owner) = owners.repositories.get(backup.repository.as_str()).filter(|owner| **owner != tenant)
    {
        found.push(Violation::ForeignInRepository { tenant: (*owner).clone(), with: tenant.clone() });
    }
    let own: Option<&OwnPlace> = owners.intents.get(tenant).and_then(|one| one.backup.own.as_ref());
    let Some(own) = own else { return };
    if backup.repository != own.name {
        let repository = backup.repository.clone();
        found.push(Violation::SharedRepository { tenant: tenant.clone(), repository });
    }
    if backup.key.as_ref() != Some(&own.key) {
        found.push(Violation::ForeignBackupKey { tenant: tenant.clone() });
    }
}
