//! The tables of the whole cluster. No I/O, no clock, no async.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::discriminant;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hivemind_core::TenantRef;

use crate::slab::Slab;

use super::super::eval::{Applicable, End, Ends, Question};
use super::super::{
    AnyPolicy, Because, Change, Decision, Direction, Endpoint, EndpointKey, Flow, InvalidFlow, PolicyRef,
    Profile, Side, Traffic, Verdict, World,
};
use super::domain::Domain;

/// Workloads that are treated alike, as the subject of a verdict. It holds until the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectId {
    domain: u32,
    set: u32,
}

/// All that policies can tell of the other end of a flow. It holds until the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    domain: u32,
    number: u32,
    foreign: bool,
}

/// A [`World`], compiled: the same answers from tables, kept current change by change.
///
/// ```
/// use hivemind_core::labels::Labels;
/// use hivemind_core::{Generation, TenantRef};
/// use hivemind_net::addr::IpFamily;
/// use hivemind_net::policy::*;
///
/// let acme = TenantRef::new("acme".parse()?, Generation::from_u64(1));
/// let mut engine = Engine::new(World::new());
/// for (id, address) in [("web", "10.0.0.1"), ("db", "10.0.0.2"), ("batch", "10.0.0.3")] {
///     let profile = Profile::new(acme.clone(), "shop".parse()?, Labels::new().with("app", id)?);
///     let endpoint = Endpoint::new(id.parse()?, "node-1".parse()?, profile).at(address.parse()?);
///     engine.apply(Change::Endpoint(endpoint));
/// }
/// let spec = serde_json::from_str(
///     r#"{"podSelector": {"matchLabels": {"app": "db"}},
///         "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}]}"#,
/// )?;
/// let policy = NetworkPolicy::new(acme.clone(), "shop".parse()?, "db".parse()?, spec);
/// engine.apply(Change::Policy(AnyPolicy::Network(policy)));
///
/// let party = |id: &str| Ok::<_, hivemind_core::InvalidName>(
///     Party::Workload(EndpointKey { tenant: acme.clone(), id: id.parse()? })
/// );
/// let flow = Flow::new(party("batch")?, party("db")?, IpFamily::V4, Traffic::tcp(5432));
/// assert_eq!(engine.reach(&flow)?, Verdict::Deny);
/// let why = engine.explain(&flow)?.to_string();
/// assert!(why.contains("ingress denied: no rule allows it, of policy shop/db of acme"), "{why}");
/// assert!(why.contains("rule 0 of policy shop/db of acme: its peers are others"), "{why}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    world: World,
    numbers: HashMap<TenantRef, u32, FixedState>,
    domains: Slab<Domain>,
    cluster: BTreeMap<PolicyRef, Arc<AnyPolicy>>,
    /// The domains that have grants.
    granting: BTreeSet<u32>,
}

/// What is alike, together: of things in an order that has them together. Unlike `chunk_by`, it does not look at all.
fn chunks<T>(all: &[T], alike: impl Fn(&T, &T) -> bool) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let (same, after) = rest.split_at_checked(rest.partition_point(|one| alike(first, one)))?;
        rest = after;
        Some(same)
    })
}

impl Default for Engine {
    fn default() -> Self {
        Self::new(World::new())
    }
}

impl Engine {
    /// Compiles all of `world`.
    pub fn new(world: World) -> Self {
        let mut engine = Self {
            world: World::new(),
            numbers: HashMap::default(),
            domains: Slab::default(),
            cluster: BTreeMap::new(),
            granting: BTreeSet::new(),
        };
        for tenant in world.tenants() {
            let endpoints: Vec<_> = world.endpoints_of(tenant).collect();
            engine.load(tenant, |domain| domain.load_endpoints(&endpoints));
        }
        for (tenant, address, names) in world.all_names() {
            engine.load(tenant, |domain| domain.put_names(&world, address, names));
        }
        let policies: Vec<_> = world.shared_policies().collect();
        let alike = |one: &AnyPolicy, next: &AnyPolicy| {
            discriminant(one) == discriminant(next) && one.tenant() == next.tenant()
        };
        for same in chunks(&policies, |one, next| alike(one, next)) {
            match same.first().and_then(|first| first.tenant()) {
                Some(tenant) => engine.load(tenant, |domain| domain.load_policies(&world, same)),
                None => {
                    engine.cluster.extend(same.iter().map(|shared| (shared.key(), Arc::clone(shared))));
                }
            }
        }
        let all: Vec<_> = engine.domains.iter().map(|(number, _)| number).collect();
        for number in all {
            let Some(domain) = engine.domains.get_mut(number) else { continue };
            domain.load_policies(&world, &engine.cluster.values().collect::<Vec<_>>());
            engine.meet_foreign(number);
            if let Some(domain) = engine.domains.get_mut(number) {
                domain.loaded();
            }
        }
        engine.world = world;
        engine
    }

