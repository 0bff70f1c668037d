//! Log lines of the library in this process.
#![expect(clippy::unwrap_used, reason = "a poisoned lock is a failed test")]

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use tracing_subscriber::fmt::MakeWriter;

static BUFFER: OnceLock<Buffer> = OnceLock::new();

/// Log lines so far that contain `part`. The first call starts the capture, so it must precede the
/// first log line. Tests of one process share the log: search for a name that only one test uses.
pub fn captured_logs(part: &str) -> Vec<String> {
    let buffer = BUFFER.get_or_init(|| {
        let buffer = Buffer::default();
        tracing_subscriber::fmt().with_ansi(false).with_writer(buffer.clone()).init();
        buffer
    });
    let text = String::from_utf8_lossy(&buffer.0.lock().unwrap()).into_owned();
    text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Buffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
