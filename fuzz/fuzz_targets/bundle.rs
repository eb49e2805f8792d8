//! Whatever the reader accepts can be looked at.
#![no_main]

use hone_runtime::Bundle;
use hone_runtime::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    hone_fuzz::mend_bundle(&mut bytes);
    let Ok(bundle) = Bundle::parse(&bytes) else { return };
    let labels = bundle.labels().map_or(0, |labels| labels.iter().map(str::len).sum());
    std::hint::black_box((labels, bundle.preprocess.to_bytes().is_ok(), bundle.input.elements()));
    if let Some(plan) = bundle.plan {
        std::hint::black_box(Plan::parse(plan).is_ok());
    }
    let Some(head) = bundle.head else { return };
    let mut scores = vec![0.0; head.classes()];
    for (class, row) in bundle.canaries.iter().flat_map(|canaries| canaries.iter()) {
        head.scores(row, &mut scores).expect("a row of the bundle's embedding");
        let predicted = head.predict(row).expect("a row of the bundle's embedding");
        std::hint::black_box((head.label(class), head.label(predicted.class)));
    }
});
