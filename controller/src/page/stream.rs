//! What a page is told as it happens: a line of JSON for each change, in an answer that goes on.
//!
//! An `EventSource` sends no headers, and the token is one; so the page reads an answer of `fetch`. Each answer ends by itself before
//! the server would end its connection, and the page goes on with its cursor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::{Source, Wanted};
use crate::view::{CanaryDetail, Changes, Summary};

/// Time between two looks: more often nobody sees.
const LOOK: Duration = Duration::from_secs(1);
/// Looks without news after which a page is told that it still hears.
const QUIET: u32 = 4;
/// Time after which an answer ends: the server ends a connection after 60 s.
const STRETCH: Duration = Duration::from_secs(50);
/// Canaries in a line. What needs a person stands in the first one, which is drawn before the others are sent.
const CHUNK: usize = 200;

/// One line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    /// What is looked at; the first line.
    Hello { title: &'a str },
    /// What changed of the Canaries.
    List {
        cursor: &'a str,
        /// Whether whatever is not among them is gone. More of them may follow.
        whole: bool,
        items: &'a [Summary],
        gone: &'a [(String, String)],
        problems: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        partial: Option<&'a str>,
    },
    /// The Canary that is looked at; nothing where there is none.
    Detail { detail: Option<&'a CanaryDetail> },
    /// Nothing new.
    Alive,
    /// Whatever is shown is old: nobody tells any more.
    Lost { error: &'a str },
}

struct Watch<S: Source> {
    source: Arc<S>,
    viewer: S::Viewer,
    wanted: Wanted,
    begun: Instant,
    clock: Interval,
    first: bool,
    problems: Vec<String>,
    partial: Option<String>,
    detail: Option<Vec<u8>>,
    quiet: u32,
}

/// Returns an answer that goes on.
pub(super) fn answer<S: Source>(source: Arc<S>, viewer: S::Viewer, wanted: Wanted) -> Response {
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look = Watch {
        source,
        viewer,
        wanted,
        begun: Instant::now(),
        clock,
        first: true,
        problems: Vec::new(),
        partial: None,
        detail: None,
        quiet: 0,
    };
    let lines = stream::unfold(look, |mut look| async {
        let lines = look.next().await?;
        Some((Ok::<_, Infallible>(lines), look))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

impl<S: Source> Watch<S> {
    /// Returns the next lines, once there are some; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.first && self.begun.elapsed() >= STRETCH {
                return None;
            }
            self.clock.tick().await;
            let mut out = Vec::new();
            if std::mem::take(&mut self.first) {
                write(&mut out, &Line::Hello { title: &self.source.title() });
            }
            if let Err(error) = self.look(&mut out).await {
                write(&mut out, &Line::Lost { error: &error });
            }
            self.quiet += 1;
            if out.is_empty() && self.quiet >= QUIET {
                write(&mut out, &Line::Alive);
            }
            if !out.is_empty() {
                self.quiet = 0;
                return Some(out.into());
            }
        }
    }

    async fn look(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let seen = self.source.changes(&self.viewer, &self.wanted.since).await?;
        if !seen.value.is_silent(&self.problems) || self.partial != seen.partial {
            self.list(seen.value, seen.partial, out);
        }
        let Wanted { namespace, name, .. } = &self.wanted;
        if name.is_empty() {
            return Ok(());
        }
        let seen = self.source.detail(&self.viewer, namespace, name).await?;
        let mut line = Vec::new();
        write(&mut line, &Line::Detail { detail: seen.value.as_ref() });
        if self.detail.as_ref() != Some(&line) {
            out.extend_from_slice(&line);
            self.detail = Some(line);
        }
        Ok(())
    }

    fn list(&mut self, changes: Changes, partial: Option<String>, out: &mut Vec<u8>) {
        let Changes { cursor, whole, mut items, gone, problems } = changes;
        items.sort_by_key(|item| item.attention);
        let chunks = items.len().div_ceil(CHUNK).max(1);
        for i in 0..chunks {
            let items = items.chunks(CHUNK).nth(i).unwrap_or_default();
            let (whole, gone) = if i == 0 { (whole, &gone[..]) } else { (false, &[][..]) };
            // Who was told a part of it only must not ask for what comes after all of it.
            let cursor = if i + 1 == chunks { cursor.as_str() } else { "" };
            let partial = partial.as_deref();
            write(out, &Line::List { cursor, whole, items, gone, problems: &problems, partial });
        }
        (self.wanted.since, self.problems, self.partial) = (cursor, problems, partial);
    }
}

fn write(out: &mut Vec<u8>, line: &Line<'_>) {
    // Numbers that are no numbers become null; nothing else can fail.
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}
