//! Spans as lines of OTLP in JSON, the format of OpenTelemetry's file exporter
//! (<https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/>).

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use hivemind_core::{Error, ErrorKind, Result, Retry, Worker, async_trait};

use crate::SpanExporter;
use crate::trace::{Attributes, SpanData, otlp_json};

/// Writes each batch as one line, which collectors read (`otlpjsonfile`) and Jaeger's page takes as a file.
///
/// Writing runs on a thread of its own. After a failure a line may be there in part, and comes again behind an end of
/// line: readers pass over what they cannot read.
#[derive(Clone)]
pub struct OtlpLines {
    out: Arc<Mutex<Out>>,
    worker: Worker,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// A line may not have ended.
    broken: bool,
}

impl fmt::Debug for OtlpLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpLines").finish_non_exhaustive()
    }
}

impl OtlpLines {
    /// Writes to `to`: a file that was opened for appending, a pipe, or bytes in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub fn new(to: impl Write + Send + 'static) -> Result<Self> {
        let out = Arc::new(Mutex::new(Out { to: Box::new(to), broken: false }));
        Ok(Self { out, worker: Worker::start("spans")? })
    }
}

impl Out {
    fn write(&mut self, line: &str) -> std::io::Result<()> {
        let begin: &[u8] = if self.broken { b"\n" } else { b"" };
        self.broken = true;
        self.to.write_all(begin)?;
        self.to.write_all(line.as_bytes())?;
        self.to.flush()?;
        self.broken = false;
        Ok(())
    }
}

#[async_trait]
impl SpanExporter for OtlpLines {
    async fn export(&self, resource: &Attributes, spans: &[SpanData]) -> Result<()> {
        if spans.is_empty() {
            return Ok(());
        }
        let mut line = otlp_json(resource, spans);
        line.push('\n');
        let out = Arc::clone(&self.out);
        let write = move || {
            out.lock().unwrap_or_else(PoisonError::into_inner).write(&line).map_err(|e| {
                Error::new(ErrorKind::Unavailable, "write spans", e.to_string())
                    .with_source(e)
                    .with_retry(Retry::Later)
            })
        };
        self.worker.run(write).await
    }
}
