//! Where answers go: standard output, which they have for themselves.

use std::io::{self, Write as _};

use anstream::AutoStream;
use terminal_size::{Width, terminal_size_of};

#[cfg(all(feature = "ort", unix))]
type Stream = std::fs::File;
#[cfg(not(all(feature = "ort", unix)))]
type Stream = io::Stdout;

/// Standard output. Where libraries of others may be loaded, what those print, also when the process ends, is turned to standard error: a
/// reader of answers gets nothing else.
pub struct Answers(AutoStream<Stream>);

impl Answers {
    /// Takes standard output. Whatever else the process writes there goes to standard error from now on.
    ///
    /// # Errors
    /// The process may have no more open files.
    pub fn take() -> io::Result<Self> {
        Ok(Self(AutoStream::auto(stream()?)))
    }

    /// Writes a line, or several.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(format!("{text}\n").as_bytes())?;
        self.0.flush()
    }

    /// Columns of the terminal, if it is one.
    pub fn columns(&self) -> Option<u16> {
        terminal_size_of(self.0.as_inner()).map(|(Width(columns), _)| columns)
    }
}

#[cfg(all(feature = "ort", unix))]
fn stream() -> io::Result<Stream> {
    use std::os::fd::AsFd as _;

    let kept = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(kept.into())
}

#[cfg(not(all(feature = "ort", unix)))]
fn stream() -> io::Result<Stream> {
    Ok(io::stdout())
}