    /// The domain of a tenant, for loading.
    fn load(&mut self, tenant: &TenantRef, with: impl FnOnce(&mut Domain)) {
        if !self.numbers.contains_key(tenant) {
            self.numbers.insert(tenant.clone(), self.domains.insert(Domain::new(tenant.clone())));
        }
        if let Some(domain) = self.numbers.get(tenant).and_then(|number| self.domains.get_mut(*number)) {
            with(domain);
        }
    }

    /// The domain of a tenant; a new one has the cluster's policies.
    fn change(&mut self, tenant: &TenantRef, with: impl FnOnce(&mut Domain, &World)) {
        if !self.numbers.contains_key(tenant) {
            let mut domain = Domain::new(tenant.clone());
            self.cluster.values().for_each(|policy| domain.put_policy(&self.world, policy));
            domain.loaded();
            self.numbers.insert(tenant.clone(), self.domains.insert(domain));
        }
        if let Some(domain) = self.numbers.get(tenant).and_then(|number| self.domains.get_mut(*number)) {
            with(domain, &self.world);
        }
    }

    /// What was asked and is told.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Makes one change. Its cost grows with what it changes, not with what there is.
    pub fn apply(&mut self, change: Change) {
        match &change {
            Change::Endpoint(endpoint) => self.put_endpoint(endpoint),
            Change::NoEndpoint(key) => self.remove_endpoint(key),
            Change::Policy(_) => {}
            Change::NoPolicy(key) => self.remove_policy(key),
            Change::Names(tenant, address, names) => {
                self.change(tenant, |domain, world| domain.put_names(world, address.to_canonical(), names));
                self.tidy(tenant);
            }
        }
        match change {
            Change::Policy(policy) => {
                let shared = Arc::new(policy);
                self.put_policy(&shared);
                self.world.put_policy(shared);
            }
            other => self.world.apply(other),
        }
    }

    fn put_endpoint(&mut self, endpoint: &Endpoint) {
        let key = endpoint.key();
        let before = self.world.endpoint(&key).map(|before| before.profile().clone());
        self.change(&key.tenant, |domain, world| domain.put_endpoint(world.endpoint(&key), endpoint));
        self.announce(endpoint.profile());
        if let Some(before) = before.filter(|before| before != endpoint.profile()) {
            self.retract(&before);
        }
    }

    fn remove_endpoint(&mut self, key: &EndpointKey) {
        let Some(gone) = self.world.endpoint(key).cloned() else { return };
        self.change(&key.tenant, |domain, _| domain.remove_endpoint(&gone));
        self.retract(gone.profile());
        self.tidy(&key.tenant);
    }

    fn put_policy(&mut self, shared: &Arc<AnyPolicy>) {
        match &**shared {
            AnyPolicy::Network(one) => {
                self.change(one.tenant(), |domain, world| domain.put_policy(world, shared))
            }
            AnyPolicy::Grant(one) => {
                self.change(one.by(), |domain, world| domain.put_policy(world, shared));
                self.meet_foreign_of(one.by());
            }
            AnyPolicy::Cluster(_) => {
                self.cluster.insert(shared.key(), shared.clone());
                self.domains.iter_mut().for_each(|domain| domain.put_policy(&self.world, shared));
            }
        }
    }

