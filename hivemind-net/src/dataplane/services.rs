//! Services under virtual addresses: what is sent to one goes on to a backend. No I/O, no clock, no async.
//!
//! ```text
//! workload --> its router:  prerouting  10.96.0.1 tcp 80  =>  10.10.2.1 tcp 8080   (for the whole connection)
//!                           forward     policies judge the packet to 10.10.2.1 tcp 8080
//! ```
//!
//! It is where the asking workload is that the address is translated, once for each connection, before policies look at
//! it: they see the backend, as in Kubernetes. The backend sees who asks. The cost per packet does not grow with the
//! services: one look-up finds how many backends there are, another the one that was chosen.
//!
//! What a router's own machine asks is not translated; a service whose backends are all gone, and an address of the
//! prefixes that is no service's, are unreachable at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Connection;
use super::rules::{
    BaseChain, Chain, Choice, Data, DataType, Family, Field, FieldType, NamedSet, RuleName, RuleTable,
    SetKey, Statement, TableKey, Value, Verdict,
};
use super::state::{InvalidKernelName, NetnsState, Route, RouteKey};
use crate::addr::IpFamily;

const TABLE: &str = "hivemind-services";

/// Whether the table of [`VirtualServices`] has that name.
pub(crate) fn is_reserved(key: &TableKey) -> bool {
    key.name.as_str() == TABLE
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ServiceProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl ServiceProtocol {
    /// Its number above IP.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for ServiceProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Where a service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Frontend {
    /// Its virtual address.
    pub address: IpAddr,
    /// What it speaks.
    pub protocol: ServiceProtocol,
    /// Its port.
    pub port: NonZeroU16,
}

impl Frontend {
    /// `port` of `address`.
    pub fn new(address: IpAddr, protocol: ServiceProtocol, port: NonZeroU16) -> Self {
        Self { address, protocol, port }
    }

    fn values(&self) -> [Value; 3] {
        [self.address.into(), Value::Protocol(self.protocol.number()), Value::Port(self.port.get())]
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.address, self.protocol, self.port)
    }
}

/// Who answers for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Backend {
    /// The workload's own address.
    pub address: IpAddr,
    /// Its port.
    pub port: NonZeroU16,
}

impl Backend {
    /// `port` of `address`.
    pub fn new(address: IpAddr, port: NonZeroU16) -> Self {
        Self { address, port }
    }
}

/// Which backend gets a new connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Spread {
    /// Any, by chance.
    #[default]
    AtRandom,
    /// One after the other, counted on each node by itself.
    InTurn,
    /// The same one for the same source, on every node, as long as the backends are the same.
    BySource {
        /// How many leading bits of the source address count. With 128, whoever uses privacy addresses (RFC 8981) is
        /// somebody else each day; 64 is a network's end.
        bits: u8,
    },
}

/// Why a service cannot be. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidService {
    /// The virtual address is in none of the prefixes for services.
    #[error("{frontend}: the address is in no prefix for services: take one that is, or add its prefix")]
    OutsidePrefixes {
        /// The service.
        frontend: Frontend,
    },
    /// A backend has no address of its own, or one of the other IP version.
    #[error(
        "{frontend}: {backend} cannot answer for it: a backend has an address of its own, of that IP version"
    )]
    BadBackend {
        /// The service.
        frontend: Frontend,
        /// The backend's address.
        backend: IpAddr,
    },
    /// More bits than the source address has, or none.
    #[error("{frontend}: {bits} bits of a source address cannot count: 1 to {most} can")]
    BadBits {
        /// The service.
        frontend: Frontend,
        /// The bits that were asked for.
        bits: u8,
        /// What is possible.
        most: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Target {
    spread: Spread,
    backends: BTreeSet<Backend>,
}

/// The services that are translated in one namespace: a tenant's router, or, with direct routing, the machine.
///
/// ```
/// use std::num::NonZeroU16;
/// use hivemind_net::dataplane::services::{Backend, Frontend, ServiceProtocol, Spread, VirtualServices};
///
/// let port = |number| NonZeroU16::new(number).ok_or("no port");
/// let web = Frontend::new("10.96.0.1".parse()?, ServiceProtocol::Tcp, port(80)?);
/// let backends = ["10.10.1.1", "10.10.2.1"].map(|one| one.parse());
/// let [one, other] = backends;
///
/// let mut services = VirtualServices::new(["10.96.0.0/16".parse()?]);
/// services.put(web, Spread::InTurn, [Backend::new(one?, port(8080)?), Backend::new(other?, port(8080)?)])?;
/// services.table()?.validate()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualServices {
    prefixes: BTreeSet<IpNet>,
    all: BTreeMap<Frontend, Target>,
}

