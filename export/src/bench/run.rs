//! Starts a process a line, and asks them in turn.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::agree::ORIGINAL;
use super::profile::OpTime;
use super::protocol::{BEAT, Embedded, Memory, Offline, Ready, Request, Round, Warm, decode};
use super::stats::{interval, median, percentile, spread, trend};
use crate::{Error, Result};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Effort {
    /// Timed runs of a line, over all its rounds; `None`: what fits into a tenth of `seconds`, within [`USUAL_RUNS`].
    pub runs: Option<usize>,
    /// Longest time that a line's runs take together, in seconds: fewer runs are made where they take longer.
    pub seconds: f64,
    /// Rounds of each process.
    pub rounds: usize,
    /// Threads and rows at a time for throughput; none: it is not measured.
    pub throughput: Vec<(usize, usize)>,
    /// Time of each of them, in milliseconds.
    pub throughput_ms: f64,
}

/// Processes of a line: what differs between them, although they run the same, is the noise of the machine.
pub const PROCESSES: usize = 2;
/// Fewest and most runs where their number is not given.
pub const USUAL_RUNS: [usize; 2] = [100, 20_000];
/// Longest warm-up, in milliseconds.
const WARM_MS: f64 = 2_000.0;

/// What one provider took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// As `--provider` names it.
    pub provider: String,
    /// Its kernels: the native engine's tier, or the provider again.
    pub kernel: String,
    /// `int8`, `fp16` or `fp32`.
    pub precision: String,
    /// Threads of the latency runs: 1.
    pub threads: usize,
    /// From the bytes in memory to a backbone that runs, in milliseconds: the smaller of the processes' figures.
    pub load_ms: f64,
    /// The first inference of a process, in microseconds: likewise.
    pub first_us: f64,
    /// Runs until they were steady.
    pub warm_up_runs: usize,
    /// Timed runs.
    pub runs: usize,
    /// Median time of one row, in microseconds.
    pub p50_us: f64,
    /// 90th percentile: MLPerf's figure for a single stream.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// 95 % confidence interval of the median of rounds.
    pub interval_us: Option<[f64; 2]>,
    /// A/A: by how much the medians of the line's processes differ, as a share.
    pub noise: Option<f64>,
    /// Medians of the rounds of each process.
    pub rounds_us: Vec<Vec<f64>>,
    /// Rows a second.
    pub throughput: Vec<Throughput>,
    /// Largest resident set of one process; none where the system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// Files of the shared libraries that the provider brought into the process.
    pub library_bytes: Option<u64>,
    /// Share of rows with the same best class as the reference.
    pub agreement: Option<f64>,
    /// Mean cosine of the embeddings with the reference's, where that has embeddings.
    pub cosine: Option<f64>,
    /// Why the times are not to be trusted; empty where they are.
    pub doubts: Vec<String>,
}

/// Rows a second at so many threads and rows at a time: MLPerf's offline scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Each with a backbone of its own.
    pub threads: usize,
    /// Rows at a time.
    pub batch: usize,
    /// Of all threads together.
    pub rows_per_s: f64,
}

/// A provider that did not run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// As `--provider` names it.
    pub provider: String,
    /// In words.
    pub why: String,
}

/// How a process of one provider is started, and how long it may be silent.
pub struct Launch {
    /// What is run.
    pub command: Command,
    /// It is given up when it has said nothing for so long: neither answered nor said that it goes on with its runs.
    pub patience: Duration,
}

/// A process that runs one provider; it ends when this is dropped.
pub struct Worker {
    child: Child,
    asks: Option<ChildStdin>,
    answers: Receiver<String>,
    patience: Duration,
    said: fs::File,
    /// Why it was ended, or ended by itself.
    gone: Option<String>,
}

/// Lines of a worker that wait to be read: far more than it says without being asked.
const WAITING_LINES: usize = 1024;

