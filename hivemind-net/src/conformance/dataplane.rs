//! Proves a [`Dataplane`]: every sentence of the port's Contract, case by case.
//!
//! ```
//! use hivemind_core::block_on;
//! use hivemind_net::MemoryDataplane;
//! use hivemind_net::conformance::dataplane;
//!
//! let (passed, failed) = block_on(dataplane::run_all(|| MemoryDataplane::new()));
//! assert!(failed.is_empty(), "{failed:#?}");
//! assert!(passed.len() >= 8);
//! ```
//!
//! Each case makes a namespace called `hm-conformance` and takes it away at its end. The data plane must hold nothing
//! before, and nobody else may use that name meanwhile.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::num::NonZeroU16;

use hivemind_core::conformance::Failure;
use hivemind_core::{BoxFuture, ErrorKind};

use crate::dataplane::rules::{
    BaseChain, Chain, Comparison, Data, DataType, Family, Field, FieldType, Hook, NamedSet, RuleTable,
    SetKey, Statement, TableKey, Value, Verdict,
};
use crate::dataplane::services::{
    Backend, Frontend, InvalidService, ServiceProtocol, Spread, VirtualServices,
};
use crate::dataplane::state::{
    Address, AddressKey, InvalidKernelName, KernelState, Link, LinkKind, Mac, Neighbour, NeighbourKey, Netns,
    NetnsState, PortSettings, Route, RouteKey,
};
use crate::dataplane::{Action, Op, diff};
use crate::ports::dataplane::{Dataplane, DataplaneExt, Stopped};

/// A case: takes an empty data plane, and says what is wrong with it.
pub type CaseFn = for<'a> fn(&'a dyn Dataplane) -> BoxFuture<'a, Result<(), Failure>>;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        /// Every case by name.
        pub const CASES: &[(&str, CaseFn)] = &[$((stringify!($case), |dataplane| Box::pin($case(dataplane)))),*];
    };
}

cases![
    what_was_applied_is_read,
    applying_again_changes_nothing,
    every_change_is_made_in_place,
    the_first_refusal_ends_the_call,
    what_is_there_is_not_made_again,
    what_is_missing_is_not_changed,
    a_table_changes_by_elements,
    services_are_translated_as_desired,
    a_table_that_cannot_be_is_refused_whole,
    nothing_is_left_after_uninstall,
    reading_changes_nothing,
];

/// Runs every case on a data plane of its own; gives the names of those that passed, and those that failed with why.
pub async fn run_all<D: Dataplane>(
    mut make: impl FnMut() -> D,
) -> (Vec<&'static str>, Vec<(&'static str, Failure)>) {
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for (name, case) in CASES {
        let dataplane = make();
        let outcome = case(&dataplane).await;
        let cleaned = dataplane.uninstall(&BTreeSet::new()).await;
        match outcome.and(cleaned.map(|_| ()).map_err(Failure::from)) {
            Ok(()) => passed.push(*name),
            Err(failure) => failed.push((*name, failure)),
        }
    }
    (passed, failed)
}

fn wrong(error: InvalidKernelName) -> Failure {
    Failure::new(format!("the case itself is wrong: {error}"))
}

fn text<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::new(format!("the case itself is wrong: {text}")))
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: found {found:?}, expected {expected:?}")))
}

fn netns() -> Result<Netns, Failure> {
    "hm-conformance".parse().map_err(wrong)
}

fn mac(last: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 7, last])
}

fn table(port: u16) -> Result<(TableKey, RuleTable), Failure> {
    let allowed = NamedSet::new([FieldType::Protocol, FieldType::Port], DataType::Verdict);
    let element = SetKey::exact([Value::Protocol(6), Value::Port(port)]);
    let allowed = allowed.with(element, Data::Verdict(Verdict::Accept));
    let look_up = Statement::VerdictMap {
        fields: vec![Field::Protocol, Field::DestinationPort],
        map: text("allowed")?,
    };
    let discovery = Statement::Compare(Field::Icmpv6Type, Comparison::AtLeast, Value::Icmpv6Type(133));
    let input = Chain::base(BaseChain::filter(Hook::Input).dropping())
        .with_rule([discovery, Statement::Verdict(Verdict::Accept)])
        .with_rule([look_up]);
    let table = RuleTable::new().with_set(text("allowed")?, allowed).with_chain(text("input")?, input);
    Ok((TableKey::new(Family::Inet, text("conformance")?), table))
}

