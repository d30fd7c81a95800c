//! The decision: the one next step from the wanted state to the cluster's. No I/O, no clock.
//!
//! A volume's source and a Service's address cannot be changed once they exist. So if a Service is recreated with
//! another address, its volume keeps working through a second Service with the old address and the same selector.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::names;
use super::wanted::{Driver, Named, Wanted};

/// The source of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsSource {
    /// Whether csi-driver-nfs mounts it.
    pub csi: bool,
    /// The server's address or name.
    pub server: String,
    /// The export's path.
    pub path: String,
}

/// The state of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The wanted Service.
    pub service: Option<Service>,
    /// The names of all Services in its namespace.
    pub service_names: BTreeSet<String>,
    /// The Service that has the volume's address, if the wanted Service does not.
    pub holder: Option<Holder>,
    /// The wanted claim.
    pub claim: Option<Claim>,
    /// The volumes that we created, those whose names we would use, and the one that the claim names.
    pub volumes: Vec<Volume>,
}

/// The wanted Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its cluster addresses; empty if it has none yet, or never will.
    pub addresses: Vec<IpAddr>,
    /// Whether it will never have an address, because it is headless or an external name.
    pub without_address: bool,
    /// Whether it selects its pods by labels, so that a second Service can select the same.
    pub has_selector: bool,
}

/// The Service that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub service: Named,
    /// Whether it leads to the same pods and ports as the wanted one.
    pub serves: bool,
    /// Whether we created it.
    pub ours: bool,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its unique id.
    pub uid: String,
    /// The volume that it asks for, or is bound to.
    pub volume: Option<String>,
    /// Its storage class; `None` means the cluster's default.
    pub class: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is bound.
    pub bound: bool,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its version, so that no other state than the one that was seen is changed.
    pub version: String,
    /// Whether we created it.
    pub ours: bool,
    /// The Service that we created it for.
    pub made_for: Option<Named>,
    /// Its source; `None` if it is not NFS.
    pub source: Option<NfsSource>,
    /// The claim that it is for, with the claim's id once it was bound.
    pub claim: Option<(Named, Option<String>)>,
    /// Whether it is bound.
    pub bound: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Options of mount(8).
    pub mount_options: Vec<String>,
}

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Take this step, then look again.
    Do(Step),
    /// Wait for a change, for this reason.
    Wait(String),
    /// An administrator has to do something.
    Stop(Trouble),
    /// Everything is there: the claim is bound to this volume.
    Done(String),
}

/// A change of the cluster.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create a volume for the claim.
    CreateVolume { name: String, source: NfsSource },
    /// Delete one of our volumes that is not bound, to create it again with another source. No file is touched.
    DeleteVolume { name: String, version: String },
    /// Release one of our volumes whose claim was deleted, for the next claim of the same name.
    ReleaseVolume { name: String, version: String },
    /// Set the wanted mount options of one of our volumes; existing mounts keep theirs.
    SetMountOptions { name: String },
    /// Create the claim.
    CreateClaim { volume: String },
    /// Create a second Service with the volume's address.
    KeepAddress { name: String, address: IpAddr },
    /// Give the second Service the selector and ports of the wanted one.
    FollowService { name: String },
}

impl Step {
    /// The step's name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateVolume { .. } => "create_volume",
            Self::DeleteVolume { .. } => "delete_volume",
            Self::ReleaseVolume { .. } => "release_volume",
            Self::SetMountOptions { .. } => "set_mount_options",
            Self::CreateClaim { .. } => "create_claim",
            Self::KeepAddress { .. } => "keep_address",
            Self::FollowService { .. } => "follow_service",
        }
    }
}

/// Trouble that only an administrator can resolve.
#[expect(missing_docs, reason = "the names of the fields say what they are")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The Service has no address.
    WithoutAddress,
    /// The volume's address cannot be kept.
    AddressLost { volume: String, address: IpAddr, why: String },
    /// The bound volume has another source than the wanted one.
    OtherSource { volume: String, ours: bool, leads_to: String, made_for: Option<Named> },
    /// The claim has a storage class: it gets a volume from there, or none.
    OtherClass(String),
    /// The claim asks for a volume that does not exist and that we may not create.
    NoVolume(String),
    /// All possible names of the volume are taken.
    NoName(Vec<String>),
}

