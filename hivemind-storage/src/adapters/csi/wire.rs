//! What goes over the wire: the messages of CSI 1.13 (package `csi.v1`), written by hand, so that no build needs `protoc`.
//!
//! A `oneof` is written as one optional field for each of its alternatives: the bytes are the same. Enumerations are
//! numbers, from [`numbers`], so that a value of a later version is kept and refused where it is used. Messages of
//! equal shape are one. Secrets are maps there, and lists of [`SecretEntry`] here, which are the same bytes.

mod common;
mod controller;
mod group;
mod identity;
mod node;
pub(crate) mod numbers;
mod secret;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use self::common::*;
pub(crate) use self::controller::*;
pub(crate) use self::group::*;
pub(crate) use self::identity::*;
pub(crate) use self::node::*;
pub(crate) use self::secret::*;
pub(crate) use self::snapshot::*;

/// A message without fields.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}
