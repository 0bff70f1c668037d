//! Inspection: reports the content of a spool's folder. It only reads, also while the agent runs.
//!
//! A frame that an agent is writing resembles a torn end. Therefore a torn end is read again before
//! it is reported, and again whenever more of it became readable.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::cursors;
use super::dead_letters::{dead_letter_files, dead_letter_sinks, read_dead_letters};
use super::frame::{HEADER, read_commits};
use super::gaps::GapFinder;
use super::segment::{Segment, SegmentFile};
use super::storage::{Disk, Storage as _};
use crate::base::escape::escaped;
use crate::base::framing::{FrameDamage, FrameStep};
use crate::base::progress::Progress;

/// Reads of a torn end before it is reported.
const ATTEMPTS: u32 = 4;
/// Time between two reads, longer than a write takes.
const PAUSE: Duration = Duration::from_millis(5);
/// Characters of a name at most.
const NAME_MAX: usize = 80;

/// Content of a spool's folder.
#[derive(Debug)]
pub struct InspectionReport {
    folder: PathBuf,
    segments: Vec<Segment>,
    cursors: Vec<(String, u64)>,
    /// Number of dead-lettered items by sink.
    dead_letters: Vec<(String, u64)>,
    /// Unreadable parts of files.
    pub corruptions: Vec<Corruption>,
    /// Number of readable commits.
    pub commits: u64,
    /// Number and time of each alert.
    pub(super) times: Vec<(u64, Timestamp)>,
    /// Ordinal of the next commit; a lower one is a repetition.
    next_ordinal: u64,
}

/// Unreadable part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    path: PathBuf,
    offset: u64,
    reason: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path.display(), self.offset, self.reason)
    }
}

impl InspectionReport {
    /// Reads all files in `dir`.
    pub fn read(dir: &Path, progress: &Progress) -> io::Result<Self> {
        let disk = Disk::new(dir);
        // Before the cursors: an agent moves them on before it removes a segment.
        let files = SegmentFile::list(&disk)?;
        let mut report = Self {
            folder: dir.to_owned(),
            segments: Vec::new(),
            cursors: cursors::load(&disk)?,
            dead_letters: Vec::new(),
            corruptions: Vec::new(),
            commits: 0,
            times: Vec::new(),
            next_ordinal: 0,
        };
        let mut gaps = GapFinder::new(&disk, &report.cursors)?;
        for file in &files {
            let end = report.segments.last().map_or(0, |segment| segment.end);
            if let Some(gap) = gaps.before(file, end) {
                report.add(&disk, &file.name, 0, gap.text);
            }
            match report.read_segment(&disk, file, files.last() == Some(file), progress) {
                // Acknowledged by all sinks, and removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => report.add(&disk, &file.name, 0, format!("cannot be read: {error}")),
                Ok(()) => {}
            }
        }
        for sink in dead_letter_sinks(dir)? {
            let mut items = 0;
            for path in dead_letter_files(dir, &sink) {
                read_dead_letters(&path, progress, |_| items += 1)?;
            }
            report.dead_letters.push((sink, items));
        }
        Ok(report)
    }

    fn read_segment(
        &mut self,
        disk: &Disk,
        file: &SegmentFile,
        is_last: bool,
        progress: &Progress,
    ) -> io::Result<()> {
        let name = &file.name;
        let mut segment = match file.read_header(disk)? {
            Ok(segment) => segment,
            // Just created.
            Err(_) if is_last && file.bytes == 0 => return Ok(()),
            Err(reason) => {
                self.add(disk, name, 0, reason);
                return Ok(());
            }
        };
        let (mut from, mut attempts) = (HEADER, 0);
        loop {
            segment.bytes = std::fs::metadata(disk.path(name))?.len();
            let mut commits = read_commits(disk, name, from..segment.bytes, segment.ordinal);
            let mut read = from;
            let torn = loop {
                progress.add_bytes(commits.offset().saturating_sub(read));
                read = commits.offset();
                match commits.next_step()? {
                    FrameStep::End => break None,
                    FrameStep::Zeros(start) => {
                        segment.bytes = start;
                        break None;
                    }
                    FrameStep::Damage(damage) if damage.is_tail => break Some(damage),
                    FrameStep::Damage(FrameDamage { start, end, error, .. }) => {
                        let reason = format!("{error}; {} bytes are not frames", end - start);
                        self.add(disk, name, start, reason);
                    }
                    FrameStep::Frame(_, commit) => {
                        self.commits += 1;
                        if commit.header.ordinal >= self.next_ordinal {
                            self.next_ordinal = commit.header.ordinal + 1;
                            segment.add_stored(&commit);
                            let numbers = commit.header.sequence..commit.end();
                            self.times.extend(numbers.map(|it| (it, commit.header.time)));
                        }
                    }
                }
            };
            let Some(FrameDamage { start, end, error, .. }) = torn else { break };
            attempts = if start > from { 1 } else { attempts + 1 };
            from = start;
            if attempts == ATTEMPTS {
                let reason = format!("{error}; the last {} bytes are not frames", end - start);
                self.add(disk, name, start, reason);
                break;
            }
            #[expect(clippy::disallowed_methods, reason = "no runtime waits for this command")]
            std::thread::sleep(PAUSE);
        }
        self.segments.push(segment);
        progress.set_alerts(self.segments.iter().map(|it| it.alerts).sum());
        Ok(())
    }

    fn add(&mut self, disk: &Disk, name: &str, offset: u64, reason: String) {
        self.corruptions.push(Corruption { path: disk.path(name), offset, reason });
    }

    /// Text for a terminal.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, text: String| {
            let _infallible = writeln!(out, "{label:<12}{text}");
        };
        line("folder", self.folder.display().to_string());
        for segment in &self.segments {
            let Segment { name, first, end, alerts, bytes, .. } = segment;
            let numbers = match alerts {
                0 => "no alerts".to_owned(),
                _ => format!("{alerts} alerts, {first} to {}", end.saturating_sub(1)),
            };
            let times = segment.oldest.zip(segment.newest);
            let times = times.map_or_else(String::new, |(oldest, newest)| {
                format!(", from {} to {}", whole_seconds(oldest), whole_seconds(newest))
            });
            line("segment", format!("{name}: {numbers}, {bytes} bytes{times}"));
        }
        let alerts: u64 = self.segments.iter().map(|segment| segment.alerts).sum();
        let bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        line("all", format!("{} segments, {alerts} alerts, {bytes} bytes", self.segments.len()));
        for (name, cursor) in &self.cursors {
            let pending: u64 = self.segments.iter().map(|it| it.alerts_from(*cursor)).sum();
            let name = escaped(name, NAME_MAX);
            line("sink", format!("{name}: {pending} alerts pending, from number {cursor} on"));
        }
        for (sink, items) in &self.dead_letters {
            let sink = escaped(sink, NAME_MAX);
            line("rejected", format!("{sink}: {items} items in the dead-letter file"));
        }
        for corruption in &self.corruptions {
            line("damaged", corruption.to_string());
        }
        out
    }
}

/// Files that [`InspectionReport::read`] reads. Folders that cannot be listed are left out here; the
/// inspection reports them.
pub fn inspected_files(dir: &Path) -> Vec<PathBuf> {
    let disk = Disk::new(dir);
    let segments = SegmentFile::list(&disk).unwrap_or_default().into_iter();
    let mut files: Vec<PathBuf> = segments.map(|file| disk.path(&file.name)).collect();
    let sinks = dead_letter_sinks(dir).unwrap_or_default();
    files.extend(sinks.iter().flat_map(|sink| dead_letter_files(dir, sink)));
    files
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
