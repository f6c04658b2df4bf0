//! Amounts of several resources at once.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ByteSize, InvalidQuantity, MilliCpu, ResourceName};

/// How much of each resource; what is not named is zero.
///
/// Amounts are in base units: thousandths of a core, bytes, whole numbers. Serialized as a map of quantities:
/// `{"cpu":"250m","memory":"2Gi","nvidia.com/gpu":"1"}`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<ResourceName, Text>", into = "BTreeMap<ResourceName, Text>")]
pub struct Resources {
    // The three that every workload has are fields: fitting is the inner loop of placement.
    cpu: u64,
    memory: u64,
    storage: u64,
    /// Never holds a zero, so that equality is by meaning.
    custom: BTreeMap<ResourceName, u64>,
}

/// A quantity as it is written; a whole number is taken too.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Integer(u64),
}

/// A sum is larger than can be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sum of {resource} is too large to be counted")]
#[non_exhaustive]
pub struct ResourceOverflow {
    /// Of what.
    pub resource: ResourceName,
}

/// More is taken away than there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is less than is taken away: {}", .short.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct ResourceUnderflow {
    /// Every resource of which there is too little.
    pub short: Vec<Shortfall>,
}

/// One resource of which there is too little. Amounts are in base units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shortfall {
    /// Of what.
    pub resource: ResourceName,
    /// How much is wanted.
    pub asked: u64,
    /// How much there is.
    pub free: u64,
    /// The difference.
    pub short_by: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let print = |amount| self.resource.print(amount);
        let (asked, free, short) = (print(self.asked), print(self.free), print(self.short_by));
        write!(f, "{}: asked {asked}, free {free}, short by {short}", self.resource)
    }
}

impl Resources {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With so much processing power.
    #[must_use]
    pub fn with_cpu(mut self, cpu: MilliCpu) -> Self {
        self.cpu = cpu.0;
        self
    }

