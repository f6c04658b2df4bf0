//! The keys that calls about encrypted volumes carry.

use hivemind_core::{Error, Result};

use super::VolumeController;
#[cfg(feature = "encryption")]
use super::read;
use super::volume::Job;
#[cfg(feature = "encryption")]
use super::volume::waits;
#[cfg(feature = "encryption")]
use crate::records::{snapshot_at, snapshots, volume_at, volumes};
#[cfg(feature = "encryption")]
use crate::{KeyName, SourceKey};
use crate::{Secrets, Volume};

impl VolumeController {
    /// The secrets of a volume: the key that it was made with, or is to be made with.
    #[cfg(feature = "encryption")]
    pub(super) async fn secrets(&self, volume: &Volume) -> Result<Secrets> {
        match (&self.keys, &volume.encrypted_with) {
            (Some(keys), Some(key)) => keys.secrets(key).await,
            (None, Some(key)) => {
                let message = format!("volume {} has {key}, and this controller has no keys", volume.key);
                Err(waits(message))
            }
            (_, None) => Ok(Secrets::none()),
        }
    }

    #[cfg(not(feature = "encryption"))]
    pub(super) async fn secrets(&self, _: &Volume) -> Result<Secrets> {
        Ok(Secrets::none())
    }

    /// Which key a new encrypted volume gets is written down before it is made: that of what it is made of, whose content
    /// it has as it was written; else one of its own.
    #[cfg(feature = "encryption")]
    pub(super) async fn choose_key(&self, job: &Job<'_>) -> Result<bool> {
        let volume = &*job.volume.value;
        let Some(keys) = &self.keys else { return Ok(false) };
        if !volume.options.encryption || volume.encrypted_with.is_some() {
            return Ok(false);
        }
        let key = match self.key_of_source(volume).await? {
            Some(key) => key,
            None => KeyName { volume: volume.key.clone(), version: keys.newest(&volume.key.tenant).await? },
        };
        self.record(job, |new| new.encrypted_with = Some(key)).await?;
        Ok(true)
    }

    #[cfg(feature = "encryption")]
    async fn key_of_source(&self, volume: &Volume) -> Result<Option<KeyName>> {
        match &volume.source {
            None => Ok(None),
            Some(SourceKey::Snapshot(key)) => {
                let at = snapshot_at(key)?;
                let view = self.records(std::slice::from_ref(&at)).await?;
                Ok(read(&snapshots()?, &view, &at)?.and_then(|found| found.encrypted_with.clone()))
            }
            Some(SourceKey::Volume(key)) => {
                let at = volume_at(key)?;
                let view = self.records(std::slice::from_ref(&at)).await?;
                Ok(read(&volumes()?, &view, &at)?.and_then(|found| found.encrypted_with.clone()))
            }
        }
    }

    #[cfg(not(feature = "encryption"))]
    pub(super) async fn choose_key(&self, _: &Job<'_>) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(feature = "encryption")]
pub(super) fn is_erased(error: &Error) -> bool {
    error.detail::<crate::Erased>().is_some()
}

#[cfg(not(feature = "encryption"))]
pub(super) fn is_erased(_: &Error) -> bool {
    false
}

#[cfg(feature = "encryption")]
pub(super) fn worthless(volume: &Volume) -> Secrets {
    crate::VolumeKeys::worthless(&volume.key)
}

#[cfg(not(feature = "encryption"))]
pub(super) fn worthless(_: &Volume) -> Secrets {
    Secrets::none()
}
