//! The control plane of storage, over the memory provider: what is decided becomes so, whatever fails on the way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod adoption;
mod answers;
mod binding;
mod crashes;
#[cfg(feature = "encryption")]
mod encryption;
mod fencing;
mod growth;
mod holds;
mod late;
mod orphans;
mod owners;
mod populators;
mod quotas;
mod reclaim;
mod snapshots;
mod volumes;
mod world;
