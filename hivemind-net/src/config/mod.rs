//! How a tenant's network is laid out. No I/O, no clock, no async.

mod error;
mod family;
mod raw;
#[cfg(test)]
mod tests;
mod ula;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hivemind_core::PoolName;
use hivemind_core::labels::Selector;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use self::error::InvalidConfig;
pub use self::family::FamilyConfig;
use self::raw::Raw;
pub use self::ula::unique_local;
use crate::addr::{AddressRange, Cidr, IpFamily};
use crate::ipam::{FreeRanges, Layout, Profile, Strategy};

/// How long an address rests after it was given back, unless told otherwise: what AWS keeps in memory.
const COOLDOWN: Duration = Duration::from_secs(30);
/// The most excluded, and the most reserved, ranges.
const RANGES: usize = 256;

/// A pool of addresses of a tenant: its networks, and how they are given out.
///
/// Checked whenever it is built or changed; IPv4 alone, IPv6 alone, or both. Another name makes another pool.
///
/// ```
/// use hivemind_net::NetworkConfig;
/// use hivemind_net::addr::IpFamily;
///
/// let config = NetworkConfig::with_unique_local("10.0.0.0/16".parse()?, 7)?.node_prefix(IpFamily::V4, 24)?;
/// assert_eq!(config.family(IpFamily::V4).map(|v4| v4.node_prefix()), Some(24));
/// assert_eq!(config.family(IpFamily::V6).map(|v6| v6.node_prefix()), Some(64));
/// let error = NetworkConfig::v4_only("10.0.0.1/16".parse()?).unwrap_err();
/// assert_eq!(error.to_string(), "10.0.0.1/16 has host bits set: its network is 10.0.0.0/16");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct NetworkConfig {
    name: PoolName,
    v4: Option<FamilyConfig>,
    v6: Option<FamilyConfig>,
    excluded: Vec<AddressRange>,
    reserved: Vec<AddressRange>,
    options: PoolOptions,
}

/// How the addresses of a pool are given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PoolOptions {
    /// What node subnets are used for.
    pub profile: Profile,
    /// Which free address is given out.
    pub strategy: Strategy,
    /// How long an address rests after it was given back.
    pub cooldown: Duration,
    /// Whether the lower addresses of each subnet are given out last, for those who ask for one by name.
    pub static_band: bool,
    /// Whether a workload gets addresses of its own node's subnets only, and never of another's.
    pub strict_affinity: bool,
    /// The most subnets of each family that a node gets.
    pub max_subnets_per_node: Option<u32>,
    /// Which nodes the pool is for, by their labels.
    pub nodes: Selector,
    /// Which pool is tried first: the lowest.
    pub order: u32,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            strategy: Strategy::default(),
            cooldown: COOLDOWN,
            static_band: false,
            strict_affinity: false,
            max_subnets_per_node: None,
            nodes: Selector::everything(),
            order: 0,
        }
    }
}

