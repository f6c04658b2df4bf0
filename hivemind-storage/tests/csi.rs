//! CSI over real sockets: our client against our server, and what goes wrong between them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
#![allow(clippy::disallowed_methods, reason = "it waits until a socket is there")]

#[path = "csi/statuses.rs"]
mod statuses;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hivemind_core::resources::ByteSize;
use hivemind_core::{
    Effect, ErrorKind, Generation, NodeId, OpToken, Progress, ProviderName, Result, TenantRef, async_trait,
    block_on,
};
use hivemind_storage::conformance::{self, Content, Fixture, Need};
use hivemind_storage::{
    AccessMode, AttachVolume, Capability, CreateSnapshot, CreateVolume, CsiFactory, CsiNode, CsiOptions,
    CsiProvider, CsiServer, CsiServerOptions, FixedSecrets, MemoryNode, MemoryProvider, NodeInfo, NodeRef,
    ProviderConfig, ProviderFactory, SizeRange, SnapshotKey, StorageProvider, StorageProviderType, VolumeKey,
    VolumeOptions, VolumeRef,
};
use suite::{MemoryContent, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};

fn tenant(name: &str) -> TenantRef {
    TenantRef::new(name.parse().unwrap(), Generation::from_u64(1))
}

fn name() -> ProviderName {
    "disk".parse().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A directory for sockets, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hivemind-csi-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn server_options() -> CsiServerOptions {
    CsiServerOptions::new("disk.csi.example.com", "1.2.3", tenant("served")).unwrap()
}

/// Serves `provider` at `path` until the runtime ends.
fn serve(runtime: &Runtime, path: &Path, provider: &Arc<MemoryProvider>) {
    let node: NodeId = "n1".parse().unwrap();
    let node = MemoryNode::new(provider.clone(), NodeInfo::new(node));
    let server = CsiServer::new(server_options()).with_provider(provider.clone()).with_node(Arc::new(node));
    let path = path.to_owned();
    runtime.spawn(async move { server.serve(path, std::future::pending()).await });
}

fn options(path: &Path) -> CsiOptions {
    let everything = MemoryProvider::new(name()).capabilities();
    CsiOptions::new(name(), path.to_str().unwrap())
        .unwrap()
        .with_access_modes(everything.access_modes)
        .with_volume_modes(true, true)
        .assuming([Capability::GrowFromSource, Capability::HardLimit])
}

/// Connects once the server listens.
fn connect(runtime: &Runtime, path: &Path) -> CsiProvider {
    let options = options(path).with_runtime(runtime.handle().clone());
    for _ in 0..500 {
        if let Ok(connected) = block_on(CsiProvider::connect(options.clone())) {
            return connected;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    block_on(CsiProvider::connect(options)).unwrap()
}

fn create(key: &VolumeKey) -> CreateVolume {
    let size = SizeRange::at_least(ByteSize::from_mib(1)).unwrap();
    CreateVolume::new(OpToken::new("t"), key.clone(), size, VolumeOptions::default())
}

fn key(tenant_name: &str) -> VolumeKey {
    VolumeKey::new(tenant(tenant_name), "data".parse().unwrap())
}

fn made(provider: &CsiProvider, key: &VolumeKey) -> VolumeRef {
    block_on(provider.create_volume(&create(key))).unwrap().ready().unwrap().volume
}

/// What is in the volumes behind a driver, by the ids that it gives them.
#[derive(Debug)]
struct Behind(MemoryContent);

impl Behind {
    fn volume(volume: &VolumeRef) -> VolumeRef {
        let (name, handle) = volume.handle.as_str().split_once('.').unwrap();
        VolumeRef::new(VolumeKey::new(tenant("served"), name.parse().unwrap()), handle.parse().unwrap())
    }
}

#[async_trait]
impl Content for Behind {
    async fn write(&self, volume: &VolumeRef, bytes: &[u8]) -> Result<()> {
        self.0.write(&Self::volume(volume), bytes).await
    }

    async fn read(&self, volume: &VolumeRef) -> Result<Vec<u8>> {
        self.0.read(&Self::volume(volume)).await
    }

    async fn fill(&self, volume: &VolumeRef, size: ByteSize) -> Result<()> {
        self.0.fill(&Self::volume(volume), size).await
    }
}

/// What no caller of CSI can ask for, and so no driver can do.
const UNSAID: [Capability; 4] =
    [Capability::RestoreInPlace, Capability::Fence, Capability::Encryption, Capability::Replicas];

#[test]
fn the_suite_passes_through_a_socket() {
    let (runtime, place) = (runtime(), Place::new());
    let count = AtomicU64::new(0);
    for (delay, loss) in [(0, 0), (3, 0), (3, 4)] {
        let setup = Setup { delay, loss, ..Setup::default() };
        let fixture = || {
            let path = place.socket(&format!("{}.sock", count.fetch_add(1, Ordering::Relaxed)));
            let provider = Arc::new(setup.provider());
            serve(&runtime, &path, &provider);
            let (client, twin) = (connect(&runtime, &path), connect(&runtime, &path));
            let on = options(&path).with_runtime(runtime.handle().clone());
            let node = block_on(CsiNode::connect(on, suite::nodes()[0].clone())).unwrap();
            let fixture = Fixture::new(Arc::new(client), suite::nodes(), suite::size())
                .with_twin(Arc::new(twin))
                .with_node(Arc::new(node), "/nonexistent/conformance")
                .with_places(suite::places())
                .with_content(Arc::new(Behind(MemoryContent(provider))))
                .without_keys();
            std::future::ready(fixture)
        };
        let report = block_on(conformance::run_all(fixture));
        assert_eq!(report.failed, [], "delay {delay}, loss {loss}");
        let unsaid = |need: &Need| match need {
            Need::Capability(capability) => UNSAID.contains(capability),
            Need::Keys => true,
            _ => false,
        };
        let present = |need: &Need| {
            let text = format!("{need:?}");
            text.starts_with("Without")
        };
        let skipped: Vec<_> =
            report.skipped.iter().filter(|(_, need)| !unsaid(need) && !present(need)).collect();
        assert_eq!(skipped, Vec::<&(&str, Need)>::new());
        assert!(report.passed.len() >= 120, "{} cases passed", report.passed.len());
    }
}

#[test]
fn a_client_works_under_any_executor_and_finds_a_driver_that_was_restarted() {
    let place = Place::new();
    let path = place.socket("csi.sock");
    let provider = Arc::new(MemoryProvider::new(name()));
    let first = runtime();
    serve(&first, &path, &provider);
    let clients = runtime();
    let client = connect(&clients, &path);
    assert_eq!(client.plugin_info().name, "disk.csi.example.com");
    let volume = made(&client, &key("acme"));
    // Killed: the socket stays, and nobody listens at it.
    first.shutdown_background();
    let second = runtime();
    // The old one lets go of the socket a moment after it was killed.
    let back = (0..500).any(|_| {
        serve(&second, &path, &provider);
        std::thread::sleep(Duration::from_millis(20));
        block_on(client.probe()).is_ok()
    });
    assert!(back, "the second server never answered");
    assert_eq!(block_on(client.get_volume_status(&volume)).unwrap().handle, volume.handle);
    // Without any runtime around.
    let own = block_on(CsiProvider::connect(options(&path))).unwrap();
    assert_eq!(block_on(own.get_provider_metrics()).unwrap().volumes, 1);
}

#[test]
fn tenants_of_a_client_do_not_share_names_and_a_source_of_another_does_not_exist() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    serve(&runtime, &path, &Arc::new(MemoryProvider::new(name())));
    let client = connect(&runtime, &path);
    let (ours, theirs) = (made(&client, &key("acme")), made(&client, &key("evil")));
    assert_ne!(ours.handle, theirs.handle);
    let copy = VolumeKey::new(tenant("evil"), "copy".parse().unwrap());
    let stolen = block_on(client.clone_volume(&ours, &create(&copy)));
    assert!(stolen.is_err_and(|e| e.kind() == ErrorKind::NotFound));
}

#[test]
fn a_server_shows_the_volumes_of_its_tenant_alone() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    let provider = Arc::new(MemoryProvider::new(name()));
    block_on(provider.create_volume(&create(&key("other")))).unwrap();
    serve(&runtime, &path, &provider);
    let client = connect(&runtime, &path);
    assert_eq!(block_on(client.list_volumes(None, 10)).unwrap().items, []);
    let volume = made(&client, &key("acme"));
    let listed = block_on(client.list_volumes(None, 1)).unwrap();
    assert_eq!(listed.items.iter().map(|found| &found.handle).collect::<Vec<_>>(), [&volume.handle]);
}

#[test]
fn pitfall_23_a_repeated_creation_finds_what_the_lost_one_made() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    // Every creation happens, and its reply is lost.
    let provider = Arc::new(MemoryProvider::new(name()).losing_one_in(1));
    serve(&runtime, &path, &provider);
    let client = connect(&runtime, &path);
    let lost = block_on(client.create_volume(&create(&key("acme")))).unwrap_err();
    assert_eq!((lost.kind(), lost.effect()), (ErrorKind::Unavailable, Effect::Unknown));
    // The same driver, restarted over the same disks.
    let sound = Arc::new(MemoryProvider::restored(name(), provider.changes()));
    let again = place.socket("again.sock");
    serve(&runtime, &again, &sound);
    let client = connect(&runtime, &again);
    let volume = made(&client, &key("acme"));
    assert_eq!(made(&client, &key("acme")), volume);
    assert_eq!(block_on(client.list_volumes(None, 10)).unwrap().items.len(), 1);
}