    fn remove_policy(&mut self, key: &PolicyRef) {
        match key {
            PolicyRef::Network(tenant, ..) => {
                self.change(tenant, |domain, world| domain.remove_policy(world, key));
                self.tidy(tenant);
            }
            PolicyRef::Grant(tenant, _) => {
                self.change(tenant, |domain, world| domain.remove_policy(world, key));
                self.meet_foreign_of(tenant);
                self.tidy(tenant);
            }
            PolicyRef::Cluster(_) => {
                self.cluster.remove(key);
                self.domains.iter_mut().for_each(|domain| domain.remove_policy(&self.world, key));
            }
        }
    }

    /// Forgets a domain of which nothing is left.
    fn tidy(&mut self, tenant: &TenantRef) {
        let Some(number) = self.numbers.get(tenant).copied() else { return };
        if self.domains.get(number).is_some_and(Domain::is_idle) {
            self.domains.remove(number);
            self.numbers.remove(tenant);
            self.granting.remove(&number);
        }
    }

    // ---- other tenants' profiles

    fn meet_foreign_of(&mut self, tenant: &TenantRef) {
        if let Some(number) = self.numbers.get(tenant).copied() {
            self.meet_foreign(number);
        }
    }

    /// Makes known to a domain the profiles of others that its grants reach, and no other.
    fn meet_foreign(&mut self, number: u32) {
        let Some(domain) = self.domains.get(number) else { return };
        let others = self.domains.iter().filter(|(other, _)| *other != number);
        let reached: Vec<_> =
            others.flat_map(|(_, other)| other.own()).filter(|profile| domain.grants(profile)).collect();
        let gone: Vec<_> = domain.foreign().into_iter().filter(|known| !domain.grants(known)).collect();
        let Some(domain) = self.domains.get_mut(number) else { return };
        reached.iter().for_each(|profile| domain.put_foreign(profile));
        gone.iter().for_each(|profile| domain.remove_foreign(profile));
        if domain.has_grants() {
            self.granting.insert(number)
        } else {
            self.granting.remove(&number)
        };
    }

    fn announce(&mut self, profile: &Arc<Profile>) {
        for number in &self.granting {
            let Some(domain) = self.domains.get_mut(*number) else { continue };
            if domain.tenant != *profile.tenant() && domain.grants(profile) {
                domain.put_foreign(profile);
            }
        }
    }

    /// A workload no longer has the profile; if none of its tenant has, nobody knows it.
    fn retract(&mut self, profile: &Arc<Profile>) {
        let own = self.domain(profile.tenant());
        if own.is_some_and(|domain| domain.has_profile(profile)) {
            return;
        }
        for number in &self.granting {
            let Some(domain) = self.domains.get_mut(*number) else { continue };
            if domain.tenant != *profile.tenant() {
                domain.remove_foreign(profile);
            }
        }
    }

    // ---- questions

    pub(in crate::policy) fn domain(&self, tenant: &TenantRef) -> Option<&Domain> {
        self.domains.get(*self.numbers.get(tenant)?)
    }

    /// Changes the domain of `only`, or every one.
    pub(in crate::policy) fn each_domain(
        &mut self,
        only: Option<&TenantRef>,
        mut with: impl FnMut(&mut Domain, &World),
    ) {
        match only {
            Some(tenant) => self.change(tenant, with),
            None => self.domains.iter_mut().for_each(|domain| with(domain, &self.world)),
        }
    }

