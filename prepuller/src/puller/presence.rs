//! Decides whether an ordered image is on the machine, from the runtime's list. Pure.

use std::collections::HashMap;

use lab_images::reference::{Digest, Reference};
use lab_images::runtime::Image;

/// What the machine has under an ordered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// The image as ordered.
    Here,
    /// The name refers to another image: the tag moved.
    OtherDigest,
    /// There is no such image.
    Absent,
}

/// Images on the machine by normalized name (Docker lists `owner/lab:tag` for `docker.io/owner/lab:tag`).
pub(super) struct Held<'a>(HashMap<Reference, &'a Image>);

impl<'a> Held<'a> {
    /// Built from the runtime's list. Names that are not references (`<none>:<none>`) cannot be ordered and are
    /// skipped.
    pub(super) fn new(images: &'a [Image]) -> Self {
        let names = |image: &'a Image| {
            let names = image.tags.iter().chain(&image.digests);
            names.filter_map(|name| name.parse().ok()).map(move |reference| (reference, image))
        };
        Self(images.iter().flat_map(names).collect())
    }

    /// Whether `reference` is present, with `digest` if one is given (of the index or of the platform's manifest). A
    /// digest in the reference takes precedence, because the tag beside it may have moved.
    pub(super) fn holds(&self, reference: &Reference, digest: Option<&Digest>) -> Presence {
        let Some(image) = self.0.get(&reference.decisive()) else { return Presence::Absent };
        let Some(digest) = digest.filter(|_| reference.digest.is_none()) else { return Presence::Here };
        let digest = digest.to_string();
        let is_it = |name: &String| name.rsplit('@').next() == Some(digest.as_str());
        if image.digests.iter().any(is_it) { Presence::Here } else { Presence::OtherDigest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
    const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

    fn image(tags: &[&str], digests: &[String]) -> Image {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Image { id: OTHER.to_owned(), tags, digests: digests.to_vec(), size: 1, pinned: false }
    }

    fn holds(image: Image, reference: &str, digest: Option<&str>) -> Presence {
        let digest = digest.map(|digest| digest.parse().unwrap());
        Held::new(&[image]).holds(&reference.parse().unwrap(), digest.as_ref())
    }

    #[test]
    fn the_tag_and_the_digest_both_count() {
        let lab = || image(&["r.example.org/lab:w_1"], &[format!("r.example.org/lab@{DIGEST}")]);
        assert_eq!(holds(lab(), "r.example.org/lab:w_1", Some(DIGEST)), Presence::Here);
        assert_eq!(holds(lab(), "r.example.org/lab:w_1", None), Presence::Here);
        assert_eq!(holds(lab(), "r.example.org/lab:w_1", Some(OTHER)), Presence::OtherDigest);
        assert_eq!(holds(lab(), "r.example.org/lab:w_2", Some(DIGEST)), Presence::Absent);
    }

    #[test]
    fn a_reference_by_digest_is_found() {
        let lab = image(&[], &[format!("r.example.org/lab@{DIGEST}")]);
        assert_eq!(holds(lab, &format!("r.example.org/lab@{DIGEST}"), None), Presence::Here);
    }

    #[test]
    fn a_digest_beside_a_tag_decides() {
        let pinned = format!("r.example.org/lab:w_1@{DIGEST}");
        // The tag has moved, and its current image says nothing about the digest.
        let moved = || image(&["r.example.org/lab:w_1"], &[format!("r.example.org/lab@{OTHER}")]);
        assert_eq!(holds(moved(), &pinned, None), Presence::Absent);
        assert_eq!(holds(moved(), &pinned, Some(OTHER)), Presence::Absent);
        // The digest is present, whatever its name, or without a name.
        for tags in [&[][..], &["r.example.org/lab:w_1"], &["r.example.org/lab:w_2"]] {
            let held = image(tags, &[format!("r.example.org/lab@{DIGEST}")]);
            assert_eq!(holds(held, &pinned, Some(OTHER)), Presence::Here, "{tags:?}");
        }
        // The same digest in another repository has another name.
        let elsewhere = image(&[], &[format!("r.example.org/other@{DIGEST}")]);
        assert_eq!(holds(elsewhere, &pinned, None), Presence::Absent);
    }

    #[test]
    fn docker_lists_short_names() {
        let lab = image(&["lsstsqre/lab:w_1", "<none>:<none>"], &[format!("lsstsqre/lab@{DIGEST}")]);
        assert_eq!(holds(lab, "docker.io/lsstsqre/lab:w_1", Some(DIGEST)), Presence::Here);
    }
}
