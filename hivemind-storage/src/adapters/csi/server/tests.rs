//! What a driver answers, without a socket.

use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Generation, Progress, TenantRef, block_on};
use tonic::{Code, Status};

use super::super::{convert, wire};
use super::{CsiServer, CsiServerOptions};
use crate::{
    AccessMode, Attachment, Capabilities, Capability, ExpandOnNode, MemoryNode, MemoryProvider,
    MockStorageProvider, NodeCapability, NodeInfo, NodeStorage, PublishVolume, Secrets, StageVolume,
    Topology, VolumeMode, VolumeRef,
};

fn server() -> CsiServer {
    let places = ["z1", "z2"].map(|zone| Topology::everywhere().with("zone", zone));
    let provider = Arc::new(MemoryProvider::new("disk".parse().unwrap()).with_places(places));
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let options = CsiServerOptions::new("disk.csi.example.com", "1.0.0", tenant).unwrap();
    let node = MemoryNode::new(provider.clone(), NodeInfo::new("n1".parse().unwrap()));
    CsiServer::new(options).with_provider(provider).with_node(Arc::new(node))
}

fn used_as(access: AccessMode, fs_type: &str) -> wire::VolumeCapability {
    let mode = VolumeMode::Filesystem { fs_type: fs_type.to_owned(), mount_flags: Vec::new() };
    convert::to_capability(access, &mode, true)
}

fn block() -> wire::VolumeCapability {
    convert::to_capability(AccessMode::ReadWriteOnce, &VolumeMode::Block, true)
}

