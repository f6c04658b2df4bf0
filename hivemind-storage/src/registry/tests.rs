//! Registries made from data, and what they believe.

use async_trait::async_trait;
use hivemind_core::block_on;

use super::*;
use crate::{MemoryProvider, StorageProviderType};

#[derive(Debug)]
struct Memories;

#[async_trait]
impl ProviderFactory for Memories {
    fn makes(&self, wanted: &StorageProviderType) -> bool {
        *wanted == StorageProviderType::Local
    }
    async fn connect(&self, config: &ProviderConfig) -> Result<Arc<dyn StorageProvider>> {
        config.only(&["capacity"])?;
        let capacity = config.setting("capacity")?.parse();
        let capacity = capacity.map_err(|e| Error::of(ErrorKind::Invalid, "capacity", e))?;
        Ok(Arc::new(MemoryProvider::new(config.name.clone()).with_capacity(capacity)))
    }
}

fn connect(text: &str) -> Result<ProviderRegistry> {
    let configs: Vec<ProviderConfig> = serde_json::from_str(text).unwrap();
    block_on(ProviderRegistry::connect(&[Arc::new(Memories)], &configs))
}

#[test]
fn providers_are_made_of_data_and_wrong_data_says_what_is_wrong() {
    let good = r#"[{"name": "b", "type": "local", "settings": {"capacity": "1Gi"}},
        {"name": "a", "type": "local", "settings": {"capacity": "2Gi"}}]"#;
    let names: Vec<_> = connect(good).unwrap().names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["b", "a"], "the first one is the default");
    for (text, kind, part) in [
        (r#"[{"name": "a", "type": "ceph"}]"#, ErrorKind::Unsupported, "provider a is of type Ceph"),
        (r#"[{"name": "a", "type": "local"}]"#, ErrorKind::Invalid, "no setting capacity; it has: none"),
        (
            r#"[{"name": "a", "type": "local", "settings": {"capacty": "1Gi"}}]"#,
            ErrorKind::Invalid,
            "has a setting capacty; there are: capacity",
        ),
        (
            r#"[{"name": "a", "type": "local", "settings": {"capacity": "1Gi"}},
                {"name": "a", "type": "local", "settings": {"capacity": "1Gi"}}]"#,
            ErrorKind::AlreadyExists,
            "there is a provider a already",
        ),
    ] {
        let refused = connect(text).unwrap_err();
        assert_eq!(refused.kind(), kind);
        assert!(refused.message().contains(part), "{refused}");
    }
    assert!(serde_json::from_str::<ProviderConfig>(r#"{"name": "a", "type": "local", "x": 1}"#).is_err());
}

/// Answers as it is told to.
#[derive(Debug)]
struct Moody(MemoryProvider, Mutex<bool>);

#[async_trait]
impl StorageProvider for Moody {
    fn name(&self) -> &ProviderName {
        self.0.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.0.provider_type()
    }
    fn capabilities(&self) -> crate::Capabilities {
        self.0.capabilities()
    }
    async fn probe(&self) -> Result<()> {
        match *self.1.lock().unwrap_or_else(PoisonError::into_inner) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, "probe", "nobody answers")),
        }
    }
    async fn create_volume(
        &self,
        request: &crate::CreateVolume,
    ) -> Result<hivemind_core::Progress<crate::ProvisionedVolume>> {
        self.0.create_volume(request).await
    }
    async fn delete_volume(
        &self,
        token: &hivemind_core::OpToken,
        volume: &crate::VolumeRef,
    ) -> Result<hivemind_core::Progress<()>> {
        self.0.delete_volume(token, volume).await
    }
    async fn get_volume_status(&self, volume: &crate::VolumeRef) -> Result<crate::VolumeStatus> {
        self.0.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<crate::StorageMetrics> {
        self.0.get_provider_metrics().await
    }
}

#[test]
fn a_provider_is_ill_after_several_answers_and_clones_of_the_registry_know() {
    let name: ProviderName = "m".parse().unwrap();
    let moody = Arc::new(Moody(MemoryProvider::new(name.clone()), Mutex::new(true)));
    let mut registry = ProviderRegistry::new();
    registry.add(moody.clone()).unwrap();
    let probe = |second, well| {
        *moody.1.lock().unwrap() = well;
        block_on(registry.probe(Timestamp::from_secs(second)))
    };
    assert_eq!(registry.health(&name).condition, VolumeCondition::Unknown);
    assert_eq!(probe(1, true), std::slice::from_ref(&name));
    assert!(probe(2, false).is_empty() && probe(3, false).is_empty());
    assert_eq!(probe(4, false), std::slice::from_ref(&name));
    let seen = registry.clone().health(&name);
    assert!(matches!(&seen.condition, VolumeCondition::Abnormal(why) if why.contains("nobody answers")));
    assert_eq!(seen.since, Timestamp::from_secs(4));
    assert!(probe(5, true).is_empty());
    assert_eq!(probe(6, true), std::slice::from_ref(&name));
}

#[test]
fn what_is_over_budget_is_not_done_and_is_paid_for_later() {
    use std::time::Duration;

    use hivemind_core::{Effect, Generation, ManualClock, OpToken, Retry, TenantRef};

    let clock = Arc::new(ManualClock::default());
    let inner = Arc::new(MemoryProvider::new("m".parse().unwrap()));
    let minute = Budget::new(1, Duration::from_secs(60));
    let provider = BudgetedProvider::new(inner.clone(), clock.clone(), [(ProviderApi::Create, minute)]);
    let create = |name: &str| {
        let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
        let key = crate::VolumeKey::new(tenant, name.parse().unwrap());
        let size = crate::SizeRange::at_least(hivemind_core::resources::ByteSize::from_gib(1)).unwrap();
        let request =
            crate::CreateVolume::new(OpToken::new(name), key, size, crate::VolumeOptions::default());
        block_on(provider.create_volume(&request))
    };
    create("a").unwrap();
    let over = create("b").unwrap_err();
    assert_eq!((over.retry(), over.effect()), (Retry::Later, Effect::NotStarted));
    assert!(over.message().contains("may be called 1 times in 60s for Create"), "{over}");
    assert_eq!(block_on(inner.get_provider_metrics()).unwrap().volumes, 1);
    // What has no budget is not counted.
    assert!((0..9).all(|_| block_on(provider.get_provider_metrics()).is_ok()));
    clock.advance(Duration::from_secs(60));
    create("b").unwrap();
}
