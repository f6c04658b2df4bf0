//! A run whose state is in etcd.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::{Error, EtcdOptions, EtcdStore, Result, StateStore, block_on};

use super::Stores;

const DEFAULT_PREFIX: &str = "quickstart";
/// Shorter sleeps are real, since they are pauses before etcd is asked again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where in which etcd.
#[derive(Debug)]
pub(super) struct Place {
    endpoints: Vec<String>,
    prefix: String,
}

impl Place {
    /// `etcd://HOST:PORT,HOST:PORT/PREFIX`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        url.parse::<EtcdOptions>()?;
        let rest = url.trim_start_matches("etcd://");
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = if prefix.is_empty() { DEFAULT_PREFIX } else { prefix };
        let place =
            Self { endpoints: hosts.split(',').map(str::to_owned).collect(), prefix: prefix.to_owned() };
        place.options("").and(place.options("-spare"))?;
        Ok(place)
    }

    /// A directory of this place's own among the temporary ones, for the rest of the world.
    pub(super) fn world(&self) -> PathBuf {
        let mut endpoints = self.endpoints.clone();
        endpoints.sort();
        let text = format!("{}/{}", endpoints.join(","), self.prefix);
        let name: String = blake3::hash(text.as_bytes()).to_hex().chars().take(16).collect();
        std::env::temp_dir().join(format!("hivemind-quickstart-{name}"))
    }

    fn options(&self, suffix: &str) -> Result<EtcdOptions> {
        EtcdOptions::new(&self.endpoints)?.with_prefix(&format!("{}{suffix}", self.prefix))
    }

    /// The two stores, each below its own prefix.
    pub(super) fn open(&self) -> Result<Stores> {
        let open = |suffix| -> Result<Arc<dyn StateStore>> {
            let connected = block_on(EtcdStore::connect(self.options(suffix)?));
            let store = connected.map_err(|e| {
                let message = format!("{}: {}", self.endpoints.join(","), e.message());
                Error::new(e.kind(), "etcd", message).with_source(e)
            })?;
            Ok(Arc::new(store))
        };
        Ok(Stores { state: open("")?, spare: open("-spare")?, real: PATIENCE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_prefix_and_a_world_of_its_own() {
        let place = |url| Place::parse(url).unwrap();
        assert_eq!(place("etcd://a:1").prefix, "quickstart");
        assert_eq!(place("etcd://a:1/").world(), place("etcd://a:1/quickstart").world());
        assert_eq!(place("etcd://a:1,b:2/p").world(), place("etcd://b:2,a:1/p").world());
        assert_ne!(place("etcd://a:1/p").world(), place("etcd://a:1/q").world());
        assert!(Place::parse("etcd://a").unwrap_err().message().contains("not HOST:PORT"));
        assert!(!Place::parse("etcd://me:secret@a:1").unwrap_err().message().contains("secret"));
        assert!(Place::parse("etcd://").is_err());
        assert!(Place::parse(&format!("etcd://a:1/{}", "x".repeat(125))).is_err());
    }
}
