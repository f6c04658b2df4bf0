//! Connections that the kernel keeps track of (`linux/netfilter/nfnetlink_conntrack.h`).

use std::net::IpAddr;

use nix::errno::Errno;

use super::fault::Fault;
use super::netlink::{Attrs, Message, Parsed, Socket, bytes_at, parse, u8_of, u16be_of};
use crate::dataplane::Connection;

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn header(v6: bool) -> [u8; 4] {
    [if v6 { 10 } else { 2 }, 0, 0, 0]
}

/// All that are tracked in the socket's namespace.
pub(super) fn all(socket: &mut Socket) -> Result<Vec<Connection>, Fault> {
    let mut found = Vec::new();
    for v6 in [false, true] {
        let replies = socket
            .dump(&Message::new(GET, 0, &header(v6), &Attrs::new()))
            .map_err(|e| Fault::system("list connections", e))?;
        found.extend(replies.iter().filter_map(|(_, body)| connection(&parse(body.get(4..)?))));
    }
    Ok(found)
}

/// An address of a tuple: the numbers of the attributes of IPv4 and IPv6.
fn address(ip: &Parsed<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    let v4 = ip.get(&v4).and_then(|bytes| bytes_at::<4>(bytes, 0)).map(IpAddr::from);
    v4.or_else(|| ip.get(&v6).and_then(|bytes| bytes_at::<16>(bytes, 0)).map(IpAddr::from))
}

/// Who answers: the source of what comes back.
fn answerer(attrs: &Parsed<'_>) -> Option<(IpAddr, u16)> {
    let tuple = parse(attrs.get(&TUPLE_REPLY)?);
    let proto = parse(tuple.get(&TUPLE_PROTO)?);
    let port = u16be_of(&proto, 2).unwrap_or_default();
    Some((address(&parse(tuple.get(&TUPLE_IP)?), 1, 3)?, port))
}

fn connection(attrs: &Parsed<'_>) -> Option<Connection> {
    let tuple = parse(attrs.get(&TUPLE_ORIG)?);
    let ip = parse(tuple.get(&TUPLE_IP)?);
    let proto = parse(tuple.get(&TUPLE_PROTO)?);
    let protocol = u8_of(&proto, 1)?;
    let (source, destination) = match protocol {
        ICMP => (u16be_of(&proto, 4)?, message(&proto, 5, 6)?),
        ICMPV6 => (u16be_of(&proto, 7)?, message(&proto, 8, 9)?),
        _ => (u16be_of(&proto, 2).unwrap_or_default(), u16be_of(&proto, 3).unwrap_or_default()),
    };
    let mut connection = Connection::new(address(&ip, 1, 3)?, address(&ip, 2, 4)?, protocol);
    connection.zone = u16be_of(attrs, ZONE).unwrap_or_default();
    connection = connection.with_ports(source, destination);
    let has_ports = !matches!(protocol, ICMP | ICMPV6);
    connection.translated = answerer(attrs).and_then(|(address, port)| {
        let port = if has_ports { port } else { destination };
        let other = (address, port) != (connection.destination, destination);
        other.then_some((address, port))
    });
    Some(connection)
}

fn message(proto: &Parsed<'_>, kind: u16, code: u16) -> Option<u16> {
    Some(u16::from_be_bytes([u8_of(proto, kind)?, u8_of(proto, code)?]))
}

/// What the kernel finds a connection by; none if there is no such one.
fn original(connection: &Connection) -> Option<Attrs> {
    let mut ip = Attrs::new();
    match (connection.source, connection.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ip.put(1, &source.octets()).put(2, &destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ip.put(3, &source.octets()).put(4, &destination.octets());
        }
        _ => return None,
    }
    let (source, destination) =
        (connection.source_port.to_be_bytes(), connection.destination_port.to_be_bytes());
    let [kind, code] = destination;
    let mut proto = Attrs::new();
    proto.u8(1, connection.protocol);
    match connection.protocol {
        ICMP => proto.put(4, &source).u8(5, kind).u8(6, code),
        ICMPV6 => proto.put(7, &source).u8(8, kind).u8(9, code),
        _ => proto.put(2, &source).put(3, &destination),
    };
    let mut tuple = Attrs::new();
    tuple.nest(TUPLE_IP, &ip).nest(TUPLE_PROTO, &proto);
    let mut attrs = Attrs::new();
    attrs.nest(TUPLE_ORIG, &tuple).put(ZONE, &connection.zone.to_be_bytes());
    Some(attrs)
}

/// Forgets one; tells whether it was there.
pub(super) fn forget(socket: &mut Socket, connection: &Connection) -> Result<bool, Fault> {
    let Some(attrs) = original(connection) else { return Ok(false) };
    match socket.request(&[Message::new(DELETE, 0, &header(connection.source.is_ipv6()), &attrs)]) {
        Ok(()) => Ok(true),
        Err((_, Errno::ENOENT)) => Ok(false),
        Err((_, errno)) => Err(Fault::system("forget a connection", errno)),
    }
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
