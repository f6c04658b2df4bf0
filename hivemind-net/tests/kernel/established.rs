//! Real TCP connections across a change of policies.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hivemind_core::block_on;
use hivemind_net::Dataplane;
use hivemind_net::dataplane::Connection;
use hivemind_net::dataplane::state::Netns;
use hivemind_net::overlay::UnderlayFamily;
use hivemind_net::policy::rules::{self, Established, stale_connections};
use hivemind_net::policy::{Engine, Traffic};

use crate::behaviour::netns_of;
use crate::cluster::{Cluster, Inner, tenant};
use crate::lab::{ip, is_root};
use crate::probe::inside;

const PATIENCE: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(700);
const PORT: u16 = 8080;
const SERVER: [&str; 2] = ["fd10::3:2", "10.10.3.2"];

/// Gives back what it is sent, until dropped.
struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn start(at: &Netns) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (ready, is_ready)) = (stop.clone(), channel());
        let thread = inside(at, move || {
            let listener = TcpListener::bind(("::", PORT)).unwrap();
            listener.set_nonblocking(true).unwrap();
            ready.send(()).unwrap();
            let (mut streams, mut buffer): (Vec<TcpStream>, _) = (Vec::new(), [0; 64]);
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    streams.push(stream);
                }
                for stream in &mut streams {
                    if let Ok(length) = stream.read(&mut buffer) {
                        let _ = stream.write_all(&buffer[..length]);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        is_ready.recv().unwrap();
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// An open connection to an [`Echo`].
struct Talk {
    say: Sender<Duration>,
    heard: Receiver<bool>,
}

impl Talk {
    fn open(from: &Netns, to: IpAddr) -> Self {
        let ((say, said), (tell, heard)) = (channel::<Duration>(), channel());
        inside(from, move || {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, PORT), PATIENCE).unwrap();
            for (patience, number) in said.into_iter().zip(1_u8..) {
                stream.set_read_timeout(Some(patience)).unwrap();
                let mut answer = [0];
                let came = stream.write_all(&[number]).is_ok() && stream.read_exact(&mut answer).is_ok();
                tell.send(came && answer == [number]).unwrap();
            }
        });
        Self { say, heard }
    }

    /// Whether what is said now comes back.
    fn works(&self, patience: Duration) -> bool {
        self.say.send(patience).unwrap();
        self.heard.recv().unwrap()
    }
}

/// Whether a new connection is let in.
fn connects(from: &Netns, to: IpAddr, patience: Duration) -> bool {
    let asked = inside(from, move || {
        TcpStream::connect_timeout(&SocketAddr::new(to, PORT), patience).map_err(|error| error.kind())
    });
    match asked.join().unwrap() {
        Ok(_) => true,
        Err(ErrorKind::TimedOut) => false,
        Err(other) => panic!("{to}: {other}"),
    }
}

/// The TCP connections on a host that policies do not let in any more.
fn stale(cluster: &Cluster, host: u8, established: Established) -> Vec<Connection> {
    let engine = Engine::new(cluster.world.clone());
    let all = block_on(cluster.agents[&host].connections(&cluster.router("red", host))).unwrap();
    let is_stale = |one: &Connection| {
        let traffic = Traffic::tcp(one.destination_port);
        let known = rules::Connection::new(tenant("red"), one.source, one.destination, traffic);
        stale_connections(&engine, established, |_| false, |_| None, [known]).next().is_some()
    };
    all.into_iter().filter(|one| one.protocol == 6 && is_stale(one)).collect()
}

#[test]
fn tcp_connections_outlive_a_stricter_policy_until_they_are_cut_and_those_still_allowed_are_not() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::new("tcp", UnderlayFamily::V6, Inner::Dual);
    cluster.sync();
    let _echo = Echo::start(&netns_of(&cluster, "red", "w32"));
    let open =
        |cluster: &Cluster, from: &str| SERVER.map(|to| Talk::open(&netns_of(cluster, "red", from), ip(to)));
    // w11 is a web, as the policy wants it; w12 is none.
    let (web, other) = (open(&cluster, "w11"), open(&cluster, "w12"));
    let all_work =
        |talks: &[Talk; 2], patience| talks.iter().map(|talk| talk.works(patience)).collect::<Vec<_>>();
    assert_eq!(all_work(&web, PATIENCE), [true, true]);
    assert_eq!(all_work(&other, PATIENCE), [true, true]);

    let only_web = r#"{"podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]}]}"#;
    cluster.policy("red", "db", only_web);
    cluster.sync();
    for to in SERVER {
        assert!(connects(&netns_of(&cluster, "red", "w11"), ip(to), PATIENCE));
        assert!(!connects(&netns_of(&cluster, "red", "w12"), ip(to), NEVER), "nothing new, {to}");
    }
    assert_eq!(all_work(&web, PATIENCE), [true, true]);
    assert_eq!(all_work(&other, PATIENCE), [true, true], "what is established goes on");
    for host in 1..=3 {
        assert_eq!(stale(&cluster, host, Established::Keep), []);
    }

    // They are known on the hosts of both ends, and forgotten on both.
    for host in [1, 3] {
        let cut = stale(&cluster, host, Established::Cut);
        let openers: BTreeSet<_> = cut.iter().map(|one| one.source).collect();
        assert_eq!(openers, BTreeSet::from([ip("fd10::1:2"), ip("10.10.1.2")]), "host {host}");
        let router = cluster.router("red", host);
        assert_eq!(block_on(cluster.agents[&host].forget(&router, &cut)).unwrap(), cut.len());
    }
    assert_eq!(
        all_work(&other, NEVER),
        [false, false],
        "what was cut is judged as the first packet of a new one"
    );
    assert_eq!(all_work(&web, PATIENCE), [true, true], "nobody else has lost anything");
}
