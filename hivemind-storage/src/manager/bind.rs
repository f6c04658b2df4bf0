//! From a claim to a volume: one that is offered, or a new one.

use hivemind_core::store::{Snapshot, Staged, Txn};
use hivemind_core::{ClaimId, Error, ErrorKind, ReservationId, Result, Stamped, TenantContext, VolumeId};

use super::{StorageManager, token, work_on};
use crate::records::{Offer, offer_at, offers, shelf, snapshot_at, snapshots, volume_at, volumes};
use crate::topology::{apart, in_words, is_allowed, narrow};
use crate::{
    ClaimSource, ClaimSpec, Population, ReclaimPolicy, SnapshotKey, SnapshotPhase, SourceKey, StorageClass,
    Topology, TopologyRequirement, Volume, VolumeKey, VolumeOptions, VolumePhase,
};

/// How many names are tried for a volume whose claim's name is taken by one that was kept.
const NAMES: u32 = 100;

/// What a claim comes to, once its class is known.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) provider: hivemind_core::ProviderName,
    pub(super) options: VolumeOptions,
    pub(super) reclaim: ReclaimPolicy,
    pub(super) places: Vec<Topology>,
    pub(super) requirement: TopologyRequirement,
}

fn resolve_options(claim: &VolumeOptions, class: &StorageClass) -> VolumeOptions {
    let mut options = claim.clone();
    options.replicas = options.replicas.max(class.replicas);
    options.encryption |= class.encryption;
    options.performance_class = class.performance_class;
    options.parameters.extend(class.parameters.clone());
    options
}

impl StorageManager {
    pub(super) fn resolve(&self, class: Option<&StorageClass>, spec: &ClaimSpec) -> Result<Resolved> {
        let Some(class) = class else {
            return Ok(Resolved {
                provider: self.provider(spec.provider.as_ref())?,
                options: spec.options.clone(),
                reclaim: spec.reclaim.unwrap_or_default(),
                requirement: spread(spec, &spec.options, &spec.allowed_topologies)?,
                places: spec.allowed_topologies.clone(),
            });
        };
        if let Some(other) = spec.provider.as_ref().filter(|wanted| **wanted != class.provider) {
            let message = format!(
                "claim {} names provider {other}, and class {} has {}: leave one of them out",
                spec.id, class.name, class.provider
            );
            return Err(Error::invalid("claim", message));
        }
        if let Some(largest) = class.largest.filter(|largest| spec.size > *largest) {
            let message = format!(
                "claim {} asks for {}, and class {} has {largest} at most",
                spec.id, spec.size, class.name
            );
            return Err(Error::invalid("claim", message));
        }
        let nowhere = || {
            let message = format!(
                "claim {} may be in {}, and class {} has volumes in {} only",
                spec.id,
                in_words(&spec.allowed_topologies),
                class.name,
                in_words(&class.allowed_topologies)
            );
            Error::invalid("claim", message)
        };
        let places = narrow(&class.allowed_topologies, &spec.allowed_topologies).ok_or_else(nowhere)?;
        let options = resolve_options(&spec.options, class);
        Ok(Resolved {
            provider: self.provider(Some(&class.provider))?,
            requirement: spread(spec, &options, &places)?,
            options,
            reclaim: spec.reclaim.unwrap_or(class.reclaim),
            places,
        })
    }

    /// Binds the claim to the smallest offered volume that fits, reachable from `node`; `None` if there is none.
    ///
    /// Taking the offer away is the one compare-and-swap: of two claims that want it, one is told to decide again.
    pub(super) fn bind_offer(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &ClaimSpec,
        wanted: &VolumeOptions,
        node: Option<&Topology>,
    ) -> Result<Option<Stamped<Volume>>> {
        let Some(offer) = self.find_offer(view, txn, ctx, spec, wanted, node)? else { return Ok(None) };
        let old = self.owned(view, txn, ctx, &offer.volume.volume)?;
        offers()?.delete(txn, &offer)?;
        Ok(Some(old))
    }

