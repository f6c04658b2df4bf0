//! How to reach a CSI driver, and what it does not tell about itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hivemind_core::{Error, ErrorKind, ProviderName, Result};
use tokio::runtime::Handle;

use super::connection::PluginInfo;
use crate::{AccessMode, Capability, SecretSource};

/// How to reach a CSI driver, and what CSI has no words for.
#[derive(Debug, Clone)]
pub struct CsiOptions {
    pub(super) name: ProviderName,
    pub(super) socket: PathBuf,
    pub(super) timeout: Duration,
    pub(super) access_modes: BTreeSet<AccessMode>,
    pub(super) filesystem: bool,
    pub(super) block: bool,
    pub(super) assumed: BTreeSet<Capability>,
    pub(super) runtime: Option<Handle>,
    pub(super) secrets: Option<Arc<dyn SecretSource>>,
    pub(super) driver: Option<String>,
    pub(super) versions: Option<BTreeSet<String>>,
}

impl CsiOptions {
    /// The driver that listens at `endpoint`, `unix:///run/csi.sock` or a path, as the provider `name`.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) if the endpoint is not an absolute path: CSI speaks over unix
    /// sockets only.
    pub fn new(name: ProviderName, endpoint: &str) -> Result<Self> {
        let path =
            endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
        if !Path::new(path).is_absolute() {
            let message =
                format!("{endpoint:?} is no endpoint of a CSI driver: give unix:// and an absolute path");
            return Err(Error::invalid("connect", message));
        }
        Ok(Self {
            name,
            socket: PathBuf::from(path),
            timeout: Duration::from_secs(60),
            access_modes: BTreeSet::from([AccessMode::ReadWriteOnce]),
            filesystem: true,
            block: false,
            assumed: BTreeSet::new(),
            runtime: None,
            secrets: None,
            driver: None,
            versions: None,
        })
    }

    /// How long one call may take: 60 seconds unless it is said here. After it, the effect is unknown.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Its volumes are for these at the same time, which CSI drivers do not tell; `ReadWriteOnce` unless it is said here.
    #[must_use]
    pub fn with_access_modes(mut self, modes: impl IntoIterator<Item = AccessMode>) -> Self {
        self.access_modes = modes.into_iter().collect();
        self
    }

    /// Its volumes have file systems, or are block devices, or both, which CSI drivers do not tell; file systems only
    /// unless it is said here.
    #[must_use]
    pub fn with_volume_modes(mut self, filesystem: bool, block: bool) -> Self {
        (self.filesystem, self.block) = (filesystem, block);
        self
    }

    /// It can do this, too, for which CSI has no word: [`GrowFromSource`](Capability::GrowFromSource) and
    /// [`HardLimit`](Capability::HardLimit). Others are ignored.
    #[must_use]
    pub fn assuming(mut self, capabilities: impl IntoIterator<Item = Capability>) -> Self {
        let unsaid = |capability: &Capability| {
            matches!(capability, Capability::GrowFromSource | Capability::HardLimit)
        };
        self.assumed = capabilities.into_iter().filter(unsaid).collect();
        self
    }

    /// With the secrets of this source in every call that carries some, beside those of the request, which come first. What
    /// the driver says of a failed call has the names of secrets where it tells them.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Arc<dyn SecretSource>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Connecting only to the driver of this name: another one at the socket is refused, before it is told of any
    /// volume.
    #[must_use]
    pub fn expecting_driver(mut self, name: impl Into<String>) -> Self {
        self.driver = Some(name.into());
        self
    }

    /// Connecting only to these versions of the driver. They are compared as they are: to CSI a version is opaque.
    #[must_use]
    pub fn expecting_versions<T: Into<String>>(mut self, versions: impl IntoIterator<Item = T>) -> Self {
        self.versions = Some(versions.into_iter().map(Into::into).collect());
        self
    }

    /// Whether it is to be spoken to.
    pub(super) fn admits(&self, told: &PluginInfo) -> Result<()> {
        let refused = |what: String| {
            let message = format!("{what} listens at {}", self.socket.display());
            Err(Error::new(ErrorKind::Conflict, "connect", message))
        };
        match (&self.driver, &self.versions) {
            (Some(wanted), _) if *wanted != told.name => {
                refused(format!("driver {wanted} is wanted, and {}", told.name))
            }
            (_, Some(wanted)) if !wanted.contains(&told.version) => {
                let wanted = wanted.iter().map(String::as_str).collect::<Vec<_>>().join(" or ");
                refused(format!("version {wanted} of {} is wanted, and {}", told.name, told.version))
            }
            _ => Ok(()),
        }
    }

    /// Does the I/O on this tokio runtime, whose I/O and time drivers are on. Without it: on the one that connecting runs
    /// in, or else on a thread of its own.
    #[must_use]
    pub fn with_runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_socket() {
        let of =
            |endpoint: &str| CsiOptions::new("d".parse().unwrap(), endpoint).map(|options| options.socket);
        for good in ["unix:///run/csi.sock", "unix:/run/csi.sock", "/run/csi.sock"] {
            assert_eq!(of(good).unwrap(), Path::new("/run/csi.sock"));
        }
        for wrong in ["", "unix://", "csi.sock", "tcp://127.0.0.1:1", "http://localhost", "dns:///a"] {
            assert!(of(wrong).is_err_and(|e| e.message().contains("absolute path")), "{wrong:?}");
        }
    }
}
