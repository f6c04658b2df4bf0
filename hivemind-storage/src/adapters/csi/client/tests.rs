//! A driver over a real socket that refuses every call that does not carry the right secret, and tells in its refusal
//! which one it got.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hivemind_core::resources::ByteSize;
use hivemind_core::{ErrorKind, Generation, OpToken, Progress, Result, SecretBytes, TenantRef, block_on};
use http::{Request as HttpRequest, Response as HttpResponse};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::super::wire::{self, SecretEntry, numbers};
use super::{CsiNode, CsiOptions, CsiProvider};
use crate::*;

/// Answers any request of one kind.
struct Method<F>(F);

impl<I, O, F: FnMut(I) -> Result<O, Status>> UnaryService<I> for Method<F> {
    type Response = O;
    type Future = std::future::Ready<Result<Response<O>, Status>>;

    fn call(&mut self, request: Request<I>) -> Self::Future {
        std::future::ready((self.0)(request.into_inner()).map(Response::new))
    }
}

/// What the driver wants for a purpose.
fn right(purpose: &str) -> String {
    format!("right-{purpose}-7f3a")
}

fn check(purpose: SecretPurpose, secrets: &[SecretEntry]) -> Result<(), Status> {
    let got = secrets.iter().find(|entry| entry.name == "password").map(|entry| entry.value.as_str());
    match got {
        None => Err(Status::unauthenticated("there is no password")),
        Some(password) if password == right(&purpose.to_string()) => Ok(()),
        Some(password) => Err(Status::permission_denied(format!("password {password} is wrong"))),
    }
}

fn rpcs(kinds: impl IntoIterator<Item = i32>) -> wire::CapabilitiesResponse {
    let rpc = |kind| wire::ServiceCapability { rpc: Some(wire::Rpc { kind }) };
    wire::CapabilitiesResponse { capabilities: kinds.into_iter().map(rpc).collect() }
}

fn plugin() -> wire::GetPluginCapabilitiesResponse {
    let service = |kind| wire::PluginCapability {
        service: Some(wire::PluginService { kind }),
        ..wire::PluginCapability::default()
    };
    let both = [numbers::plugin::CONTROLLER, numbers::plugin::GROUP_CONTROLLER];
    wire::GetPluginCapabilitiesResponse { capabilities: both.map(service).into() }
}

fn snapshot() -> wire::Snapshot {
    wire::Snapshot {
        snapshot_id: "s".to_owned(),
        source_volume_id: "v".to_owned(),
        ready_to_use: true,
        ..wire::Snapshot::default()
    }
}

macro_rules! strict {
    ($request:ident, open { $($open:literal => $answer:expr,)* }, $($path:literal => $message:ident, $purpose:ident, $told:expr;)*) => {
        match $request.uri().path() {
            $($open => {
                let method = Method(|_: wire::Empty| Ok($answer));
                Grpc::new(ProstCodec::default()).unary(method, $request).await
            })*
            $($path => {
                let method = Method(|message: wire::$message| {
                    check(SecretPurpose::$purpose, &message.secrets)?;
                    Ok($told)
                });
                Grpc::new(ProstCodec::default()).unary(method, $request).await
            })*
            other => Status::unimplemented(format!("there is no method {other}")).into_http(),
        }
    };
}

