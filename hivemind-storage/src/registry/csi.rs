//! CSI drivers as they are configured, and where they may be.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hivemind_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

use super::config::{ProviderConfig, ProviderFactory};
use crate::{
    AccessMode, Capability, CsiOptions, CsiProvider, SecretSource, StorageProvider, StorageProviderType,
};

/// Connects to the CSI driver at `endpoint`, whatever it speaks to.
///
/// | setting | what it says | without it |
/// |---|---|---|
/// | `endpoint` | the unix socket at which the driver listens | refused |
/// | `modes` | `filesystem`, `block`, or both with a comma between: what its volumes are | `filesystem` |
/// | `access-modes` | who may use a volume at the same time, such as `read-write-once,read-write-many` | `read-write-once` |
/// | `assume` | what else it can do, for which CSI has no word: `grow-from-source`, `hard-limit` | nothing |
/// | `timeout` | how many seconds one call may take | 60 |
/// | `driver` | the name of the driver that must listen there | any |
/// | `versions` | the versions of it that are wanted, with commas between | any |
/// | `secrets` | which of [`secrets`](Self::secrets) its calls carry | none |
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CsiFactory {
    /// Where its connections run; `None` for the runtime that it is called in, or one of its own.
    pub runtime: Option<tokio::runtime::Handle>,
    /// Who keeps secrets, by the names that configurations have for them.
    pub secrets: BTreeMap<String, Arc<dyn SecretSource>>,
}

#[async_trait]
impl ProviderFactory for CsiFactory {
    fn makes(&self, _: &StorageProviderType) -> bool {
        true
    }

    async fn connect(&self, config: &ProviderConfig) -> Result<Arc<dyn StorageProvider>> {
        Ok(Arc::new(CsiProvider::connect(self.options(config)?).await?))
    }
}

impl CsiFactory {
    /// The options that `config` says, for what is connected otherwise, such as a [`CsiNode`](crate::CsiNode).
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for settings that are missing or not understood.
    pub fn options(&self, config: &ProviderConfig) -> Result<CsiOptions> {
        config.only(&[
            "access-modes",
            "assume",
            "driver",
            "endpoint",
            "modes",
            "secrets",
            "timeout",
            "versions",
        ])?;
        let mut options = CsiOptions::new(config.name.clone(), config.setting("endpoint")?)?;
        let modes: Option<Vec<String>> = some_of(config, "modes", &["filesystem", "block"])?;
        if let Some(modes) = modes {
            let has = |wanted: &str| modes.iter().any(|mode| mode == wanted);
            options = options.with_volume_modes(has("filesystem"), has("block"));
        }
        let known = AccessMode::ALL.map(|mode| mode.to_string());
        let modes: Option<Vec<AccessMode>> =
            some_of(config, "access-modes", &known.each_ref().map(String::as_str))?;
        if let Some(modes) = modes {
            options = options.with_access_modes(modes);
        }
        let assumed: Option<Vec<Capability>> =
            some_of(config, "assume", &["grow-from-source", "hard-limit"])?;
        if let Some(assumed) = assumed {
            options = options.assuming(assumed);
        }
        if let Some(text) = config.settings.get("timeout") {
            let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
            let seconds =
                seconds.ok_or_else(|| wrong(config, "timeout", text, "whole seconds, at least one"))?;
            options = options.with_timeout(Duration::from_secs(seconds));
        }
        if let Some(driver) = config.settings.get("driver") {
            options = options.expecting_driver(driver);
        }
        if let Some(versions) = config.settings.get("versions") {
            options = options.expecting_versions(versions.split(',').map(str::trim));
        }
        if let Some(name) = config.settings.get("secrets") {
            let known = || self.secrets.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let source = self.secrets.get(name);
            let source =
                source.ok_or_else(|| wrong(config, "secrets", name, &format!("one of: {}", known())))?;
            options = options.with_secrets(source.clone());
        }
        Ok(match &self.runtime {
            Some(runtime) => options.with_runtime(runtime.clone()),
            None => options,
        })
    }
}

fn wrong(config: &ProviderConfig, setting: &str, value: &str, wanted: &str) -> Error {
    let message = format!("provider {} has {setting} {value:?}: give {wanted}", config.name);
    Error::invalid("add provider", message)
}

/// What a setting lists, with commas between; each must be among `known`.
fn some_of<T: DeserializeOwned>(
    config: &ProviderConfig,
    setting: &str,
    known: &[&str],
) -> Result<Option<Vec<T>>> {
    let Some(text) = config.settings.get(setting) else { return Ok(None) };
    let one = |word: &str| {
        let word = Some(word.trim()).filter(|word| known.contains(word));
        word.and_then(|word| serde_json::from_value(word.into()).ok())
    };
    let all: Option<Vec<T>> = text.split(',').map(one).collect();
    match all {
        Some(all) => Ok(Some(all)),
        None => Err(wrong(config, setting, text, &format!("some of: {}", known.join(", ")))),
    }
}

/// The sockets in `directory` and in the directories in it, as `/var/lib/kubelet/plugins` has them: whatever listens there
/// may be a CSI driver. In order. This blocks.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if there is no such directory; [`Unavailable`](ErrorKind::Unavailable) if it cannot
/// be read.
pub fn discover_sockets(directory: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    fn below(directory: &Path, deep: bool, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
            if kind.is_socket() {
                found.push(path);
            } else if kind.is_dir() && deep {
                below(&path, false, found)?;
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    below(directory.as_ref(), true, &mut found).map_err(|e| {
        let kind = match e.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "discover", format!("{}: {e}", directory.as_ref().display())).with_source(e)
    })?;
    found.sort();
    Ok(found)
}
