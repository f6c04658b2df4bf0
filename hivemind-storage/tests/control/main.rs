//! The control plane of storage, over the memory provider: what is decided becomes so, whatever fails on the way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod adoption;
mod answers;
mod audit;
mod binding;
mod costs;
mod crashes;
mod deadlines;
#[cfg(feature = "encryption")]
mod encryption;
mod fencing;
mod growth;
mod health;
mod holds;
mod late;
mod orphans;
mod owners;
mod places;
mod populators;
mod quotas;
mod reclaim;
mod refused;
mod snapshots;
#[cfg(feature = "encryption")]
mod tenants;
mod volumes;
mod world;
