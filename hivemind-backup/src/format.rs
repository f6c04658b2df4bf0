//! The bytes of a backup. No I/O, no clock, no async.

mod damage;
mod records;
mod seal;
#[cfg(test)]
mod tests;
mod v1;

pub use damage::Damage;
pub(crate) use records::Change;
pub(crate) use seal::Seal;
pub(crate) use v1::{Decoder, Encoder, Totals};
