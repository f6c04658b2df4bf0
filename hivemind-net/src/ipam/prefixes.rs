//! Free networks, of any length side by side: a buddy system. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::{Cidr, IpFamily};

/// The free networks of one family; what is given back joins its neighbour at once.
///
/// Taking a network takes the smallest free one that is large enough, and of these the first: large ones stay whole.
/// Each operation looks at most at one set per prefix length, at any number of networks; [`probes`](Self::probes)
/// counts, for tests.
///
/// ```
/// use hivemind_net::addr::IpFamily;
/// use hivemind_net::ipam::FreePrefixes;
///
/// let mut free = FreePrefixes::new(IpFamily::V6);
/// free.put("fd00::/48".parse()?);
/// let node = free.take(64).unwrap();
/// let region = free.take(56).unwrap();
/// assert_eq!((node.to_string(), region.to_string()), ("fd00::/64".into(), "fd00:0:0:100::/56".into()));
/// assert!(free.put(node) && free.put(region) && !free.put(node));
/// assert_eq!(free.prefixes().collect::<Vec<_>>(), ["fd00::/48".parse()?]);
/// # Ok::<(), hivemind_net::addr::InvalidAddress>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreePrefixes {
    family: IpFamily,
    /// The first numbers of the free networks, by prefix length. No two that are halves of one are both here.
    by_len: BTreeMap<u8, BTreeSet<u128>>,
    probes: u64,
}

impl FreePrefixes {
    /// None.
    pub fn new(family: IpFamily) -> Self {
        Self { family, by_len: BTreeMap::new(), probes: 0 }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_len.is_empty()
    }

    /// How many networks the free space falls into.
    pub fn fragments(&self) -> usize {
        self.by_len.values().map(BTreeSet::len).sum()
    }

    /// The free networks, the largest first.
    pub fn prefixes(&self) -> impl Iterator<Item = Cidr> {
        let of = |(len, firsts)| (std::iter::repeat(len), firsts);
        self.by_len
            .iter()
            .map(of)
            .flat_map(|(len, firsts): (std::iter::Repeat<&u8>, &BTreeSet<u128>)| len.zip(firsts))
            .filter_map(|(len, first)| Cidr::containing(self.family, *first, *len))
    }

    /// Takes a network of `len` bits; `None` if no free one is large enough, or the family has no such length.
    pub fn take(&mut self, len: u8) -> Option<Cidr> {
        if len > self.family.bits() {
            return None;
        }
        self.probes += 1;
        let (from, first) = self
            .by_len
            .range(..=len)
            .next_back()
            .and_then(|(from, firsts)| Some((*from, *firsts.first()?)))?;
        self.drop_free(from, first);
        self.keep_rest(from, first, len);
        Cidr::containing(self.family, first, len)
    }

    /// Takes this network; `false` if it is not wholly free.
    pub fn take_exactly(&mut self, cidr: Cidr) -> bool {
        let Some(around) = self.around(cidr) else { return false };
        self.drop_free(around.prefix_len(), around.first());
        self.keep_rest(around.prefix_len(), cidr.first(), cidr.prefix_len());
        true
    }

    /// Gives a network back; `false`, and nothing changes, if some of it is free already or it is of the other family.
    pub fn put(&mut self, cidr: Cidr) -> bool {
        if cidr.family() != self.family || self.around(cidr).is_some() || self.within(cidr) {
            return false;
        }
        let (mut first, mut len) = (cidr.first(), cidr.prefix_len());
        while let Some(wider) = len.checked_sub(1) {
            let buddy = first ^ self.bit(len);
            if !self.drop_free(len, buddy) {
                break;
            }
            first = first.min(buddy);
            len = wider;
        }
        self.by_len.entry(len).or_default().insert(first);
        true
    }

    /// How many look-ups all operations took.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    /// The bit that tells the halves apart of which a network of `len` bits is one; `len` is at least 1.
    fn bit(&self, len: u8) -> u128 {
        1u128.checked_shl(u32::from(self.family.bits().saturating_sub(len))).unwrap_or_default()
    }

    /// The free network that covers `cidr`.
    fn around(&mut self, cidr: Cidr) -> Option<Cidr> {
        if cidr.family() != self.family {
            return None;
        }
        let mut wider = self.by_len.range(..=cidr.prefix_len()).filter_map(|(len, firsts)| {
            let around = cidr.supernet(*len)?;
            firsts.contains(&around.first()).then_some(around)
        });
        self.probes += 1;
        wider.next()
    }

    /// Whether a free network lies in `cidr`.
    fn within(&mut self, cidr: Cidr) -> bool {
        self.probes += 1;
        self.by_len
            .range(cidr.prefix_len()..)
            .any(|(_, firsts)| firsts.range(cidr.first()..=cidr.last()).next().is_some())
    }

    fn drop_free(&mut self, len: u8, first: u128) -> bool {
        self.probes += 1;
        let Some(firsts) = self.by_len.get_mut(&len) else { return false };
        let there = firsts.remove(&first);
        if firsts.is_empty() {
            self.by_len.remove(&len);
        }
        there
    }

    /// Frees what is left of the network of `from` bits around `first` when its part of `len` bits is taken.
    fn keep_rest(&mut self, from: u8, first: u128, len: u8) {
        for half in (from..len).map(|half| half + 1) {
            self.probes += 1;
            let part = Cidr::containing(self.family, first, half).map_or(first, Cidr::first);
            let rest = part ^ self.bit(half);
            self.by_len.entry(half).or_default().insert(rest);
        }
    }
}
