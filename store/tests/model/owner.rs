//! What owners do, and what the answers mean to them: `src/owner.rs` and `src/owner/claim.rs` in small.

use super::{
    Active, BUCKET, BUCKETS, Id, Invariant, Pending, Phase, Request, SENDS, Seen, Send, State, Statics,
    Variant, Write,
};

impl State {
    pub(super) fn look(&mut self, owner: usize, first: u8, exact: bool) -> Result<(), Invariant> {
        let own = |statics: &Statics| statics.owner.owner == owner as u8 && statics.owner.count > first;
        let write = match self.newest() {
            None => Write::Create { bucket: 0, epoch: 1, last: 0 },
            Some((bucket, found)) if found.last == (bucket + 1) * BUCKET => {
                if bucket as usize + 1 == BUCKETS {
                    self.owners[owner].phase = Phase::Idle;
                    return Ok(());
                }
                Write::Create { bucket: bucket + 1, epoch: found.epoch + 1, last: found.last }
            }
            Some((bucket, found)) if own(&found) => {
                self.owners[owner].phase = Phase::Won { bucket, epoch: found.epoch, last: None, first };
                return Ok(());
            }
            Some((bucket, found)) => Write::TakeOver {
                bucket,
                expected_epoch: found.epoch,
                expected_last: exact.then_some(found.last),
                epoch: found.epoch + 1,
            },
        };
        let id = self.fresh_id(owner);
        self.owners[owner].phase = Phase::Claiming { first };
        if self.may_claim() {
            self.request(id, write);
        }
        Ok(())
    }

    pub(super) fn recover(&mut self, owner: usize, variant: Variant) -> Result<(), Invariant> {
        let Phase::Won { bucket, epoch, last, first } = self.owners[owner].phase else { return Ok(()) };
        let Some(found) = self.buckets[bucket as usize] else {
            return Err(Invariant::NothingImpossibleIsAnswered);
        };
        let last = match last {
            Some(last) => last,
            None if found.epoch != epoch => {
                self.owners[owner].phase = Phase::Idle;
                return Ok(());
            }
            None if found.last == (bucket + 1) * BUCKET => return self.look(owner, first, true),
            None => found.last,
        };
        if std::mem::replace(&mut self.served[epoch as usize], true) {
            return Err(Invariant::OneOwnerAnEpoch);
        }
        let mut marks = [(0, 0); SENDS.len()];
        if variant != Variant::NoDedupRecovery {
            for (row, seq) in self.rows[..last as usize].iter().flatten().zip(1..) {
                marks[row.send.writer as usize] = (row.send.n, seq);
            }
        }
        let (pending, queue) = (None, Vec::new());
        self.owners[owner].phase = Phase::Active(Active { bucket, epoch, last, marks, pending, queue });
        Ok(())
    }

    pub(super) fn submit(
        &mut self,
        owner: usize,
        send: Send,
        variant: Variant,
        seen: &mut Seen,
    ) -> Result<(), Invariant> {
        self.submitted[send.writer as usize][send.n as usize - 1] += 1;
        let Phase::Active(active) = &mut self.owners[owner].phase else { return Ok(()) };
        let (stored, seq) = active.marks[send.writer as usize];
        let waiting = active.pending.iter().flat_map(|pending| &pending.rows).chain(&active.queue);
        let newest =
            waiting.filter(|other| other.writer == send.writer).map(|other| other.n).max().unwrap_or(stored);
        if send.n <= stored {
            seen.duplicates += 1;
            return self.tell(send, (send.n == stored).then_some(seq));
        }
        let anywhere = variant == Variant::StartsAnywhere && newest == 0;
        if send.n == newest + 1 || anywhere {
            active.queue.push(send);
        }
        Ok(())
    }

