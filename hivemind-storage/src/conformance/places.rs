//! Where volumes are, and how much room there is.

use hivemind_core::ErrorKind;
use hivemind_core::resources::ByteSize;

use super::support::*;
use super::{Fixture, Need};
use crate::{Capability, CapacityQuery, Topology, TopologyRequirement};

const PLACED: Need = Need::Capability(Capability::Topology);
const CAPACITY: Need = Need::Capability(Capability::Capacity);

cases! {
    a_volume_is_in_the_place_asked_for needs [PLACED, Need::Places],
    a_volume_is_in_the_preferred_place needs [PLACED, Need::Places],
    a_volume_without_demands_says_where_it_is needs [PLACED, Need::Places],
    a_place_that_does_not_exist_is_refused needs [PLACED],
    a_volume_is_made_once_wherever_it_is_asked_for needs [PLACED, Need::Places],
    capacity_is_told needs [CAPACITY],
    capacity_does_not_grow_by_a_volume needs [CAPACITY],
    capacity_bounds_agree needs [CAPACITY],
    capacity_of_what_cannot_be_made_is_refused needs [CAPACITY],
    capacity_of_a_place_that_does_not_exist_is_none needs [CAPACITY, PLACED],
    more_than_there_is_room_for_is_refused needs [CAPACITY],
    growing_beyond_the_room_is_refused needs [CAPACITY, EXPAND],
}

fn place(f: &Fixture, nth: usize) -> Outcome<&Topology> {
    let places = f.places.as_ref().ok_or_else(|| Why("there are no places".to_owned()))?;
    places.get(nth).ok_or_else(|| Why("there is no such place".to_owned()))
}

fn unknown_place() -> Topology {
    Topology::everywhere().with("conformance.example/nowhere", "at-all")
}

/// Whether a node in `place` reaches what is in one of `topology`.
fn reached(topology: &[Topology], place: &Topology) -> bool {
    topology.is_empty() || topology.iter().any(|of| of.covers(place))
}

async fn a_volume_is_in_the_place_asked_for(f: Fixture) -> Outcome {
    for nth in [0, 1] {
        let wish = f.wish(&ours(&format!("data-{nth}"))?);
        let here = TopologyRequirement::new(vec![place(&f, nth)?.clone()], vec![]);
        let made = f.make(&wish.with_topology(here)).await?;
        check(reached(&made.topology, place(&f, nth)?), "it cannot be reached from the place asked for")?;
    }
    Ok(())
}

async fn a_volume_is_in_the_preferred_place(f: Fixture) -> Outcome {
    let both = vec![place(&f, 0)?.clone(), place(&f, 1)?.clone()];
    for nth in [0, 1] {
        let wish = f.wish(&ours(&format!("data-{nth}"))?);
        let best = TopologyRequirement::new(both.clone(), vec![place(&f, nth)?.clone()]);
        let made = f.make(&wish.with_topology(best)).await?;
        check(reached(&made.topology, place(&f, nth)?), "it is not in the preferred place")?;
    }
    Ok(())
}

async fn a_volume_without_demands_says_where_it_is(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    check(!made.topology.is_empty(), "it has places, and does not say in which the volume is")?;
    check(f.create(&ours("data")?).await? == made, "it says something else the second time")
}

async fn a_place_that_does_not_exist_is_refused(f: Fixture) -> Outcome {
    let nowhere = TopologyRequirement::new(vec![unknown_place()], vec![]);
    f.refuses(&f.wish(&ours("data")?).with_topology(nowhere), &[ErrorKind::Exhausted]).await
}

async fn a_volume_is_made_once_wherever_it_is_asked_for(f: Fixture) -> Outcome {
    let at = |nth| Ok::<_, Why>(TopologyRequirement::new(vec![place(&f, nth)?.clone()], vec![]));
    let first = f.make(&f.wish(&ours("data")?).with_topology(at(0)?)).await?;
    match f.make(&f.wish(&ours("data")?).with_topology(at(1)?)).await {
        Ok(again) => check(again == first, "one key has two volumes, in two places")?,
        Err(e) => check(e.kind() == ErrorKind::AlreadyExists, "it is refused for another reason")?,
    }
    check(f.count().await? == 1, "one key has two volumes, in two places")
}

fn query(f: &Fixture) -> CapacityQuery {
    CapacityQuery::new(f.options(), Topology::everywhere())
}

async fn capacity_is_told(f: Fixture) -> Outcome {
    let capacity = f.provider.get_capacity(&query(&f)).await?;
    check(capacity.available >= f.size.required(), "it has room for a volume, and says that it has none")
}

async fn capacity_does_not_grow_by_a_volume(f: Fixture) -> Outcome {
    let before = f.provider.get_capacity(&query(&f)).await?.available;
    let volume = f.volume("data").await?;
    let during = f.provider.get_capacity(&query(&f)).await?.available;
    check(during <= before, "there is more room with a volume than without")?;
    f.delete(&volume).await?;
    check(f.provider.get_capacity(&query(&f)).await?.available >= during, "deleting made less room")
}

async fn capacity_bounds_agree(f: Fixture) -> Outcome {
    let capacity = f.provider.get_capacity(&query(&f)).await?;
    let largest = capacity.largest.unwrap_or(capacity.available);
    check(capacity.smallest.is_none_or(|smallest| smallest <= largest), "the smallest is beyond the largest")
}

async fn capacity_of_what_cannot_be_made_is_refused(f: Fixture) -> Outcome {
    let none = CapacityQuery::new(f.options().with_access_modes([]), Topology::everywhere());
    refused(f.provider.get_capacity(&none).await, ErrorKind::Invalid)
}

async fn capacity_of_a_place_that_does_not_exist_is_none(f: Fixture) -> Outcome {
    let there = CapacityQuery::new(f.options(), unknown_place());
    let room = f.provider.get_capacity(&there).await?.available;
    check(room == ByteSize::ZERO, "there is room in a place that does not exist")
}

/// Just too much; `None` if there is room for whatever can be asked for.
async fn too_much(f: &Fixture) -> Outcome<Option<ByteSize>> {
    let capacity = f.provider.get_capacity(&query(f)).await?;
    let most = capacity.largest.unwrap_or(capacity.available);
    // Twice as much: on a shared disk, others give room back at any time.
    Ok(most.checked_add(most).and_then(|twice| twice.checked_add(ByteSize::from_bytes(1))))
}

async fn more_than_there_is_room_for_is_refused(f: Fixture) -> Outcome {
    let Some(too_much) = too_much(&f).await? else { return Ok(()) };
    let mut wish = f.wish(&ours("data")?);
    wish.size = at_least(too_much)?;
    f.refuses(&wish, &[ErrorKind::Exhausted, ErrorKind::Invalid]).await
}

async fn growing_beyond_the_room_is_refused(f: Fixture) -> Outcome {
    let made = f.create(&ours("data")?).await?;
    let Some(too_much) = too_much(&f).await?.and_then(|more| more.checked_add(made.size)) else {
        return Ok(());
    };
    let grown = f.expand(&made.volume, at_least(too_much)?).await;
    refused_as(grown, &[ErrorKind::Exhausted, ErrorKind::Invalid])?;
    check(f.status(&made.volume).await?.size == made.size, "it grew, although it was refused")
}
