//! What policies can tell of a workload, apart from its address. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::labels::{LabelKey, LabelValue, Labels};
use hivemind_core::{Namespace, TenantRef};
use serde::{Deserialize, Serialize};

use super::{PortName, Protocol};

/// The label every namespace has, with its name, as in Kubernetes.
pub const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
/// The label every tenant has, with its name.
pub const TENANT_LABEL: &str = "hivemind.dev/tenant";

/// The ports that a workload has names for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamedPorts(BTreeMap<PortName, (Protocol, u16)>);

impl NamedPorts {
    /// None.
    pub const NONE: Self = Self(BTreeMap::new());

    /// And `name`, in place of one of that name.
    #[must_use]
    pub fn with(mut self, name: PortName, protocol: Protocol, port: u16) -> Self {
        self.0.insert(name, (protocol, port));
        self
    }

    /// The number of the port `name` of `protocol`.
    pub fn number(&self, protocol: Protocol, name: &PortName) -> Option<u16> {
        self.0.get(name).filter(|(found, _)| *found == protocol).map(|(_, port)| *port)
    }

    /// Every name, with its protocol and number, in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&PortName, Protocol, u16)> {
        self.0.iter().map(|(name, (protocol, port))| (name, *protocol, *port))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// All that policies can tell of a workload, apart from its address: whose it is, its labels and those around it, and
/// its named ports. Workloads with equal profiles are treated alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    tenant: TenantRef,
    tenant_labels: Labels,
    namespace: Namespace,
    namespace_labels: Labels,
    labels: Labels,
    ports: NamedPorts,
}

/// `labels`, with the true name under `key` whatever they say.
fn named(mut labels: Labels, key: &str, name: &str) -> Labels {
    // A tenant's or namespace's id is always a label's value, so nothing is left out.
    if let (Ok(key), Ok(value)) = (key.parse::<LabelKey>(), name.parse::<LabelValue>()) {
        labels.insert(key, value);
    }
    labels
}

impl Profile {
    /// A workload of `namespace` of `tenant` with `labels`.
    pub fn new(tenant: TenantRef, namespace: Namespace, labels: Labels) -> Self {
        let tenant_labels = named(Labels::new(), TENANT_LABEL, tenant.id.as_str());
        let namespace_labels = named(Labels::new(), NAMESPACE_LABEL, namespace.as_str());
        Self { tenant, tenant_labels, namespace, namespace_labels, labels, ports: NamedPorts::default() }
    }

    /// With the labels of its tenant. [`TENANT_LABEL`] stays its name, so nobody passes for another.
    #[must_use]
    pub fn with_tenant_labels(mut self, labels: Labels) -> Self {
        self.tenant_labels = named(labels, TENANT_LABEL, self.tenant.id.as_str());
        self
    }

    /// With the labels of its namespace. [`NAMESPACE_LABEL`] stays its name.
    #[must_use]
    pub fn with_namespace_labels(mut self, labels: Labels) -> Self {
        self.namespace_labels = named(labels, NAMESPACE_LABEL, self.namespace.as_str());
        self
    }

    /// With named ports.
    #[must_use]
    pub fn with_ports(mut self, ports: NamedPorts) -> Self {
        self.ports = ports;
        self
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantRef {
        &self.tenant
    }

    /// The labels of its tenant.
    pub fn tenant_labels(&self) -> &Labels {
        &self.tenant_labels
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The labels of its namespace.
    pub fn namespace_labels(&self) -> &Labels {
        &self.namespace_labels
    }

    /// Its own labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its named ports.
    pub fn ports(&self) -> &NamedPorts {
        &self.ports
    }
}
