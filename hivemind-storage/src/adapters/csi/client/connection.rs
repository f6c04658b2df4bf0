//! A connection to a CSI driver, which is made when it is needed, and what the driver says of itself.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hivemind_core::{Error, ErrorKind, Result, Retry};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::super::wire::{self, numbers};
use super::failure::{broken, of_read};
use super::options::CsiOptions;
use super::runtime::Io;
use super::scrub;
use crate::{SecretQuery, SecretSource, Secrets};

/// What a CSI driver says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginInfo {
    /// The name of the driver, such as `disk.csi.example.com`.
    pub name: String,
    /// Its version; opaque.
    pub version: String,
}

/// A driver that answered.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    channel: Channel,
    timeout: Duration,
    io: Io,
    secrets: Option<Arc<dyn SecretSource>>,
}

/// Makes connections to one socket.
#[derive(Debug, Clone)]
struct Dial(PathBuf);

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}

impl Connection {
    /// Connects to a driver that is ready and speaks our version, and asks who it is.
    pub(super) async fn new(options: &CsiOptions) -> Result<(Self, PluginInfo)> {
        let io = Io::new(options.runtime.clone())?;
        // HTTP/2 stacks refuse the path of a socket as an authority: it is always `localhost`.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(options.timeout);
        let channel = io.enter(|| endpoint.connect_with_connector_lazy(Dial(options.socket.clone())));
        let connection = Self { channel, timeout: options.timeout, io, secrets: options.secrets.clone() };
        connection.probe().await?;
        let info: wire::GetPluginInfoResponse =
            connection.read("connect", "/csi.v1.Identity/GetPluginInfo", wire::Empty {}).await?;
        if info.name.is_empty() {
            return Err(broken("connect", "it has no name"));
        }
        let info = PluginInfo { name: info.name, version: info.vendor_version };
        options.admits(&info)?;
        Ok((connection, info))
    }

    /// What a call has to carry: what the host keeps for it, and `own`, which comes first.
    pub(super) async fn secrets(&self, query: SecretQuery, own: &Secrets) -> Result<Secrets> {
        let kept = match &self.secrets {
            Some(source) => source.secrets(&query).await?,
            None => Secrets::none(),
        };
        Ok(own.iter().fold(kept, |all, (name, secret)| all.with(name, secret.clone())))
    }

    /// Calls one method with a message that carries `secrets`: what goes wrong does not tell them.
    pub(super) async fn call_with<I, O>(
        &self,
        path: &'static str,
        secrets: &Secrets,
        message: I,
    ) -> Result<O, Status>
    where
        I: prost::Message + 'static,
        O: prost::Message + Default + 'static,
    {
        self.call(path, message).await.map_err(|status| scrub::status(status, secrets))
    }

    /// Calls one method.
    pub(super) async fn call<I, O>(&self, path: &'static str, message: I) -> Result<O, Status>
    where
        I: prost::Message + 'static,
        O: prost::Message + Default + 'static,
    {
        let (channel, timeout) = (self.channel.clone(), self.timeout);
        let work = async move {
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let mut request = Request::new(message);
            request.set_timeout(timeout);
            let path = PathAndQuery::from_static(path);
            let call = grpc.unary(request, path, ProstCodec::<I, O>::default());
            // A driver need not heed the timeout that it is told.
            match tokio::time::timeout(timeout, call).await {
                Ok(outcome) => outcome.map(tonic::Response::into_inner),
                Err(_) => Err(Status::deadline_exceeded(format!("there was no answer within {timeout:?}"))),
            }
        };
        self.io.run(work).await
    }

    /// Calls a method that changes nothing.
    pub(super) async fn read<I, O>(
        &self,
        operation: &'static str,
        path: &'static str,
        message: I,
    ) -> Result<O>
    where
        I: prost::Message + 'static,
        O: prost::Message + Default + 'static,
    {
        self.call(path, message).await.map_err(|status| of_read(operation, status))
    }

    /// Whether the driver is ready.
    pub(super) async fn probe(&self) -> Result<()> {
        let probed: Result<wire::ProbeResponse, Status> =
            self.call("/csi.v1.Identity/Probe", wire::Empty {}).await;
        match probed {
            Ok(probed) if probed.ready == Some(false) => {
                let error = Error::new(ErrorKind::Unavailable, "probe", "the CSI driver is not ready yet");
                Err(error.with_retry(Retry::Later))
            }
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::FailedPrecondition => {
                let message = format!("the CSI driver is not healthy: {}", status.message());
                Err(Error::new(ErrorKind::Unavailable, "probe", message).with_source(status))
            }
            Err(status) if status.code() == Code::Unimplemented => {
                let message = "whoever listens there does not speak CSI 1 (csi.v1)";
                Err(Error::new(ErrorKind::Unsupported, "probe", message).with_source(status))
            }
            Err(status) => Err(of_read("probe", status)),
        }
    }

    /// The RPCs that a service says it has.
    pub(super) async fn rpcs(&self, path: &'static str) -> Result<BTreeSet<i32>> {
        let able: wire::CapabilitiesResponse = self.read("connect", path, wire::Empty {}).await?;
        Ok(able
            .capabilities
            .into_iter()
            .filter_map(|capability| capability.rpc)
            .map(|rpc| rpc.kind)
            .collect())
    }

    /// What the driver as a whole can do.
    pub(super) async fn plugin(&self) -> Result<Plugin> {
        let able: wire::GetPluginCapabilitiesResponse =
            self.read("connect", "/csi.v1.Identity/GetPluginCapabilities", wire::Empty {}).await?;
        let service = |kind| {
            able.capabilities.iter().any(|one| one.service.as_ref().is_some_and(|one| one.kind == kind))
        };
        let grows = |kind| {
            able.capabilities
                .iter()
                .any(|one| one.volume_expansion.as_ref().is_some_and(|one| one.kind == kind))
        };
        Ok(Plugin {
            controller: service(numbers::plugin::CONTROLLER),
            groups: service(numbers::plugin::GROUP_CONTROLLER),
            topology: service(numbers::plugin::ACCESSIBILITY_CONSTRAINTS),
            online: grows(numbers::expansion::ONLINE),
        })
    }
}

/// What a driver as a whole can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plugin {
    pub(super) controller: bool,
    pub(super) groups: bool,
    pub(super) topology: bool,
    pub(super) online: bool,
}
