//! Real packets between namespaces: servers that say who they are, and clients that ask many at once.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hivemind_net::dataplane::state::Netns;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Tcp(u16),
    Udp(u16),
    Echo,
}

/// A question, and who answered it: empty if somebody did whose name an echo does not tell.
pub(crate) struct Probe {
    pub(crate) kind: Kind,
    pub(crate) to: IpAddr,
    pub(crate) answer: Option<String>,
}

/// Runs `work` on a thread in a namespace.
pub(crate) fn inside<T: Send + 'static>(
    at: &Netns,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let path = format!("/run/netns/{at}");
    std::thread::spawn(move || {
        let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Servers in a namespace that answer with a name, until dropped.
pub(crate) struct Servers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    pub(crate) fn start(at: &Netns, name: &str, tcp: &[u16], udp: &[u16]) -> Self {
        let name = name.to_owned();
        Self::answering(at, move |_| name.clone(), tcp, udp)
    }

    /// Servers that answer with the address that they were asked from.
    pub(crate) fn mirrors(at: &Netns, tcp: &[u16], udp: &[u16]) -> Self {
        Self::answering(at, |from| from.ip().to_canonical().to_string(), tcp, udp)
    }

    fn answering(
        at: &Netns,
        answer: impl Fn(SocketAddr) -> String + Send + 'static,
        tcp: &[u16],
        udp: &[u16],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let any = |port: &u16| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port);
        let (tcp, udp): (Vec<_>, Vec<_>) = (tcp.iter().map(any).collect(), udp.iter().map(any).collect());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = inside(at, move || {
            let listeners: Vec<_> = tcp.iter().map(|at| TcpListener::bind(at).unwrap()).collect();
            let sockets: Vec<_> = udp.iter().map(|at| UdpSocket::bind(at).unwrap()).collect();
            listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
            sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            ready.send(()).unwrap();
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                for listener in &listeners {
                    while let Ok((mut stream, from)) = listener.accept() {
                        let _ = stream.write_all(answer(from).as_bytes());
                    }
                }
                for socket in &sockets {
                    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(answer(from).as_bytes(), from);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        is_ready.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// The checksum of the internet protocols (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

fn echo_request(v6: bool, number: u16) -> Vec<u8> {
    let mut bytes = vec![if v6 { 128 } else { 8 }, 0, 0, 0];
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if !v6 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

impl Probe {
    pub(crate) fn new(kind: Kind, to: IpAddr) -> Self {
        Self { kind, to, answer: None }
    }

    fn open(&self) -> Socket {
        let domain = if self.to.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let (kind, protocol) = match self.kind {
            Kind::Tcp(_) => (Type::STREAM, Protocol::TCP),
            Kind::Udp(_) => (Type::DGRAM, Protocol::UDP),
            Kind::Echo if self.to.is_ipv6() => (Type::RAW, Protocol::ICMPV6),
            Kind::Echo => (Type::RAW, Protocol::ICMPV4),
        };
        let socket = Socket::new(domain, kind, Some(protocol)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = match self.kind {
            Kind::Tcp(port) | Kind::Udp(port) => port,
            Kind::Echo => 0,
        };
        // A connection that is on its way, and one that is refused at once, are told apart when it is read.
        let _ = socket.connect(&SockAddr::from(SocketAddr::new(self.to, port)));
        socket
    }

    fn ask(&self, socket: &Socket, number: u16) {
        let _ = match self.kind {
            Kind::Tcp(_) => return,
            Kind::Udp(_) => socket.send(b"who"),
            Kind::Echo => socket.send(&echo_request(self.to.is_ipv6(), number)),
        };
    }

    fn look(&mut self, socket: &mut Socket, number: u16) {
        let mut buffer = [0; 256];
        loop {
            let length = match socket.read(&mut buffer) {
                Ok(length) if length > 0 => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                _ => return,
            };
            let bytes = &buffer[..length];
            match self.kind {
                Kind::Tcp(_) | Kind::Udp(_) => {
                    self.answer = Some(String::from_utf8_lossy(bytes).into_owned());
                    return;
                }
                Kind::Echo => {
                    // IPv4 gives its header as well.
                    let start = if self.to.is_ipv6() { 0 } else { usize::from(bytes[0] & 15) * 4 };
                    let reply = if self.to.is_ipv6() { 129 } else { 0 };
                    if bytes[start] == reply && bytes[start + 4..start + 6] == number.to_be_bytes() {
                        self.answer = Some(String::new());
                        return;
                    }
                }
            }
        }
    }
}

/// Asks all of them at once from a namespace, for as long as `patience`; says who answered.
pub(crate) fn ask(from: &Netns, mut probes: Vec<Probe>, patience: Duration) -> JoinHandle<Vec<Probe>> {
    // An echo with the identifier of an earlier one would be part of that one's connection.
    static IDENTIFIERS: AtomicU16 = AtomicU16::new(1);
    let first = IDENTIFIERS.fetch_add(u16::try_from(probes.len()).unwrap(), Ordering::Relaxed);
    inside(from, move || {
        let mut sockets: Vec<_> = probes.iter().map(Probe::open).collect();
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        while begun.elapsed() < patience && probes.iter().any(|probe| probe.answer.is_none()) {
            let again = asked.is_none_or(|at| at.elapsed() > Duration::from_millis(300));
            if again {
                asked = Some(Instant::now());
            }
            for ((probe, socket), number) in probes.iter_mut().zip(&mut sockets).zip(first..) {
                if probe.answer.is_some() {
                    continue;
                }
                if again {
                    probe.ask(socket, number);
                }
                probe.look(socket, number);
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        probes
    })
}
