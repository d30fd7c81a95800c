//! A removal on containerd that can be undone.
//!
//! CRI removes an image although a container uses it, so a container that is created during the removal would keep
//! running without its image. So before the removal, a lease keeps the image's content, and its records are saved.
//! After another check of its users, either the records are restored or the lease is ended.

use tonic::transport::Channel;
use tonic::{Code, Status};

use super::content::in_namespace;
use super::leases::Leases;
use super::{Image, MOST_MESSAGE_BYTES};

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod api {
    tonic::include_proto!("containerd.services.images.v1");
}

use api::images_client::ImagesClient;

/// containerd's records of images, in CRI's namespace.
#[derive(Clone, Debug)]
pub(super) struct Records {
    images: ImagesClient<Channel>,
    leases: Leases,
}

/// What a removal took, kept until the removal is final.
#[derive(Clone, Debug)]
pub(super) struct Held {
    lease: String,
    records: Vec<api::Image>,
}

impl Records {
    pub(super) fn new(channel: Channel, leases: Leases) -> Self {
        Self { images: ImagesClient::new(channel).max_decoding_message_size(MOST_MESSAGE_BYTES), leases }
    }

    /// Keeps the content of an image with all its names; `None` if the runtime is not containerd.
    pub(super) async fn hold(&self, image: &Image) -> Result<Option<Held>, Status> {
        let names = image.tags.iter().chain(&image.digests).chain([&image.id]);
        // Names of images contain no character that would need quoting.
        let filters = names.map(|name| format!("name==\"{name}\"")).collect();
        let listed = self.images.clone().list(in_namespace(api::ListImagesRequest { filters })).await;
        let records = match listed {
            Ok(answer) => answer.into_inner().images,
            Err(status) if status.code() == Code::Unimplemented => return Ok(None),
            Err(status) => return Err(status),
        };
        let digests: std::collections::BTreeSet<String> =
            records.iter().filter_map(|record| Some(record.target.as_ref()?.digest.clone())).collect();
        Ok(Some(Held { lease: self.leases.hold(digests).await?, records }))
    }

    /// The digests of all images' targets: of indices if there are any.
    pub(super) async fn targets(&self) -> Result<impl Iterator<Item = String> + use<>, Status> {
        let request = api::ListImagesRequest { filters: Vec::new() };
        let images = self.images.clone().list(in_namespace(request)).await?.into_inner().images;
        Ok(images.into_iter().filter_map(|image| Some(image.target?.digest)))
    }

    /// Restores the records. A record that was written meanwhile is not changed.
    pub(super) async fn restore(&self, held: &Held) -> Result<(), Status> {
        for record in &held.records {
            let request = in_namespace(api::CreateImageRequest { image: Some(record.clone()) });
            match self.images.clone().create(request).await {
                Err(status) if status.code() == Code::AlreadyExists => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Allows unused content to be removed. Returns when that is done.
    pub(super) async fn release(&self, held: &Held) -> Result<(), Status> {
        self.leases.release(&held.lease).await
    }
}
