//! Links as netlink messages, and back.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use super::fault::Fault;
use super::netlink::consts::*;
use super::netlink::{Attrs, Message, Parsed, Socket, bytes_at, parse, text_of, u8_of, u16be_of, u32_of};
use crate::dataplane::state::{Link, LinkKind, LinkName, Mac, Netns, PortSettings, Vxlan};

/// A link as the kernel tells of it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) up: bool,
    mac: Option<Mac>,
    mtu: u32,
    pub(super) master: Option<u32>,
    kind: String,
    data: Vec<u8>,
    port: Option<Vec<u8>>,
    /// Index of the link below or at the other end, and the number of its namespace if it is in another.
    below: Option<u32>,
    below_netns: Option<u32>,
    link_local: bool,
}

fn header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![AF_UNSPEC, 0, 0, 0];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&change.to_ne_bytes());
    bytes
}

/// All links of the socket's namespace.
pub(super) fn all(socket: &mut Socket) -> Result<Vec<Seen>, Fault> {
    let mut attrs = Attrs::new();
    attrs.u32(IFLA_EXT_MASK, SKIP_STATS);
    let replies = socket
        .dump(&Message::new(RTM_GETLINK, 0, &header(0, 0, 0), &attrs))
        .map_err(|e| Fault::system("list links", e))?;
    Ok(replies.iter().filter_map(|(_, body)| seen(body)).collect())
}

/// Whether the socket's namespace is ours, as far as one can tell.
pub(super) fn is_marked(socket: &mut Socket, owner: &str) -> bool {
    one(socket, "lo").ok().flatten().is_some_and(|lo| lo.alias == owner)
}

/// One link by name; `None` if it is not there.
pub(super) fn one(socket: &mut Socket, name: &str) -> Result<Option<Seen>, Fault> {
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, SKIP_STATS);
    match socket.get(&Message::new(RTM_GETLINK, 0, &header(0, 0, 0), &attrs)) {
        Ok((_, body)) => Ok(seen(&body)),
        Err(Errno::ENODEV) => Ok(None),
        Err(errno) => Err(Fault::system(format!("look for link {name}"), errno)),
    }
}

fn seen(body: &[u8]) -> Option<Seen> {
    let index = u32::from_ne_bytes(bytes_at(body, 4)?);
    let flags = u32::from_ne_bytes(bytes_at(body, 8)?);
    let attrs = parse(body.get(16..)?);
    let info = attrs.get(&IFLA_LINKINFO).map(|info| parse(info)).unwrap_or_default();
    let inet6 = attrs.get(&IFLA_AF_SPEC).map(|spec| parse(spec)).unwrap_or_default();
    let inet6 = inet6.get(&u16::from(AF_INET6)).map(|spec| parse(spec)).unwrap_or_default();
    let in_bridge = text_of(&info, IFLA_INFO_SLAVE_KIND) == Some("bridge");
    Some(Seen {
        index,
        name: text_of(&attrs, IFLA_IFNAME)?.to_owned(),
        alias: text_of(&attrs, IFLA_IFALIAS).unwrap_or_default().to_owned(),
        up: flags & IFF_UP != 0,
        mac: attrs.get(&IFLA_ADDRESS).and_then(|bytes| bytes_at(bytes, 0)).map(Mac::new),
        mtu: u32_of(&attrs, IFLA_MTU).unwrap_or_default(),
        master: u32_of(&attrs, IFLA_MASTER).filter(|index| *index != 0),
        kind: text_of(&info, IFLA_INFO_KIND).unwrap_or_default().to_owned(),
        data: info.get(&IFLA_INFO_DATA).map(|data| data.to_vec()).unwrap_or_default(),
        port: info.get(&IFLA_INFO_SLAVE_DATA).filter(|_| in_bridge).map(|data| data.to_vec()),
        below: u32_of(&attrs, IFLA_LINK),
        below_netns: u32_of(&attrs, IFLA_LINK_NETNSID),
        link_local: u8_of(&inet6, IFLA_INET6_ADDR_GEN_MODE).is_some_and(|mode| mode != 1),
    })
}

/// What is needed to tell where the other end of a veth pair is.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// The namespaces by the number that the one being read has for them.
    pub(super) by_number: BTreeMap<u32, Netns>,
    /// Names of links by namespace and index.
    pub(super) names: BTreeMap<(Netns, u32), String>,
}

