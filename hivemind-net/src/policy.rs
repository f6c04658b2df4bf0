//! Who may talk with whom: the model, the evaluator that defines what it means, and the compiler that makes it fast.
//! No I/O, no clock, no async.
//!
//! A flow passes when the sender's egress and the receiver's ingress both let it. On each side the first of these
//! that says something decides:
//!
//! 1. A workload always reaches itself, and the host it runs on always reaches it (probes).
//! 2. Between two tenants nothing passes, unless a [`Grant`] of *both* covers the flow.
//! 3. A workload never speaks as a router: ICMPv6 router advertisements and redirects that it sends are dropped.
//! 4. What IP itself needs passes: neighbour discovery, router advertisements, path MTU discovery and other errors
//!    (RFC 4890, sections 4.3 and 4.4; [`Traffic::is_essential`]).
//! 5. [`ClusterPolicy`]s of tier Admin, by priority, until one allows or denies.
//! 6. [`NetworkPolicy`]s, if any selects the workload for this direction: what none of them allows is denied.
//! 7. [`ClusterPolicy`]s of tier Baseline, by priority.
//! 8. Otherwise it passes.
//!
//! The rules speak of the first packet of a connection. Replies pass with it, and so do the ICMP errors about it.

mod attach;
mod compile;
mod digest;
mod eval;
mod explain;
mod flow;
mod lint;
mod model;
mod names;
pub mod rules;
mod what_if;
mod world;

pub use attach::{Attachment, InForce, NotInForce, Prepared};
pub use compile::{Engine, PeerId, SubjectId};
pub use explain::{Explanation, SideExplanation};
pub use flow::{Asked, Because, Decision, Flow, InvalidFlow, Outcome, Party, Side, Verdict};
pub use lint::{Finding, Problem};
pub use model::*;
pub use names::{HeldAnswer, NameCache, NameLimits, NamesInForce};
pub use what_if::{Class, FlowChange, TrafficRange, WhatIf};
pub use world::{AnyPolicy, Change, Endpoint, EndpointKey, PolicyRef, World};
