//! No plan, whatever its bytes, panics, reads or writes outside its buffers, or runs longer than its stated work: it is refused, or it
//! runs to the end, and every tier gives the same bits where they are int8.
//!
//! Plans of single operators and of small models are changed field by field, byte by byte, cut, and put together from parts of others;
//! the lengths and the checksum are mended afterwards, so that what is behind them is hit.

use hone_runtime::Error;
use hone_runtime::engine::Engine;
use hone_runtime::kernels::suite::{Fence, Group, Rng, Side, case, half_model, model};
use hone_runtime::kernels::{self, Tier, generic};
use hone_runtime::plan::Plan;
use hone_runtime::plan::format::{CRC_START, HEADER_BYTES, OP_BYTES, TENSOR_BYTES};

/// Mutated plans of one run of this test.
const PLANS: u64 = 120_000;
/// Plans that are accepted run where they are at most so much work (as `Op::work` counts), which nearly all of them are.
const WORK: u64 = 40_000;
/// And where they want at most so large an arena.
const ARENA_BYTES: usize = 1 << 18;

#[test]
fn mutated_plans_are_refused_or_run() {
    let plans = originals();
    let (mut yard, mut tally) = (Yard::default(), Tally::default());
    for seed in 0..PLANS {
        let mut rng = Rng::new(seed);
        let named = Named(seed);
        let bytes = mutate(&plans, &mut rng);
        match Plan::parse(&bytes) {
            Err(why) => tally.refused(&why),
            Ok(plan)
                if plan.ops().map(|op| op.work().saturating_add(op.reach())).sum::<u64>() > WORK
                    || plan.arena_bytes() > ARENA_BYTES =>
            {
                tally.too_large += 1;
            }
            Ok(plan) => {
                tally.ran += 1;
                yard.run(plan, &mut rng);
            }
        }
        drop(named);
    }
    println!("{tally:#?}");
    // The mutations reach what they are meant to reach: many plans run, and every kind of check refuses some.
    assert!(tally.ran > PLANS / 10, "only {} of {PLANS} plans ran", tally.ran);
    assert!(tally.too_large < PLANS / 50, "{} of {PLANS} plans were too large to run", tally.too_large);
    assert!(tally.reasons.len() > 50, "only {} different reasons: {:#?}", tally.reasons.len(), tally.reasons);
}

#[test]
fn every_cut_and_every_length_is_refused() {
    for plan in originals().iter().step_by(9) {
        for len in 0..plan.len() {
            assert!(Plan::parse(&plan[..len]).is_err(), "cut to {len}");
            if len >= HEADER_BYTES && len % 5 == 0 {
                let mut cut = plan[..len].to_vec();
                mend(&mut cut);
                // It may lose the padding of its last block, and nothing else.
                let whole = Plan::parse(&cut).is_ok();
                assert!(!whole || len + 16 > plan.len(), "cut to {len} of {}, mended", plan.len());
            }
        }
        let longer = [plan.as_slice(), &[0]].concat();
        assert!(matches!(Plan::parse(&longer), Err(Error::Truncated { .. })));
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    for plan in originals().iter().step_by(9) {
        let mut changed = plan.clone();
        for place in 0..plan.len() {
            changed[place] ^= 0x10;
            assert!(Plan::parse(&changed).is_err(), "byte {place}");
            changed[place] = plan[place];
        }
        Plan::parse(&changed).unwrap();
    }
}

/// Prints the seed that was at work when a test failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    ran: u64,
    too_large: u64,
    reasons: std::collections::BTreeMap<&'static str, u64>,
}

impl Tally {
    fn refused(&mut self, why: &Error) {
        let words = if let Error::Malformed { why, .. } = why { why } else { why.code() };
        *self.reasons.entry(words).or_default() += 1;
    }
}

/// Small plans, at least one of every operator.
fn originals() -> Vec<Vec<u8>> {
    let mut plans = Vec::new();
    for &group in Group::ALL {
        plans.extend((0..14).map(|index| case(group, group.fixed_cases() + 4 * index).parts));
    }
    plans.extend((0..60).map(model));
    plans.extend((0..60).map(half_model));
    let work = |bytes: &Vec<u8>| Plan::parse(bytes).unwrap().ops().map(|op| op.work()).sum::<u64>();
    plans
        .iter()
        .map(|parts| parts.to_bytes().unwrap())
        .filter(|plan| plan.len() < 6000 && work(plan) < WORK / 4)
        .collect()
}

/// The buffers between pages that fault.
#[derive(Default)]
struct Yard {
    plan: Fence,
    arena: Fence,
    packed: Fence,
    workspace: Fence,
    output: Fence,
}

