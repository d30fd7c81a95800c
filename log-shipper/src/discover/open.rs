//! Opens new files of a folder at once, and passes them to their log.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Discovery;
use super::docker_config;
use super::listing::{self, Listed};
use super::problem::{Kind, Problem};
use crate::checkpoint::LogKey;
use crate::container::Container;
use crate::follow::{ContainerLog, FileEvent, Opened};
use crate::plan::Change;

impl Discovery {
    /// Opens new files and passes them on; `false` if something could not be opened.
    pub(super) fn take(&mut self, path: &Arc<Path>, changes: Vec<Change>, listed: &[Listed]) -> bool {
        let mut all_open = true;
        let mut news: BTreeMap<Arc<str>, Vec<FileEvent>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Gone(key) => {
                    let Some(folder) = self.folders.get_mut(path) else { continue };
                    folder.known.retain(|(known, _)| *known != key);
                    self.owners.remove(&key);
                    // The log knows whether the file was its own.
                    for log in &folder.logs {
                        news.entry(log.key.base.clone()).or_default().push(FileEvent::Gone(key));
                    }
                }
                Change::Open(key, name) | Change::Rename(key, name) => {
                    let Some(base) = listed.iter().find(|file| file.key == key).map(|file| file.base.clone()) else {
                        continue;
                    };
                    if !self.follows(path, &base) {
                        continue;
                    }
                    match listing::open(&path.join(&*name), key) {
                        Ok(file) => {
                            self.folders.entry(path.clone()).or_default().know(key, name.clone());
                            self.owners.insert(key, path.clone());
                            news.entry(base).or_default().push(FileEvent::Opened(Opened { key, name, file }));
                        }
                        // The file was renamed or deleted since; the next scan finds that.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => all_open = false,
                        Err(error) => {
                            all_open = false;
                            self.problems.push(Problem::of_error(Kind::File, &path.join(&*name), &error));
                        }
                    }
                }
            }
        }
        for (base, news) in news {
            if let Some(log) = self.folders.get(path).and_then(|folder| folder.log(&base)) {
                log.enqueue(news);
                // Readers may wait for the broker. A rotated file has its final size now and is deleted soon. If this
                // process ends before the file is read, the next one can report what was lost.
                log.maintain(&self.reading);
                self.pool.wake(log);
            }
        }
        all_open
    }

    /// Whether the log with this base in this folder is followed. Starts to follow it if it should be.
    pub(super) fn follows(&mut self, path: &Arc<Path>, base: &Arc<str>) -> bool {
        if self.folders.get(path).is_some_and(|folder| folder.log(base).is_some()) {
            return true;
        }
        let mut labels = BTreeMap::new();
        let container = Container::of_pod_folder(path, base.clone()).or_else(|| {
            let config = docker_config::read(&path.join("config.v2.json"));
            labels = config.as_deref().map(Container::docker_labels).unwrap_or_default();
            // Docker keeps other files here, too, such as container-cached.log.
            Container::of_docker_folder(path, config.as_deref()).filter(|container| container.has_log(base))
        });
        let Some(container) = container.filter(|container| self.choice.takes(container, &labels)) else { return false };
        let key = LogKey { folder: path.clone(), base: base.clone() };
        let saved = self.logs.claim(&key);
        let log = ContainerLog::new(
            self.next_id,
            key,
            container,
            saved,
            self.at_end,
            self.reading.max_line,
            self.reading.traces,
        );
        self.next_id += 1;
        let log = Arc::new(log);
        self.logs.insert(log.clone());
        let folder = self.folders.entry(path.clone()).or_default();
        folder.logs.reserve_exact(1);
        folder.logs.push(log);
        true
    }
}