/// The driver: `lists` says whether it has lists, or calls for one snapshot.
async fn answer(request: HttpRequest<Incoming>, lists: bool) -> HttpResponse<Body> {
    use numbers::controller as rpc;
    let all = (1..=14).filter(|kind| {
        // The status of a volume is asked for by validation where there is nothing better.
        !matches!(*kind, rpc::GET_VOLUME | rpc::LIST_VOLUMES) && (*kind != rpc::GET_SNAPSHOT || !lists)
    });
    let all: Vec<i32> = all.chain((!lists).then_some(rpc::GET_SNAPSHOT)).collect();
    strict! { request,
        open {
            "/csi.v1.Identity/Probe" => wire::ProbeResponse { ready: Some(true) },
            "/csi.v1.Identity/GetPluginInfo" => wire::GetPluginInfoResponse { name: "strict".to_owned(), ..Default::default() },
            "/csi.v1.Identity/GetPluginCapabilities" => plugin(),
            "/csi.v1.Controller/ControllerGetCapabilities" => rpcs(all.clone()),
            "/csi.v1.GroupController/GroupControllerGetCapabilities" => rpcs([numbers::group::CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT]),
            "/csi.v1.Node/NodeGetCapabilities" => rpcs([numbers::node::STAGE_UNSTAGE_VOLUME, numbers::node::EXPAND_VOLUME]),
        },
        "/csi.v1.Controller/CreateVolume" => CreateVolumeRequest, Provision,
            wire::CreateVolumeResponse { volume: Some(wire::Volume { volume_id: "v".to_owned(), ..Default::default() }) };
        "/csi.v1.Controller/DeleteVolume" => DeleteVolumeRequest, Provision, wire::Empty {};
        "/csi.v1.Controller/ValidateVolumeCapabilities" => ValidateVolumeCapabilitiesRequest, Provision,
            wire::ValidateVolumeCapabilitiesResponse::default();
        "/csi.v1.Controller/ControllerExpandVolume" => ControllerExpandVolumeRequest, ControllerExpand,
            wire::ControllerExpandVolumeResponse::default();
        "/csi.v1.Controller/ControllerModifyVolume" => ControllerModifyVolumeRequest, ControllerModify, wire::Empty {};
        "/csi.v1.Controller/ControllerPublishVolume" => ControllerPublishVolumeRequest, ControllerPublish,
            wire::ControllerPublishVolumeResponse::default();
        "/csi.v1.Controller/ControllerUnpublishVolume" => ControllerUnpublishVolumeRequest, ControllerPublish, wire::Empty {};
        "/csi.v1.Controller/CreateSnapshot" => CreateSnapshotRequest, Snapshot,
            wire::CreateSnapshotResponse { snapshot: Some(snapshot()) };
        "/csi.v1.Controller/DeleteSnapshot" => DeleteSnapshotRequest, Snapshot, wire::Empty {};
        "/csi.v1.Controller/GetSnapshot" => GetSnapshotRequest, ListSnapshots,
            wire::GetSnapshotResponse { snapshot: Some(snapshot()) };
        "/csi.v1.Controller/ListSnapshots" => ListSnapshotsRequest, ListSnapshots,
            wire::ListSnapshotsResponse { entries: vec![wire::SnapshotEntry { snapshot: Some(snapshot()) }], ..Default::default() };
        "/csi.v1.GroupController/CreateVolumeGroupSnapshot" => CreateVolumeGroupSnapshotRequest, GroupSnapshot,
            wire::CreateVolumeGroupSnapshotResponse {
                group_snapshot: Some(wire::VolumeGroupSnapshot { group_snapshot_id: "g".to_owned(), ..Default::default() }),
            };
        "/csi.v1.GroupController/DeleteVolumeGroupSnapshot" => DeleteVolumeGroupSnapshotRequest, GroupSnapshot, wire::Empty {};
        "/csi.v1.Node/NodeStageVolume" => NodeStageVolumeRequest, NodeStage, wire::Empty {};
        "/csi.v1.Node/NodePublishVolume" => NodePublishVolumeRequest, NodePublish, wire::Empty {};
        "/csi.v1.Node/NodeExpandVolume" => NodeExpandVolumeRequest, NodeExpand, wire::NodeExpandVolumeResponse::default();
    }
}

