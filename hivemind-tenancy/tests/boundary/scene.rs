//! Two tenants that know nothing of each other, with things of the same names, and things that only one has.

use std::time::Duration;

use hivemind_core::resources::{MilliCpu, Resources};
use hivemind_core::{Generation, ReservationId, Result, TenantContext, TenantRef, Timestamp, Verb, block_on};
use hivemind_tenancy::placement::WorkloadRequest;
use hivemind_tenancy::quota::{QuotaRule, QuotaSpec, WhenOver};
use hivemind_tenancy::rbac::{Inherit, Rule, Scope, Subject};
use hivemind_tenancy::share::ShareOffer;
use hivemind_tenancy::{NameClaims, Node, QuotaRequest, Role, RoleBinding, Shares, TenantQuota, TenantSpec};

use crate::common::{World, admin, user};

/// What an operation comes to with things of one's own.
#[derive(Debug, Clone, Copy)]
pub enum Own {
    Works,
    /// It is for the system's context, or the thing is there already.
    Refused,
}

/// An operation in the context of `acme` on what the scene names.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub own: Own,
    pub run: fn(&Scene) -> Result<String>,
}

pub struct Scene {
    pub world: World,
    /// The context of tenant `acme`.
    pub ctx: TenantContext,
    pub hooli: TenantRef,
    /// The tenant that the operation is about.
    pub tenant: TenantRef,
    /// The same, where a tenant asks about itself and not about one below it.
    pub itself: TenantRef,
    /// The name of the workload, reservation, role, binding, claim, share that the operation is about.
    pub name: &'static str,
}

pub fn cores(n: u64) -> Resources {
    Resources::new().with_cpu(MilliCpu::from_cores(n))
}

pub fn role(name: &str, tenant: &TenantRef) -> Role {
    Role::new(name.parse().unwrap(), [Rule::allow()]).of_tenant(tenant.clone())
}

pub fn binding(name: &str, tenant: &TenantRef, who: &str) -> RoleBinding {
    let subject = Subject::Principal(user(who));
    let scope = Scope::Tenant(tenant.clone());
    RoleBinding::new(name.parse().unwrap(), name.parse().unwrap(), scope, [subject])
        .with_role_of(tenant.clone())
        .with_inherit(Inherit::Down)
}

/// The id of the request called `name` that waits.
pub fn waiting(name: &str) -> ReservationId {
    format!("q-{name}").parse().unwrap()
}

/// Gives `tenant` a workload, a reservation, a waiting request, a slice, a role, a binding, a claim and an accepted
/// share, all of this name; and a usage sample.
fn furnish(world: &World, tenant: &TenantRef, hooli: &TenantRef, name: &str, owner: &str) {
    let ctx = |who: &TenantRef| admin("furnish").for_tenant(who.clone()).with_time(Timestamp::from_secs(1));
    let own = ctx(tenant);
    let root = |what: &str| admin(&format!("{what}-{name}-{}", tenant.id));
    block_on(world.tenants.put_role(&root("role"), role(name, tenant))).unwrap();
    block_on(world.tenants.bind(&root("bind"), binding(name, tenant, owner))).unwrap();
    let held = QuotaRequest::new(name.parse().unwrap(), cores(1)).held_until(Timestamp::from_secs(50));
    world.commit(|view, txn| TenantQuota.stage_request(view, txn, &own, &held)).unwrap();
    let wait = QuotaRequest::new(waiting(name), cores(1));
    world.commit(|view, txn| TenantQuota.stage_enqueue(view, txn, &own, &wait)).unwrap();
    let (node, lease) = (name.parse().unwrap(), (Timestamp::from_secs(50), Duration::from_secs(1)));
    world
        .commit(|view, txn| TenantQuota.stage_grant_slice(view, txn, &own, &node, &cores(1), lease))
        .unwrap();
    world.commit(|view, txn| TenantQuota.stage_sample(view, txn, &own, Duration::from_secs(9), 4)).unwrap();
    let work = (WorkloadRequest::new(name.parse().unwrap(), cores(1)), node_of(tenant).parse().unwrap());
    world.commit(|view, txn| world.tenants.stage_assign(view, txn, &own, &[work])).unwrap();
    let claim = format!("hosts:{name}.{}.org", tenant.id).parse().unwrap();
    world.commit(|view, txn| NameClaims.stage_claim(view, txn, &own, &claim)).unwrap();
    let offer = ShareOffer::new(hooli.clone(), "volumes".parse().unwrap(), [Verb::Get]).named(name);
    let offered = world.commit(|view, txn| Shares.stage_offer(view, txn, &own, &offer)).unwrap();
    world.commit(|view, txn| Shares.stage_accept(view, txn, &ctx(hooli), &offered.share)).unwrap();
}

