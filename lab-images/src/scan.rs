//! A scan: builds a catalogue from the configuration and the registry.
//!
//! Only what the policy needs is requested: a list of tags for each repository, digests of tags that may be wanted, and
//! manifests of those that are. Repositories are scanned concurrently and fail separately; `parts.rs` merges the
//! results with the last good catalogue.

mod parts;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use crate::catalogue::{Catalogue, CatalogueImage, Kind};
use crate::policy::{GONE, Known, KnownImage, KnownTag, Needs, Policy, Verdict, decide};
use crate::reference::{Digest, Platform, Reference, Repository, TagName};
use crate::registry::{ImageManifest, Registry, RegistryError};
use crate::settings::Source;
use crate::tag::{Class, Tag};

pub use parts::{NamedImage, ScannedRepository};

/// The most concurrent requests for one repository. The client also limits them for each host.
const PARALLEL: usize = 16;

/// The most repositories that are scanned concurrently.
const PARALLEL_REPOSITORIES: usize = 4;

/// From this number of tags without a manifest on, an operator should check the registry.
const MANY_GONE: usize = 5;

/// The result of a scan.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Repositories whose tags were listed.
    pub repositories: Vec<ScannedRepository>,
    /// Images that are configured one by one.
    pub named: Vec<NamedImage>,
    /// What needs attention although the scan was complete: configured images that do not exist, or repositories in
    /// which nothing is wanted.
    pub remarks: Vec<String>,
    /// Manifests of usable images, by the digest in the catalogue.
    pub manifests: HashMap<Digest, Arc<ImageManifest>>,
}

/// Scans everything in `source`, for machines of these platforms, the first before the others.
pub async fn scan(registry: &Registry, source: &Source, policy: &Policy, platforms: &[Platform]) -> Scanned {
    let scan = &Scan { registry, policy, platforms };
    let repositories = stream::iter(&source.repositories).map(|repository| scan.repository(repository));
    let repositories: Vec<_> = repositories.buffered(PARALLEL_REPOSITORIES).collect().await;
    let named = |references, setting, kind| {
        stream::iter(references).map(move |reference| scan.named(reference, setting, kind)).buffered(PARALLEL).collect()
    };
    let fixed: Vec<_> = named(&source.fixed, "LAB_CONTAINER_NAMES", Kind::Lab).await;
    let infrastructure: Vec<_> = named(&source.infrastructure, "LAB_INFRASTRUCTURE_IMAGES", Kind::Infrastructure).await;

    let mut scanned = Scanned::default();
    for (repository, manifests) in repositories {
        scanned.manifests.extend(manifests);
        scanned.remarks.extend(repository.remark.iter().map(|remark| format!("{}: {remark}", repository.name)));
        scanned.repositories.push(repository);
    }
    for (named, manifest) in fixed.into_iter().chain(infrastructure) {
        scanned.manifests.extend(manifest);
        scanned.remarks.extend(named.remark());
        scanned.named.push(named);
    }
    scanned.pinned_are_there(policy);
    scanned
}

impl Scanned {
    /// What could not be scanned.
    pub fn problems(&self) -> impl Iterator<Item = &RegistryError> {
        let of_repositories = self.repositories.iter().flat_map(|repository| &repository.problems);
        of_repositories.chain(self.named.iter().filter_map(|named| named.problem.as_ref()))
    }

    /// Whether the scan found anything: a repository was scanned completely, or a configured image was looked up.
    /// Without any configured image, nothing is missing.
    pub fn is_of_use(&self, last: Option<&Catalogue>) -> bool {
        let nothing_asked = self.repositories.is_empty() && self.named.is_empty();
        nothing_asked
            || self.repositories.iter().any(|repository| repository.has_changed(last))
            || self.named.iter().any(|named| named.problem.is_none())
    }

    /// Adds remarks on pinned tags that no repository has.
    fn pinned_are_there(&mut self, policy: &Policy) {
        if self.repositories.is_empty() || !self.repositories.iter().all(|repository| repository.is_listed) {
            return;
        }
        let has = |tag: &String| self.repositories.iter().any(|one| one.images.iter().any(|image| image.tag == *tag));
        let missing: Vec<&str> = policy.pinned.iter().filter(|tag| !has(tag)).map(String::as_str).collect();
        if missing.is_empty() {
            return;
        }
        let remark = format!("LAB_PINNED names {}, which the registry does not list", missing.join(", "));
        for repository in &mut self.repositories {
            repository.remark.get_or_insert_with(|| remark.clone());
        }
        self.remarks.push(remark);
    }
}

struct Scan<'a> {
    registry: &'a Registry,
    policy: &'a Policy,
    platforms: &'a [Platform],
}

type Manifests = HashMap<Digest, Arc<ImageManifest>>;

