//! What Cedar is asked, made from a request, its context and the tenants. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
};
use hivemind_core::labels::Labels;
use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{
    AccessRequest, Error, ErrorKind, GroupName, Principal, Result, Stamped, TenantContext, TenantRef, Verb,
};

use super::schema::entity_type;
use crate::Tenant;

/// How an error of Cedar's is ours: names are checked before, so none is the caller's fault.
fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::of(ErrorKind::Internal, "cedar", error)
}

/// The entity of `id`, whatever characters that holds.
pub(super) fn uid(type_name: &str, id: &str) -> Result<EntityUid> {
    let type_name = EntityTypeName::from_str(type_name).map_err(internal)?;
    Ok(EntityUid::from_type_name_and_id(type_name, EntityId::new(id)))
}

/// The type and the id of a principal.
pub(super) fn principal_name(principal: &Principal) -> Result<(&'static str, String)> {
    Ok(match principal {
        Principal::User(name) => ("User", name.to_string()),
        Principal::ServiceAccount { tenant, name } => ("ServiceAccount", format!("{tenant}/{name}")),
        Principal::Node(name) => ("Node", name.to_string()),
        Principal::System(name) => ("System", name.to_string()),
        _ => return Err(Error::new(ErrorKind::Unsupported, "cedar", format!("{principal} has no entity"))),
    })
}

fn tenant_uid(tenant: &TenantRef) -> Result<EntityUid> {
    uid("Tenant", &tenant.to_string())
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn tags(labels: &Labels) -> Vec<(String, RestrictedExpression)> {
    labels.iter().map(|(key, value)| (key.to_string(), text(value.as_str()))).collect()
}

/// A tenant and all above it.
fn chain(view: &Snapshot, ctx: &TenantContext, tenant: &TenantRef) -> Result<Vec<Stamped<Tenant>>> {
    // The system tenant is a place to stand, not a record.
    if *tenant == TenantRef::system() {
        return Ok(Vec::new());
    }
    Tenant::chain(view, &Txn::new(), &ctx.clone().for_tenant(tenant.clone()))
}

fn tenant_entity(tenant: &Tenant) -> Result<Entity> {
    let state = [("state".to_owned(), text(&tenant.state.to_string()))];
    let above = tenant.parent.as_ref().map(tenant_uid).transpose()?;
    Entity::new_with_tags(tenant_uid(&tenant.tenant)?, state, above, tags(&tenant.labels)).map_err(internal)
}

/// The thing in question, in its tenant.
fn resource(ctx: &TenantContext, request: &AccessRequest) -> Result<Entity> {
    // A tenant prints without `/`, so that a thing of an empty name is not the one without a name.
    let id = match &request.name {
        Some(name) => format!("{}/{name}", ctx.tenant()),
        None => ctx.tenant().to_string(),
    };
    let tenant = tenant_uid(ctx.tenant())?;
    let mut attributes = vec![("tenant".to_owned(), RestrictedExpression::new_entity_uid(tenant.clone()))];
    attributes.extend(request.name.as_ref().map(|name| ("name".to_owned(), text(name))));
    let uid = uid(&entity_type(&request.kind), &id)?;
    Entity::new_with_tags(uid, attributes, [tenant], tags(&request.labels)).map_err(internal)
}

fn circumstances(ctx: &TenantContext) -> Result<Context> {
    let mut pairs = Vec::new();
    if let Some(at) = ctx.at() {
        let below = i64::try_from(at.as_nanos() % 1_000_000_000).map_err(internal)?;
        let seconds = i64::try_from(at.as_secs()).map_err(internal)?;
        pairs.push(("time".to_owned(), RestrictedExpression::new_long(seconds)));
        pairs.push(("nanos".to_owned(), RestrictedExpression::new_long(below)));
    }
    pairs.extend(ctx.source().map(|ip| ("source".to_owned(), RestrictedExpression::new_ip(ip.to_string()))));
    pairs.extend(ctx.emergency().map(|reason| ("emergency".to_owned(), text(reason))));
    Context::from_pairs(pairs).map_err(internal)
}

/// A request of `principal` as Cedar takes it, with every entity that policies can reach from it.
pub(super) fn question(
    view: &Snapshot,
    ctx: &TenantContext,
    (principal, groups): (&Principal, &BTreeSet<GroupName>),
    request: &AccessRequest,
) -> Result<(Request, Entities)> {
    let (type_name, id) = principal_name(principal)?;
    let who = uid(type_name, &id)?;
    let mut memberships = Vec::new();
    for group in groups {
        memberships.push(uid("Group", group.as_str())?);
    }
    let mut tenants = BTreeMap::new();
    let mut reach = |tenant: &TenantRef| -> Result<()> {
        let all = chain(view, ctx, tenant)?;
        tenants.extend(all.into_iter().map(|found| (found.tenant.clone(), found)));
        Ok(())
    };
    reach(ctx.tenant())?;
    if let Principal::ServiceAccount { tenant, .. } = principal {
        reach(tenant)?;
        memberships.push(tenant_uid(tenant)?);
    }
    let thing = resource(ctx, request)?;
    let action = action(request.verb)?;
    let question =
        Request::new(who.clone(), action, thing.uid(), circumstances(ctx)?, None).map_err(internal)?;
    let mut entities = vec![thing];
    entities.push(Entity::new_with_tags(who, [], memberships, []).map_err(internal)?);
    for tenant in tenants.values() {
        entities.push(tenant_entity(tenant)?);
    }
    Ok((question, Entities::from_entities(entities, None).map_err(internal)?))
}

/// The action that stands for a verb.
pub(super) fn action(verb: Verb) -> Result<EntityUid> {
    uid("Action", &verb.to_string())
}
