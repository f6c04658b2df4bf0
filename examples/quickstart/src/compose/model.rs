//! What a Compose file says, as far as a deployment needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu};
use hivemind_core::{AppId, ClaimId, ServiceName};
use serde::Serialize;

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compose {
    /// Its name.
    pub name: AppId,
    /// Its services, by the names they have in the cluster.
    pub services: BTreeMap<ServiceName, Service>,
    /// Its named volumes, by the names they have in the cluster, with their size.
    pub volumes: BTreeMap<ClaimId, ByteSize>,
    /// What was not used, in the order of the file.
    #[serde(skip)]
    pub warnings: Vec<Warning>,
}

/// A service of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    /// What it runs, if the file says so.
    pub image: Option<String>,
    /// How many containers.
    pub replicas: u32,
    /// Processing power of each.
    pub cpu: MilliCpu,
    /// Memory of each.
    pub memory: ByteSize,
    /// Named volumes it mounts.
    pub mounts: Vec<Mount>,
    /// Ports it listens on.
    pub ports: BTreeSet<Ports>,
    /// Its labels, as far as they are labels here too.
    pub labels: Labels,
    /// Services that start before it.
    pub depends_on: BTreeSet<ServiceName>,
    /// Whether it has a health check.
    pub healthcheck: bool,
}

/// Ports of a container that follow each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// A named volume in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Which volume.
    pub volume: ClaimId,
    /// Whether it is only read.
    pub read_only: bool,
}

/// Something that was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Which file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What, and why not.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// A file that cannot be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeError {
    /// Which file.
    pub file: String,
    /// Line and column, from 1.
    pub at: Option<(u64, u64)>,
    /// What is wrong.
    pub reason: String,
    /// What was reported before.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.reason),
            None => write!(f, "{}: {}", self.file, self.reason),
        }
    }
}

impl std::error::Error for ComposeError {}