    pub(super) fn find_offer(
        &self,
        view: &Snapshot,
        txn: &Txn,
        ctx: &TenantContext,
        spec: &ClaimSpec,
        wanted: &VolumeOptions,
        node: Option<&Topology>,
    ) -> Result<Option<Stamped<Offer>>> {
        let tenant = ctx.tenant().to_string();
        let on = shelf(&tenant, spec.class.as_ref(), wanted.volume_mode.is_block());
        let below = offers()?.below(on)?;
        let least = offers()?.key(on.into_iter().chain([&*format!("{:016x}", spec.size.as_bytes())]))?;
        for record in view.scan_from(&below, &least) {
            if !matches!(txn.staged(&record.key), Staged::Untouched) {
                continue;
            }
            let Some(offer) = offers()?.get(view, txn, &record.key)? else { continue };
            if fits(&offer, spec, wanted, node) {
                return Ok(Some(offer));
            }
        }
        Ok(None)
    }

    /// Stages that a volume of the tenant without a claim can be claimed, as it is.
    pub(super) fn offer(&self, view: &Snapshot, txn: &mut Txn, volume: &Volume) -> Result<()> {
        let offer = Offer {
            volume: volume.key.clone(),
            size: volume.size,
            access_modes: volume.options.access_modes.clone(),
            encryption: volume.options.encryption,
            provider: volume.provider.clone(),
            replicas: volume.options.replicas,
            labels: volume.options.labels.clone(),
            topology: volume.topology.clone(),
        };
        offers()?.create(view, txn, offer_at(volume)?, &offer)
    }

    /// Stages a new volume for the claim.
    pub(super) fn make(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &ClaimSpec,
        resolved: Resolved,
        reservations: Vec<ReservationId>,
    ) -> Result<VolumeId> {
        let source = self.source(view, txn, ctx, spec, &resolved)?;
        let population = population(spec);
        if population.is_some() && !resolved.options.access_modes.iter().any(|mode| mode.writes()) {
            let message = format!(
                "claim {} is only to be read, so nobody could fill its volume: ask for a mode that writes, too",
                spec.id
            );
            return Err(Error::invalid("claim", message));
        }
        let name = self.free_name(view, txn, ctx, &spec.id)?;
        let key = VolumeKey::new(ctx.tenant().clone(), name.clone());
        let (provider, name_of) = (resolved.provider, token(ctx, &key));
        let volume = Volume {
            class: spec.class.clone(),
            size: spec.size,
            options: resolved.options,
            reclaim: resolved.reclaim,
            claim: Some(spec.id.clone()),
            source,
            population,
            requirement: resolved.requirement,
            spread_over: spec.spread_over.clone(),
            phase: VolumePhase::Creating,
            token: name_of,
            reservations,
            charged: spec.size,
            ..Volume::new(key, provider)
        };
        let at = volume_at(&volume.key)?;
        volumes()?.create(view, txn, at.clone(), &volume)?;
        work_on(view, txn, &at, true)?;
        Ok(name)
    }

    /// The claim's own name, or, if a volume of that name was kept, the name with a number.
    fn free_name(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        claim: &ClaimId,
    ) -> Result<VolumeId> {
        for number in 1..NAMES {
            let name = if number == 1 { claim.to_string() } else { format!("{claim}-{number}") };
            let Ok(name) = VolumeId::new(&name) else { break };
            let at = volume_at(&VolumeKey::new(ctx.tenant().clone(), name.clone()))?;
            // Snapshots outlive their volume and keep its name.
            let kept = snapshots()?.below([ctx.tenant().to_string().as_str(), name.as_str()])?;
            match volumes()?.get(view, txn, &at)? {
                None if snapshots()?.list(view, txn, &kept)?.is_empty() => return Ok(name),
                None => {}
                Some(taken) => volumes()?.expect(txn, &taken)?,
            }
        }
        let message = format!(
            "every name for a volume of claim {claim} is taken by volumes that were kept: delete some"
        );
        Err(Error::new(ErrorKind::AlreadyExists, "claim", message))
    }

