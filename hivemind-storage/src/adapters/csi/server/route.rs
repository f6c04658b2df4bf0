//! From a request of HTTP/2 to the method that answers it. Written by hand, so that no build needs `protoc`.

use std::pin::Pin;

use http::Request as HttpRequest;
use http::Response as HttpResponse;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::CsiServer;

/// One method, as tonic wants it.
struct Method<F>(F);

impl<F, I, O> UnaryService<I> for Method<F>
where
    F: FnMut(I) -> tokio::task::JoinHandle<Result<O, Status>>,
    O: Send + 'static,
{
    type Response = O;
    type Future = Pin<Box<dyn Future<Output = Result<Response<O>, Status>> + Send>>;

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let task = (self.0)(request.into_inner());
        Box::pin(async move {
            // A panic, or the runtime ended.
            let done = task.await.unwrap_or_else(|_| Err(Status::unknown("the call was broken off")));
            done.map(Response::new)
        })
    }
}

macro_rules! routes {
    ($server:ident, $request:ident, $($path:literal => $method:ident,)*) => {
        match $request.uri().path() {
            $($path => {
                // In a task of its own: a caller that hangs up must not leave half a volume.
                let method = Method(move |message| {
                    let server = $server.clone();
                    tokio::spawn(async move { server.$method(message).await })
                });
                Grpc::new(ProstCodec::default()).unary(method, $request).await
            })*
            unknown => Status::unimplemented(format!("there is no method {unknown}")).into_http(),
        }
    };
}

/// Answers one request.
pub(super) async fn route(server: CsiServer, request: HttpRequest<Incoming>) -> HttpResponse<Body> {
    routes! { server, request,
        "/csi.v1.Identity/GetPluginInfo" => plugin_info,
        "/csi.v1.Identity/GetPluginCapabilities" => plugin_capabilities,
        "/csi.v1.Identity/Probe" => probe,
        "/csi.v1.Controller/ControllerGetCapabilities" => controller_capabilities,
        "/csi.v1.Controller/CreateVolume" => create_volume,
        "/csi.v1.Controller/DeleteVolume" => delete_volume,
        "/csi.v1.Controller/ControllerPublishVolume" => publish_volume,
        "/csi.v1.Controller/ControllerUnpublishVolume" => unpublish_volume,
        "/csi.v1.Controller/ValidateVolumeCapabilities" => validate_volume,
        "/csi.v1.Controller/ListVolumes" => list_volumes,
        "/csi.v1.Controller/GetCapacity" => get_capacity,
        "/csi.v1.Controller/CreateSnapshot" => create_snapshot,
        "/csi.v1.Controller/DeleteSnapshot" => delete_snapshot,
        "/csi.v1.Controller/ListSnapshots" => list_snapshots,
        "/csi.v1.Controller/GetSnapshot" => get_snapshot,
        "/csi.v1.Controller/ControllerExpandVolume" => expand_volume,
        "/csi.v1.Controller/ControllerGetVolume" => get_volume,
        "/csi.v1.Controller/ControllerModifyVolume" => modify_volume,
        "/csi.v1.GroupController/GroupControllerGetCapabilities" => group_capabilities,
        "/csi.v1.GroupController/CreateVolumeGroupSnapshot" => create_group,
        "/csi.v1.GroupController/DeleteVolumeGroupSnapshot" => delete_group,
        "/csi.v1.GroupController/GetVolumeGroupSnapshot" => get_group,
        "/csi.v1.Node/NodeGetCapabilities" => node_capabilities,
        "/csi.v1.Node/NodeGetInfo" => node_info,
        "/csi.v1.Node/NodeStageVolume" => stage,
        "/csi.v1.Node/NodeUnstageVolume" => unstage,
        "/csi.v1.Node/NodePublishVolume" => publish,
        "/csi.v1.Node/NodeUnpublishVolume" => unpublish,
        "/csi.v1.Node/NodeGetVolumeStats" => stats,
        "/csi.v1.Node/NodeExpandVolume" => expand,
    }
}
