//! How a tenant's network is laid out. No I/O, no clock, no async.

use std::net::Ipv6Addr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The prefix length of a node's IPv4 subnet, unless told otherwise: 64 addresses, of which 61 are for workloads.
const NODE_PREFIX_V4: u8 = 26;
/// The prefix length of a node's IPv6 subnet, unless told otherwise.
const NODE_PREFIX_V6: u8 = 112;

/// The pools of a tenant, and how much of them a node gets at a time.
///
/// Checked once, when it is built; IPv4 alone, IPv6 alone, or both.
///
/// ```
/// use hivemind_net::NetworkConfig;
///
/// let config = NetworkConfig::dual_stack("10.0.0.0/16".parse()?, "fd00::/64".parse()?)?.node_prefix_v4(24)?;
/// assert_eq!(config.v4().map(|(pool, node)| (pool.to_string(), node)), Some(("10.0.0.0/16".into(), 24)));
/// let error = NetworkConfig::v4_only("10.0.0.1/16".parse()?).unwrap_err();
/// assert_eq!(error.to_string(), "10.0.0.1/16 has host bits set: its network is 10.0.0.0/16");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct NetworkConfig {
    v4: Option<(Ipv4Net, u8)>,
    v6: Option<(Ipv6Net, u8)>,
}

/// The form in which it is written.
#[derive(Clone, Serialize, Deserialize)]
struct Raw {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v4_pool: Option<Ipv4Net>,
    #[serde(default = "node_prefix_v4")]
    v4_node_prefix: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v6_pool: Option<Ipv6Net>,
    #[serde(default = "node_prefix_v6")]
    v6_node_prefix: u8,
}

fn node_prefix_v4() -> u8 {
    NODE_PREFIX_V4
}

fn node_prefix_v6() -> u8 {
    NODE_PREFIX_V6
}

/// Why a network cannot be laid out so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// There is no pool at all.
    #[error("a network needs an IPv4 pool, an IPv6 pool, or both")]
    NoPool,
    /// A pool's address is not that of its network.
    #[error("{pool} has host bits set: its network is {network}")]
    HostBits {
        /// As given.
        pool: String,
        /// As it would be right.
        network: String,
    },
    /// A node's subnet would be larger than the pool, or smaller than one address.
    #[error("a node subnet of /{node} does not fit pool {pool}: give a length of {shortest} to {longest}")]
    NodePrefix {
        /// The pool.
        pool: String,
        /// The length given.
        node: u8,
        /// The shortest allowed: the pool itself.
        shortest: u8,
        /// The longest allowed: one address.
        longest: u8,
    },
    /// The pool is not for hosts: loopback, multicast, link-local or unspecified.
    #[error("{pool} is {what}: hosts cannot have addresses there")]
    NotForHosts {
        /// The pool.
        pool: String,
        /// What it is.
        what: &'static str,
    },
}

fn check_v4(pool: Ipv4Net, node: u8) -> Result<(Ipv4Net, u8), InvalidConfig> {
    if pool.trunc() != pool {
        return Err(InvalidConfig::HostBits { pool: pool.to_string(), network: pool.trunc().to_string() });
    }
    let first = pool.network();
    let special = [
        (first.is_loopback(), "loopback"),
        (first.is_multicast(), "multicast"),
        (first.is_link_local(), "link-local"),
    ];
    if let Some((_, what)) = special.into_iter().find(|(is, _)| *is) {
        return Err(InvalidConfig::NotForHosts { pool: pool.to_string(), what });
    }
    node_prefix(pool.to_string(), pool.prefix_len(), node, 32)?;
    Ok((pool, node))
}

fn check_v6(pool: Ipv6Net, node: u8) -> Result<(Ipv6Net, u8), InvalidConfig> {
    if pool.trunc() != pool {
        return Err(InvalidConfig::HostBits { pool: pool.to_string(), network: pool.trunc().to_string() });
    }
    let first = pool.network();
    let special = [
        (first.is_loopback(), "loopback"),
        (first.is_multicast(), "multicast"),
        (first.is_unicast_link_local(), "link-local"),
    ];
    if let Some((_, what)) = special.into_iter().find(|(is, _)| *is) {
        return Err(InvalidConfig::NotForHosts { pool: pool.to_string(), what });
    }
    node_prefix(pool.to_string(), pool.prefix_len(), node, 128)?;
    Ok((pool, node))
}

fn node_prefix(pool: String, shortest: u8, node: u8, longest: u8) -> Result<(), InvalidConfig> {
    if (shortest..=longest).contains(&node) {
        return Ok(());
    }
    Err(InvalidConfig::NodePrefix { pool, node, shortest, longest })
}