impl Scan<'_> {
    /// All tags of a repository, with the policy's decisions.
    async fn repository(&self, repository: &Repository) -> (ScannedRepository, Manifests) {
        let mut scanned = ScannedRepository::new(repository.clone());
        let list = match self.registry.tags(repository).await {
            Ok(list) => list,
            Err(error) => {
                scanned.problems.push(error);
                return (scanned, Manifests::new());
            }
        };
        if let Some(error) = list.partial {
            // An incomplete list contains an arbitrary part of the tags, so nothing is chosen from it.
            scanned.problems.push(error);
            return (scanned, Manifests::new());
        }
        scanned.is_listed = true;
        // An invalid tag cannot be requested, and no runtime could pull it.
        let (tags, strange): (Vec<String>, Vec<String>) =
            list.tags.into_iter().partition(|tag| tag.parse::<TagName>().is_ok());
        if !strange.is_empty() {
            tracing::warn!(%repository, tags = ?strange.iter().take(5).collect::<Vec<_>>(), count = strange.len(), "invalid tags are ignored");
        }
        let tags = self.policy.tags(tags);
        let (mut known, mut manifests) = (Known::default(), Manifests::new());
        let verdicts = loop {
            let decision = decide(self.policy, &tags, &known);
            if decision.needs.is_empty() {
                break decision.verdicts;
            }
            self.ask(repository, decision.needs, &mut known, &mut manifests, &mut scanned.problems).await;
        };
        log_left_out(repository, &tags, &verdicts, &known);
        scanned.tags = Some(tags.len() as u64);
        let unread =
            tags.iter().zip(&verdicts).filter(|(tag, verdict)| !verdict.is_alias && self.policy.is_unread(tag));
        let unread: Vec<&Tag> = unread.map(|(tag, _)| tag).collect();
        scanned.unread = Some(unread.len() as u64);
        if !tags.is_empty() && !verdicts.iter().any(|verdict| verdict.wanted) {
            let left_out = tags.iter().zip(&verdicts).find(|(_, verdict)| verdict.is_left_out);
            scanned.remark = Some(nothing_wanted(self.policy, tags.len(), &unread, left_out));
        } else if let Some((tag, verdict)) = tags
            .iter()
            .zip(&verdicts)
            .find(|(tag, verdict)| verdict.is_left_out && self.policy.pinned.contains(&tag.text))
        {
            scanned.remark = Some(format!("{} is {}", tag.text, verdict.why));
        }
        let images = tags.iter().zip(verdicts).filter_map(|(tag, verdict)| {
            let reference = Reference::by_tag(repository.clone(), tag.text.parse().ok()?);
            let class = if verdict.is_alias { Class::Alias } else { tag.class };
            let digest = known.digest(&tag.text).cloned();
            let manifest = digest.as_ref().and_then(|digest| manifests.get(digest));
            Some(CatalogueImage {
                name: verdict.name,
                aliases: verdict.aliases,
                wanted: verdict.wanted,
                why: verdict.why,
                ..image(reference, tag, class, Kind::Lab, digest.clone(), manifest)
            })
        });
        scanned.images = images.collect();
        (scanned, manifests)
    }

    /// Requests what is needed. Afterwards every need has an answer, if only `Unanswered`.
    async fn ask(
        &self,
        repository: &Repository,
        needs: Needs,
        known: &mut Known,
        manifests: &mut Manifests,
        problems: &mut Vec<RegistryError>,
    ) {
        let digest = |(text, decides): (String, bool)| async move {
            let answer = match text.parse::<TagName>() {
                Ok(tag) => Some(self.registry.digest(repository, &tag).await),
                Err(_) => None,
            };
            (text, decides, answer)
        };
        let manifest = |digest: Digest| async move {
            let manifest = self.registry.manifest(repository, &digest, self.platforms).await;
            (digest, manifest)
        };
        let decisive = needs.tags.into_iter().map(|tag| (tag, true));
        let tags = decisive.chain(needs.perhaps.into_iter().map(|tag| (tag, false)));
        let tags: Vec<_> = stream::iter(tags).map(digest).buffer_unordered(PARALLEL).collect().await;
        for (text, decides, answer) in tags {
            let is = match answer {
                Some(Ok(digest)) => KnownTag::Is(digest),
                Some(Err(error)) if error.is_gone() => KnownTag::Gone,
                Some(Err(error)) => {
                    if decides {
                        problems.push(error);
                    } else {
                        tracing::info!(%error, "cannot get the digest of a tag");
                    }
                    KnownTag::Unanswered
                }
                None => KnownTag::Unanswered,
            };
            known.tags.insert(text, is);
        }
        let images: Vec<_> = stream::iter(needs.images).map(manifest).buffer_unordered(PARALLEL).collect().await;
        for (digest, answer) in images {
            let is = usable(answer, &digest, manifests).unwrap_or_else(|error| {
                problems.push(error);
                KnownImage::Unanswered
            });
            known.images.insert(digest, is);
        }
    }

    /// An image that is configured by name: it is wanted if it exists.
    async fn named(&self, reference: &Reference, setting: &'static str, kind: Kind) -> (NamedImage, Manifests) {
        let mut manifests = Manifests::new();
        let why = match kind {
            Kind::Lab => format!("named in {setting}"),
            Kind::Infrastructure => "infrastructure image".to_owned(),
        };
        let text = reference.tag.as_ref().map_or("", TagName::as_str);
        let tag = self.policy.scheme.parse_with_aliases(text, &self.policy.aliases);
        let mut named = NamedImage {
            setting,
            image: CatalogueImage { wanted: true, why, ..image(reference.clone(), &tag, tag.class, kind, None, None) },
            problem: None,
        };
        let digest = match (&reference.digest, &reference.tag) {
            (Some(digest), _) => Ok(digest.clone()),
            (None, Some(tag)) => self.registry.digest(&reference.repository, tag).await,
            (None, None) => return (named, manifests),
        };
        let answer = match digest {
            Ok(digest) => {
                let answer = self.registry.manifest(&reference.repository, &digest, self.platforms).await;
                named.image.digest = Some(digest.clone());
                usable(answer, &digest, &mut manifests)
            }
            Err(error) if error.is_gone() => Ok(KnownImage::Unusable(GONE.to_owned())),
            Err(error) => Err(error),
        };
        match answer {
            Ok(KnownImage::Unusable(why)) => {
                named.image.wanted = false;
                named.image.why = format!("{}, but {why}", named.image.why);
            }
            Ok(KnownImage::Usable | KnownImage::Unanswered) => {}
            Err(error) => named.problem = Some(error),
        }
        if let Some(manifest) = named.image.digest.as_ref().and_then(|digest| manifests.get(digest)) {
            (named.image.platforms, named.image.size) = (manifest.platforms.clone(), Some(manifest.size));
        }
        (named, manifests)
    }
}

