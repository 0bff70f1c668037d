//! Inspect: what a spool's folder holds, for people. Only reads, beside a running agent too.
//!
//! What an agent is writing just then looks like a torn end: before it is told as one, the file is
//! looked at again, and again while more of it can be read.

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::cursors;
use super::frame::{HEADER, Header};
use super::rejected::{read_rejected, rejected_files, rejecting_sinks};
use super::scan::{Damage, Scan, Step};
use super::segment::Segment;
use super::storage::{Disk, Storage as _};
use crate::base::escape::escaped;
use crate::base::progress::Progress;

/// How often a place is looked at before it is told as torn.
const LOOKS: u32 = 4;
/// Between two looks: a write is long over.
const PAUSE: Duration = Duration::from_millis(5);
/// Characters of a name at most.
const NAME_MAX: usize = 80;

/// What a spool's folder holds.
#[derive(Debug)]
pub struct Survey {
    folder: PathBuf,
    segments: Vec<Segment>,
    cursors: Vec<(String, u64)>,
    /// Sinks that refused something, and how many items each.
    rejected: Vec<(String, u64)>,
    /// What cannot be read.
    pub damages: Vec<Flaw>,
    /// Frames that can.
    pub frames: u64,
    /// When each alert was put, where that was asked for: its number and the time.
    pub(super) times: Vec<(u64, Timestamp)>,
}

/// Something in a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    path: PathBuf,
    offset: u64,
    what: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path.display(), self.offset, self.what)
    }
}

impl Survey {
    /// Reads all of `dir`.
    pub fn of(dir: &Path, progress: &Progress) -> io::Result<Self> {
        let disk = Disk::new(dir);
        let mut survey = Self {
            folder: dir.to_owned(),
            segments: Vec::new(),
            cursors: cursors::load(&disk)?,
            rejected: Vec::new(),
            damages: Vec::new(),
            frames: 0,
            times: Vec::new(),
        };
        let mut names: Vec<(u64, String)> = Vec::new();
        for (name, _) in disk.list()? {
            names.extend(Segment::numbers_of(&name).map(|(generation, _)| (generation, name)));
        }
        names.sort();
        let last = names.len();
        let mut next = 0;
        for (place, (generation, name)) in names.into_iter().enumerate() {
            match survey.read(&disk, (generation, &name), &mut next, progress) {
                // Settled by all, and gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => survey.flaw(&disk, &name, 0, format!("cannot be read: {error}")),
                Ok(Err(wrong)) if place + 1 == last && wrong.is_none() => {}
                Ok(Err(wrong)) => {
                    let wrong = wrong.unwrap_or_else(|| "is empty".to_owned());
                    survey.flaw(&disk, &name, 0, wrong);
                }
                Ok(Ok(())) => {}
            }
        }
        for sink in rejecting_sinks(dir)? {
            let mut items = 0;
            for path in rejected_files(dir, &sink) {
                read_rejected(&path, progress, |_| items += 1)?;
            }
            survey.rejected.push((sink, items));
        }
        Ok(survey)
    }

