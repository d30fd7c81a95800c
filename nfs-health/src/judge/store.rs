//! The objects of one kind, as a watch reports them; of each, only what is needed is kept.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// Namespace and name of an object. The namespace is empty for a kind that has none.
pub type Key = (String, String);

/// What is known of the objects of one kind.
#[derive(Debug)]
pub struct Store<T> {
    known: BTreeMap<Key, T>,
    /// Those that a new list has named so far.
    listed: BTreeMap<Key, T>,
    complete: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), listed: BTreeMap::new(), complete: false }
    }
}

impl<T> Store<T> {
    /// Handles an event of the watch. `read` gives what to keep of an object, and `None` for an object that does not matter.
    pub fn take<K: Resource>(&mut self, event: Event<K>, read: impl FnOnce(&K) -> Option<T>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => keep(&mut self.listed, &object, read),
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.complete = true;
            }
            Event::Apply(object) => keep(&mut self.known, &object, read),
            Event::Delete(object) => drop(self.known.remove(&key(&object))),
        }
    }

    /// Whether one list was complete. While the watch is broken, its objects stay known.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The objects that are known.
    pub fn objects(&self) -> &BTreeMap<Key, T> {
        &self.known
    }
}

fn key(object: &impl Resource) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn keep<K: Resource, T>(objects: &mut BTreeMap<Key, T>, object: &K, read: impl FnOnce(&K) -> Option<T>) {
    match read(object) {
        Some(kept) => drop(objects.insert(key(object), kept)),
        None => drop(objects.remove(&key(object))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{from_value, json};

    fn object(name: &str, value: Option<&str>) -> ConfigMap {
        let data = value.map(|value| json!({"value": value}));
        from_value(json!({"metadata": {"namespace": "labs", "name": name}, "data": data})).unwrap()
    }

    fn names(store: &Store<String>) -> Vec<&str> {
        store.objects().keys().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn objects_come_and_go_and_a_broken_watch_removes_none() {
        let mut store = Store::<String>::default();
        let mut take = |event| {
            store.take(event, |object: &ConfigMap| object.data.as_ref()?.get("value").cloned());
            (store.is_complete(), names(&store).join(" "))
        };
        take(Event::Init);
        take(Event::InitApply(object("other", None)));
        assert_eq!(take(Event::InitApply(object("a", Some("1")))), (false, String::new()), "no list is complete yet");
        assert_eq!(take(Event::InitDone), (true, "a".to_owned()));
        assert_eq!(take(Event::Apply(object("b", Some("1")))).1, "a b");
        assert_eq!(take(Event::Delete(object("a", Some("1")))).1, "b");
        // The watch broke and starts again; b was deleted meanwhile.
        take(Event::Init);
        assert_eq!(take(Event::InitApply(object("c", Some("1")))), (true, "b".to_owned()));
        assert_eq!(take(Event::InitDone).1, "c");
        // It no longer matters.
        assert_eq!(take(Event::Apply(object("c", None))).1, "");
    }
}
