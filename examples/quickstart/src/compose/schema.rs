//! Every key of the Compose specification: what it holds, and whether it is used here.
//!
//! From <https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json>.

use Shape::{Each, Flag, Keys, Later, List, Number, Or, Pairs, Text, Word};

/// What a value is.
#[derive(Debug)]
pub(super) enum Shape {
    /// A text, number or boolean.
    Text,
    /// True or false.
    Flag,
    /// A number.
    Number,
    /// One of these.
    Word(&'static [&'static str]),
    /// Texts by names, as a mapping or as a list of `name=text`.
    Pairs,
    /// A list of these.
    List(&'static Self),
    /// A mapping whose keys the file chooses.
    Each(&'static Self),
    /// A mapping whose keys the specification chooses.
    Keys(&'static [Row]),
    /// Any of these: the first whose kind fits.
    Or(&'static [Self]),
    /// Checked by whoever reads it.
    Later,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is read, or what is below it is.
    Used,
    /// It is not, which goes without saying in a simulation.
    Quiet,
    /// It is not, which is reported.
    Unused,
}

/// Keys that are treated alike, separated by blanks.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) use_: Use,
    pub(super) keys: &'static str,
    pub(super) shape: Shape,
}

const fn used(keys: &'static str, shape: Shape) -> Row {
    Row { use_: Use::Used, keys, shape }
}

const fn quiet(keys: &'static str, shape: Shape) -> Row {
    Row { use_: Use::Quiet, keys, shape }
}

const fn unused(keys: &'static str, shape: Shape) -> Row {
    Row { use_: Use::Unused, keys, shape }
}

const TEXTS: Shape = List(&Text);
const TEXT_OR_LIST: Shape = Or(&[Text, List(&Text)]);
const TEXT_BY_NAME: Shape = Each(&Text);
const EXTERNAL: Shape = Or(&[Flag, Keys(&[quiet("name", Text)])]);

/// The file.
pub(super) const FILE: Shape = Keys(&[
    quiet("version", Text),
    used("name", Text),
    used("services", Each(&Later)),
    used("volumes", Each(&VOLUME)),
    used("networks", Each(&NETWORK)),
    unused("secrets configs", Each(&SECRET)),
    unused("models", Each(&MODEL)),
    unused("include", List(&Or(&[Text, Keys(INCLUDE)]))),
]);

const INCLUDE: &[Row] = &[quiet("path env_file", TEXT_OR_LIST), quiet("project_directory", Text)];

const VOLUME: Shape = Keys(&[
    used("labels", Pairs),
    unused("driver name", Text),
    unused("driver_opts", TEXT_BY_NAME),
    unused("external", EXTERNAL),
]);

const NETWORK: Shape = Keys(&[
    quiet("name driver", Text),
    quiet("driver_opts", TEXT_BY_NAME),
    quiet("external", EXTERNAL),
    quiet("attachable", Flag),
    quiet("labels", Pairs),
    unused("internal enable_ipv4 enable_ipv6", Flag),
    unused(
        "ipam",
        Keys(&[quiet("driver", Text), quiet("config", List(&SUBNET)), quiet("options", TEXT_BY_NAME)]),
    ),
]);

const SUBNET: Shape = Keys(&[quiet("subnet ip_range gateway", Text), quiet("aux_addresses", TEXT_BY_NAME)]);

const SECRET: Shape = Keys(&[
    quiet("name environment file content driver template_driver", Text),
    quiet("external", EXTERNAL),
    quiet("labels", Pairs),
    quiet("driver_opts", TEXT_BY_NAME),
]);

const MODEL: Shape =
    Keys(&[quiet("name model", Text), quiet("context_size", Number), quiet("runtime_flags", TEXTS)]);

/// A service.
pub(super) const SERVICE: Shape = Keys(&[
    used("image", Text),
    used("scale", Text),
    used("cpus mem_limit", Text),
    used("ports", List(&Or(&[Text, PORT]))),
    used("volumes", List(&Or(&[Text, MOUNT]))),
    used("labels", Pairs),
    used("depends_on", Or(&[List(&Text), Each(&DEPENDENCY)])),
    used("healthcheck", HEALTH),
    used("profiles", TEXTS),
    used("deploy", DEPLOY),
    used("networks", Or(&[List(&Text), Each(&ATTACHMENT)])),
    quiet("restart hostname container_name stop_grace_period stop_signal user working_dir pull_policy", Text),
    quiet("pull_refresh_after", Text),
    quiet("command entrypoint dns", TEXT_OR_LIST),
    quiet("environment", Pairs),
    quiet("env_file", Or(&[Text, List(&Or(&[Text, Keys(ENV_FILE)]))])),
    quiet("expose links", TEXTS),
    quiet("init tty stdin_open", Flag),
    quiet("logging", Keys(&[quiet("driver", Text), quiet("options", TEXT_BY_NAME)])),
    unused("annotations sysctls", Pairs),
    unused("attach oom_kill_disable privileged read_only use_api_socket", Flag),
    unused(
        "cgroup cgroup_parent cpuset domainname ipc isolation mac_address network_mode pid platform",
        Text,
    ),
    unused("runtime shm_size userns_mode uts mem_reservation memswap_limit", Text),
    unused("cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares", Text),
    unused("mem_swappiness oom_score_adj pids_limit", Number),
    unused("cap_add cap_drop device_cgroup_rules dns_opt external_links group_add security_opt", TEXTS),
    unused("volumes_from", TEXTS),
    unused("dns_search label_file tmpfs", TEXT_OR_LIST),
    unused("driver_opts storage_opt", TEXT_BY_NAME),
    unused("blkio_config", BLKIO),
    unused("build", Or(&[Text, BUILD])),
    unused("secrets configs", FILES),
    unused("credential_spec", Keys(&[quiet("config file registry", Text)])),
    unused("develop", Keys(&[quiet("watch", List(&WATCH))])),
    unused("devices", List(&Or(&[Text, Keys(&[quiet("source target permissions", Text)])]))),
    unused("extends", Or(&[Text, Keys(&[quiet("service file", Text)])])),
    unused("extra_hosts", HOSTS),
    unused("gpus", Or(&[Text, List(&DEVICE)])),
    unused("models", Or(&[List(&Text), Each(&Keys(&[quiet("endpoint_var model_var", Text)]))])),
    unused("post_start pre_stop", List(&HOOK)),
    unused("provider", Keys(&[quiet("type", Text), quiet("options", Each(&TEXT_OR_LIST))])),
    unused("ulimits", ULIMITS),
]);

const ENV_FILE: &[Row] = &[quiet("path format", Text), quiet("required", Flag)];

const PORT: Shape = Keys(&[
    used("target published", Text),
    used("protocol", Word(&["tcp", "udp", "sctp"])),
    quiet("mode", Text),
    unused("name host_ip app_protocol", Text),
]);

const MOUNT: Shape = Keys(&[
    used("type", Word(&["volume", "bind", "tmpfs", "cluster", "npipe", "image"])),
    used("source target", Text),
    used("read_only", Flag),
    quiet("consistency", Text),
    quiet("bind", Keys(&[quiet("propagation recursive selinux", Text), quiet("create_host_path", Flag)])),
    quiet("tmpfs", Keys(&[quiet("size mode", Text)])),
    quiet("image", Keys(&[quiet("subpath", Text)])),
    used("volume", Keys(&[quiet("labels", Pairs), quiet("nocopy", Flag), unused("subpath", Text)])),
]);

const DEPENDENCY: Shape = Keys(&[
    quiet("condition", Word(&["service_started", "service_healthy", "service_completed_successfully"])),
    used("required", Flag),
    unused("restart", Flag),
]);

const HEALTH: Shape = Keys(&[
    used("disable", Flag),
    used("test", TEXT_OR_LIST),
    quiet("interval timeout start_period start_interval", Text),
    quiet("retries", Number),
]);

const ATTACHMENT: Shape = Keys(&[
    quiet("interface_name", Text),
    quiet("priority gw_priority", Number),
    quiet("driver_opts", TEXT_BY_NAME),
    unused("aliases link_local_ips", TEXTS),
    unused("ipv4_address ipv6_address mac_address", Text),
]);

const DEPLOY: Shape = Keys(&[
    used("replicas", Text),
    used("mode", Word(&["replicated", "global", "replicated-job", "global-job"])),
    used("resources", RESOURCES),
    quiet("restart_policy", RESTART),
    unused("endpoint_mode", Text),
    unused("labels", Pairs),
    unused("rollback_config update_config", ROLLOUT),
    unused("placement", PLACEMENT),
]);

const RESOURCES: Shape = Keys(&[
    used("limits", Keys(&[used("cpus memory", Text), unused("pids", Number)])),
    used(
        "reservations",
        Keys(&[
            used("cpus memory", Text),
            unused("generic_resources", List(&GENERIC)),
            unused("devices", List(&DEVICE)),
        ]),
    ),
]);

const GENERIC: Shape =
    Keys(&[quiet("discrete_resource_spec", Keys(&[quiet("kind", Text), quiet("value", Number)]))]);

const DEVICE: Shape =
    Keys(&[quiet("capabilities device_ids", TEXTS), quiet("count driver", Text), quiet("options", Pairs)]);

const RESTART: Shape = Keys(&[quiet("condition delay window", Text), quiet("max_attempts", Number)]);

const ROLLOUT: Shape = Keys(&[
    quiet("delay failure_action monitor", Text),
    quiet("parallelism max_failure_ratio", Number),
    quiet("order", Word(&["start-first", "stop-first"])),
]);

const PLACEMENT: Shape = Keys(&[
    quiet("constraints", TEXTS),
    quiet("preferences", List(&Keys(&[quiet("spread", Text)]))),
    quiet("max_replicas_per_node", Number),
]);

const BLKIO: Shape = Keys(&[
    quiet("weight", Number),
    quiet("weight_device", List(&Keys(&[quiet("path", Text), quiet("weight", Number)]))),
    quiet("device_read_bps device_read_iops device_write_bps device_write_iops", List(&RATE)),
]);

const RATE: Shape = Keys(&[quiet("path rate", Text)]);

const BUILD: Shape = Keys(&[
    quiet("context dockerfile dockerfile_inline network target shm_size isolation provenance sbom", Text),
    quiet("entitlements cache_from cache_to tags platforms", TEXTS),
    quiet("args ssh labels additional_contexts", Pairs),
    quiet("no_cache pull privileged", Flag),
    quiet("extra_hosts", HOSTS),
    quiet("secrets", FILES),
    quiet("ulimits", ULIMITS),
]);

const FILES: Shape = List(&Or(&[Text, Keys(&[quiet("source target uid gid", Text), quiet("mode", Text)])]));

const HOSTS: Shape = Or(&[List(&Text), Each(&Or(&[Text, List(&Text)]))]);

const ULIMITS: Shape = Each(&Or(&[Number, Keys(&[quiet("hard soft", Number)])]));

const WATCH: Shape = Keys(&[
    quiet("path target", Text),
    quiet("action", Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
    quiet("ignore include", TEXT_OR_LIST),
    quiet("exec", HOOK),
    quiet("initial_sync", Flag),
]);

const HOOK: Shape = Keys(&[
    quiet("command", TEXT_OR_LIST),
    quiet("user working_dir", Text),
    quiet("privileged", Flag),
    quiet("environment", Pairs),
]);
