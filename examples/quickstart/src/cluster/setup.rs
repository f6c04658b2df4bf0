//! Nodes and tenants.

use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu, Resources};
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    Error, ErrorKind, IdSourceExt, NodeId, Principal, Result, TenantContext, TenantId, TenantRef, Verb,
};
use hivemind_net::NetworkConfig;
use hivemind_tenancy::placement::NodeState;
use hivemind_tenancy::rbac::{Rule, Scope, Subject};
use hivemind_tenancy::{IsolationLevel, Node, ResourceQuotas, Role, RoleBinding, TenantSpec};

use super::{Cluster, deploy};

/// How many nodes are added in one transaction: two records each.
const NODES_PER_REQUEST: usize = 50;

/// A tenant to be created.
#[derive(Debug, Clone)]
pub struct TenantPlan {
    /// Its name.
    pub id: TenantId,
    /// How far it is kept apart.
    pub isolation: IsolationLevel,
    /// How much it may use.
    pub quotas: ResourceQuotas,
    /// The user who may deploy for it.
    pub developer: String,
}

fn invalid<E: std::error::Error + Send + Sync + 'static>(e: E) -> Error {
    Error::of(ErrorKind::Invalid, "setup", e)
}

/// The name of the node of that number, from 1.
pub fn node_name(number: usize) -> Result<NodeId> {
    NodeId::new(format!("node-{number}")).map_err(invalid)
}

impl Cluster {
    /// Adds `count` nodes; the first two fifths, two at least, are for tenants that need nodes of their own.
    pub async fn add_nodes(&mut self, count: usize) -> Result<()> {
        let numbers: Vec<_> = (1..=count).collect();
        for batch in numbers.chunks(NODES_PER_REQUEST) {
            let first = batch.first().copied().unwrap_or_default();
            let ctx = self.admin(&format!("add-nodes-{first}"))?;
            self.request(&ctx, "add", |this, view, txn| {
                for number in batch {
                    let pool =
                        if *number <= (count * 2 / 5).max(2) { deploy::DEDICATED } else { deploy::SHARED };
                    let labels = Labels::new().with(deploy::POOL, pool).map_err(invalid)?;
                    let capacity = Resources::new()
                        .with_cpu(MilliCpu::from_cores(16))
                        .with_memory(ByteSize::from_gib(64));
                    let node = Node::new(node_name(*number)?, capacity).with_labels(labels);
                    this.tenants.stage_add_node(view, txn, &ctx, &node)?;
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Creates a tenant with its role, its developer and its address pools, in one transaction.
    pub async fn create_tenant(&mut self, plan: &TenantPlan) -> Result<TenantRef> {
        let ctx = self.admin(&format!("create-{}", plan.id))?;
        let (generation, now) = (self.ports.ids.generation(), self.ports.clock.now());
        let unique_local = self.ports.ids.next_u64();
        let created = self.request(&ctx, "create", |this, view, txn| {
            let spec = TenantSpec::new(plan.id.clone())
                .with_isolation(plan.isolation)
                .with_quotas(plan.quotas.clone());
            let tenant = this.tenants.stage_create(view, txn, &ctx, &spec, generation, now)?.tenant;
            this.name_the_operator(view, txn, &ctx)?;
            let developer = "developer".parse().map_err(invalid)?;
            let rule = Rule::allow()
                .verbs([Verb::Get, Verb::List, Verb::Create, Verb::Update, Verb::Delete])
                .kind(deploy::kind()?);
            this.tenants.stage_put_role(view, txn, &ctx, &Role::new(developer, [rule]))?;
            let name: hivemind_core::RoleName = "developer".parse().map_err(invalid)?;
            let user = Subject::Principal(Principal::User(plan.developer.parse().map_err(invalid)?));
            let binding = RoleBinding::new(name.clone(), name, Scope::Tenant(tenant.clone()), [user]);
            this.tenants.stage_bind(view, txn, &ctx, &binding)?;
            // Every tenant has the same IPv4 pool: that is what tenant-aware addresses are for.
            // Large enough for a block of it on each of as many nodes as there may be.
            let v4 = "10.128.0.0/9".parse().map_err(invalid)?;
            let config = NetworkConfig::with_unique_local(v4, unique_local).map_err(invalid)?;
            let own = TenantContext::new(tenant.clone(), ctx.principal().clone(), ctx.request().clone());
            this.ipam.stage_create_pool(view, txn, &own, &config)?;
            Ok(tenant)
        });
        Ok(created.await?.value)
    }

    /// The operator is the first administrator, from whom all roles come: named once, with the first tenant.
    fn name_the_operator(&self, view: &Snapshot, txn: &mut Txn, ctx: &TenantContext) -> Result<()> {
        let operator = Subject::Principal(ctx.principal().clone());
        match self.tenants.stage_first_admin(view, txn, &operator) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            named => named,
        }
    }

    /// Says of a node whether it takes workloads, in the name of `request`.
    pub async fn set_node_state(&mut self, node: &NodeId, state: NodeState, request: &str) -> Result<()> {
        let ctx = self.admin(request)?;
        self.request(&ctx, "set-node-state", |this, view, txn| {
            this.tenants.stage_set_node_state(view, txn, &ctx, node, state)
        })
        .await?;
        Ok(())
    }
}
