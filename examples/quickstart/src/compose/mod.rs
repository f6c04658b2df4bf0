//! Reads Compose files (<https://compose-spec.io>).
//!
//! The crates that type the whole format do not serve here: `docker-compose-types` builds only on YAML parsers that are
//! no longer maintained, refuses valid short forms and drops unknown keys; `compose_spec` has had no release for over
//! two years. So the YAML comes from `serde-saphyr`, which is well kept; a table of the specification's keys finds what
//! is malformed, unknown or not used, and this reads of the rest what a deployment needs.

mod check;
mod dotenv;
mod interpolate;
mod model;
mod names;
mod order;
mod read;
mod schema;
mod service;
mod source;
mod text;
mod values;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;

use check::Report;
pub use model::{Compose, ComposeError, Mount, Ports, Service, Warning};
use text::printable;
use yaml::Failure;

fn error(file: &str, (at, reason): Failure, warnings: Vec<Warning>) -> ComposeError {
    ComposeError { file: file.to_owned(), at, reason: printable(&reason), warnings }
}

/// Reads and checks the file at `path`; variables come from `env`, or else from the file `.env` beside it.
pub fn load(path: &Path, env: &BTreeMap<String, String>) -> Result<Compose, ComposeError> {
    let shown = |path: &Path| printable(&path.display().to_string());
    let file = shown(path);
    let text = source::read(path).map_err(|e| error(&file, e, Vec::new()))?;
    let beside = path.with_file_name(".env");
    let env = if beside.is_file() {
        let read = source::read(&beside).and_then(|text| dotenv::parse(&text, env));
        read.map_err(|e| error(&shown(&beside), e, Vec::new()))?
    } else {
        env.clone()
    };
    parse(&file, &source::app_name(path), &text, &env)
}

/// Reads and checks `text`; `file` is for messages, `fallback` the name of an app that gives itself none.
pub fn parse(
    file: &str,
    fallback: &str,
    text: &str,
    env: &BTreeMap<String, String>,
) -> Result<Compose, ComposeError> {
    let mut report = Report::new(file);
    let read = yaml::parse(text).and_then(|tree| read::compose(&mut report, fallback, tree, env));
    let warnings = report.into_warnings();
    match read {
        Ok(compose) => Ok(Compose { warnings, ..compose }),
        Err(failure) => Err(error(file, failure, warnings)),
    }
}

#[cfg(test)]
mod tests;
