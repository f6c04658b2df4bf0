//! The cases.

use std::sync::Arc;

use hivemind_core::resources::ByteSize;
use hivemind_core::{BoxFuture, ErrorKind, Generation, NodeId, OpToken, Result, SnapshotId, TenantRef};

use super::{Case, settle};
use crate::{AccessMode, Capability, SnapshotKey, StorageProvider, VolumeKey, VolumeOptions, VolumeStatus};

type Outcome = std::result::Result<(), String>;
type Provider = Arc<dyn StorageProvider>;

macro_rules! cases {
    ($($name:ident $(needs $needs:ident)?),* $(,)?) => {
        /// Every case, in the order in which they run.
        pub const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            needs: cases!(@needs $($needs)?),
            run: |provider| -> BoxFuture<'static, Outcome> { Box::pin($name(provider)) },
        }),*];
    };
    (@needs) => { None };
    (@needs $needs:ident) => { Some(Capability::$needs) };
}

cases! {
    create_makes_a_volume_of_at_least_the_size,
    create_is_idempotent,
    create_with_another_size_is_refused_and_changes_nothing,
    create_with_other_options_is_refused,
    create_of_no_size_is_refused,
    tenants_do_not_share_names,
    generations_do_not_share_names,
    delete_removes,
    delete_of_a_missing_volume_succeeds,
    delete_of_an_attached_volume_is_refused,
    status_of_a_missing_volume_is_not_found,
    attach_of_a_missing_volume_is_not_found,
    attach_is_idempotent,
    attach_tells_the_node,
    a_volume_for_one_node_is_refused_to_a_second,
    a_shared_volume_goes_to_many_nodes needs SharedAccess,
    detach_is_idempotent,
    detach_of_a_missing_volume_succeeds,
    detached_volumes_attach_elsewhere,
    list_pages_in_order_without_gaps,
    metrics_count_volumes,
    expand_grows_and_repeats needs Expand,
    expand_refuses_to_shrink needs Expand,
    expand_of_a_missing_volume_is_not_found needs Expand,
    snapshot_is_idempotent needs Snapshots,
    snapshot_of_a_missing_volume_is_not_found needs Snapshots,
    delete_of_a_missing_snapshot_succeeds needs Snapshots,
    restore_of_a_missing_snapshot_is_not_found needs Snapshots,
    restore_of_an_attached_volume_is_refused needs Snapshots,
    clone_makes_an_independent_volume needs Clone,
    clone_across_tenants_is_not_found needs Clone,
    clone_of_a_missing_volume_is_not_found needs Clone,
}

const SIZE: ByteSize = ByteSize::from_gib(1);

fn fine<T, E: ToString>(outcome: std::result::Result<T, E>) -> std::result::Result<T, String> {
    outcome.map_err(|e| e.to_string())
}

fn refused<T>(outcome: Result<T>, kind: ErrorKind) -> Outcome {
    match outcome {
        Err(e) if e.kind() == kind => Ok(()),
        Err(e) => Err(format!("expected an error of kind {kind}, got: {e}")),
        Ok(_) => Err(format!("expected an error of kind {kind}, and it succeeded")),
    }
}

