//! The process that runs one provider for a bench: answers on standard output what it is asked on standard input.

use std::cell::Cell;
use std::fs;
use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hone_runtime::Backbone;
#[cfg(feature = "ort")]
use hone_runtime::backbone::ort::{AssignedNode, ExecutionProvider, OrtBackbone, Partition};
use hone_runtime::backbone::provider::{Provider, Settings};
use hone_runtime::{Bundle, HeadView};

use super::machine::{libraries, waited_ns};
#[cfg(feature = "onnx")]
use super::original::FloatModel;
use super::preflight::Part;
#[cfg(feature = "ort")]
use super::preflight::PartNode;
use super::profile::OpTime;
use super::protocol::{BEAT, Embedded, Memory, Offline, Ready, Request, Round, Warm, encode};
use super::stats::median;
use crate::apply::BundleFile;
use crate::apply::latency::peak_rss_bytes;
use crate::{Error, Result};

/// Blocks of runs of an operator, of whose times the median counts.
const PROFILE_BLOCKS: usize = 9;

/// What threads that are warm are told: nothing yet, to begin, to end.
const WAIT: u8 = 0;
const GO: u8 = 1;
const STOP: u8 = 2;

/// What a worker runs.
#[derive(Debug, Clone, Copy)]
pub enum Model<'a> {
    /// The bundle, with its head.
    Bundle,
    /// The model that the bundle was made from.
    Original(&'a Path),
}

/// Loads the backbone, says that it is [`Ready`], and answers one [`Request`] of `asked` a line until that ends. What fails is answered too: a
/// worker ends with an error only where it cannot speak.
///
/// # Errors
/// Reading fails, or what is read is no request.
pub fn serve(
    file: &BundleFile,
    provider: &str,
    model: Model<'_>,
    settings: &Settings,
    inputs: &Path,
    asked: impl BufRead,
    answer: impl Fn(&str),
) -> Result<()> {
    let say = |line: Result<String>| -> Result<()> {
        answer(&line?);
        Ok(())
    };
    let mapped = libraries();
    let beat = Beat { last: Cell::new(Instant::now()), say: &answer };
    let mut worker = match Worker::load(file, provider, model, settings, inputs, beat) {
        Ok((worker, ready)) => {
            say(encode(&Ok(ready)))?;
            worker
        }
        Err(error) => return say(encode::<Ready>(&Err(error))),
    };
    for line in asked.lines() {
        let line = line.map_err(|e| Error::worker(e.to_string()))?;
        let request = serde_json::from_str(&line).map_err(|e| Error::worker(format!("not a request: {e}")))?;
        say(match request {
            Request::Warm { limit_ms } => encode(&worker.warm(limit_ms)),
            Request::Round { runs } => encode(&worker.round(runs)),
            Request::Offline { threads, batch, ms } => encode(&worker.offline(threads, batch, ms)),
            Request::Embed { inputs: rows, out } => {
                encode(&worker.embed(&inputs.with_file_name(rows), &inputs.with_file_name(out)))
            }
            Request::Memory => encode(&Ok(memory(mapped.as_deref()))),
            Request::Parts => encode(&worker.parts(provider, settings)),
            Request::Profile { runs } => encode(&worker.profile(provider, settings, runs)),
        })?;
    }
    Ok(())
}

/// Says now and then that runs are being made: what is silent for long hangs.
struct Beat<'a> {
    last: Cell<Instant>,
    say: &'a dyn Fn(&str),
}

impl Beat<'_> {
    const EVERY: Duration = Duration::from_secs(1);

    /// To be called between runs.
    fn go_on(&self) {
        let now = Instant::now();
        if now.duration_since(self.last.get()) >= Self::EVERY {
            self.last.set(now);
            (self.say)(BEAT);
        }
    }
}

/// Values of inputs from a file.
fn read_f32(path: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    Ok(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect())
}

fn memory(before: Option<&[String]>) -> Memory {
    let brought = before.zip(libraries()).map(|(before, now)| {
        let new = now.iter().filter(|path| !before.contains(path));
        new.filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum()
    });
    Memory { peak_rss_bytes: peak_rss_bytes(), library_bytes: brought }
}

