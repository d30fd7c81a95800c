//! The page in a browser, served by the real router.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::routing::get;
use futures_util::StreamExt;
use testbed::chromium::{Browser, Look};
use testbed::wait::LIMIT;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use super::*;
use crate::page::tests::sample::{self, config, fleet};

/// Measures how much wider than the window the page is, and tells the server once live updates have arrived. Until then
/// the page has not finished loading, so that the browser waits.
const MEASURE: &str = r#"
const wide = () => { document.documentElement.dataset.over = document.documentElement.scrollWidth - innerWidth; };
addEventListener("DOMContentLoaded", wide);
const seen = new MutationObserver(() => {
    if (document.querySelector(".headline").textContent.includes("on both")) { wide(); fetch("seen"); seen.disconnect(); }
});
seen.observe(document, { subtree: true, childList: true, characterData: true });
"#;

const PHONE: Look = Look { width: 360, height: 2400, dark: false };
const DESK: Look = Look { width: 1280, height: 1600, dark: false };

struct Served {
    address: SocketAddr,
    changes: watch::Sender<u64>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

/// Serves overviews over the real routes, and `more` for the test alone.
async fn serve(look: impl Fn() -> Overview + Send + Sync + 'static, more: impl FnOnce(Shown) -> Router) -> Served {
    let (changes, receiver) = watch::channel(0);
    let shutdown = CancellationToken::new();
    let source = OverviewSource::new(look, receiver);
    let shown = Shown::new(source, config(), shutdown.clone());
    let router = router(shown.clone()).merge(more(shown));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ended = shutdown.clone();
    let serving = tokio::spawn(async move {
        axum::serve(listener, router).with_graceful_shutdown(ended.cancelled_owned()).await.unwrap();
    });
    Served { address, changes, shutdown, serving }
}

impl Served {
    async fn get(&self, path: &str) -> reqwest::Response {
        sidecar::tls::install_crypto_provider();
        reqwest::get(format!("http://{}{path}", self.address)).await.unwrap()
    }

