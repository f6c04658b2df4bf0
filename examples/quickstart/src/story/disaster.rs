//! Backups, and the way back from the loss of the store.

use std::sync::Arc;

use hivemind_backup::{BackupKind, BackupManager, BackupMetadata, BackupOptions, compare};
use hivemind_core::{Error, ErrorKind, Result};
use hivemind_observe::Registry;

use super::{Teller, expect};
use crate::cluster::{Cluster, Ports};

impl Teller<'_> {
    fn manager(&self) -> Result<BackupManager> {
        let world = self.world;
        let cluster = "quickstart".parse().map_err(|e| Error::of(ErrorKind::Internal, "backup", e))?;
        Ok(BackupManager::new(
            Arc::new(Arc::clone(&world.ports.store)),
            Arc::clone(&world.backups),
            Some(Arc::clone(&world.keys)),
            Arc::clone(&world.ports.clock),
            Arc::clone(&world.nonces),
            cluster,
        ))
    }

    fn options(&self) -> BackupOptions {
        BackupOptions::default().with_encryption(self.world.key.clone())
    }

    /// A full backup, unless there is one already: after a crash the story goes on with it.
    pub(super) async fn back_up_full(&mut self) -> Result<BackupMetadata> {
        self.out.section("A full backup");
        let (manager, options) = (self.manager()?, self.options());
        let ctx = self.cluster.ctx(&hivemind_core::TenantRef::system(), "operator", "backup-full")?;
        let done = manager.list(&ctx).await?.backups.into_iter().find(|b| b.kind == BackupKind::Full);
        let full = match done {
            Some(full) => full,
            None => self.cluster.persist(|| manager.full(&ctx, &options)).await?,
        };
        self.tell("full", &full);
        Ok(full)
    }

    pub(super) async fn restore(&mut self, full: BackupMetadata) -> Result<()> {
        self.out.section("Disaster and restore");
        let (manager, options) = (self.manager()?, self.options());
        let ctx = self.cluster.ctx(&hivemind_core::TenantRef::system(), "operator", "restore")?;
        let based =
            |b: &BackupMetadata| matches!(&b.kind, BackupKind::Incremental { base, .. } if *base == full.id);
        let last = match manager.list(&ctx).await?.backups.into_iter().find(based) {
            Some(last) => last,
            None => self.cluster.persist(|| manager.incremental(&ctx, &full.id, &options)).await?,
        };
        self.tell("incremental", &last);
        self.outcome.backup_bytes = full.stored_bytes + last.stored_bytes;
        let verified = manager.verify(&ctx, &last.id).await?;
        self.out.line("Both verify: every block, every checksum, the chain from the full backup on.");

        let (store, spare) = (&self.world.ports.store, &self.world.spare);
        let now = self.world.ports.clock.now();
        match self.cluster.persist(|| manager.restore(&ctx, &last.id, Arc::clone(spare), now)).await {
            // Finished before a crash, without anybody hearing of it: the comparison tells.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            outcome => drop(outcome?),
        }
        let spare_at = self.cluster.persist(|| spare.revision()).await?;
        let difference = self.cluster.persist(|| compare(store, last.revision, spare, spare_at)).await?;
        expect(difference.is_none(), format!("the restored state differs: {difference:?}"))?;
        self.out.line(&format!(
            "Without the store, an empty one takes its place: {} records, equal byte for byte.",
            verified.records
        ));
        let ports = Ports { store: Arc::clone(&self.world.spare), ..self.world.ports.clone() };
        let names = self.names();
        let mut reborn = Cluster::start(ports, Registry::new()).await?;
        reborn.settle().await?;
        reborn.audit(&names).await?;
        self.out.line("A control plane starts on it, finds every volume where it was, and its books add up.");
        self.outcome.restored_equal = true;
        Ok(())
    }

    fn tell(&mut self, kind: &str, backup: &BackupMetadata) {
        self.out.line(&format!(
            "{kind}: revision {}, {} bytes of records, {} bytes stored, encrypted and compressed.",
            backup.revision, backup.plain_bytes, backup.stored_bytes
        ));
    }
}