fn node_of(tenant: &TenantRef) -> &'static str {
    if tenant.id.as_str() == "acme" { "n1" } else { "n2" }
}

impl Scene {
    fn new(
        about: impl FnOnce(&TenantRef, &TenantRef, &TenantRef) -> (TenantRef, TenantRef, &'static str),
    ) -> Self {
        let world = World::new();
        for name in ["n1", "n2"] {
            let node = Node::new(name.parse().unwrap(), cores(9));
            block_on(world.tenants.add_node(&admin(name), node)).unwrap();
        }
        let make = |id: &str, owner: &str| {
            let spec = TenantSpec::new(id.parse().unwrap()).with_owner(Subject::Principal(user(owner)));
            world.tenant(spec).tenant
        };
        let (acme, globex, hooli) = (make("acme", "ada"), make("globex", "eve"), make("hooli", "bob"));
        let team = world.tenant(TenantSpec::new("team".parse().unwrap()).below(acme.clone())).tenant;
        for (tenant, owner) in [(&acme, "ada"), (&globex, "eve")] {
            furnish(&world, tenant, &hooli, "web", owner);
            let quota =
                QuotaSpec::new().with_rule("cpu".parse().unwrap(), QuotaRule::default().with_max(7000));
            let request = admin(&format!("quota-{}", tenant.id));
            block_on(world.tenants.set_quota(&request, &tenant.id, quota, WhenOver::Refuse)).unwrap();
        }
        furnish(&world, &globex, &hooli, "theirs", "eve");
        let (tenant, itself, name) = about(&acme, &globex, &team);
        let ctx = TenantContext::new(acme, user("ada"), "r".parse().unwrap());
        Self { world, ctx: ctx.with_time(Timestamp::from_secs(9)), hooli, tenant, itself, name }
    }

    /// About a tenant and things that are there, and another's.
    pub fn foreign() -> Self {
        Self::new(|_, globex, _| (globex.clone(), globex.clone(), "theirs"))
    }

    /// About a tenant and things that are not there.
    pub fn nothing() -> Self {
        let nobody = TenantRef::new("nobody".parse().unwrap(), Generation::from_u64(7));
        Self::new(|_, _, _| (nobody.clone(), nobody.clone(), "ghosts"))
    }

    /// About a tenant below, and things that both tenants have.
    pub fn own() -> Self {
        Self::new(|acme, _, team| (team.clone(), acme.clone(), "web"))
    }

    pub fn claim(&self) -> hivemind_tenancy::claims::UniqueName {
        format!("hosts:{}.{}.org", self.name, self.itself.id).parse().unwrap()
    }

    /// Decides in the state there is, and commits.
    pub fn commit<T: std::fmt::Debug>(
        &self,
        decide: impl FnOnce(&hivemind_core::store::Snapshot, &mut hivemind_core::store::Txn) -> Result<T>,
    ) -> Result<String> {
        told(self.world.commit(decide))
    }

    pub fn raw(&self, case: &Case) -> Result<String> {
        (case.run)(self)
    }

    /// What the operation says, but for the names that were asked for.
    pub fn told(&self, case: &Case) -> String {
        let told = format!("{:?}", self.raw(case));
        let told =
            told.replace(&self.tenant.to_string(), "TENANT").replace(self.tenant.id.as_str(), "TENANT");
        told.replace(self.name, "NAME")
    }

    /// Every record that is globex's or speaks of it, byte for byte; of what runs on nodes, that on its own node.
    pub fn theirs(&self) -> Vec<(String, Vec<u8>)> {
        let (view, all) = (self.world.view(), hivemind_tenancy::prefix().unwrap());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // An offer to another stands at its name. It is the offerer's, and says nothing of whether the other exists.
        let offers = |key: &str| key.starts_with("tenancy/shares/") && key.contains("/acme.");
        let about = view.scan(&all).map(|record| (record.key.to_string(), record.value.to_vec()));
        about
            .filter(|(key, value)| !offers(key) && format!("{key} {}", text(value)).contains("globex"))
            .collect()
    }
}

/// The answer as text.
pub fn told<T: std::fmt::Debug>(answer: Result<T>) -> Result<String> {
    answer.map(|answer| format!("{answer:?}"))
}
