//! Reads Compose files (<https://compose-spec.io>).
//!
//! The crates that type the whole format do not serve here: `docker-compose-types` builds only on YAML parsers that are
//! no longer maintained, refuses valid short forms and drops unknown keys; `compose_spec` has had no release for over
//! two years. So the YAML comes from `serde-saphyr`, which is well kept, and this reads of it what a deployment needs;
//! whatever it does not use, it reports.

mod interpolate;
mod model;
mod read;
mod values;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

pub use model::{Compose, ComposeError, Mount, Service, Warning};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// Reads and checks the file at `path`; variables come from `env`.
pub fn load(path: &Path, env: &BTreeMap<String, String>) -> Result<Compose, ComposeError> {
    let file = path.display().to_string();
    let fail = |reason: String| ComposeError { file: file.clone(), at: None, reason };
    let bytes = std::fs::read(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
    if bytes.len() > MAX_BYTES {
        return Err(fail(format!("has {} bytes, at most {MAX_BYTES} are read", bytes.len())));
    }
    let text = String::from_utf8(bytes).map_err(|e| fail(format!("is not UTF-8: {}", e.utf8_error())))?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("app");
    // Many projects call the file docker-compose.yml: the folder says more.
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let usual = ["docker-compose", "compose", "docker-compose.override", "compose.override"];
    let fallback = if usual.contains(&stem) { folder.unwrap_or(stem) } else { stem };
    parse(&file, fallback, &text, env)
}

/// Reads and checks `text`; `file` is for messages, `fallback` the name of an app that gives itself none.
pub fn parse(
    file: &str,
    fallback: &str,
    text: &str,
    env: &BTreeMap<String, String>,
) -> Result<Compose, ComposeError> {
    let located = |(at, reason)| ComposeError { file: file.to_owned(), at, reason };
    let tree = yaml::parse(text).map_err(located)?;
    read::compose(file, fallback, &tree, env).map_err(located)
}

#[cfg(test)]
mod tests;
