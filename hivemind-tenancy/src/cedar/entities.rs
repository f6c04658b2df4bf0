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
use crate::{Tenant, TenantState};

const DAY: u64 = 24 * 60;
/// The first of January 1970 was a Thursday; weeks are counted from Mondays.
const FIRST_WEEKDAY: u64 = 3;

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

fn number(value: u64) -> Result<RestrictedExpression> {
    i64::try_from(value).map(RestrictedExpression::new_long).map_err(internal)
}

fn tags(labels: &Labels) -> Vec<(String, RestrictedExpression)> {
    labels.iter().map(|(key, value)| (key.to_string(), text(value.as_str()))).collect()
}

/// A tenant and all above it.
fn tenants(view: &Snapshot, ctx: &TenantContext, tenant: &TenantRef) -> Result<Vec<(TenantRef, Entity)>> {
    // The system tenant is a place to stand, not a record.
    if *tenant == TenantRef::system() {
        let entity = tenant_entity(tenant, TenantState::Active, 0, None, &Labels::new())?;
        return Ok(vec![(tenant.clone(), entity)]);
    }
    let chain = Tenant::chain(view, &Txn::new(), &ctx.clone().for_tenant(tenant.clone()))?;
    let depths = (0..chain.len()).rev();
    let entity = |(found, depth): (&Stamped<Tenant>, usize)| {
        let above = found.parent.as_ref();
        let entity = tenant_entity(&found.tenant, found.state, depth, above, &found.labels)?;
        Ok((found.tenant.clone(), entity))
    };
    chain.iter().zip(depths).map(entity).collect()
}

fn tenant_entity(
    tenant: &TenantRef,
    state: TenantState,
    depth: usize,
    above: Option<&TenantRef>,
    labels: &Labels,
) -> Result<Entity> {
    let attributes = [
        ("state".to_owned(), text(&state.to_string())),
        ("depth".to_owned(), number(u64::try_from(depth).map_err(internal)?)?),
    ];
    let above = above.map(tenant_uid).transpose()?;
    Entity::new_with_tags(tenant_uid(tenant)?, attributes, above, tags(labels)).map_err(internal)
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
    attributes.push(("labelled".to_owned(), RestrictedExpression::new_bool(!request.labels.is_empty())));
    attributes.extend(request.name.as_ref().map(|name| ("name".to_owned(), text(name))));
    let uid = uid(&entity_type(&request.kind), &id)?;
    Entity::new_with_tags(uid, attributes, [tenant], tags(&request.labels)).map_err(internal)
}

fn circumstances(ctx: &TenantContext) -> Result<Context> {
    let mut pairs = Vec::new();
    if let Some(at) = ctx.at() {
        let minutes = at.as_secs() / 60;
        let mut time = Vec::new();
        for (name, value) in [
            ("seconds", at.as_secs()),
            ("nanos", at.as_nanos() % 1_000_000_000),
            ("weekday", (minutes / DAY + FIRST_WEEKDAY) % 7),
            ("minute", minutes % DAY),
        ] {
            time.push((name.to_owned(), number(value)?));
        }
        let time = RestrictedExpression::new_record(time).map_err(internal)?;
        pairs.push(("time".to_owned(), time));
    }
    // An IPv4 address within IPv6 is in the networks of IPv4.
    let source = ctx.source().map(|ip| RestrictedExpression::new_ip(ip.to_canonical().to_string()));
    pairs.extend(source.map(|ip| ("source".to_owned(), ip)));
    let reason = ctx.emergency().filter(|reason| !reason.trim().is_empty());
    pairs.extend(reason.map(|reason| ("emergency".to_owned(), text(reason))));
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
    let mut reach: BTreeMap<_, _> = tenants(view, ctx, ctx.tenant())?.into_iter().collect();
    if let Principal::ServiceAccount { tenant, .. } = principal {
        reach.extend(tenants(view, ctx, tenant)?);
        memberships.push(tenant_uid(tenant)?);
    }
    let thing = resource(ctx, request)?;
    let action = action(request.verb)?;
    let question =
        Request::new(who.clone(), action, thing.uid(), circumstances(ctx)?, None).map_err(internal)?;
    let mut entities = vec![thing];
    entities.push(Entity::new_with_tags(who, [], memberships, []).map_err(internal)?);
    entities.extend(reach.into_values());
    Ok((question, Entities::from_entities(entities, None).map_err(internal)?))
}

/// The action that stands for a verb.
pub(super) fn action(verb: Verb) -> Result<EntityUid> {
    uid("Action", &verb.to_string())
}
