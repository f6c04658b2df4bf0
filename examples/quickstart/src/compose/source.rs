//! The file itself: its text, and the name that its place gives to an app.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::yaml::{Failure, Read};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The text of a regular file. Pipes and devices, which may never end, are refused at once.
pub(super) fn read(path: &Path) -> Read<String> {
    let refuse = |reason: String| (None, reason);
    let unread = |e: std::io::Error| refuse(format!("cannot be read: {e}"));
    // Opening a pipe would already wait for somebody who writes into it.
    if !fs::metadata(path).map_err(unread)?.is_file() {
        return Err(refuse("cannot be read: it is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unread)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unread)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > MAX_BYTES) {
        return Err(refuse(format!("is larger than {MAX_BYTES} bytes, the most that is read")));
    }
    String::from_utf8(bytes).map_err(|e| not_utf8(&e))
}

fn not_utf8(error: &std::string::FromUtf8Error) -> Failure {
    let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
    let text = String::from_utf8_lossy(valid);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let line = count(text.matches('\n').count()) + 1;
    let column = count(text.rsplit('\n').next().unwrap_or_default().chars().count()) + 1;
    (Some((line, column)), "is not UTF-8 from here on: save it as UTF-8".into())
}

/// What the app is called if it does not say: as its folder if the file is the usual one, or else as its file, where
/// `docker-compose.` and `compose.` say nothing.
pub(super) fn app_name(path: &Path) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let rest = ["docker-compose", "compose"].iter().find_map(|usual| stem.strip_prefix(usual));
    match rest.map(|rest| rest.trim_start_matches('.')) {
        Some("" | "override") => {}
        Some(own) if rest.is_some_and(|rest| rest.starts_with('.')) => return own.to_owned(),
        _ => return stem.to_owned(),
    }
    // A path without a folder is in the current one, whose name only the whole path has.
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = whole.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    folder.unwrap_or(stem).to_owned()
}
