//! From the tree to the model.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::labels::Labels;
use hivemind_core::resources::{ByteSize, MilliCpu};
use hivemind_core::{AppId, ClaimId, ServiceName};

use super::interpolate::interpolate;
use super::model::{Compose, Mount, Service, Warning};
use super::values::{byte_size, cpus, dns_label, ports};
use super::yaml::{Failure, Node, Yaml, fail, place};

/// What a container gets if the file does not say.
const DEFAULT_CPU: MilliCpu = MilliCpu::from_millis(100);
const DEFAULT_MEMORY: ByteSize = ByteSize::from_mib(128);
/// The size of a named volume: Compose has no word for it but this label.
const DEFAULT_VOLUME: ByteSize = ByteSize::from_gib(1);
const SIZE_LABEL: &str = "hivemind.size";
const MAX_REPLICAS: u32 = 10_000;

/// Top-level keys of the specification that a deployment here does not need.
const UNUSED_TOP: &str = "version networks configs secrets include models";
/// Keys of a service of the specification that a deployment here does not need.
const UNUSED_SERVICE: &str = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command \
    configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpuset \
    credential_spec develop device_cgroup_rules devices dns dns_opt dns_search domainname driver_opts entrypoint \
    env_file environment expose extends external_links extra_hosts gpus group_add hostname init ipc isolation \
    label_file links logging mac_address mem_reservation mem_swappiness memswap_limit models network_mode networks \
    oom_kill_disable oom_score_adj pid pids_limit platform post_start pre_stop privileged provider pull_policy \
    read_only restart runtime secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt \
    sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes_from working_dir";
/// Of these, what changes what the containers would do is reported; the rest goes without saying in a simulation.
const QUIET: &str = "version networks command entrypoint environment env_file restart hostname container_name expose \
    logging stop_grace_period stop_signal user working_dir init tty stdin_open dns links pull_policy target published mode";

fn listed(keys: &str, key: &str) -> bool {
    keys.split_whitespace().any(|known| known == key)
}

struct Reader<'a> {
    env: &'a BTreeMap<String, String>,
    warnings: Vec<Warning>,
}

type Read<T> = Result<T, Failure>;

pub(super) fn compose(
    file: &str,
    fallback: &str,
    tree: &Node,
    env: &BTreeMap<String, String>,
) -> Read<Compose> {
    let mut reader = Reader { env, warnings: Vec::new() };
    if tree.value == Yaml::Null {
        return fail(tree, "the file is empty: it needs at least `services`");
    }
    let top = reader.map(tree, file)?;
    let (mut services, mut volumes, mut name) = (None, None, None);
    for (key, node) in top {
        match key.as_str() {
            "services" => services = Some(node),
            "volumes" => volumes = Some(node),
            "name" => name = Some(reader.text(node)?),
            _ => reader.unused(key, node, UNUSED_TOP, ""),
        }
    }
    let volumes = volumes.map(|node| reader.volumes(node)).transpose()?.unwrap_or_default();
    let Some(services) = services else { return fail(tree, "there is no `services`") };
    let services = reader.services(services, &volumes)?;
    let label = dns_label(name.as_deref().unwrap_or(fallback));
    let name = AppId::new(&label).or_else(|e| fail(tree, format!("the app has no usable name: {e}")))?;
    let mounted: BTreeSet<_> = services.values().flat_map(|s| &s.mounts).map(|m| m.volume.clone()).collect();
    let volumes = volumes.into_values().filter(|(id, _)| mounted.contains(id)).collect();
    let mut warnings = reader.warnings;
    warnings.sort_by_key(|warning| warning.line);
    Ok(Compose { name, services, volumes, warnings })
}

