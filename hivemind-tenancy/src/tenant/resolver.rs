//! Whose a thing is that does not say so. No I/O, no clock, no async.

use hivemind_core::labels::Labels;
use hivemind_core::{Error, Result, TenantId};
use serde::{Deserialize, Serialize};

use super::TENANT_LABEL;

/// Finds the tenant of a thing by what was said and by its label [`TENANT_LABEL`].
///
/// Without a default it is strict: a thing of nobody is refused.
///
/// ```
/// use hivemind_core::labels::Labels;
/// use hivemind_tenancy::tenant::{TENANT_LABEL, TenantResolver};
///
/// let strict = TenantResolver::strict();
/// assert!(strict.resolve(None, &Labels::new()).is_err());
/// let labelled = Labels::new().with(TENANT_LABEL, "acme")?;
/// assert_eq!(strict.resolve(None, &labelled)?.as_str(), "acme");
/// let lenient = TenantResolver::with_default("commons".parse()?);
/// assert_eq!(lenient.resolve(None, &Labels::new())?.as_str(), "commons");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantResolver {
    /// Whose a thing is that names no tenant; `None` refuses it.
    #[serde(default)]
    pub default: Option<TenantId>,
}

impl TenantResolver {
    /// A thing that names no tenant is refused.
    pub fn strict() -> Self {
        Self::default()
    }

    /// A thing that names no tenant is `default`'s.
    pub fn with_default(default: TenantId) -> Self {
        Self { default: Some(default) }
    }

    /// The tenant of a thing with `labels`, of which `said` was said to be the tenant.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) if nothing names a tenant and there is no default, if what was
    /// said and the label differ, or if the label is no tenant's name.
    pub fn resolve(&self, said: Option<&TenantId>, labels: &Labels) -> Result<TenantId> {
        let labelled = labels.get(TENANT_LABEL).map(|value| {
            let wrong = |e| Error::invalid("resolve tenant", format!("label {TENANT_LABEL}={value}: {e}"));
            value.as_str().parse::<TenantId>().map_err(wrong)
        });
        match (said, labelled.transpose()?, &self.default) {
            (Some(said), Some(label), _) if *said != label => {
                let message = format!(
                    "it is said to be of tenant {said}, and labelled {TENANT_LABEL}={label}: make them agree"
                );
                Err(Error::invalid("resolve tenant", message))
            }
            (Some(said), _, _) => Ok(said.clone()),
            (None, Some(label), _) => Ok(label),
            (None, None, Some(default)) => Ok(default.clone()),
            (None, None, None) => {
                let message = format!(
                    "no tenant is named: name one, label it {TENANT_LABEL}, or configure a default tenant"
                );
                Err(Error::invalid("resolve tenant", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_labelled_must_agree() {
        let (acme, labelled) =
            ("acme".parse().unwrap(), |value| Labels::new().with(TENANT_LABEL, value).unwrap());
        let lenient = TenantResolver::with_default("commons".parse().unwrap());
        assert_eq!(lenient.resolve(Some(&acme), &Labels::new()).unwrap(), acme);
        assert_eq!(lenient.resolve(Some(&acme), &labelled("acme")).unwrap(), acme);
        // The default never wins over a label, not even over one that is wrong.
        assert!(lenient.resolve(Some(&acme), &labelled("globex")).is_err());
        assert!(lenient.resolve(None, &labelled("no_tenant")).is_err());
        let strict = TenantResolver::strict().resolve(None, &Labels::new()).unwrap_err();
        assert_eq!(
            strict.message(),
            "no tenant is named: name one, label it hivemind.dev/tenant, or configure a default tenant"
        );
    }
}
