//! Leases that keep what an unfinished pull has downloaded, and what a removal took until it is final.
//!
//! containerd ends the lease of a CRI pull together with the call, and its garbage collection then removes every layer
//! of an incomplete image. A pull under our own lease (header `containerd-lease`) keeps them for the next try, until
//! the lease is ended or expires.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use tonic::Status;
use tonic::transport::Channel;

use super::content::in_namespace;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod api {
    tonic::include_proto!("containerd.services.leases.v1");
}

use api::leases_client::LeasesClient;

/// The reference that a lease belongs to.
const LABEL: &str = "labhands.dev/pull";

/// The label with a lease's expiry time (RFC 3339).
const EXPIRES: &str = "containerd.io/gc.expire";

/// How long the layers of a pull are kept if it is not retried.
const LIFE: SignedDuration = SignedDuration::from_hours(72);

/// If the purger is killed during a removal, the lease expires after this time, and containerd reclaims the content.
const REMOVAL: SignedDuration = SignedDuration::from_mins(10);

/// A pull does not start under a lease that expires sooner, because its layers would be removed.
const LEAST_LEFT: SignedDuration = SignedDuration::from_hours(36);

/// The leases of a containerd, in CRI's namespace.
#[derive(Clone, Debug)]
pub(super) struct Leases(LeasesClient<Channel>);

impl Leases {
    pub(super) fn new(channel: Channel) -> Self {
        Self(LeasesClient::new(channel))
    }

    /// The id of a lease for pulls of this reference: that of an earlier try, or a new one.
    pub(super) async fn take(&self, reference: &str) -> Result<String, Status> {
        let now = Timestamp::now();
        if let Some(lease) = self.of(reference).await?.into_iter().find(|lease| lasts(lease, now)) {
            return Ok(lease.id);
        }
        let id = format!("labhands-pull-{}", now.as_nanosecond());
        let expires = now.saturating_add(LIFE).unwrap_or(now).to_string();
        let labels = HashMap::from([(LABEL.to_owned(), reference.to_owned()), (EXPIRES.to_owned(), expires)]);
        self.0.clone().create(in_namespace(api::CreateRequest { id: id.clone(), labels })).await?;
        Ok(id)
    }

    /// Ends all leases for this reference, because its image keeps the layers now.
    pub(super) async fn end(&self, reference: &str) -> Result<(), Status> {
        for lease in self.of(reference).await? {
            self.0.clone().delete(in_namespace(api::DeleteRequest { id: lease.id, sync: false })).await?;
        }
        Ok(())
    }

    /// Keeps these blobs, and all that they refer to, for a removal that may be undone. Returns the lease's id.
    pub(super) async fn hold(&self, digests: impl IntoIterator<Item = String>) -> Result<String, Status> {
        let now = Timestamp::now();
        let id = format!("labhands-removal-{}", now.as_nanosecond());
        let expires = now.saturating_add(REMOVAL).unwrap_or(now).to_string();
        let labels = HashMap::from([(EXPIRES.to_owned(), expires)]);
        let mut client = self.0.clone();
        client.create(in_namespace(api::CreateRequest { id: id.clone(), labels })).await?;
        for digest in digests {
            let resource = Some(api::Resource { id: digest, r#type: "content".into() });
            client.add_resource(in_namespace(api::AddResourceRequest { id: id.clone(), resource })).await?;
        }
        Ok(id)
    }

    /// Ends the lease of [`Leases::hold`]. Returns once the content is gone, unless something else refers to it.
    pub(super) async fn release(&self, id: &str) -> Result<(), Status> {
        let request = in_namespace(api::DeleteRequest { id: id.to_owned(), sync: true });
        self.0.clone().delete(request).await.map(drop)
    }

    async fn of(&self, reference: &str) -> Result<Vec<api::Lease>, Status> {
        // References contain no character that would need quoting.
        let filters = vec![format!("labels.\"{LABEL}\"==\"{reference}\"")];
        Ok(self.0.clone().list(in_namespace(api::ListRequest { filters })).await?.into_inner().leases)
    }
}

fn lasts(lease: &api::Lease, now: Timestamp) -> bool {
    let expires = lease.labels.get(EXPIRES).and_then(|text| text.parse::<Timestamp>().ok());
    expires.is_some_and(|expires| expires.duration_since(now) >= LEAST_LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_ends_soon_or_has_no_expiry_is_not_reused() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let table = [
            ("2026-01-13T00:00:00Z", true),
            ("2026-01-11T12:00:00.000000001Z", true),
            ("2026-01-11T11:59:59Z", false),
            ("2026-01-01T00:00:00Z", false),
            ("soon", false),
        ];
        for (expires, used) in table {
            let labels = HashMap::from([(EXPIRES.to_owned(), expires.to_owned())]);
            assert_eq!(lasts(&api::Lease { id: "a".into(), labels }, now), used, "{expires}");
        }
        assert!(!lasts(&api::Lease::default(), now));
    }
}
