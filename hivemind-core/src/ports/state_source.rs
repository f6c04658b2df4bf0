//! What a backup reads.

use std::fmt;

use async_trait::async_trait;

use crate::Result;
use crate::store::{Revision, ScanPage, ScanRequest};

/// State that can be read as of one revision.
///
/// # Contract
///
/// All pages read at one revision together are the state as of that revision, exactly. A revision that is gone fails
/// with [`Expired`](crate::ErrorKind::Expired). Every [`StateStore`](crate::StateStore) is a source.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StateSource: fmt::Debug + Send + Sync + 'static {
    /// The newest revision.
    async fn source_revision(&self) -> Result<Revision>;

    /// One page of records.
    async fn read_page(&self, request: &ScanRequest) -> Result<ScanPage>;
}

#[async_trait]
impl StateSource for std::sync::Arc<dyn crate::StateStore> {
    async fn source_revision(&self) -> Result<Revision> {
        self.revision().await
    }

    async fn read_page(&self, request: &ScanRequest) -> Result<ScanPage> {
        self.scan(request).await
    }
}