impl NetworkConfig {
    /// Both families. A pool that is smaller than the usual node subnet goes to one node whole.
    ///
    /// # Errors
    /// [`InvalidConfig`] says what is wrong with which pool.
    pub fn dual_stack(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, InvalidConfig> {
        Self::checked(
            Some((v4, NODE_PREFIX_V4.max(v4.prefix_len()))),
            Some((v6, NODE_PREFIX_V6.max(v6.prefix_len()))),
        )
    }

    /// IPv4 alone.
    ///
    /// # Errors
    /// As [`dual_stack`](Self::dual_stack).
    pub fn v4_only(v4: Ipv4Net) -> Result<Self, InvalidConfig> {
        Self::checked(Some((v4, NODE_PREFIX_V4.max(v4.prefix_len()))), None)
    }

    /// IPv6 alone.
    ///
    /// # Errors
    /// As [`dual_stack`](Self::dual_stack).
    pub fn v6_only(v6: Ipv6Net) -> Result<Self, InvalidConfig> {
        Self::checked(None, Some((v6, NODE_PREFIX_V6.max(v6.prefix_len()))))
    }

    /// Both families, IPv6 by a fresh unique local prefix (RFC 4193, section 3.2): `fd`, 40 bits of `random`, and
    /// subnet 0.
    ///
    /// # Errors
    /// As [`dual_stack`](Self::dual_stack).
    pub fn with_unique_local(v4: Ipv4Net, random: u64) -> Result<Self, InvalidConfig> {
        let global_id = u128::from(random & 0xff_ffff_ffff);
        let network = (0xfd << 120) | (global_id << 80);
        let v6 = Ipv6Net::new(Ipv6Addr::from(network), 64).map_err(|_| InvalidConfig::NoPool)?;
        Self::dual_stack(v4, v6)
    }

    /// Node subnets of another IPv4 prefix length.
    ///
    /// # Errors
    /// [`InvalidConfig::NodePrefix`] outside the pool's length to 32.
    pub fn node_prefix_v4(self, node: u8) -> Result<Self, InvalidConfig> {
        Self::checked(self.v4.map(|(pool, _)| (pool, node)), self.v6)
    }

    /// Node subnets of another IPv6 prefix length.
    ///
    /// # Errors
    /// [`InvalidConfig::NodePrefix`] outside the pool's length to 128.
    pub fn node_prefix_v6(self, node: u8) -> Result<Self, InvalidConfig> {
        Self::checked(self.v4, self.v6.map(|(pool, _)| (pool, node)))
    }

    /// The IPv4 pool, and the prefix length of a node's subnet in it.
    pub fn v4(&self) -> Option<(Ipv4Net, u8)> {
        self.v4
    }

    /// The IPv6 pool, and the prefix length of a node's subnet in it.
    pub fn v6(&self) -> Option<(Ipv6Net, u8)> {
        self.v6
    }

    fn checked(v4: Option<(Ipv4Net, u8)>, v6: Option<(Ipv6Net, u8)>) -> Result<Self, InvalidConfig> {
        if v4.is_none() && v6.is_none() {
            return Err(InvalidConfig::NoPool);
        }
        let v4 = v4.map(|(pool, node)| check_v4(pool, node)).transpose()?;
        let v6 = v6.map(|(pool, node)| check_v6(pool, node)).transpose()?;
        Ok(Self { v4, v6 })
    }
}

impl TryFrom<Raw> for NetworkConfig {
    type Error = InvalidConfig;
    fn try_from(raw: Raw) -> Result<Self, InvalidConfig> {
        Self::checked(
            raw.v4_pool.map(|pool| (pool, raw.v4_node_prefix)),
            raw.v6_pool.map(|pool| (pool, raw.v6_node_prefix)),
        )
    }
}

impl From<NetworkConfig> for Raw {
    fn from(config: NetworkConfig) -> Self {
        Self {
            v4_pool: config.v4.map(|(pool, _)| pool),
            v4_node_prefix: config.v4.map_or(NODE_PREFIX_V4, |(_, node)| node),
            v6_pool: config.v6.map(|(pool, _)| pool),
            v6_node_prefix: config.v6.map_or(NODE_PREFIX_V6, |(_, node)| node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_work_and_says_why() {
        let v4 = |pool: &str| NetworkConfig::v4_only(pool.parse().unwrap()).map_err(|e| e.to_string());
        let v6 = |pool: &str| NetworkConfig::v6_only(pool.parse().unwrap()).map_err(|e| e.to_string());
        assert_eq!(v6("fd00::1/64").unwrap_err(), "fd00::1/64 has host bits set: its network is fd00::/64");
        assert_eq!(
            v4("127.0.0.0/8").unwrap_err(),
            "127.0.0.0/8 is loopback: hosts cannot have addresses there"
        );
        assert!(v4("224.0.0.0/8").is_err() && v4("169.254.0.0/16").is_err());
        assert!(v6("ff00::/8").is_err() && v6("fe80::/64").is_err());
        assert!(v4("0.0.0.0/0").is_ok() && v4("10.0.0.0/32").is_ok() && v6("::/0").is_ok());
        let too_short = v4("10.0.0.0/16").unwrap().node_prefix_v4(15).unwrap_err();
        assert_eq!(
            too_short.to_string(),
            "a node subnet of /15 does not fit pool 10.0.0.0/16: give a length of 16 to 32"
        );
        assert!(
            serde_json::from_str::<NetworkConfig>("{}")
                .unwrap_err()
                .to_string()
                .contains("needs an IPv4 pool")
        );
        assert!(serde_json::from_str::<NetworkConfig>(r#"{"v4_pool":"10.0.0.1/8"}"#).is_err());
    }

    #[test]
    fn a_unique_local_prefix_has_the_form_of_rfc_4193() {
        let config = NetworkConfig::with_unique_local("10.0.0.0/16".parse().unwrap(), u64::MAX).unwrap();
        assert_eq!(config.v6().unwrap().0.to_string(), "fdff:ffff:ffff::/64");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<NetworkConfig>(&json).unwrap(), config);
    }
}
