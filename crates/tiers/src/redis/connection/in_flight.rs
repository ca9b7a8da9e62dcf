//! Requests that were written, and what is expected for them.

use std::collections::VecDeque;

use redis::{RedisResult, Value};

use crate::redis::connection::channel::{Expected, KeyRead, Queue, Reads, Slot, push_argument, push_command};
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::keys::names::PARTITIONS;

/// Who gets the next answers.
pub(super) enum InFlight {
    Commands(Expected),
    Reads(Box<ReadsInFlight>),
}

/// An `MGET` of records and entries whose answer is expected.
pub(super) struct ReadsInFlight {
    /// Where the record of a partition is among them.
    positions: [u8; PARTITIONS],
    pub(super) records_wanted: usize,
    /// The records that have arrived.
    records: Vec<Value>,
    waiting: VecDeque<KeyRead>,
    /// The first of two values of the request in front.
    first: Option<Value>,
    pub(super) entries: usize,
    /// How many items have not arrived. `None` before the head of the array.
    pub(super) left: Option<usize>,
}

impl InFlight {
    /// Calls `visit` with the slot of each request that has no answer yet.
    pub(super) fn each_slot(&self, visit: impl Fn(&Slot)) {
        match self {
            Self::Commands(expected) => visit(&expected.slot),
            Self::Reads(reads) => reads.waiting.iter().for_each(|read| visit(&read.slot)),
        }
    }
}

/// Moves the requests of the queue to what is written, and to those who wait for answers.
pub(super) fn take_all(queue: &mut Queue, outgoing: &mut Outgoing, in_flight: &mut VecDeque<InFlight>) {
    outgoing.append(&mut queue.commands);
    in_flight.extend(queue.expected.drain(..).map(InFlight::Commands));
    queue.full.drain(..).for_each(|mut full| take_reads(&mut full, outgoing, in_flight));
    take_reads(&mut queue.reads, outgoing, in_flight);
}

/// Moves requests to what is written as one command, and to those who wait for its answer.
fn take_reads(reads: &mut Reads, outgoing: &mut Outgoing, in_flight: &mut VecDeque<InFlight>) {
    if reads.waiting.is_empty() {
        return;
    }
    let entries = std::mem::take(&mut reads.entries);
    reads.named = 0;
    // About as many will wait next.
    let next = Vec::with_capacity(reads.waiting.len());
    let mut positions = [0; PARTITIONS];
    for (at, partition) in reads.partitions.iter().enumerate() {
        positions[partition % PARTITIONS] = at as u8;
    }
    let out = outgoing.tail();
    push_command(out, 1 + reads.partitions.len() + entries);
    push_argument(out, b"MGET");
    out.append(&mut reads.record_names);
    out.append(&mut reads.entry_names);
    in_flight.push_back(InFlight::Reads(Box::new(ReadsInFlight {
        records: Vec::with_capacity(reads.partitions.len()),
        positions,
        records_wanted: reads.partitions.len(),
        waiting: std::mem::replace(&mut reads.waiting, next).into(),
        first: None,
        entries,
        left: None,
    })));
    reads.partitions.clear();
}

impl Expected {
    pub(super) fn answer(&mut self, value: Value) {
        self.slot.add(value);
        self.answers -= 1;
        if self.answers == 0 && !self.is_validated {
            self.slot.complete(Ok(()));
        }
    }
}

impl ReadsInFlight {
    /// Takes an item of the array, or an error in its place. Returns whether nothing more is expected.
    pub(super) fn answer(&mut self, value: Value) -> RedisResult<bool> {
        let Some(left) = &mut self.left else {
            let failed = value.extract_error().map(drop);
            let failed = failed.and(Err((redis::ErrorKind::Parse, "the reply is no array").into()));
            self.waiting.drain(..).for_each(|read| read.slot.complete(failed.clone()));
            return Ok(true);
        };
        *left -= 1;
        let is_over = *left == 0;
        if self.records.len() < self.records_wanted {
            self.records.push(value);
            if self.records.len() == self.records_wanted {
                self.complete_validations();
            }
        } else {
            self.add(value);
        }
        Ok(is_over)
    }

    /// Adds a value to the request in front, and completes it if this was the last one.
    fn add(&mut self, value: Value) {
        let wants_two = self.waiting.front().is_some_and(|read| read.entries == 2);
        let values = match self.first.take() {
            None if wants_two => {
                self.first = Some(value);
                return;
            }
            None => [value, Value::Nil],
            Some(first) => [first, value],
        };
        if let Some(read) = self.waiting.pop_front() {
            self.complete(&read, values);
            self.complete_validations();
        }
    }

    /// Completes the next requests that read no entry.
    fn complete_validations(&mut self) {
        while self.waiting.front().is_some_and(|read| read.entries == 0)
            && let Some(read) = self.waiting.pop_front()
        {
            self.complete(&read, [Value::Nil, Value::Nil]);
        }
    }

    fn complete(&self, read: &KeyRead, values: [Value; 2]) {
        let record = self.records.get(usize::from(self.positions[read.partition % PARTITIONS]));
        let record = record.filter(|record| !read.cached.is_confirmed_by(record)).cloned();
        read.slot.complete_read(values, record);
    }
}
