//! Snapshots sent as streams and received from them.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use hivemind_core::store::{Prefix, Txn};
use hivemind_core::{
    ErrorKind, MemoryStore, Principal, StateStore, StateStoreExt, SystemClock, TenantContext, ThreadRuntime,
    block_on,
};
use hivemind_storage::{
    ClaimSource, ClaimSpec, CreateSnapshot, LocalBackend, LocalProvider, ProviderRegistry, SnapshotAdoption,
    SnapshotKey, SnapshotRef, StorageManager, StorageProvider, VolumeController, VolumeOptions, VolumeSource,
};
use rustix::fs::OFlags;

use crate::ground::{Ground, create, devices_of, eventually, file_system, publish, ready, run, token, wish};
use crate::side::{Side, check_tree, provider_of, words, write_tree};
use crate::subvolumes::{data, fill, plain, snapshot};

#[test]
fn a_snapshot_is_the_same_in_another_pool_and_a_difference_is_small_and_follows_it() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let first = here.take("s1");
    fs::write(here.data().join("dir/new"), "more").unwrap();
    fs::rename(here.data().join("large"), here.data().join("moved")).unwrap();
    // What is shared within the volume, so that the difference says to copy it.
    run("cp", words(&["--reflink=always"], &[&here.data().join("moved"), &here.data().join("large")]));
    let second = here.take("s2");
    let [whole, difference] = ["whole", "difference"].map(|name| ground.path(name));
    here.send(&first, None, &whole);
    here.send(&second, Some(&first), &difference);
    let lengths = [&whole, &difference].map(|path| fs::metadata(path).unwrap().len());
    assert!(lengths[0] > 1 << 20 && lengths[1] < 1 << 14, "{lengths:?}");

    let old = there.receive("s1", None, &whole);
    check_tree(&there.frozen(&old));
    assert!(fs::write(there.frozen(&old).join("twin"), "").is_err(), "it can be written");
    let new = there.receive("s2", Some(&old), &difference);
    check_tree(&there.frozen(&new));
    assert_eq!(fs::read_to_string(there.frozen(&new).join("dir/new")).unwrap(), "more");
    assert!(!there.frozen(&old).join("dir/new").exists());
    assert_eq!(there.all().len(), 2, "something was left: {:?}", there.all());

    // What was received is sent on, and fits what came another way.
    let third = Side::new(&ground, "third");
    let base = third.receive("s1", None, &whole);
    there.send(&new, Some(&old), &difference);
    let last = third.receive("s2", Some(&base), &difference);
    check_tree(&third.frozen(&last));
}

#[test]
fn what_was_received_is_restored_and_copied_and_outlives_the_provider() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let stream = ground.path("stream");
    here.send(&here.take("s1"), None, &stream);
    let received = there.receive("s1", None, &stream);
    ready(block_on(there.provider.restore_snapshot(&token(), &received, &there.volume)));
    let node = there.provider.node().unwrap();
    let target = publish(&node, &ground, &there.volume, "target");
    check_tree(&target);
    let (_, full) = fill(&target.join("full"), 64 << 20);
    assert_eq!(full.map(|e| e.kind()), Some(io::ErrorKind::QuotaExceeded));
    let Side { pool, provider, .. } = there;
    drop(provider);
    let again = crate::ground::provider(&pool);
    assert!(block_on(again.get_snapshot_status(&received)).is_ok());
    let copy = create(&again, &plain("copy").from_source(VolumeSource::Snapshot(received.clone())));
    check_tree(&data(&pool, &copy.volume));
    ready(block_on(again.delete_snapshot(&token(), &received)));
    assert_eq!(fs::read_dir(pool.join("snapshots")).unwrap().count(), 0);
}

