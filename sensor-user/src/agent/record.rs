//! `netsensor record`: changes of connections to a file, as JSON lines.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::computer_name::computer;
use super::sensor::Sensor;
use super::signals::{BlockedSignals, Signals};
use crate::base::clock::{Clock, SystemClock};
use crate::base::counters::Stats;
use crate::config::Config;
use crate::pipeline::aggregate::Change;
use crate::pipeline::aggregate::RecordedChange;
use crate::pipeline::enrich::DnsAnswer;
use crate::privsep::Workers;
use crate::schema::agent_event::{AgentEvent, AgentIdentity};
use crate::telemetry::loss_ledger::{LossReporter, log_final};

/// Maximum time that a line stays in the buffer.
const FLUSH_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// Records until SIGINT or SIGTERM, or for `duration`; returns the number of lines written.
pub fn record(config: &Config, out: &Path, duration: Option<Duration>) -> anyhow::Result<u64> {
    // From here on a signal leads to an orderly end, at any point of the start.
    let signals = BlockedSignals::block(false)?;
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(out);
    let file = file.with_context(|| format!("write {}", out.display()))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stats = Arc::new(Stats::default());
    let computer = computer(config);
    let identity = AgentIdentity { computer: computer.to_string(), agent_id: String::new() };
    let losses = LossReporter::new(identity, clock.now());
    let workers = Workers::start(&config.agent.log, None, &stats).context("start the workers")?;
    let mut sensor = Sensor::open(config, computer, Arc::clone(&clock), &workers, &stats)?;
    sensor.begin()?;
    let writer = Writer { file: BufWriter::new(file), path: out.to_owned(), lines: 0 };
    let mut recording = Recording { sensor, writer, clock, stats, losses };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async move {
        let signals = signals.listen()?;
        let thread = std::thread::Builder::new()
            .name("pipeline".to_owned())
            .spawn(move || recording.run(&stopped))
            .context("start the pipeline thread")?;
        until_stopped(signals, duration, || thread.is_finished()).await;
        stop.store(true, Ordering::Release);
        thread
            .join()
            .map_err(|_panic| anyhow::anyhow!("the pipeline thread panicked; please report"))?
    })
}

struct Recording {
    sensor: Sensor,
    writer: Writer,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    losses: LossReporter,
}

impl Recording {
    fn run(&mut self, stop: &AtomicBool) -> anyhow::Result<u64> {
        let mut changes = Vec::new();
        let mut flushed = self.clock.now();
        while !stop.load(Ordering::Acquire) {
            self.sensor.poll(&mut changes);
            self.writer.write(self.sensor.dns_answers(), &mut changes)?;
            let now: Timestamp = self.clock.now();
            if now.duration_since(flushed).abs() >= FLUSH_INTERVAL {
                self.writer.flush()?;
                flushed = now;
            }
            let kernel = || self.sensor.capture().counters().ok();
            self.writer.write_events(&self.losses.poll(kernel, &self.stats, now))?;
            self.sensor.wait(false)?;
        }
        let kernel = self.sensor.finish(&mut changes)?;
        self.writer.write(self.sensor.dns_answers(), &mut changes)?;
        let now = self.clock.now();
        self.writer.write_events(&self.losses.finish(&kernel, &self.stats, now))?;
        self.writer.flush()?;
        log_final(&kernel, &self.stats);
        Ok(self.writer.lines)
    }
}

struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    lines: u64,
}

impl Writer {
    fn write(
        &mut self,
        mut dns_answers: impl Iterator<Item = DnsAnswer>,
        changes: &mut Vec<Change>,
    ) -> anyhow::Result<()> {
        dns_answers.try_for_each(|dns_answer| self.line(&dns_answer))?;
        for change in changes.drain(..) {
            self.line(&RecordedChange::from(&change))?;
        }
        Ok(())
    }

    fn write_events(&mut self, events: &[AgentEvent]) -> anyhow::Result<()> {
        events.iter().try_for_each(|event| self.line(event))
    }

    fn line(&mut self, item: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(item)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.context())?;
        self.lines += 1;
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| self.context())
    }

    fn context(&self) -> String {
        format!("write {} (after {} lines)", self.path.display(), self.lines)
    }
}

/// Waits for a signal, the end of `duration`, or until `is_finished`.
async fn until_stopped(
    mut signals: Signals,
    duration: Option<Duration>,
    is_finished: impl Fn() -> bool,
) {
    let timeout = tokio::time::sleep(duration.unwrap_or(Duration::MAX));
    tokio::pin!(timeout);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => return,
            _ = signals.terminate.recv() => return,
            () = &mut timeout => return,
            _ = ticks.tick() => if is_finished() { return },
        }
    }
}
