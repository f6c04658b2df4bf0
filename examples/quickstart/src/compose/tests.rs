use super::*;

fn read(text: &str) -> Result<Compose, ComposeError> {
    parse("app.yaml", "app", text, &BTreeMap::new())
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

/// A file with one service, which has an image and these lines, from line 4 on.
fn service(lines: &str) -> String {
    format!("services:\n  a:\n    image: x\n    {lines}\n")
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
    let text = "services:\n  a:\n    image: x\n    deploy:\n      replicas: 2\n      resources:\n        limits: {cpus: '2'}\n        \
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
    let text = "services:\n  web_1:\n    image: x\n    frobnicate:\n      deep: 1\n    privileged: true\n    x-own: 1\n    \
                volumes: ['./conf:/conf', '/cache']\n    environment: {A: $B}\n    labels:\n      ok: v\n      \
                'bad key!': v\n  debug:\n    image: ${IMG}\n    profiles: [dev]\n    frob: 1\nsecrets: {}\n\
                foo:\n  - 1\nx-more: {a: $C}\n";
    assert_eq!(
        warnings(text),
        [
            "4: `frobnicate` of service web_1 is no key of the Compose specification",
            "6: `privileged` of service web_1 is not used here",
            "8: \"./conf\" is of the host, not a named volume: service web_1 goes without",
            "8: the anonymous volume of service web_1 at \"/cache\" is not kept",
            "9: variable B is not set: empty is used",
            "12: label \"bad key!\" is none in Kubernetes' grammar: left out",
            "13: service debug is in a profile that is not active: it is not deployed",
            "17: `secrets` is not used here",
            "18: `foo` is no key of the Compose specification",
        ]
    );
    assert!(read(text).unwrap().services.contains_key("web-1"));
}

#[test]
fn unknown_keys_are_reported_on_every_level() {
    for (lines, at, key) in [
        ("healthcheck: {intervall: 3s}", 4, "`intervall` of `healthcheck` of service a"),
        (
            "depends_on: {b: {condtion: x, required: false}}",
            4,
            "`condtion` of b in `depends_on` of service a",
        ),
        ("networks:\n      default:\n        ipv4: 1", 6, "`ipv4` of default in `networks` of service a"),
        ("logging: {drver: x}", 4, "`drver` of `logging` of service a"),
        ("build: {contxt: .}", 4, "`contxt` of `build` of service a"),
        ("deploy:\n      restart: always", 5, "`restart` of `deploy` of service a"),
        (
            "deploy: {resources: {limits: {cpu: 1}}}",
            4,
            "`cpu` of `limits` of `resources` of `deploy` of service a",
        ),
        ("ports: [{target: 80, user: me}]", 4, "`user` of an item of `ports` of service a"),
        ("volumes: [{type: tmpfs, target: /t, sorce: x}]", 4, "`sorce` of an item of `volumes` of service a"),
        ("published: 3", 4, "`published` of service a"),
        ("# nothing\ncommand: hello", 5, "`command`"),
        ("# nothing\nvolumes: {v: {user: x}}", 5, "`user` of v in `volumes`"),
        ("# nothing\nnetworks: {front: {foo: bar}}", 5, "`foo` of front in `networks`"),
    ] {
        let expected = format!("{at}: {key} is no key of the Compose specification");
        let text = service(lines);
        assert!(warnings(&text).contains(&expected), "{text}: {:?}", warnings(&text));
    }
}

#[test]
fn what_changes_the_deployment_is_said() {
    for (lines, says) in [
        (
            "deploy:\n      mode: global",
            "5: `mode: global` of service a is not used here: it would run on every node",
        ),
        ("network_mode: host", "4: `network_mode` of service a is not used here"),
        (
            "deploy: {placement: {constraints: [x]}}",
            "4: `placement` of `deploy` of service a is not used here",
        ),
        (
            "volumes: [{type: bind, source: /run/x.sock, target: /s}]",
            "4: \"/run/x.sock\" is of the host, not a named volume: service a goes without",
        ),
        (
            "volumes: [{type: tmpfs, target: /t}]",
            "4: mounts of type tmpfs are not used here: service a has none at \"/t\"",
        ),
        (
            "volumes: ['C:\\x:/d']",
            "4: \"C:\\\\x\" is a Windows path, which is not supported: service a goes without",
        ),
    ] {
        assert_eq!(warnings(&service(lines)), [says]);
    }
    let quiet = "restart: always\n    command: [a]\n    environment: [A=b]\n    x-a: {b: c}\n    networks: [default]\n    \
                 deploy: {mode: replicated}\n    healthcheck: {test: a, interval: 3s, retries: 3}";
    assert_eq!(warnings(&service(quiet)), Vec::<String>::new());
}

#[test]
fn an_inactive_service_is_not_deployed_and_its_keys_are_not_reported() {
    let text = "services:\n  a: {image: x, depends_on: {gone: {required: false}}}\n  \
                b: {image: $IMAGE, profiles: [dev], frob: 1, volumes: [/cache]}\n";
    assert_eq!(warnings(text), ["3: service b is in a profile that is not active: it is not deployed"]);
    let env = [("COMPOSE_PROFILES", "x, dev"), ("IMAGE", "y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(parse("app.yaml", "app", text, &env.into()).unwrap().services.len(), 2);
}

#[test]
fn a_malformed_file_is_refused_with_file_line_and_reason() {
    for (text, says) in [
        ("", "1:1: the file is empty"),
        ("a: [1\nb: 2", "2:2: not YAML: "),
        ("services:\n\ta: b", "2:2: not YAML: tabs"),
        ("services: {}\nservices: {}", "2:1: duplicate key \"services\""),
        ("services: {a: {image: x}}\n---\na: b", "3:1: a Compose file is one document"),
        ("services: &s\n  a: *s", "2:6: the alias is within what it stands for"),
        ("services:\n  a: *nope", "2:6: the alias has no anchor"),
        ("services:\n  a:\n    <<: 5", "3:9: `<<` takes a mapping"),
        ("services:\n  ? [a]\n  : b", "2:5: a key must be a text, not a list"),
        ("- 1", "1:1: the file must be a mapping, not a list"),
        ("volumes: {}", "1:1: there is no `services`"),
        ("services:\n", "1:1: `services` is empty"),
        ("services: [a]", "1:11: `services` must be a mapping, not a list"),
        ("services: {a: hello}", "1:15: service a must be a mapping, not a text"),
        ("services:\n  a: {}", "2:3: service a has neither an image nor a build"),
        (
            "services:\n  a: {image: $X}",
            "2:14: service a has neither an image nor a build (variable X is not set)",
        ),
        (
            "services:\n  a_b: {image: x}\n  a-b: {image: x}",
            "3:3: service \"a-b\" is called a-b here, as another",
        ),
        ("services:\n  '!!': {image: x}", "2:3: service \"!!\" has no letter"),
        ("services:\n  a: {image: '${X:?set X}'}", "2:14: variable X is required: set X"),
        ("services:\n  a: {image: x, profiles: [x]}", "1:1: every service is in a profile"),
        ("services:\n  a: {image: x, scale: 0}", "2:24: no service has a container"),
        (
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}",
            "2:30: services wait",
        ),
        ("services:\n  a: {image: x}\nname: '!!!'", "3:7: the app's name \"!!!\" has no letter"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with(&format!("app.yaml:{says}")), "{text:?}: {error}");
    }
    let nameless = parse("日本.yaml", "日本", "services: {a: {image: x}}", &BTreeMap::new()).unwrap_err();
    assert!(nameless.to_string().contains("which is that of its file or folder"), "{nameless}");
}

#[test]
fn a_malformed_service_is_refused_with_line_and_reason() {
    for (lines, says) in [
        ("scale: many", "4:12: \"many\" is not a number of containers"),
        ("scale: 1e1", "4:12: \"1e1\" is not a number"),
        ("scale: 99999999999999999999999", "4:12: \"99999999999999999999999\" is not a number"),
        ("scale: ${N}", "4:12: \"\" is not a number of containers, 0 to 10000 (variable N is not set)"),
        (
            "scale: ${N:-x}",
            "4:12: \"x\" is not a number of containers, 0 to 10000 (the text has variable N in it)",
        ),
        ("cpus: 250m", "4:11: cpus \"250m\": Compose takes a decimal number of cpus, such as 0.25"),
        ("cpus: 18446744073709551615", "too large to be counted by the thousandth of a core"),
        ("mem_limit: 1x", "4:16: size \"1x\": "),
        ("ports: [80, 'http']", "4:17: port \"http\""),
        ("ports: ['notaport:80']", "4:13: port \"notaport:80\": \"notaport\" is not a port"),
        ("ports: ['99999:80']", "\"99999\" is not a port"),
        (
            "ports: ['8000-8010:80-81']",
            "the host's ports \"8000-8010\" are not as many as the container's \"80-81\"",
        ),
        ("ports: [{published: 80}]", "4:13: a port needs a `target`"),
        ("ports: [{target: 80, published: x}]", "4:37: `published`: \"x\" is not a port"),
        ("volumes: ['b:/b', 'd:/d']", "4:23: service a mounts volume \"d\", which `volumes` does not have"),
        (
            "volumes: ['${D}:/d']",
            "4:15: mount \":/d\" has nothing before or after a colon (variable D is not set)",
        ),
        (
            "volumes: [{type: odd, target: /o}]",
            "4:22: `type` of an item of `volumes` of service a must be one of",
        ),
        ("volumes: [{source: b, target: /o}]", "4:15: a mount needs a `type`"),
        ("depends_on:\n      - b\n      - c", "5:9: service a depends on b, which does not exist"),
        (
            "depends_on: {a: {condition: odd}}",
            "4:33: `condition` of a in `depends_on` of service a must be one of",
        ),
        ("networks: [default, nope]", "4:25: service a uses \"nope\", which `networks` does not have"),
        ("networks: {nope: {priority: 1}}", "4:16: service a uses \"nope\""),
        ("secrets: [{source: nope}]", "service a uses \"nope\", which `secrets` does not have"),
        ("configs: [nope]", "4:15: service a uses \"nope\", which `configs` does not have"),
        (
            "environment: 5",
            "4:18: `environment` of service a must be a mapping or a list, not a text or number",
        ),
        ("command: {a: b}", "4:14: `command` of service a must be a text or a list, not a mapping"),
        ("networks: 3", "4:15: `networks` of service a must be a list or a mapping"),
        ("healthcheck: 7", "4:18: `healthcheck` of service a must be a mapping"),
        ("healthcheck: {retries: many}", "4:28: `retries` of `healthcheck` of service a must be a number"),
        ("restart: [q]", "4:14: `restart` of service a must be a text, not a list"),
        ("privileged: maybe", "4:17: `privileged` of service a must be true or false, not \"maybe\""),
        ("environment: [A, ]\n    command: [a, ~]", "5:14: an item of `command` of service a must be a text"),
        ("environment: {A: '${MUST:?set me}'}", "4:22: variable MUST is required: set me"),
        ("x-own: '${BROKEN'", "4:12: \"${BROKEN\" has \"${\" without \"}\""),
        ("deploy: {mode: odd}", "4:20: `mode` of `deploy` of service a must be one of replicated, global"),
    ] {
        let error = refusal(&(service(lines) + "volumes: {b: }\n"));
        assert!(error.starts_with("app.yaml:4:") || error.starts_with("app.yaml:5:"), "{lines:?}: {error}");
        assert!(error.contains(says), "{lines:?}: {error}");
    }
}

#[test]
fn names_and_sums_that_cannot_be_are_refused_at_their_line() {
    let long = "a".repeat(60);
    for (text, says) in [
        (format!("services:\n  {long}: {{image: x}}"), "2:3: service"),
        (format!("name: {long}\nservices: {{a: {{image: x}}}}"), "1:7: the app's name"),
        (service("# none\nvolumes:") + &format!("  {long}:\n"), "6:3: volume"),
        (service(&format!("scale: 1\n  {long}{long}: {{image: x}}")), "5:3: service"),
        (
            service("scale: 9999\n  b: {image: x, scale: 2}"),
            "5:24: the file asks for more than 10000 containers",
        ),
        (service("mem_limit: 16777215t\n    scale: 3"), "2:3: the memory of all containers is too large"),
        (service("cpus: 9223372036854775\n    scale: 3"), "2:3: the cpu of all containers is too large"),
    ] {
        let error = refusal(&text);
        assert!(error.starts_with(&format!("app.yaml:{says}")), "{error}");
    }
    let volumes = |size: &str| {
        service("volumes: ['v:/v', 'w:/w']")
            + &format!(
                "volumes:\n  v: {{labels: {{hivemind.size: {size}}}}}\n  w:\n    labels:\n      a: b\n      "
            )
            + &format!("hivemind.size: {size}\n")
    };
    assert!(
        refusal(&volumes("16777215t"))
            .starts_with("app.yaml:7:3: with volume \"w\" the storage is too large")
    );
    assert!(refusal(&volumes("lots")).starts_with("app.yaml:6:31: size \"lots\""));
    assert!(refusal(&volumes("0")).starts_with("app.yaml:6:31: volume \"v\" has no size"));
}

#[test]
fn a_large_file_takes_no_more_than_its_share() {
    let mut text = String::from("services:\n");
    for number in 0..15_000 {
        text.push_str(&format!(
            "  a{number}: {{image: x, scale: 0, depends_on: [a{}]}}\n",
            (number + 1) % 15_000
        ));
    }
    assert!(refusal(&text).contains("services wait for each other in a circle"));
    let mut text = service("volumes: ['v1:/v']") + "volumes:\n";
    for number in 0..60_000 {
        text.push_str(&format!("  v{number}:\n"));
    }
    assert_eq!(read(&text).unwrap().volumes.len(), 1);
}

#[test]
fn numbers_keep_their_spelling() {
    let text = service("labels: {v: 1.10, h: 0x1F, o: 012, t: True, n: ~}");
    assert_eq!(read(&text).unwrap().services["a"].labels.to_string(), "h=0x1F,n=,o=012,t=True,v=1.10");
    let anchored =
        "x-l: &l {v: 1.10}\nservices: {a: {image: 1.20, labels: *l}, b: {image: x, labels: {<<: *l}}}";
    let app = read(anchored).unwrap();
    assert_eq!(app.services["a"].image.as_deref(), Some("1.20"));
    assert_eq!(app.services["a"].labels.to_string(), "v=1.10");
    assert_eq!(app.services["b"].labels.to_string(), "v=1.10");
}

#[test]
fn a_health_check_can_be_off() {
    for (lines, healthy) in [
        ("healthcheck: {test: x}", true),
        ("healthcheck: {disable: true}", false),
        ("healthcheck: {test: [NONE]}", false),
        ("healthcheck:", false),
    ] {
        assert_eq!(read(&service(lines)).unwrap().services["a"].healthcheck, healthy, "{lines}");
    }
}

#[test]
fn what_was_reported_before_an_error_is_kept() {
    let error = read(&service("scale: ${N}")).unwrap_err();
    assert_eq!(error.warnings.len(), 1);
    assert_eq!(error.warnings[0].to_string(), "app.yaml:4: variable N is not set: empty is used");
}

#[test]
fn no_text_of_a_file_commands_the_terminal() {
    let odd = "services:\n  a:\n    image: x\n    \"\\e[31mevil\\n\": 1\n    cpus: \"\\e[31m\"\n";
    let error = read(odd).unwrap_err();
    let said = format!("{error}{}", error.warnings[0]);
    assert!(said.contains("`\\u{1b}[31mevil\\n`") && !said.contains(char::is_control), "{said}");
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

/// A folder of a test's own, removed in the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hivemind-{}", std::process::id())).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        // The parent goes with the last test.
        let _ = self.0.parent().map(std::fs::remove_dir);
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = load(Path::new("/nowhere/compose.yaml"), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/compose.yaml: cannot be read"), "{error}");
    for device in ["/dev/zero", "/dev"] {
        let error = load(Path::new(device), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("it is not a regular file"), "{error}");
    }
    let folder = Folder::new("bytes");
    let path = folder.file("latin.yaml", b"services:\n  a: {image: \"\xc3\xbc\xff\"}\n");
    let error = load(&path, &BTreeMap::new()).unwrap_err();
    assert!(error.at == Some((2, 16)) && error.reason.contains("not UTF-8"), "{error}");
    let path = folder.file("long.yaml", vec![b'#'; (4 << 20) + 1]);
    assert!(load(&path, &BTreeMap::new()).unwrap_err().reason.contains("larger than"));
}

#[test]
fn an_app_is_called_as_its_file_or_folder() {
    let folder = Folder::new("my-shop");
    for (file, name) in [
        ("compose.yaml", "my-shop"),
        ("docker-compose.override.yml", "my-shop"),
        ("docker-compose.postgres.yml", "postgres"),
        ("composer.yaml", "composer"),
        ("web.yaml", "web"),
    ] {
        let path = folder.file(file, "services: {a: {image: x}}");
        assert_eq!(load(&path, &BTreeMap::new()).unwrap().name.as_str(), name);
    }
}

#[test]
fn variables_come_from_the_process_and_from_the_file_beside() {
    let folder = Folder::new("variables");
    folder.file(".env", "A=beside\nB=beside\n");
    let path = folder.file("app.yaml", "services: {a: {image: $A-$B}}");
    let env = BTreeMap::from([("A".to_owned(), "process".to_owned())]);
    let app = load(&path, &env).unwrap();
    assert_eq!(app.services["a"].image.as_deref(), Some("process-beside"));
    folder.file(".env", "A=1\nB=\"\n");
    let error = load(&path, &env).unwrap_err();
    assert!(error.file.ends_with(".env") && error.at == Some((2, 1)), "{error}");
}
