//! The catalogue: which lab images exist and which are wanted, as JSON, version 1.
//!
//! Only `prepuller` writes it; the Hub's menu, the purger and operators read it. A reader ignores unknown fields, which a
//! newer program may have added, and refuses another version.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::reference::{Digest, Platform, Reference, Repository};
use crate::tag::Class;

/// The version that this code reads and writes.
const VERSION: u32 = 1;

/// The largest catalogue that is read. A catalogue of 10,000 tags has about 4 MB.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Lab images in the order of a menu.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Catalogue {
    /// The format's version.
    pub version: u32,
    /// When the registry was scanned.
    pub generated: Timestamp,
    /// Whether the scan was complete. Nothing is ever removed because of an incomplete one.
    pub complete: bool,
    /// The state of each repository. Empty in a catalogue of an older prepuller, where `complete` applies to all of it.
    #[serde(default)]
    pub repositories: Vec<RepositoryState>,
    /// The images.
    pub images: Vec<CatalogueImage>,
}

/// The state of a repository in the catalogue.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RepositoryState {
    /// The repository.
    pub name: Repository,
    /// Whether the last scan of it was complete. If not, the images are those of the last good scan, if there was one.
    pub complete: bool,
    /// When these images were scanned; unset if no scan was good so far.
    #[serde(default)]
    pub scanned: Option<Timestamp>,
    /// What was wrong with the last scan, or needs attention although it was complete.
    #[serde(default)]
    pub problem: Option<String>,
    /// How many tags the registry listed, if they were listed completely.
    #[serde(default)]
    pub tags: Option<u64>,
    /// How many of these tags the scheme (`LAB_TAG_SCHEME`) could not read.
    #[serde(default)]
    pub unread: Option<u64>,
}

/// The purpose of an image.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Users start it.
    #[default]
    Lab,
    /// Nodes need it (`LAB_INFRASTRUCTURE_IMAGES`).
    Infrastructure,
}

/// One tag of the catalogue.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CatalogueImage {
    /// The full name, with the tag.
    pub reference: Reference,
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: String,
    /// Its class.
    pub class: Class,
    /// Its purpose. A catalogue of an older prepuller does not contain it.
    #[serde(default)]
    pub kind: Kind,
    /// Its name in a menu.
    pub name: String,
    /// The digest of the tag: that of the index, if there is one. Known only for wanted and alias tags.
    pub digest: Option<Digest>,
    /// The platforms that it runs on, if they are known.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Compressed size in bytes for this scan's platform, if it is known.
    pub size: Option<u64>,
    /// Its aliases.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Whether nodes should have it.
    pub wanted: bool,
    /// Why it is wanted, or why not.
    pub why: String,
}

/// Why a catalogue could not be read.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// The file could not be read.
    #[error("cannot read the catalogue {path}: {source}")]
    Read { path: String, source: std::io::Error },
    /// Not a catalogue.
    #[error("{from} is not a catalogue: {source}")]
    Json { from: String, source: serde_json::Error },
    /// A version that this code does not read.
    #[error("{from} has version {found}, but this program reads version {VERSION}; update it together with prepuller")]
    Version { from: String, found: u64 },
    /// It is too large.
    #[error("{from} has more than {MOST_BYTES} bytes and is not read")]
    TooLarge { from: String },
}

impl CatalogueImage {
    /// The architectures, in Kubernetes' terms, of machines that can run it; unset if its platforms are not known.
    pub fn architectures(&self) -> Option<Vec<String>> {
        if self.platforms.is_empty() {
            return None;
        }
        let named = self.platforms.iter().map(|platform| platform.architecture.clone());
        // Machines of these architectures also run programs of others.
        let all: BTreeSet<String> = named.chain(["amd64", "arm64", "arm"].map(str::to_owned)).collect();
        let machine = |architecture: &String| Platform {
            os: "linux".to_owned(),
            architecture: architecture.clone(),
            variant: None,
        };
        let runs = |architecture: &String| self.platforms.iter().any(|one| machine(architecture).can_run(one));
        Some(all.into_iter().filter(runs).collect())
    }
}

impl Catalogue {
    /// A catalogue generated at this time.
    pub fn new(generated: Timestamp, complete: bool, images: Vec<CatalogueImage>) -> Self {
        Self { version: VERSION, generated, complete, repositories: Vec::new(), images }
    }

    /// The wanted images, in the order of a menu.
    pub fn wanted(&self) -> impl Iterator<Item = &CatalogueImage> {
        self.images.iter().filter(|image| image.wanted)
    }

    /// Whether the part of the catalogue for this repository is from a complete last scan. Images that may belong to
    /// another part are never removed.
    pub fn is_complete(&self, repository: &Repository) -> bool {
        let state = self.repositories.iter().find(|state| state.name == *repository);
        state.map_or(self.complete, |state| state.complete)
    }

