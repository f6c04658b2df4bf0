//! Rule tables through netlink, without the `nft` program: a change of one element is one small transaction.

mod consts;
mod decode;
mod expr;
mod read;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub(super) use read::{keys, read, sets};
pub(super) use write::{change, delete, put};
