//! Carries out one step.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service, ServiceSpec};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
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
    /// The claim cannot be created now, for this reason.
    NoClaim(String),
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
                Err(kube::Error::Api(status)) if status.is_not_found() => {
                    return Ok(Applied::NoClaim(format!("there is no namespace {}", wanted.claim.namespace)));
                }
                Err(kube::Error::Api(status)) if is_of_namespace(&status) => {
                    return Ok(Applied::NoClaim(format!(
                        "namespace {} takes no claim: {}",
                        wanted.claim.namespace, status.message
                    )));
                }
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

/// Whether a refusal is about the state of the namespace, and not about our rights: its quota is used up, or it is being deleted.
fn is_of_namespace(status: &Status) -> bool {
    status.is_forbidden() && ["exceeded quota", "being terminated"].iter().any(|reason| status.message.contains(reason))
}

/// Replaces the whole object, because a patch would not remove old labels of the selector.
async fn follow(services: &Api<Service>, name: &str, first: &ServiceSpec) -> kube::Result<()> {
    let mut kept = services.get(name).await?;
    let (followed, spec) = (objects::followed(first), kept.spec.get_or_insert_default());
    (spec.selector, spec.ports) = (followed.selector, followed.ports);
    services.replace(name, &PostParams::default(), &kept).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_or_ending_namespace_is_distinguished_from_missing_rights() {
        let status = |code, message: &str| Status {
            code,
            reason: "Forbidden".into(),
            message: message.into(),
            ..Status::default()
        };
        for (status, expected) in [
            (
                status(
                    403,
                    "persistentvolumeclaims \"homes\" is forbidden: exceeded quota: q, requested: requests.storage=100Gi",
                ),
                true,
            ),
            (status(403, "unable to create new content in namespace labs because it is being terminated"), true),
            (status(403, "User \"x\" cannot create resource \"persistentvolumeclaims\""), false),
        ] {
            assert_eq!(is_of_namespace(&status), expected, "{}", status.message);
        }
    }
}