fn check(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn key(tenant: &str, generation: u64, volume: &str) -> std::result::Result<VolumeKey, String> {
    let tenant = TenantRef::new(fine(tenant.parse())?, Generation::from_u64(generation));
    Ok(VolumeKey::new(tenant, fine(volume.parse())?))
}

fn node(name: &str) -> std::result::Result<NodeId, String> {
    fine(name.parse())
}

fn token(text: &str) -> OpToken {
    OpToken::new(text)
}

async fn create(p: &Provider, key: &VolumeKey) -> Result<VolumeStatus> {
    create_as(p, key, SIZE, &VolumeOptions::default()).await
}

async fn create_as(
    p: &Provider,
    key: &VolumeKey,
    size: ByteSize,
    options: &VolumeOptions,
) -> Result<VolumeStatus> {
    let token = token(&format!("create-{key}-{size}"));
    settle(|| p.create_volume(&token, key, size, options)).await
}

async fn attach(p: &Provider, key: &VolumeKey, node: &NodeId) -> Result<crate::Attachment> {
    let token = token(&format!("attach-{key}-{node}"));
    settle(|| p.attach_volume(&token, key, node)).await
}

async fn detach(p: &Provider, key: &VolumeKey, node: &NodeId) -> Result<()> {
    let token = token(&format!("detach-{key}-{node}"));
    settle(|| p.detach_volume(&token, key, node)).await
}

async fn delete(p: &Provider, key: &VolumeKey) -> Result<()> {
    let token = token(&format!("delete-{key}"));
    settle(|| p.delete_volume(&token, key)).await
}

async fn all(p: &Provider) -> Result<Vec<VolumeStatus>> {
    p.list_volumes(None, 1000).await
}

async fn create_makes_a_volume_of_at_least_the_size(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    let made = fine(create(&p, &at).await)?;
    check(
        made.key == at && made.size >= SIZE && made.attached_to.is_empty(),
        "the volume made is another one",
    )?;
    check(fine(p.volume_status(&at).await)? == made, "the status differs from what creation said")
}

async fn create_is_idempotent(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    let first = fine(create(&p, &at).await)?;
    check(fine(create(&p, &at).await)? == first, "the second creation answered otherwise")?;
    check(fine(all(&p).await)?.len() == 1, "there are two volumes")
}

async fn create_with_another_size_is_refused_and_changes_nothing(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    let first = fine(create(&p, &at).await)?;
    let other = create_as(&p, &at, ByteSize::from_gib(2), &VolumeOptions::default()).await;
    refused(other, ErrorKind::AlreadyExists)?;
    check(fine(p.volume_status(&at).await)? == first, "the refused creation changed the volume")
}

async fn create_with_other_options_is_refused(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    let shared = VolumeOptions::default().with_access_mode(AccessMode::ReadWriteMany);
    refused(create_as(&p, &at, SIZE, &shared).await, ErrorKind::AlreadyExists)
}

async fn create_of_no_size_is_refused(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    refused(create_as(&p, &at, ByteSize::ZERO, &VolumeOptions::default()).await, ErrorKind::Invalid)?;
    check(fine(all(&p).await)?.is_empty(), "the refused creation made a volume")
}

async fn tenants_do_not_share_names(p: Provider) -> Outcome {
    let (ours, theirs) = (key("acme", 1, "data")?, key("globex", 1, "data")?);
    fine(create(&p, &ours).await)?;
    refused(p.volume_status(&theirs).await, ErrorKind::NotFound)?;
    fine(create(&p, &theirs).await)?;
    fine(delete(&p, &theirs).await)?;
    fine(p.volume_status(&ours).await).map(|_| ())
}

async fn generations_do_not_share_names(p: Provider) -> Outcome {
    fine(create(&p, &key("acme", 1, "data")?).await)?;
    refused(p.volume_status(&key("acme", 2, "data")?).await, ErrorKind::NotFound)
}

async fn delete_removes(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    fine(delete(&p, &at).await)?;
    refused(p.volume_status(&at).await, ErrorKind::NotFound)?;
    fine(delete(&p, &at).await)
}

async fn delete_of_a_missing_volume_succeeds(p: Provider) -> Outcome {
    fine(delete(&p, &key("acme", 1, "data")?).await)
}

async fn delete_of_an_attached_volume_is_refused(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    fine(attach(&p, &at, &node("n1")?).await)?;
    refused(delete(&p, &at).await, ErrorKind::Conflict)?;
    fine(p.volume_status(&at).await).map(|_| ())
}

async fn status_of_a_missing_volume_is_not_found(p: Provider) -> Outcome {
    refused(p.volume_status(&key("acme", 1, "data")?).await, ErrorKind::NotFound)
}

async fn attach_of_a_missing_volume_is_not_found(p: Provider) -> Outcome {
    refused(attach(&p, &key("acme", 1, "data")?, &node("n1")?).await, ErrorKind::NotFound)
}

async fn attach_is_idempotent(p: Provider) -> Outcome {
    let (at, n1) = (key("acme", 1, "data")?, node("n1")?);
    fine(create(&p, &at).await)?;
    let first = fine(attach(&p, &at, &n1).await)?;
    check(fine(attach(&p, &at, &n1).await)? == first, "the second attachment answered otherwise")?;
    check(fine(p.volume_status(&at).await)?.attached_to == [n1], "it is not on just that node")
}

async fn attach_tells_the_node(p: Provider) -> Outcome {
    let (at, n1) = (key("acme", 1, "data")?, node("n1")?);
    fine(create(&p, &at).await)?;
    let attachment = fine(attach(&p, &at, &n1).await)?;
    check(
        *attachment.node() == n1 && attachment.path().is_absolute(),
        "the attachment names no place on the node",
    )
}

async fn a_volume_for_one_node_is_refused_to_a_second(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    fine(attach(&p, &at, &node("n1")?).await)?;
    refused(attach(&p, &at, &node("n2")?).await, ErrorKind::Conflict)?;
    check(fine(p.volume_status(&at).await)?.attached_to == [node("n1")?], "the refused node got it")
}

async fn a_shared_volume_goes_to_many_nodes(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    let shared = VolumeOptions::default().with_access_mode(AccessMode::ReadWriteMany);
    fine(create_as(&p, &at, SIZE, &shared).await)?;
    fine(attach(&p, &at, &node("n1")?).await)?;
    fine(attach(&p, &at, &node("n2")?).await)?;
    check(fine(p.volume_status(&at).await)?.attached_to.len() == 2, "it is not on both nodes")
}

async fn detach_is_idempotent(p: Provider) -> Outcome {
    let (at, n1) = (key("acme", 1, "data")?, node("n1")?);
    fine(create(&p, &at).await)?;
    fine(attach(&p, &at, &n1).await)?;
    fine(detach(&p, &at, &n1).await)?;
    fine(detach(&p, &at, &n1).await)?;
    check(fine(p.volume_status(&at).await)?.attached_to.is_empty(), "it is still on the node")
}

async fn detach_of_a_missing_volume_succeeds(p: Provider) -> Outcome {
    fine(detach(&p, &key("acme", 1, "data")?, &node("n1")?).await)
}

async fn detached_volumes_attach_elsewhere(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    fine(attach(&p, &at, &node("n1")?).await)?;
    fine(detach(&p, &at, &node("n1")?).await)?;
    fine(attach(&p, &at, &node("n2")?).await).map(|_| ())
}

async fn list_pages_in_order_without_gaps(p: Provider) -> Outcome {
    for number in 0..7 {
        fine(
            create(&p, &key(if number % 2 == 0 { "acme" } else { "globex" }, 1, &format!("v{number}"))?)
                .await,
        )?;
    }
    let whole: Vec<_> = fine(all(&p).await)?.into_iter().map(|status| status.key).collect();
    check(whole.len() == 7 && whole.is_sorted(), "the list is not whole and in order")?;
    let mut paged: Vec<VolumeKey> = Vec::new();
    loop {
        let page = fine(p.list_volumes(paged.last(), 3).await)?;
        paged.extend(page.iter().map(|status| status.key.clone()));
        if page.len() < 3 {
            return check(paged == whole, "the pages together are not the list");
        }
    }
}

async fn metrics_count_volumes(p: Provider) -> Outcome {
    let before = fine(p.provider_metrics().await)?;
    fine(create(&p, &key("acme", 1, "data")?).await)?;
    let after = fine(p.provider_metrics().await)?;
    let counted = after.volumes == before.volumes + 1 && after.provisioned >= SIZE;
    check(counted, "the new volume does not show in the metrics")
}

async fn expand_grows_and_repeats(p: Provider) -> Outcome {
    let (at, larger) = (key("acme", 1, "data")?, ByteSize::from_gib(2));
    fine(create(&p, &at).await)?;
    for _ in 0..2 {
        let expand = token("expand");
        let size = fine(settle(|| p.expand_volume(&expand, &at, larger)).await)?;
        check(size >= larger, "it did not grow")?;
    }
    check(fine(p.volume_status(&at).await)?.size >= larger, "the status does not show it")
}

async fn expand_refuses_to_shrink(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    let shrink = token("shrink");
    refused(settle(|| p.expand_volume(&shrink, &at, ByteSize::from_bytes(1))).await, ErrorKind::Invalid)?;
    check(fine(p.volume_status(&at).await)?.size >= SIZE, "it shrank")
}

async fn expand_of_a_missing_volume_is_not_found(p: Provider) -> Outcome {
    let (at, expand) = (key("acme", 1, "data")?, token("expand"));
    refused(settle(|| p.expand_volume(&expand, &at, SIZE)).await, ErrorKind::NotFound)
}

fn snapshot(name: &str) -> std::result::Result<SnapshotKey, String> {
    let name: SnapshotId = fine(name.parse())?;
    Ok(SnapshotKey::new(key("acme", 1, "data")?, name))
}

async fn snapshot_is_idempotent(p: Provider) -> Outcome {
    fine(create(&p, &key("acme", 1, "data")?).await)?;
    let (of, take) = (snapshot("s1")?, token("snap"));
    let first = fine(settle(|| p.create_snapshot(&take, &of)).await)?;
    check(
        fine(settle(|| p.create_snapshot(&take, &of)).await)? == first,
        "the second one answered otherwise",
    )?;
    let restore = token("restore");
    fine(settle(|| p.restore_snapshot(&restore, &of)).await)?;
    let drop = token("drop");
    fine(settle(|| p.delete_snapshot(&drop, &of)).await)
}

async fn snapshot_of_a_missing_volume_is_not_found(p: Provider) -> Outcome {
    let (of, take) = (snapshot("s1")?, token("snap"));
    refused(settle(|| p.create_snapshot(&take, &of)).await, ErrorKind::NotFound)
}

async fn delete_of_a_missing_snapshot_succeeds(p: Provider) -> Outcome {
    let (of, drop) = (snapshot("s1")?, token("drop"));
    fine(settle(|| p.delete_snapshot(&drop, &of)).await)
}

async fn restore_of_a_missing_snapshot_is_not_found(p: Provider) -> Outcome {
    fine(create(&p, &key("acme", 1, "data")?).await)?;
    let (of, restore) = (snapshot("s1")?, token("restore"));
    refused(settle(|| p.restore_snapshot(&restore, &of)).await, ErrorKind::NotFound)
}

async fn restore_of_an_attached_volume_is_refused(p: Provider) -> Outcome {
    let at = key("acme", 1, "data")?;
    fine(create(&p, &at).await)?;
    let (of, take, restore) = (snapshot("s1")?, token("snap"), token("restore"));
    fine(settle(|| p.create_snapshot(&take, &of)).await)?;
    fine(attach(&p, &at, &node("n1")?).await)?;
    refused(settle(|| p.restore_snapshot(&restore, &of)).await, ErrorKind::Conflict)
}

async fn clone_makes_an_independent_volume(p: Provider) -> Outcome {
    let (source, target, copy) = (key("acme", 1, "data")?, key("acme", 1, "copy")?, token("clone"));
    fine(create(&p, &source).await)?;
    fine(attach(&p, &source, &node("n1")?).await)?;
    let made = fine(settle(|| p.clone_volume(&copy, &source, &target)).await)?;
    check(
        made.key == target && made.size >= SIZE && made.attached_to.is_empty(),
        "the clone is not a volume apart",
    )?;
    fine(detach(&p, &source, &node("n1")?).await)?;
    fine(delete(&p, &source).await)?;
    fine(p.volume_status(&target).await).map(|_| ())
}

async fn clone_across_tenants_is_not_found(p: Provider) -> Outcome {
    let (source, target, copy) = (key("acme", 1, "data")?, key("globex", 1, "copy")?, token("clone"));
    fine(create(&p, &source).await)?;
    refused(settle(|| p.clone_volume(&copy, &source, &target)).await, ErrorKind::NotFound)
}

async fn clone_of_a_missing_volume_is_not_found(p: Provider) -> Outcome {
    let (source, target, copy) = (key("acme", 1, "data")?, key("acme", 1, "copy")?, token("clone"));
    refused(settle(|| p.clone_volume(&copy, &source, &target)).await, ErrorKind::NotFound)
}
