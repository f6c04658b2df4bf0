//! The tenant tree, numbered so that "is below" is two comparisons. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{Generation, TenantId, TenantRef};

use super::index::{Keyed, Seek, Table};

/// The number of a tenant, which it keeps however the tree changes. The whole cluster is 0.
pub(super) type Place = u32;

pub(super) const CLUSTER: Place = 0;

/// Where a tenant is in the tree.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// When a walk from the roots comes by; never, if it hangs on nothing.
    entered: u32,
    /// When the walk has left it and all below.
    left: u32,
    parent: Place,
    /// How far below the whole cluster, which is 0; a root is 1.
    level: u32,
}

const NOWHERE: Spot = Spot { entered: u32::MAX, left: 0, parent: CLUSTER, level: 0 };

/// What is found under a tenant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    place: Place,
    /// Whether it exists, so that a look at its spot is spared: that would be one more wait for memory.
    there: bool,
}

impl Named {
    /// The number, if the tenant exists and hangs together with a root.
    pub(super) fn there(self) -> Option<Place> {
        self.there.then_some(self.place)
    }
}

/// Every tenant, and those that are spoken of. One whose parent is gone is nowhere, and so is what is below that.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    spots: Vec<Spot>,
    tenants: Vec<TenantRef>,
    places: Table<u64, Named>,
    /// What `places` says of each.
    there: Vec<bool>,
    parents: BTreeMap<TenantRef, Option<TenantRef>>,
}

impl Tree {
    /// The tree of tenants, each with its parent; the system tenant is added.
    pub(super) fn new(
        keyed: Keyed,
        tenants: impl IntoIterator<Item = (TenantRef, Option<TenantRef>)>,
    ) -> Self {
        let mut parents: BTreeMap<_, _> = tenants.into_iter().collect();
        parents.insert(TenantRef::system(), None);
        // The whole cluster has a number and no name.
        let tenants: Vec<_> = std::iter::once(TenantRef::system()).chain(parents.keys().cloned()).collect();
        let named = (0..).zip(&tenants).skip(1);
        let named = named.map(|(place, tenant)| {
            (tenant.generation.as_u64(), tenant.id.as_str(), Named { place, there: true })
        });
        let places = Table::new(keyed, named, |mut values| values.pop());
        let there = vec![true; tenants.len()];
        let mut tree = Self { spots: Vec::new(), tenants, places, there, parents };
        tree.walk();
        tree
    }

    /// Puts each tenant below its parent, in place of one of that name, or takes the one of that name away. All keep
    /// their numbers.
    pub(super) fn change(
        &mut self,
        changes: impl IntoIterator<Item = (TenantId, Option<(TenantRef, Option<TenantRef>)>)>,
    ) {
        for (id, tenant) in changes {
            let system = TenantRef::system();
            if id == system.id {
                continue;
            }
            let first = TenantRef::new(id.clone(), Generation::from_u64(0));
            let of_name: Vec<_> = self
                .parents
                .range(first..)
                .map(|(tenant, _)| tenant.clone())
                .take_while(|one| one.id == id)
                .collect();
            for one in of_name {
                self.parents.remove(&one);
            }
            if let Some((tenant, parent)) = tenant {
                self.number(&tenant);
                self.parents.insert(tenant, parent);
            }
        }
        self.walk();
    }

    /// Gives `tenant` a number if it has none, whether it exists or not.
    pub(super) fn number(&mut self, tenant: &TenantRef) {
        if self.known(tenant).is_some() {
            return;
        }
        let place = Place::try_from(self.tenants.len()).unwrap_or(Place::MAX);
        self.tenants.push(tenant.clone());
        self.spots.push(NOWHERE);
        self.there.push(false);
        let named = Named { place, there: false };
        self.places.set_all([(tenant.generation.as_u64(), tenant.id.as_str(), Some(named))]);
    }

