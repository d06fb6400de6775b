//! What the store does with a request, and what has to hold of it afterwards.

use super::{BUCKET, Id, Invariant, Row, SENDS, Send, State, Statics, Variant, Write};

impl State {
    /// The store's part: one conditional write. `Err` inside is a refusal, with what is there instead.
    pub(super) fn carry_out(
        &mut self,
        id: Id,
        write: &Write,
        variant: Variant,
    ) -> Result<Result<(), Option<Statics>>, Invariant> {
        match write {
            Write::Create { bucket, epoch, last } => {
                let place = &mut self.buckets[*bucket as usize];
                if place.is_some() {
                    return Ok(Err(*place));
                }
                *place = Some(Statics { epoch: *epoch, last: *last, owner: id, write: id });
            }
            Write::TakeOver { bucket, expected_epoch, expected_last, epoch } => {
                let Some(found) = &mut self.buckets[*bucket as usize] else { return Ok(Err(None)) };
                let holds =
                    found.epoch == *expected_epoch && expected_last.is_none_or(|last| last == found.last);
                if !holds && variant != Variant::PlainClaim {
                    return Ok(Err(Some(*found)));
                }
                (found.epoch, found.owner) = (*epoch, id);
            }
            Write::Append { bucket, epoch, expected_last, rows } => {
                let Some(found) = &mut self.buckets[*bucket as usize] else { return Ok(Err(None)) };
                let (mut last, holds) = match variant {
                    Variant::PlainWrite => (*expected_last, true),
                    Variant::NoLastSeqCondition => {
                        let fits =
                            found.last as usize + rows.len() <= (*bucket as usize + 1) * BUCKET as usize;
                        (found.last, found.epoch == *epoch && fits)
                    }
                    _ => (*expected_last, found.epoch == *epoch && found.last == *expected_last),
                };
                if !holds {
                    return Ok(Err(Some(*found)));
                }
                for send in rows {
                    let row = Row { epoch: *epoch, send: *send };
                    let place = &mut self.rows[last as usize];
                    if place.is_some_and(|other| other.send != row.send) {
                        return Err(Invariant::RowsNeverChange);
                    }
                    *place = Some(row);
                    last += 1;
                }
                (found.last, found.write) = (last, id);
            }
        }
        Ok(Ok(()))
    }

    /// All that has to hold of the stored rows and of what was said of them.
    pub(super) fn check(&self) -> Result<(), Invariant> {
        let head = self.newest().map_or(0, |(_, statics)| statics.last) as usize;
        if self.rows[..head].iter().any(Option::is_none) {
            return Err(Invariant::NoHole);
        }
        let rows: Vec<Row> = self.rows.iter().flatten().copied().collect();
        if rows
            .iter()
            .enumerate()
            .any(|(place, row)| rows[..place].iter().any(|other| other.send == row.send))
        {
            return Err(Invariant::StoredOnce);
        }
        for writer in 0..SENDS.len() as u8 {
            let sends = rows.iter().filter(|row| row.send.writer == writer);
            if sends.zip(1..).any(|(row, n)| row.send.n != n) {
                return Err(Invariant::InOrder);
            }
        }
        if rows.windows(2).any(|pair| pair[0].epoch > pair[1].epoch) {
            return Err(Invariant::EpochsNeverFall);
        }
        for (writer, told) in (0u8..).zip(&self.told) {
            for (n, seq) in (1u8..).zip(told).filter_map(|(n, seq)| Some((n, (*seq)?))) {
                let row = self.rows[seq as usize - 1];
                if row.is_none_or(|row| row.send != Send { writer, n }) {
                    return Err(Invariant::AcknowledgedIsStored);
                }
            }
        }
        Ok(())
    }
}
