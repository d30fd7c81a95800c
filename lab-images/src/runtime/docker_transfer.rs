//! The progress of a pull, from the messages that the Docker engine streams.

use bollard::models::CreateImageInfo;

use super::{Layer, LayerProgress, Transfer};

/// The most layers of a pull. An image cannot have more (overlay stops at 128), and a faulty stream must not fill
/// memory.
const MOST_LAYERS: usize = 1024;

/// The layers of one pull, by the engine's short names.
#[derive(Debug)]
pub(super) struct DockerTransfer<'a> {
    known: &'a [Layer],
    layers: Vec<LayerProgress>,
    spoken: bool,
}

impl<'a> DockerTransfer<'a> {
    /// A pull whose layers are `known`, as far as the caller knows them.
    pub(super) fn new(known: &'a [Layer]) -> Self {
        Self { known, layers: Vec::new(), spoken: false }
    }

    /// Processes one message. Returns whether anything changed. The statuses are those of the engine's `POST
    /// /images/create`; others are ignored.
    pub(super) fn take(&mut self, message: &CreateImageInfo) -> bool {
        let (Some(layer), Some(status)) = (&message.id, &message.status) else { return false };
        let detail = message.progress_detail.as_ref();
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let current = number(detail.and_then(|detail| detail.current)).unwrap_or(0);
        let total = number(detail.and_then(|detail| detail.total)).filter(|&total| total > 0);
        match status.as_str() {
            "Already exists" => {
                self.layers.retain(|known| known.layer != *layer);
                self.spoken = true;
            }
            "Pulling fs layer" | "Waiting" => {
                self.layer(layer);
            }
            "Downloading" => {
                if let Some(entry) = self.layer(layer) {
                    entry.total = entry.total.or(total);
                    entry.done = current.min(entry.total.unwrap_or(u64::MAX));
                }
            }
            "Verifying Checksum" | "Download complete" => {
                if let Some(entry) = self.layer(layer) {
                    entry.done = *entry.total.get_or_insert(entry.done);
                }
            }
            "Extracting" => {
                if let Some(entry) = self.layer(layer) {
                    entry.done = *entry.total.get_or_insert(total.unwrap_or(entry.done));
                    entry.unpacked = current;
                }
            }
            "Pull complete" => {
                if let Some(entry) = self.layer(layer) {
                    entry.done = *entry.total.get_or_insert(entry.done);
                    entry.unpacked = entry.done;
                }
            }
            _ => return false,
        }
        true
    }

    /// The progress after the last message.
    pub(super) fn transfer(&self) -> Transfer {
        // The engine reports exactly the layers that it lacks.
        let layers = || Transfer::Layers { layers: self.layers.clone(), fetching: true };
        if self.spoken { layers() } else { Transfer::Unseen }
    }

    fn layer(&mut self, name: &str) -> Option<&mut LayerProgress> {
        self.spoken = true;
        let found = self.layers.iter().position(|layer| layer.layer == name);
        if found.is_none() {
            if self.layers.len() >= MOST_LAYERS {
                return None;
            }
            // The engine abbreviates a layer's digest to its first twelve digits.
            let is_it = |layer: &&Layer| {
                layer.digest.to_string().strip_prefix("sha256:").is_some_and(|hex| hex.starts_with(name))
            };
            let total = self.known.iter().find(is_it).map(|layer| layer.size);
            self.layers.push(LayerProgress { layer: name.to_owned(), done: 0, total, unpacked: 0 });
        }
        let last = self.layers.len().checked_sub(1)?;
        self.layers.get_mut(found.unwrap_or(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Moved;
    use proptest::prelude::*;

    const KNOWN: &str = "sha256:aaaaaaaaaaaa0000000000000000000000000000000000000000000000000000";

    fn known() -> Vec<Layer> {
        vec![Layer { digest: KNOWN.parse().unwrap(), size: 100 }]
    }

    fn message(id: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        let text = format!(
            r#"{{"id":"{id}","status":"{status}","progressDetail":{{"current":{current},"total":{total}}},"progress":"[=>]"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn moved(known: &[Layer], messages: &[(&str, &str, i64, i64)]) -> Option<Moved> {
        let mut transfer = DockerTransfer::new(known);
        for (id, status, current, total) in messages {
            transfer.take(&message(id, status, *current, *total));
        }
        transfer.transfer().moved()
    }

    #[test]
    fn messages_become_bytes() {
        let sums = |done, total, open, unpacked| Some(Moved { done, total, open, unpacked, fetching: true });
        let (a, b) = ("aaaaaaaaaaaa", "bbbbbbbbbbbb");
        let table = [
            ("nothing said", vec![], None),
            ("a status of no layer", vec![("w_1", "Pulling from lab", 0, 0)], None),
            ("all is there", vec![(a, "Already exists", 0, 0)], sums(0, 0, false, 0)),
            ("a known layer has its size at once", vec![(a, "Pulling fs layer", 0, 0)], sums(0, 100, false, 0)),
            ("an unknown layer is open", vec![(b, "Pulling fs layer", 0, 0)], sums(0, 0, true, 0)),
            ("and tells later", vec![(b, "Waiting", 0, 0), (b, "Downloading", 5, 50)], sums(5, 50, false, 0)),
            ("a download of unknown size", vec![(b, "Downloading", 5, -1)], sums(5, 5, true, 0)),
            ("ends", vec![(b, "Downloading", 5, -1), (b, "Download complete", 0, 0)], sums(5, 5, false, 0)),
            (
                "two layers, one unpacks",
                vec![(a, "Downloading", 40, 100), (b, "Downloading", 30, 30), (b, "Extracting", 10, 30)],
                sums(70, 130, false, 10),
            ),
            ("complete", vec![(a, "Downloading", 40, 100), (a, "Pull complete", 0, 0)], sums(100, 100, false, 100)),
            ("a retry", vec![(a, "Downloading", 90, 100), (a, "Downloading", 1, 100)], sums(1, 100, false, 0)),
        ];
        let known = known();
        for (case, messages, expected) in table {
            assert_eq!(moved(&known, &messages), expected, "{case}");
        }
    }

    proptest! {
        #[test]
        fn any_stream_is_processed_within_bounds(
            messages in prop::collection::vec(
                (
                    "[a-f0-9]{0,2}",
                    prop::sample::select(vec![
                        "Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Download complete",
                        "Extracting", "Pull complete", "Already exists", "Retrying in 1 second", "",
                    ]),
                    any::<i64>(),
                    any::<i64>(),
                ),
                0..300,
            ),
        ) {
            let messages: Vec<_> = messages.iter().map(|(id, status, current, total)| (id.as_str(), *status, *current, *total)).collect();
            if let Some(moved) = moved(&known(), &messages) {
                prop_assert!(moved.done <= moved.total);
            }
        }
    }

    #[test]
    fn a_stream_of_endless_layers_does_not_fill_memory() {
        let mut transfer = DockerTransfer::new(&[]);
        for number in 0..10_000 {
            transfer.take(&message(&format!("{number:012}"), "Downloading", 1, 2));
        }
        assert_eq!(transfer.layers.len(), MOST_LAYERS);
    }
}