enum Subject<'b> {
    Bundle {
        bundle: Box<Bundle<'b>>,
        backbone: Provider<'b>,
        row: Vec<u8>,
    },
    #[cfg(feature = "onnx")]
    Original(FloatModel),
}

impl Subject<'_> {
    /// One inference: the embedding, and the head's scores where there is a head.
    fn run(&mut self, input: &[f32]) -> Result<()> {
        match self {
            Self::Bundle { bundle, backbone, row } => infer(backbone, bundle.head, input, row),
            #[cfg(feature = "onnx")]
            Self::Original(model) => model.scores(input).map(|scores| drop(std::hint::black_box(scores))),
        }
    }
}

/// Embeds inputs that lie one after the other and classifies each.
fn infer(backbone: &mut impl Backbone, head: Option<HeadView<'_>>, inputs: &[f32], rows: &mut [u8]) -> Result<()> {
    backbone.embed_batch(inputs, rows)?;
    if let Some(head) = head {
        for row in rows.chunks_exact(backbone.embedding().row_bytes()) {
            std::hint::black_box(head.predict(row)?);
        }
    }
    Ok(())
}

struct Worker<'b> {
    subject: Subject<'b>,
    /// One after the other.
    inputs: Vec<f32>,
    elements: usize,
    /// Place of the next input.
    next: usize,
    beat: Beat<'b>,
}

impl<'b> Worker<'b> {
    fn load(
        file: &'b BundleFile,
        provider: &str,
        model: Model<'_>,
        settings: &Settings,
        inputs: &Path,
        beat: Beat<'b>,
    ) -> Result<(Self, Ready)> {
        let start = Instant::now();
        let bundle = Bundle::parse(&file.bytes).map_err(Error::place(file.path.display()))?;
        let parsed = start.elapsed();
        let (subject, kernel, precision, load_ms) = match model {
            Model::Bundle => {
                // As elsewhere, what an untrusted file is checked for does not count.
                crate::apply::check_backbone(&bundle, &file.path)?;
                let start = Instant::now();
                let backbone =
                    Provider::load(&bundle, provider, settings).map_err(Error::place(file.path.display()))?;
                let load_ms = (parsed + start.elapsed()).as_secs_f64() * 1e3;
                let kernel = backbone.kernel().to_owned();
                let row = vec![0; bundle.embedding.row_bytes()];
                let subject = Subject::Bundle { bundle: Box::new(bundle.clone()), backbone, row };
                (subject, kernel, bundle.precision.name(), load_ms)
            }
            #[cfg(feature = "onnx")]
            Model::Original(path) => {
                let applied = crate::apply::Applied::open_on(file, &[], settings.clone())?;
                let (model, load_ms) = FloatModel::load(path, provider, settings, &applied)?;
                (Subject::Original(model), provider.to_owned(), "fp32", load_ms)
            }
            #[cfg(not(feature = "onnx"))]
            Model::Original(_) => return Err(Error::worker("this build reads no ONNX")),
        };
        let elements = bundle.input.elements();
        let inputs = read_f32(inputs)?;
        if inputs.is_empty() || !inputs.len().is_multiple_of(elements) {
            return Err(Error::worker("the inputs to run on are not whole"));
        }
        let mut worker = Self { subject, inputs, elements, next: 0, beat };
        let first_us = worker.timed()?;
        let ready = Ready { provider: provider.to_owned(), kernel, precision: precision.to_owned(), load_ms, first_us };
        Ok((worker, ready))
    }

    /// Microseconds of one inference on the next input.
    fn timed(&mut self) -> Result<f64> {
        let at = self.next * self.elements;
        self.next = (self.next + 1) % (self.inputs.len() / self.elements);
        let start = Instant::now();
        self.subject.run(&self.inputs[at..][..self.elements])?;
        let took = start.elapsed();
        self.beat.go_on();
        Ok(took.as_secs_f64() * 1e6)
    }

