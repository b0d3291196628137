//! The talk page and the JavaScript client, embedded in the program.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    /// Where it is served.
    pub(crate) path: &'static str,
    /// What it is.
    pub(crate) content_type: &'static str,
    /// Its text.
    pub(crate) body: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($path:expr, $content_type:expr, $file:literal) => {
        Asset { path: $path, content_type: $content_type, body: include_str!(concat!("../page/", $file)) }
    };
}

/// Every file of the page.
pub(crate) const ASSETS: &[Asset] = &[
    asset!("/", HTML, "index.html"),
    asset!("/talk.css", CSS, "talk.css"),
    asset!("/talk.js", JS, "talk.js"),
    asset!("/conversation.js", JS, "conversation.js"),
    asset!("/log.js", JS, "log.js"),
    asset!("/meter.js", JS, "meter.js"),
    asset!("/room.js", JS, "room.js"),
    asset!("/words.js", JS, "words.js"),
    asset!("/icon.svg", SVG, "icon.svg"),
    asset!(CLIENT, JS, "../../clients/js/voxhall.js"),
];

/// The JavaScript client: the page's, and for pages elsewhere.
const CLIENT: &str = "/client.js";

/// The page runs its own files only, talks to its own origin only, and is framed by nobody.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // A new release brings all files anew: modules of two releases don't go together.
    (header::CACHE_CONTROL, "no-cache"),
    (HeaderName::from_static("permissions-policy"), "microphone=(self)"),
];

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let mut response = self.body.into_response();
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if self.path == CLIENT {
            // A module from another origin needs the word of that origin.
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
        for entry in std::fs::read_dir(folder).expect("the page's folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
            let path = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
            assert!(ASSETS.iter().any(|asset| asset.path == path), "{name} is not served");
        }
    }

    #[test]
    fn the_page_needs_nothing_inline() {
        let page = ASSETS[0].body;
        for forbidden in ["<style", " style=", "onclick=", "javascript:"] {
            assert!(!page.contains(forbidden), "the content security policy forbids {forbidden}");
        }
    }
}
