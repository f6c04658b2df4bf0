//! A batch as it is stored: what its reservations have in common is said once. No I/O, no clock, no async.
//!
//! One row for each reservation: its id; an amount of each of `resources`, in base units; by number who asked (0 is
//! nobody, 1 the first of `owners`) and with which attributes, bounded by demands or not; and the deadline in nanoseconds while it is only held.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::{Principal, ReservationId, Timestamp};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

use super::Batch;
use crate::quota::RequestAttributes;
use crate::quota::ledger::{Reservation, ReservationState};

#[derive(Serialize)]
struct Written<'a> {
    resources: &'a [ResourceName],
    owners: Vec<&'a Principal>,
    attributes: Vec<(&'a RequestAttributes, bool)>,
    rows: Vec<WrittenRow<'a>>,
}

#[derive(Serialize)]
struct WrittenRow<'a>(&'a ReservationId, Amounts<'a>, usize, usize, Option<u64>);

struct Amounts<'a> {
    names: &'a [ResourceName],
    of: &'a Resources,
}

impl Serialize for Amounts<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.names.iter().map(|name| self.of.amount(name)))
    }
}

/// The place of `one` in `all`, where it is put if it is not there. Neighbours are mostly alike.
fn place<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    let known = all.iter().rposition(|known| *known == one);
    known.unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut names: BTreeSet<ResourceName> = BTreeSet::new();
        let mut last: Option<&Resources> = None;
        for Reservation { amount, .. } in self.reservations.values() {
            if last.replace(amount) != Some(amount) {
                names.extend(amount.iter().map(|(name, _)| name));
            }
        }
        let names: Vec<_> = names.into_iter().collect();
        let (mut owners, mut attributes) = (Vec::new(), Vec::new());
        let mut rows = Vec::with_capacity(self.reservations.len());
        for (id, one) in &self.reservations {
            if one.slice.is_some() {
                return Err(S::Error::custom("a slice of a node has a record of its own"));
            }
            let owner = one.owner.as_ref().map_or(0, |owner| 1 + place(&mut owners, owner));
            let deadline = match one.state {
                ReservationState::Reserved { deadline } => Some(deadline.as_nanos()),
                ReservationState::Committed => None,
            };
            let amounts = Amounts { names: &names, of: &one.amount };
            let with = place(&mut attributes, (&one.attributes, one.bounded));
            rows.push(WrittenRow(id, amounts, owner, with, deadline));
        }
        Written { resources: &names, owners, attributes, rows }.serialize(out)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    resources: Vec<ResourceName>,
    owners: Vec<Principal>,
    attributes: Vec<(RequestAttributes, bool)>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row(ReservationId, Vec<u64>, usize, usize, Option<u64>);

/// A row says what the rest of the batch does not know.
#[derive(Debug, thiserror::Error)]
#[error("reservation {id} of a batch {what}")]
pub(super) struct Incoherent {
    id: ReservationId,
    what: &'static str,
}

impl TryFrom<Wire> for Batch {
    type Error = Incoherent;
    fn try_from(wire: Wire) -> Result<Self, Incoherent> {
        let Wire { resources, owners, attributes, rows } = wire;
        let mut reservations = BTreeMap::new();
        for Row(id, amounts, owner, with, deadline) in rows {
            let broken = |what| Incoherent { id: id.clone(), what };
            if amounts.len() != resources.len() {
                return Err(broken("has not one amount for each resource"));
            }
            let owner = match owner.checked_sub(1) {
                None => None,
                Some(known) => {
                    Some(owners.get(known).ok_or_else(|| broken("is of an owner who is not listed"))?)
                }
            };
            let (attributes, bounded) =
                attributes.get(with).ok_or_else(|| broken("has attributes that are not listed"))?;
            let amount = resources.iter().zip(amounts);
            let one = Reservation {
                amount: amount.fold(Resources::new(), |sum, (name, amount)| sum.with(name.clone(), amount)),
                state: deadline.map_or(ReservationState::Committed, |nanos| ReservationState::Reserved {
                    deadline: Timestamp::from_nanos(nanos),
                }),
                owner: owner.cloned(),
                attributes: attributes.clone(),
                bounded: *bounded,
                slice: None,
            };
            let twice = broken("is there twice");
            if reservations.insert(id, one).is_some() {
                return Err(twice);
            }
        }
        Ok(Self { reservations })
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::store::Key;
    use proptest::prelude::*;

    use super::*;

    fn reservation() -> impl Strategy<Value = Reservation> {
        let amounts = (0..4u64, 0..4u64, 0..3u64, any::<u64>());
        let owner = proptest::option::of(0..3);
        (amounts, owner, -1..2i32, proptest::option::of(any::<u64>()), any::<bool>()).prop_map(
            |((cpu, memory, gpu, seats), owner, priority, deadline, bounded)| Reservation {
                amount: Resources::new()
                    .with(ResourceName::Cpu, cpu)
                    .with(ResourceName::Memory, memory)
                    .with("nvidia.com/gpu".parse().unwrap(), gpu)
                    .with("seats".parse().unwrap(), seats),
                state: deadline.map_or(ReservationState::Committed, |at| ReservationState::Reserved {
                    deadline: Timestamp::from_nanos(at),
                }),
                owner: owner.map(|n| Principal::User(format!("user-{n}").parse().unwrap())),
                attributes: RequestAttributes::new("pod").with_priority(priority),
                bounded,
                slice: None,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(all in proptest::collection::vec(reservation(), 0..9)) {
            let named = |(n, one): (usize, Reservation)| (format!("r-{n}").parse().unwrap(), one);
            let batch = Batch { reservations: all.into_iter().enumerate().map(named).collect() };
            let written = hivemind_core::encode(&batch).unwrap();
            let key = Key::new(["batch"]).unwrap();
            prop_assert_eq!(hivemind_core::decode::<Batch>(&key, &written).unwrap(), batch);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let read = |rows: &str| {
            let json = format!(
                r#"{{"resources":["cpu"],"owners":[{{"user":"ada"}}],"attributes":[[{{}},false]],"rows":[{rows}]}}"#
            );
            serde_json::from_str::<Batch>(&json).map_err(|e| e.to_string())
        };
        assert!(read(r#"["a",[5],1,0,null],["b",[5],0,0,9]"#).is_ok());
        for (rows, why) in [
            (r#"["a",[],1,0,null]"#, "one amount"),
            (r#"["a",[5],2,0,null]"#, "owner"),
            (r#"["a",[5],1,1,null]"#, "attributes"),
            (r#"["a",[5],1,0,null],["a",[5],1,0,null]"#, "twice"),
            (r#"["a",[-5],1,0,null]"#, "invalid"),
        ] {
            assert!(read(rows).unwrap_err().contains(why), "{rows}");
        }
    }
}
