//! Leases that keep what an unfinished pull has fetched, and what a removal took until it is for good.
//!
//! containerd ends the lease of a CRI pull together with the call, and its garbage collection then takes every layer of an image
//! that did not get whole. A pull that runs under a lease of ours (header `containerd-lease`) leaves them for the next try, until
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

/// When containerd ends a lease by itself (RFC 3339).
const EXPIRES: &str = "containerd.io/gc.expire";

/// What is left of a pull that nobody tries again goes after this.
const LIFE: SignedDuration = SignedDuration::from_hours(72);

/// What a removal took stays as long as this when nobody says that it is for good, because the one who removed was killed.
const REMOVAL: SignedDuration = SignedDuration::from_mins(10);

/// A pull does not begin under a lease that ends sooner: it would break off with it.
const LEAST_LEFT: SignedDuration = SignedDuration::from_hours(36);

/// The leases of a containerd, in the namespace that CRI uses.
#[derive(Clone, Debug)]
pub(super) struct Leases(LeasesClient<Channel>);

impl Leases {
    pub(super) fn new(channel: Channel) -> Self {
        Self(LeasesClient::new(channel))
    }

    /// The id of a lease for pulls of this reference: the one of an earlier try, or a new one.
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

    /// Ends all leases for this reference: its image holds the layers now.
    pub(super) async fn end(&self, reference: &str) -> Result<(), Status> {
        for lease in self.of(reference).await? {
            self.0.clone().delete(in_namespace(api::DeleteRequest { id: lease.id, sync: false })).await?;
        }
        Ok(())
    }

    /// Holds these blobs, with all that they refer to, for a removal that may be undone; gives back the lease's id.
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

    /// Lets go of what [`Leases::hold`] held, and answers once it is gone unless something else holds it.
    pub(super) async fn release(&self, id: &str) -> Result<(), Status> {
        let request = in_namespace(api::DeleteRequest { id: id.to_owned(), sync: true });
        self.0.clone().delete(request).await.map(drop)
    }

    async fn of(&self, reference: &str) -> Result<Vec<api::Lease>, Status> {
        // References have no character that would need quoting.
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
    fn a_lease_that_ends_soon_or_says_nothing_is_not_used_again() {
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
