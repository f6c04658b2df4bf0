//! MAC addresses and kernel names that derive from ids. No I/O, no clock, no async.
//!
//! A device that is made anew has the MAC and the name that it had before, so nothing that others remember of it goes
//! stale. Equal inputs give equal names on every node and in every version; two ids may, very rarely, give the same
//! name, so whoever uses them in one place checks that.

use std::net::Ipv6Addr;

use hivemind_core::{NodeId, TenantRef, WorkloadId};

use super::hash::stable;
use super::vni::Vni;
use crate::dataplane::state::{InvalidKernelName, LinkName, Mac, Netns};

/// Digits of base 32 (RFC 4648 in lower case): names of links are case-sensitive, people are not.
const DIGITS: [char; 32] = [
    'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u',
    'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
];

/// What the names of links between tenants' routers begin with.
const PEER: &str = "pr";

/// A unicast, locally administered MAC (IEEE 802, bit 0 of the first byte clear, bit 1 set) of 46 bits of `hash`.
fn local_mac(hash: u64) -> Mac {
    let [_, _, first, rest @ ..] = hash.to_be_bytes();
    let [b, c, d, e, f] = rest;
    Mac::new([first & 0xfc | 0x02, b, c, d, e, f])
}

/// The MAC of the tunnel end of `node` in `vni`, while `tenant` has it.
///
/// The tenant and its generation are part of it: a node that was away, and still sends into a VNI as the tenant before
/// did, sends to MACs that nobody has now. Frames to another's MAC go no further than the tunnel end.
pub fn vtep_mac(node: &NodeId, tenant: &TenantRef, vni: Vni) -> Mac {
    local_mac(of_tenant("vtep", node, tenant, vni))
}

/// The MAC of the gateway as the workloads of `vni` see it: the same on every node, so a workload that moves finds it.
pub fn gateway_mac(vni: Vni) -> Mac {
    local_mac(stable([b"gateway".as_slice(), &vni.as_u32().to_be_bytes()]))
}

/// The MAC of a workload that was given none.
pub fn workload_mac(tenant: &TenantRef, workload: &WorkloadId) -> Mac {
    local_mac(of_workload("workload-mac", tenant, workload))
}

/// The link-local address of a link with `mac` (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 0x02, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

fn of_workload(purpose: &str, tenant: &TenantRef, workload: &WorkloadId) -> u64 {
    let generation = tenant.generation.as_u64().to_be_bytes();
    stable([
        purpose.as_bytes(),
        tenant.id.as_str().as_bytes(),
        generation.as_slice(),
        workload.as_str().as_bytes(),
    ])
}

fn of_tenant(purpose: &str, node: &NodeId, tenant: &TenantRef, vni: Vni) -> u64 {
    let (generation, vni) = (tenant.generation.as_u64().to_be_bytes(), vni.as_u32().to_be_bytes());
    let (node, tenant) = (node.as_str().as_bytes(), tenant.id.as_str().as_bytes());
    stable([purpose.as_bytes(), node, tenant, generation.as_slice(), vni.as_slice()])
}

/// `hash` in 13 digits of base 32: all of it.
fn base32(mut hash: u64) -> String {
    let mut text = String::with_capacity(13);
    for _ in 0..13 {
        text.extend(usize::try_from(hash & 31).ok().and_then(|digit| DIGITS.get(digit)));
        hash >>= 5;
    }
    text
}

/// The name of the host's end of a workload's link, 14 bytes: the kernel allows 15.
pub(crate) fn workload_link(
    tenant: &TenantRef,
    workload: &WorkloadId,
) -> Result<LinkName, InvalidKernelName> {
    format!("w{}", base32(of_workload("workload-link", tenant, workload))).parse()
}

/// The name of the tunnel end of `vni`, at most 10 bytes.
pub(crate) fn tunnel_link(vni: Vni) -> Result<LinkName, InvalidKernelName> {
    format!("vx{vni}").parse()
}

/// The name of the machine's end of the way out of `vni`, at most 10 bytes.
pub(crate) fn egress_link(vni: Vni) -> Result<LinkName, InvalidKernelName> {
    format!("hm{vni}").parse()
}

/// The name of the link of a router that leads to the one of `vni` on the same node, at most 10 bytes.
pub(crate) fn peer_link(vni: Vni) -> Result<LinkName, InvalidKernelName> {
    format!("{PEER}{vni}").parse()
}

/// Whether `link` may be one that leads to another tenant's router: by its name, so also for tenants that come later.
pub(crate) fn is_peer_link(link: &LinkName) -> bool {
    let number = link.as_str().strip_prefix(PEER);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The MAC of the end, in the router of `vni` on `node`, of the link to the router of `far`.
pub(crate) fn peer_mac(node: &NodeId, vni: Vni, far: Vni) -> Mac {
    let (vni, far) = (vni.as_u32().to_be_bytes(), far.as_u32().to_be_bytes());
    local_mac(stable([b"peer", node.as_str().as_bytes(), &vni, &far]))
}

/// The MACs of both ends of the way out of `vni` on `node`: the router's, and the machine's.
pub(crate) fn uplink_macs(node: &NodeId, vni: Vni) -> (Mac, Mac) {
    let of = |end: &str| {
        local_mac(stable([end.as_bytes(), node.as_str().as_bytes(), &vni.as_u32().to_be_bytes()]))
    };
    (of("uplink-router"), of("uplink-machine"))
}

/// The name of the namespace that routes for `tenant`, who has `vni`, on `node`.
///
/// The node is part of it, so that several nodes can be played on one machine. The tenant is part of it, so that what the
/// one before left in a namespace is never in that of the next one.
pub(crate) fn router_netns(node: &NodeId, tenant: &TenantRef, vni: Vni) -> Result<Netns, InvalidKernelName> {
    format!("{}{}", routers_of(node, vni), base32(of_tenant("router", node, tenant, vni))).parse()
}

/// What the names of routers of any tenant begin with.
fn routers_of(node: &NodeId, vni: Vni) -> String {
    format!("hm-r{vni}-{}-", base32(stable([b"router", node.as_str().as_bytes()])))
}

/// Whether `netns` is one that routes for a tenant on `node`: by its name, so also for tenants that come later.
pub(crate) fn is_router(node: &NodeId, netns: &Netns) -> bool {
    let text = netns.to_string();
    let name = text.rsplit('/').next().unwrap_or_default();
    let number = name.strip_prefix("hm-r").and_then(|rest| rest.split_once('-')?.0.parse().ok());
    let vni = number.and_then(|number| Vni::new(number).ok());
    vni.is_some_and(|vni| name.starts_with(&routers_of(node, vni)))
}

/// The name of the namespace of a workload that was given none.
pub(crate) fn workload_netns(
    node: &NodeId,
    tenant: &TenantRef,
    workload: &WorkloadId,
) -> Result<Netns, InvalidKernelName> {
    let of_workload = of_workload("workload-netns", tenant, workload);
    format!("hm-w{}", base32(stable([node.as_str().as_bytes(), &of_workload.to_be_bytes()]))).parse()
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
