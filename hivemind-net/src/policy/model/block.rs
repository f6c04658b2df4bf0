//! A CIDR with exceptions. No I/O, no clock, no async.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::forms::BlockForm;

/// The addresses of a network, except those of some networks within it.
///
/// It is about addresses in the network of the policy's tenant: outside of the cluster, of hosts, and of the tenant's
/// own workloads. A workload of another tenant is never in it, whatever its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "BlockForm", into = "BlockForm")]
pub struct IpBlock {
    cidr: IpNet,
    except: Vec<IpNet>,
}

/// Why there is no such block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBlock {
    /// The text is no CIDR.
    #[error("{0:?} is no CIDR: give an address and a prefix length, such as 10.0.0.0/8 or fd00::/8")]
    NotCidr(String),
    /// The address is not that of the network.
    #[error("{given} has host bits set: its network is {network}")]
    HostBits {
        /// As given.
        given: String,
        /// As it would be right.
        network: IpNet,
    },
    /// IPv4 in IPv6 clothes, which would pass by rules for IPv4.
    #[error("{0} is IPv4 written as IPv6: write it as IPv4")]
    Mapped(IpNet),
    /// An exception is not strictly within the block.
    #[error("except {except} is not strictly within {cidr}")]
    NotWithin {
        /// The exception.
        except: IpNet,
        /// The block.
        cidr: IpNet,
    },
}

fn checked(net: IpNet) -> Result<IpNet, InvalidBlock> {
    if net.trunc() != net {
        return Err(InvalidBlock::HostBits { given: net.to_string(), network: net.trunc() });
    }
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.network().to_ipv4_mapped().is_some() => {
            Err(InvalidBlock::Mapped(net))
        }
        _ => Ok(net),
    }
}

/// Reads a CIDR strictly.
pub(super) fn parse_cidr(text: &str) -> Result<IpNet, InvalidBlock> {
    // Not `IpNet`'s own parser, which takes 010.0.0.0 for 10.0.0.0: others take it for 8.0.0.0.
    let read = || {
        let (address, length) = text.split_once('/')?;
        let plain =
            length.bytes().all(|byte| byte.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        IpNet::new(address.parse().ok()?, length.parse().ok().filter(|_| plain)?).ok()
    };
    checked(read().ok_or_else(|| InvalidBlock::NotCidr(text.chars().take(64).collect()))?)
}

impl IpBlock {
    /// All of `cidr`.
    ///
    /// # Errors
    /// [`InvalidBlock`]: host bits, or IPv4 written as IPv6.
    pub fn new(cidr: IpNet) -> Result<Self, InvalidBlock> {
        Ok(Self { cidr: checked(cidr)?, except: Vec::new() })
    }

    /// But not `net`.
    ///
    /// # Errors
    /// [`InvalidBlock`]: host bits, or not strictly within the block.
    pub fn except(mut self, net: IpNet) -> Result<Self, InvalidBlock> {
        let net = checked(net)?;
        if net == self.cidr || !self.cidr.contains(&net) {
            return Err(InvalidBlock::NotWithin { except: net, cidr: self.cidr });
        }
        self.except.push(net);
        self.except.sort_unstable();
        self.except.dedup();
        Ok(self)
    }

    /// The network.
    pub fn cidr(&self) -> IpNet {
        self.cidr
    }

    /// The exceptions, in order.
    pub fn exceptions(&self) -> &[IpNet] {
        &self.except
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.cidr.contains(&address) && !self.except.iter().any(|except| except.contains(&address))
    }
}

impl fmt::Display for IpBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cidr)?;
        for except in &self.except {
            write!(f, " except {except}")?;
        }
        Ok(())
    }
}
