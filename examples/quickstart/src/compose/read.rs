//! From the tree to the model: the app as a whole.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::ByteSize;
use hivemind_core::{AppId, ClaimId, ServiceName};

use super::check::Report;
use super::interpolate::{Interpolation, MAX_TEXT};
use super::model::{Compose, Service};
use super::names::{fits, label};
use super::order::{Waits, cycle};
use super::schema::FILE;
use super::service::{Context, Found};
use super::text::quote;
use super::values::byte_size;
use super::yaml::{Entry, Node, Place, Read, Yaml, fail, fail_at};

/// The size of a named volume: Compose has no word for it but this label.
const DEFAULT_VOLUME: ByteSize = ByteSize::from_gib(1);
const SIZE_LABEL: &str = "hivemind.size";
/// The most containers of one file.
const MAX_CONTAINERS: u64 = 10_000;
/// What the cluster puts before the name of an app.
const APP_PREFIX: &str = "app";

/// A named volume.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) id: ClaimId,
    size: ByteSize,
    at: Place,
}

/// The app of a tree; an app that gives itself no name gets `fallback`.
pub(super) fn compose(
    report: &mut Report,
    fallback: &str,
    mut tree: Node,
    env: &BTreeMap<String, String>,
) -> Read<Compose> {
    if tree.value == Yaml::Null {
        return fail(&tree, "the file is empty: it needs at least `services`");
    }
    Interpolation::new(env, MAX_TEXT).fill(&mut tree)?;
    report.check(&tree, &FILE, "")?;
    let name = app_name(tree.get("name"), fallback)?;
    let volumes = volumes(tree.get("volumes"), &name)?;
    let Some(entry) = tree.entries().iter().find(|entry| entry.key == "services") else {
        return fail(&tree, "there is no `services`");
    };
    if entry.node.entries().is_empty() {
        return fail_at(entry.at, "`services` is empty");
    }
    let profiles = env.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    let defined = ["networks", "secrets", "configs"].map(|key| {
        let entries = tree.get(key).map(Node::entries).unwrap_or_default();
        (key, entries.iter().map(|entry| entry.key.as_str()).collect())
    });
    let context = Context {
        app: &name,
        tree: &tree,
        volumes: &volumes,
        defined: defined.into(),
        profiles: profiles.split(',').map(str::trim).collect(),
    };
    let found = services(report, &context, entry)?;
    sums(entry, &found)?;
    let services: BTreeMap<_, _> = found.into_iter().map(|(name, found)| (name, found.service)).collect();
    let volumes = mounted(volumes, &services)?;
    Ok(Compose { name, services, volumes, warnings: Vec::new() })
}

fn app_name(given: Option<&Node>, fallback: &str) -> Read<AppId> {
    let text = given.map_or(fallback, Node::text);
    let checked = label(text).and_then(|label| {
        fits(&[APP_PREFIX, &label])?;
        AppId::new(label).map_err(|e| e.to_string())
    });
    checked.or_else(|reason| match given {
        Some(node) => fail(node, format!("the app's name {} {reason}", quote(text))),
        None => fail_at(
            (1, 1),
            format!(
                "the app's name {}, which is that of its file or folder, {reason}: add `name:`",
                quote(text)
            ),
        ),
    })
}

/// The named volumes, as the file calls them.
fn volumes(node: Option<&Node>, app: &AppId) -> Read<BTreeMap<String, Volume>> {
    let (mut volumes, mut ids) = (BTreeMap::new(), BTreeSet::new());
    for Entry { key, at, node } in node.map(Node::entries).unwrap_or_default() {
        let called = || format!("volume {}", quote(key));
        let named = label(key).and_then(|label| {
            fits(&[app.as_str(), &label])?;
            ClaimId::new(label).map_err(|e| e.to_string())
        });
        let id = named.or_else(|e| fail_at(*at, format!("{} {e}", called())))?;
        if !ids.insert(id.clone()) {
            return fail_at(*at, format!("{} is called {id} here, as another one is", called()));
        }
        let labels = node.get("labels").map(Node::pairs).unwrap_or_default();
        let size = match labels.into_iter().find(|(key, ..)| *key == SIZE_LABEL) {
            Some((_, _, text, node)) => match byte_size(text) {
                Ok(size) if size > ByteSize::ZERO => size,
                Ok(_) => return fail(node, format!("{} has no size", called())),
                Err(e) => return fail(node, e),
            },
            None => DEFAULT_VOLUME,
        };
        volumes.insert(key.clone(), Volume { id, size, at: *at });
    }
    Ok(volumes)
}

