use super::*;

fn read(text: &str) -> Result<Compose, ComposeError> {
    parse("app.yaml", "app", text, &BTreeMap::new())
}

fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap().warnings.iter().map(|w| format!("{}: {}", w.line, w.message)).collect()
}

#[test]
fn the_shop_that_ships_is_clean() {
    let shop = parse("shop.yaml", "x", include_str!("../../compose/shop.yaml"), &BTreeMap::new()).unwrap();
    assert_eq!((shop.name.as_str(), shop.services.len(), shop.volumes.len()), ("shop", 5, 3));
    assert_eq!(shop.services.values().map(|service| service.replicas).sum::<u32>(), 10);
    assert_eq!(shop.warnings, []);
    let api = &shop.services["api"];
    assert_eq!((api.cpu.to_string(), api.memory.to_string()), ("500m".into(), "512Mi".into()));
    assert_eq!(api.image.as_deref(), Some("shop/api:4.2"));
    assert_eq!(api.labels.to_string(), "app.kubernetes.io/component=api");
    assert_eq!(shop.volumes["database"].to_string(), "20Gi");
    let versioned = BTreeMap::from([("SHOP_VERSION".to_owned(), "5".to_owned())]);
    let shop = parse("shop.yaml", "x", include_str!("../../compose/shop.yaml"), &versioned).unwrap();
    assert_eq!(shop.services["worker"].image.as_deref(), Some("shop/worker:5"));
}

#[test]
fn short_and_long_forms_say_the_same() {
    let short = "services: {a: {image: x, ports: ['80:80', 443], volumes: ['d:/d:ro'], labels: [k=v], \
                 depends_on: [b]}, b: {image: y}}\nvolumes: {d: }\n";
    let long = "services:\n  a:\n    image: x\n    ports: [{target: 80, published: 80}, {target: 443}]\n    \
                volumes: [{type: volume, source: d, target: /d, read_only: true}]\n    labels: {k: v}\n    \
                depends_on: {b: {condition: service_started}}\n  b: {image: y}\nvolumes:\n  d: {}\n";
    let (short, long) = (read(short).unwrap(), read(long).unwrap());
    assert_eq!(short, long);
    assert!(short.services["a"].mounts[0].read_only);
}

#[test]
fn deploy_wins_over_older_keys_and_limits_over_reservations() {
    let text = "services:\n  a:\n    deploy:\n      replicas: 2\n      resources:\n        limits: {cpus: '2'}\n        \
                reservations: {cpus: '1', memory: 64m}\n    scale: 5\n    cpus: 4\n    mem_limit: 1g\n";
    let app = read(text).unwrap();
    let service = &app.services["a"];
    assert_eq!(
        (service.replicas, service.cpu.as_millis(), service.memory.to_string()),
        (2, 2000, "64Mi".into())
    );
}

#[test]
fn nothing_is_dropped_without_a_word() {
    let text = "services:\n  web_1:\n    image: x\n    frobnicate: 1\n    privileged: true\n    x-own: 1\n    \
                volumes: ['./conf:/conf', '/cache']\n    environment: {A: $B}\n    labels: {'bad key!': v}\n  \
                debug:\n    image: ${IMG}\n    profiles: [dev]\nsecrets: {}\nfoo: 1\nx-more: {}\n";
    assert_eq!(
        warnings(text),
        [
            "4: `frobnicate` of service web_1 is no key of the Compose specification",
            "5: `privileged` of service web_1 is not used here",
            "7: \"./conf\" is of the host, not a named volume: service web_1 goes without",
            "7: an anonymous volume of service web_1 is not kept",
            "9: label \"bad key!\" is none in Kubernetes' grammar: left out",
            "11: variable IMG is not set: empty is used",
            "11: service debug is in a profile that is not active: it is not deployed",
            "13: `secrets` is not used here",
            "14: `foo` is no key of the Compose specification",
        ]
        .map(str::to_owned)
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert!(read(text).unwrap().services.contains_key("web-1"));
}

#[test]
fn a_malformed_file_is_refused_with_file_line_and_reason() {
    for (text, says) in [
        ("", "app.yaml:1:1: the file is empty"),
        ("a: [1\nb: 2", "app.yaml:2:"),
        ("services: {}\nservices: {}", "app.yaml:2:1: duplicate mapping key: services"),
        ("- 1", "app.yaml:1:1: app.yaml must be a mapping, not a list"),
        ("volumes: {}", "there is no `services`"),
        ("services:\n", "`services` is empty"),
        ("services: [a]", "app.yaml:1:11: `services` must be a mapping, not a list"),
        ("services:\n  a:\n    scale: many", "app.yaml:3:12: \"many\" is not a number of containers"),
        ("services:\n  a:\n    cpus: fast", "app.yaml:3:11: cpus \"fast\""),
        ("services:\n  a:\n    mem_limit: 1x", "app.yaml:3:16: size \"1x\""),
        ("services:\n  a:\n    ports: ['http']", "app.yaml:3:13: port \"http\""),
        ("services:\n  a:\n    volumes: ['d:/d']", "mounts volume \"d\", which `volumes` does not have"),
        ("services:\n  a:\n    depends_on: [b]", "depends on b, which does not exist"),
        ("services:\n  a: {depends_on: [b]}\n  b: {depends_on: [a]}", "depends on itself"),
        ("services:\n  a_b: {}\n  a-b: {}", "is called a-b here, as another one is"),
        ("services:\n  '!!': {}", "app.yaml:2:"),
        ("services:\n  a: {image: '${X:?set X}'}", "variable X is required: set X"),
        ("services:\n  a: {profiles: [x]}", "every service is in a profile"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with("app.yaml:") && error.contains(says), "{text:?}: {error}");
    }
}

#[test]
fn an_alias_bomb_and_a_deep_nest_end_early() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(read(&bomb).is_err());
    assert!(read(&"[".repeat(100_000)).is_err());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = load(Path::new("/nowhere/compose.yaml"), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/compose.yaml: cannot be read"), "{error}");
}
