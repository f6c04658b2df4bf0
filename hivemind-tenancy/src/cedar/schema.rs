//! Names of kinds as Cedar's types, and the schema of what Cedar is asked. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::{ResourceKind, Verb};

/// What Cedar's grammar keeps for itself.
const RESERVED: [&str; 9] = ["true", "false", "if", "then", "else", "in", "is", "like", "has"];

/// The entity type that stands for `kind`: the kind itself where Cedar takes it for a name. For others `-` becomes
/// `_`, and a leading digit or a reserved word gets a `_` in front, which is never ambiguous.
///
/// ```
/// use hivemind_tenancy::cedar::entity_type;
///
/// assert_eq!(entity_type(&"apps".parse()?), "apps");
/// assert_eq!(entity_type(&"role-bindings".parse()?), "role_bindings");
/// assert_eq!(entity_type(&"3d-models".parse()?), "_3d_models");
/// assert_eq!(entity_type(&"in".parse()?), "_in");
/// # Ok::<(), hivemind_core::InvalidName>(())
/// ```
pub fn entity_type(kind: &ResourceKind) -> String {
    let name = kind.as_str();
    let reserved = RESERVED.contains(&name);
    let front = if reserved || name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    format!("{front}{}", name.replace('-', "_"))
}

/// A schema in Cedar's syntax of all that Cedar is asked, for things of these kinds: for
/// [`PolicySet::parse_for`](super::PolicySet::parse_for), and for Cedar's own tools.
pub fn schema(kinds: impl IntoIterator<Item = ResourceKind>) -> String {
    let kinds: BTreeSet<_> = kinds.into_iter().map(|kind| entity_type(&kind)).collect();
    let all = |names: Vec<String>| names.join(", ");
    let kinds = all(kinds.into_iter().collect());
    let verbs = all(Verb::ALL.iter().map(ToString::to_string).collect());
    if kinds.is_empty() {
        return String::new();
    }
    format!(
        "entity Group;
entity Tenant in [Tenant] = {{ state: String, depth: Long }} tags String;
entity User, Node, System in [Group];
entity ServiceAccount in [Group, Tenant];
entity {kinds} in [Tenant] = {{ tenant: Tenant, name?: String, labelled: Bool }} tags String;
action {verbs} appliesTo {{
    principal: [User, ServiceAccount, Node, System],
    resource: [{kinds}],
    context: {{
        time?: {{ seconds: Long, nanos: Long, weekday: Long, minute: Long }},
        source?: ipaddr,
        emergency?: String,
    }},
}};
"
    )
}
