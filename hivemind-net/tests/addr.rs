//! Address arithmetic against a naive model, and texts that must not pass.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::net::IpAddr;

use hivemind_net::addr::{
    AddressRange, Cidr, InvalidAddress, IpFamily, connection_order, parse_address, parse_network, precedence,
};
use ipnet::IpNet;
use proptest::prelude::*;

/// The bits of an address, the naive way.
fn bits(family: IpFamily, number: u128) -> Vec<bool> {
    (0..family.bits()).rev().map(|bit| number >> bit & 1 == 1).collect()
}

fn family() -> impl Strategy<Value = IpFamily> {
    prop::sample::select(vec![IpFamily::V4, IpFamily::V6])
}

fn cidr() -> impl Strategy<Value = Cidr> {
    (family(), any::<u128>(), any::<u8>()).prop_map(|(family, number, len)| {
        Cidr::containing(family, number & family.max(), len % (family.bits() + 1)).unwrap()
    })
}

proptest! {
    #[test]
    fn a_network_is_its_leading_bits(cidr in cidr(), number in any::<u128>(), near in any::<bool>()) {
        let family = cidr.family();
        let host = cidr.last() ^ cidr.first();
        let number = if near { cidr.first() | (number & host) } else { number & family.max() };
        let same = bits(family, number)[..cidr.prefix_len().into()] == bits(family, cidr.first())[..cidr.prefix_len().into()];
        prop_assert_eq!(cidr.contains(number), same);
        prop_assert!(!near || same);
        prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
        prop_assert_eq!(Cidr::try_from(IpNet::from(cidr)).unwrap(), cidr);
        let json = serde_json::to_string(&cidr).unwrap();
        prop_assert_eq!(serde_json::from_str::<Cidr>(&json).unwrap(), cidr);
    }

    #[test]
    fn subnets_tile_their_network(cidr in cidr(), more in 0u8..=128, number in any::<u128>()) {
        let len = cidr.prefix_len().saturating_add(more);
        let count = cidr.subnets(len);
        if len > cidr.family().bits() {
            prop_assert_eq!((count, cidr.subnet(0, len)), (0, None));
            return Ok(());
        }
        let number = number % count;
        let subnet = cidr.subnet(number, len).unwrap();
        prop_assert!(cidr.covers(subnet) && subnet.prefix_len() == len && subnet.overlaps(cidr));
        prop_assert_eq!(subnet.supernet(cidr.prefix_len()), Some(cidr));
        // The one before ends where this one begins.
        match number.checked_sub(1) {
            Some(before) => prop_assert_eq!(cidr.subnet(before, len).unwrap().last() + 1, subnet.first()),
            None => prop_assert_eq!(subnet.first(), cidr.first()),
        }
        if count < u128::MAX {
            prop_assert_eq!(cidr.subnet(count - 1, len).unwrap().last(), cidr.last());
            prop_assert_eq!(cidr.subnet(count, len), None);
        }
    }

    #[test]
    fn a_range_is_covered_exactly(family in family(), a in any::<u128>(), b in any::<u128>(), small in any::<bool>()) {
        let a = a & family.max();
        let b = if small { a.saturating_add(b % 300).min(family.max()) } else { b & family.max() };
        let range = AddressRange::from_numbers(family, a.min(b), a.max(b)).unwrap();
        let cover: Vec<_> = range.cidrs().collect();
        prop_assert_eq!(cover[0].first(), range.first());
        prop_assert_eq!(cover.last().unwrap().last(), range.last());
        for pair in cover.windows(2) {
            prop_assert_eq!(pair[0].last() + 1, pair[1].first());
            // Two that could be one would not be the fewest.
            let joined = pair[0].supernet(pair[0].prefix_len() - 1);
            let halves = pair[0].prefix_len() == pair[1].prefix_len() && joined.unwrap().contains(pair[1].first());
            prop_assert!(!halves);
        }
        prop_assert!(cover.len() <= 2 * usize::from(family.bits()));
        let json = serde_json::to_string(&range).unwrap();
        prop_assert_eq!(serde_json::from_str::<AddressRange>(&json).unwrap(), range);
    }

    #[test]
    fn any_text_is_refused_or_read_as_the_standard_library_does(text in "[0-9a-fA-F:./%]{0,50}") {
        if let Ok(address) = parse_address(&text) {
            prop_assert_eq!(address, text.parse::<std::net::IpAddr>().unwrap());
        }
        if let Ok(network) = parse_network(&text) {
            prop_assert_eq!(IpNet::from(network), text.parse::<IpNet>().unwrap());
        }
    }
}

