//! Secrets that a call carries: wiped when dropped, never printed, never stored. No I/O, no clock, no async.

use std::collections::BTreeMap;
use std::fmt;

use hivemind_core::SecretBytes;

/// Secrets of one call, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, SecretBytes>);

impl Secrets {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, secret: SecretBytes) -> Self {
        self.0.insert(name.into(), secret);
        self
    }

    /// The secret of that name.
    pub fn get(&self, name: &str) -> Option<&SecretBytes> {
        self.0.get(name)
    }

    /// Every secret, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SecretBytes)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secrets = Secrets::none().with("key", SecretBytes::new(b"hunter2".to_vec()));
        assert_eq!(format!("{secrets:?}"), r#"{"key"}"#);
    }
}
