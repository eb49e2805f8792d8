//! What the four models take with CMSIS-NN.

use hone_runtime::plan::{Code, Op};

/// One model.
#[derive(Debug)]
pub struct Peer {
    /// Its plan's file name.
    pub file: &'static str,
    /// For tables.
    pub name: &'static str,
    /// Instructions per inference on M3, M4F (the best of its builds), M7, M33.
    pub instructions: [u64; 4],
    /// Bytes of its arena.
    pub arena: usize,
}

/// CMSIS-NN 7.0 (July 2026) in QEMU 7.2 with `-icount shift=0`, on the same boards; best: `-O2` with its inline assembly.
pub const CMSIS_NN: [Peer; 4] = [
    Peer {
        file: "kws",
        name: "KWS DS-CNN",
        instructions: [10_545_147, 7_226_124, 7_761_053, 7_800_814],
        arena: 16_000,
    },
    Peer {
        file: "ic",
        name: "IC ResNet-8",
        instructions: [41_755_018, 28_502_188, 29_908_966, 29_907_994],
        arena: 49_728,
    },
    Peer {
        file: "vww",
        name: "VWW MobileNetV1 0.25",
        instructions: [32_075_567, 22_601_990, 24_474_119, 24_532_367],
        arena: 55_296,
    },
    Peer { file: "ad", name: "AD autoencoder", instructions: [952_472, 570_205, 579_524, 579_079], arena: 768 },
];

impl Peer {
    /// Instructions per multiply-accumulate (per value, where it says so) that the same layer takes on the M4F, where that is known; its
    /// best build, but for those marked with -O3.
    pub fn layer(&self, op: &Op<'_>) -> Option<&'static str> {
        let channels =
            (op.input().elements() / (op.input().height() * op.input().width()).max(1), op.output.channels());
        Some(match (self.file, op.code, op.window.kernel, channels) {
            (_, Code::Softmax | Code::SoftmaxFloat, ..) => "540 a value",
            ("kws", Code::Conv, [10, 4], _) => "3.32",
            ("kws", Code::Depthwise, ..) => "6.99",
            ("kws", Code::Conv, [1, 1], (64, 64)) => "2.00",
            ("ic", Code::Conv, [3, 3], (3, _)) => "4.50",
            ("ic", Code::Conv, [3, 3], (64, 64)) => "1.75",
            ("ic", Code::Add, ..) => "55 a value",
            ("vww", Code::Conv, [3, 3], (3, _)) => "5.84",
            ("vww", Code::Depthwise, ..) => "6.1–8.1",
            ("vww", Code::Conv, [1, 1], (8, 16)) => "5.91",
            ("vww", Code::Conv, [1, 1], (128, 128)) => "1.83 (-O3)",
            ("ad", Code::Dense | Code::DenseFloat, _, (640, 128)) => "1.95 (-O3)",
            ("ad", Code::Dense | Code::DenseFloat, _, (8, 128)) => "7.44",
            _ => return None,
        })
    }
}
