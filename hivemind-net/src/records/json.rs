//! JSON of what is written most often, without the detours of formatters. No I/O, no clock, no async.
//!
//! Names hold nothing that JSON escapes, so their text is copied as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hivemind_core::Timestamp;

use crate::addr::Cidr;

/// Bytes as they are: punctuation, and names of fields.
pub(super) fn raw(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(text.as_bytes());
}

/// A validated name in quotes.
pub(super) fn name(to: &mut Vec<u8>, name: &str) {
    to.push(b'"');
    raw(to, name);
    to.push(b'"');
}

/// A number in decimal.
pub(super) fn number(to: &mut Vec<u8>, number: u128) {
    let Ok(mut number) = u64::try_from(number) else { return raw(to, &number.to_string()) };
    let start = to.len();
    loop {
        to.push(digit(number % 10));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    to.get_mut(start..).into_iter().for_each(<[u8]>::reverse);
}

fn digit(value: u64) -> u8 {
    b'0'.wrapping_add(u8::try_from(value).unwrap_or_default())
}

/// A number of at most three digits.
pub(super) fn byte(to: &mut Vec<u8>, byte: u8) {
    if byte >= 100 {
        to.push(b'0' + byte / 100);
    }
    if byte >= 10 {
        to.push(b'0' + byte / 10 % 10);
    }
    to.push(b'0' + byte % 10);
}

/// Nanoseconds since the epoch.
pub(super) fn timestamp(to: &mut Vec<u8>, at: Timestamp) {
    number(to, at.as_nanos().into());
}

/// A network in quotes.
pub(super) fn cidr(to: &mut Vec<u8>, cidr: Cidr) {
    to.push(b'"');
    match cidr.family().address(cidr.first()) {
        Some(IpAddr::V4(address)) => v4(to, address),
        Some(IpAddr::V6(address)) => v6(to, address),
        None => {}
    }
    to.push(b'/');
    byte(to, cidr.prefix_len());
    to.push(b'"');
}

/// An IPv4 address, as the standard library prints it.
pub(super) fn v4(to: &mut Vec<u8>, address: Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    byte(to, a);
    for octet in [b, c, d] {
        to.push(b'.');
        byte(to, octet);
    }
}

/// An IPv6 address, as the standard library prints it: the form of RFC 5952, section 4.
pub(super) fn v6(to: &mut Vec<u8>, address: Ipv6Addr) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        raw(to, "::ffff:");
        return v4(to, mapped);
    }
    let groups = address.segments();
    let zeros = longest_zeros(groups);
    let mut colon = false;
    for (at, group) in (0usize..).zip(groups) {
        if zeros.contains(&at) {
            if at == zeros.start {
                raw(to, "::");
            }
            colon = false;
            continue;
        }
        if colon {
            to.push(b':');
        }
        hex(to, group);
        colon = true;
    }
}

/// The first of the longest runs of at least two groups that are zero.
fn longest_zeros(groups: [u16; 8]) -> std::ops::Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (at, group) in (0usize..).zip(groups) {
        if group != 0 {
            start = at + 1;
        } else if at + 1 - start > longest.len().max(1) {
            longest = start..at + 1;
        }
    }
    longest
}

fn hex(to: &mut Vec<u8>, group: u16) {
    // The last digit is there even if it is zero.
    for shift in [12, 8, 4].into_iter().filter(|shift| group >> shift != 0) {
        to.push(hex_digit(group >> shift));
    }
    to.push(hex_digit(group));
}

fn hex_digit(lowest: u16) -> u8 {
    HEX.get(usize::from(lowest & 15)).copied().unwrap_or_default()
}

const HEX: [u8; 16] = *b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = b"before ".to_vec();
        write(&mut bytes);
        String::from_utf8(bytes).unwrap().strip_prefix("before ").unwrap().to_owned()
    }

    /// Groups that are often zero, and of every length.
    fn group() -> impl Strategy<Value = u16> {
        prop_oneof![5 => Just(0u16), 1 => any::<u16>(), 1 => 1u16..16, 1 => 0x10u16..0x1000, 1 => Just(0xffffu16)]
    }

    #[test]
    fn addresses_with_a_form_of_their_own_are_those_of_the_standard_library() {
        for given in
            ["::", "::1", "1::", "::ffff:10.0.0.1", "::ffff:0:1", "::10.0.0.1", "0:0:1::", "1:0:0:2::3"]
        {
            let address: Ipv6Addr = given.parse().unwrap();
            assert_eq!(text(|to| v6(to, address)), address.to_string(), "{given}");
        }
        for wide in ["::/0", "0.0.0.0/0", "fd00::/8", "10.20.128.0/17", "10.0.0.1/32", "fd00::ff/128"] {
            assert_eq!(text(|to| cidr(to, wide.parse().unwrap())), format!("\"{wide}\""));
        }
    }

    proptest! {
        #[test]
        fn addresses_are_printed_as_the_standard_library_does(groups in prop::array::uniform8(group()), v4s: u32) {
            let address = Ipv6Addr::from(groups);
            prop_assert_eq!(text(|to| v6(to, address)), address.to_string());
            prop_assert_eq!(text(|to| v4(to, v4s.into())), Ipv4Addr::from(v4s).to_string());
        }

        #[test]
        fn numbers_are_printed_in_decimal(any: u128, shift in 0u32..128) {
            for value in [any >> shift, u64::MAX.into(), u128::from(u64::MAX) + 1, 0] {
                prop_assert_eq!(text(|to| number(to, value)), value.to_string());
            }
            for value in 0..=u8::MAX {
                prop_assert_eq!(text(|to| byte(to, value)), value.to_string());
            }
        }
    }
}
