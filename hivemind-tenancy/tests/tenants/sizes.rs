//! How large what owners set may be.

use hivemind_core::labels::Labels;
use hivemind_core::{ErrorKind, Namespace, Result, block_on};
use hivemind_tenancy::tenant::{MAX_LABELS, MAX_NAME_BYTES, MAX_NAMESPACES};
use hivemind_tenancy::{Tenant, TenantSpec, TenantUpdate};

use crate::common::{World, admin};

fn namespaces(count: usize) -> TenantUpdate {
    let mut update = TenantUpdate::default();
    update.namespaces = Some((0..count).map(|n| format!("ns-{n}").parse::<Namespace>().unwrap()).collect());
    update
}

fn labels(count: usize) -> TenantUpdate {
    let all = (0..count).fold(Labels::new(), |all, n| all.with(&format!("l{n}"), "x").unwrap());
    TenantUpdate::labels(all)
}

#[test]
fn what_owners_set_of_a_tenant_is_bounded() {
    let world = World::new();
    world.tenant(TenantSpec::new("acme".parse().unwrap()));
    let id = "acme".parse().unwrap();
    let requests = std::cell::Cell::new(0);
    let update = |update: TenantUpdate| -> Result<Tenant> {
        requests.set(requests.get() + 1);
        block_on(world.tenants.update(&admin(&format!("u{}", requests.get())), &id, update))
    };
    let long = |bytes| TenantUpdate::name("x".repeat(bytes));
    for (good, bad, told) in [
        (long(MAX_NAME_BYTES), long(MAX_NAME_BYTES + 1), "its name has 254 bytes: give at most 253"),
        (
            namespaces(MAX_NAMESPACES),
            namespaces(MAX_NAMESPACES + 1),
            "it has 129 namespaces: give at most 128",
        ),
        (labels(MAX_LABELS), labels(MAX_LABELS + 1), "it has 65 labels: give at most 64"),
        (long(1), TenantUpdate::name("a\nb"), "its name has a control character at byte 1: leave it out"),
    ] {
        let before = update(good).unwrap();
        let error = update(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.message(), format!("tenant acme: {told}"));
        let after = world.tenants.tenant(&world.view(), &admin("get"), &id).unwrap();
        assert_eq!(after, before, "a refusal changes nothing");
    }
}

#[test]
fn a_tenant_is_not_created_with_a_name_too_long() {
    let world = World::new();
    let spec = TenantSpec::new("acme".parse().unwrap()).with_name("x".repeat(MAX_NAME_BYTES + 1));
    assert_eq!(block_on(world.tenants.create(&admin("c"), spec)).unwrap_err().kind(), ErrorKind::Invalid);
}