fn wish() -> wire::CreateVolumeRequest {
    wire::CreateVolumeRequest {
        name: "data".to_owned(),
        capacity_range: Some(wire::CapacityRange { required_bytes: 1 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![used_as(AccessMode::ReadWriteOnce, "ext4")],
        parameters: [("tier".to_owned(), "gold".to_owned())].into(),
        ..wire::CreateVolumeRequest::default()
    }
}

fn made(server: &CsiServer) -> String {
    block_on(server.create_volume(wish())).unwrap().volume.unwrap().volume_id
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Code {
    outcome.unwrap_err().code()
}

#[test]
fn capabilities_are_confirmed_by_what_the_volume_is() {
    let server = server();
    let volume_id = made(&server);
    let asked = |capability: wire::VolumeCapability, tier: &str| {
        let request = wire::ValidateVolumeCapabilitiesRequest {
            volume_id: volume_id.clone(),
            volume_capabilities: vec![capability],
            parameters: [("tier".to_owned(), tier.to_owned())].into(),
            ..wire::ValidateVolumeCapabilitiesRequest::default()
        };
        let answer = block_on(server.validate_volume(request)).unwrap();
        assert_eq!(answer.confirmed.is_some(), answer.message.is_empty(), "{answer:?}");
        answer.message
    };
    assert_eq!(asked(used_as(AccessMode::ReadWriteOnce, "ext4"), "gold"), "");
    // The provider can do each of these, and this volume cannot.
    assert!(asked(used_as(AccessMode::ReadWriteMany, "ext4"), "gold").contains("read-write-many"));
    assert!(asked(used_as(AccessMode::ReadWriteOnce, "xfs"), "gold").contains("not xfs"));
    assert!(asked(block(), "gold").contains("no block device"));
    assert!(asked(used_as(AccessMode::ReadWriteOnce, ""), "iron").contains("gold"));
}

#[test]
fn a_name_in_use_by_a_volume_of_another_size_source_or_place_is_already_taken() {
    let server = server();
    let mut here = wish();
    let zone = |name: &str| wire::Topology { segments: [("zone".to_owned(), name.to_owned())].into() };
    let only =
        |name: &str| Some(wire::TopologyRequirement { requisite: vec![zone(name)], preferred: vec![] });
    here.accessibility_requirements = only("z1");
    let volume = block_on(server.create_volume(here.clone())).unwrap().volume.unwrap();
    assert_eq!(block_on(server.create_volume(here.clone())).unwrap().volume, Some(volume.clone()));
    let elsewhere = wire::CreateVolumeRequest { accessibility_requirements: only("z2"), ..here.clone() };
    assert_eq!(code(block_on(server.create_volume(elsewhere))), Code::AlreadyExists);
    let range = Some(wire::CapacityRange { required_bytes: 2 << 20, limit_bytes: 0 });
    let larger = wire::CreateVolumeRequest { capacity_range: range, ..here.clone() };
    assert_eq!(code(block_on(server.create_volume(larger))), Code::AlreadyExists);
    let mut other = wish();
    "other".clone_into(&mut other.name);
    let other = block_on(server.create_volume(other)).unwrap().volume.unwrap().volume_id;
    let source =
        wire::VolumeContentSource { volume: Some(wire::VolumeSource { volume_id: other }), snapshot: None };
    let copy = wire::CreateVolumeRequest { volume_content_source: Some(source), ..here };
    assert_eq!(code(block_on(server.create_volume(copy))), Code::AlreadyExists);
}

#[test]
fn a_size_that_cannot_be_is_out_of_range() {
    let server = server();
    let volume_id = made(&server);
    let source = wire::VolumeSource { volume_id: volume_id.clone() };
    let copy = wire::CreateVolumeRequest {
        name: "copy".to_owned(),
        capacity_range: Some(wire::CapacityRange { required_bytes: 1, limit_bytes: 1 << 10 }),
        volume_content_source: Some(wire::VolumeContentSource { volume: Some(source), snapshot: None }),
        ..wish()
    };
    assert_eq!(code(block_on(server.create_volume(copy))), Code::OutOfRange);
    let grow = |limit_bytes, capability| wire::ControllerExpandVolumeRequest {
        volume_id: volume_id.clone(),
        capacity_range: Some(wire::CapacityRange { required_bytes: 1, limit_bytes }),
        volume_capability: Some(capability),
        ..wire::ControllerExpandVolumeRequest::default()
    };
    let right = || used_as(AccessMode::ReadWriteOnce, "ext4");
    assert_eq!(code(block_on(server.expand_volume(grow(1 << 10, right())))), Code::OutOfRange);
    // Beyond what the volume is: that is a wrong argument here.
    assert_eq!(code(block_on(server.expand_volume(grow(0, block())))), Code::InvalidArgument);
    let same = block_on(server.expand_volume(grow(0, right()))).unwrap();
    assert_eq!(same.capacity_bytes, convert::to_bytes(ByteSize::from_mib(1)));
}

#[test]
fn a_use_beyond_what_the_volume_was_made_for_has_to_wait() {
    let server = server();
    let volume_id = made(&server);
    let publish = wire::ControllerPublishVolumeRequest {
        volume_id: volume_id.clone(),
        node_id: "n1".to_owned(),
        volume_capability: Some(used_as(AccessMode::ReadWriteOnce, "ext4")),
        ..wire::ControllerPublishVolumeRequest::default()
    };
    let publish_context = block_on(server.publish_volume(publish)).unwrap().publish_context;
    let stage = |capability| {
        let request = wire::NodeStageVolumeRequest {
            volume_id: volume_id.clone(),
            publish_context: publish_context.clone(),
            staging_target_path: "/staging".to_owned(),
            volume_capability: Some(capability),
            ..wire::NodeStageVolumeRequest::default()
        };
        block_on(server.stage(request))
    };
    let show = |capability| {
        let request = wire::NodePublishVolumeRequest {
            volume_id: volume_id.clone(),
            publish_context: publish_context.clone(),
            staging_target_path: "/staging".to_owned(),
            target_path: "/target".to_owned(),
            volume_capability: Some(capability),
            ..wire::NodePublishVolumeRequest::default()
        };
        block_on(server.publish(request))
    };
    assert_eq!(code(stage(block())), Code::FailedPrecondition);
    assert_eq!(code(stage(used_as(AccessMode::ReadWriteMany, "ext4"))), Code::FailedPrecondition);
    stage(used_as(AccessMode::ReadWriteOnce, "ext4")).unwrap();
    assert_eq!(code(show(used_as(AccessMode::ReadWriteMany, "ext4"))), Code::FailedPrecondition);
    show(used_as(AccessMode::ReadWriteOnce, "ext4")).unwrap();
}

fn secrets() -> Vec<wire::SecretEntry> {
    vec![wire::SecretEntry { name: "password".to_owned(), value: "hunter2".to_owned() }]
}

fn allowed<T>(secrets: &Secrets, done: T) -> hivemind_core::Result<T> {
    match secrets.get("password") {
        Some(password) if password.expose() == b"hunter2" => Ok(done),
        _ => Err(Error::new(ErrorKind::Denied, "test", "the password is wrong")),
    }
}

/// Refuses whatever comes without the password.
#[derive(Debug)]
struct Guarded;

#[async_trait::async_trait]
impl NodeStorage for Guarded {
    fn node_capabilities(&self) -> std::collections::BTreeSet<NodeCapability> {
        [NodeCapability::Stage, NodeCapability::Expand].into()
    }
    async fn node_info(&self) -> hivemind_core::Result<NodeInfo> {
        Ok(NodeInfo::new("n1".parse().unwrap()))
    }
    async fn stage_volume(&self, request: &StageVolume) -> hivemind_core::Result<()> {
        allowed(&request.secrets, ())
    }
    async fn publish_volume(&self, request: &PublishVolume) -> hivemind_core::Result<()> {
        allowed(&request.secrets, ())
    }
    async fn unpublish_volume(&self, _: &VolumeRef, _: &std::path::Path) -> hivemind_core::Result<()> {
        Ok(())
    }
    async fn expand_on_node(&self, request: &ExpandOnNode) -> hivemind_core::Result<ByteSize> {
        allowed(&request.secrets, ByteSize::ZERO)
    }
}

#[test]
fn secrets_of_requests_reach_the_provider_and_the_node() {
    let mut provider = MockStorageProvider::new();
    let able = Capabilities::new([Capability::Attach, Capability::Snapshots, Capability::GroupSnapshots]);
    provider.expect_capabilities().return_const(able);
    // What matters is who comes so far: what is let in fails otherwise.
    let inside = || Error::new(ErrorKind::Unavailable, "test", "let in");
    provider.expect_create_volume().returning(move |r| allowed(&r.secrets, ()).and(Err(inside())));
    provider.expect_create_snapshot().returning(move |r| allowed(&r.secrets, ()).and(Err(inside())));
    provider.expect_create_group_snapshot().returning(move |r| allowed(&r.secrets, ()).and(Err(inside())));
    provider.expect_attach_volume().returning(|r| {
        let attachment = Attachment::directory(r.node.node.clone(), "/volumes/v");
        allowed(&r.secrets, Progress::Ready(attachment))
    });
    provider.expect_detach_volume().returning(|r| allowed(&r.secrets, Progress::Ready(())));
    let tenant = TenantRef::new("acme".parse().unwrap(), Generation::from_u64(1));
    let options = CsiServerOptions::new("disk.csi.example.com", "1.0.0", tenant).unwrap();
    let server = CsiServer::new(options).with_provider(Arc::new(provider)).with_node(Arc::new(Guarded));
    let (volume_id, node_id) = ("data.v".to_owned(), "n1".to_owned());
    let volume_capability = Some(used_as(AccessMode::ReadWriteOnce, ""));
    let codes = |secrets: Vec<wire::SecretEntry>| {
        let create = wire::CreateVolumeRequest { secrets: secrets.clone(), ..wish() };
        let publish = wire::ControllerPublishVolumeRequest {
            volume_id: volume_id.clone(),
            node_id: node_id.clone(),
            volume_capability: volume_capability.clone(),
            secrets: secrets.clone(),
            ..wire::ControllerPublishVolumeRequest::default()
        };
        let unpublish = wire::ControllerUnpublishVolumeRequest {
            volume_id: volume_id.clone(),
            node_id: node_id.clone(),
            secrets: secrets.clone(),
        };
        let snapshot = wire::CreateSnapshotRequest {
            source_volume_id: volume_id.clone(),
            name: "s1".to_owned(),
            secrets: secrets.clone(),
            ..wire::CreateSnapshotRequest::default()
        };
        let group = wire::CreateVolumeGroupSnapshotRequest {
            source_volume_ids: vec![volume_id.clone()],
            name: "g1".to_owned(),
            secrets: secrets.clone(),
            ..wire::CreateVolumeGroupSnapshotRequest::default()
        };
        let stage = wire::NodeStageVolumeRequest {
            volume_id: volume_id.clone(),
            staging_target_path: "/staging".to_owned(),
            volume_capability: volume_capability.clone(),
            secrets: secrets.clone(),
            ..wire::NodeStageVolumeRequest::default()
        };
        let show = wire::NodePublishVolumeRequest {
            volume_id: volume_id.clone(),
            staging_target_path: "/staging".to_owned(),
            target_path: "/target".to_owned(),
            volume_capability: volume_capability.clone(),
            secrets: secrets.clone(),
            ..wire::NodePublishVolumeRequest::default()
        };
        let expand = wire::NodeExpandVolumeRequest {
            volume_id: volume_id.clone(),
            volume_path: "/target".to_owned(),
            secrets,
            ..wire::NodeExpandVolumeRequest::default()
        };
        let code = |done: Option<Status>| done.map_or(Code::Ok, |refused| refused.code());
        block_on(async {
            [
                server.create_volume(create).await.err(),
                server.create_snapshot(snapshot).await.err(),
                server.create_group(group).await.err(),
                server.publish_volume(publish).await.err(),
                server.unpublish_volume(unpublish).await.err(),
                server.stage(stage).await.err(),
                server.publish(show).await.err(),
                server.expand(expand).await.err(),
            ]
        })
        .map(code)
    };
    let (inside, done) = (Code::Unavailable, Code::Ok);
    assert_eq!(codes(secrets()), [inside, inside, inside, done, done, done, done, done]);
    assert_eq!(codes(Vec::new()), [Code::PermissionDenied; 8]);
}
