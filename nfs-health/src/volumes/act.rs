//! One step, carried out.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service, ServiceSpec};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::objects;
use super::plan::{Step, Wanted};

/// What came of it.
#[derive(Debug)]
pub enum Acted {
    /// It is done, or somebody else was faster: look again.
    Done,
    /// The API server does not give the address, and says why.
    AddressRefused(String),
}

/// Carries out a step; `first` is the wanted Service as it is.
///
/// # Errors
///
/// What the API server said.
pub async fn act(client: &Client, wanted: &Wanted, step: &Step, first: &ServiceSpec) -> kube::Result<Acted> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let services: Api<Service> = Api::namespaced(client.clone(), &wanted.service.namespace);
    let (post, patch) = (PostParams::default(), PatchParams::default());
    let done = match step {
        Step::CreateVolume { name, source } => {
            volumes.create(&post, &objects::volume(wanted, name, source)).await.map(drop)
        }
        Step::DeleteVolume { name, version } => {
            // Bound in this moment, it has another version and stays.
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
            claims.create(&post, &objects::claim(wanted, volume)).await.map(drop)
        }
        Step::KeepAddress { name, address } => {
            match services.create(&post, &objects::kept(wanted, name, *address, first)).await {
                Err(kube::Error::Api(status)) if status.is_invalid() => {
                    return Ok(Acted::AddressRefused(status.message.clone()));
                }
                created => created.map(drop),
            }
        }
        Step::FollowService { name } => {
            let followed = objects::followed(first);
            let change = json!({"spec": {"selector": followed.selector, "ports": followed.ports}});
            services.patch(name, &patch, &Patch::Merge(change)).await.map(drop)
        }
    };
    match done {
        Err(kube::Error::Api(status)) if is_race(&status) => Ok(Acted::Done),
        done => done.map(|()| Acted::Done),
    }
}

/// Whether only the state changed between the look and the step.
fn is_race(status: &kube::core::Status) -> bool {
    let gone = status.is_not_found() && status.details.as_ref().is_some_and(|details| details.kind != "namespaces");
    status.is_already_exists() || status.is_conflict() || gone
}
