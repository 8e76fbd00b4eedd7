//! Who may read: whoever shows the token, if there is one.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Observed;

/// Lets a request pass that carries `Authorization: Bearer TOKEN`, or any if no token is set. The scheme may be written
/// in any case, and more than one space may follow it (RFC 9110, 11.1 and 11.4).
pub(super) async fn demand_token(State(observed): State<Observed>, request: Request, next: Next) -> Response {
    let Some(token) = &observed.token else { return next.run(request).await };
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, shown)| shown.trim_start_matches(' '));
    if equal(shown.as_bytes(), token.expose().as_bytes()) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "send the header Authorization: Bearer TOKEN\n").into_response()
}

/// Compares without telling by its time how much was right.
fn equal(shown: &[u8], token: &[u8]) -> bool {
    let differences = shown.iter().zip(token).fold(0_u8, |differences, (a, b)| differences | (a ^ b));
    shown.len() == token.len() && differences == 0 && !token.is_empty()
}

#[cfg(test)]
mod tests {
    use super::equal;

    #[test]
    fn only_the_whole_token_is_right() {
        assert!(equal(b"secret", b"secret"));
        for wrong in [&b"secre"[..], b"secrets", b"", b"Secret"] {
            assert!(!equal(wrong, b"secret"));
        }
        assert!(!equal(b"", b""));
    }
}
