//! Which backups a restore needs. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{BackupId, Error, ErrorKind, Result};

use crate::{BackupKind, BackupMetadata};

fn broken(id: &BackupId, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, "backup_chain", format!("backup {id} cannot be used: {why}"))
}

/// The backups from the full one to `id`, oldest first.
///
/// # Errors
/// [`ErrorKind::NotFound`] if `id` is missing, [`ErrorKind::Corrupt`] if its chain is broken.
pub(crate) fn chain(id: &BackupId, all: &[BackupMetadata]) -> Result<Vec<BackupMetadata>> {
    let by_id: BTreeMap<_, _> = all.iter().map(|backup| (&backup.id, backup)).collect();
    let Some(mut last) = by_id.get(id).copied() else {
        return Err(Error::not_found("backup_chain", format!("there is no backup {id}")));
    };
    let mut chain = vec![last.clone()];
    while let BackupKind::Incremental { base, base_revision } = &last.kind {
        let Some(below) = by_id.get(base).copied() else {
            return Err(broken(&last.id, format_args!("its base {base} is missing or damaged")));
        };
        let fits = below.cluster == last.cluster
            && below.revision == *base_revision
            && below.revision <= last.revision
            && below.options.scope == last.options.scope;
        if !fits {
            return Err(broken(&last.id, format_args!("its base {base} is of another state")));
        }
        if chain.len() > all.len() {
            return Err(broken(&last.id, "its bases go in a circle"));
        }
        chain.push(below.clone());
        last = below;
    }
    chain.reverse();
    Ok(chain)
}
