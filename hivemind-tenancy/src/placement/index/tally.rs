//! Numbers by place, most of which are zero. No I/O, no clock, no async.

/// So many places are kept in a list; more have a number each.
const FEW: usize = 48;

/// How many there are in each place. A service of ten takes the room of ten, however many nodes there are.
#[derive(Debug, Clone)]
pub(super) enum Tally {
    /// Those that are not zero, in the order of places.
    Few(Vec<(u32, u32)>),
    /// By place.
    Many(Vec<u32>),
}

impl Default for Tally {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Tally {
    pub(super) fn at(&self, place: usize) -> u64 {
        match self {
            Self::Few(few) => {
                let place = short(place);
                let at = few.partition_point(|(one, _)| *one < place);
                few.get(at).filter(|(one, _)| *one == place).map_or(0, |(_, count)| u64::from(*count))
            }
            Self::Many(many) => many.get(place).map_or(0, |count| u64::from(*count)),
        }
    }

    /// One more there, or one less.
    pub(super) fn change(&mut self, place: usize, more: bool) {
        match self {
            Self::Few(few) => {
                let here = short(place);
                let at = few.partition_point(|(one, _)| *one < here);
                let full = few.len() >= FEW;
                match few.get_mut(at).filter(|(one, _)| *one == here) {
                    Some((_, count)) if more => *count = count.saturating_add(1),
                    Some((_, 1)) => drop(few.remove(at)),
                    Some((_, count)) => *count = count.saturating_sub(1),
                    None if more && !full => few.insert(at, (here, 1)),
                    None if more => {
                        let few = std::mem::take(few);
                        *self = Self::Many(Vec::new());
                        self.change(place, true);
                        for (one, count) in few {
                            (0..count).for_each(|_| self.change(one as usize, true));
                        }
                    }
                    None => {}
                }
            }
            Self::Many(many) => {
                if place >= many.len() {
                    many.resize(place + 1, 0);
                }
                if let Some(count) = many.get_mut(place) {
                    *count = if more { count.saturating_add(1) } else { count.saturating_sub(1) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map, across the change from a list to a number for each.
        #[test]
        fn counts_as_a_map_does(steps in prop::collection::vec((0usize..90, 0u8..3), 0..300)) {
            let (mut tally, mut model) = (Tally::default(), BTreeMap::<usize, u64>::new());
            for (place, kind) in steps {
                let count = model.entry(place).or_default();
                // What is not there is not taken away.
                let more = kind > 0 || *count == 0;
                *count = if more { *count + 1 } else { *count - 1 };
                tally.change(place, more);
            }
            for place in 0..100 {
                prop_assert_eq!(tally.at(place), model.get(&place).copied().unwrap_or_default());
            }
        }
    }
}
