//! gRPC on unix sockets, as container runtimes speak it: a server whose answers come from a test, and a proxy with
//! hooks. Unary calls only; messages are bytes.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::{Error, Result};

/// One call to a server.
#[derive(Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: String,
    /// Its headers.
    pub metadata: MetadataMap,
    /// The request.
    pub message: Bytes,
}

/// A server's answer.
pub type Answer = Pin<Box<dyn Future<Output = std::result::Result<Bytes, Status>> + Send>>;

/// A server on a unix socket, in a separate thread; dropping it stops it.
#[derive(Debug)]
pub struct GrpcServer {
    socket: PathBuf,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcServer {
    /// Listens on a socket that does not exist yet.
    pub fn start(socket: &Path, answer: impl Fn(Call) -> Answer + Send + Sync + 'static) -> Result<GrpcServer> {
        let failed = || Error::io(format!("listen on {}", socket.display()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).map_err(failed())?
        };
        let (end, ended) = oneshot::channel();
        let answer: Arc<dyn Fn(Call) -> Answer + Send + Sync> = Arc::new(answer);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { () = serve(listener, answer) => {} _ = ended => {} }
            });
        });
        Ok(GrpcServer { socket: socket.to_owned(), end: Some(end), thread: Some(thread) })
    }

    /// A server that forwards every call to `target`. The hook gets each call's method just before and just after it,
    /// and may block the call.
    pub fn proxy(
        socket: &Path,
        target: &Path,
        hook: impl Fn(&str, Moment) + Send + Sync + 'static,
    ) -> Result<GrpcServer> {
        let address = format!("unix://{}", target.display());
        let hook = Arc::new(hook);
        GrpcServer::start(socket, move |call| {
            let (address, hook) = (address.clone(), Arc::clone(&hook));
            Box::pin(async move {
                let method = call.path.rsplit('/').next().unwrap_or_default().to_owned();
                call_hook(&hook, &method, Moment::Before).await;
                let answer = pass_on(address, call).await;
                call_hook(&hook, &method, Moment::After).await;
                answer
            })
        })
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `unix:///…`, as `RUNTIME_ENDPOINT` has it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// When a hook of a proxy is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the call reaches the target.
    Before,
    /// After the target has answered, before the caller gets the answer.
    After,
}

async fn call_hook<H: Fn(&str, Moment) + Send + Sync + 'static>(hook: &Arc<H>, method: &str, moment: Moment) {
    let (hook, method) = (Arc::clone(hook), method.to_owned());
    // A panic in a hook fails the test, because the hook did not do its work.
    let _ = tokio::task::spawn_blocking(move || hook(&method, moment)).await;
}

async fn serve(listener: UnixListener, answer: Arc<dyn Fn(Call) -> Answer + Send + Sync>) {
    let incoming = stream::unfold(listener, |listener| async {
        let accepted: io::Result<_> = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let path = request.uri().path().to_owned();
            let method = tower::service_fn(move |request: Request<Bytes>| {
                let (metadata, _, message) = request.into_parts();
                let answer = answer(Call { path: path.clone(), metadata, message });
                async move { answer.await.map(Response::new) }
            });
            Ok::<_, Infallible>(tonic::server::Grpc::new(Raw).unary(method, request).await)
        }
    });
    let _ = Server::builder().serve_with_incoming(service, incoming).await;
}

/// Sends the same call to another server.
async fn pass_on(address: String, call: Call) -> std::result::Result<Bytes, Status> {
    let mut client = client(address).await?;
    let path = call.path.parse().map_err(|_| Status::internal("no path"))?;
    let mut request = Request::new(call.message);
    *request.metadata_mut() = call.metadata;
    client.unary(request, path, Raw).await.map(Response::into_inner)
}

/// One unary call with messages of `prost`.
pub(crate) async fn call<Q, A>(socket: &Path, path: &str, request: Q) -> std::result::Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut client = client(format!("unix://{}", socket.display())).await?;
    let path = path.parse().map_err(|_| Status::internal("no path"))?;
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    client.unary(Request::new(request), path, codec).await.map(Response::into_inner)
}

async fn client(address: String) -> std::result::Result<tonic::client::Grpc<Channel>, Status> {
    let endpoint = Endpoint::from_shared(address).map_err(|error| Status::internal(error.to_string()))?;
    let mut client = tonic::client::Grpc::new(endpoint.connect_lazy());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client)
}

/// Messages as bytes.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> std::result::Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> std::result::Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