impl Seen {
    /// The number of the namespace that its other end is in, if that is another one.
    pub(super) fn leads_to(&self) -> Option<u32> {
        self.below_netns
    }

    /// Its own index and that of its other end.
    pub(super) fn ends(&self) -> Option<(u32, u32)> {
        Some((self.index, self.below?))
    }

    /// As a link of ours in `at`; of an [unknown](LinkKind::Unknown) kind if we do not make such.
    pub(super) fn link(&self, at: &Netns, peers: &Peers) -> Link {
        let name_of = |index| peers.names.get(&(at.clone(), index))?.parse::<LinkName>().ok();
        let kind = self.kind(at, peers).unwrap_or_else(|| {
            let known = self.below_netns.is_none_or(|number| peers.by_number.contains_key(&number));
            let what =
                if known { "of which we make none" } else { "whose other end is in an unknown namespace" };
            LinkKind::Unknown(format!("a link of kind {:?} {what}", self.kind))
        });
        let mac = self.mac.unwrap_or(Mac::ZERO);
        let mut link = Link::new(kind, mac, self.mtu).with_link_local(self.link_local);
        link.up = self.up;
        if let (Some(master), Some(port)) = (self.master, &self.port) {
            link.master = name_of(master);
            link.port = port_settings(&parse(port));
        }
        link
    }

    fn kind(&self, at: &Netns, peers: &Peers) -> Option<LinkKind> {
        let name_of = |at: &Netns, index| peers.names.get(&(at.clone(), index))?.parse::<LinkName>().ok();
        Some(match self.kind.as_str() {
            "bridge" => LinkKind::Bridge,
            "dummy" => LinkKind::Dummy,
            "veth" => {
                let peer_netns = match self.below_netns {
                    None => at.clone(),
                    Some(number) => peers.by_number.get(&number)?.clone(),
                };
                let peer = name_of(&peer_netns, self.below?)?;
                LinkKind::Veth { peer_netns, peer }
            }
            "vxlan" => {
                let underlay = match self.below_netns {
                    None => None,
                    Some(number) => Some(peers.by_number.get(&number)?.clone()),
                };
                let below = underlay.as_ref().unwrap_or(at);
                let found = vxlan(&parse(&self.data), |index| name_of(below, index))?;
                LinkKind::Vxlan(Vxlan { underlay, ..found })
            }
            _ => return None,
        })
    }
}

fn vxlan(data: &Parsed<'_>, name_of: impl Fn(u32) -> Option<LinkName>) -> Option<Vxlan> {
    let local4 = data.get(&IFLA_VXLAN_LOCAL).and_then(|bytes| bytes_at::<4>(bytes, 0)).map(IpAddr::from);
    let local6 = data.get(&IFLA_VXLAN_LOCAL6).and_then(|bytes| bytes_at::<16>(bytes, 0)).map(IpAddr::from);
    let on = |kind| u8_of(data, kind).is_some_and(|value| value != 0);
    let mut vxlan = Vxlan::new(u32_of(data, IFLA_VXLAN_ID)?, local6.or(local4)?);
    if let Some(dev) = u32_of(data, IFLA_VXLAN_LINK).filter(|index| *index != 0) {
        vxlan.dev = Some(name_of(dev)?);
    }
    vxlan.port = u16be_of(data, IFLA_VXLAN_PORT)?;
    vxlan.ttl = u8_of(data, IFLA_VXLAN_TTL).unwrap_or_default();
    vxlan.learning = on(IFLA_VXLAN_LEARNING);
    vxlan.proxy = on(IFLA_VXLAN_PROXY);
    vxlan.zero_checksum6 = on(IFLA_VXLAN_UDP_ZERO_CSUM6_TX) && on(IFLA_VXLAN_UDP_ZERO_CSUM6_RX);
    Some(vxlan)
}

fn port_settings(data: &Parsed<'_>) -> PortSettings {
    let on = |kind| u8_of(data, kind).is_some_and(|value| value != 0);
    PortSettings {
        learning: on(IFLA_BRPORT_LEARNING),
        flood: on(IFLA_BRPORT_UNICAST_FLOOD),
        neigh_suppress: on(IFLA_BRPORT_NEIGH_SUPPRESS),
        isolated: on(IFLA_BRPORT_ISOLATED),
        hairpin: on(IFLA_BRPORT_HAIRPIN),
    }
}

