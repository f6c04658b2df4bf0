//! Existing records become tenants', in steps, and go back on demand. No I/O, no clock, no async.

mod journal;
mod plan;
mod problem;
mod resource;
mod rule;
mod steps;
mod verdict;

use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{Error, ErrorKind, RequestId, Result, TenantContext, TenantRef};
use serde::{Deserialize, Serialize};

use self::journal::{State, journal, kept, state_key, states};
pub use self::plan::{AdoptionPlan, PlannedMove};
pub use self::problem::{AdoptionProblem, LeftBehind, Unresolved};
pub use self::resource::{Adoptable, AdoptableResource, AdoptedRecord};
pub use self::rule::AdoptionRule;
use crate::living::system_only;

/// The most resources of one step: with a tenant for each, and a journal, the store's limit on operations.
const MAX_STEP: usize = 40;
/// The most rules of one adoption: they are kept in one record.
const MAX_RULES: usize = 500;

/// Where an adoption is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AdoptionPhase {
    /// There is more to move.
    #[default]
    Running,
    /// All is moved or reported.
    Done,
    /// There is more to put back.
    Undoing,
    /// All is put back or reported.
    Undone,
    /// Its journal is being forgotten: there is nothing to move or to put back any more.
    Forgetting,
}

/// A resource that went from one place to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdoptedMove {
    /// Where it was.
    pub from: Key,
    /// Where it is.
    pub to: Key,
    /// Whose it became, or was until it was put back.
    pub tenant: TenantRef,
}

/// What one step did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdoptionStep {
    /// Where the adoption is after it.
    pub phase: AdoptionPhase,
    /// What it moved, or put back.
    pub moved: Vec<AdoptedMove>,
    /// What it left as it is, and why.
    pub left: Vec<LeftBehind>,
}

/// Where an adoption is, and what became of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdoptionStatus {
    /// Where it is.
    pub phase: AdoptionPhase,
    /// How many resources were to be moved, by the plan.
    pub planned: u64,
    /// How many were moved.
    pub moved: u64,
    /// How many of them were put back.
    pub restored: u64,
    /// What was left as it is and is so still, or could not be put back; in the order of steps.
    pub left: Vec<LeftBehind>,
}

/// Gives existing records to tenants.
///
/// 1. [`plan`](Self::plan) is a dry run: what would go where, what is in the way, what no rule speaks of.
/// 2. [`stage_start`](Self::stage_start) keeps the rules and the revision of the plan. Nothing else is kept: a record
///    that is the same since then gets the same verdict, and one that is not is reported and left alone.
/// 3. [`stage_step`](Self::stage_step) moves as many as fit one transaction, with where it got to and what was there
///    before. The host commits it, reads, and stages the next, until it is [`Done`](AdoptionPhase::Done). After a crash
///    it just goes on: a step has happened or it has not.
/// 4. [`stage_undo`](Self::stage_undo) puts the last step back, byte for byte, until it is
///    [`Undone`](AdoptionPhase::Undone): at any time, until [`stage_forget`](Self::stage_forget).
///
/// A step says what it moved, so that a host charges quota for it in the same transaction. All operations are pure, are
/// for the system tenant's context, and need a view of everything below [`prefix`](crate::prefix) and of the host's
/// records, as of one revision.
///
/// ```
/// use std::sync::Arc;
/// use hivemind_core::store::{Key, Prefix, Record, Txn};
/// use hivemind_core::{block_on, MemoryStore, Principal, Result, StateStore, StateStoreExt};
/// use hivemind_core::{SystemClock, SystemIds, TenantContext, TenantRef};
/// use hivemind_tenancy::Adoption;
/// use hivemind_tenancy::adoption::{Adoptable, AdoptableResource, AdoptedRecord, AdoptionPhase, AdoptionRule};
/// use hivemind_tenancy::{TenantManager, TenantSpec};
///
/// /// Volumes at `volumes/<name>`, which hold whose they are, or nothing.
/// #[derive(Debug)]
/// struct Volumes;
/// impl Adoptable for Volumes {
///     fn prefix(&self) -> Prefix {
///         Prefix::new(["volumes"]).expect("a constant")
///     }
///     fn describe(&self, record: &Record) -> Result<Option<AdoptableResource>> {
///         let name = record.key.last().escape_ascii().to_string();
///         let volume = AdoptableResource::new("volumes".parse().expect("a constant"), name);
///         let owner = String::from_utf8_lossy(&record.value).parse().ok();
///         Ok(Some(match owner {
///             Some(owner) => volume.of(owner),
///             None => volume,
///         }))
///     }
///     fn adopt(&self, record: &Record, tenant: &TenantRef) -> Result<AdoptedRecord> {
///         Ok(AdoptedRecord::new(record.key.clone(), tenant.to_string()))
///     }
/// }
///
/// # block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let tenants = TenantManager::new(store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds::new()));
/// let operator = Principal::User("root".parse()?);
/// let ctx = TenantContext::new(TenantRef::system(), operator, "req-1".parse()?);
/// let acme = tenants.create(&ctx, TenantSpec::new("acme".parse()?)).await?.tenant;
/// let mut txn = Txn::new();
/// txn.put(Key::new(["volumes", "acme-data"])?, "");
/// txn.put(Key::new(["volumes", "scratch"])?, "");
/// store.commit(&txn).await?;
///
/// let adoption = Adoption::new();
/// let view = store.snapshot(&[Prefix::ROOT]).await?;
/// let plan = adoption.plan(&view, &ctx, &Volumes, &[AdoptionRule::to(acme).named_like("acme-")])?;
/// assert_eq!((plan.moves.len(), plan.unmatched.len(), plan.problems.len()), (1, 1, 0));
/// let mut txn = Txn::new();
/// adoption.stage_start(&view, &mut txn, &ctx, ctx.request(), &plan)?;
/// store.commit(&txn).await?;
/// loop {
///     let (view, mut txn) = (store.snapshot(&[Prefix::ROOT]).await?, Txn::new());
///     let step = adoption.stage_step(&view, &mut txn, &ctx, ctx.request(), &Volumes)?;
///     store.commit(&txn).await?;
///     if step.phase == AdoptionPhase::Done {
///         break;
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Adoption {
    limit: usize,
}

