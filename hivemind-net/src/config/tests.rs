use super::*;

fn v4(pool: &str) -> Result<NetworkConfig, String> {
    NetworkConfig::v4_only(pool.parse().unwrap()).map_err(|e| e.to_string())
}

fn v6(pool: &str) -> Result<NetworkConfig, String> {
    NetworkConfig::v6_only(pool.parse().unwrap()).map_err(|e| e.to_string())
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn refuses_what_cannot_work_and_says_why() {
    assert_eq!(v6("fd00::1/64").unwrap_err(), "fd00::1/64 has host bits set: its network is fd00::/64");
    assert_eq!(v4("127.0.0.0/8").unwrap_err(), "127.0.0.0/8 is loopback: hosts cannot have addresses there");
    for pool in ["224.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "127.1.0.0/24"] {
        assert!(v4(pool).unwrap_err().contains("hosts cannot"), "{pool}");
    }
    for pool in ["ff00::/8", "fe80::/64", "::1/128", "::ffff:10.0.0.0/104"] {
        assert!(v6(pool).unwrap_err().contains("hosts cannot"), "{pool}");
    }
    assert!(v4("0.0.0.0/0").is_ok() && v4("10.0.0.0/32").is_ok() && v6("::/0").is_ok());
    let too_short = v4("10.0.0.0/16").unwrap().node_prefix(IpFamily::V4, 15).unwrap_err();
    assert_eq!(
        too_short.to_string(),
        "a node subnet of /15 does not fit pool 10.0.0.0/16: give a length of 16 to 32"
    );
    assert_eq!(v4("10.0.0.0/16").unwrap().node_prefix(IpFamily::V6, 64), Err(InvalidConfig::NoPool));
    let link = PoolOptions { profile: Profile::PointToPoint, ..PoolOptions::default() };
    let wide = v4("10.0.0.0/16").unwrap().with_options(link.clone()).unwrap_err();
    assert_eq!(wide.to_string(), "a point-to-point node subnet of IPv4 is /31 or /32, not /26");
    assert!(v6("fd00::/64").unwrap().node_prefix(IpFamily::V6, 127).unwrap().with_options(link).is_ok());
}

#[test]
fn what_is_read_is_checked() {
    let read = |json: &str| serde_json::from_str::<NetworkConfig>(json).map_err(|e| e.to_string());
    assert!(read("{}").unwrap_err().contains("needs an IPv4 pool"));
    assert!(read(r#"{"v4":{"networks":[]}}"#).unwrap_err().contains("needs an IPv4 pool"));
    assert!(read(r#"{"v4":{"networks":["10.0.0.1/8"]}}"#).unwrap_err().contains("host bits"));
    assert!(
        read(r#"{"v4":{"networks":["fd00::/64"]}}"#).unwrap_err().contains("fd00::/64 is no IPv4 network")
    );
    for octal in [r#"["010.0.0.0/8"]"#, r#"["10.0.0.0/08"]"#, r#"["10.0.0.0/8"],"draining":["10.00.0.0/8"]"#]
    {
        let error = read(&format!(r#"{{"v4":{{"networks":{octal}}}}}"#)).unwrap_err();
        assert!(
            error.contains("has a number with leading zeros, which some programs read as octal"),
            "{error}"
        );
    }
    assert!(read(r#"{"v4":{"networks":["10.0.0.0"]}}"#).unwrap_err().contains("has no prefix length"));
    assert!(read(r#"{"v4":{"networks":["10.0.0.0/8","10.1.0.0/16"]}}"#).unwrap_err().contains("overlap"));
    assert!(
        read(r#"{"v4":{"networks":["10.0.0.0/8"],"draining":["10.0.0.0/9"]}}"#)
            .unwrap_err()
            .contains("in no pool")
    );
    assert!(
        read(r#"{"v4":{"networks":["10.0.0.0/8"]},"excluded":[["11.0.0.1","11.0.0.2"]]}"#)
            .unwrap_err()
            .contains("in no pool")
    );
    assert!(
        read(r#"{"v4":{"networks":["10.0.0.0/8"]},"excluded":[["10.0.0.2","10.0.0.1"]]}"#)
            .unwrap_err()
            .contains("no range")
    );
    assert!(read(r#"{"v4":{"networks":["10.0.0.0/8"]},"v5":1}"#).is_err());
    let many: Vec<_> = (0..65).map(|n| format!("10.{n}.0.0/16")).collect();
    let many = serde_json::json!({"v4": {"networks": many}}).to_string();
    assert!(read(&many).unwrap_err().contains("65 networks are too many"));
    let both = NetworkConfig::with_unique_local("10.0.0.0/16".parse().unwrap(), 1)
        .unwrap()
        .with_network(net("10.1.0.0/16"))
        .unwrap()
        .draining(net("10.0.0.0/16"), true)
        .unwrap()
        .excluding(AddressRange::of("10.1.7.0/24".parse().unwrap()))
        .unwrap();
    assert_eq!(read(&serde_json::to_string(&both).unwrap()).unwrap(), both);
}

#[test]
fn both_families_are_the_default_and_the_prefix_has_the_form_of_rfc_4193() {
    let config = NetworkConfig::with_unique_local("10.0.0.0/16".parse().unwrap(), 1).unwrap();
    let pool = config.family(IpFamily::V6).unwrap().cidrs().next().unwrap();
    assert_eq!((pool.prefix_len(), pool.first() >> 120), (48, 0xfd));
    assert_eq!(config.families().count(), 2);
    let prefixes: std::collections::BTreeSet<_> = (0..10_000).map(unique_local).collect();
    assert_eq!(prefixes.len(), 10_000, "seeds that follow each other differ");
    assert_eq!(unique_local(0).to_string(), "fde2:20a8:397b::/48", "the same in every version");
}

#[test]
fn a_range_counts_in_what_is_left_of_its_networks() {
    let range =
        |first: &str, last: &str| AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap();
    let both = v4("10.0.0.0/24").unwrap().with_network(net("10.0.1.0/24")).unwrap();
    let both = both.excluding(range("10.0.0.250", "10.0.1.5")).unwrap();
    let both = both.reserving(range("10.0.0.7", "10.0.0.9")).unwrap();
    let left = both.without_network(net("10.0.0.0/24")).unwrap();
    assert_eq!((left.excluded(), left.reserved().len()), ([range("10.0.0.250", "10.0.1.5")].as_slice(), 0));
}

#[test]
fn pitfall_10_a_pool_grows_and_shrinks_by_what_is_asked() {
    let pool = v4("10.0.0.0/24").unwrap();
    let grown = pool.clone().with_network(net("10.0.0.0/23")).unwrap();
    assert_eq!(
        grown.family(IpFamily::V4).unwrap().cidrs().map(|c| c.to_string()).collect::<Vec<_>>(),
        ["10.0.0.0/23"]
    );
    let inside = grown.clone().with_network(net("10.0.1.0/24")).unwrap_err();
    assert_eq!(
        inside.to_string(),
        "10.0.0.0/23 and 10.0.1.0/24 overlap: each address may be in one pool of a tenant only"
    );
    let two = grown.with_network(net("10.9.0.0/24")).unwrap();
    let drained = two.draining(net("10.0.0.0/23"), true).unwrap();
    assert_eq!(drained.family(IpFamily::V4).unwrap().active().count(), 1);
    let shrunk = drained.without_network(net("10.0.0.0/23")).unwrap();
    assert_eq!(shrunk.clone().without_network(net("10.9.0.0/24")), Err(InvalidConfig::NoPool));
    // IPv4 only becomes dual-stack, and may leave IPv4 behind.
    let both = shrunk.with_network(net("fd00::/48")).unwrap();
    assert_eq!(both.family(IpFamily::V6).unwrap().node_prefix(), 64);
    let v6_only = both.without_network(net("10.9.0.0/24")).unwrap();
    assert!(v6_only.family(IpFamily::V4).is_none());
    assert!(v4("10.0.0.0/8").unwrap().apart_from(&v4("10.1.0.0/16").unwrap()).is_err());
    assert!(v4("10.0.0.0/16").unwrap().apart_from(&v4("10.1.0.0/16").unwrap()).is_ok());
}