impl VirtualServices {
    /// None yet; `prefixes` are where virtual addresses are, all of them.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        Self { prefixes: prefixes.into_iter().map(|prefix| prefix.trunc()).collect(), all: BTreeMap::new() }
    }

    /// Puts a service in place of the one of that address, protocol and port.
    ///
    /// # Errors
    /// [`InvalidService`].
    pub fn put(
        &mut self,
        frontend: Frontend,
        spread: Spread,
        backends: impl IntoIterator<Item = Backend>,
    ) -> Result<(), InvalidService> {
        if !self.is_virtual(frontend.address) {
            return Err(InvalidService::OutsidePrefixes { frontend });
        }
        let family = IpFamily::of(frontend.address);
        if let Spread::BySource { bits } = spread
            && !(1..=family.bits()).contains(&bits)
        {
            return Err(InvalidService::BadBits { frontend, bits, most: family.bits() });
        }
        let backends: BTreeSet<_> = backends.into_iter().collect();
        let own = |address: IpAddr| {
            IpFamily::of(address) == family
                && !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !self.is_virtual(address)
        };
        if let Some(bad) = backends.iter().find(|backend| !own(backend.address)) {
            return Err(InvalidService::BadBackend { frontend, backend: bad.address });
        }
        self.all.insert(frontend, Target { spread, backends });
        Ok(())
    }

    /// Takes a service away; tells whether it was there.
    pub fn remove(&mut self, frontend: &Frontend) -> bool {
        self.all.remove(frontend).is_some()
    }

    /// Where services are asked, in order.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.all.keys()
    }

    /// Who answers for a service; nobody if it is not there.
    pub fn backends(&self, frontend: &Frontend) -> impl Iterator<Item = &Backend> {
        self.all.get(frontend).into_iter().flat_map(|target| &target.backends)
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// Adds to a namespace what translates there: the table, and routes that make all other virtual addresses
    /// unreachable.
    ///
    /// # Errors
    /// None in practice; all names in it are made here.
    pub fn add_to(&self, netns: &mut NetnsState) -> Result<(), InvalidKernelName> {
        for prefix in &self.prefixes {
            netns.routes.insert(RouteKey::new(*prefix), Route::unreachable());
        }
        netns.tables.insert(TableKey::new(Family::Inet, TABLE.parse()?), self.table()?);
        Ok(())
    }

    /// The table, to be put in force whole.
    ///
    /// # Errors
    /// None in practice; all names in it are made here.
    pub fn table(&self) -> Result<RuleTable, InvalidKernelName> {
        let mut table = RuleTable::new();
        let mut arriving = Chain::base(BaseChain::destination_nat());
        let mut leaving = Chain::base(BaseChain::source_nat());
        for family in IpFamily::BOTH {
            let names = Names::of(family)?;
            let services = self.add_family(family, &names, &mut table)?;
            let (source, destination, kind, _) = fields(family);
            let asked = vec![destination, Field::Protocol, Field::DestinationPort];
            arriving =
                arriving.with_rule([Statement::VerdictMap { fields: asked, map: names.services.clone() }]);
            table.sets.insert(names.services, services);
            // A workload that is its own backend gets its packet back from the virtual address: one with its own as the
            // source it would drop.
            let mut selves = NamedSet::new([kind, kind], DataType::Member);
            let here = self.all.iter().filter(|(frontend, _)| IpFamily::of(frontend.address) == family);
            let mut answers = None;
            for (frontend, target) in here {
                answers = answers.or((!target.backends.is_empty()).then_some(frontend.address));
                for backend in &target.backends {
                    let both: [Value; 2] = [backend.address.into(), backend.address.into()];
                    selves.elements.insert(SetKey::exact(both), Data::Member);
                }
            }
            if let Some(answers) = answers {
                let itself = Statement::InSet {
                    fields: vec![source, destination],
                    set: names.selves.clone(),
                    negate: false,
                };
                leaving = leaving.with_rule([itself, Statement::SourceNat(answers)]);
            }
            table.sets.insert(names.selves, selves);
        }
        Ok(table.with_chain("arriving".parse()?, arriving).with_chain("leaving".parse()?, leaving))
    }

    /// The backends of one family and the chains that choose among them; gives which service jumps to which chain.
    fn add_family(
        &self,
        family: IpFamily,
        names: &Names,
        table: &mut RuleTable,
    ) -> Result<NamedSet, InvalidKernelName> {
        let (_, destination, kind, data) = fields(family);
        let key = [kind, FieldType::Protocol, FieldType::Port];
        let mut services = NamedSet::new(key, DataType::Verdict);
        let mut backends = NamedSet::new(key.into_iter().chain([FieldType::Mark]), data);
        for (frontend, target) in &self.all {
            let count = u32::try_from(target.backends.len()).ok().and_then(NonZeroU32::new);
            let Some(among) = count.filter(|_| IpFamily::of(frontend.address) == family) else { continue };
            let chain = chain_name(frontend, target.spread, among)?;
            if !table.chains.contains_key(&chain) {
                let translate = Statement::DestinationNat {
                    fields: vec![destination, Field::Protocol, Field::DestinationPort],
                    choice: choice(family, target.spread),
                    among,
                    map: names.backends.clone(),
                };
                table.chains.insert(chain.clone(), Chain::default().with_rule([translate]));
            }
            let values = frontend.values();
            services.elements.insert(SetKey::exact(values.clone()), Data::Verdict(Verdict::Goto(chain)));
            for (number, backend) in (0..).zip(&target.backends) {
                let key = SetKey::exact(values.iter().cloned().chain([Value::Mark(number)]));
                backends.elements.insert(key, Data::Endpoint(backend.address, backend.port.get()));
            }
        }
        table.sets.insert(names.backends.clone(), backends);
        Ok(services)
    }

    /// The connections to virtual addresses whose backend is none any more, of those that a kernel tracks where this is
    /// in force: to be forgotten, so that their next packets get to one that is there.
    ///
    /// A client that keeps sending by UDP from one port would otherwise send to nobody for ever.
    pub fn stale<'c>(&self, connections: impl IntoIterator<Item = &'c Connection>) -> Vec<Connection> {
        let target = |one: &Connection| {
            let (protocol, port) =
                (ServiceProtocol::of(one.protocol)?, NonZeroU16::new(one.destination_port)?);
            self.all.get(&Frontend::new(one.destination, protocol, port))
        };
        let is_stale = |one: &&Connection| {
            let (address, port) = one.arrives_at();
            let backend = NonZeroU16::new(port).map(|port| Backend::new(address, port));
            let current =
                target(one).zip(backend).is_some_and(|(target, own)| target.backends.contains(&own));
            self.is_virtual(one.destination) && !current
        };
        connections.into_iter().filter(is_stale).cloned().collect()
    }
}

