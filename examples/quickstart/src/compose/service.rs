//! From the tree to the model: one service.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu};
use hivemind_core::{AppId, ServiceName};

use super::check::{Report, flag};
use super::model::{Mount, Ports, Service};
use super::names::fits;
use super::read::Volume;
use super::schema::SERVICE;
use super::text::{brief, quote};
use super::values::{Source, byte_size, cpus, mount, port_pair, ports};
use super::yaml::{Entry, Node, Place, Read, Yaml, fail, fail_at, fail_by};

/// What a container gets if the file does not say.
const DEFAULT_CPU: MilliCpu = MilliCpu::from_millis(100);
const DEFAULT_MEMORY: ByteSize = ByteSize::from_mib(128);
const MAX_REPLICAS: u32 = 10_000;

const DEPLOY: &str = "deploy";
const RESOURCES: &str = "resources";
const RESERVED: &str = "reservations";

/// What a service refers to.
#[derive(Debug)]
pub(super) struct Context<'n> {
    pub(super) app: &'n AppId,
    pub(super) tree: &'n Node,
    pub(super) volumes: &'n BTreeMap<String, Volume>,
    /// The networks, secrets and configs of the file.
    pub(super) defined: BTreeMap<&'static str, BTreeSet<&'n str>>,
    pub(super) profiles: Vec<&'n str>,
}

/// A service with its place in the file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) at: Place,
    /// Where the number of containers stands.
    pub(super) replicas_at: Place,
    /// What it waits for, and where that stands.
    pub(super) waits: Vec<(ServiceName, Place)>,
    pub(super) service: Service,
}

/// A value of `node` at the end of a path of keys.
fn below<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, key| node.get(key))
}

/// The first of these that the file has.
fn first<'n>(node: &'n Node, paths: &[&[&str]]) -> Option<&'n Node> {
    paths.iter().find_map(|path| below(node, path))
}

