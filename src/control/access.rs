//! Who may use the management API: where tokens are asked for, bearers of one with `role: admin`. Metrics and health
//! stay open for scrapers and probes.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use shards::core::{Denied, Gate as _, Role};

use super::App;
use super::problem::Problem;

const API: &str = "/api/";

const NO_TOKEN: Denied = Denied::Unauthorized("an admin token is needed: Authorization: Bearer <token>");
const NO_ADMIN: Denied = Denied::Forbidden("the token's role is not admin");

/// Lets a request of the API through if its bearer is an admin.
pub(crate) async fn admins_only(State(app): State<App>, request: Request, next: Next) -> Response {
    match check(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(Denied::Forbidden(reason)) => Problem::new(StatusCode::FORBIDDEN, reason).into_response(),
        Err(Denied::Unauthorized(reason)) => {
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, reason).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

fn check(app: &App, request: &Request) -> Result<(), Denied> {
    let Some(gate) = app.gate.as_ref().filter(|_| request.uri().path().starts_with(API)) else {
        return Ok(());
    };
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(NO_TOKEN) };
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(NO_TOKEN)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(NO_TOKEN);
    }
    let pass = gate.check(token.trim())?;
    if pass.role == Role::Admin { Ok(()) } else { Err(NO_ADMIN) }
}
