//! An API server in memory, behind `kube::Client`: lists, watches, server-side apply with its owners of fields, conflicts,
//! finalizers and garbage collection. It writes down every request that changes something, and answers as it is told to.

mod fields;
mod mesh;
mod people;
mod refusal;
mod request;
mod rules;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body as Sent;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use refusal::Refusal;
use request::{Target, key, kind, merge_patch};
use store::{Change, Key, Store, Writer};

/// Time that every answer takes.
const LATENCY: Duration = Duration::from_millis(1);

/// A request that changes something.
#[derive(Clone, Debug)]
pub(in crate::kubernetes) struct Write {
    /// `apply`, `create`, `replace`, `patch` or `delete`.
    pub(in crate::kubernetes) verb: &'static str,
    pub(in crate::kubernetes) kind: String,
    pub(in crate::kubernetes) name: String,
    pub(in crate::kubernetes) status: bool,
    pub(in crate::kubernetes) body: Value,
    /// What was answered.
    pub(in crate::kubernetes) code: u16,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, kind, name, status, code, .. } = self;
        write!(f, "{verb} {kind} {name}{}", if *status { " status" } else { "" })?;
        if *code >= 300 { write!(f, " {code}") } else { Ok(()) }
    }
}

/// What is answered to a request that is not carried out.
#[derive(Clone, Copy, Debug)]
pub(in crate::kubernetes) enum Answer {
    /// Code, reason and message.
    Refused(u16, &'static str, &'static str),
    /// Nothing, for ever.
    Hang,
    /// What is right, so much later; it is carried out though nobody waits for it any more.
    Late(Duration),
}

type Script = Box<dyn Fn(&Write) -> Option<Answer> + Send>;

/// The API server.
#[derive(Clone, Default)]
pub(in crate::kubernetes) struct ApiServer(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    store: Store,
    writes: Vec<Write>,
    watches: Vec<Watch>,
    script: Option<Script>,
    stuck: BTreeSet<String>,
    /// Kinds that nobody can list, and what is answered instead.
    unlisted: BTreeMap<String, u16>,
    lists: BTreeMap<String, usize>,
    /// Namespaces that the controller has rights in; everywhere where there are none.
    allowed: Vec<String>,
    default_callers: Vec<String>,
    caller_namespaces: Vec<String>,
    root_namespace: Option<String>,
    /// The newest change that whoever watches was told of.
    delivered: u64,
}

struct Watch {
    plural: String,
    /// Empty for all.
    namespace: String,
    label: Option<(String, String)>,
    sender: UnboundedSender<Bytes>,
}

impl ApiServer {
    /// Returns a client of this server.
    pub(in crate::kubernetes) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Sent>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    /// Has requests that change something answered otherwise.
    pub(in crate::kubernetes) fn script(&self, script: impl Fn(&Write) -> Option<Answer> + Send + 'static) {
        self.inner().script = Some(Box::new(script));
    }

    /// Gives the controller rights in these namespaces, Weir's own and the gateways' only.
    pub(in crate::kubernetes) fn allow(&self, namespaces: &[&str]) {
        self.inner().allowed = namespaces.iter().map(|namespace| (*namespace).to_owned()).collect();
    }

    /// Returns the namespaces that the controller has rights in; nothing for all.
    pub(in crate::kubernetes) fn allowed(&self) -> Vec<String> {
        self.inner().allowed.clone()
    }

    /// Namespaces that may have callers, as the chart says.
    pub(in crate::kubernetes) fn caller_namespaces(&self, also: &[&str]) -> Vec<String> {
        let mut inner = self.inner();
        inner.caller_namespaces.extend(also.iter().map(ToString::to_string));
        inner.caller_namespaces.clone()
    }

    /// Namespaces that call every Canary, as an admin says.
    pub(in crate::kubernetes) fn default_callers(&self, also: &[&str]) -> Vec<String> {
        let mut inner = self.inner();
        inner.default_callers.extend(also.iter().map(ToString::to_string));
        inner.default_callers.clone()
    }

    /// Has everything answered as usual again.
    pub(in crate::kubernetes) fn behave(&self) {
        self.inner().script = None;
    }

