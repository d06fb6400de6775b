//! The protocol, one transition after the other. A state is a value; a step leads to the next one or to a violation.

#[path = "owner.rs"]
mod owner;
#[path = "store.rs"]
mod store;

/// Rows a bucket in the model.
pub(crate) const BUCKET: u8 = 2;
/// Buckets in the model, so there are six rows at most.
const BUCKETS: usize = 3;
const ROWS: usize = BUCKETS * BUCKET as usize;
const OWNERS: usize = 2;
/// What is sent: by the first writer three sends, by the second two. Five rows roll over twice.
const SENDS: [u8; 2] = [3, 2];
/// Requests under way at once; whatever is beyond is lost.
const UNDER_WAY: usize = 4;
/// Highest epoch that is claimed.
const EPOCHS: u8 = 6;

/// The protocol, or what is broken in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Protocol,
    /// An append asks for the epoch alone; the store puts it behind what is there.
    NoLastSeqCondition,
    /// A new owner does not read the writers' counters.
    NoDedupRecovery,
    /// After an unknown outcome, what has queued meanwhile is sent under the same id.
    ChangedBatch,
    /// No answer is taken for a yes.
    AckOnTimeout,
    /// The owner reads the epoch and then writes without a condition.
    PlainWrite,
    /// A claim writes its epoch without a condition.
    PlainClaim,
    /// A writer that the owner does not know may begin with any counter.
    StartsAnywhere,
    /// A refused send counts as used.
    RefusalConsumes,
}

/// What has to hold in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invariant {
    RowsNeverChange,
    NoHole,
    StoredOnce,
    InOrder,
    EpochsNeverFall,
    AcknowledgedIsStored,
    OneAcknowledgedPlace,
    OneOwnerAnEpoch,
    NothingImpossibleIsAnswered,
}

/// What came about on the way, to be sure that the steps reach it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) fenced: u64,
    pub(crate) resolved: u64,
    pub(crate) rolled_over: u64,
    pub(crate) lost_claims: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Send {
    writer: u8,
    n: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    epoch: u8,
    send: Send,
}

