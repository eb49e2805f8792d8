//! Whatever the reader accepts runs to the end, and every tier gives the same bits (in half precision there is no one answer).
#![no_main]

use hone_runtime::engine::Engine;
use hone_runtime::kernels::{self, Tier, generic};
use hone_runtime::plan::Plan;
use libfuzzer_sys::fuzz_target;

/// Larger plans are valid but would keep the fuzzer waiting.
const WORK: u64 = 1 << 20;
const ARENA_BYTES: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    hone_fuzz::mend_plan(&mut bytes);
    let Ok(plan) = Plan::parse(&bytes) else { return };
    if plan.arena_bytes() > ARENA_BYTES || plan.ops().map(|op| op.work().saturating_add(op.reach())).sum::<u64>() > WORK {
        return;
    }
    let Some(wanted) = run(plan, &generic::TIER) else { return };
    let is_half = plan.ops().any(|op| op.code.is_f16());
    for name in kernels::available() {
        let tier = kernels::named(name).expect("an available tier");
        if let Some(got) = run(plan, tier) {
            assert!(is_half || got == wanted, "{name}");
        }
    }
    if let Some(got) = run(plan, &kernels::cortex_m::TIER) {
        assert!(is_half || got == wanted, "cortex_m");
    }
});

/// The output's bytes and floats; `None` where the tier lacks a kernel.
fn run(plan: Plan<'_>, tier: &'static Tier) -> Option<(Vec<u8>, Vec<u32>)> {
    let engine = Engine::new(plan, tier).ok()?;
    let mut packed = vec![0; engine.packed_bytes()];
    engine.pack(&mut packed).expect("exactly what it asked for");
    let (mut arena, mut workspace) = (vec![0x55; plan.arena_bytes()], vec![0x55; engine.workspace_bytes()]);
    let mut floats = vec![0.0; engine.float_outputs()];
    let input: Vec<f32> = (0..plan.input().elements()).map(|index| (index % 37) as f32 - 18.0).collect();
    engine.set_input(&input, &mut arena).expect("as many values as it takes");
    engine.run(&mut arena, &packed, &mut workspace, &mut floats).expect("exactly what it asked for");
    Some((engine.output(&arena).to_vec(), floats.iter().map(|x| x.to_bits()).collect()))
}