#[test]
fn what_a_volume_is_refused_for_comes_through() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    serve(&runtime, &path, &Arc::new(MemoryProvider::new(name()).with_capacity(ByteSize::from_mib(4))));
    let client = connect(&runtime, &path);
    let volume = made(&client, &key("acme"));
    let on = |node: &str| {
        let node: NodeId = node.parse().unwrap();
        AttachVolume::new(OpToken::new("a"), volume.clone(), NodeRef::from(node))
    };
    assert!(block_on(client.attach_volume(&on("n1"))).is_ok());
    let second = block_on(client.attach_volume(&on("n2"))).unwrap_err();
    assert_eq!((second.kind(), second.effect()), (ErrorKind::Conflict, Effect::NotStarted));
    assert!(second.message().contains("n1"), "{second}");
    let large = SizeRange::at_least(ByteSize::from_mib(100)).unwrap();
    let full = block_on(client.expand_volume(&OpToken::new("e"), &volume, large)).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted);
    let small = SizeRange::new(ByteSize::from_bytes(1), Some(ByteSize::from_bytes(2))).unwrap();
    let shrunk = block_on(client.expand_volume(&OpToken::new("e"), &volume, small)).unwrap_err();
    assert_eq!(shrunk.kind(), ErrorKind::Invalid);
    let wish = VolumeOptions::default().with_access_mode(AccessMode::ReadWriteOnce).with_encryption(true);
    let mut wish_for = create(&key("beta"));
    wish_for.options = wish;
    let refused = block_on(client.create_volume(&wish_for)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    let snapshot = SnapshotKey::new(volume.key.clone(), "nightly".parse().unwrap());
    let snapshot = CreateSnapshot::new(OpToken::new("s"), snapshot, volume);
    assert!(matches!(block_on(client.create_snapshot(&snapshot)), Ok(Progress::Ready(taken)) if taken.ready));
}

