//! Addresses, routes, neighbours and forwarding entries as netlink messages, and back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;

use super::fault::Fault;
use super::netlink::consts::*;
use super::netlink::{Attrs, Message, Parsed, Socket, bytes_at, parse, u8_of, u32_of};
use crate::dataplane::state::{
    Address, AddressKey, BridgeMac, LinkName, Mac, Neighbour, NeighbourKey, NetnsState, RemoteMac, Route,
    RouteKey, RouteTarget,
};

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes_at::<4>(bytes, 0).map(IpAddr::from),
        16 => bytes_at::<16>(bytes, 0).map(IpAddr::from),
        _ => None,
    }
}

fn mac_of(attrs: &Parsed<'_>, kind: u16) -> Option<Mac> {
    attrs.get(&kind).filter(|bytes| bytes.len() == 6).and_then(|bytes| bytes_at(bytes, 0)).map(Mac::new)
}

/// An address: `index` is its link's.
pub(super) fn address(add: bool, index: u32, key: &AddressKey, address: Address, protocol: u8) -> Message {
    let mut header = vec![family(key.address), key.prefix_len, 0, RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index.to_ne_bytes());
    let mut flags = if key.address.is_ipv6() { IFA_F_NODAD } else { 0 };
    if address.no_prefix_route {
        flags |= IFA_F_NOPREFIXROUTE;
    }
    let bytes = octets(key.address);
    let mut attrs = Attrs::new();
    attrs.put(IFA_LOCAL, &bytes).put(IFA_ADDRESS, &bytes);
    if add {
        attrs.u32(IFA_FLAGS, flags).u8(IFA_PROTO, protocol);
        Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &header, &attrs)
    } else {
        Message::new(RTM_DELADDR, 0, &header, &attrs)
    }
}

/// How a route is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Add,
    Replace,
    Delete,
}

/// A route: `index` is its link's.
pub(super) fn route(
    write: Write,
    index: Option<u32>,
    key: &RouteKey,
    route: Option<&Route>,
    protocol: u8,
) -> Message {
    let destination = key.destination;
    let own_family = family(destination.addr());
    let gateway = match route.map(|route| &route.target) {
        Some(RouteTarget::Link { gateway, .. }) => *gateway,
        _ => None,
    };
    let onlink = matches!(route.map(|r| &r.target), Some(RouteTarget::Link { onlink: true, .. }));
    let kind = match route.map(|route| &route.target) {
        // Deleting: whatever kind it is.
        None => 0,
        Some(RouteTarget::Link { .. }) => RTN_UNICAST,
        Some(RouteTarget::Blackhole) => RTN_BLACKHOLE,
        Some(RouteTarget::Unreachable) => RTN_UNREACHABLE,
    };
    let direct = kind == RTN_UNICAST && gateway.is_none() && own_family == AF_INET;
    let scope = match write {
        Write::Delete => 255,
        Write::Add | Write::Replace if direct => RT_SCOPE_LINK,
        Write::Add | Write::Replace => RT_SCOPE_UNIVERSE,
    };
    // The table's number is in an attribute.
    let mut header = vec![own_family, destination.prefix_len(), 0, 0, 0, protocol, scope, kind];
    let flags = if onlink { RTNH_F_ONLINK } else { 0 };
    header.extend_from_slice(&flags.to_ne_bytes());
    let mut attrs = Attrs::new();
    attrs.put(RTA_DST, &octets(destination.addr())).u32(RTA_TABLE, key.table);
    if let Some(index) = index {
        attrs.u32(RTA_OIF, index);
    }
    match gateway {
        Some(gateway) if family(gateway) == own_family => {
            attrs.put(RTA_GATEWAY, &octets(gateway));
        }
        Some(gateway) => {
            let mut via = u16::from(family(gateway)).to_ne_bytes().to_vec();
            via.extend_from_slice(&octets(gateway));
            attrs.put(RTA_VIA, &via);
        }
        None => {}
    }
    if let Some(source) = route.and_then(|route| route.source) {
        attrs.put(RTA_PREFSRC, &octets(source));
    }
    if let Some(mtu) = route.and_then(|route| route.mtu) {
        let mut metrics = Attrs::new();
        metrics.u32(RTAX_MTU, mtu);
        attrs.nest(RTA_METRICS, &metrics);
    }
    match write {
        Write::Add => Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, &attrs),
        Write::Replace => Message::new(RTM_NEWROUTE, NLM_F_REPLACE, &header, &attrs),
        Write::Delete => Message::new(RTM_DELROUTE, 0, &header, &attrs),
    }
}

fn neigh_header(family: u8, index: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut header = vec![family, 0, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&state.to_ne_bytes());
    header.extend_from_slice(&[flags, 0]);
    header
}

