//! After load the engine allocates nothing: not where the caller owns all memory, and not where [`Prepared`] owns it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hone_runtime::engine::{Engine, Prepared};
use hone_runtime::kernels::suite::{half_model, model};
use hone_runtime::kernels::{self, Tier, generic};
use hone_runtime::plan::Plan;

/// The system's allocator, counted thread by thread.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "an allocator has no safe interface")]
// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls of the allocator while `f` runs.
fn calls(f: impl FnOnce()) -> usize {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

#[test]
fn nothing_is_allocated_after_load() {
    assert!(calls(|| drop(std::hint::black_box(vec![0u8; 64]))) >= 2, "the allocator counts");
    for tier in [&generic::TIER, kernels::best().unwrap(), &kernels::cortex_m::TIER] {
        let mut ran = 0;
        for parts in (0..60).map(model).chain((0..60).map(half_model)) {
            let bytes = parts.to_bytes().unwrap();
            let plan = Plan::parse(&bytes).unwrap();
            if plan.ops().all(|op| tier.kernel(op.code).is_some()) {
                owned(plan, tier);
                borrowed(&bytes, tier);
                ran += 1;
            }
        }
        assert!(ran > 100, "{} ran {ran} models", tier.name);
    }
}

/// Memory of [`Prepared`].
fn owned(plan: Plan<'_>, tier: &'static Tier) {
    let mut prepared = Prepared::new(plan, tier).unwrap();
    let values = vec![0.5; plan.input().elements()];
    let steps = vec![3; plan.input().bytes()];
    let count = calls(|| {
        prepared.set_input(&values).unwrap();
        prepared.run();
        prepared.set_input_bytes(&steps).unwrap();
        prepared.run();
        std::hint::black_box((prepared.output(), prepared.float_output()));
    });
    assert_eq!(count, 0, "{}", tier.name);
}

/// The caller's memory; here even reading the plan allocates nothing.
fn borrowed(bytes: &[u8], tier: &'static Tier) {
    let engine = Engine::new(Plan::parse(bytes).unwrap(), tier).unwrap();
    let (mut packed, mut workspace) = (vec![0; engine.packed_bytes()], vec![0; engine.workspace_bytes()]);
    let (mut arena, mut floats) = (vec![0; engine.plan().arena_bytes()], vec![0.0; engine.float_outputs()]);
    let values = vec![0.5; engine.plan().input().elements()];
    let count = calls(|| {
        let engine = Engine::new(Plan::parse(bytes).unwrap(), tier).unwrap();
        engine.pack(&mut packed).unwrap();
        engine.set_input(&values, &mut arena).unwrap();
        engine.run(&mut arena, &packed, &mut workspace, &mut floats).unwrap();
        std::hint::black_box(engine.output(&arena));
    });
    assert_eq!(count, 0, "{}", tier.name);
}