impl Default for Adoption {
    fn default() -> Self {
        Self { limit: MAX_STEP }
    }
}

impl Adoption {
    /// Steps as large as the store takes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps of at most `resources`, from 1 to 40: to leave room for what a host stages beside them.
    #[must_use]
    pub fn with_step(mut self, resources: usize) -> Self {
        self.limit = resources.clamp(1, MAX_STEP);
        self
    }

    /// What an adoption by `rules` would do. Nothing is staged.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] outside the system tenant's context, [`ErrorKind::Corrupt`] if a tenant cannot be read.
    pub fn plan(
        &self,
        view: &Snapshot,
        ctx: &TenantContext,
        host: &dyn Adoptable,
        rules: &[AdoptionRule],
    ) -> Result<AdoptionPlan> {
        system_only(ctx, "plan adoption")?;
        plan::plan(view, host, rules)
    }

    /// Stages that the adoption `id` goes by `plan`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with [`Unresolved`] as detail if the plan has problems and does not
    /// [leave](AdoptionPlan::leaving_problems) them, or if it moves nothing, has too many rules, or is of a later
    /// state than `view`; [`ErrorKind::AlreadyExists`] if there is an adoption `id`; [`ErrorKind::Denied`] outside the
    /// system tenant's context.
    pub fn stage_start(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &RequestId,
        plan: &AdoptionPlan,
    ) -> Result<()> {
        const OPERATION: &str = "start adoption";
        system_only(ctx, OPERATION)?;
        if let Some(first) = plan.problems.first().filter(|_| !plan.leave_problems) {
            let detail = Unresolved { count: plan.problems.len(), first: first.clone() };
            return Err(Error::of(ErrorKind::Invalid, OPERATION, detail));
        }
        if plan.moves.is_empty() {
            return Err(Error::invalid(OPERATION, "the plan moves nothing: give rules that match something"));
        }
        if plan.rules.len() > MAX_RULES {
            let message = format!("{} rules; {MAX_RULES} at most: split the adoption", plan.rules.len());
            return Err(Error::invalid(OPERATION, message));
        }
        if plan.revision > view.revision() {
            let message =
                format!("the plan is of revision {}, the view of {}", plan.revision, view.revision());
            return Err(Error::invalid(OPERATION, message));
        }
        let state = State {
            rules: plan.rules.clone(),
            planned: plan.revision,
            planned_moves: u64::try_from(plan.moves.len()).unwrap_or(u64::MAX),
            phase: AdoptionPhase::Running,
            cursor: None,
            batches: 0,
            moved: 0,
            restored: 0,
        };
        states()?.create(view, txn, state_key(id)?, &state)
    }

