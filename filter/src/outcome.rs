//! Says how a request ended: well, badly, or given up by the client.
//!
//! The rules are those of the contract. What matters here is the order in which they are asked, because each answer costs
//! a crossing: nearly every response ends with the last piece of its body, and then its status says all.

use crate::host::Host;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and not an error of the server.
    Success,
    /// Answered with a server's error, cut off, or not answered at all.
    Failure,
    /// The client left before the response was complete.
    Abandoned,
}

/// Whether a duration says something about the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// The time until the response was complete.
    Latency,
    /// An upgraded connection or a stream of messages: as long as it is wanted.
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
}

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
    const CLIENT: u64 = Self::CLIENT_GONE | Self::CLIENT_BROKE | Self::CLIENT_RESET;
    /// Whatever else may end a stream early is the upstream's or the gateway's doing: remote and local reset, connection
    /// failure and termination, overflow, timeouts (UT, SI, UMSDR, DT), protocol error, no cluster, overload.
    pub const BROKEN: u64 = 0x0000_0004 // UT
        | 0x0000_0008 // LR
        | 0x0000_0010 // UR
        | 0x0000_0020 // UF
        | 0x0000_0040 // UC
        | 0x0000_0080 // UO
        | 0x0000_8000 // URX
        | 0x0001_0000 // SI
        | 0x0008_0000 // UMSDR
        | 0x0040_0000 // DT
        | 0x0080_0000 // UPE
        | Self::NO_CLUSTER // NC
        | 0x0200_0000; // OM
}

/// gRPC statuses that are the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_FAILURES: [u32; 6] = [2, 4, 12, 13, 14, 15];

/// How a request ended, whether its duration counts, and whether it was gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether its duration counts.
    pub timing: Timing,
    /// Whether it was a gRPC call.
    pub grpc: bool,
}

impl Ending {
    const fn plain(outcome: Outcome) -> Self {
        Self { outcome, timing: Timing::Latency, grpc: false }
    }
}

/// Judges the request whose end this callback is about.
pub fn judge<H: Host>(host: &mut H, body: Body) -> Ending {
    match host.response_header(":status").and_then(number) {
        // Upgraded: from then on either side may end the connection whenever it likes.
        Some(101) => Ending { outcome: Outcome::Success, timing: Timing::Open, grpc: false },
        Some(500..) => Ending::plain(Outcome::Failure),
        Some(_) if body.ended => Ending::plain(Outcome::Success),
        Some(_) => without_last_piece(host, body),
        // No response; whose fault is in the flags.
        None => match host.response_flags() {
            Some(flags) if flags & Flags::CLIENT != 0 => Ending::plain(Outcome::Abandoned),
            _ => Ending::plain(Outcome::Failure),
        },
    }
}

/// Returns whether the request that failed never had anybody to go to. Asked of the canary's failures only: it is a crossing.
pub fn found_nobody<H: Host>(host: &mut H) -> bool {
    host.response_flags().is_some_and(|flags| flags & (Flags::NO_ENDPOINT | Flags::NO_CLUSTER) != 0)
}