#[test]
fn the_extremes_are_exact() {
    let all: Cidr = "::/0".parse().unwrap();
    assert_eq!((all.first(), all.last(), all.size(), all.host_bits()), (0, u128::MAX, None, 128));
    assert_eq!((all.subnets(0), all.subnets(128), all.subnets(127)), (1, u128::MAX, 1 << 127));
    assert_eq!(
        all.subnet(u128::MAX, 128).unwrap().to_string(),
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
    );
    assert_eq!((all.subnet(0, 0), all.subnet(1, 0)), (Some(all), None));
    let v4: Cidr = "0.0.0.0/0".parse().unwrap();
    assert_eq!((v4.last(), v4.size(), v4.subnets(32)), (u128::from(u32::MAX), Some(1 << 32), 1 << 32));
    assert_eq!(v4.subnet(1 << 32, 32), None);
    assert!(!all.covers(v4) && !v4.overlaps(all), "families are apart");
    assert_eq!(Cidr::containing(IpFamily::V4, 1 << 32, 8), None);
    assert_eq!(Cidr::containing(IpFamily::V4, 0, 33), None);
    assert_eq!(AddressRange::of(all).cidrs().collect::<Vec<_>>(), [all]);
    assert_eq!(AddressRange::from_numbers(IpFamily::V6, 1, u128::MAX).unwrap().cidrs().count(), 128);
}

#[test]
fn pitfall_29_one_canonical_form_at_the_edge() {
    let kind = |text: &str| match parse_address(text).unwrap_err() {
        InvalidAddress::Mapped { .. } => "mapped",
        InvalidAddress::Zone(_) => "zone",
        InvalidAddress::LeadingZeros(_) => "zeros",
        InvalidAddress::TooLong { .. } => "long",
        InvalidAddress::Malformed(_) => "malformed",
        other => panic!("{text}: {other}"),
    };
    let table = [
        ("::ffff:10.0.0.1", "mapped"),
        ("::FFFF:a00:1", "mapped"),
        ("0:0:0:0:0:ffff:10.0.0.1", "mapped"),
        ("fe80::1%eth0", "zone"),
        ("fd00::1%", "zone"),
        ("10.0.0.01", "zeros"),
        ("010.0.0.1", "zeros"),
        ("10.0.00.1", "zeros"),
        ("", "malformed"),
        ("10.0.1", "malformed"),
        ("167772161", "malformed"),
        ("0x0a.0.0.1", "malformed"),
        (" 10.0.0.1", "malformed"),
        ("10.0.0.256", "malformed"),
        ("[fd00::1]", "malformed"),
        ("fd00:::1", "malformed"),
        (&"1".repeat(1000), "long"),
    ];
    for (text, expected) in table {
        assert_eq!(kind(text), expected, "{text}");
    }
    for (text, canonical) in
        [("FD00:0:0::0:1", "fd00::1"), ("fd00::0a00:0001", "fd00::a00:1"), ("0.0.0.0", "0.0.0.0")]
    {
        assert_eq!(parse_address(text).unwrap().to_string(), canonical);
    }
    let network = |text: &str| parse_network(text).unwrap_err().to_string();
    assert_eq!(network("10.0.0.1/8"), "10.0.0.1/8 has host bits set: its network is 10.0.0.0/8");
    assert!(network("10.0.0.0").contains("no prefix length"));
    for text in
        ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8/8", "fd00::/129", "fd00::/300"]
    {
        assert!(network(text).contains("prefix length"), "{text}: {}", network(text));
    }
    assert!(network("10.0.0.0/08").contains("leading zeros"));
    assert!(network("::ffff:10.0.0.0/104").contains("IPv4"));
}

#[test]
fn pitfall_32_the_order_of_destinations_is_that_of_the_standards() {
    // RFC 6724, section 2.1.
    for (address, expected) in [
        ("::1", 50),
        ("2001:db8::1", 40),
        ("2a00::1", 40),
        ("::ffff:192.0.2.1", 35),
        ("192.0.2.1", 35),
        ("2002:c000:201::1", 30),
        ("2001::1", 5),
        ("fc00::1", 3),
        ("fdff:ffff::1", 3),
        ("::192.0.2.1", 1),
        ("fec0::1", 1),
        ("3ffe::1", 1),
    ] {
        assert_eq!(precedence(address.parse().unwrap()), expected, "{address}");
    }
    // RFC 8305, section 4: the families in turn, from the one that is first by precedence.
    for (told, order) in [
        (
            &["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"][..],
            &["2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.2"][..],
        ),
        (&["fd00::1", "fd00::2", "10.0.0.1"], &["10.0.0.1", "fd00::1", "fd00::2"]),
        (&["fd00::1", "10.0.0.1", "2001:db8::1"], &["2001:db8::1", "10.0.0.1", "fd00::1"]),
        (&["fd00::2", "fd00::1"], &["fd00::2", "fd00::1"]),
        (&[], &[]),
    ] {
        let addresses =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert_eq!(connection_order(addresses(told)), addresses(order));
    }
}