impl Worker {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Worker`]: it cannot be started, or says why its backbone does not run.
    pub fn start(launch: Launch) -> Result<(Self, Ready)> {
        let Launch { mut command, patience } = launch;
        let failed = |e: std::io::Error| Error::worker(format!("it could not be started: {e}"));
        let said = tempfile::tempfile().map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said.try_clone().map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let (Some(asks), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::worker("it has no pipes"));
        };
        let (sender, answers) = sync_channel(WAITING_LINES);
        // Reading a pipe has no time limit, waiting for another thread has.
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
                // Whatever foreign libraries print need not be text.
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let mut worker = Self { child, asks: Some(asks), answers, patience, said, gone: None };
        let ready = worker.answer()?;
        Ok((worker, ready))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Worker`]: what it says, or that it ended.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T> {
        if let Some(why) = &self.gone {
            return Err(Error::worker(why.clone()));
        }
        let line = serde_json::to_string(request).map_err(|e| Error::worker(e.to_string()))?;
        let sent = self.asks.as_mut().map(|asks| writeln!(asks, "{line}").and_then(|()| asks.flush()));
        match sent {
            Some(Ok(())) => self.answer(),
            _ => Err(self.ended()),
        }
    }

    /// Lets it embed the inputs of the file `rows` in `folder`, where the inputs lie that it was started with, and gives what it wrote: rows of the
    /// bundle's embedding, or scores.
    ///
    /// # Errors
    /// As [`Worker::ask`]; [`Error::Io`].
    pub fn embed(&mut self, folder: &Path, rows: &str) -> Result<Vec<u8>> {
        const OUT: &str = "embedded";
        self.ask::<Embedded>(&Request::Embed { inputs: rows.to_owned(), out: OUT.to_owned() })?;
        let out = folder.join(OUT);
        fs::read(&out).map_err(Error::io(&out))
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut heard = Instant::now();
        loop {
            // What foreign libraries print is no sign of life: they may do it for ever.
            let left = self.patience.saturating_sub(heard.elapsed());
            match self.answers.recv_timeout(left) {
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) => return Err(self.hangs()),
                Ok(line) if line == BEAT => heard = Instant::now(),
                Ok(line) => {
                    if let Some(answer) = decode(&line)? {
                        return Ok(answer);
                    }
                }
            }
        }
    }

    /// It has been silent for too long: ends it.
    fn hangs(&mut self) -> Error {
        self.asks = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.said();
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.map(|line| format!("; the last that it said: {line}")).unwrap_or_default();
        self.gone_because(format!(
            "nothing was heard of its process for {:.0} s, and it was ended (--patience allows more){last}",
            self.patience.as_secs_f64()
        ))
    }

    /// What it said last before it ended.
    fn ended(&mut self) -> Error {
        self.asks = None;
        let status = self.child.wait().map_or_else(|_| "in an unknown way".to_owned(), |status| status.to_string());
        let said = self.said();
        // Behind "panicked at FILE:LINE:" stands why, and after it only advice.
        let panicked = said.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        let why = format!("its process ended ({status}): {}", panicked.or(last).unwrap_or("it said nothing"));
        self.gone_because(why)
    }

    fn gone_because(&mut self, why: String) -> Error {
        self.gone = Some(why.clone());
        Error::worker(why)
    }

    /// All that it and its libraries wrote to standard error.
    pub fn said(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = self.said.seek(SeekFrom::Start(0)).and_then(|_| self.said.read_to_end(&mut bytes));
        if read.is_err() { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of its input ends it; a foreign library's threads may not.
        self.asks = None;
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A provider with its processes.
struct Station {
    provider: String,
    workers: Vec<(Worker, Ready)>,
    warm: Warm,
    /// Runs of each round of each process, in the order of rounds.
    plan: Vec<usize>,
    times: Vec<f64>,
    rounds: Vec<Vec<f64>>,
    waited: Vec<f64>,
    throughput: Vec<Throughput>,
    troubles: Vec<String>,
    /// One of its processes is gone: what was measured stays, nothing more is asked.
    given_up: bool,
}

impl Station {
    fn open(provider: &str, start: &dyn Fn() -> Launch, effort: &Effort) -> Result<Self> {
        let processes = PROCESSES.min(effort.runs.unwrap_or(PROCESSES));
        let mut workers = Vec::with_capacity(processes);
        for _ in 0..processes {
            workers.push(Worker::start(start())?);
        }
        let mut warm = Vec::new();
        for (worker, _) in &mut workers {
            warm.push(worker.ask::<Warm>(&Request::Warm { limit_ms: WARM_MS })?);
        }
        let warm = warm
            .into_iter()
            .reduce(|a, b| Warm { runs: a.runs.max(b.runs), settled: a.settled && b.settled, us: a.us.min(b.us) })
            .unwrap_or(Warm { runs: 0, settled: false, us: 0.0 });
        let affordable = (effort.seconds * 1e6 / warm.us.max(0.1)) as usize;
        let [fewest, most] = USUAL_RUNS;
        let wanted = effort.runs.unwrap_or((affordable / 10).clamp(fewest, most));
        let runs = wanted.min(affordable.max(processes));
        let rounds = effort.rounds.min(runs / processes).max(1);
        // The whole number, spread over the rounds.
        let plan = (0..rounds * processes).map(|slot| (runs + slot) / (rounds * processes)).rev().collect();
        let rounds = vec![Vec::new(); processes];
        let (provider, times, waited) = (provider.to_owned(), Vec::new(), Vec::new());
        Ok(Self {
            provider,
            workers,
            warm,
            plan,
            times,
            rounds,
            waited,
            throughput: Vec::new(),
            troubles: Vec::new(),
            given_up: false,
        })
    }

    /// Round `number`, on each process; nothing beyond the last.
    fn round(&mut self, number: usize) -> Result<()> {
        let processes = self.workers.len();
        for (process, (worker, _)) in self.workers.iter_mut().enumerate() {
            let Some(&runs) = self.plan.get(number * processes + process) else { return Ok(()) };
            let round: Round = worker.ask(&Request::Round { runs })?;
            self.rounds[process].push(median(&round.times_us));
            self.waited.extend(round.waited);
            self.times.extend(round.times_us);
        }
        Ok(())
    }

    fn offline(&mut self, threads: usize, batch: usize, ms: f64) -> Result<()> {
        if let Some((worker, _)) = self.workers.first_mut() {
            // What was measured before stays, whatever becomes of this.
            match worker.ask(&Request::Offline { threads, batch, ms }) {
                Ok(Offline { rows_per_s }) => self.throughput.push(Throughput { threads, batch, rows_per_s }),
                Err(error) if worker.gone.is_some() => return Err(error),
                Err(error) => {
                    self.troubles.push(format!("no throughput of {threads} threads and {batch} rows: {error}"))
                }
            }
        }
        Ok(())
    }

    /// Of the processes that are still there: what was measured before one ended stays.
    fn memory(&mut self) -> Memory {
        let mut most = Memory { peak_rss_bytes: None, library_bytes: None };
        for (worker, _) in self.workers.iter_mut().filter(|(worker, _)| worker.gone.is_none()) {
            match worker.ask::<Memory>(&Request::Memory) {
                Ok(memory) => {
                    most.peak_rss_bytes = most.peak_rss_bytes.max(memory.peak_rss_bytes);
                    most.library_bytes = most.library_bytes.max(memory.library_bytes);
                }
                Err(error) => self.troubles.push(format!("its memory is not known: {error}")),
            }
        }
        most
    }

    fn line(self, memory: Memory) -> Line {
        let doubts = self.doubts();
        let smallest = |of: fn(&Ready) -> f64| self.workers.iter().map(|(_, ready)| of(ready)).fold(f64::MAX, f64::min);
        let (load_ms, first_us) = (smallest(|ready| ready.load_ms), smallest(|ready| ready.first_us));
        let (kernel, precision) = self
            .workers
            .first()
            .map_or_else(Default::default, |(_, ready)| (ready.kernel.clone(), ready.precision.clone()));
        let all: Vec<f64> = self.rounds.concat();
        Line {
            provider: self.provider,
            kernel,
            precision,
            threads: 1,
            load_ms,
            first_us,
            warm_up_runs: self.warm.runs,
            runs: self.times.len(),
            p50_us: percentile(&self.times, 50),
            p90_us: percentile(&self.times, 90),
            p99_us: percentile(&self.times, 99),
            max_us: percentile(&self.times, 100),
            interval_us: interval(&all),
            noise: noise(&self.rounds),
            rounds_us: self.rounds,
            throughput: self.throughput,
            peak_rss_bytes: memory.peak_rss_bytes,
            library_bytes: memory.library_bytes,
            agreement: None,
            cosine: None,
            doubts,
        }
    }

    /// What speaks against the times.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = self.troubles.clone();
        let rounds = self.rounds.iter().map(Vec::len).min().unwrap_or(0);
        if rounds < FEWEST_ROUNDS {
            doubts.push(format!(
                "{rounds} rounds are too few to tell; at least {FEWEST_ROUNDS} are needed (--runs, --seconds)"
            ));
            return doubts;
        }
        if !self.warm.settled {
            doubts.push(format!("still getting faster after {} runs of warm-up", self.warm.runs));
        }
        let all = self.rounds.concat();
        let spread = spread(&all);
        if spread > LIMIT {
            doubts.push(format!("rounds differ by {:.0} % (quartiles)", spread * 100.0));
        }
        let trend =
            self.rounds.iter().map(|rounds| trend(rounds)).fold(0.0, |a: f64, b| if a.abs() > b.abs() { a } else { b });
        if trend.abs() > LIMIT {
            let way = if trend > 0.0 { "slower" } else { "faster" };
            doubts.push(format!("{way} by {:.0} % from the first round to the last", trend.abs() * 100.0));
        }
        if let Some(noise) = noise(&self.rounds).filter(|&noise| noise > LIMIT) {
            doubts.push(format!("two processes of the same differ by {:.0} %", noise * 100.0));
        }
        let waited = if self.waited.is_empty() { 0.0 } else { median(&self.waited) };
        if waited > LIMIT {
            doubts
                .push(format!("waited for a processor for {:.0} % of the time: other work is running", waited * 100.0));
        }
        doubts
    }
}

/// Rounds without which spread and trend say nothing.
const FEWEST_ROUNDS: usize = 5;
/// Spread, trend, difference of processes and waiting beyond this share are doubts.
const LIMIT: f64 = 0.05;

/// By how much the medians of processes that run the same differ, as a share.
fn noise(rounds: &[Vec<f64>]) -> Option<f64> {
    let medians: Vec<f64> = rounds.iter().map(|rounds| median(rounds)).collect();
    let (low, high) = (percentile(&medians, 1), percentile(&medians, 100));
    (medians.len() > 1 && low > 0.0).then(|| high / low - 1.0)
}

/// What is to be run: its name, and the process that runs it.
pub struct Entry<'a> {
    /// As `--provider` names it.
    pub provider: String,
    /// A new process of it.
    pub start: Box<dyn Fn() -> Launch + 'a>,
}

