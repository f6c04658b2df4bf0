//! How volumes are, by their providers' word.

use std::collections::BTreeMap;

use hivemind_core::store::Txn;
use hivemind_core::{ErrorKind, ProviderName, Result, Retry, Stamped, StateStoreExt};

use super::VolumeController;
use crate::records::{report_at, reports, volumes};
use crate::{HealthChange, ProviderApi, Volume, VolumeCondition, VolumeKey, VolumePhase, VolumeReport};

/// About how many volumes a provider is asked at once.
const BATCH: usize = 100;

impl VolumeController {
    /// Asks every provider how its volumes are, and returns of which something else is believed since. Call it every
    /// minute, say. What is believed changes only after several answers in a row
    /// ([thresholds](crate::ProviderRegistry::with_thresholds)); it is kept, and told by
    /// [`explain_claim`](crate::StorageManager::explain_claim).
    ///
    /// A provider that does not answer says nothing of its volumes.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn observe(&self) -> Result<Vec<(VolumeKey, HealthChange)>> {
        let view = self.store.snapshot(&[volumes()?.prefix().clone(), reports()?.prefix().clone()]).await?;
        let mut by_provider: BTreeMap<ProviderName, Vec<Stamped<Volume>>> = BTreeMap::new();
        for volume in volumes()?.list(&view, &Txn::new(), volumes()?.prefix())? {
            if volume.phase == VolumePhase::Ready && volume.handle.is_some() {
                by_provider.entry(volume.provider.clone()).or_default().push(volume);
            }
        }
        let mut changes = Vec::new();
        for (name, of_it) in by_provider {
            let Ok(provider) = self.providers.provider(&name) else { continue };
            for some in of_it.chunks(BATCH) {
                let made: Vec<_> = some.iter().filter_map(|volume| volume.made()).collect();
                let call = provider.get_volume_statuses(&made);
                let Ok(answers) = self.within(&name, ProviderApi::Describe, call).await else { break };
                for (volume, answer) in some.iter().zip(answers) {
                    let seen = match answer {
                        Ok(status) => status.condition,
                        Err(e) if e.kind() == ErrorKind::NotFound => {
                            VolumeCondition::Abnormal(format!("provider {name} has no such volume any more"))
                        }
                        Err(_) => continue,
                    };
                    let at = report_at(&volume.key)?;
                    let old = reports()?.get(&view, &Txn::new(), &at)?;
                    let change = self.note_condition(volume, old.as_ref(), &seen).await?;
                    changes.extend(change.map(|change| (volume.key.clone(), change)));
                }
            }
        }
        Ok(changes)
    }

    async fn note_condition(
        &self,
        volume: &Stamped<Volume>,
        old: Option<&Stamped<VolumeReport>>,
        seen: &VolumeCondition,
    ) -> Result<Option<HealthChange>> {
        let mut new = old.map(|old| (*old.value).clone()).unwrap_or_default();
        let change = new.provider_says(seen, self.providers.thresholds(), self.clock.now());
        if old.map_or(new == VolumeReport::default(), |old| new == *old.value) {
            return Ok(None);
        }
        let mut txn = Txn::new();
        // Of a volume that is gone nothing is kept.
        volumes()?.expect(&mut txn, volume)?;
        match old {
            Some(old) => reports()?.update(&mut txn, old, &new)?,
            None => reports()?.create(&Default::default(), &mut txn, report_at(&volume.key)?, &new)?,
        }
        match self.store.commit(&txn).await {
            Ok(_) => Ok(change),
            // It is changing, or somebody else has looked: the next time will do.
            Err(e) if e.retry() == Retry::AfterReread => Ok(None),
            Err(e) => Err(e),
        }
    }
}
