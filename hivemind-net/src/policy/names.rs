//! Which addresses domain names have, for how long: what rules with names stand on. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hivemind_core::{TenantRef, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Change, DnsName};

/// For how long and how many addresses are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NameLimits {
    /// How long an address stays after its time to live: connections outlive it.
    pub grace: Duration,
    /// The least time to live that is believed: some servers say zero.
    pub min_ttl: Duration,
    /// How many addresses a tenant may have; beyond, those that expire first go.
    pub most: usize,
    /// How many names one of them may have; beyond, those that expire first go.
    pub most_names: usize,
}

impl Default for NameLimits {
    /// Ten minutes of grace, five seconds at least, 10,000 addresses of 256 names each.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(600),
            min_ttl: Duration::from_secs(5),
            most: 10_000,
            most_names: 256,
        }
    }
}

/// The names of addresses, per tenant: what one tenant resolves opens nothing for another.
///
/// An answer is given to the workload only after its addresses are in the rules in force, so that its first packet finds
/// them there. The cache is plain data: store it, and a restart cuts nobody off. What begins from a stored one says of
/// which boot of the machine it is ([`booted`](Self::booted)).
///
/// ```
/// use std::time::Duration;
/// use hivemind_core::{Generation, TenantRef, Timestamp};
/// use hivemind_net::policy::{NameCache, NameLimits};
///
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let mut cache = NameCache::new(NameLimits::default());
/// let answer = [("203.0.113.7".parse()?, Duration::from_secs(60))];
/// let (changes, held) = cache.learn(&acme, &"www.example.com".parse()?, &answer, Timestamp::EPOCH);
/// assert_eq!(changes.len(), 1); // for the engine
/// let held = held.release(cache.in_force()).unwrap_err(); // not yet
/// cache.confirm(held.needs()); // the data plane says that it is in force
/// assert!(held.release(cache.in_force()).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NameCache {
    limits: NameLimits,
    /// Until when an address has a name.
    known: BTreeMap<TenantRef, BTreeMap<IpAddr, BTreeMap<DnsName, Timestamp>>>,
    revision: u64,
    in_force: NamesInForce,
    /// Of which boot of the machine that is.
    #[serde(default)]
    boot: String,
}

/// Up to which change of names the rules in force know them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamesInForce(u64);

/// An answer that waits until its addresses are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldAnswer {
    addresses: Vec<IpAddr>,
    needs: NamesInForce,
}

impl HeldAnswer {
    /// What must be in force.
    pub fn needs(&self) -> NamesInForce {
        self.needs
    }

    /// The addresses, to be told to the workload.
    ///
    /// # Errors
    /// The answer itself, if its addresses are not in force yet.
    pub fn release(self, in_force: NamesInForce) -> Result<Vec<IpAddr>, Self> {
        if in_force < self.needs { Err(self) } else { Ok(self.addresses) }
    }
}

impl NameCache {
    /// Without any name.
    pub fn new(limits: NameLimits) -> Self {
        Self {
            limits,
            known: BTreeMap::new(),
            revision: 0,
            in_force: NamesInForce::default(),
            boot: String::new(),
        }
    }