    /// Somebody is told that their send is stored; where, unless it is an old one.
    fn tell(&mut self, send: Send, seq: Option<u8>) -> Result<(), Invariant> {
        let found = self.rows.iter().flatten().zip(1..).find(|(row, _)| row.send == send).map(|(_, seq)| seq);
        let told = &mut self.told[send.writer as usize][send.n as usize - 1];
        match (seq.filter(|seq| *seq > 0).or(found), *told) {
            (None, _) => Err(Invariant::AcknowledgedIsStored),
            (Some(seq), Some(before)) if seq != before => Err(Invariant::OneAcknowledgedPlace),
            (Some(seq), _) => {
                *told = Some(seq);
                Ok(())
            }
        }
    }

    pub(super) fn begin(&mut self, owner: usize, variant: Variant) -> Result<(), Invariant> {
        let id = self.fresh_id(owner);
        let Phase::Active(active) = &mut self.owners[owner].phase else { return Ok(()) };
        let free = BUCKET - active.last % BUCKET;
        let rows = active.queue.drain(..active.queue.len().min(free as usize)).collect();
        let rolling = active.last == (active.bucket + 1) * BUCKET;
        active.pending = Some(Pending { id, rows, unknown: false, rolling });
        self.send_pending(owner, variant)
    }

    fn send_pending(&mut self, owner: usize, variant: Variant) -> Result<(), Invariant> {
        let Phase::Active(active) = &self.owners[owner].phase else { return Ok(()) };
        let Some(pending) = active.pending.clone() else { return Ok(()) };
        let Active { bucket, epoch, last, .. } = *active;
        let write = match pending.rolling {
            true if bucket as usize + 1 == BUCKETS => return Ok(()),
            true => Write::Create { bucket: bucket + 1, epoch, last },
            false => Write::Append { bucket, epoch, expected_last: last, rows: pending.rows },
        };
        let statics = self.buckets[bucket as usize];
        if variant == Variant::PlainWrite && statics.is_some_and(|statics| statics.epoch > epoch) {
            self.owners[owner].phase = Phase::Idle;
            return Ok(());
        }
        self.request(pending.id, write);
        Ok(())
    }

    pub(super) fn timeout(&mut self, owner: usize, exact: bool, variant: Variant) -> Result<(), Invariant> {
        let active = match &mut self.owners[owner].phase {
            Phase::Claiming { first } => {
                let first = *first;
                return self.look(owner, first, exact);
            }
            Phase::Active(active) => active,
            Phase::Idle | Phase::Won { .. } => return Ok(()),
        };
        let Some(pending) = &mut active.pending else { return Ok(()) };
        pending.unknown = true;
        if variant == Variant::AckOnTimeout && !pending.rolling {
            return self.committed(owner);
        }
        let (rows, queue) = (&mut pending.rows, &mut active.queue);
        let others = |send: &Send| rows.iter().all(|row| row.writer != send.writer);
        if variant == Variant::ChangedBatch && queue.len() == rows.len() && queue.iter().all(others) {
            std::mem::swap(rows, queue);
        }
        self.send_pending(owner, variant)
    }

    pub(super) fn run(
        &mut self,
        request: usize,
        answered: bool,
        variant: Variant,
        seen: &mut Seen,
    ) -> Result<(), Invariant> {
        self.under_way[request].runs -= 1;
        let Request { id, write, runs } = self.under_way[request].clone();
        if runs == 0 {
            self.under_way.remove(request);
        }
        let outcome = self.carry_out(id, &write, variant)?;
        let owner = id.owner as usize;
        let waits = match &self.owners[owner].phase {
            Phase::Claiming { .. } => self.owners[owner].requests == id.count,
            // A late answer to the making of the bucket is none to the append that followed.
            Phase::Active(active) => active.pending.as_ref().is_some_and(|pending| {
                pending.id == id && pending.rolling == matches!(write, Write::Create { .. })
            }),
            Phase::Idle | Phase::Won { .. } => false,
        };
        if answered && waits {
            return self.answered(owner, id, &write, outcome, variant, seen);
        }
        Ok(())
    }

