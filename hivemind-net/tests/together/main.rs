//! Addresses, overlays and the data plane in memory, behaviour by behaviour.
//!
//! One program for many files: each program costs a link, and several of them cost minutes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

#[path = "../overlay_world/mod.rs"]
mod overlay_world;

#[path = "../addr.rs"]
mod addr;
#[path = "../allocator_order.rs"]
mod allocator_order;
#[path = "../dataplane_diff.rs"]
mod dataplane_diff;
#[cfg(feature = "testkit")]
#[path = "../dataplane_port.rs"]
mod dataplane_port;
#[path = "../dataplane_services.rs"]
mod dataplane_services;
#[path = "../dataplane_walk.rs"]
mod dataplane_walk;
#[path = "../faults.rs"]
mod faults;
#[path = "../free.rs"]
mod free;
#[path = "../ipam.rs"]
mod ipam;
#[path = "../ipam_concurrent.rs"]
mod ipam_concurrent;
#[path = "../names.rs"]
mod names;
#[path = "../overlay.rs"]
mod overlay;
#[path = "../overlay_changes.rs"]
mod overlay_changes;
#[path = "../overlay_egress.rs"]
mod overlay_egress;
#[path = "../overlay_grants.rs"]
mod overlay_grants;
#[path = "../overlay_peering.rs"]
mod overlay_peering;
#[path = "../overlay_plan.rs"]
mod overlay_plan;
#[path = "../overlay_vni.rs"]
mod overlay_vni;
#[path = "../parsers.rs"]
mod parsers;
#[path = "../underlay_encryption.rs"]
mod underlay_encryption;