    /// The inner error says what is wrong with the header; nothing where the file is empty.
    fn read(
        &mut self,
        disk: &Disk,
        (generation, name): (u64, &str),
        next: &mut u64,
        progress: &Progress,
    ) -> io::Result<Result<(), Option<String>>> {
        let header = disk.read_at(name, 0, usize::try_from(HEADER).unwrap_or(0))?;
        if header.is_empty() {
            return Ok(Err(None));
        }
        let header = match Header::parse(&header) {
            Ok(header) => header,
            Err(wrong) => return Ok(Err(Some(wrong))),
        };
        let mut segment = Segment::new(generation, header.sequence, header.ordinal);
        name.clone_into(&mut segment.name);
        let (mut from, mut looks) = (HEADER, 0);
        loop {
            segment.bytes = length(disk, name)?;
            let mut scan = Scan::new(disk, name, (from, segment.bytes), header.ordinal);
            let mut torn = None;
            let mut seen = from;
            loop {
                progress.add_bytes(scan.offset().saturating_sub(seen));
                seen = scan.offset();
                match scan.next()? {
                    Step::End => break,
                    Step::Zeros(offset) => {
                        segment.bytes = offset;
                        break;
                    }
                    Step::Damage(damage) if damage.is_tail => torn = Some(damage),
                    Step::Damage(Damage { offset, until, wrong, .. }) => {
                        let what = format!("{wrong}; {} bytes are no frames", until - offset);
                        self.damages.push(Flaw { path: disk.path(name), offset, what });
                    }
                    Step::Frame(_, frame) => {
                        self.frames += 1;
                        // Else it is a repetition.
                        if frame.ordinal >= *next {
                            *next = frame.ordinal + 1;
                            segment.note(&frame);
                            let numbers = frame.sequence..frame.end();
                            self.times.extend(numbers.map(|number| (number, frame.time)));
                        }
                    }
                }
            }
            let Some(Damage { offset, until, wrong, .. }) = torn else { break };
            looks = if offset > from { 1 } else { looks + 1 };
            from = offset;
            if looks < LOOKS {
                #[expect(clippy::disallowed_methods, reason = "no runtime waits for this command")]
                std::thread::sleep(PAUSE);
            } else {
                let what = format!("{wrong}; the last {} bytes are no frames", until - offset);
                self.flaw(disk, name, offset, what);
                break;
            }
        }
        self.segments.push(segment);
        progress.set_alerts(self.segments.iter().map(|it| it.alerts).sum());
        Ok(Ok(()))
    }

    fn flaw(&mut self, disk: &Disk, name: &str, offset: u64, what: String) {
        self.damages.push(Flaw { path: disk.path(name), offset, what });
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |label: &str, text: String| {
            let _infallible = writeln!(out, "{label:<12}{text}");
        };
        line("folder", self.folder.display().to_string());
        for segment in &self.segments {
            let Segment { name, first, end, alerts, bytes, .. } = segment;
            let numbers = if alerts == &0 {
                "no alerts".to_owned()
            } else {
                format!("{alerts} alerts, {first} to {}", end.saturating_sub(1))
            };
            let times = segment.oldest.zip(segment.newest);
            let times = times.map_or_else(String::new, |(oldest, newest)| {
                format!(", from {} to {}", seconds(oldest), seconds(newest))
            });
            line("segment", format!("{name}: {numbers}, {bytes} bytes{times}"));
        }
        let alerts: u64 = self.segments.iter().map(|segment| segment.alerts).sum();
        let bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        line("all", format!("{} segments, {alerts} alerts, {bytes} bytes", self.segments.len()));
        for (name, cursor) in &self.cursors {
            let waiting: u64 = self.segments.iter().map(|it| it.alerts_from(*cursor)).sum();
            let name = escaped(name, NAME_MAX);
            line("sink", format!("{name}: {waiting} alerts wait, from number {cursor} on"));
        }
        for (sink, items) in &self.rejected {
            line("rejected", format!("{}: {items} items put aside", escaped(sink, NAME_MAX)));
        }
        for flaw in &self.damages {
            line("damaged", flaw.to_string());
        }
        out
    }
}

/// The files that a survey of `dir` reads. What cannot be listed is not among them: the survey says
/// why.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let disk = Disk::new(dir);
    let names = disk.list().unwrap_or_default().into_iter().map(|(name, _)| name);
    let segments = names.filter(|name| Segment::numbers_of(name).is_some());
    let mut files: Vec<PathBuf> = segments.map(|name| disk.path(&name)).collect();
    let sinks = rejecting_sinks(dir).unwrap_or_default();
    files.extend(sinks.iter().flat_map(|sink| rejected_files(dir, sink)));
    files
}

fn length(disk: &Disk, name: &str) -> io::Result<u64> {
    std::fs::metadata(disk.path(name)).map(|metadata| metadata.len())
}

/// Without parts of a second.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
