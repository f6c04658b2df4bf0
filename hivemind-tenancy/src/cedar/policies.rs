//! Sets of policies, checked when they are made. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use cedar_policy::{Effect, Policy, PolicyId, Schema, ValidationMode, Validator};
use hivemind_core::{Error, ErrorKind, Result};
use miette::Diagnostic;

/// Policies in the Cedar language.
///
/// A policy is called what its annotation `@id("..")` says; without one, `policy0` for the first of the text, and so
/// on.
#[derive(Debug, Clone, Default)]
pub struct PolicySet(cedar_policy::PolicySet);

/// One thing that is wrong with policies or their schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Problem {
    /// The policy, if it is known which; never known for a text that does not parse.
    pub policy: Option<String>,
    /// The line and the column in the text, from 1; columns count characters.
    pub position: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

/// A text is not a set of policies. Detail of an [`Invalid`](ErrorKind::Invalid) error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct InvalidPolicies {
    /// Which text: `policies` or `schema`.
    pub what: &'static str,
    /// Everything that is wrong with it, in the order of the text.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy}: ")?;
        }
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// What a diagnostic says, with the place in `text` that it points to.
    fn of(diagnostic: &dyn Diagnostic, text: &str, policy: Option<String>) -> Self {
        let offset = diagnostic.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
        let mut message = diagnostic.to_string();
        if let Some(help) = diagnostic.help() {
            message = format!("{message} ({help})");
        }
        Self { policy, position: offset.and_then(|offset| position(text, offset)), message }
    }
}

/// The line and the column of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> Option<(usize, usize)> {
    let before = text.get(..offset)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some((before.matches('\n').count() + 1, line.chars().count() + 1))
}

/// An id as it was given: Cedar prints ids with escapes.
pub(super) fn name(id: &PolicyId) -> String {
    AsRef::<str>::as_ref(id).to_owned()
}

fn invalid(what: &'static str, mut problems: Vec<Problem>) -> Error {
    problems.sort_by_key(|problem| problem.position);
    Error::of(ErrorKind::Invalid, "cedar", InvalidPolicies { what, problems })
}

impl PolicySet {
    /// Reads policies in Cedar's syntax, without checking that what they name exists.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with [`InvalidPolicies`] as detail, for a text that does not parse, two policies of one
    /// id, and templates, which nothing here would fill in.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed = cedar_policy::PolicySet::from_str(text).map_err(|errors| {
            invalid("policies", errors.iter().map(|error| Problem::of(error, text, None)).collect())
        })?;
        if let Some(template) = parsed.templates().next() {
            let message = "is a template; write out its slots".to_owned();
            let policy = template.annotation("id").map_or_else(|| name(template.id()), str::to_owned);
            return Err(invalid("policies", vec![Problem { policy: Some(policy), position: None, message }]));
        }
        Self::of(parsed.policies().map(|policy| match policy.annotation("id") {
            Some(id) => policy.new_id(PolicyId::new(id)),
            None => policy.clone(),
        }))
    }

    /// Reads policies, and checks that their types agree with a schema in Cedar's syntax; [`schema`](super::schema())
    /// makes one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with [`InvalidPolicies`] as detail: as [`parse`](Self::parse), and for a policy that
    /// names what the schema does not have, reads what may be absent without asking first, or can never apply.
    pub fn parse_for(text: &str, schema: &str) -> Result<Self> {
        let policies = Self::parse(text)?;
        policies.check(text, schema)?;
        Ok(policies)
    }

    fn check(&self, text: &str, schema: &str) -> Result<()> {
        let (schema, _) = Schema::from_cedarschema_str(schema)
            .map_err(|error| invalid("schema", vec![Problem::of(&error, schema, None)]))?;
        let result = Validator::new(schema).validate(&self.0, ValidationMode::Strict);
        let errors =
            result.validation_errors().map(|error| Problem::of(error, text, Some(name(error.policy_id()))));
        // What can never apply was meant to: a `forbid` with a slip in it would protect nothing.
        let warnings = result
            .validation_warnings()
            .map(|warning| Problem::of(warning, text, Some(name(warning.policy_id()))));
        let problems: Vec<_> = errors.chain(warnings).collect();
        if problems.is_empty() { Ok(()) } else { Err(invalid("policies", problems)) }
    }

    pub(super) fn of(policies: impl IntoIterator<Item = Policy>) -> Result<Self> {
        let mut set = cedar_policy::PolicySet::new();
        for policy in policies {
            let id = name(policy.id());
            set.add(policy).map_err(|error| {
                let problem = Problem { policy: Some(id), position: None, message: error.to_string() };
                invalid("policies", vec![problem])
            })?;
        }
        Ok(Self(set))
    }

    /// The ids of all policies.
    pub fn ids(&self) -> BTreeSet<String> {
        self.0.policies().map(|policy| name(policy.id())).collect()
    }

    /// Whether there are none: then nothing is permitted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_cedar(&self) -> &cedar_policy::PolicySet {
        &self.0
    }

    /// What permits, without what forbids.
    pub(super) fn permits(&self) -> Result<Self> {
        Self::of(self.0.policies().filter(|policy| policy.effect() == Effect::Permit).cloned())
    }
}

/// In Cedar's syntax, in the order of their ids, with the id of each as an annotation.
impl fmt::Display for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut policies: Vec<_> = self.0.policies().collect();
        policies.sort_by(|a, b| a.id().cmp(b.id()));
        for policy in policies {
            if policy.annotation("id").is_none() {
                // Debug quotes as Cedar does, but for escapes of its own that Cedar reads as well.
                writeln!(f, "@id({:?})", name(policy.id()))?;
            }
            writeln!(f, "{policy}")?;
        }
        Ok(())
    }
}
