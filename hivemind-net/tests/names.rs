//! Names answer over both families, and only to their own tenant.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use hivemind_core::store::{Prefix, Snapshot, Txn};
use hivemind_core::{
    ErrorKind, Generation, MemoryStore, Principal, Result, StateStore, StateStoreExt, TenantContext,
    TenantRef, block_on,
};
use hivemind_net::{Answer, RecordType, Service, ServiceEndpoint, ServiceRegistry};

fn ctx(tenant: &str, generation: u64) -> TenantContext {
    let tenant = TenantRef::new(tenant.parse().unwrap(), Generation::from_u64(generation));
    TenantContext::new(tenant, Principal::System("test".parse().unwrap()), "r".parse().unwrap())
}

fn endpoint(v4: Option<&str>, v6: Option<&str>) -> ServiceEndpoint {
    let json = serde_json::json!({"v4": v4, "v6": v6});
    serde_json::from_value(json).unwrap()
}

fn commit<T>(store: &MemoryStore, decide: impl FnOnce(&Snapshot, &mut Txn) -> Result<T>) -> Result<T> {
    let (view, mut txn) = (block_on(store.snapshot(&[Prefix::ROOT])).unwrap(), Txn::new());
    let decided = decide(&view, &mut txn)?;
    block_on(store.commit(&txn))?;
    Ok(decided)
}

#[test]
fn resolves_for_the_own_tenant_only() {
    let (store, names) = (MemoryStore::new(), ServiceRegistry::new("Cluster.Local.").unwrap());
    let (acme, ns, web) = (ctx("acme", 1), "shop".parse().unwrap(), "web".parse().unwrap());
    let service = Service::new([
        ("w2".parse().unwrap(), endpoint(Some("10.0.0.9"), Some("fd00::9"))),
        ("w1".parse().unwrap(), endpoint(Some("10.0.0.4"), None)),
    ]);
    commit(&store, |view, txn| names.stage_register(view, txn, &acme, &ns, &web, &service)).unwrap();
    assert_eq!(names.full_name(&acme, &ns, &web), "web.shop.acme.svc.cluster.local");

    let view = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
    let ask = |ctx: &TenantContext, name: &str, kind| {
        let answer = names.resolve(&view, ctx, name, kind).unwrap();
        (answer != Answer::NxDomain)
            .then(|| answer.addresses().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    for name in ["web.shop", "WEB.Shop.ACME.svc.cluster.LOCAL.", "web.shop.acme.svc.cluster.local"] {
        assert_eq!(ask(&acme, name, RecordType::A).unwrap(), ["10.0.0.4", "10.0.0.9"], "{name}");
        assert_eq!(ask(&acme, name, RecordType::Aaaa).unwrap(), ["fd00::9"], "{name}");
    }
    let full = "web.shop.acme.svc.cluster.local";
    assert_eq!(ask(&ctx("globex", 1), full, RecordType::A), None);
    assert_eq!(ask(&ctx("globex", 1), "web.shop", RecordType::A), None);
    assert_eq!(ask(&ctx("acme", 2), full, RecordType::A), None, "a tenant created anew");
    let long = "a.".repeat(127) + "shop";
    for missing in ["", ".", "web", "web.", "web.shop..", ".shop", "api.shop", "web.shop.acme", &long] {
        assert_eq!(ask(&acme, missing, RecordType::A), None, "{missing:?}");
    }
}

#[test]
fn a_name_without_an_address_of_the_family_exists_all_the_same() {
    let (store, names) = (MemoryStore::new(), ServiceRegistry::new("cluster.local").unwrap());
    let (acme, ns, web) = (ctx("acme", 1), "shop".parse().unwrap(), "web".parse().unwrap());
    let v4 = Service::new([("w".parse().unwrap(), endpoint(Some("10.0.0.4"), None))]);
    commit(&store, |view, txn| names.stage_register(view, txn, &acme, &ns, &web, &v4)).unwrap();
    let again = commit(&store, |view, txn| names.stage_register(view, txn, &acme, &ns, &web, &v4));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let view = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
    assert_eq!(names.resolve(&view, &acme, "web.shop", RecordType::Aaaa).unwrap(), Answer::NoData);

    commit(&store, |view, txn| names.stage_update(view, txn, &acme, &ns, &web, &Service::default())).unwrap();
    let view = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
    assert_eq!(names.resolve(&view, &acme, "web.shop", RecordType::A).unwrap(), Answer::NoData);
    commit(&store, |view, txn| names.stage_deregister(view, txn, &acme, &ns, &web)).unwrap();
    let view = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
    assert_eq!(names.resolve(&view, &acme, "web.shop", RecordType::A).unwrap(), Answer::NxDomain);
    assert!(ServiceRegistry::new("not a domain").is_err() && ServiceRegistry::new("").is_err());
}
