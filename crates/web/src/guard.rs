//! Who may ask: the check of `Host`, the token, and the headers of every answer.

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::{PageOptions, Shared};

/// Everything is from this server, and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

/// Refuses requests for a host that is not allowed, and adds headers to the answer.
pub(crate) async fn check(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    let mut response = match host.is_some_and(|host| is_allowed(host, &shared.options)) {
        true => next.run(request).await,
        false => refusal(StatusCode::MISDIRECTED_REQUEST, "config", "this `Host` is not served here"),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether a `Host` is a loopback address, `localhost`, or named by the options.
fn is_allowed(host: &str, options: &PageOptions) -> bool {
    let name = without_port(host).to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
    let is_loopback = address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback
        || name == "localhost"
        || options.hosts.contains(&name)
        || options.hosts.iter().any(|host| host == address)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether the request has the token. `None` if there is no token, so nothing may be changed.
pub(crate) fn has_token(headers: &HeaderMap, options: &PageOptions) -> Option<bool> {
    let token = options.token.as_ref()?;
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    Some(given.is_some_and(|given| is_same(given.as_bytes(), token.as_bytes())))
}

/// Compares in a time that does not depend on where they differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// An answer that says why there is none.
pub(crate) fn refusal(status: StatusCode, kind: &str, message: &str) -> Response {
    let error = json!({ "error": { "kind": kind, "message": message } });
    (status, axum::Json(error)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_point_here_by_a_foreign_name_are_refused() {
        let options = PageOptions::new().host("Admin.Example.org").host("10.1.2.3");
        for host in [
            "localhost",
            "localhost:7391",
            "LOCALHOST",
            "127.0.0.1:80",
            "127.1.2.3",
            "[::1]",
            "[::1]:80",
            "admin.example.org:443",
            "10.1.2.3:1",
        ] {
            assert!(is_allowed(host, &options), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.1.2.4",
            "localhost:",
            "0.0.0.0",
            "::1x",
        ] {
            assert!(!is_allowed(host, &options), "{host}");
        }
    }

    #[test]
    fn token_has_a_least_length_and_is_compared_whole() {
        assert!(PageOptions::new().token("short").unwrap_err().contains("16"));
        assert!(is_same(b"abc", b"abc") && !is_same(b"abc", b"abd") && !is_same(b"abc", b"abcd"));
    }
}
