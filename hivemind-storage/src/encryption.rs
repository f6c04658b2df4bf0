//! Keys of encrypted volumes: one secret a tenant, wrapped by a key provider, from which each volume's key is derived.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hivemind_core::store::{Key, Prefix, Txn};
use hivemind_core::{
    Collection, Error, ErrorKind, KeyId, KeyProvider, Result, Retry, SecretBytes, Stamped, StateStore,
    Stored, TenantRef,
};
use serde::{Deserialize, Serialize};

use crate::{KeyName, Secrets, VolumeKey};

/// Under which name a volume's key is among the [secrets](Secrets) of a call: 64 bytes.
pub const VOLUME_KEY: &str = "encryption-key";

/// What makes derived keys differ from those of any other program (BLAKE3's `derive_key`).
const CONTEXT: &str = "hivemind-storage 2026-11 volume key";

/// How often a change is decided again when another got in first.
const ATTEMPTS: usize = 16;

/// The secrets of a tenant, each wrapped; the newest is for new volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TenantKeys {
    versions: BTreeMap<u32, Wrapped>,
    /// The newest version that was erased: no later one has its number.
    #[serde(default)]
    erased: u32,
    /// The tenant is gone: it never gets another secret.
    #[serde(default)]
    destroyed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Wrapped {
    key: KeyId,
    wrapped: Bytes,
    /// What the secret differs by from what is wrapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<Bytes>,
    /// Tells a damaged secret from a sound one, and nothing else.
    check: [u8; 16],
}

impl Stored for TenantKeys {
    const KIND: &'static str = "keys of a tenant";
}

impl TenantKeys {
    fn newest(&self) -> Option<u32> {
        self.versions.keys().next_back().copied()
    }
}

/// Keys of encrypted volumes.
///
/// A tenant has one secret (of 32 bytes), of several versions. It is stored only as its [`KeyProvider`] wrapped it, bound to
/// the tenant and its generation. A volume's key is derived from the version that was the newest when the volume was made,
/// and the volume's own name; so nothing else has to be stored. A clone, and a volume made of a snapshot, has the key of
/// what it was made of ([`Volume::encrypted_with`](crate::Volume::encrypted_with)); no two others have the same.
///
/// - [`rotate`](Self::rotate): new volumes get keys from a new secret; what is there stays readable.
/// - [`rewrap`](Self::rewrap): the secrets are wrapped under another key of the provider; no volume changes.
/// - [`erase`](Self::erase): the tenant's volumes can never be read again, wherever copies of them are (crypto-erase),
///   once no copy of the store's record is left, in its history or in a backup of it. If that takes too long, give the
///   tenant a key of its own at the key provider, and destroy it there.
#[derive(Debug, Clone)]
pub struct VolumeKeys {
    store: Arc<dyn StateStore>,
    provider: Arc<dyn KeyProvider>,
    key: KeyId,
}

fn collection() -> Result<Collection<TenantKeys>> {
    let prefix = Prefix::new(["storage", "keys"]).map_err(|e| Error::of(ErrorKind::Internal, "keys", e))?;
    Ok(Collection::new(prefix))
}

fn key_at(tenant: &TenantRef) -> Result<Key> {
    collection()?.key([tenant.to_string()])
}

impl VolumeKeys {
    /// Keys kept in `store`, wrapped by `provider` under its key `key`.
    pub fn new(store: Arc<dyn StateStore>, provider: Arc<dyn KeyProvider>, key: KeyId) -> Self {
        Self { store, provider, key }
    }

    async fn read(&self, tenant: &TenantRef) -> Result<Option<Stamped<TenantKeys>>> {
        let at = key_at(tenant)?;
        let found = self.store.get(&at, None).await?;
        let view = hivemind_core::store::Snapshot::new(Default::default(), found);
        collection()?.get(&view, &Txn::new(), &at)
    }

    /// Changes the tenant's keys, deciding again if another got in first.
    async fn change(
        &self,
        tenant: &TenantRef,
        mut decide: impl FnMut(&TenantKeys) -> Result<Option<TenantKeys>>,
    ) -> Result<TenantKeys> {
        for _ in 0..ATTEMPTS {
            let old = self.read(tenant).await?;
            let before = old.as_ref().map(|old| (*old.value).clone()).unwrap_or_default();
            let Some(after) = decide(&before)? else { return Ok(before) };
            if self.put(tenant, old.as_ref(), &after).await? {
                return Ok(after);
            }
        }
        Err(never_rests(tenant))
    }

