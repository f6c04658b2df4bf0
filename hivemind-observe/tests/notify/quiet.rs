//! Silences and inhibitions.

use hivemind_core::Timestamp;
use hivemind_observe::notify::{Inhibition, NotifyRules, Silence};

use crate::{Telling, alert, route};

fn silence(tenant: Option<&str>, matching: &str, seconds: (u64, u64)) -> Silence {
    let at = |second| Timestamp::from_secs(1000 + second);
    let tenant = tenant.map(|tenant| tenant.parse().unwrap());
    Silence::new(tenant, matching.parse().unwrap(), (at(seconds.0), at(seconds.1)), "maintenance")
}

#[test]
fn a_silence_keeps_quiet_for_its_time_and_what_is_over_is_told_all_the_same() {
    let mut telling = Telling::new(NotifyRules::new(route("mail")));
    telling.silences = vec![silence(None, "node=n1", (0, 100)), silence(None, "node=n2", (20, 1000))];
    let node = |name| alert("down", &[("node", name)]);
    telling.pass(150, &[node("n1"), node("n2")]);
    // The first was quiet until 100; the second was told before, and is quiet when it ends.
    telling.pass(100, &[node("n1")]);
    let told = telling.mailed();
    assert_eq!(
        told,
        [
            (10, "down fires, node n2".to_owned()),
            (100, "down fires, node n1".to_owned()),
            (160, "down fires, node n1; down is over, node n2".to_owned()),
        ]
    );
}

/// `pitfall_25` of observability, for silences and inhibitions.
#[test]
fn pitfall_25_no_tenant_keeps_another_quiet() {
    let mut telling = Telling::new(NotifyRules::new(route("mail").across_tenants()).with_inhibition(
        Inhibition::new("alertname in (down)".parse().unwrap(), "alertname in (slow)".parse().unwrap()),
    ));
    telling.silences = vec![silence(Some("acme"), "", (0, 1000))];
    let of = |rule, tenant| alert(rule, &[("tenant", tenant)]);
    telling.pass(
        20,
        &[
            of("down", "acme"),
            of("down", "hooli"),
            of("slow", "hooli"),
            of("slow", "globex"),
            alert("slow", &[]),
        ],
    );
    let mut told: Vec<_> = telling.mailed().into_iter().map(|(_, told)| told).collect();
    told.sort();
    assert_eq!(told, ["down fires, tenant hooli", "slow fires; slow fires, tenant globex"]);

    // What is the host's keeps everybody's quiet.
    telling.silences.clear();
    let host = Telling::new(
        NotifyRules::new(route("mail")).with_inhibition(
            Inhibition::new(
                "alertname in (node-down)".parse().unwrap(),
                "alertname in (slow)".parse().unwrap(),
            )
            .with_equal(["node"]),
        ),
    );
    let slow = |node| alert("slow", &[("node", node), ("tenant", "acme")]);
    host.pass(20, &[alert("node-down", &[("node", "n1")]), slow("n1"), slow("n2")]);
    let told: Vec<_> = host.mailed().into_iter().map(|(_, told)| told).collect();
    assert_eq!(told, ["node-down fires, node n1", "slow fires, node n2, tenant acme"]);
}

/// `pitfall_04` of observability: what explains an alert may come a little later, also while everything begins anew.
#[test]
fn pitfall_04_an_inhibitor_that_comes_within_the_wait_is_in_time() {
    let telling = Telling::new(NotifyRules::new(route("mail")).with_inhibition(Inhibition::new(
        "alertname in (down)".parse().unwrap(),
        "alertname in (slow)".parse().unwrap(),
    )));
    telling.pass(9, &[alert("slow", &[])]);
    telling.pass(30, &[alert("down", &[]), alert("slow", &[])]);
    assert_eq!(telling.mailed(), [(19, "down fires".to_owned())]);
    // It is told once nothing explains it any more.
    telling.pass(100, &[alert("slow", &[])]);
    let told = telling.mailed();
    assert_eq!(told[1..], [(39, "slow fires".to_owned()), (79, "down is over".to_owned())]);
}

#[test]
fn what_is_source_and_target_is_not_kept_quiet_by_itself() {
    let telling = Telling::new(
        NotifyRules::new(route("mail"))
            .with_inhibition(Inhibition::new("severity".parse().unwrap(), "severity".parse().unwrap())),
    );
    telling.pass(20, &[alert("down", &[("severity", "page")])]);
    assert_eq!(telling.mailed().len(), 1);
}