impl NetworkConfig {
    /// Both families. A pool that is smaller than the usual node subnet goes to one node whole.
    ///
    /// # Errors
    /// [`InvalidConfig`] says what is wrong with which network.
    pub fn dual_stack(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, InvalidConfig> {
        Self::of(Some(v4.into()), Some(v6.into()))
    }

    /// IPv4 alone.
    ///
    /// # Errors
    /// As [`dual_stack`](Self::dual_stack).
    pub fn v4_only(v4: Ipv4Net) -> Result<Self, InvalidConfig> {
        Self::of(Some(v4.into()), None)
    }

    /// IPv6 alone.
    ///
    /// # Errors
    /// As [`dual_stack`](Self::dual_stack).
    pub fn v6_only(v6: Ipv6Net) -> Result<Self, InvalidConfig> {
        Self::of(None, Some(v6.into()))
    }

    /// Both families, which is the default; IPv6 by a fresh unique local /48 ([`unique_local`]), a /64 for each node.
    ///
    /// # Errors
    /// As [`dual_stack`](Self::dual_stack).
    pub fn with_unique_local(v4: Ipv4Net, seed: u64) -> Result<Self, InvalidConfig> {
        Self::dual_stack(v4, unique_local(seed))
    }

    fn of(v4: Option<IpNet>, v6: Option<IpNet>) -> Result<Self, InvalidConfig> {
        let family = |family, net: Option<IpNet>| {
            net.map(|net| FamilyConfig::new(family, Cidr::try_from(net)?)).transpose()
        };
        let (v4, v6) = (family(IpFamily::V4, v4)?, family(IpFamily::V6, v6)?);
        let name = default_name()?;
        Self { name, v4, v6, excluded: Vec::new(), reserved: Vec::new(), options: PoolOptions::default() }
            .checked()
    }

    /// Under another name than `default`.
    #[must_use]
    pub fn named(mut self, name: PoolName) -> Self {
        self.name = name;
        self
    }

    /// With other options.
    ///
    /// # Errors
    /// [`InvalidConfig::PointToPoint`] if the profile does not suit the node subnets.
    pub fn with_options(mut self, options: PoolOptions) -> Result<Self, InvalidConfig> {
        self.options = options;
        self.checked()
    }

    /// With another time for which addresses rest.
    #[must_use]
    pub fn with_cooldown(mut self, cooldown: Duration) -> Self {
        self.options.cooldown = cooldown;
        self
    }

    /// Grows by a network. One that covers others of the pool replaces them: it grows in place.
    ///
    /// # Errors
    /// [`InvalidConfig`]: host bits, an overlap, or too small for the pool's node subnets.
    pub fn with_network(self, net: IpNet) -> Result<Self, InvalidConfig> {
        let new = Cidr::try_from(net)?;
        self.change(new.family(), |cidrs| {
            cidrs.retain(|cidr, _| !new.covers(*cidr));
            cidrs.insert(new, false);
            Ok(())
        })
    }

    /// Drains a network: who has an address keeps it, nobody gets a new one. `false` takes that back.
    ///
    /// When all networks of one of two families are drained, the pool is leaving that family: who comes new gets an
    /// address of the other alone. To replace a network, add the new one before the old one is drained.
    ///
    /// # Errors
    /// [`InvalidConfig::Outside`] if the pool has no such network.
    pub fn draining(self, net: IpNet, draining: bool) -> Result<Self, InvalidConfig> {
        let of = Cidr::try_from(net)?;
        self.change(of.family(), |cidrs| {
            let outside = || InvalidConfig::Outside { what: of.to_string() };
            *cidrs.get_mut(&of).ok_or_else(outside)? = draining;
            Ok(())
        })
    }

    /// Shrinks by a network; the manager refuses it while somebody has an address there.
    ///
    /// # Errors
    /// [`InvalidConfig::Outside`] if the pool has no such network, [`InvalidConfig::NoPool`] for the last one.
    pub fn without_network(mut self, net: IpNet) -> Result<Self, InvalidConfig> {
        let gone = Cidr::try_from(net)?;
        // A range may reach into other networks, and counts there still.
        let others: Vec<_> =
            self.families().flat_map(FamilyConfig::cidrs).filter(|cidr| *cidr != gone).collect();
        for ranges in [&mut self.excluded, &mut self.reserved] {
            ranges.retain(|range| {
                !gone.range().overlaps(*range) || others.iter().any(|cidr| cidr.range().overlaps(*range))
            });
        }
        self.change(gone.family(), |cidrs| {
            let outside = || InvalidConfig::Outside { what: gone.to_string() };
            cidrs.remove(&gone).map(|_| ()).ok_or_else(outside)
        })
    }

    fn change(
        mut self,
        family: IpFamily,
        change: impl FnOnce(&mut BTreeMap<Cidr, bool>) -> Result<(), InvalidConfig>,
    ) -> Result<Self, InvalidConfig> {
        let slot = match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        };
        let mut cidrs = slot.as_ref().map(|family| family.all().clone()).unwrap_or_default();
        change(&mut cidrs)?;
        let node_prefix = slot.as_ref().map(FamilyConfig::node_prefix);
        *slot =
            if cidrs.is_empty() { None } else { Some(FamilyConfig::checked(family, cidrs, node_prefix)?) };
        self.checked()
    }

    /// Never gives these addresses out. Who has one keeps it, and is reported.
    ///
    /// # Errors
    /// [`InvalidConfig::Outside`] if no network of the pool has them.
    pub fn excluding(mut self, range: AddressRange) -> Result<Self, InvalidConfig> {
        self.excluded.push(range);
        self.checked()
    }

    /// Gives these addresses only to those who ask for one by name.
    ///
    /// # Errors
    /// As [`excluding`](Self::excluding).
    pub fn reserving(mut self, range: AddressRange) -> Result<Self, InvalidConfig> {
        self.reserved.push(range);
        self.checked()
    }