/// The volumes that are mounted; together they must be countable.
fn mounted(
    volumes: BTreeMap<String, Volume>,
    services: &BTreeMap<ServiceName, Service>,
) -> Read<BTreeMap<ClaimId, ByteSize>> {
    let ids: BTreeSet<_> = services.values().flat_map(|service| &service.mounts).map(|m| &m.volume).collect();
    let mut sum = ByteSize::ZERO;
    let mut mounted = BTreeMap::new();
    for (name, volume) in volumes.into_iter().filter(|(_, volume)| ids.contains(&volume.id)) {
        let Some(more) = sum.checked_add(volume.size) else {
            return fail_at(
                volume.at,
                format!("with volume {} the storage is too large to be counted", quote(&name)),
            );
        };
        sum = more;
        mounted.insert(volume.id, volume.size);
    }
    Ok(mounted)
}

/// The services that are deployed.
fn services<'n>(
    report: &mut Report,
    context: &Context<'n>,
    services: &'n Entry,
) -> Read<BTreeMap<ServiceName, Found>> {
    let mut known: BTreeMap<&str, ServiceName> = BTreeMap::new();
    let mut labels = BTreeSet::new();
    for Entry { key, at, .. } in services.node.entries() {
        let called = || format!("service {}", quote(key));
        let named = label(key).and_then(|label| ServiceName::new(label).map_err(|e| e.to_string()));
        let label = named.or_else(|e| fail_at(*at, format!("{} {e}", called())))?;
        if !labels.insert(label.clone()) {
            return fail_at(*at, format!("{} is called {label} here, as another one is", called()));
        }
        known.insert(key, label);
    }
    let (mut found, mut waits) = (BTreeMap::new(), Waits::new());
    for entry in services.node.entries() {
        let Some(name) = known.get(entry.key.as_str()) else { continue };
        if let Some(mut service) = context.service(report, entry, name, &known)? {
            waits.insert(name.clone(), std::mem::take(&mut service.waits));
            found.insert(name.clone(), service);
        }
    }
    if let Some(circle) = cycle(&waits) {
        let names: Vec<_> = circle.iter().take(5).map(|(name, _)| name.to_string()).collect();
        let at = circle.first().map_or(services.at, |(_, at)| *at);
        return fail_at(at, format!("services wait for each other in a circle: {}", names.join(", ")));
    }
    if found.is_empty() {
        return fail_at(services.at, "every service is in a profile, and no profile is active");
    }
    Ok(found)
}

/// What the containers need together must be countable, and there must be some.
fn sums(services: &Entry, found: &BTreeMap<ServiceName, Found>) -> Read<()> {
    let (mut containers, mut cpu, mut memory) = (0u64, 0u64, 0u64);
    let mut in_order: Vec<_> = found.values().collect();
    in_order.sort_by_key(|found| found.at);
    for Found { at, replicas_at, service, .. } in &in_order {
        let replicas = u64::from(service.replicas);
        containers += replicas;
        if containers > MAX_CONTAINERS {
            return fail_at(*replicas_at, format!("the file asks for more than {MAX_CONTAINERS} containers"));
        }
        let more = |sum: u64, each: u64| each.checked_mul(replicas).and_then(|all| sum.checked_add(all));
        let too_large = |what| format!("the {what} of all containers is too large to be counted");
        match more(cpu, service.cpu.as_millis()) {
            Some(sum) => cpu = sum,
            None => return fail_at(*at, too_large("cpu")),
        }
        match more(memory, service.memory.as_bytes()) {
            Some(sum) => memory = sum,
            None => return fail_at(*at, too_large("memory")),
        }
    }
    if containers == 0 {
        let at = in_order.first().map_or(services.at, |found| found.replicas_at);
        return fail_at(at, "no service has a container to run: every scale is 0");
    }
    Ok(())
}
