//! Amounts of things that workloads use: exact integers that cannot wrap. No I/O, no clock, no async.
//!
//! ```
//! use hivemind_core::resources::{ByteSize, MilliCpu, Resources};
//!
//! let asked = Resources::new().with_cpu("250m".parse()?).with_memory(ByteSize::from_gib(2));
//! let free = Resources::new().with_cpu(MilliCpu::from_cores(4)).with_memory(ByteSize::from_gib(1));
//!
//! assert!(!asked.fits_in(&free));
//! assert_eq!(asked.shortfalls(&free)[0].to_string(), "memory: asked 2Gi, free 1Gi, short by 1Gi");
//! # Ok::<(), hivemind_core::resources::InvalidQuantity>(())
//! ```

mod name;
mod quantity;
mod units;
mod vector;

pub use name::{CustomName, InvalidResourceName, ResourceName};
pub use quantity::{InvalidQuantity, Quantity};
pub use units::{ByteSize, Count, MilliCpu};
pub use vector::{ResourceOverflow, ResourceUnderflow, Resources, Shortfall};

#[cfg(test)]
mod tests;
