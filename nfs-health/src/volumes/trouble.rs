//! Messages for administrators: what is wrong, and the exact steps.

use super::plan::Trouble;
use super::wanted::Wanted;

impl Trouble {
    /// The reason in one word, for Events and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::WithoutAddress => "ServiceWithoutAddress",
            Self::AddressLost { .. } => "VolumeAddressLost",
            Self::OtherSource { .. } => "VolumeLeadsElsewhere",
            Self::OtherClass(_) => "ClaimHasStorageClass",
            Self::NoVolume(_) => "ClaimAsksForOtherVolume",
            Self::NoName(_) => "VolumeNamesTaken",
        }
    }

    /// What is wrong, and what to do.
    pub fn sentence(&self, wanted: &Wanted) -> String {
        let Wanted { service, claim, .. } = wanted;
        let delete_claim = format!("kubectl -n {} delete pvc {}", claim.namespace, claim.name);
        let recreated = "both are then created again, and the files stay on the server";
        match self {
            Self::WithoutAddress => format!(
                "Service {service} has no cluster address (it is headless, or an external name). Give it one, or set \
                 VOLUME_DRIVER=csi, which mounts by its name"
            ),
            Self::AddressLost { volume, address, why } => format!(
                "Volume {volume} leads to {address}, which Service {service} no longer has, and it cannot be kept: {why}. Free \
                 the address; or end all pods that use claim {claim}, then run: {delete_claim} ({recreated})"
            ),
            Self::OtherSource { volume, ours: _, leads_to, made_for: Some(other) } => format!(
                "Volume {volume} is bound and leads to {leads_to}: it was made for Service {other}, and NFS_SERVICE is {service} \
                 now. Set NFS_SERVICE={other} again; or end all pods that use claim {claim}, then run: {delete_claim} (both are \
                 then created again and lead to {service}; the files stay on the old server)"
            ),
            Self::OtherSource { volume, ours: true, leads_to, made_for: None } => format!(
                "Volume {volume} is bound and leads to {leads_to}. End all pods that use claim {claim}, then run: \
                 {delete_claim} ({recreated})"
            ),
            Self::OtherSource { volume, ours: false, leads_to, made_for: None } => format!(
                "Volume {volume} was not made here and leads to {leads_to}. Name another claim in VOLUME_CLAIM; or end all \
                 pods that use claim {claim}, then run: {delete_claim}; kubectl delete pv {volume} (check its reclaim \
                 policy first: Delete removes the files)"
            ),
            Self::OtherClass(class) => format!(
                "Claim {claim} has storage class {class}, so it never gets this volume. Name another claim in VOLUME_CLAIM, \
                 or run: {delete_claim} (it is then created again, with an empty class)"
            ),
            Self::NoVolume(volume) => format!(
                "Claim {claim} asks for volume {volume}, which does not exist. Name another claim in VOLUME_CLAIM, or run: \
                 {delete_claim} (it is then created again)"
            ),
            Self::NoName(names) => format!(
                "No volume can be created for claim {claim}: others have the names {}. Use another name for the claim in \
                 VOLUME_CLAIM, or delete the volume that is not needed",
                names.join(", ")
            ),
        }
    }
}