impl Reader<'_> {
    fn warn(&mut self, node: &Node, message: impl Into<String>) {
        self.warnings.push(Warning { line: place(node).0, message: message.into() });
    }

    /// Reports a key that is not read, unless it goes without saying.
    fn unused(&mut self, key: &str, node: &Node, known: &str, of: &str) {
        if key.starts_with("x-") || listed(QUIET, key) {
            return;
        }
        let what = if of.is_empty() { String::new() } else { format!(" of {of}") };
        if listed(known, key) {
            self.warn(node, format!("`{key}`{what} is not used here"));
        } else {
            self.warn(node, format!("`{key}`{what} is no key of the Compose specification"));
        }
    }

    fn map<'n>(&self, node: &'n Node, what: &str) -> Read<&'n [(String, Node)]> {
        match &node.value {
            Yaml::Map(entries) => Ok(entries),
            Yaml::Null => Ok(&[]),
            other => fail(node, format!("{what} must be a mapping, not {}", other.kind())),
        }
    }

    fn list<'n>(&self, node: &'n Node, what: &str) -> Read<&'n [Node]> {
        match &node.value {
            Yaml::List(items) => Ok(items),
            Yaml::Null => Ok(&[]),
            other => fail(node, format!("{what} must be a list, not {}", other.kind())),
        }
    }

    /// A text with its variables replaced.
    fn text(&mut self, node: &Node) -> Read<String> {
        let raw = match &node.value {
            Yaml::Scalar(text) => text.clone(),
            Yaml::Bool(value) => value.to_string(),
            Yaml::Null => String::new(),
            other => return fail(node, format!("expected a text, not {}", other.kind())),
        };
        match interpolate(&raw, self.env) {
            Err(reason) => fail(node, reason),
            Ok(done) => {
                for name in done.unset {
                    self.warn(node, format!("variable {name} is not set: empty is used"));
                }
                Ok(done.text)
            }
        }
    }

    /// The named volumes: as the file calls them, and as the cluster does, with their size.
    fn volumes(&mut self, node: &Node) -> Read<BTreeMap<String, (ClaimId, ByteSize)>> {
        let mut volumes = BTreeMap::new();
        for (name, node) in self.map(node, "`volumes`")? {
            let id =
                ClaimId::new(dns_label(name)).or_else(|e| fail(node, format!("volume {name:?}: {e}")))?;
            let mut size = DEFAULT_VOLUME;
            for (key, node) in self.map(node, &format!("volume {name:?}"))? {
                if key == "labels" {
                    if let Some(text) = self.pairs(node, "labels")?.get(SIZE_LABEL) {
                        size = byte_size(text).or_else(|e| fail(node, e))?;
                    }
                } else {
                    self.unused(key, node, "driver driver_opts external name", &format!("volume {name}"));
                }
            }
            if volumes.values().any(|(other, _)| *other == id) {
                return fail(node, format!("volume {name:?} is called {id} here, as another one is"));
            }
            volumes.insert(name.clone(), (id, size));
        }
        Ok(volumes)
    }

    fn services(
        &mut self,
        node: &Node,
        volumes: &BTreeMap<String, (ClaimId, ByteSize)>,
    ) -> Read<BTreeMap<ServiceName, Service>> {
        let entries = self.map(node, "`services`")?;
        if entries.is_empty() {
            return fail(node, "`services` is empty");
        }
        let mut services = BTreeMap::new();
        for (name, node) in entries {
            let label = ServiceName::new(dns_label(name))
                .or_else(|e| fail(node, format!("service {name:?}: {e}")))?;
            if services.contains_key(&label) {
                return fail(node, format!("service {name:?} is called {label} here, as another one is"));
            }
            if let Some(service) = self.service(name, node, volumes)? {
                services.insert(label, (node, service));
            }
        }
        for (name, (node, service)) in &services {
            if let Some(missing) = service.depends_on.iter().find(|other| !services.contains_key(*other)) {
                let known = entries.iter().any(|(other, _)| dns_label(other) == missing.as_str());
                // A service of a profile that is not active is known, and not started.
                if !known {
                    return fail(node, format!("service {name} depends on {missing}, which does not exist"));
                }
            }
        }
        if let Some((name, node)) = cycle(&services) {
            return fail(node, format!("service {name} depends on itself, by way of others"));
        }
        if services.is_empty() {
            return fail(node, "every service is in a profile, and no profile is active");
        }
        Ok(services.into_iter().map(|(name, (_, service))| (name, service)).collect())
    }

    /// A service, unless it is in a profile: those are not started by default.
    fn service(
        &mut self,
        name: &str,
        node: &Node,
        volumes: &BTreeMap<String, (ClaimId, ByteSize)>,
    ) -> Read<Option<Service>> {
        let mut service = Service {
            image: None,
            replicas: 1,
            cpu: DEFAULT_CPU,
            memory: DEFAULT_MEMORY,
            mounts: Vec::new(),
            ports: BTreeSet::new(),
            labels: Labels::new(),
            depends_on: BTreeSet::new(),
            healthcheck: false,
        };
        let mut active = true;
        // `deploy` wins over the older keys of the service itself, wherever it stands.
        let entries = self.map(node, &format!("service {name:?}"))?;
        let deploy_last = entries.iter().filter(|(key, _)| key != "deploy");
        for (key, node) in deploy_last.chain(entries.iter().filter(|(key, _)| key == "deploy")) {
            match key.as_str() {
                "image" => service.image = Some(self.text(node)?),
                "scale" => service.replicas = self.replicas(node)?,
                "cpus" => service.cpu = self.cpus(node)?,
                "mem_limit" => service.memory = self.size(node)?,
                "ports" => service.ports = self.ports(node)?,
                "volumes" => service.mounts = self.mounts(name, node, volumes)?,
                "labels" => service.labels = self.labels(node)?,
                "depends_on" => service.depends_on = self.depends_on(node)?,
                "healthcheck" => service.healthcheck = true,
                "profiles" => active = self.list(node, "`profiles`")?.is_empty(),
                "deploy" => self.deploy(node, &mut service)?,
                _ => self.unused(key, node, UNUSED_SERVICE, &format!("service {name}")),
            }
        }
        if !active {
            self.warn(node, format!("service {name} is in a profile that is not active: it is not deployed"));
        }
        Ok(active.then_some(service))
    }

    fn replicas(&mut self, node: &Node) -> Read<u32> {
        let text = self.text(node)?;
        match text.parse() {
            Ok(replicas) if replicas <= MAX_REPLICAS => Ok(replicas),
            _ => fail(node, format!("{text:?} is not a number of containers, 0 to {MAX_REPLICAS}")),
        }
    }

    fn cpus(&mut self, node: &Node) -> Read<MilliCpu> {
        let text = self.text(node)?;
        cpus(&text).or_else(|e| fail(node, e))
    }

    fn size(&mut self, node: &Node) -> Read<ByteSize> {
        let text = self.text(node)?;
        byte_size(&text).or_else(|e| fail(node, e))
    }

    fn deploy(&mut self, node: &Node, service: &mut Service) -> Read<()> {
        for (key, node) in self.map(node, "`deploy`")? {
            match key.as_str() {
                "replicas" => service.replicas = self.replicas(node)?,
                "resources" => {
                    // Limits win over reservations: what is promised is what is needed at most.
                    let entries = self.map(node, "`resources`")?;
                    for wanted in ["reservations", "limits"] {
                        for (_, node) in entries.iter().filter(|(key, _)| key == wanted) {
                            self.amounts(node, wanted, service)?;
                        }
                    }
                    for (key, node) in
                        entries.iter().filter(|(key, _)| key != "reservations" && key != "limits")
                    {
                        self.unused(key, node, "", "resources");
                    }
                }
                _ => {
                    let known =
                        "endpoint_mode labels mode placement restart_policy rollback_config update_config";
                    self.unused(key, node, known, "deploy");
                }
            }
        }
        Ok(())
    }

    fn amounts(&mut self, node: &Node, of: &str, service: &mut Service) -> Read<()> {
        for (key, node) in self.map(node, of)? {
            match key.as_str() {
                "cpus" => service.cpu = self.cpus(node)?,
                "memory" => service.memory = self.size(node)?,
                _ => self.unused(key, node, "pids devices generic_resources", of),
            }
        }
        Ok(())
    }

    fn ports(&mut self, node: &Node) -> Read<BTreeSet<(u16, String)>> {
        let mut all = BTreeSet::new();
        for item in self.list(node, "`ports`")? {
            let text = match &item.value {
                Yaml::Map(entries) => {
                    let mut target = None;
                    let mut protocol = "tcp".to_owned();
                    for (key, node) in entries {
                        match key.as_str() {
                            "target" => target = Some(self.text(node)?),
                            "protocol" => protocol = self.text(node)?,
                            _ => self.unused(key, node, "published host_ip mode name app_protocol", "port"),
                        }
                    }
                    let Some(target) = target else { return fail(item, "a port needs a `target`") };
                    format!("{target}/{protocol}")
                }
                _ => self.text(item)?,
            };
            all.extend(ports(&text).or_else(|e| fail(item, e))?);
        }
        Ok(all)
    }

    fn mounts(
        &mut self,
        service: &str,
        node: &Node,
        volumes: &BTreeMap<String, (ClaimId, ByteSize)>,
    ) -> Read<Vec<Mount>> {
        let mut mounts: Vec<Mount> = Vec::new();
        for item in self.list(node, "`volumes`")? {
            let (source, read_only) = match &item.value {
                Yaml::Map(entries) => {
                    let (mut source, mut read_only, mut kind) =
                        (String::new(), false, String::from("volume"));
                    for (key, node) in entries {
                        match key.as_str() {
                            "source" => source = self.text(node)?,
                            "type" => kind = self.text(node)?,
                            "read_only" => read_only = self.text(node)? == "true",
                            _ => {
                                self.unused(key, node, "target bind volume tmpfs image consistency", "mount")
                            }
                        }
                    }
                    (if kind == "volume" { source } else { format!("./{kind}") }, read_only)
                }
                _ => {
                    let text = self.text(item)?;
                    match text.split_once(':') {
                        Some((source, rest)) => (
                            source.to_owned(),
                            rest.split(':').nth(1).is_some_and(|o| o.split(',').any(|o| o == "ro")),
                        ),
                        None => (String::new(), false),
                    }
                }
            };
            if source.is_empty() {
                self.warn(item, format!("an anonymous volume of service {service} is not kept"));
            } else if source.starts_with(['.', '/', '~']) {
                self.warn(
                    item,
                    format!("{source:?} is of the host, not a named volume: service {service} goes without"),
                );
            } else if let Some((volume, _)) = volumes.get(&source) {
                if !mounts.iter().any(|mount| mount.volume == *volume) {
                    mounts.push(Mount { volume: volume.clone(), read_only });
                }
            } else {
                return fail(
                    item,
                    format!("service {service} mounts volume {source:?}, which `volumes` does not have"),
                );
            }
        }
        Ok(mounts)
    }

    /// `key: value` pairs, as a mapping or as a list of `key=value`.
    fn pairs(&mut self, node: &Node, what: &str) -> Read<BTreeMap<String, String>> {
        let mut pairs = BTreeMap::new();
        match &node.value {
            Yaml::List(items) => {
                for item in items {
                    let text = self.text(item)?;
                    let (key, value) = text.split_once('=').unwrap_or((&text, ""));
                    pairs.insert(key.to_owned(), value.to_owned());
                }
            }
            _ => {
                for (key, node) in self.map(node, what)? {
                    let value = self.text(node)?;
                    pairs.insert(key.clone(), value);
                }
            }
        }
        Ok(pairs)
    }

    fn labels(&mut self, node: &Node) -> Read<Labels> {
        let mut labels = Labels::new();
        for (key, value) in self.pairs(node, "`labels`")? {
            match (key.parse(), value.parse()) {
                (Ok(key), Ok(value)) => {
                    labels.insert(key, value);
                }
                _ => self.warn(node, format!("label {key:?} is none in Kubernetes' grammar: left out")),
            }
        }
        Ok(labels)
    }

    fn depends_on(&mut self, node: &Node) -> Read<BTreeSet<ServiceName>> {
        let names: Vec<(String, &Node)> = match &node.value {
            Yaml::Map(entries) => entries.iter().map(|(name, node)| (name.clone(), node)).collect(),
            _ => {
                let items = self.list(node, "`depends_on`")?;
                items.iter().map(|item| Ok((self.text(item)?, item))).collect::<Read<_>>()?
            }
        };
        let named = |(name, node): (String, &Node)| {
            ServiceName::new(dns_label(&name)).or_else(|e| fail(node, format!("depends on {name:?}: {e}")))
        };
        names.into_iter().map(named).collect()
    }
}

/// A service that depends on itself, if there is one.
fn cycle<'n>(services: &BTreeMap<ServiceName, (&'n Node, Service)>) -> Option<(ServiceName, &'n Node)> {
    let mut settled: BTreeSet<&ServiceName> = BTreeSet::new();
    loop {
        let before = settled.len();
        for (name, (_, service)) in services {
            let waits = |other: &&ServiceName| services.contains_key(*other) && !settled.contains(*other);
            if !service.depends_on.iter().any(|other| waits(&other)) {
                settled.insert(name);
            }
        }
        if settled.len() == before {
            let stuck = services.iter().find(|(name, _)| !settled.contains(name));
            return stuck.map(|(name, (node, _))| (name.clone(), *node));
        }
    }
}