impl Context<'_> {
    /// A service, unless it is in a profile that is not active.
    pub(super) fn service(
        &self,
        report: &mut Report,
        entry: &Entry,
        name: &ServiceName,
        known: &BTreeMap<&str, ServiceName>,
    ) -> Read<Option<Found>> {
        let Entry { key, at, node } = entry;
        let profiles = node.get("profiles").map(Node::items).unwrap_or_default();
        let active = |item: &Node| self.profiles.iter().any(|profile| ["*", item.text()].contains(profile));
        let active = profiles.is_empty() || profiles.iter().any(active);
        report.muted = !active;
        let mut found = self.read(report, entry, name, active)?;
        found.waits = self.depends_on(entry, known)?;
        found.service.depends_on = found.waits.iter().map(|(name, _)| name.clone()).collect();
        report.muted = false;
        if !active {
            let message =
                format!("service {} is in a profile that is not active: it is not deployed", brief(key));
            report.warn(*at, message);
        }
        Ok(active.then_some(found))
    }

    fn read(&self, report: &mut Report, entry: &Entry, name: &ServiceName, active: bool) -> Read<Found> {
        let Entry { key, at, node } = entry;
        report.check(node, &SERVICE, &format!("service {}", brief(key)))?;
        let image = node.get("image");
        let elsewhere = ["build", "extends", "provider"].iter().any(|key| node.get(key).is_some());
        if active && !elsewhere && image.is_none_or(|image| image.text().is_empty()) {
            let (at, image) = image.map_or((*at, node), |image| (image.at, image));
            return fail_by(at, image, format!("service {} has neither an image nor a build", brief(key)));
        }
        // `deploy` wins over the older keys; limits win over reservations: what is needed at most is promised.
        let replicas = first(node, &[&[DEPLOY, "replicas"], &["scale"]]);
        let cpu = first(
            node,
            &[&[DEPLOY, RESOURCES, "limits", "cpus"], &[DEPLOY, RESOURCES, RESERVED, "cpus"], &["cpus"]],
        );
        let memory = first(
            node,
            &[
                &[DEPLOY, RESOURCES, "limits", "memory"],
                &[DEPLOY, RESOURCES, RESERVED, "memory"],
                &["mem_limit"],
            ],
        );
        global(report, key, node);
        for key in ["networks", "secrets", "configs"] {
            self.references(entry, key)?;
        }
        let service = Service {
            image: image.map(|image| image.text().to_owned()),
            replicas: replicas.map_or(Ok(1), count)?,
            cpu: cpu.map_or(Ok(DEFAULT_CPU), |node| cpus(node.text()).or_else(|e| fail(node, e)))?,
            memory: memory
                .map_or(Ok(DEFAULT_MEMORY), |node| byte_size(node.text()).or_else(|e| fail(node, e)))?,
            mounts: self.mounts(report, key, node)?,
            ports: listed(node, "ports").iter().map(port).collect::<Read<_>>()?,
            labels: labels(report, node),
            depends_on: BTreeSet::new(),
            healthcheck: healthy(node),
        };
        let (app, last) = (self.app.as_str(), service.replicas.to_string());
        fits(&[app, name.as_str(), &last])
            .or_else(|e| fail_at(*at, format!("service {} {e}", quote(key))))?;
        Ok(Found { at: *at, replicas_at: replicas.map_or(*at, |node| node.at), waits: Vec::new(), service })
    }

    /// Networks, secrets and configs that are used must be defined.
    fn references(&self, entry: &Entry, key: &'static str) -> Read<()> {
        let defined = self.defined.get(key);
        for (name, at, node) in entry.node.get(key).map(Node::names).unwrap_or_default() {
            // The long form of a secret is a mapping in a list.
            let name = if name.is_empty() { node.get("source").map_or("", Node::text) } else { name };
            // Every app has a network called default.
            let implied = key == "networks" && name == "default";
            if !implied && !defined.is_some_and(|names| names.contains(name)) {
                let (service, name, hint) = (brief(&entry.key), quote(name), self.hint());
                return fail_by(
                    at,
                    node,
                    format!("service {service} uses {name}, which `{key}` does not have{hint}"),
                );
            }
        }
        Ok(())
    }

    fn depends_on(
        &self,
        entry: &Entry,
        known: &BTreeMap<&str, ServiceName>,
    ) -> Read<Vec<(ServiceName, Place)>> {
        let mut all = Vec::new();
        for (name, at, node) in entry.node.get("depends_on").map(Node::names).unwrap_or_default() {
            let required = node.get("required").and_then(|node| flag(node.text())).unwrap_or(true);
            match known.get(name) {
                Some(name) => all.push((name.clone(), at)),
                None if !required => {}
                None => {
                    let (service, name, hint) = (brief(&entry.key), brief(name), self.hint());
                    let reason = format!("service {service} depends on {name}, which does not exist{hint}");
                    return fail_by(at, node, reason);
                }
            }
        }
        Ok(all)
    }

    /// What is missing may be in a file that is not read.
    fn hint(&self) -> &'static str {
        if self.tree.get("include").is_some() { " (files of `include` are not read)" } else { "" }
    }

    fn mounts(&self, report: &mut Report, service: &str, node: &Node) -> Read<Vec<Mount>> {
        let (mut mounts, mut seen) = (Vec::new(), BTreeSet::new());
        for item in listed(node, "volumes") {
            let (source, target, read_only) = match &item.value {
                Yaml::Map(_) => long_mount(item)?,
                _ => mount(item.text()).or_else(|e| fail(item, e))?,
            };
            let service = brief(service);
            let Source::Volume(name) = source else {
                report.warn(item.at, unmounted(&source, &service, &quote(target)));
                continue;
            };
            let Some(volume) = self.volumes.get(name) else {
                let (name, hint) = (quote(name), self.hint());
                let reason =
                    format!("service {service} mounts volume {name}, which `volumes` does not have{hint}");
                return fail(item, reason);
            };
            if seen.insert(&volume.id) {
                mounts.push(Mount { volume: volume.id.clone(), read_only });
            }
        }
        Ok(mounts)
    }
}

