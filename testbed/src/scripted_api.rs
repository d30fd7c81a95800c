//! A scripted Kubernetes API server behind a [`TcpProxy`] that may stall it: it stores, lists and watches objects, and
//! does nothing else. For daemons that must cope with an API server that accepts and never answers, which a real one
//! does not do on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::proxy::TcpProxy;
use crate::{Error, Result};

/// How often a watch looks whether its client is still there.
const WATCH_CHECK: Duration = Duration::from_millis(500);

/// A running server; its threads end with the test's process.
#[derive(Debug)]
pub struct ScriptedApi {
    proxy: TcpProxy,
    server: Arc<Server>,
    folder: Folder,
}

#[derive(Debug, Default)]
struct Server {
    shared: Mutex<Shared>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Shared {
    /// Objects by path.
    objects: BTreeMap<String, Value>,
    /// All changes: the type of the watch event, the path, and the object. Versions of objects count them.
    changes: Vec<(&'static str, String, Value)>,
    /// Path prefixes that it does not know.
    unknown: Vec<String>,
    /// `METHOD path` of each answered request.
    seen: Vec<String>,
}

impl ScriptedApi {
    /// Starts it.
    pub fn start() -> Result<ScriptedApi> {
        let failed = || Error::io("listen for the scripted API server");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        let proxy = TcpProxy::start(listener.local_addr().map_err(failed())?)?;
        let server = Arc::<Server>::default();
        let serving = Arc::clone(&server);
        thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                let server = Arc::clone(&serving);
                // A client that disconnects does not fail the test.
                thread::spawn(move || drop(serve(client, &server)));
            }
        });
        let folder = Folder::new("scripted-api")?;
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: a, cluster: {{server: \"http://{}\"}}}}]\nusers: [{{name: a, user: {{}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a, namespace: labhands-node}}}}]\ncurrent-context: a\n",
            proxy.host()
        );
        folder.write("kubeconfig", text)?;
        Ok(ScriptedApi { proxy, server, folder })
    }

    /// The proxy between it and its clients.
    pub fn proxy(&self) -> &TcpProxy {
        &self.proxy
    }

    /// For `KUBECONFIG`. The namespace is `labhands-node`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Stores this object at a path such as `/api/v1/nodes/node1`.
    pub fn put(&self, path: &str, object: Value) {
        self.server.lock().put(path, object);
        self.server.changed.notify_all();
    }

    /// Deletes the object at a path.
    pub fn delete(&self, path: &str) {
        self.server.lock().delete(path);
        self.server.changed.notify_all();
    }

    /// Answers 404 below this path from now on, as for a kind whose CustomResourceDefinition is missing.
    pub fn does_not_know(&self, path: &str) {
        self.server.lock().unknown.push(path.to_owned());
    }

    /// Knows all paths again.
    pub fn knows_all(&self) {
        self.server.lock().unknown.clear();
    }

