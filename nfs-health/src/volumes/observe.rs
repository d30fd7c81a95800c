//! Reads the state of the cluster, again for each decision.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::names;
use super::objects;
use super::plan::{Claim, Holder, Observed, Service, Volume, find};
use super::wanted::Named;
use super::wanted::Wanted;

/// Everything that the decision needs, and the Service's specification for a second one.
pub async fn observe(client: &Client, wanted: &Wanted) -> kube::Result<(Observed, core::ServiceSpec)> {
    let services: Api<core::Service> = Api::namespaced(client.clone(), &wanted.service.namespace);
    let claims: Api<core::PersistentVolumeClaim> = Api::namespaced(client.clone(), &wanted.claim.namespace);
    let beside = services.list(&ListParams::default()).await?.items;
    let spec = beside.iter().find(|service| service.name_any() == wanted.service.name).map(spec_of);
    let claim = claims.get_opt(&wanted.claim.name).await?.map(claim_of);
    let volumes = volumes(client, wanted, claim.as_ref()).await?;
    let service = spec.as_ref().map(service_of);
    let service_names = beside.iter().map(ResourceExt::name_any).collect();
    let mut seen = Observed { service, service_names, holder: None, claim, volumes };
    if let Some(lost) = lost_address(wanted, &seen) {
        seen.holder = holder(client, wanted, &beside, spec.as_ref(), lost).await?;
    }
    Ok((seen, spec.unwrap_or_default()))
}

async fn volumes(client: &Client, wanted: &Wanted, claim: Option<&Claim>) -> kube::Result<Vec<Volume>> {
    let all: Api<core::PersistentVolume> = Api::all(client.clone());
    let (label, value) = objects::MANAGED_BY;
    // Only ours, because a cluster may have thousands.
    let ours = all.list(&ListParams::default().labels(&format!("{label}={value}"))).await?.items;
    let mut volumes: Vec<Volume> = ours.into_iter().map(volume_of).collect();
    for name in names::of_volume(wanted).into_iter().chain(claim.and_then(|claim| claim.volume.clone())) {
        if volumes.iter().all(|volume| volume.name != name) {
            volumes.extend(all.get_opt(&name).await?.map(volume_of));
        }
    }
    Ok(volumes)
}

/// The address in the claim's volume, if the Service exists and does not have it.
fn lost_address(wanted: &Wanted, seen: &Observed) -> Option<IpAddr> {
    let volume = find(wanted, seen).ok().flatten()?;
    let address = volume.source.as_ref()?.server.parse().ok()?;
    (!seen.service.as_ref()?.addresses.contains(&address)).then_some(address)
}

/// The Service that has the address: one in the same namespace, or one elsewhere, which is searched for by the address
/// alone.
async fn holder(
    client: &Client,
    wanted: &Wanted,
    beside: &[core::Service],
    first: Option<&core::ServiceSpec>,
    lost: IpAddr,
) -> kube::Result<Option<Holder>> {
    let holds = |service: &&core::Service| addresses(&spec_of(service)).contains(&lost);
    if let Some(service) = beside.iter().find(holds) {
        return Ok(Some(Holder {
            serves: first.is_some_and(|first| objects::serves(&spec_of(service), first)),
            ours: objects::made_for(&service.metadata).as_ref() == Some(&wanted.service),
            service: Named { namespace: wanted.service.namespace.clone(), name: service.name_any() },
        }));
    }
    let services: Api<core::Service> = Api::all(client.clone());
    let elsewhere = match services.list(&ListParams::default().fields(&format!("spec.clusterIP={lost}"))).await {
        Ok(list) => list.items.into_iter().next(),
        // Then the API server refuses the address when it is requested, without naming the Service.
        Err(kube::Error::Api(status)) if status.is_forbidden() => None,
        Err(error) => return Err(error),
    };
    Ok(elsewhere.map(|service| {
        let service = Named { namespace: service.namespace().unwrap_or_default(), name: service.name_any() };
        Holder { serves: false, ours: false, service }
    }))
}

fn spec_of(service: &core::Service) -> core::ServiceSpec {
    service.spec.clone().unwrap_or_default()
}

fn service_of(spec: &core::ServiceSpec) -> Service {
    let headless = spec.cluster_ip.as_deref() == Some("None");
    Service {
        addresses: addresses(spec),
        without_address: headless || spec.type_.as_deref() == Some("ExternalName"),
        has_selector: spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()),
    }
}

fn addresses(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    let all = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    let mut addresses: Vec<IpAddr> = all.filter_map(|text| text.parse().ok()).collect();
    addresses.dedup();
    addresses
}

fn claim_of(claim: core::PersistentVolumeClaim) -> Claim {
    let (spec, status) = (claim.spec.unwrap_or_default(), claim.status.unwrap_or_default());
    Claim {
        uid: claim.metadata.uid.unwrap_or_default(),
        volume: spec.volume_name.filter(|name| !name.is_empty()),
        class: spec.storage_class_name,
        deleting: claim.metadata.deletion_timestamp.is_some(),
        bound: status.phase.as_deref() == Some("Bound"),
    }
}

fn volume_of(volume: core::PersistentVolume) -> Volume {
    let (spec, status) = (volume.spec.unwrap_or_default(), volume.status.unwrap_or_default());
    let source = objects::source_of(&spec);
    let claim = spec.claim_ref.and_then(|claim| {
        let named = Named { namespace: claim.namespace?, name: claim.name? };
        Some((named, claim.uid.filter(|uid| !uid.is_empty())))
    });
    Volume {
        ours: objects::is_ours(&volume.metadata),
        made_for: objects::made_for(&volume.metadata),
        name: volume.metadata.name.unwrap_or_default(),
        version: volume.metadata.resource_version.unwrap_or_default(),
        source,
        claim,
        bound: status.phase.as_deref() == Some("Bound"),
        deleting: volume.metadata.deletion_timestamp.is_some(),
        mount_options: spec.mount_options.unwrap_or_default(),
    }
}