    /// Windows of runs until the median of the last two is not below the best one's by more than 3 %.
    fn warm(&mut self, limit_ms: f64) -> Result<Warm> {
        const WINDOW_US: f64 = 5_000.0;
        let once = self.timed()?.max(0.1);
        let window = ((WINDOW_US / once).ceil() as usize).clamp(1, 5_000);
        let start = Instant::now();
        let (mut best, mut steady, mut runs) = (once, 0, 1);
        let mut last = once;
        while steady < 2 && start.elapsed().as_secs_f64() * 1e3 < limit_ms {
            let times: Vec<f64> = (0..window).map(|_| self.timed()).collect::<Result<_>>()?;
            runs += window;
            last = median(&times);
            steady = if last >= best * 0.97 { steady + 1 } else { 0 };
            best = best.min(last);
        }
        Ok(Warm { runs, settled: steady >= 2, us: last })
    }

    fn round(&mut self, runs: usize) -> Result<Round> {
        let (waited, start) = (waited_ns(), Instant::now());
        let times_us = (0..runs.max(1)).map(|_| self.timed()).collect::<Result<_>>()?;
        let wall = start.elapsed().as_nanos() as f64;
        let waited = waited.zip(waited_ns()).map(|(before, now)| now.saturating_sub(before) as f64 / wall.max(1.0));
        Ok(Round { times_us, waited })
    }

