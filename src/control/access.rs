//! Who may use the management API: where tokens are asked for, bearers of one with `role: admin`. Metrics and health
//! stay open for scrapers and probes. Who ends something with it, and who is not allowed to use it, is noted in the audit
//! log.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use shards::core::audit::Managed;
use shards::core::{Denied, Gate as _, Pass, Role};

use super::App;
use super::problem::Problem;

const API: &str = "/api/";

const NO_TOKEN: Denied = Denied::Unauthorized("an admin token is needed: Authorization: Bearer <token>");
const NO_ADMIN: Denied = Denied::Forbidden("the token's role is not admin");

/// Lets a request of the API through if its bearer is an admin.
pub(crate) async fn admins_only(
    State(app): State<App>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let checked = check(&app, &request);
    let ends = action(request.method(), request.uri().path());
    let noted = ends.or(checked.is_err().then_some("other"));
    let target = parameters.ok().and_then(|all| all.iter().next().map(|(_, value)| value.into()));
    let (user, response) = match checked {
        Ok(pass) => (pass.map(|pass| pass.sub), next.run(request).await),
        Err((denied, user)) => (user, refusal(denied)),
    };
    if let (Some(audit), Some(action)) = (&app.audit, noted) {
        audit.note(Managed { action, target, user, status: Some(response.status().as_u16()) });
    }
    response
}

/// What a request would end; nothing when it ends nothing.
fn action(method: &Method, path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/api/v1/").filter(|_| method == Method::POST)?;
    let (family, rest) = path.split_once('/').unwrap_or((path, ""));
    match (family, rest.rsplit('/').next()) {
        ("connections", Some("close")) => Some("close_connection"),
        ("rooms", Some("close")) => Some("close_room"),
        ("users", Some("disconnect")) => Some("disconnect_user"),
        ("drain", _) => Some("drain"),
        _ => None,
    }
}

fn refusal(denied: Denied) -> Response {
    match denied {
        Denied::Forbidden(reason) => Problem::new(StatusCode::FORBIDDEN, reason).into_response(),
        Denied::Unauthorized(reason) => {
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, reason).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

/// Who asks, where that matters.
///
/// # Errors
/// Why they may not, and who they are if their token is good.
fn check(app: &App, request: &Request) -> Result<Option<Pass>, (Denied, Option<Box<str>>)> {
    let Some(gate) = app.gate.as_ref().filter(|_| request.uri().path().starts_with(API)) else {
        return Ok(None);
    };
    let nobody = |denied| (denied, None);
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(nobody(NO_TOKEN)) };
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(nobody(NO_TOKEN))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(nobody(NO_TOKEN));
    }
    let pass = gate.check(token.trim()).map_err(nobody)?;
    if pass.role == Role::Admin { Ok(Some(pass)) } else { Err((NO_ADMIN, Some(pass.sub))) }
}
