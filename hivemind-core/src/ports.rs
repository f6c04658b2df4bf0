//! The ports shared by several crates: what a host, an adapter or a sister crate plugs in.

mod audit_sink;
mod authorizer;
mod clock;
mod id_source;
mod key_provider;
mod quota_gate;
mod recorder;
mod runtime;
mod state_source;
mod state_store;

pub use audit_sink::{AuditEvent, AuditOutcome, AuditSink};
pub use authorizer::{AccessDecision, AccessRequest, Authorizer, Denied, ResourceKind, Verb};
pub use clock::Clock;
pub use id_source::{IdSource, IdSourceExt};
pub use key_provider::{DataKey, KeyProvider, SecretBytes};
pub use quota_gate::QuotaGate;
pub use recorder::{Counter, CounterCell, Gauge, GaugeCell, Histogram, HistogramCell, Metric, Recorder};
pub use runtime::{BoxFuture, Runtime};
pub use state_source::StateSource;
pub use state_store::{StateStore, StateStoreExt, WatchStream};

#[cfg(feature = "mock")]
pub(crate) mod mock {
    pub use super::audit_sink::MockAuditSink;
    pub use super::authorizer::MockAuthorizer;
    pub use super::clock::MockClock;
    pub use super::id_source::MockIdSource;
    pub use super::key_provider::MockKeyProvider;
    pub use super::quota_gate::MockQuotaGate;
    pub use super::recorder::{MockCounterCell, MockGaugeCell, MockHistogramCell, MockRecorder};
    pub use super::runtime::MockRuntime;
    pub use super::state_source::MockStateSource;
    pub use super::state_store::MockStateStore;
}