#[test]
fn a_live_socket_and_a_file_are_left_alone() {
    let (runtime, place) = (runtime(), Place::new());
    let (path, file) = (place.socket("csi.sock"), place.socket("file"));
    let provider = Arc::new(MemoryProvider::new(name()));
    serve(&runtime, &path, &provider);
    let client = connect(&runtime, &path);
    let second = CsiServer::new(server_options()).serve(&path, std::future::pending());
    assert!(runtime.block_on(second).is_err_and(|e| e.message().contains("somebody listens")));
    assert!(block_on(client.probe()).is_ok());
    std::fs::write(&file, "precious").unwrap();
    let third = CsiServer::new(server_options()).serve(&file, std::future::pending());
    assert!(runtime.block_on(third).is_err_and(|e| e.kind() == ErrorKind::AlreadyExists));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn of_many_drivers_that_find_a_stale_socket_one_listens_and_keeps_it() {
    let (runtime, place) = (runtime(), Place::new());
    for round in 0..10 {
        let path = place.socket(&format!("{round}.sock"));
        // Whoever listened there is gone, and its socket is not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (end, ended) = tokio::sync::watch::channel(());
        let all: Vec<_> = (0..8)
            .map(|_| {
                let (path, mut ended) = (path.clone(), ended.clone());
                let until = async move { drop(ended.changed().await) };
                runtime.spawn(async move { CsiServer::new(server_options()).serve(path, until).await })
            })
            .collect();
        let over = || all.iter().filter(|task| task.is_finished()).count();
        let settled = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            over() == 7
        });
        assert!(settled, "{} of 8 do not listen", over());
        let caller = std::os::unix::net::UnixStream::connect(&path);
        assert!(caller.is_ok(), "the socket leads to nobody: {caller:?}");
        drop((caller, end));
        for task in all {
            if let Err(error) = runtime.block_on(task).unwrap() {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            }
        }
    }
}

#[test]
fn a_driver_that_ends_removes_its_socket() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    let ended = CsiServer::new(server_options()).serve(&path, std::future::ready(()));
    runtime.block_on(ended).unwrap();
    assert!(!path.exists());
}

#[test]
fn nobody_at_the_socket_is_unavailable_and_a_driver_for_nodes_has_no_controller() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    let nobody = block_on(CsiProvider::connect(options(&path))).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unavailable);
    let server = CsiServer::new(server_options());
    let at = path.clone();
    runtime.spawn(async move { server.serve(at, std::future::pending()).await });
    // The socket is there a moment before somebody listens at it.
    let answers = || block_on(CsiProvider::connect(options(&path))).unwrap_err();
    let none = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        Some(answers()).filter(|e| e.kind() != ErrorKind::Unavailable)
    });
    let none = none.unwrap();
    assert_eq!((none.kind(), none.message().contains("no controller")), (ErrorKind::Unsupported, true));
}

