//! Address arithmetic for both families, exact at every prefix length. No I/O, no clock, no async.
//!
//! An address is a number below 2^32 or 2^128; a network is its first number and a length. So one algebra serves both
//! families, and nothing is shifted by its whole width. At the API addresses are [`std::net`]'s and networks are
//! [`ipnet`]'s.

mod cidr;
mod family;
mod parse;
mod preference;
mod range;

pub use self::cidr::{Cidr, HostBits};
pub use self::family::{IpFamily, address_number};
pub use self::parse::{InvalidAddress, canonical, parse_address, parse_network};
pub use self::preference::{connection_order, precedence};
pub use self::range::AddressRange;