    /// With so much memory.
    #[must_use]
    pub fn with_memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory.0;
        self
    }

    /// With so much storage.
    #[must_use]
    pub fn with_storage(mut self, storage: ByteSize) -> Self {
        self.storage = storage.0;
        self
    }

    /// With `amount` base units of `resource`.
    #[must_use]
    pub fn with(mut self, resource: ResourceName, amount: u64) -> Self {
        self.set(resource, amount);
        self
    }

    fn set(&mut self, resource: ResourceName, amount: u64) {
        match resource {
            ResourceName::Cpu => self.cpu = amount,
            ResourceName::Memory => self.memory = amount,
            ResourceName::Storage => self.storage = amount,
            custom if amount == 0 => {
                self.custom.remove(&custom);
            }
            custom => {
                self.custom.insert(custom, amount);
            }
        }
    }

    /// The processing power.
    pub fn cpu(&self) -> MilliCpu {
        MilliCpu(self.cpu)
    }

    /// The memory.
    pub fn memory(&self) -> ByteSize {
        ByteSize(self.memory)
    }

    /// The storage.
    pub fn storage(&self) -> ByteSize {
        ByteSize(self.storage)
    }

    /// How many base units of `resource`.
    pub fn amount(&self, resource: &ResourceName) -> u64 {
        match resource {
            ResourceName::Cpu => self.cpu,
            ResourceName::Memory => self.memory,
            ResourceName::Storage => self.storage,
            custom => self.custom.get(custom).copied().unwrap_or_default(),
        }
    }

    /// Every resource of which there is some, with base units, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceName, u64)> {
        let well_known = [
            (ResourceName::Cpu, self.cpu),
            (ResourceName::Memory, self.memory),
            (ResourceName::Storage, self.storage),
        ];
        let custom = self.custom.iter().map(|(name, amount)| (name.clone(), *amount));
        well_known.into_iter().filter(|(_, amount)| *amount > 0).chain(custom)
    }

    /// The custom resources of which there is some, with whole numbers, in the order of names.
    pub fn custom(&self) -> impl Iterator<Item = (&ResourceName, u64)> {
        self.custom.iter().map(|(name, amount)| (name, *amount))
    }

    /// Whether there is nothing.
    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.storage == 0 && self.custom.is_empty()
    }

    /// The sum.
    ///
    /// # Errors
    /// [`ResourceOverflow`] names the resource that cannot be counted.
    pub fn checked_add(&self, other: &Self) -> Result<Self, ResourceOverflow> {
        let sum =
            |name: ResourceName, a: u64, b: u64| a.checked_add(b).ok_or(ResourceOverflow { resource: name });
        let mut all = Self {
            cpu: sum(ResourceName::Cpu, self.cpu, other.cpu)?,
            memory: sum(ResourceName::Memory, self.memory, other.memory)?,
            storage: sum(ResourceName::Storage, self.storage, other.storage)?,
            custom: self.custom.clone(),
        };
        for (name, amount) in &other.custom {
            let there = all.custom.entry(name.clone()).or_default();
            *there = sum(name.clone(), *there, *amount)?;
        }
        Ok(all)
    }

    /// So many times as much.
    ///
    /// # Errors
    /// [`ResourceOverflow`] names the resource that cannot be counted.
    pub fn checked_mul(&self, times: u64) -> Result<Self, ResourceOverflow> {
        let mut product = Self::new();
        for (resource, amount) in self.iter() {
            let Some(total) = amount.checked_mul(times) else { return Err(ResourceOverflow { resource }) };
            product.set(resource, total);
        }
        Ok(product)
    }

    /// The difference.
    ///
    /// # Errors
    /// [`ResourceUnderflow`] lists everything of which there is too little.
    pub fn checked_sub(&self, other: &Self) -> Result<Self, ResourceUnderflow> {
        let short = other.shortfalls(self);
        if short.is_empty() { Ok(self.saturating_sub(other)) } else { Err(ResourceUnderflow { short }) }
    }

    /// The difference, at least zero of each.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let mut rest = Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            storage: self.storage.saturating_sub(other.storage),
            custom: self.custom.clone(),
        };
        for (name, amount) in &other.custom {
            if let Some(there) = rest.custom.get_mut(name) {
                *there = there.saturating_sub(*amount);
            }
        }
        if !other.custom.is_empty() {
            rest.custom.retain(|_, amount| *amount > 0);
        }
        rest
    }

    /// Whether there is enough of everything in `free`, where what is not named is zero.
    pub fn fits_in(&self, free: &Self) -> bool {
        self.cpu <= free.cpu
            && self.memory <= free.memory
            && self.storage <= free.storage
            && self
                .custom
                .iter()
                .all(|(name, amount)| free.custom.get(name).is_some_and(|there| amount <= there))
    }

    /// Everything of which there is too little in `free`, in the order of names.
    pub fn shortfalls(&self, free: &Self) -> Vec<Shortfall> {
        let short = |(resource, asked): (ResourceName, u64)| {
            let free = free.amount(&resource);
            let short_by = asked.checked_sub(free).filter(|short| *short > 0)?;
            Some(Shortfall { resource, asked, free, short_by })
        };
        self.iter().filter_map(short).collect()
    }
}

impl TryFrom<BTreeMap<ResourceName, Text>> for Resources {
    type Error = InvalidQuantity;
    fn try_from(map: BTreeMap<ResourceName, Text>) -> Result<Self, InvalidQuantity> {
        let mut resources = Self::new();
        for (name, text) in map {
            let amount = match text {
                Text::Text(text) => name.parse(&text)?,
                Text::Integer(whole) => name.parse(&whole.to_string())?,
            };
            resources.set(name, amount);
        }
        Ok(resources)
    }
}

impl From<Resources> for BTreeMap<ResourceName, Text> {
    fn from(resources: Resources) -> Self {
        resources.iter().map(|(name, amount)| (name.clone(), Text::Text(name.print(amount)))).collect()
    }
}

impl fmt::Display for Resources {
    /// One line, such as `cpu=250m memory=2Gi`; `nothing` if there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("nothing");
        }
        for (index, (name, amount)) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{name}={}", name.print(amount))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources({self})")
    }
}
