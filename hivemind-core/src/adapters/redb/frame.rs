//! How transactions and records look on disk: lengths, bytes, a checksum. No I/O, no clock, no async.
//!
//! Every frame carries the CRC-32 of itself and of the key under which it lies, so that a damaged or misplaced one is
//! never taken for a sound one.

use bytes::Bytes;

use crate::store::{Event, Key, Record, Revision};

/// The form of everything in the database: it changes only together with this. A newer one is refused.
pub(super) const SCHEMA: u64 = 1;

const PUT: u8 = 1;
const DELETE: u8 = 0;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("its checksum is wrong")]
    Checksum,
    #[error("it is cut short")]
    Short,
    #[error("it holds a key that is none, or an event of no kind")]
    Nonsense,
}

fn seal(under: &[u8], mut frame: Vec<u8>) -> Vec<u8> {
    let sum = checksum(under, &frame);
    frame.extend_from_slice(&sum.to_le_bytes());
    frame
}

fn unseal<'a>(under: &[u8], frame: &'a [u8]) -> Result<Reader<'a>, Damage> {
    let (body, sum) = frame.split_last_chunk().ok_or(Damage::Short)?;
    if checksum(under, body) != u32::from_le_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    Ok(Reader(body))
}

fn checksum(under: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(under);
    hasher.update(body);
    hasher.finalize()
}

/// Adds to `frame` the length of `bytes`, and `bytes`. The limits of the port keep lengths far below 4 GiB.
fn push(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let len = usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| Damage::Short)?;
        let (head, rest) = self.0.split_at_checked(len).ok_or(Damage::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn revision(&mut self) -> Result<Revision, Damage> {
        Ok(Revision::new(u64::from_le_bytes(self.array()?)))
    }

    fn end(self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err(Damage::Nonsense) }
    }
}

/// What the transaction `revision` did.
pub(super) fn encode_events(revision: Revision, events: &[Event]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64 * events.len() + 8);
    for event in events {
        match event {
            Event::Put(record) => {
                frame.push(PUT);
                push(&mut frame, record.key.as_bytes());
                frame.extend_from_slice(&record.create_revision.as_u64().to_le_bytes());
                push(&mut frame, &record.value);
            }
            Event::Delete(key) => {
                frame.push(DELETE);
                push(&mut frame, key.as_bytes());
            }
        }
    }
    seal(&revision.as_u64().to_le_bytes(), frame)
}

pub(super) fn decode_events(revision: Revision, frame: &[u8]) -> Result<Vec<Event>, Damage> {
    let mut reader = unseal(&revision.as_u64().to_le_bytes(), frame)?;
    let mut events = Vec::new();
    while !reader.0.is_empty() {
        let [kind] = reader.array()?;
        let key = Key::from_bytes(reader.bytes()?).map_err(|_| Damage::Nonsense)?;
        events.push(match kind {
            PUT => {
                let created = reader.revision()?;
                let value = Bytes::copy_from_slice(reader.bytes()?);
                Event::Put(Record::new(key, value, revision, created))
            }
            DELETE => Event::Delete(key),
            _ => return Err(Damage::Nonsense),
        });
    }
    Ok(events)
}

/// A record of the base, which lies under its key.
pub(super) fn encode_record(record: &Record) -> Vec<u8> {
    let mut frame = Vec::with_capacity(record.value.len() + 28);
    frame.extend_from_slice(&record.create_revision.as_u64().to_le_bytes());
    frame.extend_from_slice(&record.mod_revision.as_u64().to_le_bytes());
    push(&mut frame, &record.value);
    seal(record.key.as_bytes(), frame)
}

pub(super) fn decode_record(key: &[u8], frame: &[u8]) -> Result<Record, Damage> {
    let mut reader = unseal(key, frame)?;
    let (created, modified) = (reader.revision()?, reader.revision()?);
    let value = Bytes::copy_from_slice(reader.bytes()?);
    reader.end()?;
    Ok(Record::new(Key::from_bytes(key).map_err(|_| Damage::Nonsense)?, value, modified, created))
}

/// What a record adds to the sum over the base, by which a missing one is found.
pub(super) fn fingerprint(frame: &[u8]) -> u64 {
    frame.last_chunk().map_or(0, |sum| u64::from(u32::from_le_bytes(*sum)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = Event> {
        let key = prop::collection::vec(prop::collection::vec(1u8..47, 1..4), 1..3)
            .prop_map(|segments| Key::new(segments).unwrap());
        (key, prop::option::of((any::<u64>(), prop::collection::vec(any::<u8>(), 0..20)))).prop_map(
            |(key, put)| match put {
                Some((created, value)) => {
                    Event::Put(Record::new(key, value.into(), Revision::new(7), Revision::new(created)))
                }
                None => Event::Delete(key),
            },
        )
    }

    proptest! {
        #[test]
        fn frames_round_trip(events in prop::collection::vec(event(), 0..5)) {
            let frame = encode_events(Revision::new(7), &events);
            prop_assert_eq!(decode_events(Revision::new(7), &frame), Ok(events.clone()));
            prop_assert_eq!(decode_events(Revision::new(8), &frame), Err(Damage::Checksum));
            for event in events {
                if let Event::Put(record) = event {
                    let frame = encode_record(&record);
                    prop_assert_eq!(decode_record(record.key.as_bytes(), &frame), Ok(record));
                }
            }
        }

        #[test]
        fn any_flipped_bit_and_any_cut_is_found(
            events in prop::collection::vec(event(), 1..4), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let frame = encode_events(Revision::new(7), &events);
            let at = at.index(frame.len());
            let mut flipped = frame.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(decode_events(Revision::new(7), &flipped).is_err());
            prop_assert!(decode_events(Revision::new(7), &frame[..at]).is_err());
        }
    }

    #[test]
    fn the_form_of_schema_1_stays() {
        let key = Key::new(["a"]).unwrap();
        let put = Event::Put(Record::new(key.clone(), "x".into(), Revision::new(3), Revision::new(2)));
        let frame = encode_events(Revision::new(3), &[put, Event::Delete(key)]);
        let body = b"\x01\x01\0\0\0a\x02\0\0\0\0\0\0\0\x01\0\0\0x\0\x01\0\0\0a";
        assert_eq!(frame.split_last_chunk::<4>().unwrap().0, body);
    }
}