/// A bridge and a veth pair with everything on them, in one namespace of ours.
fn state() -> Result<KernelState, Failure> {
    let at = netns()?;
    let mut state = KernelState::new();
    state.namespaces.insert(at.clone(), NetnsState::owned());
    let bridge = Link::new(LinkKind::Bridge, mac(1), 1400).with_up();
    state.namespace_mut(&at).links.insert(text("br0")?, bridge);
    let port = Link::veth_end(mac(2), 1400).with_master(text("br0")?, PortSettings::default()).with_up();
    let end = Link::veth_end(mac(3), 1400).with_up();
    state.add_veth((&at, &text("port0")?, port), (&at, &text("end0")?, end));
    let inside = state.namespace_mut(&at);
    for (address, length) in [("fd10::1", 64), ("10.10.0.1", 24)] {
        inside.addresses.insert(AddressKey::new(text("end0")?, text(address)?, length), Address::new());
    }
    inside
        .routes
        .insert(RouteKey::new(text("fd20::/64")?), Route::via(text("end0")?, text("fd10::9")?, false));
    inside.routes.insert(RouteKey::new(text("10.20.0.0/16")?), Route::blackhole());
    let neighbour = NeighbourKey::new(text("end0")?, text("fd10::9")?);
    inside.neighbours.insert(neighbour, Neighbour::Permanent(mac(9)));
    inside.sysctls.insert(text("net/ipv4/ip_forward")?, "1".to_owned());
    let (key, table) = table(80)?;
    inside.tables.insert(key, table);
    Ok(state)
}

async fn read(dataplane: &dyn Dataplane) -> Result<KernelState, Failure> {
    Ok(dataplane.read(&BTreeSet::new()).await?)
}

async fn what_was_applied_is_read(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    dataplane.apply(&diff(&KernelState::new(), &desired)).await?;
    same("the state", &read(dataplane).await?, &desired)
}

async fn applying_again_changes_nothing(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    let made = dataplane.sync(&desired).await?;
    same("the first changes", &made, &diff(&KernelState::new(), &desired))?;
    same("the second changes", &dataplane.sync(&desired).await?, &Vec::new())
}

async fn every_change_is_made_in_place(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    dataplane.sync(&state()?).await?;
    let mut desired = state()?;
    let inside = desired.namespace_mut(&netns()?);
    if let Some(link) = inside.links.get_mut("port0") {
        *link = Link { mac: mac(12), mtu: 1300, master: None, port: PortSettings::default(), ..link.clone() };
    }
    if let Some(link) = inside.links.get_mut("br0") {
        link.up = false;
    }
    let route = RouteKey::new(text("fd20::/64")?);
    inside.routes.insert(route, Route::unreachable());
    inside.addresses.remove(&AddressKey::new(text("end0")?, text("10.10.0.1")?, 24));
    inside.sysctls.insert(text("net/ipv4/ip_forward")?, "0".to_owned());
    let neighbour = NeighbourKey::new(text("end0")?, text("fd10::9")?);
    inside.neighbours.insert(neighbour, Neighbour::Permanent(mac(10)));
    for op in dataplane.sync(&desired).await? {
        if matches!(op.action, Action::CreateLink { .. } | Action::DeleteLink(_)) {
            return Err(Failure::new(format!("{op}, and no link is another one")));
        }
    }
    same("the state", &read(dataplane).await?, &desired)
}

/// The refusal of `ops`, and how far they came.
async fn refusal(dataplane: &dyn Dataplane, ops: &[Op]) -> Result<(ErrorKind, usize), Failure> {
    match dataplane.apply(ops).await {
        Ok(()) => Err(Failure::new(format!("{ops:?} is not refused"))),
        Err(error) => match error.detail::<Stopped>() {
            Some(stopped) => Ok((error.kind(), stopped.done)),
            None => Err(Failure::new(format!("{error} does not tell how far it came"))),
        },
    }
}

async fn the_first_refusal_ends_the_call(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    let mut ops = diff(&KernelState::new(), &desired);
    let at = netns()?;
    let missing = Op::new(at.clone(), Action::SetUp(text("nothing0")?, true));
    ops.insert(1, missing);
    let (_, done) = refusal(dataplane, &ops).await?;
    same("how many were made", &done, &1)?;
    let mut expected = KernelState::new();
    expected.namespaces.insert(at, NetnsState::owned());
    same("the state", &read(dataplane).await?, &expected)?;
    dataplane.sync(&desired).await?;
    same("the state after all", &read(dataplane).await?, &desired)
}

async fn what_is_there_is_not_made_again(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    dataplane.sync(&desired).await?;
    let at = netns()?;
    let bridge = Link::new(LinkKind::Bridge, mac(1), 1400);
    let again = [
        Action::CreateNetns,
        Action::CreateLink { name: text("br0")?, link: Box::new(bridge), peer: None },
        Action::AddAddress(AddressKey::new(text("end0")?, text("fd10::1")?, 64), Address::new()),
        Action::AddRoute(RouteKey::new(text("10.20.0.0/16")?), Route::blackhole()),
    ];
    for action in again {
        let (kind, _) = refusal(dataplane, &[Op::new(at.clone(), action)]).await?;
        same("the kind of the refusal", &kind, &ErrorKind::AlreadyExists)?;
    }
    same("the state", &read(dataplane).await?, &desired)
}

