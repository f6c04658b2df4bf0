//! The tenant tree, numbered so that "is below" is two comparisons. No I/O, no clock, no async.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use hivemind_core::TenantRef;

/// The place of a tenant in the order in which a walk from the roots comes by. The whole cluster is 0.
pub(super) type Place = u32;

pub(super) const CLUSTER: Place = 0;

/// One tenant in the tree.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) tenant: TenantRef,
    pub(super) parent: Place,
    /// One more than the place of the last tenant below.
    pub(super) end: Place,
    /// How far below the whole cluster, which is 0; a root is 1.
    pub(super) level: u32,
}

/// Every tenant that hangs together with a root. One whose parent is gone is not in it, nor what is below that.
#[derive(Debug, Default)]
pub(super) struct Tree {
    spots: Vec<Spot>,
    places: HashMap<TenantRef, Place, RandomState>,
}

impl Tree {
    /// The tree of tenants, each with its parent; the system tenant is added.
    pub(super) fn new(tenants: impl IntoIterator<Item = (TenantRef, Option<TenantRef>)>) -> Self {
        let mut below: BTreeMap<Option<TenantRef>, Vec<TenantRef>> = BTreeMap::new();
        for (tenant, parent) in tenants {
            if tenant != TenantRef::system() {
                below.entry(parent).or_default().push(tenant);
            }
        }
        below.entry(None).or_default().push(TenantRef::system());
        let mut tree = Self::default();
        tree.enter(TenantRef::system(), CLUSTER, 0);
        // A stack of its own: a tree may be deeper than the thread's stack.
        let mut open = vec![(CLUSTER, below.remove(&None).unwrap_or_default().into_iter())];
        while let Some((place, children)) = open.last_mut() {
            let place = *place;
            if let Some(child) = children.next() {
                let level = tree.spot(place).map_or(0, |up| up.level.saturating_add(1));
                let grandchildren = below.remove(&Some(child.clone())).unwrap_or_default();
                let entered = tree.enter(child, place, level);
                open.push((entered, grandchildren.into_iter()));
            } else {
                tree.leave(place);
                open.pop();
            }
        }
        tree
    }

    fn enter(&mut self, tenant: TenantRef, parent: Place, level: u32) -> Place {
        let place = Place::try_from(self.spots.len()).unwrap_or(Place::MAX);
        if place != CLUSTER {
            self.places.insert(tenant.clone(), place);
        }
        self.spots.push(Spot { tenant, parent, end: place.saturating_add(1), level });
        place
    }

    fn leave(&mut self, place: Place) {
        let end = Place::try_from(self.spots.len()).unwrap_or(Place::MAX);
        if let Some(spot) = self.spots.get_mut(place as usize) {
            spot.end = end;
        }
    }

    /// Where `tenant` of its generation is.
    pub(super) fn place(&self, tenant: &TenantRef) -> Option<Place> {
        self.places.get(tenant).copied()
    }

    pub(super) fn spot(&self, place: Place) -> Option<&Spot> {
        self.spots.get(place as usize)
    }

    /// One more than the last place below `place`.
    pub(super) fn end(&self, place: Place) -> Place {
        self.spot(place).map_or(place.saturating_add(1), |spot| spot.end)
    }

    /// Whether `place` is `above`, or below it.
    pub(super) fn is_within(&self, place: Place, above: Place) -> bool {
        above <= place && place < self.end(above)
    }

    /// Every tenant.
    pub(super) fn tenants(&self) -> impl Iterator<Item = (Place, &TenantRef)> {
        (0..).zip(&self.spots).skip(1).map(|(place, spot)| (place, &spot.tenant))
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::Generation;

    use super::*;

    fn tenant(name: &str) -> TenantRef {
        TenantRef::new(name.parse().unwrap(), Generation::from_u64(1))
    }

    #[test]
    fn below_is_an_interval_whatever_the_order() {
        let (a, b, c, d) = (tenant("a"), tenant("b"), tenant("c"), tenant("d"));
        let tree = Tree::new([
            (c.clone(), Some(b.clone())),
            (b.clone(), Some(a.clone())),
            (d.clone(), None),
            (a.clone(), None),
        ]);
        let at = |tenant| tree.place(tenant).unwrap();
        assert!(
            tree.is_within(at(&c), at(&a))
                && tree.is_within(at(&b), at(&a))
                && tree.is_within(at(&a), CLUSTER)
        );
        assert!(!tree.is_within(at(&d), at(&a)) && !tree.is_within(at(&a), at(&b)));
        assert_eq!(tree.spot(at(&c)).unwrap().level, 3);
    }

    #[test]
    fn what_hangs_on_nothing_or_on_itself_is_left_out() {
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let tree = Tree::new([
            (a.clone(), Some(tenant("gone"))),
            (b.clone(), Some(c.clone())),
            (c.clone(), Some(b.clone())),
        ]);
        assert_eq!((tree.place(&a), tree.place(&b), tree.place(&c)), (None, None, None));
        assert!(tree.place(&TenantRef::system()).is_some());
    }
}
