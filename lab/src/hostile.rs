//! Clients that want a good release to be taken back. They cannot choose the arm of a request, but its answer's headers name it:
//! from then on they misbehave where it is the canary's, and read it to its end where it is the primary's.

use rand::Rng as _;
use rand::rngs::StdRng;
use weir_filter::Filter;
use weir_filter::outcome::Flags;
use weir_filter::simulated::SimulatedHost;

/// Bytes of an answer that fills the gateway's buffers while nobody reads it.
const LARGE: u32 = 70_000;
/// How long an answer is left unread, in nanoseconds.
const UNREAD_NS: u64 = 5_000_000_000;

/// What a client does to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manner {
    /// It reads the answer to its end.
    Polite,
    /// It resets the stream at the headers.
    ResetAtHeaders,
    /// It leaves a large answer unread, and the connection after some seconds.
    LeftUnread,
    /// As before, until the gateway's own timeout ends it.
    UnreadUntilTimeout,
    /// It leaves before any answer, on either arm.
    LeftAtOnce,
    /// It breaks the protocol before any answer, on either arm.
    BrokeProtocol,
    /// It calls a gRPC method that does not exist, on either arm.
    UnknownMethod,
    /// It calls with a deadline that nobody can keep, on either arm.
    OwnDeadline,
    /// It asks for what does not exist, on either arm.
    Missing,
    /// It asks for what the gateway answers by itself.
    Redirected,
}

const ALL: [Manner; 9] = [
    Manner::ResetAtHeaders,
    Manner::LeftUnread,
    Manner::UnreadUntilTimeout,
    Manner::LeftAtOnce,
    Manner::BrokeProtocol,
    Manner::UnknownMethod,
    Manner::OwnDeadline,
    Manner::Missing,
    Manner::Redirected,
];

impl Manner {
    /// Draws what a hostile client does to a request that was given this arm.
    pub(super) fn draw(rng: &mut StdRng, to_canary: bool) -> Self {
        match ALL[rng.random_range(0..ALL.len())] {
            Self::ResetAtHeaders | Self::LeftUnread | Self::UnreadUntilTimeout if !to_canary => Self::Polite,
            manner => manner,
        }
    }

    /// Returns how much longer than the server's work the request takes, in nanoseconds.
    pub(super) fn delay_ns(self) -> u64 {
        match self {
            Self::LeftUnread | Self::UnreadUntilTimeout => UNREAD_NS,
            _ => 0,
        }
    }

    /// Ends a request as the proxy would.
    pub(super) fn end(self, filter: &mut Filter, host: &mut SimulatedHost, stream: u32, status: u16) {
        host.request.clear();
        host.response.clear();
        (host.flags, host.details) = (0, "via_upstream".into());
        let answer = |host: &mut SimulatedHost, status: &str| {
            host.response.push((":status".into(), status.into()));
            host.response.push(("x-envoy-upstream-service-time".into(), "1".into()));
        };
        let grpc = |host: &mut SimulatedHost, status: &str| {
            host.response.push(("content-type".into(), "application/grpc".into()));
            host.response.push(("grpc-status".into(), status.into()));
        };
        match self {
            Self::Polite => {
                host.response.push((":status".into(), status.to_string()));
                filter.response(host, stream);
                filter.response_body(host, stream, 1, true);
            }
            Self::ResetAtHeaders | Self::LeftUnread | Self::UnreadUntilTimeout => {
                answer(host, &status.to_string());
                filter.response(host, stream);
                filter.response_body(host, stream, LARGE, false);
                host.flags = match self {
                    Self::ResetAtHeaders => Flags::CLIENT_RESET,
                    Self::LeftUnread => Flags::CLIENT_GONE,
                    _ => Flags::TIMEOUT,
                };
            }
            Self::LeftAtOnce => host.flags = Flags::CLIENT_GONE,
            Self::BrokeProtocol => host.flags = Flags::CLIENT_BROKE,
            Self::UnknownMethod => {
                answer(host, "200");
                grpc(host, "12");
            }
            Self::OwnDeadline => {
                host.request.push(("grpc-timeout".into(), "1n".into()));
                answer(host, "200");
                grpc(host, "4");
            }
            Self::Missing => {
                answer(host, "404");
                filter.response(host, stream);
                filter.response_body(host, stream, 1, true);
            }
            Self::Redirected => {
                host.response.push((":status".into(), "301".into()));
                host.details = "direct_response".into();
            }
        }
        filter.ended(host, stream);
    }
}
