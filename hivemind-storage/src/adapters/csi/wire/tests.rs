//! The bytes on the wire, computed by hand from the numbers of `csi.proto`.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;

#[test]
fn a_creation_has_the_bytes_of_the_specification() {
    let request = CreateVolumeRequest {
        name: "a".to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 1, limit_bytes: 2 }),
        volume_capabilities: vec![VolumeCapability {
            mount: Some(MountVolume {
                fs_type: "x".to_owned(),
                mount_flags: vec!["y".to_owned()],
                ..MountVolume::default()
            }),
            access_mode: Some(AccessMode { mode: numbers::mode::SINGLE_NODE_WRITER }),
            block: None,
        }],
        parameters: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        secrets: vec![SecretEntry { name: "s".to_owned(), value: "t".to_owned() }],
        volume_content_source: Some(VolumeContentSource {
            snapshot: None,
            volume: Some(VolumeSource { volume_id: "b".to_owned() }),
        }),
        accessibility_requirements: Some(TopologyRequirement {
            requisite: vec![],
            preferred: vec![Topology { segments: BTreeMap::from([("z".to_owned(), "1".to_owned())]) }],
        }),
        mutable_parameters: BTreeMap::from([("m".to_owned(), "n".to_owned())]),
    };
    let expected: &[u8] = &[
        0x0a, 1, b'a', // name = 1
        0x12, 4, 0x08, 1, 0x10, 2, // capacity_range = 2 { required_bytes = 1, limit_bytes = 2 }
        0x1a, 12, 0x12, 6, 0x0a, 1, b'x', 0x12, 1, b'y', 0x1a, 2, 0x08, 1, // volume_capabilities = 3
        0x22, 6, 0x0a, 1, b'k', 0x12, 1, b'v', // parameters = 4
        0x2a, 6, 0x0a, 1, b's', 0x12, 1, b't', // secrets = 5
        0x32, 5, 0x12, 3, 0x0a, 1, b'b', // volume_content_source = 6 { volume = 2 }
        0x3a, 10, 0x12, 8, 0x0a, 6, 0x0a, 1, b'z', 0x12, 1, b'1', // accessibility_requirements = 7
        0x42, 6, 0x0a, 1, b'm', 0x12, 1, b'n', // mutable_parameters = 8
    ];
    assert_eq!(request.encode_to_vec(), expected);
    assert_eq!(CreateVolumeRequest::decode(expected), Ok(request));
}

#[test]
fn answers_have_the_bytes_of_the_specification() {
    let probe = ProbeResponse { ready: Some(true) };
    assert_eq!(probe.encode_to_vec(), [0x0a, 2, 0x08, 1]);
    let capacity = GetCapacityResponse {
        available_capacity: 300,
        maximum_volume_size: Some(1),
        minimum_volume_size: None,
    };
    assert_eq!(capacity.encode_to_vec(), [0x08, 0xac, 2, 0x12, 2, 0x08, 1]);
    let snapshot = Snapshot {
        size_bytes: 1,
        snapshot_id: "s".to_owned(),
        source_volume_id: "v".to_owned(),
        creation_time: Some(Timestamp { seconds: 2, nanos: 3 }),
        ready_to_use: true,
        group_snapshot_id: "g".to_owned(),
    };
    let expected = [0x08, 1, 0x12, 1, b's', 0x1a, 1, b'v', 0x22, 4, 0x08, 2, 0x10, 3, 0x28, 1, 0x32, 1, b'g'];
    assert_eq!(snapshot.encode_to_vec(), expected);
    let usage = VolumeUsage { available: 1, total: 2, used: 3, unit: numbers::unit::INODES };
    assert_eq!(usage.encode_to_vec(), [0x08, 1, 0x10, 2, 0x18, 3, 0x20, 2]);
}

#[test]
fn a_publication_has_the_bytes_of_the_specification() {
    let request = NodePublishVolumeRequest {
        volume_id: "v".to_owned(),
        publish_context: BTreeMap::new(),
        staging_target_path: "s".to_owned(),
        target_path: "t".to_owned(),
        volume_capability: Some(VolumeCapability {
            block: Some(BlockVolume {}),
            ..VolumeCapability::default()
        }),
        readonly: true,
        secrets: Vec::new(),
        volume_context: BTreeMap::from([("c".to_owned(), "d".to_owned())]),
    };
    let expected: &[u8] = &[
        0x0a, 1, b'v', 0x1a, 1, b's', 0x22, 1,
        b't', // volume_id = 1, staging_target_path = 3, target_path = 4
        0x2a, 2, 0x0a, 0, // volume_capability = 5 { block = 1 }
        0x30, 1, // readonly = 6
        0x42, 6, 0x0a, 1, b'c', 0x12, 1, b'd', // volume_context = 8
    ];
    assert_eq!(request.encode_to_vec(), expected);
}

#[test]
fn what_a_later_version_adds_is_skipped() {
    // Field 99, of which nobody has heard, and then the name.
    let bytes: &[u8] = &[0x9a, 6, 1, b'?', 0x0a, 1, b'n'];
    let info = GetPluginInfoResponse::decode(bytes);
    assert!(info.is_ok_and(|info| info.name == "n"));
}

#[test]
fn secrets_are_a_map_on_the_wire_and_are_not_printed() {
    /// The same field as `csi.proto` has it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Map {
        #[prost(btree_map = "string, string", tag = "2")]
        secrets: BTreeMap<String, String>,
    }
    let pairs = [("key", "hunter2"), ("empty", ""), ("", "nameless")];
    let map = Map { secrets: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into() };
    let delete = DeleteVolumeRequest::decode(map.encode_to_vec().as_slice()).unwrap();
    assert_eq!(Map::decode(delete.encode_to_vec().as_slice()), Ok(map));
    let printed = format!("{delete:?}");
    assert!(printed.contains("key") && !printed.contains("hunter2"), "{printed}");
}
