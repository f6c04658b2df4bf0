//! When a binding applies, said in Cedar. No I/O, no clock, no async.

use std::collections::BTreeSet;

use hivemind_core::Timestamp;
use hivemind_core::labels::{Operator, Requirement, Selector};
use ipnet::IpNet;
use serde_json::Value;

use super::syntax::{all, any, attribute, binary, has, if_then_else, is_in_range, not, set, value, var};
use crate::RoleBinding;
use crate::rbac::{Effect, TimeWindow};

/// What must be so for what the binding says with `effect`.
///
/// # Errors
/// What Cedar cannot say.
pub(super) fn conditions(binding: &RoleBinding, effect: Effect) -> Result<Vec<Value>, String> {
    let mut truths = Vec::new();
    if binding.emergency {
        truths.push(has(var("context"), "emergency"));
    }
    if let Some(end) = binding.expires {
        truths.push(known(effect, has(var("context"), "time"), before(end)));
    }
    let wanted = &binding.conditions;
    if !wanted.windows.is_empty() {
        let windows = wanted.windows.iter().map(window).collect();
        truths.push(known(effect, has(var("context"), "time"), any(windows)));
    }
    if !wanted.networks.is_empty() {
        let networks = wanted.networks.iter().filter_map(network).collect();
        truths.push(known(effect, has(var("context"), "source"), any(networks)));
    }
    if !wanted.labels.is_everything() {
        truths.push(known(effect, attribute(var("resource"), "labelled"), labels(&wanted.labels)?));
    }
    Ok(truths)
}

/// Of what is not known, an allow needs proof and a deny does not.
fn known(effect: Effect, is_known: Value, truth: Value) -> Value {
    if_then_else(is_known, truth, value(effect == Effect::Deny))
}

/// A part of the time of the request.
fn time(part: &str) -> Value {
    attribute(attribute(var("context"), "time"), part)
}

/// Whether the request is decided before `end`.
fn before(end: Timestamp) -> Value {
    let (seconds, nanos) = (end.as_secs(), end.as_nanos() % 1_000_000_000);
    let same_second = binary("==", time("seconds"), value(seconds));
    any(vec![
        binary("<", time("seconds"), value(seconds)),
        binary("&&", same_second, binary("<", time("nanos"), value(nanos))),
    ])
}

fn window(window: &TimeWindow) -> Value {
    match window {
        TimeWindow::Once { from, until } => binary("&&", not(before(*from)), before(*until)),
        TimeWindow::Weekly { days, from, until } => {
            let days: BTreeSet<u8> = days.iter().copied().filter(|day| *day < 7).collect();
            let next = days.iter().map(|day| (day + 1) % 7).collect();
            let after = not(binary("<", time("minute"), value(*from)));
            let early = binary("<", time("minute"), value(*until));
            if from < until {
                return all(vec![on(&days), after, early]);
            }
            any(vec![binary("&&", on(&days), after), binary("&&", on(&next), early)])
        }
    }
}

fn on(days: &BTreeSet<u8>) -> Value {
    if days.is_empty() {
        return value(false);
    }
    binary("contains", set(days.iter().copied()), time("weekday"))
}

/// `None` for a network of IPv4 within IPv6: such addresses count as IPv4, so nothing is in it.
fn network(network: &IpNet) -> Option<Value> {
    let network = network.trunc();
    let mapped = matches!(network, IpNet::V6(v6) if v6.network().to_ipv4_mapped().is_some());
    (!mapped).then(|| is_in_range(attribute(var("context"), "source"), &network.to_string()))
}

fn labels(selector: &Selector) -> Result<Value, String> {
    Ok(all(selector.requirements().iter().map(label).collect::<Result<_, _>>()?))
}

fn label(requirement: &Requirement) -> Result<Value, String> {
    let key = || value(requirement.key().as_str());
    let there = binary("hasTag", var("resource"), key());
    let one_of = || {
        let values = set(requirement.values().iter().map(|value| value.as_str()));
        let tag = binary("getTag", var("resource"), key());
        binary("&&", binary("hasTag", var("resource"), key()), binary("contains", values, tag))
    };
    match requirement.operator() {
        Operator::In => Ok(one_of()),
        Operator::NotIn => Ok(not(one_of())),
        Operator::Exists => Ok(there),
        Operator::DoesNotExist => Ok(not(there)),
        Operator::Gt | Operator::Lt => {
            Err(format!("labels {requirement}: Cedar reads no number out of a text"))
        }
    }
}
