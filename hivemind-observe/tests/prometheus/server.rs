//! A real Prometheus for tests, which never outlives them, and a page for it to scrape.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

/// Ends it as soon as its input closes, which happens however the test ends; then removes its directory.
const KEEPER: &str = r#"dir=$1; shift; "$@" >>"$dir/log" 2>&1 & pid=$!
read -r word; kill -9 $pid; wait; rm -rf "$dir""#;

pub(crate) fn is_installed() -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    if ["prometheus", "promtool"].iter().all(|name| Command::new(name).arg("--version").output().is_ok()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "prometheus is not installed, and CI must not go without");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("SKIPPED: prometheus is not installed ({count} so far): apt-get install prometheus");
    false
}

/// Waits until something holds. A minute is long for whatever is waited for, also on a busy machine.
#[allow(clippy::disallowed_methods, reason = "a server outside is waited for in real time")]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("within a minute it did not come to be that {what}");
}

/// Serves the page of now to whoever asks, for as long as the program runs; tells the port.
#[allow(clippy::disallowed_methods, reason = "a server needs a thread of its own")]
pub(crate) fn serve(page: impl Fn() -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = page();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

pub(crate) struct Prometheus {
    port: u16,
    keeper: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Prometheus {
    /// One that scrapes `target` of this machine ten times a second.
    pub(crate) fn scraping(target: u16) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let configuration = format!(
            "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\n\
             scrape_configs: [{{job_name: test, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        );
        fs::write(dir.join("prometheus.yml"), configuration).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", dir.to_str().unwrap(), "prometheus"])
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let server = Self { port, keeper };
        eventually("prometheus is ready", || server.get("/-/ready").starts_with("HTTP/1.0 200"));
        server
    }

    /// The answer of its API to a query of now.
    pub(crate) fn query(&self, query: &str) -> Value {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        serde_json::from_str(body).unwrap()
    }

    fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return String::new() };
        let mut answer = String::new();
        // Without keeping the connection, and in a version in which nothing comes in chunks.
        let asked = write!(stream, "GET {path} HTTP/1.0\r\nHost: prometheus\r\n\r\n");
        let _ = asked.and_then(|()| stream.read_to_string(&mut answer));
        answer
    }
}