    /// Whether nobody got in first.
    async fn put(
        &self,
        tenant: &TenantRef,
        old: Option<&Stamped<TenantKeys>>,
        new: &TenantKeys,
    ) -> Result<bool> {
        let mut txn = Txn::new();
        match old {
            Some(old) => collection()?.update(&mut txn, old, new)?,
            None => collection()?.create(&Default::default(), &mut txn, key_at(tenant)?, new)?,
        }
        match self.store.commit(&txn).await {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.retry(), Retry::AfterReread | Retry::Later) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn fresh(&self, tenant: &TenantRef) -> Result<Wrapped> {
        let made = self.provider.generate_data_key(&self.key, tenant.to_string().as_bytes()).await?;
        Ok(Wrapped { key: self.key.clone(), wrapped: made.wrapped, mask: None, check: check(&made.plain) })
    }

    /// The version whose secret new volumes of the tenant get keys from; the first one is made if there is none.
    ///
    /// # Errors
    /// [`Erased`] if the tenant's secrets were destroyed; those of the store and the key provider.
    pub async fn newest(&self, tenant: &TenantRef) -> Result<u32> {
        if let Some(found) = self.read(tenant).await?.and_then(|keys| keys.newest()) {
            return Ok(found);
        }
        self.add(tenant, |before| before.newest().is_none()).await
    }

    /// New volumes of the tenant get keys from a new secret from now on; returns its version.
    ///
    /// # Errors
    /// As for [`newest`](Self::newest).
    pub async fn rotate(&self, tenant: &TenantRef) -> Result<u32> {
        self.add(tenant, |_| true).await
    }

    /// Adds a secret, if it is `wanted` by then; returns the newest version.
    async fn add(&self, tenant: &TenantRef, wanted: impl Fn(&TenantKeys) -> bool) -> Result<u32> {
        let fresh = self.fresh(tenant).await?;
        let keys = self
            .change(tenant, |before| {
                if before.destroyed {
                    return Err(erased(format!("the keys of tenant {tenant}")));
                }
                if !wanted(before) {
                    return Ok(None);
                }
                let mut after = before.clone();
                let next = before.newest().unwrap_or(before.erased).saturating_add(1);
                after.versions.insert(next, fresh.clone());
                Ok(Some(after))
            })
            .await?;
        keys.newest().ok_or_else(|| Error::internal("keys", "a tenant's new key is not there"))
    }
}

impl VolumeKeys {
    /// Wraps every secret of the tenant anew, by the key provider and the key of `to`, which has the same store: from
    /// then on only `to` reads them. Volumes do not change. Returns how many secrets there are.
    ///
    /// # Errors
    /// Those of the store and both key providers; then nothing is changed.
    pub async fn rewrap(&self, tenant: &TenantRef, to: &Self) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let old = self.read(tenant).await?;
            let Some(before) = &old else { return Ok(0) };
            let mut after = TenantKeys { versions: BTreeMap::new(), ..(*before.value).clone() };
            for (version, wrapped) in &before.versions {
                let secret = self.unwrap(tenant, wrapped).await?;
                after.versions.insert(*version, to.masked(tenant, &secret).await?);
            }
            if after == *before.value || self.put(tenant, old.as_ref(), &after).await? {
                return Ok(after.versions.len());
            }
        }
        Err(never_rests(tenant))
    }

    /// A key provider wraps only what it made: so `secret` is hidden behind a fresh key of it, which is used for nothing
    /// else (a one-time pad).
    async fn masked(&self, tenant: &TenantRef, secret: &SecretBytes) -> Result<Wrapped> {
        let made = self.provider.generate_data_key(&self.key, tenant.to_string().as_bytes()).await?;
        let mask = xor(secret, made.plain.expose())?;
        let (wrapped, mask) = (made.wrapped, Some(Bytes::copy_from_slice(mask.expose())));
        Ok(Wrapped { key: self.key.clone(), wrapped, mask, check: check(secret) })
    }

    async fn unwrap(&self, tenant: &TenantRef, wrapped: &Wrapped) -> Result<SecretBytes> {
        let context = tenant.to_string();
        let plain = self.provider.unwrap_data_key(&wrapped.key, &wrapped.wrapped, context.as_bytes()).await?;
        let secret = match &wrapped.mask {
            None => plain,
            Some(mask) => xor(&plain, mask)?,
        };
        if check(&secret) != wrapped.check {
            let message =
                format!("a secret of tenant {tenant} is damaged: bring back the record that was there");
            return Err(Error::new(ErrorKind::Corrupt, "keys", message));
        }
        Ok(secret)
    }

    /// Forgets every secret of the tenant: its encrypted volumes cannot be read any more, but by who has an older state of
    /// the store and the key provider. There is no way back.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn erase(&self, tenant: &TenantRef) -> Result<()> {
        self.forget(tenant, false).await
    }

    /// Forgets every secret of the tenant, as [`erase`](Self::erase) does, and never makes another: for a tenant that is
    /// gone. Whoever still makes an encrypted volume for it is refused.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn destroy(&self, tenant: &TenantRef) -> Result<()> {
        self.forget(tenant, true).await
    }

    async fn forget(&self, tenant: &TenantRef, for_ever: bool) -> Result<()> {
        self.change(tenant, |before| {
            let erased = before.newest().unwrap_or(before.erased);
            let destroyed = before.destroyed || for_ever;
            let after = TenantKeys { versions: BTreeMap::new(), erased, destroyed };
            Ok((after != *before).then_some(after))
        })
        .await
        .map(|_| ())
    }

    /// The secrets that a call about a volume with that key carries.
    ///
    /// # Errors
    /// [`Erased`] if the tenant's secrets were erased, or [`ErrorKind::NotFound`] if there has been no such version; those
    /// of the store and the key provider.
    pub async fn secrets(&self, key: &KeyName) -> Result<Secrets> {
        let tenant = &key.volume.tenant;
        let found = self.read(tenant).await?;
        let known = found.as_ref().map(|keys| (*keys.value).clone()).unwrap_or_default();
        let Some(wrapped) = known.versions.get(&key.version) else {
            if known.destroyed || key.version <= known.erased {
                return Err(erased(key.to_string()));
            }
            return Err(Error::not_found("keys", format!("{key} is not there")));
        };
        let secret = self.unwrap(tenant, wrapped).await?;
        Ok(Secrets::none().with(VOLUME_KEY, derive(&secret, &key.volume, key.version)))
    }

    /// Secrets for a volume that is made only to be deleted: its own key was erased, and nothing is ever written to it.
    pub(crate) fn worthless(volume: &VolumeKey) -> Secrets {
        Secrets::none().with(VOLUME_KEY, derive(&SecretBytes::new(Vec::new()), volume, 0))
    }
}