    /// Where the number of `tenant` is to be looked for.
    pub(super) fn seek<'n>(&self, tenant: &'n TenantRef) -> Seek<'_, 'n, u64, Named> {
        self.places.seek(tenant.generation.as_u64(), tenant.id.as_str())
    }

    /// The number of `tenant` if it has one, whether it exists or not.
    pub(super) fn known(&self, tenant: &TenantRef) -> Option<Place> {
        self.seek(tenant).get().map(|named| named.place)
    }

    /// Puts every tenant at its spot.
    fn walk(&mut self) {
        let mut below: BTreeMap<Option<&TenantRef>, Vec<&TenantRef>> = BTreeMap::new();
        for (tenant, parent) in &self.parents {
            below.entry(parent.as_ref()).or_default().push(tenant);
        }
        let mut spots = vec![NOWHERE; self.tenants.len()];
        let mut time = 0_u32;
        // A stack of its own: a tree may be deeper than the thread's stack.
        let mut open = vec![(CLUSTER, below.remove(&None).unwrap_or_default().into_iter())];
        if let Some(spot) = spots.first_mut() {
            *spot = Spot { entered: time, left: u32::MAX, parent: CLUSTER, level: 0 };
        }
        while let Some((parent, children)) = open.last_mut() {
            let parent = *parent;
            if let Some(child) = children.next() {
                let place = self.known(child).unwrap_or(Place::MAX);
                let level = spots.get(parent as usize).map_or(0, |up| up.level.saturating_add(1));
                time = time.saturating_add(1);
                if let Some(spot) = spots.get_mut(place as usize) {
                    *spot = Spot { entered: time, left: u32::MAX, parent, level };
                }
                open.push((place, below.remove(&Some(child)).unwrap_or_default().into_iter()));
            } else {
                if let Some(spot) = spots.get_mut(parent as usize) {
                    spot.left = time.saturating_add(1);
                }
                open.pop();
            }
        }
        self.spots = spots;
        self.mark();
    }

    /// Writes beside each name whether the tenant is there now.
    fn mark(&mut self) {
        let Self { spots, tenants, places, there, .. } = self;
        let all = (0..).zip(tenants.iter().zip(spots.iter()).zip(there.iter_mut())).skip(1);
        let changed = all.filter_map(|(place, ((tenant, spot), marked))| {
            let there = spot.entered != NOWHERE.entered;
            (std::mem::replace(marked, there) != there).then_some((
                tenant.generation.as_u64(),
                tenant.id.as_str(),
                Some(Named { place, there }),
            ))
        });
        let changed: Vec<_> = changed.collect();
        places.set_all(changed);
    }

    fn spot(&self, place: Place) -> Spot {
        self.spots.get(place as usize).copied().unwrap_or(NOWHERE)
    }

    /// Where `tenant` of its generation is, if it exists and hangs together with a root.
    pub(super) fn place(&self, tenant: &TenantRef) -> Option<Place> {
        self.seek(tenant).get().and_then(|named| named.there())
    }

    pub(super) fn is_there(&self, place: Place) -> bool {
        self.is_within(place, CLUSTER)
    }

    /// Whether `place` is `above`, or below it. What is nowhere is below nothing.
    pub(super) fn is_within(&self, place: Place, above: Place) -> bool {
        let (at, above) = (self.spot(place).entered, self.spot(above));
        above.entered <= at && at < above.left
    }

    /// How far `place` is below the whole cluster.
    pub(super) fn level(&self, place: Place) -> u32 {
        self.spot(place).level
    }

    pub(super) fn parent(&self, place: Place) -> Place {
        self.spot(place).parent
    }

    /// The tenant at `place`; none for the whole cluster.
    pub(super) fn tenant(&self, place: Place) -> Option<&TenantRef> {
        if place == CLUSTER { None } else { self.tenants.get(place as usize) }
    }

    /// Every tenant that exists, in order.
    pub(super) fn tenants(&self) -> impl Iterator<Item = (Place, &TenantRef)> {
        self.parents.keys().filter_map(|tenant| Some((self.place(tenant)?, tenant)))
    }

    /// Whether a tenant of that name exists, of whatever generation.
    pub(super) fn has_named(&self, id: &TenantId) -> bool {
        self.tenants().any(|(_, tenant)| tenant.id == *id)
    }

    /// Each tenant with its parent.
    pub(super) fn parents(&self) -> impl Iterator<Item = (TenantRef, Option<TenantRef>)> {
        self.parents.iter().map(|(tenant, parent)| (tenant.clone(), parent.clone()))
    }

    /// How many numbers there are.
    pub(super) fn len(&self) -> usize {
        self.tenants.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantRef {
        TenantRef::new(name.parse().unwrap(), Generation::from_u64(1))
    }

    #[test]
    fn below_is_an_interval_whatever_the_order() {
        let (a, b, c, d) = (tenant("a"), tenant("b"), tenant("c"), tenant("d"));
        let tree = Tree::new(
            Keyed::new(),
            [
                (c.clone(), Some(b.clone())),
                (b.clone(), Some(a.clone())),
                (d.clone(), None),
                (a.clone(), None),
            ],
        );
        let at = |tenant| tree.place(tenant).unwrap();
        assert!(
            tree.is_within(at(&c), at(&a))
                && tree.is_within(at(&b), at(&a))
                && tree.is_within(at(&a), CLUSTER)
        );
        assert!(!tree.is_within(at(&d), at(&a)) && !tree.is_within(at(&a), at(&b)));
        assert_eq!(tree.level(at(&c)), 3);
    }

    #[test]
    fn what_hangs_on_nothing_or_on_itself_is_left_out() {
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let tree = Tree::new(
            Keyed::new(),
            [(a.clone(), Some(tenant("gone"))), (b.clone(), Some(c.clone())), (c.clone(), Some(b.clone()))],
        );
        assert_eq!((tree.place(&a), tree.place(&b), tree.place(&c)), (None, None, None));
        assert!(tree.place(&TenantRef::system()).is_some());
    }

    #[test]
    fn a_tenant_keeps_its_number_however_the_tree_changes() {
        let (a, b, c) = (tenant("a"), tenant("b"), tenant("c"));
        let mut tree = Tree::new(Keyed::new(), [(a.clone(), None), (b.clone(), Some(a.clone()))]);
        let (at_a, at_b) = (tree.place(&a).unwrap(), tree.place(&b).unwrap());
        let put = |tenant: &TenantRef, parent| (tenant.id.clone(), Some((tenant.clone(), parent)));
        tree.change([put(&c, None), put(&b, Some(c.clone()))]);
        let at_c = tree.place(&c).unwrap();
        assert_eq!((tree.place(&a), tree.place(&b)), (Some(at_a), Some(at_b)));
        assert!(tree.is_within(at_b, at_c) && !tree.is_within(at_b, at_a));
        tree.change([(c.id.clone(), None)]);
        assert_eq!((tree.place(&b), tree.place(&c), tree.known(&b)), (None, None, Some(at_b)));
        let spot_says = |tenant: &TenantRef| tree.known(tenant).filter(|place| tree.is_there(*place));
        assert!([&a, &b, &c].into_iter().all(|one| tree.place(one) == spot_says(one)));
        assert!(!tree.is_within(at_b, CLUSTER) && !tree.is_within(at_b, at_b) && tree.is_there(at_a));
    }
}
