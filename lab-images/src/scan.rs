//! A scan: from what is configured, by way of the registry, to a catalogue.
//!
//! Only what the policy needs is asked for: a list of tags for each repository, digests of tags that may be wanted, manifests
//! of those that are. Whatever fails is left out of the catalogue's certainty, never out of sight: [`Scanned::problems`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;

use crate::catalogue::{Catalogue, CatalogueImage, Kind};
use crate::policy::{KnownDigest, Policy, decide};
use crate::reference::{Digest, Platform, Reference, Repository, TagName};
use crate::registry::{ImageManifest, Registry, RegistryError};
use crate::settings::Source;
use crate::tag::Tag;

/// Requests under way at a time; the client limits them for each host besides.
const PARALLEL: usize = 16;

/// What a scan brought.
#[derive(Debug)]
pub struct Scanned {
    /// The catalogue; incomplete where there are problems.
    pub catalogue: Catalogue,
    /// What failed.
    pub problems: Vec<RegistryError>,
    /// Manifests of wanted images, by the digest in the catalogue.
    pub manifests: HashMap<Digest, Arc<ImageManifest>>,
}

/// Scans everything that `source` names.
pub async fn scan(
    registry: &Registry,
    source: &Source,
    policy: &Policy,
    platform: &Platform,
    now: Timestamp,
) -> Scanned {
    let mut scan = Scan { registry, policy, platform, problems: Vec::new(), manifests: HashMap::new() };
    let mut images = Vec::new();
    for repository in &source.repositories {
        images.extend(scan.repository(repository).await);
    }
    images.extend(scan.listed(&source.fixed, "named in LAB_CONTAINER_NAMES", Kind::Lab).await);
    images.extend(scan.listed(&source.infrastructure, "infrastructure image", Kind::Infrastructure).await);
    let mut seen = BTreeSet::new();
    images.retain(|image| seen.insert(image.reference.to_string()));
    let complete = !scan.problems.iter().any(RegistryError::leaves_unknown);
    let catalogue = Catalogue::new(now, complete, images);
    Scanned { catalogue, problems: scan.problems, manifests: scan.manifests }
}

struct Scan<'a> {
    registry: &'a Registry,
    policy: &'a Policy,
    platform: &'a Platform,
    problems: Vec<RegistryError>,
    manifests: HashMap<Digest, Arc<ImageManifest>>,
}

