//! A few lines at the bottom of the terminal that stay there while log lines pass above them.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Standard error with a block of lines at its end; cloning shares it. Without a block it is plain standard error.
#[derive(Debug, Clone, Default)]
pub struct Screen(Arc<Mutex<Vec<String>>>);

/// One log line on its way to the screen.
#[derive(Debug)]
pub struct LogLine {
    screen: Screen,
    text: Vec<u8>,
}

impl Screen {
    /// Whether the screen is a terminal.
    pub fn is_terminal() -> bool {
        io::IsTerminal::is_terminal(&io::stderr())
    }

    /// Replaces the block; an empty one leaves nothing.
    pub fn draw(&self, lines: Vec<String>) {
        let mut shown = self.0.lock();
        let mut text = erase(shown.len());
        *shown = lines;
        append(&mut text, &shown);
        show(&text);
    }

    /// Leaves the block where it is; what follows comes below it.
    pub fn release(&self) {
        self.0.lock().clear();
    }
}

impl Write for LogLine {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let shown = self.screen.0.lock();
        let mut text = erase(shown.len());
        text.append(&mut self.text);
        append(&mut text, &shown);
        show(&text);
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { screen: self.clone(), text: Vec::new() }
    }
}

/// Goes up over the block and clears it.
fn erase(lines: usize) -> Vec<u8> {
    if lines == 0 { Vec::new() } else { format!("\x1b[{lines}A\x1b[J").into_bytes() }
}

/// Adds the block with line wrap off: a line that is too long is cut by the terminal, and the block keeps its height.
fn append(text: &mut Vec<u8>, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.extend_from_slice(b"\x1b[?7l");
    for line in lines {
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(b"\x1b[?7h");
}

fn show(text: &[u8]) {
    // A terminal that went away is no reason to stop collecting.
    let _ = io::stderr().lock().write_all(text);
}