async fn what_is_missing_is_not_changed(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    dataplane.sync(&desired).await?;
    let at = netns()?;
    let missing = [
        Action::DeleteLink(text("nothing0")?),
        Action::SetMtu(text("nothing0")?, 1400),
        Action::DeleteAddress(AddressKey::new(text("end0")?, text("fd10::77")?, 64)),
        Action::DeleteRoute(RouteKey::new(text("fd77::/64")?)),
        Action::DeleteTable(TableKey::new(Family::Inet, text("nothing")?)),
    ];
    for action in missing {
        let (kind, _) = refusal(dataplane, &[Op::new(at.clone(), action)]).await?;
        same("the kind of the refusal", &kind, &ErrorKind::NotFound)?;
    }
    same("the state", &read(dataplane).await?, &desired)
}

async fn a_table_changes_by_elements(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    dataplane.sync(&state()?).await?;
    let mut desired = state()?;
    let (key, table) = table(443)?;
    desired.namespace_mut(&netns()?).tables.insert(key, table);
    let made = dataplane.sync(&desired).await?;
    if !matches!(made.as_slice(), [Op { action: Action::ChangeTable(..), .. }]) {
        return Err(Failure::new(format!("one change of a table was due, and {made:?} was made")));
    }
    same("the state", &read(dataplane).await?, &desired)
}

/// Services of both IP versions, with every way to choose, and as many backends of each as asked for.
fn services(backends: u16) -> Result<VirtualServices, Failure> {
    let wrong = |e: InvalidService| Failure::new(format!("the case itself is wrong: {e}"));
    let mut services = VirtualServices::new([text("10.96.0.0/16")?, text("fd96::/112")?]);
    let spreads = [Spread::AtRandom, Spread::InTurn, Spread::BySource { bits: 24 }];
    for (spread, port) in spreads.into_iter().zip(80..) {
        let port = NonZeroU16::new(port).unwrap_or(NonZeroU16::MIN);
        for (virtually, really) in [("10.96.0.1", "10.10.0."), ("fd96::1", "fd10::")] {
            let frontend = Frontend::new(text(virtually)?, ServiceProtocol::Tcp, port);
            let all = (1..=backends).map(|n| Ok(Backend::new(text(&format!("{really}{n}"))?, port)));
            let all = all.collect::<Result<Vec<_>, Failure>>()?;
            services.put(frontend, spread, all).map_err(wrong)?;
        }
    }
    Ok(services)
}

async fn services_are_translated_as_desired(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    for backends in [2, 3, 1, 0] {
        let mut desired = state()?;
        services(backends)?.add_to(desired.namespace_mut(&netns()?)).map_err(wrong)?;
        let made = dataplane.sync(&desired).await?;
        same("the state", &read(dataplane).await?, &desired)?;
        let in_place = matches!(made.as_slice(), [Op { action: Action::ChangeTable(..), .. }]);
        if backends != 2 && backends != 0 && !in_place {
            return Err(Failure::new(format!("one change of a table was due, and {made:?} was made")));
        }
    }
    dataplane.sync(&state()?).await?;
    same("the state without services", &read(dataplane).await?, &state()?)
}

async fn a_table_that_cannot_be_is_refused_whole(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    dataplane.sync(&desired).await?;
    let (key, mut table) = table(80)?;
    let nowhere = Statement::Verdict(Verdict::Jump(text("nowhere")?));
    table.chains.insert(text("more")?, Chain::default().with_rule([nowhere]));
    let (kind, _) = refusal(dataplane, &[Op::new(netns()?, Action::PutTable(key, Box::new(table)))]).await?;
    same("the kind of the refusal", &kind, &ErrorKind::Invalid)?;
    same("the state", &read(dataplane).await?, &desired)
}

async fn nothing_is_left_after_uninstall(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    dataplane.sync(&state()?).await?;
    dataplane.uninstall(&BTreeSet::new()).await?;
    same("the state", &read(dataplane).await?, &KernelState::new())
}

async fn reading_changes_nothing(dataplane: &dyn Dataplane) -> Result<(), Failure> {
    let desired = state()?;
    dataplane.sync(&desired).await?;
    let also = BTreeSet::from([netns()?, text("hm-conformance-not-there")?]);
    same("the first reading", &dataplane.read(&also).await?, &desired)?;
    same("the second reading", &dataplane.read(&also).await?, &desired)
}