impl Scan<'_> {
    /// All tags of a repository, with what the policy says of them.
    async fn repository(&mut self, repository: &Repository) -> Vec<CatalogueImage> {
        let list = match self.registry.tags(repository).await {
            Ok(list) => list,
            Err(error) => {
                self.problems.push(error);
                return Vec::new();
            }
        };
        self.problems.extend(list.partial);
        // A tag that no registry may have can't be asked for, and no runtime could pull it.
        let (tags, strange): (Vec<String>, Vec<String>) =
            list.tags.into_iter().partition(|tag| tag.parse::<TagName>().is_ok());
        if !strange.is_empty() {
            tracing::warn!(%repository, tags = ?strange.iter().take(5).collect::<Vec<_>>(), count = strange.len(), "tags that no registry may have are left out");
        }
        let tags = self.policy.tags(tags);
        let mut digests = HashMap::new();
        let verdicts = loop {
            let decision = decide(self.policy, &tags, &digests);
            if decision.needs.is_empty() {
                break decision.verdicts;
            }
            digests.extend(self.digests(repository, decision.needs).await);
        };
        let known = |tag: &Tag| match digests.get(&tag.text) {
            Some(KnownDigest::Is(digest)) => Some(digest.clone()),
            _ => None,
        };
        let wanted: BTreeSet<Digest> = tags
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| verdict.wanted)
            .filter_map(|(tag, _)| known(tag))
            .collect();
        let wanted = wanted.into_iter().map(|digest| (repository.clone(), digest)).collect();
        self.fetch_manifests(wanted).await;
        tags.iter()
            .zip(verdicts)
            .filter_map(|(tag, verdict)| {
                let reference = Reference::by_tag(repository.clone(), tag.text.parse().ok()?);
                let class = if verdict.is_alias { crate::tag::Class::Alias } else { tag.class };
                let image = self.image(reference, tag, class, known(tag));
                Some(CatalogueImage {
                    name: verdict.name,
                    aliases: verdict.aliases,
                    wanted: verdict.wanted,
                    why: verdict.why,
                    ..image
                })
            })
            .collect()
    }

    /// Images that are named one by one: all wanted.
    async fn listed(&mut self, references: &[Reference], why: &str, kind: Kind) -> Vec<CatalogueImage> {
        let mut digests: HashMap<&Reference, Digest> = HashMap::new();
        for reference in references {
            let known = match (&reference.digest, &reference.tag) {
                (Some(digest), _) => Some(digest.clone()),
                (None, Some(tag)) => {
                    let asked = self.digests(&reference.repository, vec![tag.to_string()]).await;
                    asked.into_iter().find_map(|(_, known)| match known {
                        KnownDigest::Is(digest) => Some(digest),
                        KnownDigest::Unanswered => None,
                    })
                }
                (None, None) => None,
            };
            digests.extend(known.map(|digest| (reference, digest)));
        }
        let wanted = digests.iter().map(|(reference, digest)| (reference.repository.clone(), digest.clone())).collect();
        self.fetch_manifests(wanted).await;
        let image = |reference: &Reference| {
            let text = reference.tag.as_ref().map_or("", TagName::as_str);
            let tag = self.policy.scheme.parse_with_aliases(text, &self.policy.aliases);
            self.image(reference.clone(), &tag, tag.class, digests.get(reference).cloned())
        };
        references
            .iter()
            .map(image)
            .map(|image| CatalogueImage { wanted: true, why: why.to_owned(), kind, ..image })
            .collect()
    }

    fn image(
        &self,
        reference: Reference,
        tag: &Tag,
        class: crate::tag::Class,
        digest: Option<Digest>,
    ) -> CatalogueImage {
        let manifest = digest.as_ref().and_then(|digest| self.manifests.get(digest));
        CatalogueImage {
            repository: reference.repository.clone(),
            tag: reference.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
            reference,
            class,
            kind: Kind::Lab,
            name: tag.name.clone(),
            platforms: manifest.map(|manifest| manifest.platforms.clone()).unwrap_or_default(),
            size: manifest.map(|manifest| manifest.size),
            digest,
            aliases: Vec::new(),
            wanted: false,
            why: String::new(),
        }
    }

    async fn digests(&mut self, repository: &Repository, tags: Vec<String>) -> Vec<(String, KnownDigest)> {
        let registry = self.registry;
        let ask = |text: String| async move {
            let Ok(tag) = text.parse::<TagName>() else { return (text, None) };
            let answer = registry.digest(repository, &tag).await;
            (text, Some(answer))
        };
        let answers: Vec<_> = stream::iter(tags).map(ask).buffer_unordered(PARALLEL).collect().await;
        let mut known = Vec::new();
        for (text, answer) in answers {
            match answer {
                Some(Ok(digest)) => known.push((text, KnownDigest::Is(digest))),
                Some(Err(error)) => {
                    self.problems.push(error);
                    known.push((text, KnownDigest::Unanswered));
                }
                None => known.push((text, KnownDigest::Unanswered)),
            }
        }
        known
    }

    async fn fetch_manifests(&mut self, wanted: Vec<(Repository, Digest)>) {
        let (registry, platform) = (self.registry, self.platform);
        let fetch = |(repository, digest): (Repository, Digest)| async move {
            let manifest = registry.manifest(&repository, &digest, platform).await;
            (digest, manifest)
        };
        let fetched: Vec<_> = stream::iter(wanted).map(fetch).buffer_unordered(PARALLEL).collect().await;
        for (digest, manifest) in fetched {
            match manifest {
                Ok(manifest) => {
                    self.manifests.insert(digest, manifest);
                }
                Err(error) => self.problems.push(error),
            }
        }
    }
}
