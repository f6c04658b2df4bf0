//! Whatever bytes come in: nothing panics, every step goes on, and a datagram that is none is refused.

use proptest::collection::vec;
use proptest::prelude::*;

use super::message::each;
use super::socket::split;
use super::{Attrs, Message, list, parse, text_of, u32_of};

fn payloads() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    vec((0u16..0x3fff, vec(any::<u8>(), 0..40)), 0..20)
}

/// What may be made of a message by whoever breaks it.
#[derive(Debug, Clone)]
pub(in super::super) enum Break {
    Flip(usize, u8),
    Cut(usize),
    Repeat(usize, usize),
    /// Two bytes in place of others: where a length is, a wrong length.
    Write(usize, u16),
    Insert(usize, Vec<u8>),
}

pub(in super::super) fn breaks() -> impl Strategy<Value = Vec<Break>> {
    let length = prop_oneof![0u16..64, any::<u16>(), Just(0), Just(3), Just(u16::MAX)];
    let at = || 0usize..4096;
    let one = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, by)| Break::Flip(at, by)),
        at().prop_map(Break::Cut),
        (at(), at()).prop_map(|(from, to)| Break::Repeat(from, to)),
        (at(), length).prop_map(|(at, to)| Break::Write(at & !1, to)),
        (at(), vec(any::<u8>(), 0..24)).prop_map(|(at, bytes)| Break::Insert(at, bytes)),
    ];
    vec(one, 0..4)
}

pub(in super::super) fn broken(mut bytes: Vec<u8>, breaks: &[Break]) -> Vec<u8> {
    for one in breaks {
        let within = |at: usize| at % (bytes.len() + 1);
        match one {
            Break::Flip(at, by) => {
                let at = within(*at);
                bytes.get_mut(at..).into_iter().flatten().take(1).for_each(|byte| *byte ^= by);
            }
            Break::Cut(at) => bytes.truncate(within(*at)),
            Break::Repeat(from, to) => {
                let (from, to) = (within(*from).min(within(*to)), within(*from).max(within(*to)));
                let again = bytes[from..to].to_vec();
                bytes.splice(to..to, again);
            }
            Break::Write(at, to) => {
                let at = within(*at);
                let new = to.to_ne_bytes();
                bytes.get_mut(at..).into_iter().flatten().zip(new).for_each(|(byte, new)| *byte = new);
            }
            Break::Insert(at, new) => {
                let at = within(*at);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn attributes_are_as_rfc_3549_and_the_kernel_write_them() {
    let mut attrs = Attrs::new();
    attrs.text(3, "eth0").u32(4, 1500);
    // Length with its own four bytes, type, payload, filled up to four bytes.
    let wanted = [&9_u16.to_ne_bytes()[..], &3_u16.to_ne_bytes(), b"eth0\0\0\0\0"].concat();
    let wanted = [&wanted[..], &8_u16.to_ne_bytes(), &4_u16.to_ne_bytes(), &1500_u32.to_ne_bytes()].concat();
    assert_eq!(attrs.0, wanted);
    let parsed = parse(&wanted);
    assert_eq!((text_of(&parsed, 3), u32_of(&parsed, 4)), (Some("eth0"), Some(1500)));
}

#[test]
fn a_list_ends_where_a_length_is_beyond_the_end() {
    let whole = [8, 0, 1, 0, 1, 2, 3, 4].map(|byte: u8| byte);
    let within = |length: u16| [&whole[..], &length.to_ne_bytes(), &[2, 0, 9, 9]].concat();
    for (length, elements) in [(6, 2), (4, 2), (0, 1), (3, 1), (7, 1), (u16::MAX, 1)] {
        assert_eq!(list(&within(length)).len(), elements, "a length of {length}");
    }
}

#[test]
fn a_datagram_that_is_cut_or_lies_about_its_length_is_refused() {
    let mut datagram = Vec::new();
    Message::new(16, 0, &[1, 2, 3, 4], &Attrs::new()).write(7, &mut datagram);
    assert_eq!(split(&datagram).unwrap(), [(16, 7, 0, &[1, 2, 3, 4][..])]);
    for length in 1..datagram.len() {
        assert_eq!(split(&datagram[..length]).unwrap_err(), nix::errno::Errno::EBADMSG, "{length} bytes");
    }
    for length in [0_u32, 15, 21, u32::MAX] {
        let mut lies = datagram.clone();
        lies[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(split(&lies).unwrap_err(), nix::errno::Errno::EBADMSG, "a length of {length}");
    }
}

proptest! {
    #[test]
    fn attributes_come_back_as_they_were_put(payloads in payloads()) {
        let mut attrs = Attrs::new();
        for (kind, payload) in &payloads {
            attrs.put(*kind, payload);
        }
        let found: Vec<_> = each(&attrs.0).into_iter().map(|(kind, bytes)| (kind, bytes.to_vec())).collect();
        prop_assert_eq!(found, payloads);
    }

    #[test]
    fn messages_come_back_as_they_were_written(all in vec((any::<u16>(), any::<u16>(), payloads()), 0..5)) {
        let mut datagram = Vec::new();
        let mut written = Vec::new();
        for ((kind, flags, payloads), sequence) in all.into_iter().zip(1..) {
            let mut attrs = Attrs::new();
            for (kind, payload) in &payloads {
                attrs.put(*kind, payload);
            }
            let message = Message::new(kind, flags, &[0; 4], &attrs);
            message.write(sequence, &mut datagram);
            written.push((kind, sequence, flags, message.body));
        }
        let found = split(&datagram).unwrap();
        let found: Vec<_> = found.into_iter().map(|(k, s, f, body)| (k, s, f, body.to_vec())).collect();
        prop_assert_eq!(found, written);
    }

    #[test]
    fn broken_attributes_are_no_more_than_their_bytes(payloads in payloads(), breaks in breaks()) {
        let mut attrs = Attrs::new();
        for (kind, payload) in &payloads {
            attrs.put(*kind, payload);
        }
        let bytes = broken(attrs.0, &breaks);
        let found = each(&bytes);
        prop_assert!(found.len() * 4 <= bytes.len());
        prop_assert!(found.iter().map(|(_, payload)| payload.len() + 4).sum::<usize>() <= bytes.len().max(4) );
    }

    #[test]
    fn a_broken_datagram_is_split_or_refused(bodies in vec(vec(any::<u8>(), 0..30), 0..4), breaks in breaks()) {
        let mut datagram = Vec::new();
        for body in &bodies {
            Message::new(2, 0, body, &Attrs::new()).write(1, &mut datagram);
        }
        let bytes = broken(datagram, &breaks);
        if let Ok(found) = split(&bytes) {
            prop_assert!(found.iter().map(|(.., body)| body.len() + 16).sum::<usize>() <= bytes.len());
            prop_assert_eq!(found.is_empty(), bytes.is_empty());
        }
    }
}
