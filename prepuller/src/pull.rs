//! `prepuller pull`: pulls the wanted images to this machine, once.

mod show;

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lab_images::catalogue::Catalogue;
use lab_images::reference::{Digest, Platform};
use lab_images::registry::{ImageManifest, Registry};
use lab_images::runtime::open;
use sidecar::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::catalogue::{find, registry};
use crate::node_images::{Order, OrderLayer};
use crate::puller::{Orders, Puller, Report, State};
use crate::settings::PullSettings;

/// How long the registry may take to resolve a tag again.
const SECOND_LOOK_LIMIT: Duration = Duration::from_secs(30);

/// Pulls the wanted images. The exit code is 0 only if all of them are present in the end.
///
/// # Errors
///
/// If there is no catalogue or no runtime.
pub async fn run(settings: PullSettings, warnings: &[String]) -> anyhow::Result<ExitCode> {
    sidecar::log::init(settings.log.with_warnings(warnings));
    let shutdown = Shutdown::listen()?;
    let stopped = shutdown.token();
    let (endpoint, runtime) = open(settings.runtime.as_ref()).await?;
    tracing::info!(%endpoint, "the container runtime answers");
    let registry = Arc::new(registry(&settings.catalogue)?);
    let platforms = [Platform::of_this_machine()];
    let found = tokio::select! {
        found = find(&registry, &settings.catalogue, &platforms, None) => found?,
        () = stopped.cancelled() => {
            print_error("interrupted during the scan, nothing was pulled\n");
            return Ok(ExitCode::FAILURE);
        }
    };
    print_error(&crate::scan::table(&found.catalogue));

    let orders = Orders { generation: 0, orders: orders(&found.catalogue, &found.manifests) };
    let (_orders, orders) = watch::channel(orders);
    let (report, reports) = watch::channel(Report::default());
    let puller = Puller::new(runtime, registry.credentials(), settings.puller, report).asking(Arc::clone(&registry));
    let shown = tokio::spawn(show::show(reports.clone()));
    puller.run(orders, shutdown.token()).await;
    shown.await?;

    let report = reports.borrow().clone();
    for job in report.jobs.iter().filter(|job| !matches!(job.state, State::Present)) {
        let reason = match &job.state {
            State::OtherDigest { error, arrived, .. } => {
                second_look(&registry, &job.order, arrived).await.unwrap_or(error.clone())
            }
            state => state.problem().unwrap_or("interrupted").to_owned(),
        };
        print_error(&format!("not there: {}: {reason}\n", job.order.image));
    }
    let complete = report.all_present() && found.problems.is_empty() && found.remarks.is_empty();
    if let Some(problem) = found.problems.first() {
        print_error(&format!("the scan was incomplete, so there may be more to pull: {problem}\n"));
    }
    for remark in &found.remarks {
        print_error(&format!("the scan did not find everything that is configured: {remark}\n"));
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints on standard error. If it is closed, the pull continues.
fn print_error(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// One order for each wanted image, in the order of the menu.
fn orders(catalogue: &Catalogue, manifests: &HashMap<Digest, Arc<ImageManifest>>) -> Vec<Order> {
    let order = |(priority, image): (usize, &lab_images::catalogue::CatalogueImage)| {
        let manifest = image.digest.as_ref().and_then(|digest| manifests.get(digest));
        let layers = manifest.map(|manifest| {
            manifest.layers.iter().map(|layer| OrderLayer { digest: layer.digest.clone(), size: layer.size }).collect()
        });
        Order {
            image: image.reference.clone(),
            digest: image.digest.clone(),
            size: image.size,
            layers: layers.unwrap_or_default(),
            priority: u32::try_from(priority).unwrap_or(u32::MAX),
            gate: false,
        }
    };
    catalogue.wanted().enumerate().map(order).collect()
}

/// Explains why a different image than the wanted one arrived, by resolving the tag again.
async fn second_look(registry: &Registry, order: &Order, arrived: &[String]) -> Option<String> {
    let (tag, wanted) = (order.image.tag.as_ref()?, order.digest.as_ref()?);
    let now = timeout(SECOND_LOOK_LIMIT, registry.digest(&order.image.repository, tag)).await.ok()?.ok()?;
    let names = arrived.join(" and ");
    let message = format!("{wanted} is wanted, but {names} arrived");
    Some(if now == *wanted {
        format!(
            "{message}: the registry still has the wanted image under this tag, so a mirror of the container runtime (containerd: hosts.toml, Docker: registry-mirrors) serves another one"
        )
    } else if arrived.iter().any(|name| name.ends_with(now.as_str())) {
        format!("{message}: the tag moved since the scan; run it again")
    } else {
        format!(
            "{message}, and the registry has {now} under this tag now: the tag moved since the scan, and a mirror of the container runtime may serve an older image"
        )
    })
}
