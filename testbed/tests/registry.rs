//! The registry as tests use it: open, with a password, with tokens, over TLS.
use testbed::http::Client;
use testbed::registry::{Options, Registry};
use testbed::token_server::TokenAuth;
use testbed::wait::{self, LIMIT};

#[test]
fn an_open_registry_answers_and_keeps_its_port_when_started_again() {
    let mut registry = Registry::start().unwrap();
    let (client, url) = (registry.client("owner/name").unwrap(), format!("{}/v2/", registry.url()));
    assert_eq!(client.send("GET", &url, &[], b"").unwrap().status, 200);
    registry.stop();
    assert!(client.send("GET", &url, &[], b"").is_err());
    registry.start_again().unwrap();
    assert_eq!(client.send("GET", &url, &[], b"").unwrap().status, 200);
}

#[test]
fn a_registry_with_a_password_refuses_a_stranger() {
    let registry = Registry::with_password("someone", "p a$s'word").unwrap();
    let url = format!("{}/v2/", registry.url());
    assert_eq!(Client::new(None, None).unwrap().send("GET", &url, &[], b"").unwrap().status, 401);
    assert_eq!(registry.client("owner/name").unwrap().send("GET", &url, &[], b"").unwrap().status, 200);
}

#[test]
fn a_registry_with_tokens_accepts_those_of_its_token_server_until_they_expire() {
    let registry = Registry::with_token_auth(TokenAuth { expires_in: 2, ..TokenAuth::default() }).unwrap();
    let url = format!("{}/v2/owner/name/tags/list", registry.url());
    let stranger = Client::new(None, None).unwrap();
    let refused = stranger.send("GET", &url, &[], b"").unwrap();
    assert_eq!(refused.status, 401);
    let server = registry.token_server().unwrap();
    assert!(refused.header("www-authenticate").contains(&server.realm()), "{}", refused.header("www-authenticate"));

    let asked = format!("{}?service={}&scope=repository:owner/name:pull", server.realm(), server.service());
    let mut tokens = 0;
    // On a busy machine a token may expire before it is used.
    let authorized = wait::until(LIMIT, || {
        let answer = stranger.send("GET", &asked, &[], b"").unwrap().expect(200, &asked).unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["expires_in"], 2);
        tokens += 1;
        let bearer = Client::new(None, Some(format!("Bearer {}", answer["token"].as_str().unwrap()))).unwrap();
        // There is no such image.
        (bearer.send("GET", &url, &[], b"").unwrap().status == 404).then_some(bearer)
    });
    let bearer = authorized.unwrap();
    let ended = wait::until(LIMIT, || (bearer.send("GET", &url, &[], b"").unwrap().status == 401).then_some(()));
    assert!(ended.is_some(), "the token is still taken");
    assert_eq!((server.requests(), server.refused()), (tokens, 0));
}

#[test]
fn a_token_server_with_a_password_or_an_identity_token_refuses_others() {
    let auth = TokenAuth {
        password: Some(("someone".into(), "secret".into())),
        identity_token: Some("refresh".into()),
        ..TokenAuth::default()
    };
    let registry = Registry::with_token_auth(auth).unwrap();
    let server = registry.token_server().unwrap();
    let client = Client::new(None, None).unwrap();
    assert_eq!(client.send("GET", &server.realm(), &[], b"").unwrap().status, 401);
    for (form, status) in [("refresh", 200), ("other", 401)] {
        let form = format!("grant_type=refresh_token&refresh_token={form}&scope=repository:a/b:pull");
        assert_eq!(client.send("POST", &server.realm(), &[], form.as_bytes()).unwrap().status, status, "{form}");
    }
    assert_eq!((server.requests(), server.refused()), (3, 2));
}

#[test]
fn a_registry_with_tls_has_a_certificate_of_its_own_authority() {
    let registry = Registry::with(&Options { tls: true, ..Options::default() }).unwrap();
    let url = format!("{}/v2/", registry.url());
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    assert_eq!(registry.client("owner/name").unwrap().send("GET", &url, &[], b"").unwrap().status, 200);
}