impl Yard {
    /// Runs a plan on every tier.
    fn run(&mut self, plan: Plan<'_>, rng: &mut Rng) {
        let seed = rng.bits();
        let wanted = self.run_on(plan, &generic::TIER, seed);
        for tier in tiers() {
            // A tier may lack a kernel that generic has, and says so.
            if let Some(got) = self.run_on(plan, tier, seed) {
                // f16 has no one answer, least of all where sums are infinite.
                if !plan.ops().any(|op| op.code.is_f16()) {
                    assert_eq!(Some(got), wanted, "{} differs from generic", tier.name);
                }
            }
        }
    }

    /// The output's bytes, or the operator without a kernel.
    fn run_on(&mut self, plan: Plan<'_>, tier: &'static Tier, seed: u64) -> Option<(Vec<u8>, Vec<u32>)> {
        let Self { plan: file, arena, packed, workspace, output } = self;
        let side = if seed.is_multiple_of(2) { Side::Behind } else { Side::Before };
        let copy = file.get(plan.as_bytes().len(), side, 0);
        copy.copy_from_slice(plan.as_bytes());
        let engine = match Engine::new(Plan::parse(copy).unwrap(), tier) {
            Ok(engine) => engine,
            Err(Error::NoKernel { .. }) => return None,
            Err(why) => panic!("{why}"),
        };
        let packed_bytes = packed.get(engine.packed_bytes(), side, 0x77);
        engine.pack(packed_bytes).unwrap();
        let space = workspace.get(engine.workspace_bytes(), side, 0x77);
        let memory = arena.get(plan.arena_bytes(), side, 0x77);
        let floats = output.floats(engine.float_outputs(), side, 0);
        let mut rng = Rng::new(seed);
        let input: Vec<f32> = (0..plan.input().elements()).map(|_| (rng.unit() * 20.0 - 10.0) as f32).collect();
        engine.set_input(&input, memory).unwrap();
        engine.run(memory, packed_bytes, space, floats).unwrap();
        let result = (engine.output(memory).to_vec(), floats.iter().map(|x| x.to_bits()).collect());
        for fence in [file, arena, packed, workspace, output] {
            assert!(fence.is_unharmed(), "{} wrote outside its buffers", tier.name);
        }
        Some(result)
    }
}

/// Those that this processor has besides generic; the microcontrollers' one is portable where no instruction of theirs is.
fn tiers() -> Vec<&'static Tier> {
    let names = kernels::available().into_iter().filter(|name| *name != generic::TIER.name);
    let own = names.map(|name| kernels::named(name).unwrap());
    own.chain([&kernels::cortex_m::TIER]).collect()
}

/// Where the tables lie in a plan.
struct Layout {
    tensors: usize,
    ops: usize,
}

impl Layout {
    fn of(plan: &[u8]) -> Self {
        Self { tensors: word(plan, 24) as usize, ops: word(plan, 28) as usize }
    }

    fn tensor(&self, index: usize) -> usize {
        HEADER_BYTES + index * TENSOR_BYTES
    }

