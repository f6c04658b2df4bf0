//! A real etcd for tests, which never outlives them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::eventually;

/// Ends etcd as soon as its input closes, which happens however the test ends; then removes its directory, unless it
/// was told to keep it.
const KEEPER: &str = r#"dir=$1; shift; "$@" >>"$dir/log" 2>&1 & pid=$!; echo $pid
read -r word; kill -9 $pid; wait; [ "$word" = keep ] || rm -rf "$dir""#;

pub(crate) struct Server {
    pub(crate) port: u16,
    health: u16,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
    process: Option<Process>,
}

struct Process {
    keeper: Child,
    pid: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Server {
    /// A fresh etcd with further arguments, or nothing if there is no etcd.
    pub(crate) fn start(further: &[&str]) -> Option<Self> {
        is_installed().then(|| {
            let ports = free_ports();
            let mut server = Self::new("alone", ports, &member("alone", ports), further);
            server.resume_from_disk();
            server
        })
    }

    /// Three members of one cluster.
    pub(crate) fn cluster() -> Option<[Self; 3]> {
        is_installed().then(|| {
            let [a, b, c, d, e, f, g, h, i] = free_ports();
            let members = [("m1", [a, b, c]), ("m2", [d, e, f]), ("m3", [g, h, i])];
            let cluster = members.map(|(name, ports)| member(name, ports)).join(",");
            let mut servers = members.map(|(name, ports)| Self::new(name, ports, &cluster, &[]));
            servers.iter_mut().for_each(Self::spawn);
            servers.iter().for_each(Self::wait);
            servers
        })
    }

    fn new(name: &str, [port, peer, health]: [u16; 3], cluster: &str, further: &[&str]) -> Self {
        let scheme = if further.contains(&"--cert-file") { "https" } else { "http" };
        let (client, peer) = (format!("{scheme}://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
        let health_url = format!("http://127.0.0.1:{health}");
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let arguments = [
            ["--name", name],
            ["--data-dir", data.to_str().unwrap()],
            ["--listen-client-urls", &client],
            ["--advertise-client-urls", &client],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", cluster],
            ["--listen-metrics-urls", &health_url],
            ["--logger", "zap"],
            ["--log-level", "error"],
            // So that tests need not wait for a dead connection to be noticed.
            ["--grpc-keepalive-min-time", "100ms"],
        ];
        let arguments = arguments.concat().into_iter().chain(["--unsafe-no-fsync"]);
        let arguments = arguments.chain(further.iter().copied()).map(str::to_owned).collect();
        Self { port, health, dir, arguments, process: None }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether it leads its cluster.
    pub(crate) fn leads(&self) -> bool {
        page(self.health, "metrics").is_some_and(|page| page.contains("\netcd_server_is_leader 1"))
    }

    /// Ends it, without a farewell. What it stored stays.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.keeper.stdin.as_ref().unwrap().write_all(b"keep\n").unwrap();
        process.keeper.wait().unwrap();
    }

    /// Starts it again on the same data, and waits until it is well.
    pub(crate) fn resume_from_disk(&mut self) {
        self.spawn();
        self.wait();
    }

    fn wait(&self) {
        eventually("etcd is well", || is_well(self.health));
    }

    fn spawn(&mut self) {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", self.dir.path().to_str().unwrap(), "etcd"])
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        self.process = Some(Process { keeper, pid: pid.trim().to_owned() });
    }

    /// Stops it from doing anything, until it is thawed. Connections stay open.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = &self.process.as_ref().unwrap().pid;
        assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
    }
}

/// A member as the members know it.
fn member(name: &str, [_, peer, _]: [u16; 3]) -> String {
    format!("{name}=http://127.0.0.1:{peer}")
}

/// The etcd that all tests share that neither break nor compact it.
pub(crate) fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    // Asked each time, so that each test that is skipped says so.
    if is_installed() { SHARED.get_or_init(|| Server::start(&[])).as_ref() } else { None }
}

fn is_installed() -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    if Command::new("etcd").arg("--version").output().is_ok() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "etcd is not installed, and CI must not go without");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("SKIPPED: etcd is not installed ({count} so far): apt-get install etcd-server");
    false
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that they differ.
    let listeners: [_; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn is_well(port: u16) -> bool {
    page(port, "health").is_some_and(|page| page.contains(r#""health":"true""#))
}

fn page(port: u16, name: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reply = String::new();
    write!(stream, "GET /{name} HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n").ok()?;
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}
