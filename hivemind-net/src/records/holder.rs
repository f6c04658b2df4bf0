//! Who holds which addresses. No I/O, no clock, no async.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hivemind_core::{NodeId, PoolName, RequestId, Stored, Timestamp, WorkloadId};
use serde::{Deserialize, Serialize};

use super::json;
use crate::addr::IpFamily;
use crate::ipam::Pair;

/// The addresses of a workload: both families of its pool, together. The handle by which they are given back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lease {
    /// IPv4, if the pool has it.
    pub v4: Option<Ipv4Addr>,
    /// IPv6, if the pool has it.
    pub v6: Option<Ipv6Addr>,
    /// Which pool they are of.
    pub pool: PoolName,
    /// The request that got them. So the handle of an earlier life of the workload releases nothing of a later one.
    pub request: RequestId,
    /// Whether one is used before it had rested, as an emergency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
}

impl Lease {
    /// The addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }

    /// The address of one family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.pair().address(family)
    }

    fn write(&self, to: &mut Vec<u8>) {
        json::raw(to, r#"{"v4":"#);
        match self.v4 {
            Some(v4) => {
                to.push(b'"');
                json::v4(to, v4);
                to.push(b'"');
            }
            None => json::raw(to, "null"),
        }
        json::raw(to, r#","v6":"#);
        match self.v6 {
            Some(v6) => {
                to.push(b'"');
                json::v6(to, v6);
                to.push(b'"');
            }
            None => json::raw(to, "null"),
        }
        json::raw(to, r#","pool":"#);
        json::name(to, self.pool.as_str());
        json::raw(to, r#","request":"#);
        json::name(to, self.request.as_str());
        if self.early {
            json::raw(to, r#","early":true"#);
        }
        to.push(b'}');
    }

    pub(crate) fn pair(&self) -> Pair {
        Pair { v4: self.v4, v6: self.v6, early: self.early }
    }
}

/// The lease of a workload, and what is known about it. One record per workload, so that two requests that give the
/// same workload addresses cannot both succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) workload: WorkloadId,
    pub(crate) lease: Lease,
    /// Where the workload is.
    pub(crate) node: NodeId,
    /// Since when it has the lease on this node, or when it was last known there: only what was begun later can miss it.
    pub(crate) at: Timestamp,
    /// Where it is moving to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) moving: Option<NodeId>,
    /// Until when the addresses are kept for it though it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept_until: Option<Timestamp>,
    /// The first observation newer than the lease that did not show the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<Timestamp>,
}

impl Stored for Holder {
    const KIND: &'static str = "lease holder";

    /// By hand: each lease is written once at least, and formatters took longer than the decision.
    fn write(&self, to: &mut Vec<u8>) -> serde_json::Result<()> {
        json::raw(to, r#"{"workload":"#);
        json::name(to, self.workload.as_str());
        json::raw(to, r#","lease":"#);
        self.lease.write(to);
        json::raw(to, r#","node":"#);
        json::name(to, self.node.as_str());
        json::raw(to, r#","at":"#);
        json::timestamp(to, self.at);
        if let Some(moving) = &self.moving {
            json::raw(to, r#","moving":"#);
            json::name(to, moving.as_str());
        }
        for (field, at) in [(r#","kept_until":"#, self.kept_until), (r#","missed":"#, self.missed)] {
            if let Some(at) = at {
                json::raw(to, field);
                json::timestamp(to, at);
            }
        }
        to.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::encode;
    use proptest::prelude::*;

    use super::*;

    fn name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
        "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
    }

    fn lease() -> impl Strategy<Value = Lease> {
        let (v4, v6) = (any::<Option<u32>>(), any::<Option<u128>>());
        (v4, v6, name(), name(), any::<bool>()).prop_map(|(v4, v6, pool, request, early)| {
            let (v4, v6) = (v4.map(Ipv4Addr::from), v6.map(Ipv6Addr::from));
            Lease { v4, v6, pool, request, early }
        })
    }

    fn holder() -> impl Strategy<Value = Holder> {
        let at = || any::<Option<u64>>().prop_map(|at| at.map(Timestamp::from_nanos));
        let moving = prop::option::of(name());
        (name(), lease(), name(), any::<u64>(), moving, at(), at()).prop_map(
            |(workload, lease, node, at, moving, kept_until, missed)| {
                let at = Timestamp::from_nanos(at);
                Holder { workload, lease, node, at, moving, kept_until, missed }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_serde_writes(holder in holder()) {
            let body = serde_json::to_string(&holder).unwrap();
            let expected = format!(r#"{{"schema":1,"body":{body}}}"#);
            let written = encode(&holder).unwrap();
            prop_assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
        }
    }
}