    /// Node subnets of another prefix length.
    ///
    /// # Errors
    /// [`InvalidConfig::NodePrefix`] outside the pool's length to one address; [`InvalidConfig::NoPool`] if the pool
    /// lacks the family.
    pub fn node_prefix(mut self, family: IpFamily, len: u8) -> Result<Self, InvalidConfig> {
        let slot = match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        };
        let cidrs = slot.as_ref().map(|family| family.all().clone()).ok_or(InvalidConfig::NoPool)?;
        *slot = Some(FamilyConfig::checked(family, cidrs, Some(len))?);
        self.checked()
    }

    /// The pool's name.
    pub fn name(&self) -> &PoolName {
        &self.name
    }

    /// The networks of one family, if it has the family.
    pub fn family(&self, family: IpFamily) -> Option<&FamilyConfig> {
        match family {
            IpFamily::V4 => self.v4.as_ref(),
            IpFamily::V6 => self.v6.as_ref(),
        }
    }

    /// The families it has, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = &FamilyConfig> {
        self.v4.iter().chain(&self.v6)
    }

    /// The families that new addresses come from: those with a network that is not being drained; all of them if there is
    /// none.
    pub fn giving(&self) -> impl Iterator<Item = &FamilyConfig> {
        let active = |family: &FamilyConfig| family.active().next().is_some();
        let none = !self.families().any(active);
        self.families().filter(move |family| none || active(family))
    }

    /// How addresses are given out.
    pub fn options(&self) -> &PoolOptions {
        &self.options
    }

    /// What is never given out.
    pub fn excluded(&self) -> &[AddressRange] {
        &self.excluded
    }

    /// What is given only to those who ask for it.
    pub fn reserved(&self) -> &[AddressRange] {
        &self.reserved
    }

    /// Which addresses of a node subnet may be given out.
    pub fn layout(&self, subnet: Cidr) -> Layout {
        let mut layout = Layout::new().with_subnet(subnet, self.options.profile, self.options.static_band);
        let here = |range: &&AddressRange| range.overlaps(subnet.range());
        for range in self.excluded.iter().filter(here) {
            layout = layout.without(*range);
        }
        for range in self.reserved.iter().filter(here) {
            layout = layout.reserving(*range);
        }
        layout
    }

    /// Whether a node subnet has an address for those who ask for none by name.
    pub(crate) fn gives_out_of(&self, subnet: Cidr) -> bool {
        let kept = |range: &AddressRange| range.overlaps(subnet.range());
        if !self.excluded.iter().chain(&self.reserved).any(kept) {
            return true;
        }
        let layout = self.layout(subnet);
        !layout.open().is_empty() || !layout.band().is_empty()
    }

    /// How many node subnets of one of its families have something to give out, at most `u128::MAX`. Those that lie in
    /// one range as a whole are never looked at, however many they are.
    pub(crate) fn subnets_given_out(&self, family: &FamilyConfig) -> u128 {
        let len = family.node_prefix();
        let kept =
            self.excluded.iter().chain(&self.reserved).filter(|range| range.family() == family.family());
        let kept: FreeRanges = kept.map(|range| (range.first(), range.last())).collect::<Vec<_>>().into();
        let mut total = 0u128;
        for cidr in family.active() {
            let (mut whole, mut edges) = (0u128, BTreeSet::new());
            for (first, last) in kept.ranges() {
                let (first, last) = (first.max(cidr.first()), last.min(cidr.last()));
                if first > last {
                    continue;
                }
                let around = |number| Cidr::containing(family.family(), number, len);
                let (Some(low), Some(high)) = (around(first), around(last)) else { continue };
                edges.extend([low, high]);
                // Those between the first and the last.
                let number =
                    |subnet: Cidr| subnet.first().checked_shr(subnet.host_bits().into()).unwrap_or_default();
                whole = whole.saturating_add((number(high) - number(low)).saturating_sub(1));
            }
            let empty = edges.iter().filter(|subnet| !self.gives_out_of(**subnet)).count();
            let empty = whole.saturating_add(u128::try_from(empty).unwrap_or(u128::MAX));
            total = total.saturating_add(cidr.subnets(len).saturating_sub(empty));
        }
        total
    }

    /// Whether two pools have an address in common: then they cannot be of one tenant.
    ///
    /// # Errors
    /// [`InvalidConfig::Overlap`] names the networks.
    pub fn apart_from(&self, other: &Self) -> Result<(), InvalidConfig> {
        let mut all: Vec<(Cidr, bool)> = Vec::new();
        for (config, ours) in [(self, true), (other, false)] {
            all.extend(config.families().flat_map(FamilyConfig::cidrs).map(|cidr| (cidr, ours)));
        }
        all.sort_unstable();
        for ((one, a), (other, b)) in all.iter().zip(all.iter().skip(1)) {
            if a != b && one.overlaps(*other) {
                return Err(InvalidConfig::Overlap { one: *one, other: *other });
            }
        }
        Ok(())
    }

    fn checked(mut self) -> Result<Self, InvalidConfig> {
        if self.v4.is_none() && self.v6.is_none() {
            return Err(InvalidConfig::NoPool);
        }
        for (what, ranges) in
            [("excluded ranges", &mut self.excluded), ("reserved ranges", &mut self.reserved)]
        {
            ranges.sort_unstable();
            ranges.dedup();
            if ranges.len() > RANGES {
                return Err(InvalidConfig::TooMany { what, found: ranges.len(), most: RANGES });
            }
        }
        for range in self.excluded.iter().chain(&self.reserved) {
            let networks = self.families().flat_map(FamilyConfig::cidrs);
            if !networks.into_iter().any(|cidr| cidr.range().overlaps(*range)) {
                return Err(InvalidConfig::Outside { what: range.to_string() });
            }
        }
        if self.options.profile == Profile::PointToPoint {
            for family in self.families() {
                let (node, longest) = (family.node_prefix(), family.family().bits());
                if node < longest - 1 {
                    let (family, shortest) = (family.family(), longest - 1);
                    return Err(InvalidConfig::PointToPoint { family, node, shortest, longest });
                }
            }
        }
        Ok(self)
    }
}

/// The name of a pool that was given none.
fn default_name() -> Result<PoolName, InvalidConfig> {
    Ok("default".parse()?)
}