    fn answered(
        &mut self,
        owner: usize,
        id: Id,
        write: &Write,
        outcome: Result<(), Option<Statics>>,
        variant: Variant,
        seen: &mut Seen,
    ) -> Result<(), Invariant> {
        if let Phase::Claiming { first } = self.owners[owner].phase {
            return match (write, outcome) {
                (Write::Create { bucket, epoch, last }, Ok(())) => {
                    let (bucket, epoch, last) = (*bucket, *epoch, Some(*last));
                    self.owners[owner].phase = Phase::Won { bucket, epoch, last, first };
                    Ok(())
                }
                (Write::TakeOver { bucket, epoch, expected_last, .. }, Ok(())) => {
                    let (bucket, epoch, last) = (*bucket, *epoch, *expected_last);
                    self.owners[owner].phase = Phase::Won { bucket, epoch, last, first };
                    Ok(())
                }
                (_, Err(_)) | (Write::Append { .. }, Ok(())) => {
                    seen.lost_claims += 1;
                    self.owners[owner].phase = Phase::Idle;
                    Ok(())
                }
            };
        }
        let Phase::Active(active) = &mut self.owners[owner].phase else { return Ok(()) };
        let count = active.pending.as_ref().map_or(0, |pending| pending.rows.len() as u8);
        let (epoch, last) = (active.epoch, active.last);
        let is_own = |found: Statics| found.epoch == epoch && found.owner == id;
        match (write, outcome) {
            (Write::Create { .. }, outcome)
                if outcome.is_ok() || outcome.err().flatten().is_some_and(is_own) =>
            {
                seen.rolled_over += 1;
                active.bucket += 1;
                if let Some(pending) = &mut active.pending {
                    (pending.rolling, pending.unknown) = (false, false);
                }
                self.send_pending(owner, variant)
            }
            (Write::Create { .. } | Write::TakeOver { .. }, _) => {
                seen.fenced += 1;
                self.owners[owner].phase = Phase::Idle;
                Ok(())
            }
            (Write::Append { .. }, Ok(())) => self.committed(owner),
            (Write::Append { .. }, Err(Some(found))) if found.epoch > epoch => {
                seen.fenced += 1;
                // An append is stored as a whole, and no other of this owner's was under way: one row tells.
                let stored = self.rows[last as usize].is_some_and(|row| row.epoch == epoch);
                let told = if stored { self.committed(owner) } else { Ok(()) };
                self.owners[owner].phase = Phase::Idle;
                told
            }
            (Write::Append { .. }, Err(Some(found)))
                if found.epoch == epoch && found.write == id && found.last == last + count =>
            {
                seen.resolved += 1;
                self.committed(owner)
            }
            (Write::Append { .. }, Err(_)) => Err(Invariant::NothingImpossibleIsAnswered),
        }
    }

    fn committed(&mut self, owner: usize) -> Result<(), Invariant> {
        let Phase::Active(active) = &mut self.owners[owner].phase else { return Ok(()) };
        let Some(Pending { rows, .. }) = active.pending.take() else { return Ok(()) };
        let mut places = Vec::new();
        for send in rows {
            active.last += 1;
            active.marks[send.writer as usize] = (send.n, active.last);
            places.push((send, active.last));
        }
        places.into_iter().try_for_each(|(send, seq)| self.tell(send, Some(seq)))
    }

    /// The append is not in the log and never will be: nor is what waits behind it, whose counters follow on.
    pub(super) fn refused(&mut self, owner: usize, variant: Variant) {
        let Phase::Active(active) = &mut self.owners[owner].phase else { return };
        let Some(pending) = active.pending.take() else { return };
        active.queue.clear();
        if variant == Variant::RefusalConsumes {
            for send in pending.rows {
                active.marks[send.writer as usize].0 = send.n;
            }
        }
    }
}
