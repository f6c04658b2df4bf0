//! How to reach etcd: endpoints, namespace, credentials, deadlines.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{Error, Result};

/// The longest prefix, so that keys and their framing stay within etcd's request limit.
const MAX_PREFIX_LEN: usize = 128;

const DEFAULT_PREFIX: &str = "hivemind";

/// Where etcd is, and how to talk to it.
///
/// ```
/// use hivemind_core::EtcdOptions;
///
/// let options: EtcdOptions = "etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/prod/hivemind".parse()?;
/// let options = options.with_user("hivemind", "secret");
/// assert!(!format!("{options:?}").contains("secret"));
/// # Ok::<(), hivemind_core::Error>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct EtcdOptions {
    pub(super) endpoints: Vec<String>,
    pub(super) prefix: String,
    pub(super) tls: Option<Tls>,
    pub(super) user: Option<(String, Zeroizing<String>)>,
    pub(super) request_timeout: Duration,
    pub(super) keep_alive: (Duration, Duration),
    pub(super) runtime: Option<tokio::runtime::Handle>,
}

/// What is needed to trust a server, and to be trusted.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) authority: Vec<u8>,
    pub(super) identity: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    pub(super) server_name: Option<String>,
}

impl EtcdOptions {
    /// The members of one etcd cluster, each as `HOST:PORT`. The first is used until it fails, then the next.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) names the endpoint that is wrong.
    pub fn new<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Result<Self> {
        let endpoints = endpoints.into_iter().map(|e| endpoint(e.as_ref())).collect::<Result<Vec<_>>>()?;
        if endpoints.is_empty() {
            return Err(invalid("there is no endpoint: give one HOST:PORT at least"));
        }
        Ok(Self {
            endpoints,
            prefix: DEFAULT_PREFIX.to_owned(),
            tls: None,
            user: None,
            request_timeout: Duration::from_secs(5),
            keep_alive: (Duration::from_secs(10), Duration::from_secs(5)),
            runtime: None,
        })
    }

    /// Keeps everything below `prefix`, so that several clusters may share one etcd; `hivemind` if never said.
    /// All replicas of one control plane say the same.
    ///
    /// Nobody else may write below it. etcd's access rules grant a namespace by the key prefix `PREFIX:`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if it is empty, longer than 128 bytes, or holds anything but printable
    /// ASCII, or a `:`.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self> {
        if prefix.is_empty() || prefix.len() > MAX_PREFIX_LEN {
            let len = prefix.len();
            return Err(invalid(format!("a prefix has 1 to {MAX_PREFIX_LEN} bytes, this one has {len}")));
        }
        if let Some(wrong) = prefix.chars().find(|&c| !c.is_ascii_graphic() || c == ':') {
            return Err(invalid(format!("prefix {prefix:?}: {wrong:?} cannot be in a prefix")));
        }
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// Talks TLS, to servers whose certificate the authorities in `authority_pem` have signed.
    #[must_use]
    pub fn with_tls(mut self, authority_pem: impl Into<Vec<u8>>) -> Self {
        self.tls = Some(Tls { authority: authority_pem.into(), identity: None, server_name: None });
        self
    }

    /// Shows this certificate to the servers, which may take its common name for the user.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) before [`with_tls`](Self::with_tls).
    pub fn with_identity(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Result<Self> {
        self.tls_mut()?.identity = Some((certificate_pem.into(), Zeroizing::new(key_pem.into())));
        Ok(self)
    }

    /// Expects this name in the certificates of the servers, whatever they are called in the endpoints.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) before [`with_tls`](Self::with_tls).
    pub fn with_server_name(mut self, name: impl Into<String>) -> Result<Self> {
        self.tls_mut()?.server_name = Some(name.into());
        Ok(self)
    }

    fn tls_mut(&mut self) -> Result<&mut Tls> {
        self.tls.as_mut().ok_or_else(|| invalid("this is about TLS: call with_tls first"))
    }

    /// Authenticates as `name`. Without TLS, the password can be read on the way.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), Zeroizing::new(password.into())));
        self
    }

    /// How long one operation may take, over all endpoints that it tries; 5 s if never said. At least a millisecond.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Pings the server every `interval` while a watch or a request is open, and takes it for dead if there is no
    /// answer within `timeout`; 10 s and 5 s if never said.
    ///
    /// etcd hangs up on clients that ping more often than its `--grpc-keepalive-min-time`, 5 s by default.
    #[must_use]
    pub fn with_keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        let least = Duration::from_millis(1);
        self.keep_alive = (interval.max(least), timeout.max(least));
        self
    }

    /// Does its I/O on this runtime, whose I/O and time drivers must be on. If never said, it is the tokio runtime in
    /// which the store is made; outside of any, the store runs a thread of its own.
    #[must_use]
    pub fn with_runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }
}

impl FromStr for EtcdOptions {
    type Err = Error;

    /// `etcd://HOST:PORT,HOST:PORT/prefix`; without a prefix it is `hivemind`.
    fn from_str(url: &str) -> Result<Self> {
        // The URL is not repeated in the message: it may hold a password that has no business there.
        let Some(rest) = url.strip_prefix("etcd://") else {
            return Err(invalid(
                "the URL does not begin with etcd://, as in etcd://HOST:PORT,HOST:PORT/prefix",
            ));
        };
        if rest.contains('@') {
            return Err(invalid("the URL holds a user: say it with with_user, URLs end up in logs"));
        }
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let options = Self::new(hosts.split(','))?;
        if prefix.is_empty() { Ok(options) } else { options.with_prefix(prefix) }
    }
}

impl fmt::Debug for EtcdOptions {
    /// Without password and key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls.is_some())
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("request_timeout", &self.request_timeout)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

/// Checks `HOST:PORT`, where an IPv6 address stands in brackets.
fn endpoint(text: &str) -> Result<String> {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    let strange = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '@' | '?' | '#');
    if text.contains(strange) || !matches!(port, Some(Ok(1..))) {
        return Err(invalid(format!("endpoint {text:?} is not HOST:PORT")));
    }
    Ok(text.to_owned())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid("etcd options", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn urls() {
        for (url, endpoints, prefix) in [
            ("etcd://h:1", "h:1", "hivemind"),
            ("etcd://h:1/", "h:1", "hivemind"),
            ("etcd://h:1,[::1]:2/a/b", "h:1,[::1]:2", "a/b"),
        ] {
            let options: EtcdOptions = url.parse().unwrap();
            assert_eq!((options.endpoints.join(","), &options.prefix[..]), (endpoints.to_owned(), prefix));
        }
        for wrong in [
            "h:1",
            "http://h:1",
            "etcd://",
            "etcd://h",
            "etcd://h:",
            "etcd://:1",
            "etcd://h:0",
            "etcd://h:70000",
            "etcd://h:1,",
            "etcd://me:secret@h:1",
            "etcd://h:1/a:b",
            "etcd://h:1/a b",
        ] {
            let error = wrong.parse::<EtcdOptions>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_prefix_is_short() {
        let options = EtcdOptions::new(["h:1"]).unwrap();
        assert!(options.clone().with_prefix(&"x".repeat(MAX_PREFIX_LEN)).is_ok());
        assert!(options.clone().with_prefix(&"x".repeat(MAX_PREFIX_LEN + 1)).is_err());
        assert!(options.with_prefix("").is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let options = EtcdOptions::new(["h:1"]).unwrap().with_tls("ca").with_user("me", "secret");
        let printed = format!("{:?}", options.with_identity("cert", "secret").unwrap());
        assert!(!printed.contains("secret") && printed.contains("me"), "{printed}");
    }
}
