//! Random connections, written and read back; and messages that somebody broke.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::adapters::linux::netlink::tests::{breaks, broken};

fn some_connection() -> impl Strategy<Value = Connection> {
    let ends = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    let protocol = prop_oneof![Just(6), Just(17), Just(ICMP), Just(ICMPV6), any::<u8>()];
    (ends, protocol, any::<(u16, u16, u16)>()).prop_map(
        |((source, destination), protocol, (zone, from, to))| {
            let mut connection = Connection::new(source, destination, protocol).with_ports(from, to);
            connection.zone = zone;
            connection
        },
    )
}

proptest! {
    #[test]
    fn connections_are_read_back(is in some_connection()) {
        let written = original(&is).unwrap();
        prop_assert_eq!(connection(&parse(&written.0)), Some(is));
    }

    #[test]
    fn who_answers_is_read_back(is in some_connection(), other in any::<u16>()) {
        if matches!(is.protocol, ICMP | ICMPV6) {
            return Ok(());
        }
        // The other way round, from whom the packets were sent on to.
        let back = Connection::new(is.destination, is.source, is.protocol).with_ports(other, is.source_port);
        let mut told = original(&is).unwrap();
        let reply = original(&back).unwrap();
        told.put(TUPLE_REPLY, parse(&reply.0)[&TUPLE_ORIG]);
        let translated = (other != is.destination_port).then_some((is.destination, other));
        prop_assert_eq!(connection(&parse(&told.0)), Some(Connection { translated, ..is }));
    }

    #[test]
    fn a_broken_connection_is_some_connection_or_none(is in some_connection(), breaks in breaks()) {
        let bytes = broken(original(&is).unwrap().0, &breaks);
        if let Some(found) = connection(&parse(&bytes)) {
            prop_assert!(bytes.len() >= 16, "{:?}", found);
        }
    }

    #[test]
    fn any_bytes_are_some_connection_or_none(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(found) = connection(&parse(&bytes)) {
            prop_assert!(bytes.len() >= 16, "{:?}", found);
        }
    }
}
