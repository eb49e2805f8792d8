//! Exports a model without the command line: `export MODEL.onnx CALIBRATION OUT [PREPROCESSING [CUT]]`.

use hone_export::data::Options;
use hone_export::data::preprocess::take_vocabulary;
use hone_export::graph::cost::Limit;
use hone_export::pipeline::{self, Precision, Preset, Request};

fn main() -> Result<(), hone_export::Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str);
    let (Some(model), Some(calibration), Some(out)) = (arg(0), arg(1), arg(2)) else {
        eprintln!("usage: export MODEL.onnx CALIBRATION OUT [PREPROCESSING [CUT]]");
        std::process::exit(2);
    };
    let (prep, vocabulary) = take_vocabulary(arg(3).unwrap_or("none"))?;
    let outcome = pipeline::run(
        &Request {
            model: model.into(),
            calibration: calibration.into(),
            data: Options::default(),
            preprocess: prep.parse()?,
            vocabulary,
            out: out.into(),
            name: None,
            cut: arg(4).map(str::to_owned),
            preset: Preset::Generic,
            precision: Precision::Int8,
            fixed_batch: false,
            quantize: Default::default(),
            calibration_rows: 100,
            least_agreement: 0.5,
            model_classes: None,
            limit: Limit::default(),
            force: true,
        },
        &mut |_, _, _| {},
    )?;
    for layer in &outcome.layers {
        println!("{:40} {:20} {:6.1} dB", layer.name, layer.op, layer.sqnr_db);
    }
    println!("{}: {:?}, {:.1} s", outcome.bundle().display(), outcome.agreement, outcome.seconds);
    Ok(())
}