/// What a manifest says about an image; an error if it says nothing.
fn usable(
    answer: Result<Arc<ImageManifest>, RegistryError>,
    digest: &Digest,
    manifests: &mut Manifests,
) -> Result<KnownImage, RegistryError> {
    match answer {
        Ok(manifest) => {
            manifests.insert(digest.clone(), manifest);
            Ok(KnownImage::Usable)
        }
        Err(error) if error.is_gone() => Ok(KnownImage::Unusable(GONE.to_owned())),
        Err(error) if error.is_unusable() => Ok(KnownImage::Unusable(error.problem.to_string())),
        Err(error) => Err(error),
    }
}

fn image(
    reference: Reference,
    tag: &Tag,
    class: Class,
    kind: Kind,
    digest: Option<Digest>,
    manifest: Option<&Arc<ImageManifest>>,
) -> CatalogueImage {
    CatalogueImage {
        repository: reference.repository.clone(),
        tag: reference.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        reference,
        class,
        kind,
        name: tag.name.clone(),
        platforms: manifest.map(|manifest| manifest.platforms.clone()).unwrap_or_default(),
        size: manifest.map(|manifest| manifest.size),
        digest,
        aliases: Vec::new(),
        wanted: false,
        why: String::new(),
    }
}

/// Logs tags that would be wanted but are left out, one line for each reason.
fn log_left_out(repository: &Repository, tags: &[Tag], verdicts: &[Verdict], known: &Known) {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tag, verdict) in tags.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_left_out) {
        by_reason.entry(&verdict.why).or_default().push(&tag.text);
    }
    for (why, tags) in by_reason {
        let count = tags.len();
        let tags = tags.into_iter().take(5).collect::<Vec<_>>().join(", ");
        tracing::warn!(%repository, tags, count, why, "tags are left out");
    }
    let gone = known.tags.values().filter(|tag| **tag == KnownTag::Gone).count();
    if gone >= MANY_GONE {
        tracing::warn!(%repository, gone, asked = known.tags.len(), "many tags have no manifest; check the registry's storage, or what deletes images there");
    }
}

/// Why none of a repository's tags is wanted, and which settings to check.
fn nothing_wanted(policy: &Policy, count: usize, unread: &[&Tag], left_out: Option<(&Tag, &Verdict)>) -> String {
    let (tags, is) =
        if count == 1 { ("its only tag".to_owned(), "is not") } else { (format!("none of its {count} tags"), "is") };
    let mut text = format!("{tags} {is} wanted by LAB_TAG_SCHEME={} and LAB_KEEP={}", policy.scheme, policy.keep);
    if let Some((tag, verdict)) = left_out {
        text += &format!("; {} is left out: {}", tag.text, verdict.why);
    }
    if !unread.is_empty() {
        let examples: Vec<&str> = unread.iter().take(3).map(|tag| tag.text.as_str()).collect();
        text += &format!("; the scheme could not read {} of them, for example {}", unread.len(), examples.join(", "));
    }
    text
}
