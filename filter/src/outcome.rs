//! Says how a request ended: well, badly, given up by the client, or in a way that says nothing of the arm.
//!
//! Three questions, in this order. Did an arm answer, or fail on the way to it? What the gateway or another filter answers
//! (a redirect to HTTPS, a direct response) says nothing. Whose fault is it if the response did not come to its end? What a
//! client can cause at will must not be a failure: whoever tells the arms apart could fail a good release. Only then: what
//! does the answer say?
//!
//! Each question costs a crossing or none. Nearly every response comes from the upstream, which Envoy says in a header beside
//! the status, and ends with the last piece of its body.

use crate::headers::Headers;
use crate::host::Host;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and not an error of the server.
    Success,
    /// Answered with a server's error, cut off, or not answered at all.
    Failure,
    /// The client gave up waiting.
    Abandoned,
    /// Ended in a way that says nothing of the arm.
    Unjudged,
}

/// Whether a duration says something about the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// The time until the upstream's last byte.
    Latency,
    /// An upgraded connection or a stream of messages or events: as long as it is wanted.
    Open,
}

/// What is known of a response's body when the request ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The last piece passed, and no trailers follow it.
    pub ended: bool,
    /// Bytes that passed.
    pub bytes: u64,
    /// Length of the first gRPC message with its five bytes of frame, if it was read.
    pub first_message: Option<u64>,
    /// When the last byte came from the upstream, by the monotonic clock; 0 if that was not seen. How fast the client reads
    /// is not in it.
    pub last_byte_ns: u64,
}

/// Bytes of a response from which on a client that does not read may be what stops it: the smallest buffer that gateways are
/// set up with (Envoy's advice for the edge; its default is 1 MiB). Below, the gateway had room for more and none came.
const BUFFER: u64 = 32 * 1024;

/// A client that leaves earlier than this after its request did not give up a response that had begun: it did not want the rest.
const PATIENCE_NS: u64 = 1_000_000_000;

/// What Envoy notes about a stream's end (`response.flags`), as far as it matters here.
pub struct Flags;

impl Flags {
    /// Downstream connection termination: the client's connection went.
    pub const CLIENT_GONE: u64 = 0x4000;
    /// Downstream protocol error: the client broke the protocol.
    pub const CLIENT_BROKE: u64 = 0x4_0000;
    /// Downstream remote reset: the client reset its HTTP/2 stream.
    pub const CLIENT_RESET: u64 = 0x1000_0000;
    /// No healthy upstream (UH): the gateway has no endpoint to send the request to.
    pub const NO_ENDPOINT: u64 = 0x0000_0002;
    /// No cluster (NC): the gateway has not heard of the service yet, or no longer knows it.
    pub const NO_CLUSTER: u64 = 0x0100_0000;
    /// Upstream request timeout (UT).
    pub const TIMEOUT: u64 = 0x0000_0004;
    const CLIENT: u64 = Self::CLIENT_GONE | Self::CLIENT_BROKE | Self::CLIENT_RESET;
    /// Time ran out while a response was under way: the upstream or the client was slow.
    const TIMED_OUT: u64 = Self::TIMEOUT
        | 0x0001_0000 // SI
        | 0x0008_0000 // UMSDR
        | 0x0040_0000; // DT
    /// Whatever else may end a stream early is the upstream's or the gateway's doing: remote and local reset, connection
    /// failure and termination, overflow, protocol error, no cluster, overload.
    const BROKEN: u64 = 0x0000_0008 // LR
        | 0x0000_0010 // UR
        | 0x0000_0020 // UF
        | 0x0000_0040 // UC
        | 0x0000_0080 // UO
        | 0x0000_8000 // URX
        | 0x0080_0000 // UPE
        | Self::NO_CLUSTER // NC
        | 0x0200_0000; // OM
    /// The gateway answered because the way to the arm failed.
    const ON_THE_WAY: u64 = Self::BROKEN | Self::TIMED_OUT | Self::NO_ENDPOINT;
}