    /// Looks at a page from a separate thread, because the browser blocks.
    async fn look<T: Send + 'static>(
        &self,
        path: &str,
        see: impl FnOnce(&Browser, &str) -> testbed::Result<T> + Send + 'static,
    ) -> T {
        let address = format!("http://{}{path}", self.address);
        let seen = tokio::task::spawn_blocking(move || see(&Browser::find()?, &address)).await.unwrap();
        seen.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

/// The page with [`MEASURE`] in addition to its own script.
fn measured(shown: Shown) -> Router {
    let seen = Arc::new(Notify::new());
    let (seen_by, waits) = (seen.clone(), seen);
    let script = |text: &'static str| ([(header::CONTENT_TYPE, "text/javascript")], text);
    Router::new()
        .route(
            "/measured",
            get(async move |query| {
                let html = html::page(&shown.view(&asked(query))).into_string();
                let scripts = "<script src=\"measure.js\"></script><script src=\"late.js\" defer></script></head>";
                ([(header::CONTENT_TYPE, "text/html")], html.replacen("</head>", scripts, 1))
            }),
        )
        .route("/measure.js", get(async move || script(MEASURE)))
        .route("/seen", get(async move || seen_by.notify_one()))
        .route(
            "/late.js",
            get(async move || {
                waits.notified().await;
                script("")
            }),
        )
        .layer(map_response(guarded))
}

/// The folder for screenshots, beside the other results of the build.
fn pictures() -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pictures");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The page in a browser that runs no scripts.
fn without_script(shown: Shown) -> Router {
    let sandbox = [(header::CONTENT_TYPE, "text/html"), (header::CONTENT_SECURITY_POLICY, "sandbox allow-same-origin")];
    let page = async move |query| (sandbox, html::page(&shown.view(&asked(query))).into_string());
    Router::new().route("/still", get(page))
}

#[tokio::test]
async fn a_browser_shows_it_wide_narrow_dark_and_without_script() {
    let served = serve(|| fleet(200), without_script).await;
    let folder = pictures();
    for (name, path, look) in [
        ("selection", "/", DESK),
        ("selection-dark", "/?show=problems", Look { dark: true, ..DESK }),
        ("phone", "/", PHONE),
        ("phone-without-script", "/still?show=pulling", PHONE),
        ("phone-dark", "/?missing=registry.example.org%2Frubin%2Flab%3Ad_2026_11_24", Look { dark: true, ..PHONE }),
    ] {
        let file = folder.join(format!("prepuller-{name}.png"));
        let written = file.clone();
        served.look(path, move |browser, address| browser.picture(address, look, &written)).await;
        assert!(std::fs::metadata(&file).unwrap().len() > 10_000, "{name}");
    }
    served.stop().await;
}

/// The names of nodes that are on more than one line.
const BROKEN_NAMES: &str = r#"[...document.querySelectorAll(".nodes tbody th")].map(cell => cell.firstChild)
    .filter(name => { const range = new Range(); range.selectNodeContents(name); return range.getClientRects().length > 1; })
    .map(name => name.textContent)"#;

#[tokio::test]
async fn nothing_is_wider_than_the_window_and_names_of_nodes_are_whole() {
    let look = || {
        let mut overview = fleet(120);
        for (number, node) in overview.nodes.iter_mut().enumerate() {
            node.name = format!("gke-hub-users-4f3b2a1c-{number:04}").into();
        }
        let address = format!("https://registry.example.org/v2/{}/manifests/latest", "lab/".repeat(40));
        overview.cluster.push(format!("{address}: the registry does not answer"));
        overview
    };
    let served = serve(look, |_| Router::new()).await;
    let check = |browser: &Browser, address: &str| {
        let mut page = browser.page(Look { width: 390, ..PHONE }, None)?;
        for width in [360, 390, 1280] {
            page.resize(width, 2400)?;
            for path in ["?show=problems", "?show=pulling", "?node=0007", "?missing=nothing", ""] {
                page.open(&format!("{address}{path}"))?;
                // Before that, its style sheet may be missing.
                let loaded = format!("location.search === '{path}' && document.readyState === 'complete'");
                page.wait(LIMIT, &format!("{loaded} && !!document.querySelector('.headline')"))?;
                page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")?;
                assert_eq!(page.overflow()?, Vec::<String>::new(), "{path} at {width}");
                assert_eq!(page.evaluate(BROKEN_NAMES)?, serde_json::json!([]), "{path} at {width}");
            }
        }
        Ok(())
    };
    served.look("/", check).await;
    served.stop().await;
}

#[tokio::test]
async fn the_page_updates_itself_and_never_overflows_a_phone() {
    // The first snapshot shows a busy fleet; all later ones show one where everything is present.
    let busy = AtomicBool::new(true);
    let look = move || {
        if busy.swap(false, Ordering::SeqCst) {
            fleet(120)
        } else {
            sample::of_nodes(vec![sample::node("n1", 6), sample::node("n2", 6)])
        }
    };
    let served = serve(look, measured).await;
    let changes = served.changes.clone();
    let busy_planner = tokio::spawn(async move {
        loop {
            changes.send_modify(|number| *number += 1);
            sleep(Duration::from_millis(50)).await;
        }
    });
    let dom = served.look("/measured", move |browser, address| browser.dom(address, PHONE)).await;
    busy_planner.abort();
    assert!(dom.contains("data-over=\"0\""), "{}", &dom[..dom.floor_char_boundary(300)]);
    assert!(dom.contains("5 images on both nodes"), "the live update did not arrive");
    assert!(dom.contains("<title>100 % – Lab images</title>"));
    assert!(dom.contains("id=\"state\" class=\"on\">Live<"), "{dom}");
    assert!(!dom.contains("pool-users-0004"), "what is gone was not removed");
    served.stop().await;
}

#[tokio::test]
async fn every_answer_has_strict_headers_and_live_updates_end_with_the_planner() {
    let served = serve(|| fleet(10), |_| Router::new()).await;
    for (path, kind, caching) in [
        ("/", "text/html; charset=utf-8", "no-store"),
        ("/status.json", "application/json", "no-store"),
        ("/spawner/v1/images", "application/json", "no-store"),
        ("/spawner/v1/prepulls", "application/json", "no-store"),
        ("/page.css", "text/css; charset=utf-8", "max-age=300"),
        ("/page.js", "text/javascript; charset=utf-8", "max-age=300"),
    ] {
        let answer = served.get(path).await;
        let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!(
            (answer.status().as_u16(), header("content-type"), header("cache-control")),
            (200, kind.to_owned(), caching.to_owned()),
            "{path}"
        );
        assert!(header("content-security-policy").starts_with("default-src 'none';"), "{path}");
        assert_eq!(
            (header("x-content-type-options"), header("x-frame-options")),
            ("nosniff".to_owned(), "DENY".to_owned()),
            "{path}"
        );
    }

    let mut updates = served.get("/events?show=problems").await.bytes_stream();
    let first = updates.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: <main "), "{first:?}");
    // An open stream does not delay the shutdown.
    served.stop().await;
    while let Some(Ok(_)) = updates.next().await {}
}

#[tokio::test]
async fn the_number_of_readers_with_live_updates_is_limited() {
    let served = serve(|| fleet(1), |_| Router::new()).await;
    let mut readers = Vec::new();
    for _ in 0..MOST_LIVE {
        readers.push(served.get("/events").await);
    }
    let refused = served.get("/events").await;
    assert_eq!((refused.status().as_u16(), refused.headers()[header::RETRY_AFTER].as_bytes()), (503, &b"10"[..]));
    assert_eq!(served.get("/").await.status(), 200);
    served.stop().await;
}