    fn op(&self, index: usize) -> usize {
        self.tensor(self.tensors) + index * OP_BYTES
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Offset and size of the numbers in a header, a tensor record and an operator record.
const HEADER_FIELDS: &[(usize, usize)] =
    &[(10, 2), (20, 4), (24, 4), (28, 4), (32, 2), (34, 2), (36, 4), (40, 4), (44, 1), (63, 1)];
const TENSOR_FIELDS: &[(usize, usize)] =
    &[(0, 1), (1, 1), (2, 1), (4, 4), (8, 4), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4)];
const OP_FIELDS: &[(usize, usize)] = &[
    (0, 1),
    (1, 1),
    (2, 2),
    (4, 2),
    (6, 2),
    (12, 2),
    (14, 2),
    (16, 1),
    (17, 1),
    (18, 1),
    (19, 1),
    (20, 1),
    (21, 1),
    (22, 1),
    (23, 1),
    (24, 1),
    (25, 1),
    (26, 2),
    (28, 1),
    (29, 1),
    (30, 4),
    (34, 4),
    (38, 4),
    (42, 4),
    (46, 2),
    (48, 2),
    (50, 4),
    (54, 4),
    (58, 4),
    (62, 4),
    (66, 1),
    (79, 1),
];

/// One to three changes to one of the plans.
fn mutate(plans: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut plan = plans[rng.below(plans.len())].clone();
    for _ in 0..1 + rng.below(3) {
        let layout = Layout::of(&plan);
        // An earlier change may have taken the tables away.
        let most = plan.len() / TENSOR_BYTES;
        if !(1..most).contains(&layout.tensors)
            || !(1..most).contains(&layout.ops)
            || layout.op(layout.ops) > plan.len()
        {
            break;
        }
        change(&mut plan, &layout, plans, rng);
    }
    mend(&mut plan);
    plan
}

fn change(plan: &mut Vec<u8>, layout: &Layout, plans: &[Vec<u8>], rng: &mut Rng) {
    let (tensor, op) = (layout.tensor(rng.below(layout.tensors)), layout.op(rng.below(layout.ops)));
    match rng.below(16) {
        0 => set_field(plan, 0, rng.pick(HEADER_FIELDS), rng),
        1..=3 => set_field(plan, tensor, rng.pick(TENSOR_FIELDS), rng),
        4..=8 => set_field(plan, op, rng.pick(OP_FIELDS), rng),
        9 => {
            // A tensor takes the place of another, or lies a little off its own.
            let other = layout.tensor(rng.below(layout.tensors));
            let place = if rng.once_in(2) { word(plan, other + 20) } else { word(plan, tensor + 20) };
            let place = place.wrapping_add(rng.pick(&[0, 16, 16u32.wrapping_neg(), 1, 8]));
            plan[tensor + 20..tensor + 24].copy_from_slice(&place.to_le_bytes());
        }
        10 => {
            // Axes exchanged, or one traded for another: the size stays.
            let (a, b) = (8 + 4 * rng.below(3), 8 + 4 * rng.below(3));
            let (x, y) = (word(plan, tensor + a), word(plan, tensor + b));
            let (x, y) = if rng.once_in(2) { (y, x) } else { (x.wrapping_mul(y), 1) };
            plan[tensor + a..tensor + a + 4].copy_from_slice(&x.to_le_bytes());
            plan[tensor + b..tensor + b + 4].copy_from_slice(&y.to_le_bytes());
        }
        11 => {
            // Operators in another order, or one of them twice.
            let other = layout.op(rng.below(layout.ops));
            let record: Vec<u8> = plan[op..op + OP_BYTES].to_vec();
            if rng.once_in(2) {
                plan.copy_within(other..other + OP_BYTES, op);
            }
            plan[other..other + OP_BYTES].copy_from_slice(&record);
        }
        12 => {
            // An operator, or a tensor, of another plan.
            let donor = &plans[rng.below(plans.len())];
            let theirs = Layout::of(donor);
            let (at, from, len) = if rng.once_in(2) {
                (op, theirs.op(rng.below(theirs.ops)), OP_BYTES)
            } else {
                (tensor, theirs.tensor(rng.below(theirs.tensors)), TENSOR_BYTES)
            };
            plan[at..at + len].copy_from_slice(&donor[from..from + len]);
        }
        13 => {
            // Cut, or longer.
            let len = if rng.once_in(2) { rng.below(plan.len() + 1) } else { plan.len() + rng.below(40) };
            plan.resize(len.max(HEADER_BYTES), rng.bits() as u8);
        }
        _ => {
            // Any byte; weights are allowed to be anything but what the padding holds.
            let place = if rng.once_in(2) {
                rng.below(plan.len())
            } else {
                HEADER_BYTES + rng.below(op - HEADER_BYTES + OP_BYTES)
            };
            plan[place] = if rng.once_in(2) { rng.bits() as u8 } else { plan[place] ^ (1 << rng.below(8)) };
        }
    }
}

/// Writes one number, of a kind that is likely to hurt.
fn set_field(plan: &mut [u8], base: usize, (offset, size): (usize, usize), rng: &mut Rng) {
    let at = base + offset;
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(&plan[at..at + size]);
    let old = u64::from_le_bytes(bytes);
    let all = u64::MAX >> (64 - 8 * size);
    let new = match rng.below(10) {
        0 => 0,
        1 => all,
        2 => all >> 1,
        3 => (all >> 1) + 1,
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 => old.wrapping_mul(2),
        7 => old ^ (1 << rng.below(8 * size)),
        8 => rng.below(70) as u64,
        _ => rng.bits(),
    };
    plan[at..at + size].copy_from_slice(&new.to_le_bytes()[..size]);
}

/// The length and the checksum as they must be.
fn mend(plan: &mut [u8]) {
    let len = u32::try_from(plan.len()).unwrap();
    plan[12..16].copy_from_slice(&len.to_le_bytes());
    let crc = crc(&plan[CRC_START..]);
    plan[16..20].copy_from_slice(&crc.to_le_bytes());
}

/// CRC-32/ISO-HDLC, bit by bit as its definition says, four bits at a time.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (0..4).fold(crc, |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()));
    let table: [u32; 16] = std::array::from_fn(|nibble| step(nibble as u32));
    let nibble = |crc: u32, bits: u8| (crc >> 4) ^ table[((crc ^ u32::from(bits)) & 15) as usize];
    !bytes.iter().fold(!0, |crc, byte| nibble(nibble(crc, byte & 15), byte >> 4))
}
