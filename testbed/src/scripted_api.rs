//! A scripted Kubernetes API server behind a [`TcpProxy`] that may stall it: it stores and lists objects, and does
//! nothing else. For daemons that must cope with an API server that accepts and never answers, which a real one does
//! not do on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::proxy::TcpProxy;
use crate::{Error, Result};

/// A running server; its threads end with the test's process.
#[derive(Debug)]
pub struct ScriptedApi {
    proxy: TcpProxy,
    shared: Arc<Mutex<Shared>>,
    folder: Folder,
}

#[derive(Debug, Default)]
struct Shared {
    /// Objects by path.
    objects: BTreeMap<String, Value>,
    /// Path prefixes that it does not know.
    unknown: Vec<String>,
    /// `METHOD path` of each answered request.
    seen: Vec<String>,
}

impl ScriptedApi {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn start() -> Result<ScriptedApi> {
        let failed = || Error::io("listen for the scripted API server");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        let proxy = TcpProxy::start(listener.local_addr().map_err(failed())?)?;
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(std::result::Result::ok) {
                let shared = Arc::clone(&serving);
                // A client that disconnects does not fail the test.
                thread::spawn(move || drop(serve(client, &shared)));
            }
        });
        let folder = Folder::new("scripted-api")?;
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: a, cluster: {{server: \"http://{}\"}}}}]\nusers: [{{name: a, user: {{}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a, namespace: labhands-node}}}}]\ncurrent-context: a\n",
            proxy.host()
        );
        folder.write("kubeconfig", text)?;
        Ok(ScriptedApi { proxy, shared, folder })
    }

    /// The proxy between it and its clients.
    #[must_use]
    pub fn proxy(&self) -> &TcpProxy {
        &self.proxy
    }

    /// For `KUBECONFIG`. The namespace is `labhands-node`.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Stores this object at a path such as `/api/v1/nodes/node1`.
    pub fn put(&self, path: &str, object: Value) {
        lock(&self.shared).put(path, object);
    }

    /// Answers 404 below this path from now on, as for a kind whose CustomResourceDefinition is missing.
    pub fn does_not_know(&self, path: &str) {
        lock(&self.shared).unknown.push(path.to_owned());
    }

    /// Knows all paths again.
    pub fn knows_all(&self) {
        lock(&self.shared).unknown.clear();
    }

    /// The object at a path, if there is one.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Value> {
        lock(&self.shared).objects.get(path).cloned()
    }

    /// The objects whose paths begin with this prefix.
    #[must_use]
    pub fn objects(&self, beginning: &str) -> Vec<Value> {
        let shared = lock(&self.shared);
        let found = shared.objects.iter().filter(|(path, _)| path.starts_with(beginning));
        found.map(|(_, object)| object.clone()).collect()
    }

    /// How many requests with this prefix of `METHOD path` were answered.
    #[must_use]
    pub fn answered(&self, beginning: &str) -> usize {
        lock(&self.shared).seen.iter().filter(|seen| seen.starts_with(beginning)).count()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        let before = self.objects.get(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        let generation = before.and_then(|before| before["metadata"]["generation"].as_i64()).unwrap_or(0) + 1;
        object["metadata"]["name"] = json!(name);
        for (key, value) in [("uid", json!(path)), ("resourceVersion", json!("1")), ("generation", json!(generation))] {
            object["metadata"][key] = value;
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        self.seen.push(format!("{method} {path}"));
        let body = || serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
        match method {
            "POST" => {
                let object: Value = body();
                let name = object["metadata"]["name"].as_str().unwrap_or("unnamed").to_owned();
                (201, self.put(&format!("{path}/{name}"), object))
            }
            "PATCH" | "PUT" => match path.strip_suffix("/status") {
                None => (200, self.put(path, body())),
                Some(path) => {
                    let object = self.objects.entry(path.to_owned()).or_insert_with(|| json!({}));
                    object["status"] = body()["status"].take();
                    (200, object.clone())
                }
            },
            "GET" if self.objects.contains_key(path) => (200, self.objects[path].clone()),
            "GET" if is_list(path) => {
                let begins = format!("{path}/");
                let items = self
                    .objects
                    .iter()
                    .filter(|(path, _)| path.strip_prefix(&begins).is_some_and(|name| !name.contains('/')));
                let items: Vec<&Value> = items.map(|(_, object)| object).collect();
                (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}))
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
fn serve(mut client: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
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
        if lock(shared).unknown.iter().any(|unknown| path.starts_with(unknown)) {
            let text = "404 page not found\n";
            let head = format!("HTTP/1.1 404 X\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n", text.len());
            client.write_all((head + text).as_bytes())?;
            continue;
        }
        if query.contains("watch=true") {
            client.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            )?;
            lock(shared).seen.push(format!("WATCH {path}"));
            // No event follows until the client disconnects.
            std::io::copy(&mut reader, &mut std::io::sink())?;
            return Ok(());
        }
        let (status, answer) = lock(shared).answer(&method, path, &body);
        let text = answer.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        client.write_all((head + &text).as_bytes())?;
    }
}