/// The message that makes a link, down; [`mark`] is to go out together with it, so that nothing is made and not known.
///
/// # Errors
/// A VXLAN link over `dev`, which is not there.
pub(super) fn create(
    socket: &mut Socket,
    name: &LinkName,
    link: &Link,
    peer: Option<(&Link, &File)>,
) -> Result<Message, Fault> {
    let below = match &link.kind {
        LinkKind::Vxlan(Vxlan { dev: Some(dev), .. }) => {
            let below = one(socket, dev.as_str())?.ok_or_else(|| {
                let message = format!("link {name} is to run over {dev}, which is not there");
                Fault::new(hivemind_core::ErrorKind::NotFound, message)
            })?;
            Some(below.index)
        }
        _ => None,
    };
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, name.as_str()).put(IFLA_ADDRESS, &link.mac.octets()).u32(IFLA_MTU, link.mtu);
    attrs.nest(IFLA_LINKINFO, &info(name, link, peer, below)?);
    Ok(Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header(0, 0, 0), &attrs))
}

/// The kind of a link, and what is special to it.
fn info(
    name: &LinkName,
    link: &Link,
    peer: Option<(&Link, &File)>,
    below: Option<u32>,
) -> Result<Attrs, Fault> {
    let mut info = Attrs::new();
    match &link.kind {
        LinkKind::Bridge => {
            let mut data = Attrs::new();
            data.u32(IFLA_BR_FORWARD_DELAY, 0).u32(IFLA_BR_STP_STATE, 0).u8(IFLA_BR_MCAST_SNOOPING, 0);
            info.text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, &data);
        }
        LinkKind::Unknown(what) => {
            let message = format!("nobody knows how to make link {name}: {what}");
            return Err(Fault::new(hivemind_core::ErrorKind::Invalid, message));
        }
        LinkKind::Dummy => {
            info.text(IFLA_INFO_KIND, "dummy");
        }
        LinkKind::Veth { peer: peer_name, .. } => {
            let Some((peer, netns)) = peer else {
                let message = format!("link {name} is one end of a pair, and the other is not given");
                return Err(Fault::new(hivemind_core::ErrorKind::Invalid, message));
            };
            let mut data = Attrs::new();
            data.put(VETH_INFO_PEER | 0x8000, &veth_peer(peer_name, peer, netns.as_raw_fd()));
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, &data);
        }
        LinkKind::Vxlan(vxlan) => {
            info.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, &vxlan_data(vxlan, below));
        }
    }
    Ok(info)
}

/// Moves a link to another namespace: a tunnel whose packets are one namespace's, and which belongs into another.
pub(super) fn hand_over(name: &LinkName, netns: &File) -> Message {
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, name.as_str()).put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    Message::new(RTM_NEWLINK, 0, &header(0, 0, 0), &attrs)
}

/// The message that marks a link as ours.
pub(super) fn mark(name: &LinkName, link_local: bool, mtu: u32, alias: &str) -> Message {
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, name.as_str()).put(IFLA_IFALIAS, alias.as_bytes());
    // Below this MTU the kernel has no IPv6 on the link.
    if mtu >= 1280 {
        attrs.nest(IFLA_AF_SPEC, &address_mode(link_local));
    }
    Message::new(RTM_NEWLINK, 0, &header(0, 0, 0), &attrs)
}

/// Marks `lo` of a namespace that is ours, and brings it up.
pub(super) fn mark_loopback(alias: &str) -> Message {
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, "lo").put(IFLA_IFALIAS, alias.as_bytes());
    Message::new(RTM_NEWLINK, 0, &header(0, IFF_UP, IFF_UP), &attrs)
}

/// Takes the mark of `lo` away.
pub(super) fn unmark_loopback() -> Message {
    let mut attrs = Attrs::new();
    // An alias of one zero byte is none.
    attrs.text(IFLA_IFNAME, "lo").put(IFLA_IFALIAS, &[0]);
    Message::new(RTM_NEWLINK, 0, &header(0, 0, 0), &attrs)
}

fn address_mode(link_local: bool) -> Attrs {
    let mut inet6 = Attrs::new();
    inet6.u8(IFLA_INET6_ADDR_GEN_MODE, u8::from(!link_local));
    let mut spec = Attrs::new();
    spec.nest(u16::from(AF_INET6), &inet6);
    spec
}