/// Writes a neighbour: `flags` say whether it must be new.
pub(super) fn neighbour(
    flags: u16,
    index: u32,
    key: &NeighbourKey,
    neighbour: Neighbour,
    protocol: u8,
) -> Message {
    let mut attrs = Attrs::new();
    attrs.put(NDA_DST, &octets(key.address)).u8(NDA_PROTOCOL, protocol);
    let header = match neighbour {
        Neighbour::Permanent(mac) => {
            attrs.put(NDA_LLADDR, &mac.octets());
            neigh_header(family(key.address), index, NUD_PERMANENT, 0)
        }
        Neighbour::Proxy => neigh_header(family(key.address), index, NUD_PERMANENT, NTF_PROXY),
    };
    Message::new(RTM_NEWNEIGH, NLM_F_CREATE | flags, &header, &attrs)
}

pub(super) fn delete_neighbour(index: u32, key: &NeighbourKey, neighbour: Neighbour) -> Message {
    let flags = if neighbour == Neighbour::Proxy { NTF_PROXY } else { 0 };
    let mut attrs = Attrs::new();
    attrs.put(NDA_DST, &octets(key.address));
    Message::new(RTM_DELNEIGH, 0, &neigh_header(family(key.address), index, 0, flags), &attrs)
}

/// Writes a forwarding entry of a VXLAN link: `flags` say whether it replaces or adds.
pub(super) fn remote(flags: u16, index: u32, mac: Mac, to: IpAddr) -> Message {
    let mut attrs = Attrs::new();
    attrs.put(NDA_LLADDR, &mac.octets()).put(NDA_DST, &octets(to));
    let header = neigh_header(AF_BRIDGE, index, NUD_PERMANENT | NUD_NOARP, NTF_SELF);
    Message::new(RTM_NEWNEIGH, NLM_F_CREATE | flags, &header, &attrs)
}

pub(super) fn delete_remote(index: u32, mac: Mac, to: IpAddr) -> Message {
    let mut attrs = Attrs::new();
    attrs.put(NDA_LLADDR, &mac.octets()).put(NDA_DST, &octets(to));
    Message::new(RTM_DELNEIGH, 0, &neigh_header(AF_BRIDGE, index, 0, NTF_SELF), &attrs)
}

/// Writes a static entry of the bridge that the link `index` is a port of.
pub(super) fn bridge_mac(index: u32, mac: Mac) -> Message {
    let mut attrs = Attrs::new();
    attrs.put(NDA_LLADDR, &mac.octets());
    let header = neigh_header(AF_BRIDGE, index, NUD_REACHABLE | NUD_NOARP, NTF_MASTER);
    Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header, &attrs)
}

pub(super) fn delete_bridge_mac(index: u32, mac: Mac) -> Message {
    let mut attrs = Attrs::new();
    attrs.put(NDA_LLADDR, &mac.octets());
    Message::new(RTM_DELNEIGH, 0, &neigh_header(AF_BRIDGE, index, 0, NTF_MASTER), &attrs)
}

/// What is read of entries: names of links by index, which of them are ours, and the number that marks ours.
pub(super) struct Reader<'a> {
    pub(super) names: &'a BTreeMap<u32, LinkName>,
    pub(super) protocol: u8,
}