#[test]
fn a_driver_is_used_as_it_is_configured() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    serve(&runtime, &path, &Arc::new(MemoryProvider::new(name())));
    connect(&runtime, &path);
    let mut factory = CsiFactory::default();
    factory.secrets.insert("vault".to_owned(), Arc::new(FixedSecrets::new()));
    let connect = |settings: &[(&str, &str)]| {
        let config =
            ProviderConfig::new(name(), StorageProviderType::Ceph).with("endpoint", path.to_str().unwrap());
        let config = settings.iter().fold(config, |config, (setting, value)| config.with(setting, *value));
        block_on(factory.connect(&config))
    };
    let all = [
        ("modes", "filesystem, block"),
        ("access-modes", "read-write-once,read-write-many"),
        ("assume", "grow-from-source"),
        ("timeout", "5"),
        ("driver", "disk.csi.example.com"),
        ("versions", "1.2.2,1.2.3"),
        ("secrets", "vault"),
    ];
    let able = connect(&all).unwrap().capabilities();
    assert!(able.filesystem && able.block && able.has(Capability::GrowFromSource));
    assert!(!able.has(Capability::HardLimit));
    assert_eq!(able.access_modes, [AccessMode::ReadWriteOnce, AccessMode::ReadWriteMany].into());
    for (setting, value, part) in [
        ("modes", "disk", "give some of: filesystem, block"),
        ("access-modes", "rwx", "read-write-many"),
        ("assume", "attach", "give some of: grow-from-source, hard-limit"),
        ("timeout", "0", "whole seconds, at least one"),
        ("secrets", "safe", "give one of: vault"),
        ("socket", "x", "has a setting socket; there are: access-modes"),
    ] {
        let refused = connect(&[(setting, value)]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.message().contains(part), "{refused}");
    }
    for (setting, value, part) in [
        (
            "driver",
            "other.csi.example.com",
            "driver other.csi.example.com is wanted, and disk.csi.example.com listens",
        ),
        ("versions", "1.2.4", "version 1.2.4 of disk.csi.example.com is wanted, and 1.2.3 listens"),
    ] {
        let refused = connect(&[(setting, value)]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.message().contains(part), "{refused}");
    }
}

/// A frame of HTTP/2: its length, kind, flags, stream and payload.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

/// A header that is not in any table: a literal without indexing.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The kinds of the frames, and their payloads, by which a server answers Probe under this authority, up to the last one.
async fn answers(path: &Path, authority: &str) -> Vec<(u8, Vec<u8>)> {
    let headers = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", "/csi.v1.Identity/Probe"),
        literal(":authority", authority),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ];
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[])); // SETTINGS
    sent.extend(frame(1, 4, 1, &headers.concat())); // HEADERS, the end of them
    sent.extend(frame(0, 1, 1, &[0; 5])); // DATA: an empty message, the end of the stream
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(&sent).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        seen.push((head[3], payload));
        let (reset, trailers) = (head[3] == 3, head[3] == 1 && head[4] & 1 == 1);
        if reset || trailers {
            return seen;
        }
    }
}

#[test]
fn pitfall_24_a_path_as_authority_is_refused_by_http2_and_localhost_is_not() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    serve(&runtime, &path, &Arc::new(MemoryProvider::new(name())));
    connect(&runtime, &path);
    // RST_STREAM with PROTOCOL_ERROR: what the documentation of `CsiServer` says, until h2 says otherwise.
    for authority in ["/run/csi.sock", "%2Frun%2Fcsi.sock"] {
        let seen = runtime.block_on(answers(&path, authority));
        assert_eq!(seen.last(), Some(&(3, vec![0, 0, 0, 1])), "{authority}");
    }
    let seen = runtime.block_on(answers(&path, "localhost"));
    // DATA: a message of four bytes, `ready { value: true }`.
    assert!(seen.contains(&(0, vec![0, 0, 0, 0, 4, 10, 2, 8, 1])), "{seen:?}");
}

#[test]
fn pitfall_24_our_client_says_localhost() {
    let (runtime, place) = (runtime(), Place::new());
    let path = place.socket("csi.sock");
    let client_options =
        options(&path).with_runtime(runtime.handle().clone()).with_timeout(Duration::from_secs(20));
    let authority = runtime.block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let calling = tokio::spawn(CsiProvider::connect(client_options));
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            tell.send(request.uri().authority().map(ToString::to_string)).unwrap();
            let answer = tonic::Status::unimplemented("").into_http::<tonic::body::Body>();
            std::future::ready(Ok::<_, std::convert::Infallible>(answer))
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        tokio::spawn(hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service));
        let refused = calling.await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        told.recv().unwrap()
    });
    assert_eq!(authority.as_deref(), Some("localhost"));
}