/// gRPC statuses that are the server's fault: UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS. DEADLINE_EXCEEDED is where the client
/// set no deadline.
const GRPC_FAILURES: [u32; 4] = [2, 13, 14, 15];
/// gRPC statuses that a client cannot cause: OK, and CANCELLED, which only says that it left.
const GRPC_FINE: [u32; 2] = [0, 1];
const GRPC_DEADLINE: u32 = 4;

/// How a request ended, and what else is counted of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether its duration counts.
    pub timing: Timing,
    /// The answer was one that a client can cause: 4xx, or a gRPC status like it.
    pub client_error: bool,
    /// Whether it was a gRPC call.
    pub grpc: bool,
}

impl Ending {
    const fn plain(outcome: Outcome) -> Self {
        Self { outcome, timing: Timing::Latency, client_error: false, grpc: false }
    }
    /// An ending of something that lasts as long as it is wanted.
    #[must_use]
    pub const fn open(outcome: Outcome) -> Self {
        Self { timing: Timing::Open, ..Self::plain(outcome) }
    }
}

/// What the headers of a response say.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    status: Option<u32>,
    grpc_status: Option<u32>,
    is_grpc: bool,
    is_endless: bool,
    /// Envoy's router adds this header to what an upstream answered, unless it is told not to.
    has_service_time: bool,
}

impl Head {
    fn read(headers: Headers<'_>) -> Self {
        let mut head = Self::default();
        for (name, value) in headers.iter() {
            match name {
                b":status" => head.status = number(value),
                b"grpc-status" => head.grpc_status = number(value),
                b"content-type" => {
                    head.is_grpc = begins(value, b"application/grpc");
                    head.is_endless = ENDLESS.iter().any(|kind| begins(value, kind));
                }
                b"x-envoy-upstream-service-time" => head.has_service_time = true,
                _ => {}
            }
        }
        head
    }
}

/// Content types of answers that go on as long as somebody listens.
const ENDLESS: [&[u8]; 5] = [
    b"text/event-stream",
    b"multipart/x-mixed-replace",
    b"application/x-ndjson",
    b"application/stream+json",
    b"application/json-seq",
];

/// Returns whether a content type, which is written in any case, begins like this.
fn begins(value: &[u8], with: &[u8]) -> bool {
    value.get(..with.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(with))
}

/// Judges the request whose end this callback is about, at its age.
pub fn judge<H: Host>(host: &mut H, body: Body, age_ns: u64) -> Ending {
    let head = Head::read(host.response_headers());
    let Some(status) = head.status else {
        // No response; whose fault is in the flags.
        return match host.response_flags() {
            Some(flags) if flags & Flags::CLIENT != 0 => Ending::plain(Outcome::Abandoned),
            _ => Ending::plain(Outcome::Failure),
        };
    };
    if status == 101 {
        // Only an arm switches protocols. From then on either side may end the connection whenever it likes.
        return Ending::open(Outcome::Success);
    }
    if !head.has_service_time && host.response_details().is_some_and(|details| !is_an_arms(details)) {
        return by_the_gateway(host, status);
    }
    let answered = Ending { client_error: (400..500).contains(&status), ..Ending::plain(Outcome::Success) };
    match status {
        // Many servers answer 501 to a method that they have never heard of.
        501 if is_unusual(host.request_header(":method")) => Ending { client_error: true, ..answered },
        500.. => Ending::plain(Outcome::Failure),
        _ if head.is_endless => events(host, body),
        _ if body.ended => answered,
        _ => match grpc_status(host, head) {
            Some(grpc) => grpc_call(host, body, grpc),
            None => without_last_piece(host, body, age_ns, answered),
        },
    }
}

/// Returns whether an arm's answer may have these details. Those that tell how a stream ended take the place of
/// `via_upstream` where it ended early.
fn is_an_arms(details: &[u8]) -> bool {
    let endings: [&[u8]; 2] = [b"downstream_", b"upstream_reset_after_response_started"];
    details == b"via_upstream" || endings.iter().any(|ending| details.starts_with(ending))
}

