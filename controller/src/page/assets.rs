//! The files of the page, as they are in `web`.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::gzip;

/// Path, type and content of each.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("web/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("web/page.css")),
    ("/icon.svg", "image/svg+xml", include_str!("web/icon.svg")),
    ("/page.mjs", "text/javascript; charset=utf-8", include_str!("web/page.mjs")),
    ("/feed.mjs", "text/javascript; charset=utf-8", include_str!("web/feed.mjs")),
    ("/draw.mjs", "text/javascript; charset=utf-8", include_str!("web/draw.mjs")),
    ("/list.mjs", "text/javascript; charset=utf-8", include_str!("web/list.mjs")),
    ("/detail.mjs", "text/javascript; charset=utf-8", include_str!("web/detail.mjs")),
    ("/chart.mjs", "text/javascript; charset=utf-8", include_str!("web/chart.mjs")),
];

pub(super) fn router() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        let packed = gzip::whole(content);
        router.route(path, get(move |headers: HeaderMap| async move { answer(&headers, kind, content, packed) }))
    })
}

fn answer(headers: &HeaderMap, kind: &'static str, content: &'static str, packed: Bytes) -> Response {
    let kind = [(header::CONTENT_TYPE, kind)];
    match gzip::is_taken(headers) {
        true => (kind, gzip::PACKED, packed).into_response(),
        false => (kind, content).into_response(),
    }
}
