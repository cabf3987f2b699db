//! What a page is told as it happens: a line of JSON for each change, in an answer that goes on.
//!
//! An `EventSource` sends no headers, and the token is one; so the page reads an answer of `fetch`. Each answer ends by itself before
//! the server would end its connection, and the page goes on with its cursor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::gzip::{PACKED, Packer};
use super::{Source, Wanted};
use crate::view::{CanaryDetail, Changes, Summary};

/// Least time between two looks at the list: what comes sooner after another change is told with the next. A first change is told at once.
const APART: Duration = Duration::from_millis(200);
/// The same of one Canary in full, which has a hundred times the bytes.
const APART_IN_FULL: Duration = Duration::from_millis(400);
/// Time without news after which a page is told that it still hears.
const QUIET: Duration = Duration::from_secs(4);
/// Time after which an answer ends: the server ends a connection after 60 s.
const STRETCH: Duration = Duration::from_secs(50);
/// Canaries in a line. What needs a person stands in the first one, which is drawn before the others are sent.
const CHUNK: usize = 200;

/// One line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line<'a> {
    /// What is looked at, and when, in milliseconds since the Unix epoch: a browser's clock may be another. The first line.
    Hello { title: &'a str, now: u64 },
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
    Detail {
        detail: Option<&'a CanaryDetail>,
        /// Why it is not all of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        partial: Option<&'a str>,
    },
    /// Nothing new.
    Alive,
    /// Whatever is shown is old: nobody tells any more.
    Lost { error: &'a str },
}

struct Watch<S: Source> {
    source: Arc<S>,
    viewer: S::Viewer,
    wanted: Wanted,
    packer: Packer,
    news: watch::Receiver<u64>,
    begun: Instant,
    /// When was looked last; never before the first time.
    looked: Option<Instant>,
    /// When something was told last.
    told: Instant,
    lost: bool,
    ended: bool,
    problems: Vec<String>,
    partial: Option<String>,
    detail: Option<Vec<u8>>,
    _place: OwnedSemaphorePermit,
}

/// Returns an answer that goes on.
pub(super) fn answer<S: Source>(
    source: Arc<S>,
    viewer: S::Viewer,
    wanted: Wanted,
    is_packed: bool,
    place: OwnedSemaphorePermit,
) -> Response {
    let watch = Watch {
        news: source.news(),
        source,
        viewer,
        wanted,
        packer: Packer::of(is_packed),
        begun: Instant::now(),
        looked: None,
        told: Instant::now(),
        lost: false,
        ended: false,
        problems: Vec::new(),
        partial: None,
        detail: None,
        _place: place,
    };
    let lines = stream::unfold(watch, |mut watch| async {
        let lines = watch.next().await?;
        Some((Ok::<_, Infallible>(lines), watch))
    });
    let answer = ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines));
    if is_packed { (PACKED, answer).into_response() } else { answer.into_response() }
}

impl<S: Source> Watch<S> {
    /// Returns what is sent next, once there is something; nothing after the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if self.looked.is_some() && self.begun.elapsed() >= STRETCH {
                self.ended = true;
                return Some(self.packer.end()).filter(|end| !end.is_empty());
            }
            let out = self.lines().await;
            if !out.is_empty() {
                self.told = Instant::now();
                return Some(self.packer.part(out));
            }
        }
    }

    /// Waits for news, looks, and returns what there is to tell.
    async fn lines(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.looked {
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                let now = u64::try_from(now).unwrap_or_default();
                write(&mut out, &Line::Hello { title: &self.source.title(), now });
            }
            Some(looked) => self.wait(looked).await,
        }
        self.looked = Some(Instant::now());
        self.news.mark_unchanged();
        let was_lost = std::mem::take(&mut self.lost);
        if let Err(error) = self.look(&mut out).await {
            write(&mut out, &Line::Lost { error: &error });
            self.lost = true;
        }
        if out.is_empty() && (was_lost || self.told.elapsed() >= QUIET) {
            write(&mut out, &Line::Alive);
        }
        out
    }

    async fn wait(&mut self, looked: Instant) {
        let apart = if self.wanted.name.is_empty() { APART } else { APART_IN_FULL };
        let (quiet, end) = (self.told + QUIET, self.begun + STRETCH);
        let news = &mut self.news;
        let changed = async {
            if news.changed().await.is_err() {
                // Nobody is left who would tell anything.
                std::future::pending::<()>().await;
            }
            sleep_until(looked + apart).await;
        };
        tokio::select! {
            () = changed => {}
            () = sleep_until(quiet) => {}
            () = sleep_until(end) => {}
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
        write(&mut line, &Line::Detail { detail: seen.value.as_ref(), partial: seen.partial.as_deref() });
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
