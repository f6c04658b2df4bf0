//! How long names may be, so that those which the cluster makes of them fit.

use super::text::quote;
use super::values::dns_label;

/// The most characters of a name, as of a DNS label.
const MAX: usize = 63;
/// What the cluster may add to a name made of its parts: a number such as `-123456`, or longer separators.
const MARGIN: usize = 9;

/// Checks that the name made of `parts` is short enough.
pub(super) fn fits(parts: &[&str]) -> Result<(), String> {
    let name = parts.join("-");
    let most = MAX - MARGIN;
    if name.len() <= most {
        return Ok(());
    }
    Err(format!("makes the name {} of {} characters, {most} are the most", quote(&name), name.len()))
}

/// The name as a DNS label.
pub(super) fn label(name: &str) -> Result<String, String> {
    let label = dns_label(name);
    match label.len() {
        0 => Err("has no letter of a to z and no digit".into()),
        1..=MAX => Ok(label),
        length => Err(format!("has {length} characters, {MAX} are the most")),
    }
}