/// What is said of a mount that is not of a volume with a name.
fn unmounted(source: &Source<'_>, service: &str, target: &str) -> String {
    match source {
        Source::Host(path) => {
            let path = quote(path);
            format!("{path} is of the host, not a named volume: service {service} goes without")
        }
        Source::Windows(path) => {
            let path = quote(path);
            format!("{path} is a Windows path, which is not supported: service {service} goes without")
        }
        Source::Other(kind) => {
            format!("mounts of type {kind} are not used here: service {service} has none at {target}")
        }
        _ => format!("the anonymous volume of service {service} at {target} is not kept"),
    }
}

fn listed<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.get(key).map(Node::items).unwrap_or_default()
}

fn count(node: &Node) -> Read<u32> {
    match node.text().parse() {
        Ok(replicas) if replicas <= MAX_REPLICAS => Ok(replicas),
        _ => fail(node, format!("{} is not a number of containers, 0 to {MAX_REPLICAS}", quote(node.text()))),
    }
}

/// Reports a mode that asks for another number of containers, or for containers that end.
fn global(report: &mut Report, service: &str, node: &Node) {
    if let Some(mode) = below(node, &[DEPLOY, "mode"]).filter(|mode| mode.text() != "replicated") {
        let every = if mode.text().starts_with("global") { ": it would run on every node" } else { "" };
        let (mode_is, service) = (brief(mode.text()), brief(service));
        report.warn(mode.at, format!("`mode: {mode_is}` of service {service} is not used here{every}"));
    }
}

fn healthy(node: &Node) -> bool {
    let Some(check) = node.get("healthcheck") else { return false };
    let disabled = check.get("disable").and_then(|node| flag(node.text())).unwrap_or(false);
    !disabled && listed(check, "test").first().is_none_or(|word| word.text() != "NONE")
}

fn port(item: &Node) -> Read<Ports> {
    let Yaml::Map(_) = &item.value else {
        let (first, last, protocol) = ports(item.text()).or_else(|e| fail(item, e))?;
        return Ok(Ports { first, last, protocol: protocol.to_owned() });
    };
    let text = |key| item.get(key).map_or("", Node::text);
    let Some(target) = item.get("target") else { return fail(item, "a port needs a `target`") };
    let (first, last) = port_pair("", target.text()).or_else(|e| fail(target, format!("`target`: {e}")))?;
    let published = item.get("published").unwrap_or(item);
    port_pair(text("published"), target.text()).or_else(|e| fail(published, format!("`published`: {e}")))?;
    let protocol = if text("protocol").is_empty() { "tcp" } else { text("protocol") };
    Ok(Ports { first, last, protocol: protocol.to_owned() })
}

fn long_mount(item: &Node) -> Read<(Source<'_>, &str, bool)> {
    let text = |key| item.get(key).map_or("", Node::text);
    for (key, needed) in [("type", true), ("target", true), ("source", text("type") == "bind")] {
        if needed && text(key).is_empty() {
            return fail(item.get(key).unwrap_or(item), format!("a mount needs a `{key}`"));
        }
    }
    let source = match text("type") {
        "bind" => match Source::of(text("source")) {
            Source::Volume(path) => Source::Host(path),
            other => other,
        },
        "volume" if text("source").is_empty() => Source::Anonymous,
        "volume" => Source::Volume(text("source")),
        other => Source::Other(other),
    };
    Ok((source, text("target"), flag(text("read_only")).unwrap_or(false)))
}

fn labels(report: &mut Report, node: &Node) -> Labels {
    let mut labels = Labels::new();
    for (key, at, value, _) in node.get("labels").map(Node::pairs).unwrap_or_default() {
        match (key.parse(), value.parse()) {
            (Ok(key), Ok(value)) => {
                labels.insert(key, value);
            }
            _ => report.warn(at, format!("label {} is none in Kubernetes' grammar: left out", quote(key))),
        }
    }
    labels
}