struct Names {
    services: RuleName,
    backends: RuleName,
    selves: RuleName,
}

impl Names {
    fn of(family: IpFamily) -> Result<Self, InvalidKernelName> {
        let name = |what: &str| format!("{what}-{}", family.name()).parse();
        Ok(Self { services: name("services")?, backends: name("backends")?, selves: name("selves")? })
    }
}

fn fields(family: IpFamily) -> (Field, Field, FieldType, DataType) {
    match family {
        IpFamily::V4 => (Field::V4Source, Field::V4Destination, FieldType::V4, DataType::V4Endpoint),
        IpFamily::V6 => (Field::V6Source, Field::V6Destination, FieldType::V6, DataType::V6Endpoint),
    }
}

fn choice(family: IpFamily, spread: Spread) -> Choice {
    let (field, ..) = fields(family);
    match spread {
        Spread::AtRandom => Choice::AtRandom,
        Spread::InTurn => Choice::InTurn,
        Spread::BySource { bits } => Choice::Hash { field, bits },
    }
}

/// Services with as many backends share a chain, unless they count: each has a turn of its own.
fn chain_name(frontend: &Frontend, spread: Spread, among: NonZeroU32) -> Result<RuleName, InvalidKernelName> {
    let family = IpFamily::of(frontend.address).name();
    match spread {
        Spread::AtRandom => format!("random-{family}-{among}"),
        Spread::BySource { bits } => format!("source-{family}-{bits}-{among}"),
        Spread::InTurn => {
            let address = crate::addr::address_number(frontend.address);
            format!("turn-{family}-{address:x}-{}-{}", frontend.protocol, frontend.port)
        }
    }
    .parse()
}
