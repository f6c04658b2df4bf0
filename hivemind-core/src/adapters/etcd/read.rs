//! Gets and scans: the records and the newest revision, as of one instant.

use etcd_client::{GetOptions, GetResponse, Txn as EtcdTxn, TxnOp, TxnOpResponse, TxnResponse, WatchOptions};

use super::Inner;
use super::failure::{Class, Failure};
use super::layout::Range;
use super::txn::no_clock;
use super::wire;
use crate::store::{Compacted, FutureRevision, Key, Record, Revision, ScanPage, ScanRequest};
use crate::{Error, ErrorKind, Result};

/// How many records a page has when the caller leaves it open.
const PAGE: usize = 1000;

/// The largest reply that is taken in.
const MAX_REPLY: usize = 64 << 20;

/// What a range holds, and the newest revision of the namespace.
struct View {
    found: GetResponse,
    newest: Revision,
}

impl Inner {
    pub(super) async fn newest(&self, operation: &'static str) -> Result<Revision> {
        let clock = self.space.clock();
        let found = self.connection.repeatable(|session| async move {
            let options = GetOptions::new().with_keys_only();
            Ok(session.client.kv_client().get(clock, Some(options)).await?)
        });
        let found = found.await.map_err(|e| e.of_read(operation))?;
        wire::last_put(&found).ok_or_else(|| no_clock(operation))
    }

    pub(super) async fn get(&self, key: &Key, at: Option<Revision>) -> Result<Option<Record>> {
        let range = Range { start: self.space.record(key), end: None };
        let found = self.view("get", &range, at, 1).await?.found.take_kvs().pop();
        found.map_or(Ok(None), |found| wire::record(&self.space, found))
    }

    pub(super) async fn scan(&self, request: &ScanRequest) -> Result<ScanPage> {
        let range = self.space.records(&request.prefix, request.after.as_ref());
        let limit = request.limit.unwrap_or(PAGE).max(1);
        let mut view = self.view("scan", &range, request.at, limit).await?;
        let more = view.found.more();
        let mut records = Vec::new();
        for found in view.found.take_kvs() {
            records.extend(wire::record(&self.space, found)?);
        }
        Ok(ScanPage::new(request.at.unwrap_or(view.newest), records, more))
    }

    /// The first records of a range as of `at`, at most `limit`; fewer if they are large.
    async fn view(
        &self,
        operation: &'static str,
        range: &Range,
        at: Option<Revision>,
        mut limit: usize,
    ) -> Result<View> {
        let (failure, at) = loop {
            match (self.read(range, at, limit).await, at) {
                (Ok(reply), at) => return Self::check(operation, &reply, at),
                (Err(e), _) if e.class == Class::TooLong && limit > 1 => limit = limit.min(PAGE) / 2,
                (Err(e), Some(at)) => break (e, at),
                (Err(e), None) => return Err(e.of_read(operation)),
            }
        };
        Err(match failure.class {
            Class::Future => future(operation, at, self.newest(operation).await?),
            Class::Compacted => self.expired(operation, at, wire::number(at)).await?,
            _ => failure.of_read(operation),
        })
    }

    /// A range as of `at`, and the clock as of now.
    async fn read(&self, range: &Range, at: Option<Revision>, limit: usize) -> Result<TxnResponse, Failure> {
        let mut options = GetOptions::new().with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Some(at) = at {
            // To etcd zero is the newest; at one, every etcd is empty.
            options = options.with_revision(wire::number(at).max(1));
        }
        let clock = TxnOp::get(self.space.clock(), Some(GetOptions::new().with_keys_only()));
        let request = EtcdTxn::new().and_then([wire::get(range, options), clock]);
        let reply = self.connection.repeatable(|session| {
            let request = request.clone();
            let mut client = session.client.kv_client().max_decoding_message_size(MAX_REPLY);
            async move { Ok(client.txn(request).await?) }
        });
        reply.await
    }

    fn check(operation: &'static str, reply: &TxnResponse, at: Option<Revision>) -> Result<View> {
        let mut answers = reply.op_responses().into_iter();
        let (Some(TxnOpResponse::Get(found)), Some(TxnOpResponse::Get(clock))) =
            (answers.next(), answers.next())
        else {
            return Err(wire::broken(operation, "it read something else than it was asked to"));
        };
        let newest = wire::last_put(&clock).ok_or_else(|| no_clock(operation))?;
        // Other namespaces may have brought etcd further.
        match at.filter(|at| *at > newest) {
            Some(at) => Err(future(operation, at, newest)),
            None => Ok(View { found, newest }),
        }
    }

    /// Whether everything after `at` can still be watched: `at` itself is not compacted away.
    pub(super) async fn is_there(&self, at: i64) -> Result<bool, Failure> {
        let clock = self.space.clock();
        let found = self.connection.repeatable(|session| async move {
            let options = GetOptions::new().with_keys_only().with_revision(at.max(1));
            Ok(session.client.kv_client().get(clock, Some(options)).await?)
        });
        match found.await {
            Ok(_) => Ok(true),
            Err(e) if e.class == Class::Future => Ok(true),
            Err(e) if e.class == Class::Compacted => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The error for `asked`. Only a watch is told what the oldest revision is: one from `gone`, which is compacted.
    pub(super) async fn expired(&self, operation: &'static str, asked: Revision, gone: i64) -> Result<Error> {
        let clock = self.space.clock();
        let oldest = self.connection.repeatable(|session| async move {
            let options = WatchOptions::new().with_start_revision(gone.max(1));
            let mut stream = session.client.watch_client().watch(clock, Some(options)).await?;
            while let Some(told) = stream.message().await? {
                if told.compact_revision() > 0 {
                    return Ok(told.compact_revision());
                }
                if told.canceled() {
                    break;
                }
            }
            Err(Failure::new(Class::Lost, "etcd does not say what the oldest revision is"))
        });
        let oldest = oldest.await.map_err(|e| e.of_read(operation))?;
        let detail = Compacted::new(asked, wire::revision(oldest));
        Ok(Error::of(ErrorKind::Expired, operation, detail))
    }
}

pub(super) fn future(operation: &'static str, asked: Revision, newest: Revision) -> Error {
    Error::of(ErrorKind::Invalid, operation, FutureRevision::new(asked, newest))
}