    /// Parses JSON; `from` names its source in errors.
    ///
    /// # Errors
    ///
    /// [`CatalogueError`] if it is not a catalogue, or has another version.
    pub fn from_json(json: &[u8], from: &str) -> Result<Self, CatalogueError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        if json.len() as u64 > MOST_BYTES {
            return Err(CatalogueError::TooLarge { from: from.to_owned() });
        }
        let no_catalogue = |source| CatalogueError::Json { from: from.to_owned(), source };
        let Versioned { version: found } = serde_json::from_slice(json).map_err(no_catalogue)?;
        if found != u64::from(VERSION) {
            return Err(CatalogueError::Version { from: from.to_owned(), found });
        }
        serde_json::from_slice(json).map_err(no_catalogue)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`CatalogueError`].
    pub fn read(path: &Path) -> Result<Self, CatalogueError> {
        let name = path.display().to_string();
        let failed = |source| CatalogueError::Read { path: name.clone(), source };
        if std::fs::metadata(path).map_err(failed)?.len() > MOST_BYTES {
            return Err(CatalogueError::TooLarge { from: name });
        }
        Self::from_json(&std::fs::read(path).map_err(failed)?, &name)
    }

    /// Writes a file atomically.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        sidecar::files::replace(path, &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(complete: bool, wanted: bool) -> Catalogue {
        let reference: Reference = "registry.example.org/owner/lab:w_2026_47".parse().unwrap();
        let image = CatalogueImage {
            repository: reference.repository.clone(),
            reference,
            tag: "w_2026_47".to_owned(),
            class: Class::Weekly,
            kind: Kind::Lab,
            name: "Weekly 2026_47".to_owned(),
            digest: None,
            platforms: vec!["linux/amd64".parse().unwrap()],
            size: Some(8_000_000_000),
            aliases: vec!["recommended".to_owned()],
            wanted,
            why: "newest weekly".to_owned(),
        };
        Catalogue::new("2026-11-22T10:00:00Z".parse().unwrap(), complete, vec![image])
    }

    #[test]
    fn the_format_is_the_one_that_readers_expect() {
        let json = serde_json::to_string(&catalogue(true, true)).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"version":1,"generated":"2026-11-22T10:00:00Z","complete":true,"repositories":[],"images":[{"#,
                r#""reference":"registry.example.org/owner/lab:w_2026_47","repository":"registry.example.org/owner/lab","#,
                r#""tag":"w_2026_47","class":"weekly","kind":"lab","name":"Weekly 2026_47","digest":null,"platforms":["linux/amd64"],"#,
                r#""size":8000000000,"aliases":["recommended"],"wanted":true,"why":"newest weekly"}]}"#
            )
        );
        assert_eq!(Catalogue::from_json(json.as_bytes(), "x").unwrap(), catalogue(true, true));
    }

    #[test]
    fn added_fields_are_accepted_and_another_version_is_not() {
        let mut json = serde_json::to_value(catalogue(true, true)).unwrap();
        json["nodes"] = 7.into();
        json["images"][0]["nodes"] = 7.into();
        assert!(Catalogue::from_json(json.to_string().as_bytes(), "x").is_ok());
        json["version"] = 2.into();
        let error = Catalogue::from_json(json.to_string().as_bytes(), "the ConfigMap").unwrap_err().to_string();
        assert!(error.contains("the ConfigMap has version 2"), "{error}");
        assert!(Catalogue::from_json(b"[]", "x").unwrap_err().to_string().contains("not a catalogue"));
    }

    #[test]
    fn an_image_runs_where_containerd_would_run_it() {
        let on = |platforms: &[&str]| {
            let image = catalogue(true, true).images.remove(0);
            let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
            CatalogueImage { platforms, ..image }.architectures().map(|all| all.join(" "))
        };
        assert_eq!(on(&[]), None);
        assert_eq!(on(&["linux/amd64"]).as_deref(), Some("amd64"));
        assert_eq!(on(&["linux/386"]).as_deref(), Some("386 amd64"));
        assert_eq!(on(&["linux/arm/v7"]).as_deref(), Some("arm arm64"));
        assert_eq!(on(&["linux/arm/v8"]).as_deref(), Some("arm64"));
        assert_eq!(on(&["linux/arm64", "linux/s390x"]).as_deref(), Some("arm64 s390x"));
        // Usual machines do not run these.
        assert_eq!(on(&["linux/amd64/v3"]).as_deref(), Some(""));
        assert_eq!(on(&["windows/amd64"]).as_deref(), Some(""));
    }

    #[test]
    fn each_repository_has_its_own_state() {
        let state = |name: &str, complete| RepositoryState {
            name: name.parse().unwrap(),
            complete,
            scanned: None,
            problem: None,
            tags: None,
            unread: None,
        };
        let mut partial = catalogue(false, true);
        let lab = partial.images[0].repository.clone();
        assert!(!partial.is_complete(&lab), "an older prepuller says it of all");
        partial.repositories = vec![state("registry.example.org/owner/lab", true), state("docker.io/other/lab", false)];
        assert!(partial.is_complete(&lab) && !partial.is_complete(&"other/lab".parse().unwrap()));
    }

    #[test]
    fn a_catalogue_of_an_older_prepuller_is_read() {
        let mut json = serde_json::to_value(catalogue(true, true)).unwrap();
        json.as_object_mut().unwrap().remove("repositories");
        json["images"][0].as_object_mut().unwrap().remove("kind");
        assert_eq!(Catalogue::from_json(json.to_string().as_bytes(), "x").unwrap(), catalogue(true, true));
    }

    #[test]
    fn a_file_is_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.json");
        catalogue(true, true).write(&path).unwrap();
        assert_eq!(Catalogue::read(&path).unwrap(), catalogue(true, true));
        let error = Catalogue::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