    /// Stages the next step. One that is done changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no adoption `id`, [`ErrorKind::Invalid`] if it is being undone,
    /// [`ErrorKind::Denied`] outside the system tenant's context.
    pub fn stage_step(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &RequestId,
        host: &dyn Adoptable,
    ) -> Result<AdoptionStep> {
        system_only(ctx, "adopt")?;
        let state = steps::load(view, txn, id)?;
        match state.phase {
            AdoptionPhase::Running => steps::forward(view, txn, host, id, &state, self.limit),
            AdoptionPhase::Done => Ok(AdoptionStep { phase: state.phase, ..AdoptionStep::default() }),
            AdoptionPhase::Undoing | AdoptionPhase::Undone => {
                Err(Error::invalid("adopt", format!("adoption {id} has been undone: start another")))
            }
            AdoptionPhase::Forgetting => Err(forgotten("adopt", id)),
        }
    }

    /// Stages that the last step is undone. One that is undone changes nothing.
    ///
    /// What has been changed since it was adopted is reported and left alone, and what it was before is kept.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no adoption `id`, [`ErrorKind::Corrupt`] if its journal is damaged,
    /// [`ErrorKind::Denied`] outside the system tenant's context.
    pub fn stage_undo(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &RequestId,
    ) -> Result<AdoptionStep> {
        system_only(ctx, "undo adoption")?;
        let state = steps::load(view, txn, id)?;
        match state.phase {
            AdoptionPhase::Running | AdoptionPhase::Done | AdoptionPhase::Undoing => {
                steps::back(view, txn, id, &state)
            }
            AdoptionPhase::Undone => Ok(AdoptionStep { phase: state.phase, ..AdoptionStep::default() }),
            AdoptionPhase::Forgetting => Err(forgotten("undo adoption", id)),
        }
    }

    /// Stages that part of the journal of an adoption that is done or undone is forgotten; returns whether all of it is.
    /// There is no undo any more.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no adoption `id`, [`ErrorKind::Invalid`] if it is neither done nor undone,
    /// [`ErrorKind::Denied`] outside the system tenant's context.
    pub fn stage_forget(
        &self,
        view: &Snapshot,
        txn: &mut Txn,
        ctx: &TenantContext,
        id: &RequestId,
    ) -> Result<bool> {
        system_only(ctx, "forget adoption")?;
        let state = steps::load(view, txn, id)?;
        if matches!(state.phase, AdoptionPhase::Running | AdoptionPhase::Undoing) {
            return Err(Error::invalid("forget adoption", format!("adoption {id} has not come to an end")));
        }
        let mut room = self.limit;
        for records in [journal()?, kept()?] {
            for batch in records.list(view, txn, &records.below([id.as_str()])?)? {
                if room == 0 {
                    // A journal with a gap is not for an undo.
                    let forgetting = State { phase: AdoptionPhase::Forgetting, ..(*state.value).clone() };
                    return states()?.update(txn, &state, &forgetting).map(|()| false);
                }
                records.delete(txn, &batch)?;
                room -= 1;
            }
        }
        states()?.delete(txn, &state)?;
        Ok(true)
    }

    /// Where the adoption `id` is, and what it left.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no adoption `id`, [`ErrorKind::Denied`] outside the system tenant's context.
    pub fn status(&self, view: &Snapshot, ctx: &TenantContext, id: &RequestId) -> Result<AdoptionStatus> {
        system_only(ctx, "status of adoption")?;
        let nothing = Txn::new();
        let state = steps::load(view, &nothing, id)?;
        let mut left = Vec::new();
        for batch in journal()?.list(view, &nothing, &journal()?.below([id.as_str()])?)? {
            left.extend(batch.left.iter().cloned());
        }
        for batch in kept()?.list(view, &nothing, &kept()?.below([id.as_str()])?)? {
            for lost in &batch.moved {
                left.push(LeftBehind::new(lost.to.key()?, AdoptionProblem::ChangedSinceAdoption));
            }
        }
        let State { phase, planned_moves, moved, restored, .. } = &*state.value;
        Ok(AdoptionStatus {
            phase: *phase,
            planned: *planned_moves,
            moved: *moved,
            restored: *restored,
            left,
        })
    }
}

fn forgotten(operation: &'static str, id: &RequestId) -> Error {
    Error::invalid(
        operation,
        format!("the journal of adoption {id} is being forgotten: there is no way back"),
    )
}
