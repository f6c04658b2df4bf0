//! The same nodes and workloads for every contestant.

pub mod forge;
pub mod hivemind;

/// CPU of a node, in thousandths of a core. Large, so that no contestant meets a full cluster.
pub const NODE_CPU: u64 = 256_000_000;
/// Memory of a node, in MiB.
pub const NODE_MEMORY: u64 = 1 << 30;

/// What the workload at `at` asks for: thousandths of a core, and MiB.
pub fn asks(at: usize) -> (u64, u64) {
    (100 + (at as u64 % 10) * 100, 256 + (at as u64 % 8) * 256)
}