/// Returns whether a method is none that applications are written for: clients send any.
fn is_unusual(method: Option<&[u8]>) -> bool {
    const USUAL: [&[u8]; 7] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"];
    method.is_some_and(|method| !USUAL.contains(&method))
}

/// Judges an answer that no arm gave.
fn by_the_gateway<H: Host>(host: &mut H, status: u32) -> Ending {
    let flags = host.response_flags().unwrap_or_default();
    // The gateway answers 408 where the client did not finish its request.
    if flags & Flags::ON_THE_WAY == 0 || status == 408 {
        return Ending::plain(Outcome::Unjudged);
    }
    if flags & Flags::TIMEOUT != 0 && host.request_header("grpc-timeout").is_some() {
        return Ending { client_error: true, grpc: true, ..Ending::open(Outcome::Success) };
    }
    Ending::plain(Outcome::Failure)
}

/// Returns whether the request that failed had no endpoint to go to. Asked of the canary's failures only: it is a crossing.
pub fn no_upstream<H: Host>(host: &mut H) -> bool {
    host.response_flags().is_some_and(|flags| flags & (Flags::NO_ENDPOINT | Flags::NO_CLUSTER) != 0)
}

fn grpc_status<H: Host>(host: &mut H, head: Head) -> Option<u32> {
    if !head.is_grpc {
        return None;
    }
    host.response_trailer("grpc-status").and_then(number).or(head.grpc_status)
}

fn grpc_call<H: Host>(host: &mut H, body: Body, status: u32) -> Ending {
    let is_clients = match status {
        GRPC_DEADLINE => host.request_header("grpc-timeout").is_some(),
        _ => !GRPC_FAILURES.contains(&status) && !GRPC_FINE.contains(&status),
    };
    let failed = GRPC_FAILURES.contains(&status) || (status == GRPC_DEADLINE && !is_clients);
    // A unary call that ends well has exactly one message. Without the first one's length nothing can be said.
    let unary = match body.first_message {
        _ if body.bytes == 0 => status != 0,
        Some(length) => body.bytes == length,
        None => false,
    };
    Ending {
        outcome: if failed { Outcome::Failure } else { Outcome::Success },
        timing: if unary { Timing::Latency } else { Timing::Open },
        client_error: is_clients,
        grpc: true,
    }
}

/// Judges a stream of events. Clients leave it when they like, and timeouts of the gateway end it when nobody is at fault.
fn events<H: Host>(host: &mut H, body: Body) -> Ending {
    let is_broken = !body.ended && host.response_flags().is_some_and(|flags| flags & Flags::BROKEN != 0);
    Ending::open(if is_broken { Outcome::Failure } else { Outcome::Success })
}

/// Judges a response that ended with its headers, or too early.
fn without_last_piece<H: Host>(host: &mut H, body: Body, age_ns: u64, answered: Ending) -> Ending {
    // A client that does not read stops the upstream once the gateway's buffers are full.
    let client_may_be_slow = body.bytes >= BUFFER;
    match host.response_flags().unwrap_or_default() {
        // An upstream that breaks off may take the client's connection with it, so its flags come first.
        flags if flags & Flags::BROKEN != 0 => Ending::plain(Outcome::Failure),
        flags if flags & Flags::TIMED_OUT != 0 => {
            Ending::plain(if client_may_be_slow { Outcome::Unjudged } else { Outcome::Failure })
        }
        flags if flags & Flags::CLIENT != 0 => {
            let did_not_wait = age_ns < PATIENCE_NS;
            Ending::plain(if client_may_be_slow || did_not_wait { Outcome::Unjudged } else { Outcome::Abandoned })
        }
        _ => answered,
    }
}

/// Reads the length of the first gRPC message, with its frame, from the body's first bytes.
pub fn first_message<H: Host>(host: &mut H) -> Option<u64> {
    match host.response_body(5)? {
        [_compressed, length @ ..] => Some(u64::from(u32::from_be_bytes(length.try_into().ok()?)) + 5),
        [] => None,
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