    fn source(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        spec: &ClaimSpec,
        resolved: &Resolved,
    ) -> Result<Option<SourceKey>> {
        let (source, provider, size) = match &spec.source {
            // Whoever fills it knows whether it is large enough.
            None | Some(ClaimSource::Populator { .. }) => return Ok(None),
            Some(ClaimSource::Snapshot { volume, snapshot }) => {
                let key =
                    SnapshotKey::new(VolumeKey::new(ctx.tenant().clone(), volume.clone()), snapshot.clone());
                let missing =
                    || Error::not_found("claim", format!("volume {volume} has no snapshot {snapshot}"));
                let found = snapshots()?.get(view, txn, &snapshot_at(&key)?)?.ok_or_else(missing)?;
                if matches!(found.phase, SnapshotPhase::Deleting | SnapshotPhase::Failed(_)) {
                    return Err(missing());
                }
                // Whoever removes it meanwhile decides again.
                snapshots()?.expect(txn, &found)?;
                (SourceKey::Snapshot(key), found.provider.clone(), found.size)
            }
            Some(ClaimSource::Claim(claim)) => {
                let found = self.volume(view, txn, ctx, claim)?;
                found.check_filled("claim")?;
                // Its end waits until the clone is made.
                volumes()?.update(txn, &found, &Volume { cloned: true, ..(*found.value).clone() })?;
                (SourceKey::Volume(found.key.clone()), found.provider.clone(), found.size)
            }
        };
        if provider != resolved.provider {
            let message = format!(
                "the source is at provider {provider}, and the volume would be at {}: have a populator copy it, or choose another class",
                resolved.provider
            );
            return Err(Error::new(ErrorKind::Unsupported, "claim", message));
        }
        if spec.size < size {
            let message =
                format!("the source has {size}, and claim {} asks for {}: ask for more", spec.id, spec.size);
            return Err(Error::invalid("claim", message));
        }
        Ok(Some(source))
    }
}

/// What the volume of a claim is to be filled with.
fn population(spec: &ClaimSpec) -> Option<Population> {
    let Some(ClaimSource::Populator { populator, from }) = &spec.source else { return None };
    Some(Population { populator: populator.clone(), from: from.clone(), failed: None })
}

/// Whether an offered volume will do for the claim.
fn fits(offer: &Offer, spec: &ClaimSpec, wanted: &VolumeOptions, node: Option<&Topology>) -> bool {
    let there = |place: &Topology| node.is_none_or(|node| place.covers(node));
    offer.size >= spec.size
        && spec.source.is_none()
        && spec.volume.as_ref().is_none_or(|only| *only == offer.volume.volume)
        && spec.selector.as_ref().is_none_or(|selector| selector.matches(&offer.labels))
        && wanted.access_modes.is_subset(&offer.access_modes)
        && (offer.encryption || !wanted.encryption)
        && offer.replicas >= wanted.replicas
        && spec.provider.as_ref().is_none_or(|provider| *provider == offer.provider)
        && (offer.topology.is_empty() || offer.topology.iter().any(there))
        && is_allowed(&offer.topology, &spec.allowed_topologies)
        && spec
            .spread_over
            .as_ref()
            .is_none_or(|segment| apart(&offer.topology, segment).len() >= usize::from(wanted.replicas.get()))
}

/// The places of a new volume before it is known who uses it: those that are far enough apart are preferred.
fn spread(spec: &ClaimSpec, options: &VolumeOptions, places: &[Topology]) -> Result<TopologyRequirement> {
    let mut requirement = requirement(places, None);
    let Some(segment) = &spec.spread_over else { return Ok(requirement) };
    let (apart, copies) = (apart(places, segment), usize::from(options.replicas.get()));
    if !places.is_empty() && apart.len() < copies {
        let message = format!(
            "the {copies} copies of claim {} are to differ in {segment}, and it may only be in {}",
            spec.id,
            in_words(places)
        );
        return Err(Error::invalid("claim", message));
    }
    requirement.preferred = apart.into_iter().cloned().collect();
    Ok(requirement)
}

/// A place for each node that would do, and those that the class allows.
pub(super) fn requirement(places: &[Topology], node: Option<&Topology>) -> TopologyRequirement {
    match node {
        None => TopologyRequirement::new(places.to_vec(), Vec::new()),
        Some(node) if node.is_everywhere() => TopologyRequirement::new(places.to_vec(), Vec::new()),
        Some(node) => TopologyRequirement::new(vec![node.clone()], vec![node.clone()]),
    }
}
