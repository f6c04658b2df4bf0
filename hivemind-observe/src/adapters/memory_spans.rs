//! Spans in a list: for tests, examples, and a host that shows the latest itself.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hivemind_core::{Result, async_trait};

use crate::SpanExporter;
use crate::trace::{Attributes, SpanData};

/// The latest spans, in the order in which they came.
#[derive(Debug)]
pub struct MemorySpans {
    most: usize,
    spans: Mutex<VecDeque<SpanData>>,
}

impl MemorySpans {
    /// Keeps so many; the oldest go first.
    pub fn new(most: usize) -> Self {
        Self { most, spans: Mutex::default() }
    }

    /// All it keeps.
    pub fn spans(&self) -> Vec<SpanData> {
        self.lock().iter().cloned().collect()
    }

    /// The same, which it no longer keeps.
    pub fn take(&self) -> Vec<SpanData> {
        self.lock().drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SpanData>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SpanExporter for MemorySpans {
    async fn export(&self, _: &Attributes, spans: &[SpanData]) -> Result<()> {
        let mut kept = self.lock();
        kept.extend(spans.iter().cloned());
        let over = kept.len().saturating_sub(self.most);
        kept.drain(..over);
        Ok(())
    }
}
