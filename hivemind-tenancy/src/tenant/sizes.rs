//! How large what owners set of a tenant may be. No I/O, no clock, no async.
//!
//! Every decision about a tenant, or one below it, reads its record. So nobody may make it larger than it must be.

use hivemind_core::{Error, Result};

use super::Tenant;

/// The longest name for people, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 253;
/// The most namespaces of a tenant.
pub const MAX_NAMESPACES: usize = 128;
/// The most labels of a tenant.
pub const MAX_LABELS: usize = 64;

/// Succeeds if what `new` sets anew, in place of `old`, is within its size. What was too large before may stay.
///
/// # Errors
/// [`Invalid`](hivemind_core::ErrorKind::Invalid) says what is too large, and how large it may be.
pub(crate) fn check_sizes(operation: &'static str, old: Option<&Tenant>, new: &Tenant) -> Result<()> {
    let id = &new.tenant.id;
    let invalid = |what: String| Err(Error::invalid(operation, format!("tenant {id}: {what}")));
    let is_new = |same: fn(&Tenant, &Tenant) -> bool| old.is_none_or(|old| !same(old, new));
    if is_new(|old, new| old.name == new.name) {
        let bytes = new.name.len();
        if bytes > MAX_NAME_BYTES {
            return invalid(format!("its name has {bytes} bytes: give at most {MAX_NAME_BYTES}"));
        }
        if let Some(at) = new.name.char_indices().find(|(_, one)| one.is_control()).map(|(at, _)| at) {
            return invalid(format!("its name has a control character at byte {at}: leave it out"));
        }
    }
    let (namespaces, labels) = (new.namespaces.len(), new.labels.len());
    if namespaces > MAX_NAMESPACES && is_new(|old, new| old.namespaces == new.namespaces) {
        return invalid(format!("it has {namespaces} namespaces: give at most {MAX_NAMESPACES}"));
    }
    if labels > MAX_LABELS && is_new(|old, new| old.labels == new.labels) {
        return invalid(format!("it has {labels} labels: give at most {MAX_LABELS}"));
    }
    Ok(())
}
