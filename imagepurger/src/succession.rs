//! Decides which images wait for their successor: the newest of a class on this node stays until its wanted successor
//! is on the node, even if that one is broken or refused.

use std::cmp::Ordering;
use std::collections::HashMap;

use lab_images::catalogue::{Catalogue, CatalogueImage};
use lab_images::reference::{Reference, Repository};
use lab_images::runtime::Image;
use lab_images::tag::{Class, Tag, TagScheme};

use crate::history::{History, Record};
use crate::names::{Named, names_of_entry};

/// One tag of an image on this node, or an entry of the catalogue.
#[derive(Clone, Debug)]
struct Member {
    /// Its position in the catalogue, with the newest of a class first, if it is listed.
    listed: Option<usize>,
    tag: Tag,
}

/// The tags of one class of one repository.
#[derive(Debug, Default)]
struct Line<'a> {
    /// The wanted tags, the newest first.
    wanted: Vec<(Member, &'a CatalogueImage)>,
    /// The tags on this node, each with the image's id.
    here: Vec<(Member, &'a str)>,
}

/// The tags of all classes and repositories, both wanted and on this node.
#[derive(Debug)]
pub(crate) struct Succession<'a>(HashMap<(Repository, Class), Line<'a>>);

impl<'a> Succession<'a> {
    pub(crate) fn new(
        catalogue: Option<&'a Catalogue>,
        images: &'a [Image],
        history: &History,
        scheme: &TagScheme,
    ) -> Self {
        let mut lines: HashMap<(Repository, Class), Line<'a>> = HashMap::new();
        let mut entries = Named::default();
        let listed = catalogue.map(|catalogue| catalogue.images.as_slice()).unwrap_or_default();
        for (number, entry) in listed.iter().enumerate() {
            names_of_entry(entry).for_each(|name| entries.add(&name, &(number, entry)));
            if entry.wanted {
                let member = Member { listed: Some(number), tag: scheme.parse(&entry.tag) };
                lines.entry((entry.repository.clone(), entry.class)).or_default().wanted.push((member, entry));
            }
        }
        // A class without wanted tags has no successor to wait for.
        for image in images {
            for (repository, class, member) in members(image, history.images.get(&image.id), &entries, scheme) {
                if let Some(line) = lines.get_mut(&(repository, class)) {
                    line.here.push((member, &image.id));
                }
            }
        }
        Self(lines)
    }

    /// The class for which an image that is no longer wanted has to stay, and the wanted image that it waits for.
    pub(crate) fn awaited_by(&self, image: &Image) -> Option<(Class, String)> {
        let awaited = |((_, class), line): (&(Repository, Class), &Line<'a>)| {
            let successor = line.awaited_by(&image.id)?;
            Some((*class, successor.reference.to_string()))
        };
        self.0.iter().filter_map(awaited).min()
    }
}

impl<'a> Line<'a> {
    fn awaited_by(&self, id: &str) -> Option<&'a CatalogueImage> {
        let own =
            self.here.iter().filter(|(_, owner)| *owner == id).map(|(member, _)| member).min_by(|a, b| a.order(b))?;
        let is_newer = |other: &Member| other.order(own) == Ordering::Less;
        if self.here.iter().any(|(other, owner)| *owner != id && is_newer(other)) {
            return None;
        }
        if let Some((_, successor)) = self.wanted.iter().find(|(wanted, _)| is_newer(wanted)) {
            return Some(successor);
        }
        // All wanted tags are older, so this one was withdrawn, and one of the wanted ones has to be here.
        let is_here = |wanted: &Member| self.here.iter().any(|(here, _)| here.listed == wanted.listed);
        if self.wanted.iter().any(|(wanted, _)| is_here(wanted)) {
            return None;
        }
        self.wanted.first().map(|(_, entry)| *entry)
    }
}

/// The catalogue's tags of an image: by its tags, by digests that the catalogue knows, or, if it has no tag left, by
/// the entry that last wanted it.
fn members(
    image: &Image,
    record: Option<&Record>,
    entries: &Named<(usize, &CatalogueImage)>,
    scheme: &TagScheme,
) -> Vec<(Repository, Class, Member)> {
    let listed = |name: &str| {
        let (number, entry) = *entries.get(name)?;
        Some((entry.repository.clone(), entry.class, Member { listed: Some(number), tag: scheme.parse(&entry.tag) }))
    };
    let by_tag = |reference: &Reference, class: Option<Class>| {
        let name = reference.tag.as_ref()?;
        let by_itself = || {
            let tag = scheme.parse(name.as_ref());
            (reference.repository.clone(), class.unwrap_or(tag.class), Member { listed: None, tag })
        };
        Some(listed(&format!("{}:{name}", reference.repository)).unwrap_or_else(by_itself))
    };
    let tags = image.tags.iter().filter_map(|name| by_tag(&name.parse().ok()?, None));
    let digests = image.digests.iter().filter_map(|name| listed(&name.parse::<Reference>().ok()?.digest?.to_string()));
    let mut members: Vec<_> = tags.chain(digests).collect();
    if members.is_empty()
        && let Some(wanted_as) = record.and_then(|record| record.wanted_as.as_ref())
    {
        members.extend(by_tag(&wanted_as.reference, Some(wanted_as.class)));
    }
    members
}

impl Member {
    /// The newest first: in the catalogue's order if it lists both, else in the order of the tag scheme.
    fn order(&self, other: &Self) -> Ordering {
        match (self.listed, other.listed) {
            (Some(own), Some(others)) => own.cmp(&others),
            _ => self.tag.menu_order(&other.tag),
        }
    }
}

#[cfg(test)]
mod tests;
