//! Answers whoever comes to a unix socket.

use std::convert::Infallible;
use std::fs::{File, TryLockError};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use hivemind_core::{Error, ErrorKind, Result};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{UnixListener, UnixStream};

use super::CsiServer;
use super::route::route;

/// How long calls that go on may take once the driver is to end.
const GRACE: Duration = Duration::from_secs(10);
/// How often to look whether others have begun to listen.
const TRY: Duration = Duration::from_millis(10);
/// How long to wait when there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

impl CsiServer {
    /// Answers calls at the unix socket `path`, within tokio, until `shutdown` is ready; then calls that go on have 10
    /// seconds to end, and the socket is removed.
    ///
    /// A socket at which nobody listens is replaced, by one of those that find it so: its directory is locked meanwhile.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if somebody listens there already, or `path` is something else than a
    /// socket; [`Unavailable`](ErrorKind::Unavailable) if it cannot be made.
    pub async fn serve(
        self,
        path: impl AsRef<Path>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<()> {
        let path = path.as_ref();
        let listener = listen(path).await?;
        let graceful = GracefulShutdown::new();
        self.accept(&listener, &graceful, shutdown).await;
        // While it is still ours: whoever comes next may make a new one at once.
        let removed = std::fs::remove_file(path).map_err(|e| failed(path, "cannot be removed", e));
        drop(listener);
        let _ended_in_time = tokio::time::timeout(GRACE, graceful.shutdown()).await.is_ok();
        removed
    }

    async fn accept(
        self,
        listener: &UnixListener,
        graceful: &GracefulShutdown,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => return,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let server = self.clone();
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(route(server, request).await) }
            });
            let connection =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
            // Ends when the caller hangs up or breaks the protocol, which is the caller's affair.
            tokio::spawn(graceful.watch(connection));
        }
    }
}

fn failed(path: &Path, what: &str, source: std::io::Error) -> Error {
    let message = format!("the socket {} {what}: {source}", path.display());
    Error::new(ErrorKind::Unavailable, "csi", message).with_source(source)
}

/// Keeps other drivers from beginning to listen in the directory of `path`, until the answer is dropped.
async fn alone(path: &Path) -> Result<File> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = File::open(directory).map_err(|e| failed(path, "has a directory that cannot be opened", e))?;
    let waits = async {
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => tokio::time::sleep(TRY).await,
                Err(TryLockError::Error(e)) => {
                    return Err(failed(path, "has a directory that cannot be locked", e));
                }
                Ok(()) => return Ok(()),
            }
        }
    };
    let locked = tokio::time::timeout(GRACE, waits).await;
    let busy = || std::io::Error::from(std::io::ErrorKind::WouldBlock);
    locked.unwrap_or_else(|_| Err(failed(path, "has a directory that somebody keeps locked", busy())))?;
    Ok(file)
}

/// Listens at `path`; removes a socket at which nobody does.
async fn listen(path: &Path) -> Result<UnixListener> {
    // Of two that find a stale socket one would otherwise remove what the other has just made.
    let _alone = alone(path).await?;
    let taken = |what: &str| {
        let message = format!("{} is {what}: choose another path, or remove it", path.display());
        Error::new(ErrorKind::AlreadyExists, "csi", message)
    };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(path, "cannot be looked at", e)),
        Ok(found) if !found.file_type().is_socket() => return Err(taken("there, and no socket")),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(taken("a socket at which somebody listens")),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(|e| failed(path, "is stale and cannot be removed", e))?;
            }
            Err(e) => return Err(failed(path, "cannot be tried", e)),
        },
    }
    UnixListener::bind(path).map_err(|e| failed(path, "cannot be made", e))
}
