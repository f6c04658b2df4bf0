//! Leader election by etcd's leases: who is alive is etcd's to say, who leads is a record like core's.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn as EtcdTxn, TxnOp, TxnOpResponse};

use super::client::Connection;
use super::failure::Failure;
use super::{EtcdStore, wire};
use crate::collection::Collection;
use crate::election::{Term, terms};
use crate::store::{Conflict, Key, Txn};
use crate::{
    ComponentName, Effect, Error, ErrorKind, IdSource, IdSourceExt, Leadership, Result, Standing, StateStore,
    StateStoreExt,
};

/// One candidate in an election, whose leader is succeeded when its lease in etcd runs out.
///
/// It is as [`Candidate`](crate::Candidate), and cheaper: a leader that is well writes no record, so no watch hears of
/// it. All candidates of one election must be of one of the two kinds. Call [`tick`](Self::tick) about three times per
/// lease. The fencing is the same, so a leader that lost its lease and does not know it yet cannot commit.
#[derive(Debug)]
pub struct EtcdCandidate {
    store: EtcdStore,
    me: Term,
    seconds: i64,
    terms: Collection<Term>,
    term_key: Key,
    /// In etcd: exists while its holder's lease does.
    alive_key: Vec<u8>,
    lease: Option<i64>,
}

impl EtcdCandidate {
    /// `name` stands for the election `election`; a leader silent for `lease` is succeeded. etcd counts leases in
    /// whole seconds, and makes them longer than its own election time-out.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a lease of zero.
    pub fn new(
        election: &ComponentName,
        name: ComponentName,
        lease: Duration,
        store: EtcdStore,
        ids: &dyn IdSource,
    ) -> Result<Self> {
        if lease.is_zero() {
            return Err(Error::invalid("candidate", "a lease of zero would change leaders all the time"));
        }
        let seconds = lease.as_secs().saturating_add(u64::from(lease.subsec_nanos() > 0));
        let (terms, term_key) = terms(election)?;
        let alive_key = store.inner.space.election(election.as_str());
        let me = Term { holder: name, candidate: ids.next_u64() };
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Ok(Self { store, me, seconds, terms, term_key, alive_key, lease: None })
    }

    /// Looks, and renews, takes over or waits. Repeat after a failure.
    ///
    /// # Errors
    /// Those of the store. A lost race is not one.
    pub async fn tick(&mut self) -> Result<Standing> {
        let alive = self.stay_alive().await?;
        let view = self.store.snapshot(&[self.terms.prefix().clone()]).await?;
        let mut txn = Txn::new();
        let term = self.terms.get(&view, &txn, &self.term_key)?;
        let leader = term.as_ref().map(|term| term.holder.clone());
        if !alive {
            return Ok(Standing::Follower { leader });
        }
        match &term {
            Some(term) if *term.value == self.me => {
                let revision = term.revision.unwrap_or_default();
                return Ok(Standing::Leader(Leadership::new(self.term_key.clone(), revision)));
            }
            Some(term) => self.terms.update(&mut txn, term, &self.me)?,
            None => self.terms.create(&view, &mut txn, self.term_key.clone(), &self.me)?,
        }
        match self.store.commit(&txn).await {
            Ok(revision) => Ok(Standing::Leader(Leadership::new(self.term_key.clone(), revision))),
            // Lost the race, or won it without hearing so: the next tick tells.
            Err(e) if e.detail::<Conflict>().is_some() || e.effect() == Effect::Unknown => {
                Ok(Standing::Follower { leader })
            }
            Err(other) => Err(other),
        }
    }

    /// Gives up leadership, so that a successor need not wait.
    ///
    /// # Errors
    /// Those of the store; the lease then runs out by itself.
    pub async fn resign(&mut self) -> Result<()> {
        let view = self.store.snapshot(&[self.terms.prefix().clone()]).await?;
        let mut txn = Txn::new();
        // The term first: what we have in flight must be fenced before anybody else leads.
        if let Some(term) = self.terms.get(&view, &txn, &self.term_key)?.filter(|term| *term.value == self.me)
        {
            self.terms.delete(&mut txn, &term)?;
            match self.store.commit(&txn).await {
                Err(e) if e.kind() != ErrorKind::Conflict => return Err(e),
                _ => {}
            }
        }
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let done = self.store.run("resign", move |inner| async move {
            let revoked = inner.connection.repeatable(|session| revoke(session, lease));
            revoked.await.map_err(|e| e.of_write("resign"))
        });
        done.await
    }

    /// Renews our lease, or gets one; and whether ours is the one that counts.
    async fn stay_alive(&mut self) -> Result<bool> {
        let (lease, seconds, key) = (self.lease, self.seconds, self.alive_key.clone());
        let holder = self.me.holder.to_string();
        let found = self.store.run("tick", move |inner| async move {
            let found = alive(&inner.connection, lease, seconds, &key, &holder).await;
            found.map_err(|e| e.of_read("tick"))
        });
        let (lease, ours) = found.await?;
        self.lease = Some(lease);
        Ok(ours)
    }
}

/// Renews `lease` or gets one; takes the key if it is free. The lease, and whether it holds the key.
async fn alive(
    connection: &Connection,
    lease: Option<i64>,
    seconds: i64,
    key: &[u8],
    holder: &str,
) -> Result<(i64, bool), Failure> {
    let lease = match lease {
        Some(lease) if renew(connection, lease).await? => lease,
        _ => {
            let granted = connection.repeatable(|session| async move {
                Ok(session.client.lease_client().grant(seconds, None).await?)
            });
            granted.await?.id()
        }
    };
    let request = EtcdTxn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key, holder, Some(PutOptions::new().with_lease(lease)))])
        .or_else([TxnOp::get(key, None)]);
    // Taking what is ours already finds it so; hence it may be repeated.
    let reply = connection.repeatable(|session| {
        let request = request.clone();
        async move { Ok(session.client.kv_client().txn(request).await?) }
    });
    let reply = reply.await?;
    let ours = match reply.op_responses().first() {
        Some(TxnOpResponse::Get(found)) => found.kvs().first().is_some_and(|kv| kv.lease() == lease),
        _ => reply.succeeded(),
    };
    Ok((lease, ours))
}

/// Whether `lease` was still there to be renewed.
async fn renew(connection: &Connection, lease: i64) -> Result<bool, Failure> {
    let renewed = connection.repeatable(|session| async move {
        match session.client.lease_client().keep_alive(lease).await {
            Ok(_) => Ok(true),
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(false),
            Err(e) => Err(Failure::from(e)),
        }
    });
    renewed.await
}

async fn revoke(session: super::client::Session, lease: i64) -> Result<(), Failure> {
    match session.client.lease_client().revoke(lease).await {
        Ok(_) => Ok(()),
        // It has run out by itself.
        Err(etcd_client::Error::GRpcStatus(e)) if i32::from(e.code()) == wire::NOT_FOUND => Ok(()),
        Err(e) => Err(e.into()),
    }
}
