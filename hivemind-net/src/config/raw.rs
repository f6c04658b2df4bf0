//! The form in which a network is written. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::PoolName;
use serde::{Deserialize, Serialize};

use super::{FamilyConfig, InvalidConfig, NetworkConfig, PoolOptions, default_name};
use crate::addr::{AddressRange, Cidr, InvalidAddress, IpFamily, parse_network};

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<PoolName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v4: Option<RawFamily>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v6: Option<RawFamily>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    excluded: Vec<AddressRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reserved: Vec<AddressRange>,
    #[serde(default)]
    options: PoolOptions,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFamily {
    networks: Vec<Network>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    draining: BTreeSet<Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_prefix: Option<u8>,
}

/// A network as text that can be read in one way only: [`ipnet`] takes leading zeros, which other programs read as octal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Network(Cidr);

impl TryFrom<String> for Network {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        parse_network(&text).map(Self)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.0.to_string()
    }
}

fn family(family: IpFamily, raw: RawFamily) -> Result<FamilyConfig, InvalidConfig> {
    let mut cidrs = BTreeMap::new();
    for Network(cidr) in raw.networks {
        cidrs.insert(cidr, false);
    }
    for Network(cidr) in raw.draining {
        let outside = || InvalidConfig::Outside { what: cidr.to_string() };
        *cidrs.get_mut(&cidr).ok_or_else(outside)? = true;
    }
    FamilyConfig::checked(family, cidrs, raw.node_prefix)
}

impl TryFrom<Raw> for NetworkConfig {
    type Error = InvalidConfig;
    fn try_from(raw: Raw) -> Result<Self, InvalidConfig> {
        let v4 = raw.v4.map(|v4| family(IpFamily::V4, v4)).transpose()?;
        let v6 = raw.v6.map(|v6| family(IpFamily::V6, v6)).transpose()?;
        let (excluded, reserved) = (raw.excluded, raw.reserved);
        let name = raw.name.map_or_else(default_name, Ok)?;
        Self { name, v4, v6, excluded, reserved, options: raw.options }.checked()
    }
}

impl From<FamilyConfig> for RawFamily {
    fn from(config: FamilyConfig) -> Self {
        Self {
            networks: config.cidrs().map(Network).collect(),
            draining: config.cidrs().filter(|cidr| config.is_draining(*cidr)).map(Network).collect(),
            node_prefix: Some(config.node_prefix()),
        }
    }
}

impl From<NetworkConfig> for Raw {
    fn from(config: NetworkConfig) -> Self {
        Self {
            name: Some(config.name),
            v4: config.v4.map(RawFamily::from),
            v6: config.v6.map(RawFamily::from),
            excluded: config.excluded,
            reserved: config.reserved,
            options: config.options,
        }
    }
}