    fn offline(&self, threads: usize, batch: usize, ms: f64) -> Result<Offline> {
        let (threads, batch, elements) = (threads.max(1), batch.max(1), self.elements);
        let inputs: Vec<f32> = self.inputs.iter().copied().cycle().take(batch * elements).collect();
        let length = Duration::from_secs_f64(ms / 1e3);
        let (ready, signal, made) = (AtomicUsize::new(0), AtomicU8::new(WAIT), AtomicUsize::new(0));
        // Everybody begins together and stops at the first run that ends beyond the time.
        let timed = |mut run: Box<dyn FnMut() -> Result<()> + '_>| -> Result<f64> {
            run()?;
            made.fetch_add(1, Ordering::Relaxed);
            ready.fetch_add(1, Ordering::SeqCst);
            while signal.load(Ordering::SeqCst) == WAIT {
                std::thread::yield_now();
            }
            if signal.load(Ordering::SeqCst) == STOP {
                return Err(Error::worker("another thread failed"));
            }
            let (start, mut rows) = (Instant::now(), 0);
            while start.elapsed() < length {
                run()?;
                made.fetch_add(1, Ordering::Relaxed);
                rows += batch;
            }
            Ok(rows as f64 / start.elapsed().as_secs_f64())
        };
        let each = std::thread::scope(|scope| {
            let (inputs, timed) = (&inputs, &timed);
            let mut started = Vec::with_capacity(threads);
            let mut refused = None;
            for _ in 0..threads {
                let builder = std::thread::Builder::new();
                let spawned = match &self.subject {
                    Subject::Bundle { bundle, backbone, row } => {
                        let (mut backbone, head) = (backbone.clone(), bundle.head);
                        let mut rows = vec![0; row.len() * batch];
                        let work = move || timed(Box::new(move || infer(&mut backbone, head, inputs, &mut rows)));
                        builder.spawn_scoped(scope, work)
                    }
                    #[cfg(feature = "onnx")]
                    Subject::Original(model) => match model.another() {
                        Ok(mut model) => builder.spawn_scoped(scope, move || {
                            timed(Box::new(move || {
                                let mut rows = inputs.chunks_exact(elements);
                                rows.try_for_each(|input| {
                                    model.scores(input).map(|scores| drop(std::hint::black_box(scores)))
                                })
                            }))
                        }),
                        Err(error) => {
                            refused = Some(error);
                            break;
                        }
                    },
                };
                match spawned {
                    Ok(handle) => started.push(handle),
                    Err(error) => {
                        refused = Some(Error::worker(format!("{threads} threads cannot be had: {error}")));
                        break;
                    }
                }
            }
            let mut known = 0;
            let mut beat = || {
                let now = made.load(Ordering::Relaxed);
                if now != known {
                    known = now;
                    self.beat.go_on();
                }
            };
            // Until all are warm, or one has ended before it was.
            while refused.is_none()
                && ready.load(Ordering::SeqCst) < threads
                && !started.iter().any(|t| t.is_finished())
            {
                std::thread::sleep(Duration::from_micros(100));
                beat();
            }
            let all = refused.is_none() && ready.load(Ordering::SeqCst) == threads;
            signal.store(if all { GO } else { STOP }, Ordering::SeqCst);
            // Seldom, so that the looking costs nothing.
            while !started.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                std::thread::sleep(Duration::from_millis(20).min(length));
                beat();
            }
            let ended: Vec<Result<f64>> = started.into_iter().map(join).collect();
            match refused {
                Some(error) => Err(error),
                None => ended.into_iter().collect::<Result<Vec<f64>>>(),
            }
        })?;
        Ok(Offline { rows_per_s: each.iter().sum() })
    }

    /// Microseconds of every operator.
    fn profile(&mut self, provider: &str, settings: &Settings, runs: usize) -> Result<Vec<OpTime>> {
        let no_profile = || Error::worker(format!("{provider} has no profile of its operators"));
        let runs = runs.max(1);
        match &mut self.subject {
            Subject::Bundle { backbone: Provider::Native(native), .. } => {
                let prepared = native.prepared();
                prepared.set_input(&self.inputs[..self.elements])?;
                prepared.run();
                let ops: Vec<OpTime> = prepared
                    .engine()
                    .plan()
                    .ops()
                    .map(|op| OpTime {
                        name: String::new(),
                        op: op.code.name().to_owned(),
                        shape: Some(op.output.shape.map(usize::from).to_vec()),
                        macs: Some(op.macs()),
                        us: 0.0,
                    })
                    .collect();
                let timed = ops.into_iter().enumerate().map(|(index, op)| {
                    // Blocks, so that the clock costs little; the median, so that an interruption does not count.
                    let block = runs.div_ceil(PROFILE_BLOCKS);
                    let times = [(); PROFILE_BLOCKS].map(|()| {
                        let start = Instant::now();
                        (0..block).for_each(|_| prepared.run_op(index));
                        start.elapsed().as_secs_f64() * 1e6 / block as f64
                    });
                    OpTime { us: median(&times), ..op }
                });
                Ok(timed.collect())
            }
            #[cfg(feature = "ort")]
            Subject::Bundle { bundle, backbone: Provider::Ort(_), .. } => {
                let ep = ExecutionProvider::named(provider).ok_or_else(no_profile)?;
                let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
                let inputs = [self.inputs[..self.elements].to_vec()];
                let path = folder.path().join("profile");
                let file = OrtBackbone::profile(bundle, ep, &settings.ort, &inputs, runs, &path)?;
                let text = fs::read_to_string(&file).map_err(Error::io(&file))?;
                super::profile::parse_trace(&text)
            }
            #[cfg(feature = "onnx")]
            Subject::Original(_) => Err(Error::worker("operators are timed of the bundle, not of the original")),
            Subject::Bundle { .. } => {
                let _ = settings;
                Err(no_profile())
            }
        }
    }

    /// To whom ONNX Runtime gives which nodes.
    fn parts(&self, provider: &str, settings: &Settings) -> Result<Vec<Part>> {
        #[cfg(feature = "ort")]
        if let (Subject::Bundle { bundle, .. }, Some(ep)) = (&self.subject, ExecutionProvider::named(provider)) {
            let node = |node: AssignedNode| PartNode { name: node.name, op: node.op };
            let parts = OrtBackbone::partitions(bundle, ep, &settings.ort)?;
            let part =
                |part: Partition| Part { provider: part.provider, nodes: part.nodes.into_iter().map(node).collect() };
            return Ok(parts.into_iter().map(part).collect());
        }
        let _ = settings;
        Err(Error::worker(format!("{provider} is not one of ONNX Runtime's")))
    }

    fn embed(&mut self, inputs: &Path, out: &Path) -> Result<Embedded> {
        let values = read_f32(inputs)?;
        let mut bytes = Vec::new();
        for input in values.chunks_exact(self.elements) {
            self.beat.go_on();
            match &mut self.subject {
                Subject::Bundle { backbone, row, .. } => {
                    backbone.embed(input, row)?;
                    bytes.extend_from_slice(row);
                }
                #[cfg(feature = "onnx")]
                Subject::Original(model) => {
                    bytes.extend(model.scores(input)?.iter().flat_map(|score| score.to_le_bytes()));
                }
            }
        }
        fs::write(out, bytes).map_err(Error::io(out))?;
        Ok(Embedded { rows: values.len() / self.elements })
    }
}

fn join<T>(handle: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|_| Err(Error::worker("a thread ended early")))
}
