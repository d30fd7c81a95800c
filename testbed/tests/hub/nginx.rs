//! What nginx does in front of the Hub. All browsers of this suite come through it, and check its certificate.

use serde_json::json;
use testbed::chromium::Page;

use crate::bed::Bed;

pub(crate) fn redirects_to_tls(bed: &Bed) {
    let get = |url: &str| bed.client.send("GET", url, &[], b"").unwrap();
    let plain = get(&format!("{}/hub/login", bed.hub.replace("https", "http")));
    assert_eq!((plain.status, plain.header("location")), (301, format!("{}/hub/login", bed.hub).as_str()));
    let login = get(&format!("{}/hub/login", bed.hub));
    assert_eq!((login.status, login.header("strict-transport-security")), (200, "max-age=63072000"));
}

pub(crate) fn routes_firefly_but_its_admin_pages(bed: &Bed) {
    let get = |path: &str| bed.client.send("GET", &format!("{}/firefly{path}", bed.hub), &[], b"").unwrap();
    assert_eq!(get("").header("location"), "/firefly/");
    let firefly = get("/");
    assert_eq!((firefly.status, firefly.text().as_str()), (200, "a stand-in\n"));
    for path in ["/admin", "/admin/", "/x/..;/admin/", "/%2e%2e/firefly/admin/"] {
        assert_eq!(get(path).status, 403, "{path}");
    }
}

/// Saves large files from the lab whose page this is.
pub(crate) fn takes_bodies_of_100_mib(bed: &Bed, page: &mut Page) {
    for (size, status) in [(90_000_000, 201), (110_000_000, 413)] {
        let script = include_str!("upload.js").replace("SIZE", &size.to_string());
        let answered = page.evaluate(&script).unwrap_or_else(|error| panic!("{size}: {error}\n{}", bed.state()));
        assert_eq!(answered, json!(status), "{size}");
    }
    assert_eq!(page.evaluate(include_str!("remove.js")).unwrap(), json!(204));
}