    /// A resolver told `tenant` the addresses of `name`, each with its time to live; aliases are followed already, so
    /// `name` is what was asked for. Gives the changes for the engine, and the answer.
    pub fn learn(
        &mut self,
        tenant: &TenantRef,
        name: &DnsName,
        answer: &[(IpAddr, Duration)],
        now: Timestamp,
    ) -> (Vec<Change>, HeldAnswer) {
        let addresses = self.known.entry(tenant.clone()).or_default();
        let mut changed = BTreeSet::new();
        for (address, ttl) in answer {
            let address = address.to_canonical();
            let until = now.after((*ttl).max(self.limits.min_ttl)).after(self.limits.grace);
            let names = addresses.entry(address).or_default();
            match names.get_mut(name) {
                Some(known) => *known = until.max(*known),
                None => {
                    names.insert(name.clone(), until);
                    changed.insert(address);
                }
            }
            // Whoever has a domain can make up names below it without end.
            while names.len() > self.limits.most_names.max(1) {
                let others = names.iter().filter(|(other, _)| *other != name);
                let Some(first) = others.min_by_key(|(_, until)| **until).map(|(other, _)| other.clone())
                else {
                    break;
                };
                names.remove(&first);
            }
        }
        // The answer's own addresses are not the ones to go: a workload is about to use them.
        let told: BTreeSet<_> = answer.iter().map(|(address, _)| address.to_canonical()).collect();
        while addresses.len() > self.limits.most.max(told.len()) {
            let last = |names: &BTreeMap<DnsName, Timestamp>| names.values().max().copied();
            let others = addresses.iter().filter(|(address, _)| !told.contains(*address));
            let Some(first) = others.min_by_key(|(_, names)| last(names)).map(|(address, _)| *address) else {
                break;
            };
            addresses.remove(&first);
            changed.insert(first);
        }
        let changes = self.tell(tenant, &changed);
        // Also an address that is known already may not be in force yet.
        let needs = NamesInForce(self.revision);
        let held = HeldAnswer { addresses: told.into_iter().collect(), needs };
        (changes, held)
    }

    /// Connections to `address` are open: it stays for the grace from now on, if it is known at all.
    pub fn in_use(&mut self, tenant: &TenantRef, address: IpAddr, now: Timestamp) {
        let until = now.after(self.limits.grace);
        let names = self.known.get_mut(tenant).and_then(|all| all.get_mut(&address.to_canonical()));
        names.into_iter().flat_map(BTreeMap::values_mut).for_each(|known| *known = until.max(*known));
    }

    /// Forgets what is over at `now`, and gives the changes for the engine.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Change> {
        let tenants: Vec<_> = self.known.keys().cloned().collect();
        let mut changes = Vec::new();
        for tenant in tenants {
            let Some(addresses) = self.known.get_mut(&tenant) else { continue };
            let mut changed = BTreeSet::new();
            for (address, names) in addresses.iter_mut() {
                let before = names.len();
                names.retain(|_, until| *until > now);
                if names.len() != before {
                    changed.insert(*address);
                }
            }
            addresses.retain(|_, names| !names.is_empty());
            changes.extend(self.tell(&tenant, &changed));
        }
        self.known.retain(|_, addresses| !addresses.is_empty());
        changes
    }

    /// When [`NameCache::expire`] has something to do next.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.known.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).min().copied()
    }

    fn tell(&mut self, tenant: &TenantRef, changed: &BTreeSet<IpAddr>) -> Vec<Change> {
        if !changed.is_empty() {
            self.revision = self.revision.saturating_add(1);
        }
        let names = |address: &IpAddr| {
            let found = self.known.get(tenant).and_then(|all| all.get(address));
            found.map(|names| names.keys().cloned().collect()).unwrap_or_default()
        };
        changed.iter().map(|address| Change::Names(tenant.clone(), *address, names(address))).collect()
    }

    /// The rules in force know all names up to `known`.
    pub fn confirm(&mut self, known: NamesInForce) {
        self.in_force = known.max(self.in_force).min(NamesInForce(self.revision));
    }

    /// The agent begins: `boot` tells one start of the machine from another, as `/proc/sys/kernel/random/boot_id` does.
    ///
    /// A machine that was started anew has none of the rules that were in force, so no answer is given until they are
    /// again.
    pub fn booted(&mut self, boot: &str) {
        if self.boot != boot {
            boot.clone_into(&mut self.boot);
            self.in_force = NamesInForce::default();
        }
    }

    /// Up to which change the rules in force know the names.
    pub fn in_force(&self) -> NamesInForce {
        self.in_force
    }

    /// The latest change: what to confirm once all changes so far are in force.
    pub fn latest(&self) -> NamesInForce {
        NamesInForce(self.revision)
    }
}
