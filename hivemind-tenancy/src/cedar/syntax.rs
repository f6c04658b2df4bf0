//! Expressions of Cedar in its JSON form, in which a name is a value and can never become syntax. No I/O, no clock, no
//! async.

use serde_json::{Value, json};

/// A constant: a text, a number, a truth.
pub(super) fn value(constant: impl Into<Value>) -> Value {
    json!({ "Value": constant.into() })
}

/// A constant set; it must not be empty, since Cedar gives such a set no type.
pub(super) fn set<V: Into<Value>>(constants: impl IntoIterator<Item = V>) -> Value {
    json!({ "Set": constants.into_iter().map(value).collect::<Vec<_>>() })
}

/// An entity as a place for `principal`, `action` or `resource` in the head of a policy.
pub(super) fn entity(type_name: &str, id: &str) -> Value {
    json!({ "type": type_name, "id": id })
}

/// An entity in an expression.
pub(super) fn literal(type_name: &str, id: &str) -> Value {
    value(json!({ "__entity": entity(type_name, id) }))
}

/// `principal`, `resource` or `context`.
pub(super) fn var(name: &str) -> Value {
    json!({ "Var": name })
}

/// An attribute.
pub(super) fn attribute(of: Value, name: &str) -> Value {
    json!({ ".": { "left": of, "attr": name } })
}

/// Whether there is an attribute.
pub(super) fn has(of: Value, name: &str) -> Value {
    json!({ "has": { "left": of, "attr": name } })
}

/// Two expressions with an operator between: `==`, `<`, `in`, `contains`, `hasTag` and the like.
pub(super) fn binary(operator: &str, left: Value, right: Value) -> Value {
    json!({ operator: { "left": left, "right": right } })
}

/// The opposite.
pub(super) fn not(truth: Value) -> Value {
    json!({ "!": { "arg": truth } })
}

/// One expression or the other.
pub(super) fn if_then_else(truth: Value, then: Value, otherwise: Value) -> Value {
    json!({ "if-then-else": { "if": truth, "then": then, "else": otherwise } })
}

/// Whether a text begins with `start`.
pub(super) fn starts_with(text: Value, start: &str) -> Value {
    json!({ "like": { "left": text, "pattern": [{ "Literal": start }, "Wildcard"] } })
}

/// Whether an entity is of a type.
pub(super) fn is(entity: Value, type_name: &str) -> Value {
    json!({ "is": { "left": entity, "entity_type": type_name } })
}

/// Whether an address is in a network, given as text.
pub(super) fn is_in_range(address: Value, network: &str) -> Value {
    json!({ "isInRange": [address, { "ip": [value(network)] }] })
}

/// Whether all of them are so; of none, yes.
pub(super) fn all(truths: Vec<Value>) -> Value {
    balanced("&&", truths).unwrap_or_else(|| value(true))
}

/// Whether one of them is so; of none, no.
pub(super) fn any(truths: Vec<Value>) -> Value {
    balanced("||", truths).unwrap_or_else(|| value(false))
}

/// A tree of the operator, as flat as can be: Cedar's evaluator recurses into it. The order is kept, in which Cedar
/// looks no further than it must.
fn balanced(operator: &str, mut truths: Vec<Value>) -> Option<Value> {
    if truths.len() < 2 {
        return truths.pop();
    }
    let right = balanced(operator, truths.split_off(truths.len() / 2))?;
    Some(binary(operator, balanced(operator, truths)?, right))
}
