//! The terminal, if there is one: whether to use colours, and the time.

use std::io::{self, IsTerminal as _, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use weir_controller::view::paint::{Paint, WIDTH};
use weir_engine::Timestamp;

/// Characters of a line below which nothing is made narrower.
const NARROWEST: usize = 40;

/// How to write.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Write no colours. Also by the environment variable NO_COLOR, and always to a pipe.
    #[arg(long)]
    pub(crate) no_color: bool,
}

impl Style {
    /// Returns whether to use colours.
    #[must_use]
    pub(crate) fn paint(self) -> Paint {
        let refused = self.no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint { color: !refused && is_terminal(), width: width() }
    }
}

/// Returns whether a person is looking, at a terminal that draws: one that is called dumb shows escapes as text.
#[must_use]
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// Returns how many characters have room in a line. A pipe has room for any, and is written to as a terminal of the usual width.
fn width() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_col > 0
    {
        return usize::from(size.ws_col).max(NARROWEST);
    }
    WIDTH
}

/// Returns how many lines the terminal has.
#[must_use]
pub(crate) fn height() -> usize {
    #[cfg(unix)]
    if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout())
        && size.ws_row > 0
    {
        return usize::from(size.ws_row);
    }
    // A terminal that does not say (a serial line) is taken for the smallest that is still sold.
    24
}

/// Returns the time.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Writes a text. A reader that has gone (`weir get … | head`) is the end, not an error.
///
/// # Errors
/// When the text cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