#[test]
fn what_was_received_becomes_its_tenants() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let stream = ground.path("stream");
    here.send(&here.take("s1"), None, &stream);
    there.receive("s1", None, &stream);
    let seen = block_on(there.provider.list_snapshots(None, 1)).unwrap().items.remove(0);
    let key = seen.key.clone().unwrap();

    let (store, mut providers) = (Arc::new(MemoryStore::new()), ProviderRegistry::new());
    providers.add(there.provider.clone()).unwrap();
    let storage = StorageManager::new(providers.names());
    let (clock, runtime) = (Arc::new(SystemClock::new()), Arc::new(ThreadRuntime::new()));
    let controller = VolumeController::new(store.clone(), providers, clock, runtime);
    let ada = Principal::User("ada".parse().unwrap());
    let ctx = TenantContext::new(key.volume.tenant.clone(), ada, "r".parse().unwrap());
    let (volume, snapshot) = (key.volume.volume, key.snapshot);
    let (view, mut txn) = (block_on(store.snapshot(&[Prefix::ROOT])).unwrap(), Txn::new());
    let provider = there.provider.name().clone();
    let wish = SnapshotAdoption::new(volume.clone(), snapshot.clone(), provider, seen.handle.clone());
    storage.stage_snapshot_adoption(&view, &mut txn, &ctx, &wish, &seen).unwrap();
    let source = ClaimSource::Snapshot { volume, snapshot };
    let copy = ClaimSpec::new("copy".parse().unwrap(), seen.size).from_source(source);
    storage.stage_claim(&view, &mut txn, &ctx, &copy).unwrap();
    block_on(store.commit(&txn)).unwrap();
    while block_on(controller.tick()).unwrap().changed() {}
    let view = block_on(store.snapshot(&[Prefix::ROOT])).unwrap();
    let made = storage.volume(&view, &Txn::new(), &ctx, &copy.id).unwrap().made().unwrap();
    check_tree(&data(&there.pool, &made));
}

#[test]
fn a_pool_sends_to_itself_through_a_pipe_and_goes_on_meanwhile() {
    let Some(ground) = Ground::new() else { return };
    let side = Side::new(&ground, "pool");
    write_tree(&side.data());
    let first = side.take("s1");
    let (reader, writer) = io::pipe().unwrap();
    // As an executor has its pipes.
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let request = side.wish("s2");
    let (sent, received) = block_on(futures::future::join(
        side.provider.send(&first, None, writer.into()),
        side.provider.receive(&request, None, reader.into()),
    ));
    sent.unwrap();
    let received = received.unwrap().reference(request.key.clone());
    check_tree(&side.frozen(&received));
    // What was sent and what was received of it are known by the same identity here.
    fs::write(side.data().join("new"), "new").unwrap();
    let (third, difference) = (side.take("s3"), ground.path("difference"));
    side.send(&third, Some(&first), &difference);
    let last = side.receive("s4", Some(&received), &difference);
    assert_eq!(fs::read_to_string(side.frozen(&last).join("new")).unwrap(), "new");

    let (reader, mut writer) = io::pipe().unwrap();
    let request = side.wish("s5");
    let waiting = side.provider.receive(&request, None, reader.into());
    let others = async {
        // Others are not kept waiting by one who sends nothing.
        ready(side.provider.create_volume(&plain("other")).await);
        writer.write_all(b"btrfs-stream").unwrap();
        drop(writer);
    };
    let (cut_off, ()) = block_on(futures::future::join(waiting, others));
    assert_eq!(cut_off.unwrap_err().kind(), ErrorKind::Corrupt);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let closed = block_on(side.provider.send(&first, None, writer.into())).unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable, "{closed}");
}