    pub(in crate::policy) fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter().map(|(_, domain)| domain)
    }

    /// The workload as a subject.
    pub fn subject(&self, key: &EndpointKey) -> Option<SubjectId> {
        let domain = *self.numbers.get(&key.tenant)?;
        let set = self.domains.get(domain)?.set_of(self.world.endpoint(key)?.profile())?;
        Some(SubjectId { domain, set })
    }

    /// The workload `key` over its `address`, as a peer in the network of `tenant`; `None` if it is unknown, or no
    /// grant of `tenant` reaches it.
    pub fn workload_peer(&self, tenant: &TenantRef, key: &EndpointKey, address: IpAddr) -> Option<PeerId> {
        let number = *self.numbers.get(tenant)?;
        let domain = self.domains.get(number)?;
        let endpoint = self.world.endpoint(key)?;
        let peer = if key.tenant == *tenant {
            let address = endpoint.addresses().find(|own| *own == address.to_canonical())?;
            domain.own_peer(endpoint.profile(), address)?
        } else {
            domain.foreign_peer(endpoint.profile())?
        };
        Some(PeerId { domain: number, number: peer, foreign: domain.is_foreign(peer) })
    }

    /// An address that is no workload's, as a peer in the network of `tenant`.
    pub fn outside_peer(&self, tenant: &TenantRef, address: IpAddr) -> Option<PeerId> {
        let domain = *self.numbers.get(tenant)?;
        let number = self.domains.get(domain)?.outside_peer(address.to_canonical())?;
        Some(PeerId { domain, number, foreign: false })
    }

    /// Whether the first packet of a connection passes at `subject`. What is of different tenants' networks, or is
    /// not known, does not. That a workload reaches itself, and its host it, is for the caller.
    pub fn verdict(
        &self,
        subject: SubjectId,
        direction: Direction,
        peer: PeerId,
        traffic: Traffic,
    ) -> Verdict {
        let domain = self.domains.get(subject.domain).filter(|_| subject.domain == peer.domain);
        let peer = (peer.number, peer.foreign);
        Verdict::of(domain.is_some_and(|one| one.passes(subject.set, direction, peer, traffic)))
    }

    /// Whether a flow passes, from the tables: what [`World::reach`] says.
    ///
    /// # Errors
    /// [`InvalidFlow`]: there is no such flow.
    pub fn reach(&self, flow: &Flow) -> Result<Verdict, InvalidFlow> {
        let ends = Ends::find(&self.world, flow)?;
        let passes = |direction| {
            let Some(question) = ends.question(direction) else { return true };
            if question.always().is_some() {
                return true;
            }
            let both = self.sides_of(&question, flow);
            both.is_some_and(|(subject, peer)| self.verdict(subject, direction, peer, flow.traffic).passes())
        };
        Ok(Verdict::of(Direction::ALL.into_iter().all(passes)))
    }

    /// Whether a flow passes, and what decides at each end, from the tables: what [`World::reach`] says. The cost grows
    /// with the rules about these ports, not with all there are; [`Engine::explain`] also tells what became of each rule.
    ///
    /// # Errors
    /// [`InvalidFlow`]: there is no such flow.
    pub fn decide(&self, flow: &Flow) -> Result<Decision, InvalidFlow> {
        let ends = Ends::find(&self.world, flow)?;
        let side = |direction| {
            let question = ends.question(direction)?;
            let decided = question.always().map(|because| (true, because)).or_else(|| {
                let (subject, peer) = self.sides_of(&question, flow)?;
                let domain = self.domains.get(subject.domain)?;
                domain.decide(subject.set, direction, (peer.number, peer.foreign), flow.traffic)
            });
            // Whoever is not known here is another tenant's, whom no grant reaches.
            let (passes, because) = decided.unwrap_or((false, Because::Border));
            Some(Side { verdict: Verdict::of(passes), because })
        };
        Ok(Decision::new(side(Direction::Egress), side(Direction::Ingress)))
    }

    /// What is to be asked to explain one end of a flow.
    pub(in crate::policy) fn applicable(&self, question: &Question<'_>, flow: &Flow) -> Applicable<'_> {
        let key = question.subject.key();
        let Some(domain) = self.domain(&key.tenant) else { return Applicable::default() };
        let Some(set) = domain.set_of(question.subject.profile()) else { return Applicable::default() };
        match self.sides_of(question, flow) {
            Some((_, peer)) => domain.applicable_to(set, peer.number, question.direction),
            // Whoever is not known here is another tenant's, whom no grant reaches: that decides.
            None => Applicable::of(domain.applicable(set)),
        }
    }

    fn sides_of(&self, question: &Question<'_>, flow: &Flow) -> Option<(SubjectId, PeerId)> {
        let own = question.subject.key();
        let peer = match question.peer {
            End::Workload(peer) => self.workload_peer(&own.tenant, &peer.key(), peer.address(flow.family)?),
            End::Host(_, address) | End::Outside(address) => self.outside_peer(&own.tenant, address),
        };
        self.subject(&own).zip(peer)
    }
}
