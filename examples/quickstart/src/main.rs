//! Placeholder while the parts are built.
#[allow(dead_code, reason = "wired up next")]
mod compose;

fn main() {}