#[test]
fn what_a_crash_left_of_receiving_is_gone_after_opening() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let stream = ground.path("stream");
    here.send(&here.take("s1"), None, &stream);
    let whole = fs::read(&stream).unwrap();
    fs::write(ground.path("half"), &whole[..whole.len() / 2]).unwrap();
    let (before, Side { pool, provider, .. }) = (there.all(), there);
    drop(provider);
    // As it is just before the end, and half-way.
    for (name, from) in [("receive-a", "stream"), ("receive-b", "half")] {
        let inside = pool.join("tmp").join(name).join("in");
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.with_file_name("said"), "").unwrap();
        let mut program = std::process::Command::new("btrfs");
        program.args(words(&["receive", "-q", "-f"], &[&ground.path(from), &inside])).output().unwrap();
        assert!(inside.join("data/large").exists());
    }
    let again = provider_of(&pool, None);
    assert_eq!(fs::read_dir(pool.join("tmp")).unwrap().count(), 0);
    assert_eq!(block_on(again.get_provider_metrics()).unwrap().snapshots, 0);
    assert!(before.is_empty() && fs::read_dir(pool.join("trash")).unwrap().next().is_none());
}

#[test]
fn only_subvolumes_are_sent_and_received() {
    let Some(ground) = Ground::new() else { return };
    let here = Side::new(&ground, "here");
    let (taken, stream, output) = (here.take("s1"), ground.path("stream"), ground.path("output"));
    here.send(&taken, None, &stream);
    let refuses = |provider: &LocalProvider, of: &SnapshotRef, to: &CreateSnapshot| {
        let sent = block_on(provider.send(of, None, File::create(&output).unwrap().into()));
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(fs::metadata(&output).unwrap().len(), 0);
        let received = block_on(provider.receive(to, None, File::open(&stream).unwrap().into()));
        assert_eq!(received.unwrap_err().kind(), ErrorKind::Unsupported);
    };
    let image = wish("image", 8, VolumeOptions::default().with_volume_mode(file_system("ext4")));
    let image = create(&here.provider, &image).volume;
    let of_image = snapshot(&here.provider, &image, "s1");
    let key = SnapshotKey::new(image.key.clone(), "s2".parse().unwrap());
    refuses(&here.provider, &of_image, &CreateSnapshot::new(token(), key, image));
    let (request, Side { pool, provider, .. }) = (here.wish("s2"), here);
    drop(provider);
    refuses(&provider_of(&pool, Some(LocalBackend::Images)), &taken, &request);
    refuses(&provider_of(&pool, Some(LocalBackend::Directories)), &taken, &request);
    let plain = ground.directory("plain");
    refuses(&provider_of(&plain, None), &taken, &request);
    assert_eq!(fs::read_dir(plain.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_volume_that_is_full_fits_into_one_of_its_size() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    for (name, mib) in [("small", 2), ("middle", 8), ("large", 96)] {
        let sides = [&here, &there].map(|side| {
            let volume = create(&side.provider, &wish(name, mib, VolumeOptions::default())).volume;
            Side { pool: side.pool.clone(), provider: side.provider.clone(), volume }
        });
        let [here, there] = &sides;
        for nth in 0..200 {
            fs::write(here.data().join(format!("small-{nth}")), [nth; 1000]).unwrap();
        }
        assert!(fill(&here.data().join("full"), 200 << 20).1.is_some());
        let (first, stream) = (here.take("s1"), ground.path("stream"));
        here.send(&first, None, &stream);
        let received = there.receive("s1", None, &stream);
        let [sent, received] = [here.frozen(&first), there.frozen(&received)].map(|at| at.join("full"));
        assert!(fs::read(sent).unwrap() == fs::read(received).unwrap(), "{name}");
    }
}

#[test]
fn what_is_deleted_while_it_is_sent_is_sent_whole_and_goes_later() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let (first, stream) = (here.take("s1"), ground.path("stream"));
    let (mut reader, writer) = io::pipe().unwrap();
    let sending = here.provider.send(&first, None, writer.into());
    let reading = async {
        let mut begun = vec![0; 100];
        reader.read_exact(&mut begun).unwrap();
        ready(here.provider.delete_snapshot(&token(), &first).await);
        reader.read_to_end(&mut begun).unwrap();
        fs::write(&stream, begun).unwrap();
    };
    // It is polled first, and then waits for its thread.
    let (sent, ()) = block_on(futures::future::join(sending, async {
        here.provider.probe().await.unwrap();
        reading.await;
    }));
    sent.unwrap();
    check_tree(&there.frozen(&there.receive("s1", None, &stream)));
    let Side { pool, provider, .. } = here;
    assert!(block_on(provider.get_snapshot_status(&first)).is_err());
    drop(provider);
    drop(crate::ground::provider(&pool));
    assert_eq!(fs::read_dir(pool.join("trash")).unwrap().count(), 0);
}

#[test]
fn a_transfer_that_nobody_waits_for_leaves_nothing() {
    let Some(ground) = Ground::new() else { return };
    let side = Side::new(&ground, "pool");
    write_tree(&side.data());
    let (first, stream) = (side.take("s1"), ground.path("stream"));
    side.send(&first, None, &stream);
    let before = side.all();
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&fs::read(&stream).unwrap()[..1000]).unwrap();
    let request = side.wish("s2");
    {
        let mut receiving = std::pin::pin!(side.provider.receive(&request, None, reader.into()));
        block_on(std::future::poll_fn(|context| {
            assert!(receiving.as_mut().poll(context).is_pending());
            // Until something has come.
            if side.all() != before {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }));
    }
    drop(writer);
    eventually(|| if side.all() == before { Ok(()) } else { Err(()) }).unwrap();
}

#[test]
fn a_difference_is_received_where_the_subvolume_of_the_pool_is_mounted_as_a_whole() {
    let Some(ground) = Ground::new() else { return };
    let (here, disk) = (Side::new(&ground, "here"), ground.btrfs("disk"));
    let (whole, difference) = (ground.path("whole"), ground.path("difference"));
    let first = here.take("s1");
    write_tree(&here.data());
    here.send(&first, None, &whole);
    here.send(&here.take("s2"), Some(&first), &difference);
    run("btrfs", words(&["subvolume", "create"], &[&disk.join("inner")]));
    let (inner, bound) = (ground.directory("inner"), ground.directory("bound"));
    let device = devices_of(disk.parent().unwrap()).into_iter().find(|device| {
        let behind = fs::read_to_string(
            Path::new("/sys/block").join(device.file_name().unwrap()).join("loop/backing_file"),
        );
        behind.unwrap().trim().ends_with("disk.img")
    });
    run("mount", words(&["-o", "subvol=inner"], &[&device.unwrap(), &inner]));
    let there = Side::at(ground.directory("inner/pool"));
    let old = there.receive("s1", None, &whole);
    check_tree(&there.frozen(&there.receive("s2", Some(&old), &difference)));
    // A directory of it alone is not enough, and that is found out in time.
    fs::create_dir(disk.join("directory")).unwrap();
    run("mount", words(&["--bind"], &[&disk.join("directory"), &bound]));
    let there = Side::at(ground.directory("bound/pool"));
    let old = there.receive("s1", None, &whole);
    let refused = there.refuses(Some(&old), &difference);
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
}

#[test]
fn a_stream_goes_through_a_socket_and_into_a_file_from_its_beginning() {
    let Some(ground) = Ground::new() else { return };
    let (here, there) = (Side::new(&ground, "here"), Side::new(&ground, "there"));
    write_tree(&here.data());
    let (first, path) = (here.take("s1"), ground.path("stream"));
    let mut file = File::create(&path).unwrap();
    file.write_all(b"something").unwrap();
    block_on(here.provider.send(&first, None, file.into())).unwrap();
    check_tree(&there.frozen(&there.receive("s1", None, &path)));
    let (near, far) = UnixStream::pair().unwrap();
    let request = there.wish("s2");
    let (sent, received) = block_on(futures::future::join(
        here.provider.send(&first, None, near.into()),
        there.provider.receive(&request, None, far.into()),
    ));
    sent.unwrap();
    check_tree(&there.frozen(&received.unwrap().reference(request.key)));
}