    /// The object at a path, if there is one.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.server.lock().objects.get(path).cloned()
    }

    /// The objects whose paths begin with this prefix.
    pub fn objects(&self, beginning: &str) -> Vec<Value> {
        let shared = self.server.lock();
        let found = shared.objects.iter().filter(|(path, _)| path.starts_with(beginning));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// How many requests with this prefix of `METHOD path` were answered.
    pub fn answered(&self, beginning: &str) -> usize {
        self.server.lock().seen.iter().filter(|seen| seen.starts_with(beginning)).count()
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watch events after a version, and the newest version; waits a moment if there are none.
    fn events(&self, after: usize, wanted: impl Fn(&str) -> bool) -> (Vec<Value>, usize) {
        let quiet = |shared: &mut Shared| shared.changes.len() <= after;
        let waited = self.changed.wait_timeout_while(self.lock(), WATCH_CHECK, quiet);
        let shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        let changes = shared.changes.iter().skip(after).filter(|(_, path, _)| wanted(path));
        let events = changes.map(|(kind, _, object)| json!({"type": kind, "object": object})).collect();
        (events, shared.changes.len())
    }
}

impl Shared {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        let before = self.objects.get(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let generation = before.and_then(|before| before["metadata"]["generation"].as_i64()).unwrap_or(0) + 1;
        object["metadata"]["name"] = json!(name);
        for (key, value) in [("uid", json!(path)), ("generation", json!(generation))] {
            object["metadata"][key] = value;
        }
        self.store(path, object)
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        object["metadata"]["resourceVersion"] = json!((self.changes.len() + 1).to_string());
        let kind = if self.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        self.objects.insert(path.to_owned(), object.clone());
        self.changes.push((kind, path.to_owned(), object.clone()));
        object
    }

    fn delete(&mut self, path: &str) {
        if let Some(object) = self.objects.remove(path) {
            self.changes.push(("DELETED", path.to_owned(), object));
        }
    }

    fn answer(&mut self, method: &str, path: &str, name: Option<&str>, body: &[u8]) -> (u16, Value) {
        self.seen.push(format!("{method} {path}"));
        let body = || serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
        match method {
            "POST" => {
                let object: Value = body();
                let name = object["metadata"]["name"].as_str().unwrap_or("unnamed").to_owned();
                (201, self.put(&format!("{path}/{name}"), object))
            }
            "PATCH" | "PUT" => match path.strip_suffix("/status") {
                None if method == "PUT" => (200, self.put(path, body())),
                None => {
                    let mut object = self.objects.get(path).cloned().unwrap_or_else(|| json!({}));
                    merge(&mut object, body());
                    (200, self.put(path, object))
                }
                Some(path) => {
                    let mut object = self.objects.get(path).cloned().unwrap_or_else(|| json!({}));
                    object["status"] = body()["status"].take();
                    (200, self.store(path, object))
                }
            },
            "GET" if self.objects.contains_key(path) => (200, self.objects[path].clone()),
            "GET" if is_list(path) => {
                let listed = self.objects.iter().filter(|(object, _)| is_in(object, path, name));
                let items: Vec<&Value> = listed.map(|(_, object)| object).collect();
                let version = self.changes.len().to_string();
                (
                    200,
                    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
                )
            }
            _ => {
                let message = format!("{path} is not there");
                (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": message}),
                )
            }
        }
    }
}

/// A JSON merge patch (RFC 7396).
fn merge(object: &mut Value, patch: Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    object.remove(&key);
                } else {
                    merge(object.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (object, patch) => *object = patch,
    }
}

/// Whether a path is that of an object of a list, and of the one with this name if there is one.
fn is_in(path: &str, list: &str, wanted: Option<&str>) -> bool {
    let name = path.strip_prefix(list).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| !name.contains('/') && wanted.is_none_or(|wanted| name == wanted))
}

/// Whether the last component of a path is a kind and not a name: `/api/v1/KIND`, `/apis/GROUP/VERSION/KIND`, or with
/// `namespaces/NAME`.
fn is_list(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => return false,
    };
    matches!(rest, [_] | ["namespaces", _, _])
}

/// Answers one client's requests, one after the other.
fn serve(mut client: TcpStream, server: &Server) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            match header.trim_end().to_ascii_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let selector = parameter(query, "fieldSelector").unwrap_or_default();
        let name = selector.strip_prefix("metadata.name=");
        if server.lock().unknown.iter().any(|unknown| path.starts_with(unknown)) {
            let text = "404 page not found\n";
            let head = format!("HTTP/1.1 404 X\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", text.len());
            client.write_all((head + text).as_bytes())?;
            continue;
        }
        if query.contains("watch=true") {
            server.lock().seen.push(format!("WATCH {path}"));
            let version = parameter(query, "resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
            return watch(client, server, version, |object| is_in(object, path, name));
        }
        let (status, answer) = server.lock().answer(&method, path, name, &body);
        server.changed.notify_all();
        let text = answer.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        client.write_all((head + &text).as_bytes())?;
    }
}

/// Sends all changes after a version, until the client disconnects.
fn watch(
    mut client: TcpStream,
    server: &Server,
    mut version: usize,
    wanted: impl Fn(&str) -> bool,
) -> std::io::Result<()> {
    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")?;
    client.set_nonblocking(true)?;
    while !matches!(client.peek(&mut [0]), Ok(0)) {
        let (events, newest) = server.events(version, &wanted);
        client.set_nonblocking(false)?;
        for event in events {
            let line = format!("{event}\n");
            client.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
        }
        client.set_nonblocking(true)?;
        version = newest;
    }
    Ok(())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
