//! What policies can tell of a workload, apart from its address. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use hivemind_core::labels::{LabelKey, LabelValue, Labels};
use hivemind_core::{Namespace, TenantRef};
use serde::{Deserialize, Serialize};

use super::super::digest::{Axis, Mark, label_marks, mark_of};
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Profile {
    tenant: TenantRef,
    tenant_labels: Labels,
    namespace: Namespace,
    namespace_labels: Labels,
    labels: Labels,
    ports: NamedPorts,
    marks: Marks,
}

/// What stands for it in tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Marks {
    /// Of the whole.
    id: Mark,
    namespace: Mark,
    /// First of its own labels, then of those around it.
    labels: Box<[Mark]>,
}

impl Hash for Profile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.marks.id.hash(state);
    }
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
        let (ports, marks) = (NamedPorts::NONE, Marks::default());
        Self { tenant, tenant_labels, namespace, namespace_labels, labels, ports, marks }.marked()
    }

    fn marked(mut self) -> Self {
        let own = label_marks(Axis::Workload, &self.labels);
        let around = label_marks(Axis::Namespace, &self.namespace_labels);
        let labels: Box<[Mark]> =
            own.chain(around).chain(label_marks(Axis::Tenant, &self.tenant_labels)).collect();
        let id = mark_of(&(&self.tenant, &self.namespace, &labels, &self.ports));
        self.marks = Marks { id, namespace: mark_of(&self.namespace), labels };
        self
    }

    /// With the labels of its tenant. [`TENANT_LABEL`] stays its name, so nobody passes for another.
    #[must_use]
    pub fn with_tenant_labels(mut self, labels: Labels) -> Self {
        self.tenant_labels = named(labels, TENANT_LABEL, self.tenant.id.as_str());
        self.marked()
    }

    /// With the labels of its namespace. [`NAMESPACE_LABEL`] stays its name.
    #[must_use]
    pub fn with_namespace_labels(mut self, labels: Labels) -> Self {
        self.namespace_labels = named(labels, NAMESPACE_LABEL, self.namespace.as_str());
        self.marked()
    }

    /// With named ports.
    #[must_use]
    pub fn with_ports(mut self, ports: NamedPorts) -> Self {
        self.ports = ports;
        self.marked()
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

    /// What stands for all that it is.
    pub(in crate::policy) fn id_mark(&self) -> Mark {
        self.marks.id
    }

    /// The marks of its own labels.
    pub(in crate::policy) fn own_marks(&self) -> &[Mark] {
        self.marks.labels.get(..self.labels.len()).unwrap_or_default()
    }

    /// The marks of every label of it and around it.
    pub(in crate::policy) fn marks(&self) -> &[Mark] {
        &self.marks.labels
    }

    /// The mark of its namespace.
    pub(in crate::policy) fn namespace_mark(&self) -> Mark {
        self.marks.namespace
    }

    /// Its named ports.
    pub fn ports(&self) -> &NamedPorts {
        &self.ports
    }
}