/// Serves the driver at a socket until the runtime ends.
fn serve(runtime: &Runtime, path: &Path, lists: bool) {
    let _entered = runtime.enter();
    let listener = UnixListener::bind(path).unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| async move {
                Ok::<_, std::convert::Infallible>(answer(request, lists).await)
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
}

/// Has one password for each purpose, made by a function, and remembers what it was asked for.
struct Keeper(fn(&str) -> String, Mutex<Vec<SecretQuery>>);

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

#[async_trait::async_trait]
impl SecretSource for Keeper {
    async fn secrets(&self, query: &SecretQuery) -> Result<Secrets> {
        self.1.lock().unwrap().push(query.clone());
        let password = (self.0)(&query.purpose.to_string());
        Ok(Secrets::none().with("password", SecretBytes::new(password.into_bytes())))
    }
}

fn keeper(password: fn(&str) -> String) -> Arc<Keeper> {
    Arc::new(Keeper(password, Mutex::default()))
}

struct World {
    runtime: Runtime,
    directory: tempfile::TempDir,
}

impl World {
    fn new(lists: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let world = Self { runtime, directory: tempfile::tempdir().unwrap() };
        serve(&world.runtime, &world.socket(), lists);
        world
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("csi.sock")
    }

    fn connect(&self, secrets: Option<Arc<Keeper>>) -> (CsiProvider, CsiNode) {
        let options = CsiOptions::new("strict".parse().unwrap(), self.socket().to_str().unwrap()).unwrap();
        let options = options.with_runtime(self.runtime.handle().clone());
        let options = match secrets {
            Some(secrets) => options.with_secrets(secrets),
            None => options,
        };
        let node = CsiNode::connect(options.clone(), "n1".parse().unwrap());
        (block_on(CsiProvider::connect(options)).unwrap(), block_on(node).unwrap())
    }
}

fn volume() -> VolumeRef {
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let key = VolumeKey::new(tenant, "data".parse().unwrap());
    VolumeRef::new(key, "v".parse().unwrap()).with_context([("pool".to_owned(), "p1".to_owned())].into())
}

fn parameters() -> std::collections::BTreeMap<String, String> {
    [("tier".to_owned(), "gold".to_owned())].into()
}

/// The outcome of every call that can carry secrets, each with what it is for.
fn every_call(provider: &CsiProvider, node: &CsiNode, own: &Secrets) -> Vec<(SecretPurpose, Result<()>)> {
    use SecretPurpose::{
        ControllerExpand, ControllerModify, ControllerPublish, GroupSnapshot, ListSnapshots, NodeExpand,
        NodePublish, NodeStage, Provision, Snapshot,
    };
    fn done<T>(outcome: Result<Progress<T>>) -> Result<()> {
        outcome.map(|progress| assert!(progress.ready().is_some()))
    }
    let (volume, token) = (volume(), OpToken::new("t"));
    let size = SizeRange::at_least(ByteSize::from_mib(1)).unwrap();
    let mut create = CreateVolume::new(token.clone(), volume.key.clone(), size, VolumeOptions::default())
        .with_secrets(own.clone());
    create.options.parameters = parameters();
    let n1: NodeRef = hivemind_core::NodeId::try_from("n1".to_owned()).unwrap().into();
    let attach = AttachVolume::new(token.clone(), volume.clone(), n1.clone()).with_secrets(own.clone());
    let detach = DetachVolume::new(token.clone(), volume.clone(), n1).with_secrets(own.clone());
    let name = SnapshotKey::new(volume.key.clone(), "s1".parse().unwrap());
    let mut snap = CreateSnapshot::new(token.clone(), name.clone(), volume.clone());
    snap.secrets = own.clone();
    let taken = SnapshotRef::new(name, "s".parse().unwrap());
    let key = GroupKey::new(volume.key.tenant.clone(), "g1".parse().unwrap());
    let mut group = CreateGroupSnapshot::new(token.clone(), key.clone(), vec![volume.clone()]);
    group.secrets = own.clone();
    let handle = "g".parse().unwrap();
    let stage = StageVolume::new(volume.clone(), None, "/staging").with_secrets(own.clone());
    let publish =
        PublishVolume::new(volume.clone(), None, "/target").staged_at("/staging").with_secrets(own.clone());
    let expand = ExpandOnNode::new(volume.clone(), "/target").with_secrets(own.clone());
    block_on(async {
        vec![
            (Provision, done(provider.create_volume(&create).await)),
            (Provision, provider.get_volume_status(&volume).await.map(|_| ())),
            (ControllerExpand, done(provider.expand_volume(&token, &volume, size).await)),
            (ControllerModify, done(provider.modify_volume(&token, &volume, &parameters()).await)),
            (ControllerPublish, done(provider.attach_volume(&attach).await)),
            (ControllerPublish, done(provider.detach_volume(&detach).await)),
            (Snapshot, done(provider.create_snapshot(&snap).await)),
            (ListSnapshots, provider.get_snapshot_status(&taken).await.map(|_| ())),
            (ListSnapshots, provider.list_snapshots(None, 10).await.map(|_| ())),
            (Snapshot, done(provider.delete_snapshot(&token, &taken).await)),
            (GroupSnapshot, done(provider.create_group_snapshot(&group).await)),
            (GroupSnapshot, done(provider.delete_group_snapshot(&token, &key, &handle, &[taken]).await)),
            (Provision, done(provider.delete_volume(&token, &volume).await)),
            (NodeStage, node.stage_volume(&stage).await),
            (NodePublish, node.publish_volume(&publish).await),
            (NodeExpand, node.expand_on_node(&expand).await.map(|_| ())),
        ]
    })
}

#[test]
fn every_call_carries_the_secret_of_its_purpose() {
    for lists in [false, true] {
        let world = World::new(lists);
        let keeper = keeper(right);
        let (provider, node) = world.connect(Some(keeper.clone()));
        for (purpose, outcome) in every_call(&provider, &node, &Secrets::none()) {
            outcome.unwrap_or_else(|e| panic!("{purpose}: {e}"));
        }
        let asked = keeper.1.lock().unwrap();
        let purposes: std::collections::BTreeSet<_> = asked.iter().map(|query| query.purpose).collect();
        assert_eq!(purposes, SecretPurpose::ALL.into());
        let of = |purpose| asked.iter().find(|query| query.purpose == purpose).unwrap();
        assert_eq!(of(SecretPurpose::Provision).parameters, parameters());
        assert_eq!(of(SecretPurpose::Provision).volume, Some(volume().key));
        assert_eq!(of(SecretPurpose::NodeStage).context, volume().context);
        assert_eq!(of(SecretPurpose::GroupSnapshot).tenant, Some(volume().key.tenant));
    }
}

#[test]
fn every_call_without_its_secret_is_refused() {
    let world = World::new(false);
    let (provider, node) = world.connect(None);
    for (purpose, outcome) in every_call(&provider, &node, &Secrets::none()) {
        assert!(outcome.is_err_and(|e| e.message().contains("there is no password")), "{purpose}");
    }
}

#[test]
fn what_a_driver_says_of_a_wrong_secret_does_not_tell_it() {
    let world = World::new(true);
    let (provider, node) = world.connect(Some(keeper(|purpose| format!("wrong-{purpose}-91bd"))));
    for (purpose, outcome) in every_call(&provider, &node, &Secrets::none()) {
        let error = outcome.expect_err("a wrong password was accepted");
        assert_eq!(error.kind(), ErrorKind::Denied, "{purpose}");
        assert!(error.message().contains("password <secret password> is wrong"), "{purpose}: {error}");
        let mut told = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(deeper) = source {
            told.push_str(&format!("{deeper} {deeper:?}"));
            source = deeper.source();
        }
        assert!(!told.contains("91bd"), "{purpose}: {told}");
    }
    assert!(!format!("{provider:?} {node:?}").contains("91bd"));
}

#[test]
fn a_request_brings_secrets_that_come_before_those_that_are_kept() {
    let world = World::new(true);
    let (provider, node) = world.connect(Some(keeper(right)));
    let own = Secrets::none().with("password", SecretBytes::new(b"of the request".to_vec()));
    let outcomes = every_call(&provider, &node, &own);
    // Not the eight that no request can bring secrets for: they have what is kept.
    assert_eq!(outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count(), 8);
}

#[test]
fn a_call_is_not_made_when_its_secrets_cannot_be_had() {
    #[derive(Debug)]
    struct Sealed;
    #[async_trait::async_trait]
    impl SecretSource for Sealed {
        async fn secrets(&self, _: &SecretQuery) -> Result<Secrets> {
            Err(hivemind_core::Error::new(ErrorKind::Unavailable, "vault", "the vault is sealed"))
        }
    }
    let world = World::new(true);
    let options = CsiOptions::new("strict".parse().unwrap(), world.socket().to_str().unwrap()).unwrap();
    let options = options.with_runtime(world.runtime.handle().clone()).with_secrets(Arc::new(Sealed));
    let provider = block_on(CsiProvider::connect(options)).unwrap();
    let refused = block_on(provider.delete_volume(&OpToken::new("t"), &volume())).unwrap_err();
    assert_eq!((refused.operation(), refused.effect()), ("vault", hivemind_core::Effect::NotStarted));
}

/// All that carries a secret, as it is printed.
fn printed(secret: &str) -> Vec<String> {
    macro_rules! messages {
        ($($Message:ident),* $(,)?) => {
            vec![$({
                let secrets = vec![SecretEntry { name: "password".to_owned(), value: secret.to_owned() }];
                format!("{:?}", wire::$Message { secrets, ..wire::$Message::default() })
            }),*]
        };
    }
    let mut all = messages![
        CreateVolumeRequest,
        DeleteVolumeRequest,
        ControllerPublishVolumeRequest,
        ControllerUnpublishVolumeRequest,
        ValidateVolumeCapabilitiesRequest,
        ControllerExpandVolumeRequest,
        ControllerModifyVolumeRequest,
        CreateSnapshotRequest,
        DeleteSnapshotRequest,
        ListSnapshotsRequest,
        GetSnapshotRequest,
        CreateVolumeGroupSnapshotRequest,
        DeleteVolumeGroupSnapshotRequest,
        GetVolumeGroupSnapshotRequest,
        NodeStageVolumeRequest,
        NodePublishVolumeRequest,
        NodeExpandVolumeRequest,
    ];
    let secrets = Secrets::none().with("password", SecretBytes::new(secret.as_bytes().to_vec()));
    let (volume, token) = (volume(), OpToken::new("t"));
    let size = SizeRange::at_least(ByteSize::from_mib(1)).unwrap();
    let create = CreateVolume::new(token.clone(), volume.key.clone(), size, VolumeOptions::default());
    let node: NodeRef = hivemind_core::NodeId::try_from("n1".to_owned()).unwrap().into();
    let fixed = FixedSecrets::everywhere(&secrets);
    let options = CsiOptions::new("disk".parse().unwrap(), "/run/csi.sock").unwrap();
    all.extend([
        format!("{:?}", create.with_secrets(secrets.clone())),
        format!(
            "{:?}",
            AttachVolume::new(token.clone(), volume.clone(), node.clone()).with_secrets(secrets.clone())
        ),
        format!("{:?}", DetachVolume::new(token, volume.clone(), node).with_secrets(secrets.clone())),
        format!("{:?}", StageVolume::new(volume.clone(), None, "/s").with_secrets(secrets.clone())),
        format!("{:?}", PublishVolume::new(volume.clone(), None, "/t").with_secrets(secrets.clone())),
        format!("{:?}", ExpandOnNode::new(volume, "/t").with_secrets(secrets.clone())),
        format!("{fixed:?} {secrets:?} {:?}", options.with_secrets(Arc::new(fixed.clone()))),
    ]);
    all
}

proptest::proptest! {
    #[test]
    fn nothing_that_carries_a_secret_prints_it(secret in "[0-9@#%&\"\\\\]{8,40}") {
        let numbers = format!("{:?}", secret.as_bytes());
        for text in printed(&secret) {
            let told = [secret.as_str(), &format!("{secret:?}"), numbers.trim_matches(['[', ']'])];
            proptest::prop_assert!(!told.iter().any(|told| text.contains(told)), "{text}");
            proptest::prop_assert!(text.contains("password"), "{text} carries none");
        }
    }
}