    /// Has no pod of a Deployment come up, or all of them again.
    pub(in crate::kubernetes) fn stick(&self, deployment: &str, stuck: bool) {
        let inner = &mut *self.inner();
        if stuck {
            inner.stuck.insert(deployment.into())
        } else {
            inner.stuck.remove(deployment)
        };
        let namespaces = inner.store.objects.keys().map(|key| key.1.clone()).collect();
        rules::control(&mut inner.store, &inner.stuck, &namespaces);
        inner.settle();
    }

    /// Has lists of a kind, or of one version of it (`VERSION/PLURAL`), refused with a code.
    pub(in crate::kubernetes) fn refuse_lists(&self, plural: &str, code: u16) {
        self.inner().unlisted.insert(plural.into(), code);
    }

    /// Has everything listed again.
    pub(in crate::kubernetes) fn list_all(&self) {
        self.inner().unlisted.clear();
    }

    /// Returns how often a kind was listed.
    pub(in crate::kubernetes) fn lists(&self, plural: &str) -> usize {
        self.inner().lists.get(plural).copied().unwrap_or_default()
    }

    /// Returns what was asked since the last time, but for the lease, events and the key of hashes.
    pub(in crate::kubernetes) fn writes(&self) -> Vec<Write> {
        let all = std::mem::take(&mut self.inner().writes);
        let own = |write: &Write| ["Lease", "Event"].contains(&&*write.kind) || write.name == "weir-hash-key";
        all.into_iter().filter(|write| !own(write)).collect()
    }

    /// Returns an object.
    pub(in crate::kubernetes) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.inner().store.objects.get(&key(plural, namespace, name)).cloned()
    }

    /// Returns all objects of a kind.
    pub(in crate::kubernetes) fn all(&self, plural: &str) -> Vec<Value> {
        self.inner().store.of_kind(plural).map(|(_, object)| object.clone()).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    async fn answer(&self, request: Request<Sent>) -> Result<Response<Body>, std::convert::Infallible> {
        tokio::time::sleep(LATENCY).await;
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap_or_default();
        let target = Target::of(parts.uri.path(), parts.uri.query().unwrap_or_default());
        if parts.method == "GET" {
            return Ok(self.inner().read(&target));
        }
        let verb = match parts.method.as_str() {
            "PATCH" if parts.headers["content-type"] == "application/apply-patch+yaml" => "apply",
            "PATCH" => "patch",
            "POST" => "create",
            "PUT" => "replace",
            _ => "delete",
        };
        let (name, kind) = (body["metadata"]["name"].as_str(), kind(&target.key.0));
        let write = Write {
            verb,
            kind,
            name: if verb == "create" { name.unwrap_or_default().into() } else { target.key.2.clone() },
            status: target.subresource == "status",
            body,
            code: 0,
        };
        let scripted = self.inner().script.as_ref().and_then(|script| script(&write));
        match scripted {
            Some(Answer::Hang) => {
                self.inner().writes.push(write);
                std::future::pending().await
            }
            Some(Answer::Late(delay)) => {
                let server = self.clone();
                let late = tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    server.carry_out(&target, write, None)
                });
                Ok(late.await.unwrap())
            }
            Some(Answer::Refused(code, reason, message)) => {
                Ok(self.carry_out(&target, write, Some(Refusal { code, reason, message: message.into() })))
            }
            None => Ok(self.carry_out(&target, write, None)),
        }
    }

    fn carry_out(&self, target: &Target, mut write: Write, refusal: Option<Refusal>) -> Response<Body> {
        let mut inner = self.inner();
        let answered = refusal.map_or_else(|| inner.write(target, &write), Err);
        let (code, body) = match &answered {
            Ok(object) => (200, object.clone()),
            Err(refusal) => (refusal.code, refusal.body()),
        };
        write.code = code;
        inner.writes.push(write);
        inner.settle();
        respond(code, &body)
    }
}

impl Inner {
    fn write(&mut self, target: &Target, write: &Write) -> Result<Value, Refusal> {
        let mut key = target.key.clone();
        let manager = target.value("fieldManager").unwrap_or_else(|| "unknown".into());
        match write.verb {
            "apply" => {
                let force = target.value("force").as_deref() == Some("true");
                let subresource = &target.subresource;
                self.store.apply(key, &write.body, &Writer { manager: &manager, force, subresource })
            }
            "create" => {
                key.2.clone_from(&write.name);
                if self.store.objects.contains_key(&key) {
                    return Err(Refusal { code: 409, reason: "AlreadyExists", message: format!("{} exists", key.2) });
                }
                self.store.update(key, &write.body, &manager)
            }
            "replace" => self.store.update(key, &write.body, &manager),
            "patch" => {
                let Some(mut object) = self.store.objects.get(&key).cloned() else {
                    return Err(Refusal::missing(&key));
                };
                merge_patch(&mut object, &write.body);
                self.store.update(key, &object, &manager)
            }
            _ => self.store.delete(&key),
        }
    }

