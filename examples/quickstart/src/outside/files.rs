//! Files that are whole or not there, whatever happens while they are written.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use hivemind_core::{Error, ErrorKind, Result, sync_directory};

/// Begins the name of a file that did not become what it was to be.
const TEMPORARY: &str = ".tmp-";

/// What went wrong with the file at `path`.
pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::new(ErrorKind::Unavailable, "world", format!("{path}: {e}")).with_source(e)
}

/// Opens `path`, and whatever is made on the way can be read by its owner only.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes the directory at `path`, and those above it, for its owner only; existing ones stay as they are.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(|e| {
        let message = format!("{} cannot be made: {e}", path.display());
        Error::invalid("world", message).with_source(e)
    })
}

/// Gives the file called `name` in `directory` these bytes, all or none, and waits until they are on the disk.
pub(super) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{TEMPORARY}{name}")));
    let write = || {
        let mut file =
            private(OpenOptions::new().write(true).create(true).truncate(true)).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_directory(directory)
    };
    write().map_err(io(&path))
}

/// Whether a file of this name is what a crash left of one that was being made.
fn unfinished(name: &str) -> bool {
    name.starts_with(TEMPORARY) || name.ends_with(".partial")
}

/// Removes what a crash left in the directory at `path`, which nobody else uses.
pub(super) fn tidy(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).map_err(io(path))? {
        let entry = entry.map_err(io(path))?;
        if unfinished(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Refuses the directory at `path` if it holds anything that is not called one of `known`; there may be none at all.
pub(super) fn refuse_strangers(path: &Path, known: &[&str]) -> Result<()> {
    let shown = path.display();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::invalid(
                "world",
                format!("{shown} is no directory: give an empty or a new one"),
            ));
        }
        Err(e) => return Err(io(path)(e)),
    };
    for entry in entries {
        let name = entry.map_err(io(path))?.file_name();
        let name = name.to_string_lossy();
        if !known.contains(&&*name) && !unfinished(&name) {
            let message = format!("{shown} holds {name}, which is no part of a run: give an empty directory");
            return Err(Error::invalid("world", message));
        }
    }
    Ok(())
}
