//! One blocking netlink socket. It belongs for ever to the namespace in which it was opened.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};

use super::Message;
use super::consts::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};

/// Which part of the kernel is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// Packet rules and connections.
    Netfilter,
}

/// A message that came back: its type and what follows the header.
pub(in super::super) type Reply = (u16, Vec<u8>);

/// A message in a datagram: type, sequence number, flags, body.
type Part<'a> = (u16, u32, u16, &'a [u8]);

const DUMP_INTERRUPTED: u16 = 0x10;
/// How often a dump is begun again because something changed while it was read.
const DUMP_TRIES: usize = 8;

#[derive(Debug)]
pub(in super::super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// In the namespace of the calling thread.
    pub(in super::super) fn open(protocol: Protocol) -> Result<Self, Errno> {
        let protocol = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        };
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        // Whole rule tables and their acknowledgements do not fit into the usual buffers.
        let _ = setsockopt(&fd, sockopt::SndBufForce, &(64 << 20));
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20));
        Ok(Self { fd, sequence: 0, buffer: vec![0; 1 << 18] })
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends all messages at once, and gives the first error, with the number of the message it is about.
    ///
    /// The kernel works on them before `send` returns, so that every answer is there by then.
    pub(in super::super) fn request(&mut self, messages: &[Message]) -> Result<(), (usize, Errno)> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        for message in messages {
            let sequence = self.next();
            let flags = message.flags | NLM_F_REQUEST | NLM_F_ACK;
            Message { flags, ..message.clone() }.write(sequence, &mut bytes);
        }
        self.exchange(&bytes, first)
    }

    /// Sends bytes that are complete messages, the first of them numbered `first`.
    fn exchange(&mut self, bytes: &[u8], first: u32) -> Result<(), (usize, Errno)> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()).map_err(|errno| (0, errno))?;
        let mut failed = None;
        loop {
            let length = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err((0, errno)),
            };
            let datagram = self.buffer.get(..length).unwrap_or_default();
            for (kind, sequence, _, body) in split(datagram).map_err(|errno| (0, errno))? {
                if kind != NLMSG_ERROR {
                    continue;
                }
                if let Some(errno) = error_of(body) {
                    let number = usize::try_from(sequence.wrapping_sub(first)).unwrap_or_default();
                    failed = failed.or(Some((number, errno)));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends a transaction of nftables: its messages between the two that begin and end it.
    pub(in super::super) fn transaction(
        &mut self,
        begin: &Message,
        messages: &[Message],
        end: &Message,
    ) -> Result<(), (usize, Errno)> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(2);
        let last = messages.len().saturating_sub(1);
        begin.write(self.next(), &mut bytes);
        for (number, message) in messages.iter().enumerate() {
            let ack = if number == last { NLM_F_ACK } else { 0 };
            let flags = message.flags | NLM_F_REQUEST | ack;
            Message { flags, ..message.clone() }.write(self.next(), &mut bytes);
        }
        end.write(self.next(), &mut bytes);
        self.exchange(&bytes, first)
    }

    /// Asks for a list; begins again if it changed meanwhile.
    pub(in super::super) fn dump(&mut self, message: &Message) -> Result<Vec<Reply>, Errno> {
        for _ in 0..DUMP_TRIES {
            if let Some(replies) = self.dump_once(message)? {
                return Ok(replies);
            }
        }
        Err(Errno::EBUSY)
    }

    fn dump_once(&mut self, message: &Message) -> Result<Option<Vec<Reply>>, Errno> {
        let mut bytes = Vec::new();
        let asked = self.next();
        let flags = message.flags | NLM_F_REQUEST | NLM_F_DUMP;
        Message { flags, ..message.clone() }.write(asked, &mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let (mut replies, mut interrupted) = (Vec::new(), false);
        loop {
            let length = self.receive()?;
            for (kind, sequence, flags, body) in split(self.buffer.get(..length).unwrap_or_default())? {
                if sequence != asked {
                    continue;
                }
                interrupted |= flags & DUMP_INTERRUPTED != 0;
                match kind {
                    NLMSG_DONE => {
                        // A list that broke off is no list: what is missing in it may be there.
                        if let Some(errno) = error_of(body) {
                            return Err(errno);
                        }
                        return Ok((!interrupted).then_some(replies));
                    }
                    NLMSG_ERROR => return Err(error_of(body).unwrap_or(Errno::EPROTO)),
                    kind => replies.push((kind, body.to_vec())),
                }
            }
        }
    }

    /// Asks for one thing.
    pub(in super::super) fn get(&mut self, message: &Message) -> Result<Reply, Errno> {
        let mut bytes = Vec::new();
        let asked = self.next();
        Message { flags: message.flags | NLM_F_REQUEST, ..message.clone() }.write(asked, &mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        loop {
            let length = self.receive()?;
            for (kind, sequence, _, body) in split(self.buffer.get(..length).unwrap_or_default())? {
                if sequence == asked {
                    return match kind {
                        NLMSG_ERROR => Err(error_of(body).unwrap_or(Errno::EPROTO)),
                        kind => Ok((kind, body.to_vec())),
                    };
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }
}

/// The messages in a datagram: type, sequence number, flags, body.
///
/// # Errors
/// `EBADMSG` for one that is cut, or says a length that it has not: who goes on without what was in it waits for ever.
pub(super) fn split(mut bytes: &[u8]) -> Result<Vec<Part<'_>>, Errno> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] =
            *bytes.first_chunk::<16>().ok_or(Errno::EBADMSG)?;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or_default();
        let body = bytes.get(16..length).ok_or(Errno::EBADMSG)?;
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
        found.push((u16::from_ne_bytes([k0, k1]), sequence, u16::from_ne_bytes([f0, f1]), body));
        bytes = bytes.get(length.next_multiple_of(4).min(bytes.len())..).unwrap_or_default();
    }
    Ok(found)
}

/// The error that an acknowledgement tells of; none if all went well.
fn error_of(body: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}
