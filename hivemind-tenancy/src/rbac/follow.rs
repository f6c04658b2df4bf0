//! What changed in the store, as changes of the policy. No I/O, no clock, no async.

use std::sync::Arc;

use hivemind_core::store::{Event, Key, Prefix, Record, Snapshot, WatchBatch};
use hivemind_core::{Error, ErrorKind, Result, RoleName, TenantId, TenantRef, decode};

use super::index::PolicyChange;
use super::{AccessIndex, Role, RoleBinding, Scope, bindings, role_key, roles};
use crate::Tenant;
use crate::tenant::{key as tenant_key, tenants};

impl AccessIndex {
    /// The policy after what a watch of it tells, which must be what comes next. It costs as
    /// [`changed`](Self::changed).
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if a record cannot be read: a part of a policy is none.
    pub fn after(&self, batch: &WatchBatch) -> Result<Self> {
        let mut changes = Vec::new();
        for event in &batch.events {
            changes.extend(match event {
                Event::Put(record) => put(record)?,
                Event::Delete(key) => removed(key)?,
            });
        }
        Ok(self.changed(batch.revision, changes))
    }

    /// The policy in `view`, made of this one, which is that of an earlier revision. It costs a look at the revision of
    /// every record, and what changed; if something is gone, a look for every record, too.
    ///
    /// # Errors
    /// As [`after`](Self::after).
    pub(super) fn brought_to(&self, view: &Snapshot) -> Result<Self> {
        let parts: [Prefix; 3] =
            [roles()?.prefix().clone(), bindings()?.prefix().clone(), tenants()?.prefix().clone()];
        let records = || parts.iter().flat_map(|part| view.scan(part));
        let new = records().filter(|record| record.mod_revision > self.revision());
        let changes = new.map(put).collect::<Result<Vec<_>>>()?;
        let count = records().count();
        if changes.is_empty() && count == self.records() {
            return Ok(self.advanced(view.revision()));
        }
        let next = self.changed(view.revision(), changes.into_iter().flatten());
        if next.records() == count {
            return Ok(next);
        }
        let gone = next.gone_from(view)?;
        Ok(next.changed(view.revision(), gone))
    }

    /// Of how many records it is made.
    fn records(&self) -> usize {
        // The tenant of the system has no record.
        let tenants = self.policy.tree.parents().count().saturating_sub(1);
        tenants.saturating_add(self.policy.roles.iter().count()).saturating_add(self.len())
    }

    /// The removal of all that is not in `view`.
    fn gone_from(&self, view: &Snapshot) -> Result<Vec<PolicyChange>> {
        let (policy, mut gone) = (&*self.policy, Vec::new());
        for (_, _, one) in policy.bindings.iter() {
            let key = bindings()?.key([one.scope.segment().as_str(), one.name.as_str()])?;
            if view.get(&key).is_none() {
                gone.push(PolicyChange::RemoveBinding(one.scope.clone(), one.name.clone()));
            }
        }
        for role in policy.roles.iter() {
            if view.get(&role_key(role.tenant.as_ref(), &role.name)?).is_none() {
                gone.push(PolicyChange::RemoveRole(role.tenant.clone(), role.name.clone()));
            }
        }
        for (tenant, _) in policy.tree.parents().filter(|(tenant, _)| *tenant != TenantRef::system()) {
            if view.get(&tenant_key(&tenant.id)?).is_none() {
                gone.push(PolicyChange::RemoveTenant(tenant.id));
            }
        }
        Ok(gone)
    }
}

fn put(record: &Record) -> Result<Option<PolicyChange>> {
    let key = &record.key;
    Ok(Some(if bindings()?.prefix().covers(key) {
        PolicyChange::PutBinding(Arc::new(decode::<RoleBinding>(key, &record.value)?))
    } else if roles()?.prefix().covers(key) {
        PolicyChange::PutRole(Arc::new(decode::<Role>(key, &record.value)?))
    } else if tenants()?.prefix().covers(key) {
        let tenant: Tenant = decode(key, &record.value)?;
        PolicyChange::PutTenant(tenant.tenant, tenant.parent)
    } else {
        return Ok(None);
    }))
}

/// The change by the removal of a key: what it stands for is in its last segments.
fn removed(key: &Key) -> Result<Option<PolicyChange>> {
    let text = |segment: &[u8]| String::from_utf8_lossy(segment).into_owned();
    let below = |prefix: &Prefix| -> Vec<String> {
        let above = prefix.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count();
        key.segments().skip(above).map(text).collect()
    };
    let (bindings, roles, tenants) = (bindings()?, roles()?, tenants()?);
    let found = if bindings.prefix().covers(key) {
        match below(bindings.prefix()).as_slice() {
            [scope, name] => scope_of(scope)
                .zip(name.parse().ok())
                .map(|(scope, name)| PolicyChange::RemoveBinding(scope, name)),
            _ => None,
        }
    } else if roles.prefix().covers(key) {
        match below(roles.prefix()).as_slice() {
            [name] => name.parse().ok().map(|name: RoleName| PolicyChange::RemoveRole(None, name)),
            [owner, name] => owner
                .parse()
                .ok()
                .zip(name.parse().ok())
                .map(|(owner, name)| PolicyChange::RemoveRole(Some(owner), name)),
            _ => None,
        }
    } else if tenants.prefix().covers(key) {
        match below(tenants.prefix()).as_slice() {
            [id] => id.parse::<TenantId>().ok().map(PolicyChange::RemoveTenant),
            _ => None,
        }
    } else {
        return Ok(None);
    };
    let unknown = || Error::new(ErrorKind::Corrupt, "follow", format!("{key} is no key of a policy"));
    found.map(Some).ok_or_else(unknown)
}

fn scope_of(segment: &str) -> Option<Scope> {
    if segment == Scope::Global.segment() {
        Some(Scope::Global)
    } else {
        segment.parse().ok().map(Scope::Tenant)
    }
}