/// A key, or all keys of a tenant, was erased: what it encrypts cannot be read any more. Detail of a
/// [`NotFound`](ErrorKind::NotFound) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} was erased: what is encrypted with it cannot be read any more")]
#[non_exhaustive]
pub struct Erased {
    /// What was erased.
    pub what: String,
}

fn erased(what: String) -> Error {
    Error::of(ErrorKind::NotFound, "keys", Erased { what })
}

fn never_rests(tenant: &TenantRef) -> Error {
    let message =
        format!("the keys of tenant {tenant} change all the time, or the store does not answer: try later");
    Error::new(ErrorKind::Unavailable, "keys", message)
}

fn xor(secret: &SecretBytes, with: &[u8]) -> Result<SecretBytes> {
    if secret.expose().len() != with.len() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "keys",
            "a secret and what hides it have different lengths",
        ));
    }
    Ok(SecretBytes::new(secret.expose().iter().zip(with).map(|(a, b)| a ^ b).collect()))
}

fn check(secret: &SecretBytes) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("hivemind-storage 2026-11 check of a secret");
    hasher.update(secret.expose());
    let mut check = [0; 16];
    hasher.finalize_xof().fill(&mut check);
    check
}

/// 64 bytes that only the secret and the volume's name lead to.
fn derive(secret: &SecretBytes, volume: &VolumeKey, version: u32) -> SecretBytes {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let name = volume.to_string();
    // The length keeps apart what could be cut in several ways.
    for part in [secret.expose(), &version.to_le_bytes(), name.as_bytes()] {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    let mut key = vec![0; 64];
    hasher.finalize_xof().fill(&mut key);
    SecretBytes::new(key)
}

#[cfg(test)]
mod tests {
    use hivemind_core::{Generation, MemoryKeys, MemoryStore, SeededIds, block_on};

    use super::*;

    fn tenant(name: &str) -> TenantRef {
        TenantRef::new(name.parse().unwrap(), Generation::from_u64(1))
    }

    fn volume(name: &str, of: &str) -> VolumeKey {
        VolumeKey::new(tenant(of), name.parse().unwrap())
    }

    fn keys(store: &Arc<MemoryStore>, seed: u64) -> (Arc<MemoryKeys>, VolumeKeys) {
        let provider = Arc::new(MemoryKeys::new(Arc::new(SeededIds::new(seed))));
        let key: KeyId = format!("kek-{seed}").parse().unwrap();
        provider.create(key.clone());
        (provider.clone(), VolumeKeys::new(store.clone(), provider, key))
    }

    fn key(keys: &VolumeKeys, of: &VolumeKey, version: u32) -> Result<Vec<u8>> {
        let secrets = block_on(keys.secrets(&KeyName { volume: of.clone(), version }))?;
        Ok(secrets.get(VOLUME_KEY).unwrap().expose().to_vec())
    }

    #[test]
    fn each_volume_has_its_own_key_and_always_the_same() {
        let store = Arc::new(MemoryStore::new());
        let (_, keys) = keys(&store, 1);
        for of in ["acme", "globex"] {
            assert_eq!(block_on(keys.newest(&tenant(of))).unwrap(), 1);
            assert_eq!(block_on(keys.newest(&tenant(of))).unwrap(), 1);
        }
        assert_eq!(block_on(keys.rotate(&tenant("acme"))).unwrap(), 2);
        let mut seen = std::collections::BTreeSet::new();
        for (of, name, version) in
            [("acme", "data", 1), ("acme", "data", 2), ("acme", "log", 1), ("globex", "data", 1)]
        {
            let made = key(&keys, &volume(name, of), version).unwrap();
            assert_eq!((made.len(), &made), (64, &key(&keys, &volume(name, of), version).unwrap()));
            assert!(seen.insert(made), "two volumes have one key");
        }
        assert_eq!(key(&keys, &volume("data", "globex"), 2).unwrap_err().kind(), ErrorKind::NotFound);
        let text = format!("{:?}", store);
        assert!(!text.contains("encryption-key"));
    }

    #[test]
    fn a_rewrapped_secret_is_the_same_and_the_old_wrapping_is_useless() {
        let store = Arc::new(MemoryStore::new());
        let (old_kms, old) = keys(&store, 1);
        let (_, new) = keys(&store, 2);
        let (acme, data) = (tenant("acme"), volume("data", "acme"));
        block_on(old.newest(&acme)).unwrap();
        block_on(old.rotate(&acme)).unwrap();
        let before = (key(&old, &data, 1).unwrap(), key(&old, &data, 2).unwrap());
        assert_eq!(block_on(old.rewrap(&acme, &new)).unwrap(), 2);
        old_kms.destroy(&"kek-1".parse().unwrap());
        assert!(key(&old, &data, 1).is_err());
        assert_eq!((key(&new, &data, 1).unwrap(), key(&new, &data, 2).unwrap()), before);
        // And once more, from what is masked already.
        let (_, third) = keys(&store, 3);
        block_on(new.rewrap(&acme, &third)).unwrap();
        assert_eq!(key(&third, &data, 2).unwrap(), before.1);
    }

    #[test]
    fn what_is_erased_stays_erased() {
        let store = Arc::new(MemoryStore::new());
        let (_, keys) = keys(&store, 1);
        let (acme, data) = (tenant("acme"), volume("data", "acme"));
        block_on(keys.newest(&acme)).unwrap();
        let before = key(&keys, &data, 1).unwrap();
        block_on(keys.erase(&acme)).unwrap();
        assert_eq!(key(&keys, &data, 1).unwrap_err().kind(), ErrorKind::NotFound);
        // A new secret of the same tenant gives other keys.
        assert_eq!(block_on(keys.newest(&acme)).unwrap(), 2);
        assert_eq!(
            key(&keys, &data, 1).unwrap_err().kind(),
            ErrorKind::NotFound,
            "a wrong key is worse than none"
        );
        assert_ne!(key(&keys, &data, 2).unwrap(), before);
    }

    #[test]
    fn keys_are_pinned() {
        // Whoever changes the derivation loses every volume.
        let made = derive(&SecretBytes::new(vec![7; 32]), &volume("data", "acme"), 1);
        let text: String = made.expose().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "4fda4765b8607a3e");
    }
}
