//! A run that outlives the program: the same summary as in memory, whatever kills it, and nothing but its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use hivemind_core::{RedbStore, SeededIds};

use self::support::{Moment, directory, killed_at, pause, quickstart, refused, same, summary, volumes};

/// Something on every node.
const SMALL: &str = "services: {web: {image: x, scale: 3}}";
/// A whole node, of which there is none left until a lost one comes back empty.
const WHOLE: &str = "services: {web: {image: x, cpus: 16}}";

fn on(store: &Path) -> Command {
    let mut command = quickstart(["--store"]);
    command.arg(store);
    command
}

/// What is in a directory, with the bytes of each file.
fn content(path: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let at = entry.unwrap().path();
        if at.is_dir() {
            found.extend(content(&at));
        } else {
            found.push((at.clone(), fs::read(at).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_directory_gives_the_summary_of_memory_and_gives_it_again() {
    let (own, expected) = (directory(), summary(&mut quickstart([""; 0])));
    let store = own.path().join("deep/down");
    let first = summary(&mut on(&store));
    same(&first, &expected, "first");
    assert_eq!(summary(&mut on(&store)), first);
    assert_eq!(summary(&mut on(&store)), first);
}

#[test]
fn a_refusal_stays_one_when_there_is_room_again() {
    let own = directory();
    let files = [("small.yaml", SMALL), ("whole.yaml", WHOLE)].map(|(name, text)| {
        let path = own.path().join(name);
        fs::write(&path, text).unwrap();
        path
    });
    let expected = summary(quickstart([""; 0]).args(&files));
    assert_eq!(expected.get("refused").unwrap(), 3, "{expected}");
    let store = own.path().join("store");
    let first = summary(on(&store).args(&files));
    same(&first, &expected, "first");
    assert_eq!(summary(on(&store).args(&files)), first);
}

/// Kills it up to three times, at `moments`, then lets it end.
fn killed_and_ended(seed: u64, expected: &serde_json::Value) -> u32 {
    let own = directory();
    let (store, ids) = (own.path().join("store"), SeededIds::new(seed));
    let world = store.join("world");
    let (mut kills, mut moments) = (0, Vec::new());
    for _ in 0..3 {
        let moment = Moment::any(&ids, 40, 30, 60);
        moments.push(moment);
        kills += u32::from(killed_at(&mut on(&store), &world, moment));
    }
    same(&summary(&mut on(&store)), expected, &format!("seed {seed}, killed at {moments:?}"));
    kills
}

#[test]
fn killed_anywhere_it_goes_on_where_it_was() {
    let expected = summary(&mut quickstart([""; 0]));
    let kills: u32 = (0..24).map(|seed| killed_and_ended(seed, &expected)).sum();
    assert!(kills >= 24, "only {kills} of 72 were killed before the end");
}

#[test]
fn a_line_that_a_crash_cut_short_is_dropped() {
    let (own, expected) = (directory(), summary(&mut quickstart([""; 0])));
    for (round, cut) in [1, 10, 60].into_iter().enumerate() {
        let store = own.path().join(round.to_string());
        let world = store.join("world");
        killed_at(&mut on(&store), &world, Moment::Changes(6));
        let text = fs::read_to_string(volumes(&world)).unwrap();
        let last = text.lines().last().unwrap();
        let torn = last.split_at(last.len() - cut).0;
        OpenOptions::new().append(true).open(volumes(&world)).unwrap().write_all(torn.as_bytes()).unwrap();
        same(&summary(&mut on(&store)), &expected, &format!("{cut} bytes are missing"));
    }
    let store = own.path().join("0");
    let path = volumes(&store.join("world"));
    let damaged = fs::read_to_string(&path).unwrap().replacen("{\"volume\"", "{\"vol", 1);
    fs::write(&path, damaged).unwrap();
    refused(&mut on(&store), "volumes:2: this is no change of a volume");
}

#[test]
fn another_plan_is_refused_and_changes_nothing() {
    let own = directory();
    let store = own.path().join("store");
    let first = summary(&mut on(&store));
    let before = content(&store.join("world"));
    let text = "this store holds a run of 3 apps of shop on 5 nodes, and this is one of";
    refused(on(&store).args(["--nodes", "6"]), text);
    refused(on(&store).args(["--apps", "4"]), text);
    let file = own.path().join("shop.yaml");
    fs::write(&file, "services: {web: {image: x}}").unwrap();
    refused(on(&store).arg(&file), text);
    assert_eq!(content(&store.join("world")), before);
    assert_eq!(summary(on(&store).args(["--apps", "3", "--nodes", "5"])), first);
}

#[test]
fn a_second_process_is_refused() {
    let own = directory();
    let store = own.path().join("store");
    let first = summary(&mut on(&store));
    let held = RedbStore::open(store.join("state.redb")).unwrap();
    refused(&mut on(&store), "state.redb: another process");
    drop(held);
    let held = File::open(store.join("world/lock")).unwrap();
    held.try_lock().unwrap();
    refused(&mut on(&store), "world is in use by another process");
    drop(held);
    assert_eq!(summary(&mut on(&store)), first);
}

#[test]
fn a_second_process_is_refused_while_the_first_one_works() {
    let own = directory();
    let store = own.path().join("store");
    let mut busy = on(&store).args(["--nodes", "200", "--apps", "400", "--json"]).spawn().unwrap();
    while !store.join("world/volumes").exists() {
        pause(std::time::Duration::from_millis(1));
    }
    refused(on(&store).args(["--nodes", "200", "--apps", "400"]), "another process");
    busy.kill().unwrap();
    busy.wait().unwrap();
}

#[test]
fn a_place_that_is_no_store_is_refused_and_left_alone() {
    let own = directory();
    let file = own.path().join("file");
    fs::write(&file, "mine").unwrap();
    refused(&mut on(&file), "file is no directory: give an empty or a new one");
    refused(&mut on(own.path()), "holds file, which is no part of a run: give an empty directory");
    refused(&mut on(&file.join("below")), "below");
    refused(on(&own.path().join("new")).arg("--world").arg(&file), "file is no directory");
    refused(on(&own.path().join("new")).arg("--world").arg(own.path()), "holds file, which is no part");
    assert_eq!(content(own.path()), [(file, b"mine".to_vec())]);

    let strange = own.path().join("strange");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("state.redb"), "something else").unwrap();
    refused(&mut on(&strange), "state.redb: it holds something other than Hivemind's state");
    assert_eq!(content(&strange), [(strange.join("state.redb"), b"something else".to_vec())]);
}

#[test]
fn a_store_and_a_world_that_do_not_belong_together_are_refused() {
    let own = directory();
    let (one, two) = (own.path().join("one"), own.path().join("two"));
    let first = summary(&mut on(&one));
    summary(&mut on(&two));
    let other = two.join("world");
    refused(on(&one).arg("--world").arg(&other), "volumes and backups are not in");
    refused(on(&one).arg("--world").arg(own.path().join("none")), "give the --world of then");
    assert!(!own.path().join("none").exists());
    refused(on(&own.path().join("three")).arg("--world").arg(&other), "is of another run");
    // Moved as a whole, and told so, it is the same world.
    fs::rename(one.join("world"), own.path().join("moved")).unwrap();
    refused(&mut on(&one), "give the --world of then");
    assert_eq!(summary(on(&one).arg("--world").arg(own.path().join("moved"))), first);
    refused(&mut quickstart(["--world", "x"]), "--world needs a store that lasts");
}

#[cfg(unix)]
#[test]
fn the_key_is_for_its_owner_only_and_told_to_nobody() {
    use std::os::unix::fs::PermissionsExt;
    let own = directory();
    let store = own.path().join("store");
    let output = on(&store).output().unwrap();
    assert!(output.status.success());
    let path = store.join("world/key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read(&path).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for (at, bytes) in content(own.path()).into_iter().filter(|(at, _)| *at != path) {
        assert!(!bytes.windows(key.len()).any(|window| window == key), "{} holds the key", at.display());
    }
    assert!(!String::from_utf8_lossy(&output.stdout).contains(&hex));
    fs::write(&path, "short").unwrap();
    refused(&mut on(&store), "key has 5 bytes, and a key has 32");
    fs::remove_file(&path).unwrap();
    refused(&mut on(&store), "key: No such file");
}

#[cfg(not(feature = "etcd"))]
#[test]
fn etcd_needs_a_build_with_it_and_says_so() {
    refused(
        &mut quickstart(["--store", "etcd://localhost:2379"]),
        "--features etcd -- --store etcd://localhost",
    );
}

#[test]
fn a_store_of_another_kind_is_refused() {
    refused(&mut quickstart(["--store", "zookeeper://a:1"]), "there is no store `zookeeper`");
}