/// Decides.
pub fn plan(wanted: &Wanted, seen: &Observed) -> Plan {
    let claim = seen.claim.as_ref();
    if claim.is_some_and(|claim| claim.deleting) {
        return Plan::Wait("the claim is being deleted, which ends when no pod uses it".to_owned());
    }
    let target = target(wanted, seen);
    let volume = match find(wanted, seen) {
        Ok(volume) => volume,
        Err(name) => {
            return match target {
                Ok(source) => Plan::Do(Step::CreateVolume { name, source }),
                Err(plan) => plan,
            };
        }
    };
    let Some(volume) = volume else {
        return match (target, claim) {
            // A volume for this claim would never be used.
            (_, Some(claim)) if claim.volume.is_some() || claim.class.as_deref() != Some("") => foreign(claim),
            (Err(plan), _) => plan,
            (Ok(source), _) => match free_name(wanted, seen) {
                Ok(name) => Plan::Do(Step::CreateVolume { name, source }),
                Err(names) => Plan::Stop(Trouble::NoName(names)),
            },
        };
    };
    if volume.deleting {
        return Plan::Wait(format!("volume {} is being deleted, which ends when its claim is gone", volume.name));
    }
    let is_bound = is_bound(volume, claim);
    match target {
        Err(plan) if !is_bound => return plan,
        // A bound volume stays as it is. Its address is checked when the Service is there again.
        Err(_) => (),
        Ok(source) if volume.source.as_ref() == Some(&source) || same_place(volume, &source, seen) => (),
        Ok(_) if !is_bound && volume.ours => {
            let (name, version) = (volume.name.clone(), volume.version.clone());
            return Plan::Do(Step::DeleteVolume { name, version });
        }
        Ok(source) => {
            if let Some(plan) = elsewhere(wanted, seen, volume, &source) {
                return plan;
            }
        }
    }
    let released = matches!(&volume.claim, Some((_, Some(uid))) if claim.is_none_or(|claim| &claim.uid != uid));
    if released && volume.ours && !is_bound {
        return Plan::Do(Step::ReleaseVolume { name: volume.name.clone(), version: volume.version.clone() });
    }
    if volume.ours && volume.mount_options != wanted.mount_options {
        return Plan::Do(Step::SetMountOptions { name: volume.name.clone() });
    }
    match claim {
        None => Plan::Do(Step::CreateClaim { volume: volume.name.clone() }),
        Some(claim) if claim.class.as_deref() != Some("") => foreign(claim),
        Some(claim) if !claim.bound => Plan::Wait(format!("the claim is not bound to volume {} yet", volume.name)),
        Some(_) => match &seen.service {
            None => Plan::Wait(no_service(wanted)),
            Some(_) => Plan::Done(volume.name.clone()),
        },
    }
}

/// The wanted source of the volume, or why it is not known.
fn target(wanted: &Wanted, seen: &Observed) -> Result<NfsSource, Plan> {
    let path = wanted.export.clone();
    let service = seen.service.as_ref().ok_or_else(|| Plan::Wait(no_service(wanted)))?;
    match &wanted.driver {
        Driver::Csi(domain) => {
            let Named { namespace, name } = &wanted.service;
            Ok(NfsSource { csi: true, server: format!("{name}.{namespace}.svc.{domain}"), path })
        }
        Driver::Nfs if service.without_address => Err(Plan::Stop(Trouble::WithoutAddress)),
        Driver::Nfs => match service.addresses.first() {
            Some(address) => Ok(NfsSource { csi: false, server: address.to_string(), path }),
            None => Err(Plan::Wait(format!("Service {} has no address yet", wanted.service))),
        },
    }
}

fn no_service(wanted: &Wanted) -> String {
    format!("there is no Service {}", wanted.service)
}

