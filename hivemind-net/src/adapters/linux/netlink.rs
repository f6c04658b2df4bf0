//! Netlink, as far as the adapter needs it: messages, attributes, one blocking socket.

pub(super) mod consts;
mod message;
mod socket;
#[cfg(test)]
pub(super) mod tests;

pub(super) use message::{
    Attrs, Message, Parsed, bytes_at, list, parse, text_of, u8_of, u16be_of, u32_of, u32be_of,
};
pub(super) use socket::{Protocol, Socket};
