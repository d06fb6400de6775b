//! Through the states of the model: all of them up to a bound, and seeded random walks far beyond it.

use std::collections::{HashMap, VecDeque};

use super::protocol::{Invariant, Seen, State, Step, Variant};

/// Times that each send may be submitted.
const SUBMITS: u8 = 2;
const SUBMITS_WALKING: u8 = 12;
/// Steps of one walk.
const WALK: usize = 240;

/// A violated invariant and the steps that lead to it.
#[derive(Debug)]
#[expect(dead_code, reason = "the steps are what a failing test prints")]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    steps: Vec<Step>,
}

/// What a search went through.
#[derive(Debug)]
pub(crate) struct Searched {
    pub(crate) states: usize,
    #[expect(dead_code, reason = "printed")]
    pub(crate) depth: usize,
}

/// Every state that is reached in the fewest steps, until there are `bound` of them.
pub(crate) fn breadth_first(variant: Variant, bound: usize) -> Result<Searched, Violation> {
    let start = State::start(SUBMITS);
    let mut places = HashMap::from([(start.clone(), 0)]);
    // By which step, from which state, and how deep.
    let mut from: Vec<(Option<Step>, usize, usize)> = vec![(None, 0, 0)];
    let mut open = VecDeque::from([(start, 0)]);
    let mut seen = Seen::default();
    while let Some((state, place)) = open.pop_front() {
        // To lose a request is never to carry it out: nothing new in a search that leaves out no order.
        for step in state.steps().into_iter().filter(|step| !matches!(step, Step::Lose { .. })) {
            let next = match state.after(step, variant, &mut seen) {
                Ok(next) => next,
                Err(invariant) => return Err(Violation { invariant, steps: way_to(&from, place, step) }),
            };
            if !places.contains_key(&next) {
                let new = from.len();
                places.insert(next.clone(), new);
                from.push((Some(step), place, from[place].2 + 1));
                open.push_back((next, new));
            }
        }
        if from.len() >= bound {
            break;
        }
    }
    Ok(Searched { states: from.len(), depth: from.last().map_or(0, |last| last.2) })
}

fn way_to(from: &[(Option<Step>, usize, usize)], mut place: usize, last: Step) -> Vec<Step> {
    let mut steps = vec![last];
    while let (Some(step), before, _) = from[place] {
        steps.push(step);
        place = before;
    }
    steps.reverse();
    steps
}

/// What walks went through.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) walks: u64,
    /// Walks at whose end every send was acknowledged.
    pub(crate) all_acknowledged: u64,
    pub(crate) seen: Seen,
}

/// Walks of random steps, the same for the same seed.
pub(crate) fn walks(variant: Variant, seed: u64, count: u64) -> Result<Walked, Violation> {
    let mut walked = Walked::default();
    let mut chance = seed;
    for _ in 0..count {
        let mut state = State::start(SUBMITS_WALKING);
        let mut steps = Vec::new();
        for _ in 0..WALK {
            let choices = state.steps();
            if choices.is_empty() || state.all_told() {
                break;
            }
            let step = choose(&choices, &mut chance);
            steps.push(step);
            state = match state.after(step, variant, &mut walked.seen) {
                Ok(next) => next,
                Err(invariant) => return Err(Violation { invariant, steps }),
            };
        }
        walked.walks += 1;
        walked.all_acknowledged += u64::from(state.all_told());
    }
    Ok(walked)
}

/// Faults are rarer than progress, or a walk would not come far.
fn choose(choices: &[Step], chance: &mut u64) -> Step {
    loop {
        let step = choices[(next(chance) % choices.len() as u64) as usize];
        let weight = match step {
            Step::Crash { .. } => 2,
            Step::Lose { .. } | Step::Refuse { .. } | Step::Timeout { .. } => 12,
            Step::Look { .. } | Step::Submit { .. } | Step::Run { answered: false, .. } => 25,
            Step::Begin { .. } | Step::Recover { .. } | Step::Run { .. } => 100,
        };
        if next(chance) % 100 < weight {
            return step;
        }
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
