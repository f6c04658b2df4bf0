//! One connection, to one endpoint at a time: found, kept, given up for the next one.
//!
//! The client's own balancing over several endpoints keeps sending requests to one that has died, so it is not used.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::timeout;

use super::failure::{Class, Failure};
use super::options::EtcdOptions;

/// The way to etcd.
#[derive(Clone)]
pub(super) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<String>,
    options: ConnectOptions,
    request_timeout: Duration,
    current: Mutex<Current>,
}

/// Where we are. Each time a client is given up the generation grows, so that many calls that fail together give up
/// one client and not several.
#[derive(Default)]
struct Current {
    endpoint: usize,
    generation: u64,
    client: Option<Client>,
}

/// A client, and which one it is.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) client: Client,
    generation: u64,
}

impl Shared {
    /// Once more than there are endpoints: the first try may only tell that a connection has long been dead.
    fn tries(&self) -> u32 {
        u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// How long one try may take, so that a dead endpoint leaves time for the others.
    fn share(&self) -> Duration {
        self.request_timeout / self.tries()
    }
}

impl Connection {
    pub(super) fn new(options: &EtcdOptions) -> Self {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let endpoints: Vec<_> = options.endpoints.iter().map(|e| format!("{scheme}://{e}")).collect();
        let (interval, patience) = options.keep_alive;
        let mut connect = ConnectOptions::new()
            .with_require_leader(true)
            .with_connect_timeout(options.request_timeout)
            .with_keep_alive(interval, patience)
            // etcd hangs up on clients that ping while nothing is open.
            .with_keep_alive_while_idle(false);
        if let Some((name, password)) = &options.user {
            connect = connect.with_user(name.clone(), password.as_str());
        }
        if let Some(tls) = &options.tls {
            let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.authority));
            if let Some((certificate, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(certificate, &key[..]));
            }
            if let Some(name) = &tls.server_name {
                config = config.domain_name(name);
            }
            connect = connect.with_tls(config);
        }
        let request_timeout = options.request_timeout;
        let shared =
            Shared { endpoints, options: connect, request_timeout, current: Mutex::new(Current::default()) };
        Self { shared: Arc::new(shared) }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what may be done twice: over all endpoints, within the time for one request.
    pub(super) async fn repeatable<T, F>(&self, call: impl Fn(Session) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let share = self.shared.share();
        let mut outcome = Err(too_late(share));
        for _ in 0..self.shared.tries() {
            outcome = self.attempt(share, &call).await;
            if !matches!(&outcome, Err(e) if e.is_of_the_endpoint() || e.class == Class::Token) {
                break;
            }
        }
        outcome
    }

    /// Does what must not be done twice: tries again only if nothing was sent.
    pub(super) async fn once<T, F>(&self, call: impl Fn(Session) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut outcome = Err(too_late(self.shared.request_timeout));
        for _ in 0..self.shared.tries() {
            outcome = self.attempt(self.shared.request_timeout, &call).await;
            if !matches!(&outcome, Err(e) if matches!(e.class, Class::NotStarted | Class::Token)) {
                break;
            }
        }
        outcome
    }

    /// One try, at the current endpoint; gives it up if it fails.
    async fn attempt<T, F>(&self, limit: Duration, call: &impl Fn(Session) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let session = self.session(self.shared.share()).await?;
        let generation = session.generation;
        let outcome = timeout(limit, call(session)).await.unwrap_or_else(|_| Err(too_late(limit)));
        match &outcome {
            Err(e) if e.is_of_the_endpoint() => self.give_up(generation),
            Err(e) if e.class == Class::Token => self.forget(generation),
            _ => {}
        }
        outcome
    }

    /// The client in use, or a new one for the current endpoint.
    async fn session(&self, limit: Duration) -> Result<Session, Failure> {
        let (generation, endpoint) = {
            let current = self.lock();
            if let Some(client) = &current.client {
                return Ok(Session { client: client.clone(), generation: current.generation });
            }
            (current.generation, self.shared.endpoints.get(current.endpoint).cloned().unwrap_or_default())
        };
        // Connects lazily; but with a user, it authenticates now.
        let connecting = Client::connect([&endpoint], Some(self.shared.options.clone()));
        let connected = timeout(limit, connecting).await;
        let connected = connected.map_or_else(|_| Err(too_late(limit)), |client| Ok(client?));
        match connected {
            Ok(client) => {
                let mut current = self.lock();
                if current.generation == generation {
                    current.client = Some(client.clone());
                }
                Ok(Session { client, generation })
            }
            Err(failure) => {
                let failure = failure.before_sending();
                if failure.is_of_the_endpoint() {
                    self.give_up(generation);
                }
                Err(failure)
            }
        }
    }

    /// Goes to the next endpoint, unless somebody has gone already.
    fn give_up(&self, generation: u64) {
        let mut current = self.lock();
        if current.generation == generation {
            current.endpoint = (current.endpoint + 1) % self.shared.endpoints.len().max(1);
            current.generation += 1;
            current.client = None;
        }
    }

    /// Has the next call authenticate anew.
    fn forget(&self, generation: u64) {
        let mut current = self.lock();
        if current.generation == generation {
            current.generation += 1;
            current.client = None;
        }
    }

    /// A watch found that the endpoint of `session` is gone.
    pub(super) fn lost(&self, session: &Session) {
        self.give_up(session.generation);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoints", &self.shared.endpoints).finish_non_exhaustive()
    }
}

fn too_late(limit: Duration) -> Failure {
    Failure::new(Class::Lost, format!("etcd did not answer within {limit:?}"))
}