/// The claim's volume: the one that it names, else an existing one for it. `Err` is the name of a missing volume that
/// the claim asks for and that is one of our names: it is created again, which repairs the claim.
pub(super) fn find<'a>(wanted: &Wanted, seen: &'a Observed) -> Result<Option<&'a Volume>, String> {
    match seen.claim.as_ref().and_then(|claim| claim.volume.as_ref()) {
        Some(name) => match seen.volumes.iter().find(|volume| &volume.name == name) {
            None if names::of_volume(wanted).contains(name) => Err(name.clone()),
            found => Ok(found),
        },
        None => {
            let is_for = |volume: &&Volume| volume.claim.as_ref().is_some_and(|(claim, _)| claim == &wanted.claim);
            Ok(seen.volumes.iter().filter(is_for).max_by_key(|volume| volume.ours))
        }
    }
}

fn free_name(wanted: &Wanted, seen: &Observed) -> Result<String, Vec<String>> {
    let names = names::of_volume(wanted);
    let free = names.iter().find(|name| seen.volumes.iter().all(|volume| &volume.name != *name));
    free.cloned().ok_or(names)
}

fn is_bound(volume: &Volume, claim: Option<&Claim>) -> bool {
    let by_claim = claim.is_some_and(|claim| {
        let bound_to = volume.claim.as_ref().is_some_and(|(_, uid)| uid.as_ref() == Some(&claim.uid));
        bound_to || claim.bound && claim.volume.as_ref() == Some(&volume.name)
    });
    volume.bound || by_claim
}

/// Whether the volume uses another one of the Service's own addresses.
fn same_place(volume: &Volume, wanted: &NfsSource, seen: &Observed) -> bool {
    let Some(source) = volume.source.as_ref().filter(|source| (source.csi, &source.path) == (false, &wanted.path))
    else {
        return false;
    };
    let address: Option<IpAddr> = source.server.parse().ok();
    let addresses = seen.service.iter().flat_map(|service| &service.addresses);
    !wanted.csi && address.is_some_and(|address| addresses.into_iter().any(|own| *own == address))
}

/// What to do about a bound volume with another source; `None` if a second Service leads there already.
fn elsewhere(wanted: &Wanted, seen: &Observed, volume: &Volume, target: &NfsSource) -> Option<Plan> {
    let source = volume.source.as_ref();
    let address = source
        .filter(|source| !source.csi && !target.csi && source.path == target.path)
        .and_then(|source| source.server.parse::<IpAddr>().ok());
    if address.is_some() && seen.holder.as_ref().is_some_and(|holder| holder.serves) {
        return None; // to the wanted pods, whatever it was made for
    }
    let is_for_it = volume.made_for.as_ref() == Some(&wanted.service);
    // We must not take another server's address.
    let Some(address) = address.filter(|_| is_for_it) else {
        let leads_to = source.map_or_else(|| "no NFS".to_owned(), ToString::to_string);
        let made_for = volume.made_for.clone().filter(|_| !is_for_it);
        let trouble = Trouble::OtherSource { volume: volume.name.clone(), ours: volume.ours, leads_to, made_for };
        return Some(Plan::Stop(trouble));
    };
    let lost = |why: String| Some(Plan::Stop(Trouble::AddressLost { volume: volume.name.clone(), address, why }));
    match &seen.holder {
        Some(holder) if holder.ours => Some(Plan::Do(Step::FollowService { name: holder.service.name.clone() })),
        Some(holder) => lost(format!("Service {} has it now", holder.service)),
        None if seen.service.as_ref().is_some_and(|service| !service.has_selector) => {
            lost(format!("Service {} has no selector that a second Service could use", wanted.service))
        }
        None => {
            let name = names::of_kept(&wanted.service.name, &seen.service_names);
            Some(Plan::Do(Step::KeepAddress { name, address }))
        }
    }
}

/// The claim is not ours to bind.
fn foreign(claim: &Claim) -> Plan {
    match (&claim.volume, claim.class.as_deref()) {
        (Some(volume), _) => Plan::Stop(Trouble::NoVolume(volume.clone())),
        (None, class) => Plan::Stop(Trouble::OtherClass(class.unwrap_or("the cluster's default").to_owned())),
    }
}

#[cfg(test)]
mod tests;