fn veth_peer(name: &LinkName, peer: &Link, netns: RawFd) -> Vec<u8> {
    let mut attrs = Attrs::new();
    attrs.text(IFLA_IFNAME, name.as_str()).put(IFLA_ADDRESS, &peer.mac.octets()).u32(IFLA_MTU, peer.mtu);
    attrs.put(IFLA_NET_NS_FD, &netns.to_ne_bytes());
    let mut bytes = header(0, 0, 0);
    bytes.extend_from_slice(&attrs.0);
    bytes
}

fn vxlan_data(vxlan: &Vxlan, below: Option<u32>) -> Attrs {
    let mut data = Attrs::new();
    data.u32(IFLA_VXLAN_ID, vxlan.vni);
    match vxlan.local {
        IpAddr::V4(local) => data.put(IFLA_VXLAN_LOCAL, &local.octets()),
        IpAddr::V6(local) => data.put(IFLA_VXLAN_LOCAL6, &local.octets()),
    };
    if let Some(below) = below {
        data.u32(IFLA_VXLAN_LINK, below);
    }
    data.put(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
    data.u8(IFLA_VXLAN_TTL, vxlan.ttl).u8(IFLA_VXLAN_LEARNING, u8::from(vxlan.learning));
    data.u8(IFLA_VXLAN_PROXY, u8::from(vxlan.proxy));
    data.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, u8::from(vxlan.zero_checksum6));
    data.u8(IFLA_VXLAN_UDP_ZERO_CSUM6_RX, u8::from(vxlan.zero_checksum6));
    data
}

pub(super) fn delete(index: u32) -> Message {
    Message::new(RTM_DELLINK, 0, &header(index, 0, 0), &Attrs::new())
}

/// A change of a link that is there.
fn set(index: u32, fill: impl FnOnce(&mut Attrs) -> &mut Attrs) -> Message {
    let mut attrs = Attrs::new();
    fill(&mut attrs);
    Message::new(RTM_NEWLINK, 0, &header(index, 0, 0), &attrs)
}

pub(super) fn set_mac(index: u32, mac: Mac) -> Message {
    set(index, |attrs| attrs.put(IFLA_ADDRESS, &mac.octets()))
}

pub(super) fn set_mtu(index: u32, mtu: u32) -> Message {
    set(index, |attrs| attrs.u32(IFLA_MTU, mtu))
}

pub(super) fn set_link_local(index: u32, link_local: bool) -> Message {
    set(index, |attrs| attrs.nest(IFLA_AF_SPEC, &address_mode(link_local)))
}

pub(super) fn set_master(index: u32, master: u32) -> Message {
    set(index, |attrs| attrs.u32(IFLA_MASTER, master))
}

pub(super) fn set_port(index: u32, port: PortSettings) -> Message {
    let mut info = Attrs::new();
    info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, &port_data(port));
    set(index, |attrs| attrs.nest(IFLA_LINKINFO, &info))
}

fn port_data(port: PortSettings) -> Attrs {
    let mut data = Attrs::new();
    data.u8(IFLA_BRPORT_LEARNING, u8::from(port.learning))
        .u8(IFLA_BRPORT_UNICAST_FLOOD, u8::from(port.flood));
    data.u8(IFLA_BRPORT_NEIGH_SUPPRESS, u8::from(port.neigh_suppress));
    data.u8(IFLA_BRPORT_ISOLATED, u8::from(port.isolated)).u8(IFLA_BRPORT_HAIRPIN, u8::from(port.hairpin));
    data
}

pub(super) fn set_up(index: u32, up: bool) -> Message {
    let flags = if up { IFF_UP } else { 0 };
    Message::new(RTM_NEWLINK, 0, &header(index, flags, IFF_UP), &Attrs::new())
}

/// The number that the socket's namespace has for `other`, given if there was none.
pub(super) fn netns_number(socket: &mut Socket, other: &File) -> Result<Option<u32>, Fault> {
    let mut attrs = Attrs::new();
    attrs.put(NETNSA_FD, &other.as_raw_fd().to_ne_bytes());
    let (_, body) = socket
        .get(&Message::new(RTM_GETNSID, 0, &[AF_UNSPEC], &attrs))
        .map_err(|e| Fault::system("ask for the number of a namespace", e))?;
    let number = u32_of(&parse(body.get(4..).unwrap_or_default()), NETNSA_NSID);
    // Minus one: it has no number, and so no link leads there.
    Ok(number.filter(|number| *number != u32::MAX))
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