/// Who made a request, and the how many-th of theirs: what nonces and write ids are in the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Id {
    owner: u8,
    count: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Statics {
    epoch: u8,
    last: u8,
    owner: Id,
    write: Id,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Write {
    Create { bucket: u8, epoch: u8, last: u8 },
    TakeOver { bucket: u8, expected_epoch: u8, expected_last: Option<u8>, epoch: u8 },
    Append { bucket: u8, epoch: u8, expected_last: u8, rows: Vec<Send> },
}

/// A request somewhere between an owner and the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Request {
    id: Id,
    write: Write,
    /// How often it may still be carried out.
    runs: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pending {
    id: Id,
    rows: Vec<Send>,
    /// A try had no answer.
    unknown: bool,
    /// It waits for the next bucket first.
    rolling: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Active {
    bucket: u8,
    epoch: u8,
    last: u8,
    /// Each writer's newest send in the log and its place.
    marks: [(u8, u8); SENDS.len()],
    pending: Option<Pending>,
    queue: Vec<Send>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Waits for the answer to its try; tries since `first` are of this claim.
    Claiming {
        first: u8,
    },
    /// Has the epoch, and knows the last row if it was part of the condition.
    Won {
        bucket: u8,
        epoch: u8,
        last: Option<u8>,
        first: u8,
    },
    Active(Active),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owner {
    phase: Phase,
    requests: u8,
}

/// One state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    buckets: [Option<Statics>; BUCKETS],
    rows: [Option<Row>; ROWS],
    owners: [Owner; OWNERS],
    under_way: Vec<Request>,
    /// How often each send was submitted, and may be.
    submitted: [[u8; 3]; SENDS.len()],
    submits: u8,
    /// Where each send was said to be stored.
    told: [[Option<u8>; 3]; SENDS.len()],
    /// Epochs in which somebody has come to serve.
    served: [bool; EPOCHS as usize + 1],
    crashes: u8,
}

/// Something that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// An owner looks for the room's head and tries to claim it, with `exact` asking for the last row too.
    Look {
        owner: usize,
        exact: bool,
    },
    /// A new owner reads what it must know.
    Recover {
        owner: usize,
    },
    Submit {
        owner: usize,
        writer: u8,
        n: u8,
    },
    /// An owner freezes what waits into an append.
    Begin {
        owner: usize,
    },
    Timeout {
        owner: usize,
        exact: bool,
    },
    /// A request is carried out, and its owner may hear of it.
    Run {
        request: usize,
        answered: bool,
    },
    /// A request definitely does not happen.
    Refuse {
        request: usize,
    },
    Lose {
        request: usize,
    },
    Crash {
        owner: usize,
    },
}

type Next = Result<State, Invariant>;

impl State {
    /// An empty store, two idle owners; each send may be submitted `submits` times.
    pub(crate) fn start(submits: u8) -> Self {
        let idle = Owner { phase: Phase::Idle, requests: 0 };
        Self {
            buckets: [None; BUCKETS],
            rows: [None; ROWS],
            owners: [idle.clone(), idle],
            under_way: Vec::new(),
            submitted: [[0; 3]; SENDS.len()],
            submits,
            told: [[None; 3]; SENDS.len()],
            served: [false; EPOCHS as usize + 1],
            crashes: 2,
        }
    }

    pub(crate) fn all_told(&self) -> bool {
        SENDS.iter().zip(&self.told).all(|(sends, told)| told[..*sends as usize].iter().all(Option::is_some))
    }

    /// All that can happen next.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (owner, state) in self.owners.iter().enumerate() {
            self.steps_of(owner, &state.phase, &mut steps);
        }
        for request in 0..self.under_way.len() {
            steps.extend([true, false].map(|answered| Step::Run { request, answered }));
            steps.push(Step::Lose { request });
            if self.may_refuse(request) {
                steps.push(Step::Refuse { request });
            }
        }
        steps
    }

    fn steps_of(&self, owner: usize, phase: &Phase, steps: &mut Vec<Step>) {
        match phase {
            Phase::Idle if self.may_claim() => {
                steps.extend([true, false].map(|exact| Step::Look { owner, exact }));
            }
            Phase::Idle => {}
            Phase::Claiming { .. } => {
                steps.extend([true, false].map(|exact| Step::Timeout { owner, exact }));
            }
            Phase::Won { .. } => steps.push(Step::Recover { owner }),
            Phase::Active(active) => {
                for (writer, sends) in (0u8..).zip(SENDS) {
                    let may = |n: &u8| self.may_submit(writer, *n);
                    steps.extend((1..=sends).filter(may).map(|n| Step::Submit { owner, writer, n }));
                }
                match active.pending {
                    Some(_) => steps.push(Step::Timeout { owner, exact: true }),
                    None if !active.queue.is_empty() => steps.push(Step::Begin { owner }),
                    None => {}
                }
            }
        }
        if self.crashes > 0 && *phase != Phase::Idle {
            steps.push(Step::Crash { owner });
        }
    }

    fn may_claim(&self) -> bool {
        self.buckets.iter().flatten().all(|statics| statics.epoch < EPOCHS)
    }

    /// A client submits a send once it has submitted the one before; again even after an answer, which may be lost.
    fn may_submit(&self, writer: u8, n: u8) -> bool {
        let submitted = &self.submitted[writer as usize];
        let place = n as usize - 1;
        submitted[place] < self.submits && (place == 0 || submitted[place - 1] > 0)
    }

    /// A definite refusal says something of a first try only.
    fn may_refuse(&self, request: usize) -> bool {
        let Request { id, write, runs } = &self.under_way[request];
        let waiting = match &self.owners[id.owner as usize].phase {
            Phase::Active(Active { pending: Some(pending), .. }) => {
                let awaited = pending.rolling == matches!(write, Write::Create { .. });
                pending.id == *id && awaited && !pending.unknown
            }
            _ => false,
        };
        waiting && *runs == 2
    }

    /// What a step leads to.
    pub(crate) fn after(&self, step: Step, variant: Variant, seen: &mut Seen) -> Next {
        let mut next = self.clone();
        let taken = next.take(step, variant, seen);
        next.check()?;
        taken.map(|()| next)
    }

    fn take(&mut self, step: Step, variant: Variant, seen: &mut Seen) -> Result<(), Invariant> {
        match step {
            Step::Look { owner, exact } => {
                let first = self.owners[owner].requests;
                self.look(owner, first, exact)
            }
            Step::Recover { owner } => self.recover(owner, variant),
            Step::Submit { owner, writer, n } => self.submit(owner, Send { writer, n }, variant, seen),
            Step::Begin { owner } => self.begin(owner, variant),
            Step::Timeout { owner, exact } => self.timeout(owner, exact, variant),
            Step::Run { request, answered } => self.run(request, answered, variant, seen),
            Step::Refuse { request } => {
                seen.refused += 1;
                let request = self.under_way.remove(request);
                self.refused(request.id.owner as usize, variant);
                Ok(())
            }
            Step::Lose { request } => {
                self.under_way.remove(request);
                Ok(())
            }
            Step::Crash { owner } => {
                self.crashes -= 1;
                self.owners[owner].phase = Phase::Idle;
                Ok(())
            }
        }
    }

    fn request(&mut self, id: Id, write: Write) {
        // Sent again, it is the same request.
        if let Some(same) = self.under_way.iter_mut().find(|other| other.id == id && other.write == write) {
            same.runs = 2;
        } else if self.under_way.len() < UNDER_WAY {
            self.under_way.push(Request { id, write, runs: 2 });
        }
    }

    fn fresh_id(&mut self, owner: usize) -> Id {
        self.owners[owner].requests += 1;
        Id { owner: owner as u8, count: self.owners[owner].requests }
    }

    fn newest(&self) -> Option<(u8, Statics)> {
        (0u8..).zip(self.buckets).filter_map(|(bucket, statics)| Some((bucket, statics?))).last()
    }
}
