//! Volumes brought to nodes and taken from them by the Controller service.

use hivemind_core::Error;
use tonic::Status;

use super::super::convert::{self, Map};
use super::super::{names, wire};
use super::refusal::{Call, answer, finished};
use super::{CsiServer, fields, missing};
use crate::{AttachVolume, Attachment, Capability, DetachVolume, NodeRef};

/// Under which name an attachment travels from the controller to the node.
const ATTACHMENT: &str = "hivemind/attachment";

/// What the node side is to be told, as a `publish_context`.
pub(super) fn publish_context(attachment: &Attachment) -> Result<Map, Status> {
    let text = serde_json::to_string(attachment).map_err(|e| Status::internal(e.to_string()))?;
    Ok(Map::from([(ATTACHMENT.to_owned(), text)]))
}

/// What the controller had to say; nothing if volumes are not brought to nodes.
pub(super) fn attachment(context: &Map) -> Result<Option<Attachment>, Status> {
    let Some(text) = context.get(ATTACHMENT) else { return Ok(None) };
    let read = serde_json::from_str(text).map_err(|e| Error::invalid("csi", e.to_string()));
    answer(Call::Other, read).map(Some)
}

impl CsiServer {
    fn node(&self, id: &str) -> Result<NodeRef, Status> {
        let node = names::node_ref(id).ok_or_else(|| missing("node", id))?;
        match &self.options.nodes {
            Some(known) if !known.contains(&node.handle) => Err(missing("node", id)),
            _ => Ok(node),
        }
    }

    pub(super) async fn publish_volume(
        &self,
        request: wire::ControllerPublishVolumeRequest,
    ) -> Result<wire::ControllerPublishVolumeResponse, Status> {
        let provider = self.provider_with(Capability::Attach)?;
        fields::id("volume_id", &request.volume_id)?;
        fields::node_id(&request.node_id)?;
        let (access_mode, volume_mode) = fields::capability(request.volume_capability.as_ref())?;
        fields::maps([("volume_context", &request.volume_context)])?;
        fields::secrets(&request.secrets)?;
        let volume = self.volume(&request.volume_id, request.volume_context)?;
        let node = self.node(&request.node_id)?;
        let _busy = self.busy.begin("volume", volume.key.volume.as_str())?;
        let token = names::token(&["publish", &request.volume_id, &request.node_id]);
        let attach = AttachVolume::new(token, volume, node)
            .with_access_mode(access_mode)
            .with_volume_mode(volume_mode)
            .with_read_only(request.readonly)
            .with_secrets(convert::from_secrets(request.secrets));
        let attachment = finished(Call::Other, provider.attach_volume(&attach).await)?;
        Ok(wire::ControllerPublishVolumeResponse { publish_context: publish_context(&attachment)? })
    }

    pub(super) async fn unpublish_volume(
        &self,
        request: wire::ControllerUnpublishVolumeRequest,
    ) -> Result<wire::Empty, Status> {
        let provider = self.provider_with(Capability::Attach)?;
        fields::id("volume_id", &request.volume_id)?;
        // What is not there is on no node.
        let Ok(volume) = self.volume(&request.volume_id, Map::new()) else { return Ok(wire::Empty {}) };
        let _busy = self.busy.begin("volume", volume.key.volume.as_str())?;
        let secrets = convert::from_secrets(request.secrets);
        let nodes = if request.node_id.is_empty() {
            match provider.get_volume_status(&volume).await {
                Err(error) if error.kind() == hivemind_core::ErrorKind::NotFound => {
                    return Ok(wire::Empty {});
                }
                found => answer(Call::Other, found)?.attached_to.iter().map(ToString::to_string).collect(),
            }
        } else {
            fields::node_id(&request.node_id)?;
            vec![request.node_id]
        };
        for id in nodes {
            let node = names::node_ref(&id).ok_or_else(|| missing("node", &id))?;
            let token = names::token(&["unpublish", &request.volume_id, &id]);
            let detach = DetachVolume::new(token, volume.clone(), node).with_secrets(secrets.clone());
            finished(Call::Other, provider.detach_volume(&detach).await)?;
        }
        Ok(wire::Empty {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceIdentity;

    #[test]
    fn an_attachment_survives_the_way_to_the_node() {
        let identity = DeviceIdentity::Serial("s-1".to_owned());
        let sent = Attachment::device("n1".parse().unwrap(), "/dev/sda", Some(identity));
        assert_eq!(attachment(&publish_context(&sent).unwrap()).unwrap(), Some(sent));
        assert_eq!(attachment(&Map::new()).unwrap(), None);
        let wrong = Map::from([(ATTACHMENT.to_owned(), "{".to_owned())]);
        assert_eq!(attachment(&wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
