//! In which places a new volume goes, by CSI's rules. No I/O, no clock, no async.

use crate::{Topology, TopologyRequirement};

/// The places of a new volume that is to be in `count` of those `offered`; `None` if the requirement cannot be met.
///
/// As the CSI specification says for `TopologyRequirement`: the preferred places come first, in their order; then the
/// other requisite ones; and once the volume is in all of those, any other place that is offered. At least one place is
/// a requisite one, if there are any; that nothing preferred is offered alone refuses nothing. Fewer than `count` are chosen if no more are offered, but never none.
pub fn choose(
    requirement: &TopologyRequirement,
    offered: &[Topology],
    count: usize,
) -> Option<Vec<Topology>> {
    let wanted = requirement.preferred.iter().chain(&requirement.requisite);
    let mut chosen: Vec<Topology> = Vec::new();
    for wish in wanted {
        // A place serves a wish if whoever is in the one is in the other: the wish may say more or less than we offer.
        let serves = |place: &&Topology| place.covers(wish) || wish.covers(place);
        if let Some(place) = offered.iter().find(|place| serves(place) && !chosen.contains(place)) {
            chosen.push(place.clone());
        }
    }
    chosen.extend(offered.iter().filter(|place| !chosen.contains(place)).cloned().collect::<Vec<_>>());
    chosen.truncate(count.max(1));
    let requisite =
        |place: &Topology| requirement.requisite.iter().any(|wish| place.covers(wish) || wish.covers(place));
    let kept = requirement.requisite.is_empty() || chosen.iter().any(requisite);
    (kept && !chosen.is_empty()).then_some(chosen)
}

/// The places that are in one of `these` and in one of `those`; nothing of either is everywhere. `None` if there are none.
pub(crate) fn narrow(these: &[Topology], those: &[Topology]) -> Option<Vec<Topology>> {
    if these.is_empty() || those.is_empty() {
        return Some(these.iter().chain(those).cloned().collect());
    }
    let both = |one: &Topology, other: &Topology| {
        let (mine, theirs) = (one.segments(), other.segments());
        let agree = mine.iter().all(|(key, value)| theirs.get(key).is_none_or(|other| other == value));
        agree.then(|| mine.iter().chain(theirs).map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    let mut found: Vec<Topology> = Vec::new();
    for place in these.iter().flat_map(|one| those.iter().filter_map(move |other| both(one, other))) {
        if !found.contains(&place) {
            found.push(place);
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Whether all of a volume that is in `places` is in one of those that are `allowed`: of which none is everywhere.
pub(crate) fn is_allowed(places: &[Topology], allowed: &[Topology]) -> bool {
    let inside = |place: &Topology| allowed.iter().any(|allowed| allowed.covers(place));
    allowed.is_empty() || (!places.is_empty() && places.iter().all(inside))
}

/// The first place of each value that `segment` has, in their order.
pub(crate) fn apart<'a>(places: &'a [Topology], segment: &str) -> Vec<&'a Topology> {
    let mut seen = std::collections::BTreeSet::new();
    places
        .iter()
        .filter(|place| place.segments().get(segment).is_some_and(|value| seen.insert(value.as_str())))
        .collect()
}

/// Places as text.
pub(crate) fn in_words(places: &[Topology]) -> String {
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Topology {
        Topology::everywhere().with("region", "r1").with("zone", name)
    }

    fn zones(names: &[&str]) -> Vec<Topology> {
        names.iter().map(|name| zone(name)).collect()
    }

    fn chosen(
        requisite: &[&str],
        preferred: &[&str],
        offered: &[&str],
        count: usize,
    ) -> Option<Vec<Topology>> {
        choose(&TopologyRequirement::new(zones(requisite), zones(preferred)), &zones(offered), count)
    }

    #[test]
    fn the_worked_examples_of_the_specification() {
        let all = ["z1", "z2", "z3", "z4", "z5"];
        // One zone, one requisite: that one.
        assert_eq!(chosen(&["z2"], &[], &all, 1), Some(zones(&["z2"])));
        // One zone of several requisite: the first preferred.
        assert_eq!(chosen(&["z2", "z3"], &["z3"], &all, 1), Some(zones(&["z3"])));
        assert_eq!(chosen(&["z2", "z3", "z4", "z5"], &["z4", "z2"], &all, 1), Some(zones(&["z4"])));
        // Preferred ones that cannot be served are passed over, in their order.
        assert_eq!(chosen(&["z2", "z3", "z4"], &["z4", "z3"], &["z3", "z2"], 1), Some(zones(&["z3"])));
        // Two zones of three requisite: by preference.
        assert_eq!(chosen(&["z3", "z4", "z5"], &["z5", "z3"], &all, 2), Some(zones(&["z5", "z3"])));
        // More zones than requisite: all of those, and any other.
        assert_eq!(chosen(&["z3"], &[], &all, 2), Some(zones(&["z3", "z1"])));
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        assert_eq!(chosen(&["z9"], &[], &["z1"], 1), None);
        assert_eq!(chosen(&[], &[], &[], 1), None);
        assert_eq!(chosen(&[], &[], &["z1", "z2"], 1), Some(zones(&["z1"])));
    }
}
