//! File systems that were made once, to be copied: making one takes longer than sharing what is in it.

use std::cmp::Reverse;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hivemind_core::Result;

use super::{During as _, image};

/// As many are kept: those that were used last. What was copied of one does not need it any more.
const MOST: usize = 16;

/// Ends the name of one that is being made.
const UNFINISHED: &str = "new";

fn directory(pool: &Path) -> PathBuf {
    pool.join("templates")
}

/// Makes the directory of templates, and removes what a crash left half made.
pub(super) fn prepare(pool: &Path) -> io::Result<()> {
    let directory = directory(pool);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    for entry in fs::read_dir(&directory)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == UNFINISHED) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Makes `to` a copy of the template `name`, which `make` makes if it is not there.
pub(super) fn copy(
    operation: &'static str,
    pool: &Path,
    name: &str,
    to: &Path,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let directory = directory(pool);
    let template = directory.join(name);
    if !template.exists() {
        let fresh = directory.join(format!("{name}.{UNFINISHED}"));
        let _ = fs::remove_file(&fresh);
        make(&fresh)?;
        let synced = File::open(&fresh).and_then(|file| file.sync_all());
        synced.and_then(|()| fs::rename(&fresh, &template)).during(operation, "name", &template)?;
        forget(&directory, &template);
    }
    image::share(&template, to).during(operation, "copy a template to", to)?;
    use_now(&directory, &template);
    Ok(())
}

/// Makes `template` the one that was used last: its time says so, and is later than that of every other one.
fn use_now(directory: &Path, template: &Path) {
    let newest = times(directory).into_iter().map(|(time, _)| time).max();
    let later = newest.unwrap_or(SystemTime::UNIX_EPOCH) + Duration::from_millis(1);
    // That it cannot be written is no reason to have no volume.
    let _ = File::options().write(true).open(template).and_then(|file| file.set_modified(later));
}

fn times(directory: &Path) -> Vec<(SystemTime, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect()
}

/// Removes those that were not used for longest, apart from `kept`, until there are no more than [`MOST`].
fn forget(directory: &Path, kept: &Path) {
    let mut all = times(directory);
    all.retain(|(_, path)| path != kept);
    all.sort_by_key(|(time, _)| Reverse(*time));
    for (_, path) in all.into_iter().skip(MOST - 1) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let name = |(_, path): (_, PathBuf)| path.file_name()?.to_str().map(str::to_owned);
        let mut names: Vec<_> = times(directory).into_iter().filter_map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_last_is_kept_and_no_more_than_a_few() {
        let pool = tempfile::tempdir().unwrap();
        prepare(pool.path()).unwrap();
        let here = directory(pool.path());
        fs::write(here.join("half.new"), "").unwrap();
        prepare(pool.path()).unwrap();
        assert_eq!(names(&here), Vec::<String>::new());
        for nth in 0..MOST + 4 {
            let path = here.join(format!("t{nth:02}"));
            fs::write(&path, "").unwrap();
            forget(&here, &path);
            use_now(&here, &path);
            // The first one is used all the time.
            use_now(&here, &here.join("t00"));
        }
        let left = names(&here);
        assert_eq!(left.len(), MOST);
        assert!(left.contains(&"t00".to_owned()) && left.contains(&format!("t{:02}", MOST + 3)), "{left:?}");
        assert!(!left.contains(&"t01".to_owned()), "{left:?}");
    }
}
