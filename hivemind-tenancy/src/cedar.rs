//! Access decided by policies in the [Cedar](https://www.cedarpolicy.com) language, and roles as such policies.
//!
//! [`CedarAuthorizer`] is an [`Authorizer`](hivemind_core::Authorizer) for hosts whose rules outgrow roles. What it
//! asks Cedar is made from the request, its context and the tenants in the store:
//!
//! | ours | Cedar's |
//! |---|---|
//! | user `ada` | `User::"ada"` |
//! | service account `ci` of tenant `acme` | `ServiceAccount::"acme.0000000000000001/ci"`, in its tenant |
//! | node `n1`, system component `scheduler` | `Node::"n1"`, `System::"scheduler"` |
//! | group `staff` | `Group::"staff"`, a parent of who asks |
//! | tenant `acme`, of one generation | `Tenant::"acme.0000000000000001"`, in the tenant above it; attributes `state` and `depth`, 0 for a root; labels as tags |
//! | verb `create` | `Action::"create"` |
//! | kind `apps` | the entity type `apps`; see [`entity_type`] |
//! | the thing `web` of a kind | `apps::"acme.0000000000000001/web"`, in its tenant; attributes `tenant` and `name`; labels as tags, and whether there are any as `labelled` |
//! | all of a kind, or one without a name yet | `apps::"acme.0000000000000001"`, without `name` |
//! | time of the request | `context.time`: `seconds` since 1970 and `nanos` below the second; in UTC, `weekday` from 0 for Monday and `minute` of the day |
//! | where it comes from | `context.source`, an `ipaddr`; IPv4 within IPv6 counts as IPv4 |
//! | reason of a claimed emergency, unless blank | `context.emergency` |
//!
//! What the context lacks is absent, not empty. A `permit` that reads it without asking `context has ..` permits
//! nothing; a `forbid` that cannot be evaluated forbids, unlike with Cedar alone, which skips it. A request for a tenant
//! that is gone is denied, whatever the policies say, and so is one of a service account whose tenant is gone.
//!
//! Who impersonates another needs a permit for the same request, and for `Action::"impersonate"` on the one in whose
//! name it asks: the thing of that name of kind `users`, `service-accounts` (in the account's tenant), `nodes` or
//! `system-components`; and on each of that one's `groups`.
//!
//! ```
//! use hivemind_core::store::{Prefix, Revision};
//! use hivemind_core::{AccessRequest, Authorizer, MemoryStore, Principal, StateStoreExt, TenantContext};
//! use hivemind_core::{TenantRef, Verb, block_on};
//! use hivemind_tenancy::cedar::{CedarAuthorizer, PolicySet, schema};
//!
//! let text = r#"
//!     @id("staff-reads")
//!     permit(principal in Group::"staff", action in [Action::"get", Action::"list"], resource);
//!     @id("no-secrets")
//!     forbid(principal, action, resource is secrets) unless { context has emergency };
//! "#;
//! let policies = PolicySet::parse_for(text, &schema(["apps".parse()?, "secrets".parse()?]))?;
//! let cedar = CedarAuthorizer::new(policies, Revision::new(1));
//!
//! let view = block_on(MemoryStore::new().snapshot(&[Prefix::ROOT]))?;
//! let ctx = TenantContext::new(TenantRef::system(), Principal::User("ada".parse()?), "req-1".parse()?)
//!     .with_group("staff".parse()?);
//! let apps = cedar.authorize(&view, &ctx, &AccessRequest::new(Verb::List, "apps".parse()?));
//! assert_eq!((apps.allowed, apps.because), (true, vec!["policy staff-reads permits it".to_owned()]));
//! let secrets = cedar.authorize(&view, &ctx, &AccessRequest::new(Verb::List, "secrets".parse()?));
//! assert_eq!((secrets.allowed, secrets.because), (false, vec!["policy no-secrets forbids it".to_owned()]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authorizer;
mod compile;
mod conditions;
mod entities;
mod policies;
mod schema;
mod syntax;

pub use self::authorizer::CedarAuthorizer;
pub use self::compile::{NotExpressible, compile};
pub use self::policies::{InvalidPolicies, PolicySet, Problem};
pub use self::schema::{entity_type, schema};