impl Reader<'_> {
    /// Puts all entries of ours into `netns`, whose links are there already.
    pub(super) fn read(&self, socket: &mut Socket, netns: &mut NetnsState) -> Result<(), Fault> {
        self.dump(socket, RTM_GETADDR, &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0], |body| {
            if let Some((key, address)) = self.address(body) {
                netns.addresses.insert(key, address);
            }
        })?;
        let mut header = vec![AF_UNSPEC; 12];
        self.dump(socket, RTM_GETROUTE, &header, |body| {
            if let Some((key, route)) = self.route(body) {
                netns.routes.insert(key, route);
            }
        })?;
        for flags in [0, NTF_PROXY] {
            header = neigh_header(AF_UNSPEC, 0, 0, flags);
            self.dump(socket, RTM_GETNEIGH, &header, |body| {
                if let Some((key, neighbour)) = self.neighbour(body) {
                    netns.neighbours.insert(key, neighbour);
                }
            })?;
        }
        if !netns.links.is_empty() {
            header = neigh_header(AF_BRIDGE, 0, 0, 0);
            self.dump(socket, RTM_GETNEIGH, &header, |body| {
                self.forwarding(body, netns);
            })?;
        }
        Ok(())
    }

    fn dump(
        &self,
        socket: &mut Socket,
        kind: u16,
        header: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Fault> {
        let message = Message::new(kind, 0, header, &Attrs::new());
        let replies = socket.dump(&message).map_err(|e| Fault::system("list entries", e))?;
        for (_, body) in &replies {
            take(body);
        }
        Ok(())
    }

    fn address(&self, body: &[u8]) -> Option<(AddressKey, Address)> {
        let attrs = parse(body.get(8..)?);
        if u8_of(&attrs, IFA_PROTO) != Some(self.protocol) {
            return None;
        }
        let prefix_len = *body.get(1)?;
        let dev = self.names.get(&u32::from_ne_bytes(bytes_at(body, 4)?))?;
        let address = address_of(attrs.get(&IFA_LOCAL).or_else(|| attrs.get(&IFA_ADDRESS))?)?;
        let flags = u32_of(&attrs, IFA_FLAGS).unwrap_or_default();
        let is = Address { no_prefix_route: flags & IFA_F_NOPREFIXROUTE != 0 };
        Some((AddressKey::new(dev.clone(), address, prefix_len), is))
    }

    fn route(&self, body: &[u8]) -> Option<(RouteKey, Route)> {
        let [family, prefix_len, _, _, table, protocol, _, kind, ..] = *body else { return None };
        if protocol != self.protocol {
            return None;
        }
        let flags = u32::from_ne_bytes(bytes_at(body, 8)?);
        let attrs = parse(body.get(12..)?);
        let unspecified = if family == AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let address = attrs.get(&RTA_DST).map_or(Some(unspecified), |bytes| address_of(bytes))?;
        let destination = IpNet::new(address, prefix_len).ok()?;
        let key =
            RouteKey::new(destination).with_table(u32_of(&attrs, RTA_TABLE).unwrap_or(u32::from(table)));
        let gateway = match (attrs.get(&RTA_GATEWAY), attrs.get(&RTA_VIA)) {
            (Some(bytes), _) => Some(address_of(bytes)?),
            (None, Some(via)) => Some(address_of(via.get(2..)?)?),
            (None, None) => None,
        };
        let target = match kind {
            RTN_UNICAST => RouteTarget::Link {
                dev: self.names.get(&u32_of(&attrs, RTA_OIF)?)?.clone(),
                gateway,
                onlink: flags & RTNH_F_ONLINK != 0,
            },
            RTN_BLACKHOLE => RouteTarget::Blackhole,
            RTN_UNREACHABLE => RouteTarget::Unreachable,
            _ => return None,
        };
        let mtu = attrs.get(&RTA_METRICS).and_then(|metrics| u32_of(&parse(metrics), RTAX_MTU));
        let source = attrs.get(&RTA_PREFSRC).and_then(|bytes| address_of(bytes));
        Some((key, Route { target, source, mtu }))
    }

    fn neighbour(&self, body: &[u8]) -> Option<(NeighbourKey, Neighbour)> {
        let attrs = parse(body.get(12..)?);
        if u8_of(&attrs, NDA_PROTOCOL) != Some(self.protocol) {
            return None;
        }
        let dev = self.names.get(&u32::from_ne_bytes(bytes_at(body, 4)?))?;
        let flags = *body.get(10)?;
        let key = NeighbourKey::new(dev.clone(), address_of(attrs.get(&NDA_DST)?)?);
        let is = if flags & NTF_PROXY == 0 {
            Neighbour::Permanent(mac_of(&attrs, NDA_LLADDR)?)
        } else {
            Neighbour::Proxy
        };
        Some((key, is))
    }

    /// A forwarding entry: of a VXLAN link of ours, or of a bridge of ours.
    fn forwarding(&self, body: &[u8], netns: &mut NetnsState) -> Option<()> {
        let attrs = parse(body.get(12..)?);
        let dev = self.names.get(&u32::from_ne_bytes(bytes_at(body, 4)?))?;
        let state = u16::from_ne_bytes(bytes_at(body, 8)?);
        let flags = *body.get(10)?;
        let mac = mac_of(&attrs, NDA_LLADDR)?;
        if flags & NTF_SELF != 0 {
            let to = address_of(attrs.get(&NDA_DST)?)?;
            if state & NUD_PERMANENT != 0 && netns.links.contains_key(dev) {
                netns.remotes.entry(RemoteMac::new(dev.clone(), mac)).or_default().insert(to);
            }
            return Some(());
        }
        let bridge = self.names.get(&u32_of(&attrs, NDA_MASTER)?)?;
        // Static, but not the port's own.
        if state & NUD_NOARP != 0 && state & NUD_PERMANENT == 0 && netns.links.contains_key(bridge) {
            netns.bridge_macs.insert(BridgeMac::new(bridge.clone(), mac), dev.clone());
        }
        Some(())
    }
}

/// Whether a neighbour on a link is somebody else's permanent one, or an address that somebody else answers for.
pub(super) fn is_foreign_neighbour(
    socket: &mut Socket,
    index: u32,
    key: &NeighbourKey,
    neighbour: Neighbour,
    protocol: u8,
) -> Result<bool, Fault> {
    let flags = if neighbour == Neighbour::Proxy { NTF_PROXY } else { 0 };
    let mut attrs = Attrs::new();
    attrs.put(NDA_DST, &octets(key.address));
    let message = Message::new(RTM_GETNEIGH, 0, &neigh_header(family(key.address), index, 0, flags), &attrs);
    let body = match socket.get(&message) {
        Ok((_, body)) => body,
        Err(Errno::ENOENT) => return Ok(false),
        Err(errno) => return Err(Fault::system(format!("look for neighbour {}", key.address), errno)),
    };
    let state = bytes_at(&body, 8).map(u16::from_ne_bytes).unwrap_or_default();
    let theirs = u8_of(&parse(body.get(12..).unwrap_or_default()), NDA_PROTOCOL) != Some(protocol);
    Ok(theirs && (flags == NTF_PROXY || state & NUD_PERMANENT != 0))
}

pub(super) const NEW: u16 = NLM_F_EXCL;
pub(super) const OVER: u16 = NLM_F_REPLACE;
pub(super) const BESIDE: u16 = NLM_F_APPEND;

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