    fn read(&mut self, target: &Target) -> Response<Body> {
        let own = ["istio-ingress", "istio-system", "weir-system", "default"];
        let namespace = target.key.1.as_str();
        if !self.allowed.is_empty() && !own.contains(&namespace) && !self.allowed.iter().any(|it| it == namespace) {
            let message = format!("{} {:?}: no rights there", target.key.0, namespace);
            return respond(403, &Refusal { code: 403, reason: "Forbidden", message }.body());
        }
        let label = target.value("labelSelector").map(|text| {
            let (key, value) = text.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        });
        if target.value("watch").as_deref() == Some("true") {
            let (sender, receiver) = unbounded_channel::<Bytes>();
            let since: u64 = target.value("resourceVersion").unwrap_or_default().parse().unwrap_or_default();
            if since < self.store.forgotten {
                return respond(410, &Refusal { code: 410, reason: "Expired", message: "too old".into() }.body());
            }
            let (plural, namespace, _) = target.key.clone();
            let watch = Watch { plural, namespace, label, sender };
            self.store.changes_after(since).for_each(|change| watch.tell(change));
            self.watches.push(watch);
            let stream = futures::stream::unfold(receiver, |mut receiver| async move {
                let line = receiver.recv().await?;
                Some((Ok::<_, std::convert::Infallible>(line), receiver))
            });
            return Response::new(Body::from_stream(stream));
        }
        if !target.key.2.is_empty() {
            return match self.store.objects.get(&target.key) {
                Some(object) => respond(200, object),
                None => respond(404, &Refusal::missing(&target.key).body()),
            };
        }
        *self.lists.entry(target.key.0.clone()).or_default() += 1;
        let of_version = format!("{}/{}", target.version, target.key.0);
        if let Some(code) = self.unlisted.get(&target.key.0).or(self.unlisted.get(&of_version)) {
            let refusal = Refusal { code: *code, reason: "NotFound", message: "no list".into() };
            return respond(*code, &refusal.body());
        }
        let wanted = |key: &Key, object: &Value| {
            let (_, namespace, _) = &target.key;
            let labels = &object["metadata"]["labels"];
            (namespace.is_empty() || key.1 == *namespace) && has(labels, label.as_ref())
        };
        let found = self.store.of_kind(&target.key.0).filter(|(key, object)| wanted(key, object));
        let items: Vec<&Value> = found.map(|(_, object)| object).collect();
        let version = self.store.version.to_string();
        respond(
            200,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    /// Has the controllers of Kubernetes act, and tells whoever watches.
    fn settle(&mut self) {
        let changed = |change: &Change| change.object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let namespaces: BTreeSet<String> = self.store.changes_after(self.delivered).map(changed).collect();
        rules::control(&mut self.store, &self.stuck, &namespaces);
        for change in self.store.changes_after(self.delivered) {
            self.watches.iter().for_each(|watch| watch.tell(change));
        }
        self.delivered = self.store.version;
        self.store.forget();
    }
}

impl Watch {
    fn tell(&self, change: &Change) {
        let namespace = change.object["metadata"]["namespace"].as_str().unwrap_or_default();
        if change.plural != self.plural || ![namespace, ""].contains(&self.namespace.as_str()) {
            return;
        }
        let sees = |labels: &Option<Value>| labels.as_ref().is_some_and(|labels| has(labels, self.label.as_ref()));
        let kind = match (sees(&change.before), sees(&change.after)) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        let line = format!("{{\"type\": \"{kind}\", \"object\": {}}}\n", change.object);
        let _ = self.sender.send(line.into());
    }
}

fn has(labels: &Value, label: Option<&(String, String)>) -> bool {
    label.is_none_or(|(key, value)| labels[key] == *value)
}

fn respond(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code.try_into().unwrap();
    response
}