/// All lines, round by round: what the machine does meanwhile meets all alike. Providers that fail are told apart, not an error.
pub struct Running {
    stations: Vec<Station>,
    failures: Vec<Failure>,
}

impl Running {
    /// Starts every entry's processes and lets them become steady.
    #[must_use]
    pub fn start(entries: &[Entry<'_>], effort: &Effort, progress: &mut crate::apply::Progress<'_>) -> Self {
        let mut running = Self { stations: Vec::new(), failures: Vec::new() };
        for (at, entry) in entries.iter().enumerate() {
            match Station::open(&entry.provider, entry.start.as_ref(), effort) {
                Ok(station) => running.stations.push(station),
                Err(error) => running.fail(&entry.provider, &error),
            }
            progress(at + 1, entries.len());
        }
        running
    }

    fn fail(&mut self, provider: &str, error: &Error) {
        self.failures.push(Failure { provider: provider.to_owned(), why: error.to_string() });
    }

    /// Does something with each provider. One that fails is told of; it is out where nothing of it was measured, and asked nothing more otherwise.
    fn each(&mut self, first: usize, mut work: impl FnMut(&mut Station) -> Result<()>) {
        let count = self.stations.len();
        let mut failed = Vec::new();
        for at in 0..count {
            let at = (first + at) % count;
            let station = &mut self.stations[at];
            if station.given_up {
                continue;
            }
            if let Err(error) = work(station) {
                station.given_up = true;
                station.troubles.push(error.to_string());
                failed.push((station.provider.clone(), error));
            }
        }
        for (provider, error) in failed {
            self.fail(&provider, &error);
        }
        self.stations.retain(|station| !station.given_up || !station.times.is_empty());
    }

    /// All rounds of the latency runs, then throughput.
    pub fn measure(&mut self, effort: &Effort, progress: &mut crate::apply::Progress<'_>) {
        let steps = effort.rounds + effort.throughput.len();
        for number in 0..effort.rounds {
            // Nobody always comes after the same one.
            self.each(number, |station| station.round(number));
            progress(number + 1, steps);
        }
        for (at, &(threads, batch)) in effort.throughput.iter().enumerate() {
            self.each(at, |station| station.offline(threads, batch, effort.throughput_ms));
            progress(effort.rounds + at + 1, steps);
        }
    }

    /// Asks every provider's first process for the times of its operators; providers without a profile are told apart.
    #[must_use]
    pub fn profiles(&mut self, runs: usize) -> (Vec<(String, Vec<OpTime>)>, Vec<Failure>) {
        let (mut profiles, mut without) = (Vec::new(), Vec::new());
        // The original is there to be compared with; operators are the bundle's.
        let of_bundle = |station: &&mut Station| !station.provider.starts_with(ORIGINAL) && !station.given_up;
        for station in self.stations.iter_mut().filter(of_bundle) {
            let Some((worker, _)) = station.workers.first_mut() else { continue };
            // As many runs as take a tenth of a second.
            let runs = runs.min((1e5 / station.warm.us.max(1.0)) as usize).max(3);
            match worker.ask(&Request::Profile { runs }) {
                Ok(ops) => profiles.push((station.provider.clone(), ops)),
                Err(error) => without.push(Failure { provider: station.provider.clone(), why: error.to_string() }),
            }
        }
        (profiles, without)
    }

    /// Names of the providers that run.
    #[must_use]
    pub fn providers(&self) -> Vec<&str> {
        self.stations.iter().filter(|station| !station.given_up).map(|station| station.provider.as_str()).collect()
    }

    /// Lets every provider embed the same inputs; gives for each the bytes that it wrote. `folder` is that of the inputs that the processes were
    /// started with.
    ///
    /// # Errors
    /// [`Error::Io`]. Providers that fail are out.
    pub fn embed(&mut self, inputs: &[Vec<f32>], folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
        write_inputs(&folder.join(ROWS), inputs)?;
        let mut all = Vec::new();
        self.each(0, |station| {
            let Some((worker, _)) = station.workers.first_mut() else { return Ok(()) };
            all.push((station.provider.clone(), worker.embed(folder, ROWS)?));
            Ok(())
        });
        Ok(all)
    }

    /// What was measured, and what failed. The processes end.
    #[must_use]
    pub fn end(mut self) -> (Vec<Line>, Vec<Failure>) {
        let memories: Vec<Memory> = self.stations.iter_mut().map(Station::memory).collect();
        let lines = self.stations.into_iter().zip(memories).map(|(station, memory)| station.line(memory)).collect();
        (lines, self.failures)
    }
}

/// Name of the file of inputs that workers embed.
pub(super) const ROWS: &str = "rows";

/// Inputs as a worker reads them.
///
/// # Errors
/// [`Error::Io`].
pub fn write_inputs(path: &Path, inputs: &[Vec<f32>]) -> Result<()> {
    let bytes: Vec<u8> = inputs.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(path, bytes).map_err(Error::io(path))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::bench::protocol::encode;

    /// A process that a shell runs in place of a worker.
    fn launch(script: &str, patience_ms: u64) -> Launch {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Launch { command, patience: Duration::from_millis(patience_ms) }
    }

    fn ready() -> String {
        let (provider, kernel, precision) = ("x".to_owned(), "x".to_owned(), "int8".to_owned());
        encode(&Ok(Ready { provider, kernel, precision, load_ms: 1.0, first_us: 2.0 })).unwrap()
    }

    #[test]
    fn a_silent_process_is_given_up_and_named() {
        let start = Instant::now();
        let script = "echo loading >&2; while :; do echo noise; sleep 0.05; done";
        let error = Worker::start(launch(script, 300)).err().unwrap().to_string();
        assert!(error.contains("nothing was heard") && error.contains("--patience"), "{error}");
        assert!(error.contains("the last that it said: loading"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn one_that_goes_on_is_waited_for() {
        let script =
            format!("for i in 1 2 3 4 5 6; do echo {BEAT}; sleep 0.3; done; echo '{}'; cat >/dev/null", ready());
        let (_, ready) = Worker::start(launch(&script, 1_000)).unwrap();
        assert_eq!(ready.first_us, 2.0);
    }

    /// A provider whose processes answer all but what `silent` is in.
    fn measured(silent: &'static str) -> (Vec<Line>, Vec<Failure>) {
        let answers = [
            ("warm", encode(&Ok(Warm { runs: 5, settled: true, us: 100.0 })).unwrap()),
            ("round", encode(&Ok(Round { times_us: vec![100.0], waited: None })).unwrap()),
            ("offline", encode(&Ok(Offline { rows_per_s: 7.0 })).unwrap()),
            ("memory", encode(&Ok(Memory { peak_rss_bytes: Some(1), library_bytes: None })).unwrap()),
        ];
        let cases = answers.iter().filter(|(name, _)| *name != silent);
        let cases: String = cases.map(|(name, answer)| format!("*'\"{name}\"'*) echo '{answer}';; ")).collect();
        let script =
            format!("echo '{}'; while read line; do case $line in {cases}*) exec sleep 60;; esac; done", ready());
        let start = Box::new(move || launch(&script, 1_000));
        let effort = Effort { runs: Some(20), seconds: 1.0, rounds: 10, throughput: vec![(1, 1)], throughput_ms: 50.0 };
        let mut running = Running::start(&[Entry { provider: "x".into(), start }], &effort, &mut |_, _| ());
        running.measure(&effort, &mut |_, _| ());
        running.end()
    }

    #[test]
    fn what_was_measured_before_a_provider_hangs_stays() {
        let (lines, failures) = measured("nothing");
        assert_eq!((lines.len(), failures.len(), lines[0].runs), (1, 0, 20));
        assert_eq!((lines[0].throughput.len(), lines[0].peak_rss_bytes), (1, Some(1)));
        let (lines, failures) = measured("offline");
        assert_eq!((lines.len(), lines[0].runs, lines[0].throughput.len()), (1, 20, 0));
        assert!(failures[0].why.contains("nothing was heard"), "{failures:?}");
        assert!(lines[0].doubts.iter().any(|doubt| doubt.contains("nothing was heard")), "{:?}", lines[0].doubts);
        let (lines, failures) = measured("round");
        assert_eq!((lines.len(), failures.len()), (0, 1), "nothing was measured");
    }

    #[test]
    fn one_that_stops_answering_is_asked_no_more() {
        let script = format!("echo '{}'; read line; exec sleep 60", ready());
        let (mut worker, _) = Worker::start(launch(&script, 300)).unwrap();
        assert!(worker.ask::<Round>(&Request::Round { runs: 1 }).is_err());
        let again = worker.ask::<Memory>(&Request::Memory).unwrap_err().to_string();
        assert!(again.contains("ended"), "{again}");
    }
}
