//! The volumes of the simulated storage provider, in a file that only grows while the program runs.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hivemind_core::{Error, ErrorKind, ProviderName, Result};
use hivemind_storage::{MemoryChange, MemoryJournal, MemoryProvider};

use super::files::{io, replace};

const NAME: &str = "volumes";
/// The first line.
const HEAD: &str = r#"{"format":"hivemind-quickstart-volumes","version":1}"#;

/// One line for each change, on the disk before the change is known to anybody.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    /// The file, and how much of it counts: what a failed write left behind it is written over.
    file: Mutex<(File, u64)>,
}

impl MemoryJournal for Journal {
    fn record(&self, change: &MemoryChange) -> Result<()> {
        let line = line(change)?;
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, length) = &mut *held;
        let written = file
            .seek(SeekFrom::Start(*length))
            .and_then(|_| file.write_all(line.as_bytes()))
            .and_then(|()| file.sync_data());
        if let Err(e) = written {
            let _ = file.set_len(*length);
            return Err(io(&self.path)(e));
        }
        *length += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }
}

fn line(change: &MemoryChange) -> Result<String> {
    let text = serde_json::to_string(change)
        .map_err(|e| Error::internal("volumes", "a change cannot be written").with_source(e))?;
    Ok(text + "\n")
}

/// Makes the file in `directory`, without any volume.
pub(super) fn create(directory: &Path) -> Result<()> {
    replace(directory, NAME, format!("{HEAD}\n").as_bytes())
}

/// The provider whose volumes are in `directory`, from now on written down there.
///
/// A last line that a crash cut short is dropped: nobody was told of that change. Then the file is written anew, with
/// one line for each volume.
pub(super) fn open(directory: &Path, name: ProviderName) -> Result<MemoryProvider> {
    let path = directory.join(NAME);
    let provider = MemoryProvider::restored(name, read(&path)?);
    let mut text = format!("{HEAD}\n");
    for change in provider.changes() {
        text.push_str(&line(&change)?);
    }
    replace(directory, NAME, text.as_bytes())?;
    let file = OpenOptions::new().write(true).open(&path).map_err(io(&path))?;
    let length = u64::try_from(text.len()).unwrap_or_default();
    let journal = Journal { path, file: Mutex::new((file, length)) };
    Ok(provider.with_journal(Arc::new(journal)))
}

fn read(path: &Path) -> Result<Vec<MemoryChange>> {
    let bytes = fs::read(path).map_err(io(path))?;
    let damaged = |number: usize, why: &str| {
        let message = format!("{}:{number}: {why}: bring back the file that was there", path.display());
        Error::new(ErrorKind::Corrupt, "volumes", message)
    };
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
    if lines.next().and_then(|(_, head)| head.strip_suffix(b"\n")) != Some(HEAD.as_bytes()) {
        return Err(damaged(1, "this is not how a file of volumes begins"));
    }
    let mut changes = Vec::new();
    while let Some((number, line)) = lines.next() {
        let whole = line.strip_suffix(b"\n").map(serde_json::from_slice);
        match whole {
            Some(Ok(change)) => changes.push(change),
            // A crash cuts only the end, or leaves a hole in it.
            _ if lines.peek().is_none() => {}
            _ => return Err(damaged(number + 1, "this is no change of a volume")),
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use hivemind_core::resources::ByteSize;
    use hivemind_core::{OpToken, TenantRef, block_on};
    use hivemind_storage::{CreateVolume, SizeRange, StorageProvider, VolumeKey, VolumeOptions};

    use super::*;

    fn add(provider: &MemoryProvider, volume: &str) {
        let key = VolumeKey::new(TenantRef::system(), volume.parse().unwrap());
        let size = SizeRange::at_least(ByteSize::from_gib(1)).unwrap();
        let request = CreateVolume::new(OpToken::new("t"), key, size, VolumeOptions::default());
        block_on(provider.create_volume(&request)).unwrap();
    }

    #[test]
    fn only_the_end_may_be_damaged() {
        let own = tempfile::tempdir().unwrap();
        let (path, name) = (own.path().join(NAME), || "memory".parse().unwrap());
        create(own.path()).unwrap();
        let provider = open(own.path(), name()).unwrap();
        add(&provider, "one");
        let with_one = fs::read(&path).unwrap();
        add(&provider, "two");
        let with_two = fs::read(&path).unwrap();
        for cut in with_one.len()..with_two.len() {
            fs::write(&path, with_two.get(..cut).unwrap()).unwrap();
            let again = open(own.path(), name()).unwrap();
            assert_eq!(again.changes().len(), 1, "cut at {cut}");
            // What was dropped is gone for good, and what comes after it is kept.
            add(&again, "three");
            assert_eq!(open(own.path(), name()).unwrap().changes().len(), 2, "cut at {cut}");
        }
        let hole = [&with_one[..], &vec![0; with_two.len() - with_one.len() - 1], b"\n"].concat();
        fs::write(&path, hole).unwrap();
        assert_eq!(open(own.path(), name()).unwrap().changes().len(), 1);

        for damaged in [&with_two[1..], &with_two[..10], b""] {
            fs::write(&path, damaged).unwrap();
            assert!(open(own.path(), name()).unwrap_err().message().contains("volumes:1: "));
        }
        let text = String::from_utf8(with_two).unwrap();
        fs::write(&path, text.replacen("\"size\"", "\"six\"", 1)).unwrap();
        assert!(open(own.path(), name()).unwrap_err().message().contains("volumes:2: this is no change"));
    }
}
