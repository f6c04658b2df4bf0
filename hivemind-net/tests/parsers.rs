//! Whatever text comes in: nothing panics, what is taken is valid and prints as what is read again, and what is refused
//! says why, briefly.
//!
//! Texts are valid ones, mutated. For a longer search: `PROPTEST_CASES=1000000 cargo test -p hivemind-net --test parsers`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use hivemind_net::addr::{AddressRange, Cidr, parse_address, parse_network};
use hivemind_net::dataplane::state::{LinkName, Mac, Netns, SysctlName};
use hivemind_net::policy::{
    ClusterPolicy, DnsName, Grant, IpBlock, NamePattern, NetworkPolicy, PolicyName, PolicySpec, PortMatch,
    PortName, Protocol, Traffic,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const TEXTS: [&str; 24] = [
    "10.0.0.0/8",
    "0.0.0.0/0",
    "255.255.255.255/32",
    "192.168.1.7",
    "fd00::/48",
    "::/0",
    "2001:db8:0:1:2:3:4:5/128",
    "fe80::1%eth0",
    "::ffff:10.0.0.1",
    "::ffff:10.0.0.0/104",
    "64:ff9b::192.0.2.1",
    "10.0.0.1-10.0.0.9",
    "TCP",
    "ICMPv6",
    "132",
    "*.example.com",
    "a_b.example.com.",
    "xn--bcher-kva.example",
    "serve-80-tcp",
    "web.example.com",
    "eth0",
    "02:00:00:00:00:01",
    "net/ipv4/ip_forward",
    "/run/netns/a",
];

const DOCUMENTS: [&str; 10] = [
    r#""10.0.0.0/8""#,
    r#"["10.0.0.1","10.0.0.9"]"#,
    r#"["fd00::1","fd00::ffff"]"#,
    r#"["TCP",443]"#,
    r#"{"cidr":"fd00::/8","except":["fd00:1::/32","fd00:2::/32"]}"#,
    r#"{"protocol":"ICMPv6","type":128,"code":0}"#,
    r#"{"protocol":"UDP","port":8000,"endPort":8099}"#,
    r#"{"podSelector":{"matchLabels":{"app":"db"},"matchExpressions":[{"key":"env","operator":"In","values":["p"]}]},"policyTypes":["Ingress","Egress"],"ingress":[{"from":[{"podSelector":{},"namespaceSelector":{"matchLabels":{"ns":"x"}}},{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80,"endPort":90},{"port":"web","protocol":"TCP"}]}],"egress":[{"to":[{"dnsName":"*.example.com"}]}]}"#,
    r#"{"tenant":"acme.0000000000000001","namespace":"x","name":"p","spec":{"podSelector":"app in (a,b),!env"}}"#,
    r#"{"by":"acme.0000000000000001","name":"out","direction":"Egress","to":{"tenant":"globex.0000000000000001"},"ports":[{"port":80}]}"#,
];

const TOKENS: [&str; 28] = [
    "/",
    ".",
    ":",
    "::",
    "%",
    "-",
    "0",
    "00",
    "1",
    "9",
    "255",
    "256",
    "/129",
    "/33",
    "ffff:",
    "4294967296",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "null",
    "-1",
    "1e9",
    "\u{0}",
    "\u{661}",
    "é",
];

/// One change of a text: what, where, and with which token.
type Mutation = (u8, usize, usize);

/// The text after the changes, cut at characters.
fn mutated(text: &str, mutations: &[Mutation]) -> String {
    let mut text = text.to_owned();
    for (what, at, with) in mutations {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let place = places[at % places.len()];
        let until = places[(at % places.len() + 1 + with % 4).min(places.len() - 1)];
        match what % 5 {
            0 => text.insert_str(place, TOKENS[with % TOKENS.len()]),
            1 => text.replace_range(place..until, ""),
            2 => text.replace_range(place..until, TOKENS[with % TOKENS.len()]),
            3 => text.insert_str(place, &text[place..until].repeat(1 + with % 60)),
            _ => text.truncate(place),
        }
    }
    text
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    vec((any::<u8>(), any::<usize>(), any::<usize>()), 0..5)
}

/// What is taken prints as what is read again; what is refused says why without repeating an endless text.
fn text<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Result<(), TestCaseError>
where
    T::Err: Display + Debug,
{
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>();
            prop_assert_eq!(again.ok(), Some(value), "{:?}", text);
        }
        Err(error) => brief(text, &error)?,
    }
    Ok(())
}

