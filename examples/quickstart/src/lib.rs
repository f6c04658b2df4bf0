//! The quickstart: deploys Compose files on a simulated cluster, through all six crates of Hivemind.
//!
//! [`cluster`] is what a host writes: it plugs the crates together and commits one transaction per request.
//! [`outside`] is what that stands on, in memory or durable. [`story`] is what the binary shows. The same story runs in
//! `tests/simulation.rs` under a thousand seeds of injected faults.
#![allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "not published: nobody outside this package builds on these types"
)]

pub mod cluster;
pub mod compose;
pub mod narrate;
pub mod outside;
pub mod story;

/// The README's example must compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;

/// So must those of the administrator's guide.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tenancy.md")]
pub struct TenancyGuide;

/// And those of the guide to networks.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/networking.md")]
pub struct NetworkingGuide;

/// And those of the guide to storage.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/storage.md")]
pub struct StorageGuide;

/// And those of the guide to metrics, alerts and traces.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/observability.md")]
pub struct ObservabilityGuide;
