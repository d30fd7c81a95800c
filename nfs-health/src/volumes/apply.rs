//! Carries out one step.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service, ServiceSpec};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::objects;
use super::plan::Step;
use super::wanted::Wanted;

/// The result of a step.
#[derive(Debug)]
pub enum Applied {
    /// It is done, or another writer was faster; look again.
    Done,
    /// The claim's namespace does not exist.
    NoNamespace,
    /// The API server refused the address, for this reason.
    AddressRefused(String),
}

/// Carries out a step; `first` is the wanted Service as it is.
///
/// # Errors
///
/// The API server's error.
pub async fn apply(client: &Client, wanted: &Wanted, step: &Step, first: &ServiceSpec) -> kube::Result<Applied> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let services: Api<Service> = Api::namespaced(client.clone(), &wanted.service.namespace);
    let (post, patch) = (PostParams::default(), PatchParams::default());
    let done = match step {
        Step::CreateVolume { name, source } => {
            volumes.create(&post, &objects::volume(wanted, name, source)).await.map(drop)
        }
        Step::DeleteVolume { name, version } => {
            // If the volume is bound at this moment, it has another version and is kept.
            let preconditions = Preconditions { resource_version: Some(version.clone()), uid: None };
            let delete = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            volumes.delete(name, &delete).await.map(drop)
        }
        Step::ReleaseVolume { name, version } => {
            let claim = json!({"uid": null, "resourceVersion": null});
            let change = json!({"metadata": {"resourceVersion": version}, "spec": {"claimRef": claim}});
            volumes.patch(name, &patch, &Patch::Merge(change)).await.map(drop)
        }
        Step::SetMountOptions { name } => {
            let change = json!({"spec": {"mountOptions": wanted.mount_options}});
            volumes.patch(name, &patch, &Patch::Merge(change)).await.map(drop)
        }
        Step::CreateClaim { volume } => {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &wanted.claim.namespace);
            match claims.create(&post, &objects::claim(wanted, volume)).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(Applied::NoNamespace),
                created => created.map(drop),
            }
        }
        Step::KeepAddress { name, address } => {
            match services.create(&post, &objects::kept(wanted, name, *address, first)).await {
                Err(kube::Error::Api(status)) if status.is_invalid() => {
                    return Ok(Applied::AddressRefused(status.message.clone()));
                }
                created => created.map(drop),
            }
        }
        Step::FollowService { name } => follow(&services, name, first).await,
    };
    match done {
        // Only the state changed between the look and the step.
        Err(kube::Error::Api(status))
            if status.is_already_exists() || status.is_conflict() || status.is_not_found() =>
        {
            Ok(Applied::Done)
        }
        done => done.map(|()| Applied::Done),
    }
}

/// Replaces the whole object, because a patch would not remove old labels of the selector.
async fn follow(services: &Api<Service>, name: &str, first: &ServiceSpec) -> kube::Result<()> {
    let mut kept = services.get(name).await?;
    let (followed, spec) = (objects::followed(first), kept.spec.get_or_insert_default());
    (spec.selector, spec.ports) = (followed.selector, followed.ports);
    services.replace(name, &PostParams::default(), &kept).await.map(drop)
}