fn brief(text: &str, error: &impl Display) -> Result<(), TestCaseError> {
    let told = error.to_string();
    prop_assert!(!told.is_empty() && told.len() < 1000, "{text:?}: {told}");
    Ok(())
}

/// What is taken is written as what is read again.
fn document<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str) -> Result<(), TestCaseError> {
    if let Ok(value) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&value).unwrap();
        let again = serde_json::from_str::<T>(&written);
        prop_assert_eq!(again.map_err(|e| e.to_string()), Ok(value), "{:?} as {}", text, written);
    }
    Ok(())
}

fn addresses(text: &str) -> Result<(), TestCaseError> {
    match parse_address(text) {
        Ok(address) => {
            prop_assert_eq!(parse_address(&address.to_string()), Ok(address));
            prop_assert_eq!(address, address.to_canonical(), "one form alone");
        }
        Err(error) => brief(text, &error)?,
    }
    match parse_network(text) {
        Ok(net) => {
            prop_assert_eq!(parse_network(&net.to_string()), Ok(net));
            prop_assert!(net.first() <= net.last() && net.last() <= net.family().max());
            prop_assert!(net.prefix_len() <= net.family().bits());
        }
        Err(error) => brief(text, &error)?,
    }
    // A document is read as strictly as an argument.
    let quoted = serde_json::to_string(text).unwrap();
    prop_assert_eq!(serde_json::from_str::<Cidr>(&quoted).ok(), parse_network(text).ok(), "{:?}", text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts(from in 0..TEXTS.len(), by in mutations()) {
        let mutated = mutated(TEXTS[from], &by);
        addresses(&mutated)?;
        text::<Cidr>(&mutated)?;
        text::<Protocol>(&mutated)?;
        text::<DnsName>(&mutated)?;
        text::<NamePattern>(&mutated)?;
        text::<PolicyName>(&mutated)?;
        text::<PortName>(&mutated)?;
        text::<LinkName>(&mutated)?;
        text::<Mac>(&mutated)?;
        text::<Netns>(&mutated)?;
        text::<SysctlName>(&mutated)?;
    }

    #[test]
    fn documents(from in 0..DOCUMENTS.len(), by in mutations()) {
        let mutated = mutated(DOCUMENTS[from], &by);
        document::<Cidr>(&mutated)?;
        document::<AddressRange>(&mutated)?;
        document::<Traffic>(&mutated)?;
        document::<IpBlock>(&mutated)?;
        document::<PortMatch>(&mutated)?;
        document::<PolicySpec>(&mutated)?;
        document::<NetworkPolicy>(&mutated)?;
        document::<ClusterPolicy>(&mutated)?;
        document::<Grant>(&mutated)?;
        if let Ok(range) = serde_json::from_str::<AddressRange>(&mutated) {
            prop_assert!(range.first() <= range.last() && range.last() <= range.family().max());
        }
    }
}

/// The corpus is worth mutating: each text is of something, but for those that are there to be refused.
#[test]
fn the_texts_are_read() {
    let read = |text: &&&str| {
        parse_address(text).is_ok()
            || parse_network(text).is_ok()
            || text.parse::<Protocol>().is_ok()
            || text.parse::<NamePattern>().is_ok()
            || text.parse::<Mac>().is_ok()
            || text.parse::<SysctlName>().is_ok()
            || text.parse::<Netns>().is_ok()
    };
    let refused: Vec<_> = TEXTS.iter().filter(|text| !read(text)).collect();
    assert_eq!(refused, [&"fe80::1%eth0", &"::ffff:10.0.0.1", &"::ffff:10.0.0.0/104"]);
    for text in DOCUMENTS {
        let read = [
            serde_json::from_str::<Cidr>(text).is_ok(),
            serde_json::from_str::<AddressRange>(text).is_ok(),
            serde_json::from_str::<Traffic>(text).is_ok(),
            serde_json::from_str::<IpBlock>(text).is_ok(),
            serde_json::from_str::<PortMatch>(text).is_ok(),
            serde_json::from_str::<PolicySpec>(text).is_ok(),
            serde_json::from_str::<NetworkPolicy>(text).is_ok(),
            serde_json::from_str::<Grant>(text).is_ok(),
        ];
        assert!(read.contains(&true), "{text}");
    }
}
