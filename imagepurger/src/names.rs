//! Compares names of images: an id, a tag or a digest may each refer to one image, in several spellings.

use std::collections::HashMap;
use std::iter;

use lab_images::catalogue::CatalogueImage;
use lab_images::reference::{Reference, Repository};
use lab_images::runtime::Image;

/// Docker shows ids cut to this many hexadecimal digits.
const SHORT_ID: usize = 12;

/// Every name that an image may have: its id, its tags and digests as they are and fully qualified, and each digest
/// alone, because the same digest in another repository is the same image.
pub fn of_image(image: &Image) -> impl Iterator<Item = String> + '_ {
    iter::once(image.id.clone()).chain(image.tags.iter().chain(&image.digests).flat_map(|name| spellings(name)))
}

/// A name as it is, fully qualified, and its digest. A name with a tag and a digest matches by either.
pub fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    if let Ok(reference) = name.parse::<Reference>() {
        all.extend(reference.tag.as_ref().map(|tag| format!("{}:{tag}", reference.repository)));
        all.extend(reference.digest.map(|digest| digest.to_string()));
    }
    all
}

/// Every name by which a node may hold the image of a catalogue entry: its reference, its digest alone (a node may hold
/// the image by digest, or under a tag that has moved), its aliases.
pub fn names_of_entry(entry: &CatalogueImage) -> impl Iterator<Item = String> + '_ {
    let digest = entry.digest.as_ref().map(ToString::to_string);
    let aliases = entry.aliases.iter().map(|alias| format!("{}:{alias}", entry.repository));
    iter::once(entry.reference.to_string()).chain(digest).chain(aliases)
}

/// The repositories of an image's names; `None` if one of them cannot be parsed.
pub fn repositories(image: &Image) -> Option<Vec<Repository>> {
    let names = image.tags.iter().chain(&image.digests);
    names.map(|name| name.parse::<Reference>().ok().map(|reference| reference.repository)).collect()
}

/// A map from names to values. The first value added for a name wins.
#[derive(Clone, Debug)]
pub struct Named<T> {
    by_name: HashMap<String, T>,
    short_ids: Vec<(String, T)>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), short_ids: Vec::new() }
    }
}

impl<T: Clone> Named<T> {
    /// Adds a name in all its spellings.
    pub fn add(&mut self, name: &str, meaning: &T) {
        for spelling in spellings(name) {
            self.by_name.entry(spelling).or_insert_with(|| meaning.clone());
        }
        let is_hexadecimal = name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if name.len() >= SHORT_ID && is_hexadecimal {
            self.short_ids.push((name.to_owned(), meaning.clone()));
        }
    }

    /// The value that was added for this name or for one of its spellings.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.by_name.get(name)
    }

    /// The value for the image, if any of its names was added.
    pub fn of(&self, image: &Image) -> Option<&T> {
        let hexadecimal = image.id.rsplit(':').next().unwrap_or_default();
        let short = || self.short_ids.iter().find(|(short, _)| hexadecimal.starts_with(short)).map(|(_, what)| what);
        of_image(image).find_map(|name| self.by_name.get(&name)).or_else(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn image() -> Image {
        Image {
            id: format!("sha256:{HEX}"),
            tags: vec!["docker.io/library/lab:w_1".into()],
            digests: vec![format!("docker.io/library/lab@sha256:{OTHER}")],
            size: 1,
            pinned: false,
        }
    }

    #[test]
    fn every_way_to_name_an_image_is_known() {
        let table = [
            ("lab:w_1".to_owned(), true),
            ("library/lab:w_1".to_owned(), true),
            ("docker.io/library/lab:w_1".to_owned(), true),
            ("index.docker.io/library/lab:w_1".to_owned(), true),
            (format!("sha256:{HEX}"), true),
            (HEX.to_owned(), true),
            (HEX[..12].to_owned(), true),
            (format!("lab@sha256:{OTHER}"), true),
            (format!("elsewhere.example.org/lab@sha256:{OTHER}"), true),
            (format!("sha256:{OTHER}"), true),
            (format!("lab:moved@sha256:{OTHER}"), true),
            (format!("lab:w_1@sha256:{}", "a".repeat(64)), true),
            ("lab:w_2".to_owned(), false),
            ("other/lab:w_1".to_owned(), false),
            (format!("lab@sha256:{}", "a".repeat(64)), false),
            (OTHER[..12].to_owned(), false),
            ("012345".to_owned(), false),
            (String::new(), false),
            ("no name: at all".to_owned(), false),
        ];
        for (name, known) in table {
            let mut named = Named::default();
            named.add(&name, &());
            assert_eq!(named.of(&image()).is_some(), known, "{name}");
        }
    }

    #[test]
    fn a_name_that_cannot_be_parsed_still_matches_itself() {
        let odd = Image { tags: vec!["UPPER/case:1".into()], ..image() };
        let mut named = Named::default();
        named.add("UPPER/case:1", &());
        assert!(named.of(&odd).is_some());
        assert_eq!(repositories(&odd), None);
        assert_eq!(repositories(&image()).unwrap().len(), 2);
    }
}
