//! Converts CRI's messages to the types of [`Runtime`](crate::runtime::Runtime).

use std::collections::BTreeSet;

use super::api;
use crate::runtime::{ContainerImages, Image, PullCredentials};

impl From<api::Image> for Image {
    fn from(image: api::Image) -> Self {
        Self {
            id: image.id,
            tags: image.repo_tags,
            digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
        }
    }
}

impl From<api::Container> for ContainerImages {
    fn from(container: api::Container) -> Self {
        let named = container.image.into_iter().flat_map(names_in_spec);
        let ids = [container.image_ref, container.image_id].into_iter().filter(|name| !name.is_empty());
        Self { container: container.id, images: named.chain(ids).collect() }
    }
}

pub(super) fn names_in_spec(spec: api::ImageSpec) -> impl Iterator<Item = String> {
    [spec.image, spec.user_specified_image, spec.image_ref].into_iter().filter(|name| !name.is_empty())
}

pub(super) fn spec(name: &str) -> api::ImageSpec {
    api::ImageSpec { image: name.to_owned(), ..Default::default() }
}

pub(super) fn auth(credentials: &PullCredentials) -> api::AuthConfig {
    match credentials {
        PullCredentials::Basic { username, password } => {
            api::AuthConfig { username: username.clone(), password: password.expose().to_owned(), ..Default::default() }
        }
        PullCredentials::IdentityToken(token) => {
            api::AuthConfig { identity_token: token.expose().to_owned(), ..Default::default() }
        }
    }
}

/// containerd's CRI plugin includes its configuration in the verbose status.
pub(super) fn sandbox_image_in(config: &str) -> Option<ContainerImages> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    let image = config.get("sandboxImage")?.as_str()?.to_owned();
    Some(ContainerImages { container: "sandbox".into(), images: BTreeSet::from([image]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_containers_image_counts() {
        let image = Some(api::ImageSpec {
            image: "sha256:aa".into(),
            user_specified_image: "lab:w_1".into(),
            image_ref: "lab@sha256:bb".into(),
        });
        let container =
            api::Container { id: "c".into(), image, image_ref: "sha256:aa".into(), image_id: "sha256:cc".into() };
        let names = ContainerImages::from(container).images;
        assert_eq!(names, ["sha256:aa", "lab:w_1", "lab@sha256:bb", "sha256:cc"].map(String::from).into());
    }

    #[test]
    fn empty_names_are_not_names() {
        let container = api::Container { id: "c".into(), image_ref: "lab:w_1".into(), ..Default::default() };
        assert_eq!(ContainerImages::from(container).images, BTreeSet::from(["lab:w_1".to_owned()]));
    }

    #[test]
    fn a_pinned_image_stays_pinned() {
        let image = api::Image { id: "sha256:aa".into(), pinned: true, ..Default::default() };
        assert!(Image::from(image).pinned);
    }

    #[test]
    fn the_sandbox_image_is_read_from_the_configuration() {
        let found = sandbox_image_in(r#"{"sandboxImage":"registry/pause:1","other":1}"#).unwrap();
        assert_eq!(found.images, BTreeSet::from(["registry/pause:1".to_owned()]));
        for config in ["", "{}", "[]", r#"{"sandboxImage":3}"#] {
            assert_eq!(sandbox_image_in(config), None, "{config}");
        }
    }
}