/// Judges a response that ended with its headers, with trailers, or too early.
fn without_last_piece<H: Host>(host: &mut H, body: Body) -> Ending {
    let status = match host.response_trailer("grpc-status").and_then(number) {
        Some(status) => Some(status),
        None => host.response_header("grpc-status").and_then(number),
    };
    if let Some(status) = status
        && host.response_header("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
    {
        let outcome = if GRPC_FAILURES.contains(&status) { Outcome::Failure } else { Outcome::Success };
        // A unary call that ends well has exactly one message. Without the first one's length nothing can be said.
        let unary = match body.first_message {
            _ if body.bytes == 0 => status != 0,
            Some(length) => body.bytes == length,
            None => false,
        };
        return Ending { outcome, timing: if unary { Timing::Latency } else { Timing::Open }, grpc: true };
    }
    match host.response_flags().unwrap_or_default() {
        // An upstream that breaks off may take the client's connection with it, so its flags come first.
        flags if flags & Flags::BROKEN != 0 => Ending::plain(Outcome::Failure),
        flags if flags & Flags::CLIENT != 0 => Ending::plain(Outcome::Abandoned),
        _ => Ending::plain(Outcome::Success),
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
mod tests {
    use super::*;
    use crate::simulated::SimulatedHost;

    const ENDED: Body = Body { ended: true, bytes: 9, first_message: None };
    const OPEN: Body = Body { ended: false, bytes: 0, first_message: None };

    fn host(headers: &[(&str, &str)], trailers: &[(&str, &str)], flags: u64) -> SimulatedHost {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let mut host = SimulatedHost::default();
        (host.response, host.trailers, host.flags) = (owned(headers), owned(trailers), flags);
        host
    }

    fn outcome(headers: &[(&str, &str)], trailers: &[(&str, &str)], flags: u64, body: Body) -> Outcome {
        judge(&mut host(headers, trailers, flags), body).outcome
    }

    #[test]
    fn a_status_of_500_and_above_is_a_failure_and_any_other_is_not() {
        for (status, expected) in [
            ("200", Outcome::Success),
            ("404", Outcome::Success),
            ("429", Outcome::Success),
            ("499", Outcome::Success),
            ("500", Outcome::Failure),
            ("503", Outcome::Failure),
            ("599", Outcome::Failure),
        ] {
            assert_eq!(outcome(&[(":status", status)], &[], 0, ENDED), expected, "{status}");
            assert_eq!(outcome(&[(":status", status)], &[], 0, OPEN), expected, "{status} without body");
        }
    }

    #[test]
    fn a_response_that_breaks_off_is_a_failure_and_one_that_is_left_is_abandoned() {
        let ok = [(":status", "200")];
        assert_eq!(outcome(&ok, &[], 0x40, OPEN), Outcome::Failure);
        assert_eq!(outcome(&ok, &[], 0x10, OPEN), Outcome::Failure);
        assert_eq!(outcome(&ok, &[], 0x10000, OPEN), Outcome::Failure);
        assert_eq!(outcome(&ok, &[], 0x40 | Flags::CLIENT_GONE, OPEN), Outcome::Failure);
        assert_eq!(outcome(&ok, &[], Flags::CLIENT_GONE, OPEN), Outcome::Abandoned);
        assert_eq!(outcome(&ok, &[], Flags::CLIENT_RESET, OPEN), Outcome::Abandoned);
        assert_eq!(outcome(&ok, &[], Flags::CLIENT_GONE, ENDED), Outcome::Success);
        assert_eq!(outcome(&[(":status", "500")], &[], Flags::CLIENT_GONE, OPEN), Outcome::Failure);
    }

    #[test]
    fn no_response_is_a_failure_unless_the_client_left() {
        assert_eq!(outcome(&[], &[], 0, OPEN), Outcome::Failure);
        assert_eq!(outcome(&[], &[], 0x20, OPEN), Outcome::Failure);
        assert_eq!(outcome(&[], &[], Flags::CLIENT_GONE, OPEN), Outcome::Abandoned);
        assert_eq!(outcome(&[(":status", "x")], &[], 0, ENDED), Outcome::Failure);
    }

    #[test]
    fn grpc_statuses_count_in_trailers_and_trailers_only_where_the_response_is_grpc() {
        let grpc = [(":status", "200"), ("content-type", "application/grpc+proto")];
        for status in 0..=16 {
            let text = status.to_string();
            let expected = if [2, 4, 12, 13, 14, 15].contains(&status) { Outcome::Failure } else { Outcome::Success };
            assert_eq!(outcome(&grpc, &[("grpc-status", &text)], 0, OPEN), expected, "trailers {status}");
            let only = [grpc[0], grpc[1], ("grpc-status", &text)];
            assert_eq!(outcome(&only, &[], 0, OPEN), expected, "trailers-only {status}");
            let plain = [(":status", "200"), ("content-type", "text/html"), ("grpc-status", &text)];
            assert_eq!(outcome(&plain, &[], 0, OPEN), Outcome::Success, "not grpc {status}");
        }
    }

    #[test]
    fn upgrades_and_streams_of_messages_have_no_latency() {
        let grpc = [(":status", "200"), ("content-type", "application/grpc")];
        let timing = |bytes, first_message, status: &str| {
            let body = Body { ended: false, bytes, first_message };
            judge(&mut host(&grpc, &[("grpc-status", status)], 0), body).timing
        };
        assert_eq!(timing(25, Some(25), "0"), Timing::Latency);
        assert_eq!(timing(50, Some(25), "0"), Timing::Open);
        assert_eq!(timing(0, None, "0"), Timing::Open);
        assert_eq!(timing(0, None, "14"), Timing::Latency);
        assert_eq!(timing(25, None, "0"), Timing::Open);
        let upgraded = judge(&mut host(&[(":status", "101")], &[], 0x40), OPEN);
        assert_eq!(upgraded, Ending { outcome: Outcome::Success, timing: Timing::Open, grpc: false });
    }

    #[test]
    fn the_first_message_is_as_long_as_its_frame_says() {
        let mut host = host(&[], &[], 0);
        host.body = vec![0, 0, 0, 1, 2, 99];
        assert_eq!(first_message(&mut host), Some(5 + 258));
        host.body = vec![0, 0];
        assert_eq!(first_message(&mut host), None);
    }
}
