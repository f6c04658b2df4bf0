//! What adapters that keep files must do for a file to be there after a loss of power.

use std::fs;
use std::io;
use std::path::Path;

/// Makes the names in `directory` as durable as what is in the files. It blocks.
///
/// # Errors
/// Those of the system.
#[cfg(unix)]
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be opened to be synced.
#[cfg(not(unix))]
pub fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Gives the finished and synced file `from` the name `to` for good, and replaces nothing. It blocks.
///
/// `from` may be left over: remove it.
///
/// # Errors
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is a file called `to`; those of the system.
pub fn publish_file(from: &Path, to: &Path) -> io::Result<()> {
    // A link never replaces a file, a rename does; not every file system has links.
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        Err(_) if to.exists() => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to)?,
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_directory(parent.unwrap_or_else(|| Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_published_once() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "1").unwrap();
        publish_file(&from, &to).unwrap();
        fs::write(&from, "2").unwrap();
        // The link is the same file; another one is not put in its place.
        fs::remove_file(&from).unwrap();
        fs::write(&from, "3").unwrap();
        assert_eq!(publish_file(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"2");
        let missing = publish_file(&directory.path().join("none"), &directory.path().join("new"));
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
