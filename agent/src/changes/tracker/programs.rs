//! The programs in the kernel: one at `block_rq_issue`, one at `block_rq_complete`, one at `block_rq_requeue`.
//!
//! ```text
//!            issue                       complete                       requeue
//!   not a plain read, of a watched disk  (all three leave at once for anything else)
//!   issued += 1                     completed += 1, sectors += n
//!   enter into the request table    take off the request table     take off the request table
//!   mark its chunks                 mark its chunks
//! ```
//!
//! They are short, since they run at every request of the machine. What most requests are, a read or a write of
//! less than 64 chunks, takes one turn of the marking loop. A longer one sets 64 chunks a turn and, where it covers
//! 64 whole words, one *coarse* bit for them all, so that the 4 GiB that a request can have at most are 386 turns.
//! The coarse bits lie behind the fine ones in the same map.
//!
//! Before Linux 5.12 a program cannot set a bit without losing one that another processor sets in the same word.
//! There a chunk has a byte of its own, chunks are longer, and the request table may lose an entry to a race.

use super::{
    assembler::{
        Alu, Assembler, Atomic, From as F, If, Label, MAP_LOOKUP,
        Reg::{self, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10},
        Size,
    },
    format::Event,
    layout::{self, Marks, state},
    requests,
};

/// Descriptors of the maps that the programs use.
#[derive(Debug, Clone, Copy)]
pub struct Maps {
    /// Device number to slot.
    pub disks: i32,
    /// One value per slot, `layout::state`.
    pub states: i32,
    /// Buckets of the request tables of all slots.
    pub requests: i32,
    /// Slot to the map of marks in use.
    pub marks: i32,
}

/// What a test may have the programs overlook of 4 KiB pages whose number is 5 modulo 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    None,
    #[cfg(test)]
    Completions,
    #[cfg(test)]
    Everything,
}

// The stack, from its end.
const DEV: i16 = -4;
const SLOT: i16 = -8;
const KEY: i16 = -12;
const COARSE_BASE: i16 = -24;
const STATE: i16 = -32;
const MASK: i16 = -40;

pub fn issue(event: &Event, maps: Maps, marks: Marks, lies: Lies) -> Vec<u64> {
    let mut program = Writer::new(maps, marks);
    program.enter(event, lies);
    let (a, dataless, finish) = (&mut program.a, program.dataless, program.finish);
    a.jump_if(If::Equal, R8, F::Number(0), dataless);
    program.refuse_odd();
    program.count_one(state::ISSUED);
    program.take_on();
    program.mark();
    // No sectors: a flush, which changes nothing, or a command that was passed through to the device, which may. Which
    // of those only read cannot be told: decision 7.
    let a = &mut program.a;
    a.here(dataless);
    if let Some(bytes) = event.bytes {
        a.load(Size::U32, R1, R6, bytes);
        a.jump_if(If::Equal, R1, F::Number(0), finish);
        program.count_one(state::UNKNOWN);
    }
    program.end()
}

pub fn complete(event: &Event, maps: Maps, marks: Marks, lies: Lies) -> Vec<u64> {
    let mut program = Writer::new(maps, marks);
    program.enter(event, lies);
    let (a, finish, dataless) = (&mut program.a, program.finish, program.dataless);
    a.jump_if(If::Equal, R8, F::Number(0), dataless);
    // A command that was passed through has sector -1 here, and was noticed when it was issued.
    a.set(R1, F::Reg(R7));
    a.alu(Alu::ShiftRight, R1, F::Number(requests::SECTOR_BITS));
    a.jump_if(If::NotEqual, R1, F::Number(0), finish);
    #[cfg(test)]
    if lies == Lies::Completions {
        program.overlook_some();
    }
    program.refuse_odd();
    program.count_one(state::COMPLETED);
    // Counted before it is taken off the table, so that somebody who adds up both never misses it.
    program.a.set(R1, F::Reg(R8));
    program.a.atomic(Atomic::Add, R9, state::SECTORS, R1);
    program.take_off(true);
    program.mark();
    program.a.here(dataless);
    program.end()
}

pub fn requeue(event: &Event, maps: Maps, marks: Marks, lies: Lies) -> Vec<u64> {
    let mut program = Writer::new(maps, marks);
    program.enter(event, lies);
    let dataless = program.dataless;
    program.a.jump_if(If::Equal, R8, F::Number(0), dataless);
    program.refuse_odd();
    program.take_off(false);
    program.a.here(dataless);
    program.end()
}

/// The parts of the programs. From `enter` on, R7 is the sector, R8 their number, R9 the disk's state.
struct Writer {
    a: Assembler,
    maps: Maps,
    marks: Marks,
    /// A request without sectors.
    dataless: Label,
    /// A request that the tables have no room for.
    odd: Label,
    finish: Label,
}

impl Writer {
    fn new(maps: Maps, marks: Marks) -> Self {
        let mut a = Assembler::default();
        let (dataless, odd, finish) = (a.label(), a.label(), a.label());
        Self {
            a,
            maps,
            marks,
            dataless,
            odd,
            finish,
        }
    }

    /// Leaves for reads and for disks that nobody watches.
    fn enter(&mut self, event: &Event, lies: Lies) {
        let (maps, finish) = (self.maps, self.finish);
        let a = &mut self.a;
        a.set(R6, F::Reg(R1));
        a.load(Size::U8, R1, R6, event.rwbs);
        a.jump_if(If::Equal, R1, F::Number(i32::from(b'R')), finish);
        a.load(Size::U32, R1, R6, event.dev);
        a.store(Size::U32, R10, DEV, R1);
        self.look_up(maps.disks, DEV);
        let a = &mut self.a;
        a.load(Size::U32, R7, R0, 0);
        a.store(Size::U32, R10, SLOT, R7);
        self.look_up(maps.states, SLOT);
        let a = &mut self.a;
        a.set(R9, F::Reg(R0));
        a.load(Size::U64, R7, R6, event.sector);
        a.load(Size::U32, R8, R6, event.nr_sector);
        match lies {
            Lies::None => {}
            #[cfg(test)]
            Lies::Completions => {}
            #[cfg(test)]
            Lies::Everything => self.overlook_some(),
        }
    }

    #[cfg(test)]
    fn overlook_some(&mut self) {
        let a = &mut self.a;
        a.set(R1, F::Reg(R7));
        a.alu(Alu::ShiftRight, R1, F::Number(3));
        a.alu(Alu::And, R1, F::Number(63));
        a.jump_if(If::Equal, R1, F::Number(5), self.finish);
    }

    /// R0 becomes the value of `map` under the key at `key` on the stack; leaves if there is none.
    fn look_up(&mut self, map: i32, key: i16) {
        let a = &mut self.a;
        a.set_map(R1, map);
        a.set(R2, F::Reg(R10));
        a.alu(Alu::Add, R2, F::Number(i32::from(key)));
        a.call(MAP_LOOKUP);
        a.jump_if(If::Equal, R0, F::Number(0), self.finish);
    }

    fn count_one(&mut self, counter: i16) {
        self.a.set(R1, F::Number(1));
        self.a.atomic(Atomic::Add, R9, counter, R1);
    }

    /// A sector or a length that the table's entries have no room for.
    fn refuse_odd(&mut self) {
        let a = &mut self.a;
        for (reg, bits) in [(R7, requests::SECTOR_BITS), (R8, requests::LEN_BITS)] {
            a.set(R1, F::Reg(reg));
            a.alu(Alu::ShiftRight, R1, F::Number(bits));
            a.jump_if(If::NotEqual, R1, F::Number(0), self.odd);
        }
    }

    /// R5 becomes the request's bucket, and R3 its entry without a generation. See `requests::bucket`.
    fn find_bucket(&mut self) {
        let a = &mut self.a;
        a.set_wide(R1, requests::GOLDEN);
        a.alu(Alu::Mul, R1, F::Reg(R7));
        a.alu(Alu::ShiftRight, R1, F::Number(64 - requests::BUCKET_BITS));
        a.load(Size::U32, R2, R10, SLOT);
        a.alu(Alu::ShiftLeft, R2, F::Number(requests::BUCKET_BITS));
        a.alu(Alu::Or, R1, F::Reg(R2));
        a.store(Size::U32, R10, KEY, R1);
        self.look_up(self.maps.requests, KEY);
        let a = &mut self.a;
        a.set(R5, F::Reg(R0));
        a.set(R3, F::Reg(R7));
        a.alu(Alu::ShiftLeft, R3, F::Number(requests::LEN_BITS));
        a.alu(Alu::Or, R3, F::Reg(R8));
    }

    /// Enters the request into the table.
    fn take_on(&mut self) {
        self.find_bucket();
        let entered = self.a.label();
        self.a.load(Size::U64, R1, R9, state::GENERATION);
        self.a.alu(Alu::Or, R3, F::Reg(R1));
        for entry in 0..requests::ENTRIES_PER_BUCKET {
            let (a, at) = (&mut self.a, entry * 8);
            let next = a.label();
            a.load(Size::U64, R0, R5, at);
            a.jump_if(If::NotEqual, R0, F::Number(0), next);
            self.replace(at, R3, entered);
            self.a.here(next);
        }
        self.count_one(state::OVERFLOWED);
        self.a.here(entered);
    }

    /// Replaces the entry at `R5 + at`, which was seen to be R0, by `with`, and then goes to `done`; comes back if
    /// it has changed meanwhile.
    fn replace(&mut self, at: i16, with: Reg, done: Label) {
        let a = &mut self.a;
        match self.marks {
            Marks::Bits => {
                a.set(R2, F::Reg(R0));
                a.atomic(Atomic::CompareExchange, R5, at, with);
                a.jump_if(If::Equal, R0, F::Reg(R2), done);
            }
            Marks::Bytes => {
                a.store(Size::U64, R5, at, with);
                a.jump(done);
            }
        }
    }

    /// Takes the request off the table, whatever its generation. Of a request that is only done in part, the rest
    /// stays under its own first sector.
    fn take_off(&mut self, may_be_in_part: bool) {
        self.find_bucket();
        let (rest, taken) = (self.a.label(), self.a.label());
        self.a.set(R4, F::Number(0));
        self.a
            .alu(Alu::ShiftLeft, R3, F::Number(requests::GENERATION_BITS));
        for entry in 0..requests::ENTRIES_PER_BUCKET {
            self.remove_if(entry, 0, taken);
        }
        if may_be_in_part {
            // The entry of a longer request, in the high bits of which R3 is the sector alone.
            let sector_at = requests::LEN_BITS + requests::GENERATION_BITS;
            self.a.alu(Alu::ShiftRight, R3, F::Number(sector_at));
            for entry in 0..requests::ENTRIES_PER_BUCKET {
                self.remove_if(entry, requests::LEN_BITS, rest);
            }
            let a = &mut self.a;
            a.jump(taken);
            a.here(rest);
            // R2 is the entry that was there.
            a.alu(Alu::And, R2, F::Number((1 << requests::LEN_BITS) - 1));
            a.jump_if(If::AtMost, R2, F::Reg(R8), taken);
            self.keep_rest();
        }
        self.a.here(taken);
    }

    /// Frees the entry with this number and goes to `done`, if its bits from `skip` on are those of R3. R4 is 0; R2
    /// becomes the entry.
    fn remove_if(&mut self, entry: i16, skip: i32, done: Label) {
        let (a, at) = (&mut self.a, entry * 8);
        let next = a.label();
        a.load(Size::U64, R0, R5, at);
        a.set(R1, F::Reg(R0));
        a.alu(Alu::ShiftLeft, R1, F::Number(requests::GENERATION_BITS));
        if skip > 0 {
            // Sector 0 looks like a free entry.
            a.jump_if(If::Equal, R0, F::Number(0), next);
            a.alu(Alu::ShiftRight, R1, F::Number(skip + requests::GENERATION_BITS));
        }
        a.jump_if(If::NotEqual, R1, F::Reg(R3), next);
        if matches!(self.marks, Marks::Bytes) {
            a.set(R2, F::Reg(R0));
        }
        self.replace(at, R4, done);
        self.a.here(next);
    }

    /// Enters what is left of a request of R2 sectors, of which the first R8 are done.
    fn keep_rest(&mut self) {
        let a = &mut self.a;
        a.store(Size::U64, R10, MASK, R8);
        a.alu(Alu::Sub, R2, F::Reg(R8));
        a.alu(Alu::Add, R7, F::Reg(R8));
        a.set(R8, F::Reg(R2));
        self.take_on();
        let a = &mut self.a;
        a.load(Size::U64, R8, R10, MASK);
        a.alu(Alu::Sub, R7, F::Reg(R8));
    }

    /// Marks every chunk of the request, and leaves.
    fn mark(&mut self) {
        self.look_up(self.maps.marks, SLOT);
        let (a, finish) = (&mut self.a, self.finish);
        let turn = a.label();
        a.set(R6, F::Reg(R0));
        // From sectors to the numbers of the first and the last chunk.
        a.alu(Alu::Add, R8, F::Reg(R7));
        a.alu(Alu::Sub, R8, F::Number(1));
        a.load(Size::U64, R1, R9, state::CHUNK_SHIFT);
        a.alu(Alu::And, R1, F::Number(63));
        a.alu(Alu::ShiftRight, R7, F::Reg(R1));
        a.alu(Alu::ShiftRight, R8, F::Reg(R1));
        a.load(Size::U64, R1, R9, state::COARSE_BASE);
        a.store(Size::U64, R10, COARSE_BASE, R1);
        a.store(Size::U64, R10, STATE, R9);
        a.set(R9, F::Number(0));
        a.here(turn);
        a.jump_if(If::Above, R7, F::Reg(R8), finish);
        let out = a.label();
        a.jump_if(If::AtLeast, R9, F::Number(layout::TURNS_MAX), out);
        a.alu(Alu::Add, R9, F::Number(1));
        match self.marks {
            Marks::Bits => self.mark_bits(turn, out),
            Marks::Bytes => self.mark_bytes(turn, out),
        }
        // Beyond the disk's end, or longer than a request can be.
        self.a.here(out);
        self.a.load(Size::U64, R9, R10, STATE);
        self.a.jump(self.odd);
    }

    /// One turn: up to 64 chunks from R7 on, R7 moves behind them.
    fn mark_bits(&mut self, turn: Label, out: Label) {
        let (fine, tail, set) = (self.a.label(), self.a.label(), self.a.label());
        self.coarse_or(fine);
        let a = &mut self.a;
        // One bit for 4096 chunks.
        a.set(R1, F::Reg(R7));
        a.alu(Alu::ShiftRight, R1, F::Number(18));
        a.load(Size::U64, R2, R10, COARSE_BASE);
        a.alu(Alu::Add, R1, F::Reg(R2));
        a.set(R2, F::Reg(R7));
        a.alu(Alu::ShiftRight, R2, F::Number(12));
        a.alu(Alu::And, R2, F::Number(63));
        a.set(R3, F::Number(1));
        a.alu(Alu::ShiftLeft, R3, F::Reg(R2));
        a.alu(Alu::Add, R7, F::Number(layout::COARSE_CHUNKS_OF_BITS));
        a.jump(set);

        a.here(fine);
        a.set(R1, F::Reg(R7));
        a.alu(Alu::ShiftRight, R1, F::Number(6));
        a.set(R2, F::Reg(R7));
        a.alu(Alu::And, R2, F::Number(63));
        a.set(R3, F::Number(-1));
        a.alu(Alu::ShiftLeft, R3, F::Reg(R2));
        a.alu(Alu::Or, R7, F::Number(63));
        a.jump_if(If::Above, R7, F::Reg(R8), tail);
        a.alu(Alu::Add, R7, F::Number(1));
        a.jump(set);
        // The last chunk lies within this word.
        a.here(tail);
        a.set(R2, F::Reg(R8));
        a.alu(Alu::And, R2, F::Number(63));
        a.alu(Alu::Xor, R2, F::Number(63));
        a.set(R4, F::Number(-1));
        a.alu(Alu::ShiftRight, R4, F::Reg(R2));
        a.alu(Alu::And, R3, F::Reg(R4));
        a.set(R7, F::Reg(R8));
        a.alu(Alu::Add, R7, F::Number(1));

        a.here(set);
        a.store(Size::U64, R10, MASK, R3);
        self.look_up_mark(R1, out);
        let a = &mut self.a;
        a.load(Size::U64, R3, R10, MASK);
        // A word that many write is not written again for nothing.
        a.load(Size::U64, R1, R0, 0);
        a.alu(Alu::And, R1, F::Reg(R3));
        a.jump_if(If::Equal, R1, F::Reg(R3), turn);
        a.atomic(Atomic::Or, R0, 0, R3);
        a.jump(turn);
    }

    /// One turn: the chunk R7.
    fn mark_bytes(&mut self, turn: Label, out: Label) {
        let (fine, set) = (self.a.label(), self.a.label());
        self.coarse_or(fine);
        let a = &mut self.a;
        a.set(R3, F::Reg(R7));
        a.alu(Alu::ShiftRight, R3, F::Number(8));
        a.load(Size::U64, R2, R10, COARSE_BASE);
        a.alu(Alu::Add, R3, F::Reg(R2));
        a.alu(Alu::Add, R7, F::Number(layout::COARSE_CHUNKS_OF_BYTES));
        a.jump(set);
        a.here(fine);
        a.set(R3, F::Reg(R7));
        a.alu(Alu::Add, R7, F::Number(1));

        a.here(set);
        a.store(Size::U64, R10, MASK, R3);
        a.set(R1, F::Reg(R3));
        a.alu(Alu::ShiftRight, R1, F::Number(3));
        self.look_up_mark(R1, out);
        let a = &mut self.a;
        a.load(Size::U64, R3, R10, MASK);
        a.alu(Alu::And, R3, F::Number(7));
        a.alu(Alu::Add, R0, F::Reg(R3));
        a.load(Size::U8, R1, R0, 0);
        a.jump_if(If::NotEqual, R1, F::Number(0), turn);
        a.set(R1, F::Number(1));
        a.store(Size::U8, R0, 0, R1);
        a.jump(turn);
    }

    /// Goes on if a whole coarse unit begins at R7, else to `fine`.
    fn coarse_or(&mut self, fine: Label) {
        let last_of_unit = self.marks.coarse_chunks() - 1;
        let a = &mut self.a;
        a.set(R1, F::Reg(R7));
        a.alu(Alu::And, R1, F::Number(last_of_unit));
        a.jump_if(If::NotEqual, R1, F::Number(0), fine);
        a.set(R1, F::Reg(R7));
        a.alu(Alu::Add, R1, F::Number(last_of_unit));
        a.jump_if(If::Above, R1, F::Reg(R8), fine);
    }

    /// R0 becomes the word of the map of marks (R6) with the number in `index`; to `out` if there is none.
    fn look_up_mark(&mut self, index: Reg, out: Label) {
        let a = &mut self.a;
        // A number that is too large for a key must not be cut to a smaller one.
        a.set(R2, F::Reg(index));
        a.alu(Alu::ShiftRight, R2, F::Number(32));
        a.jump_if(If::NotEqual, R2, F::Number(0), out);
        a.store(Size::U32, R10, KEY, index);
        a.set(R1, F::Reg(R6));
        a.set(R2, F::Reg(R10));
        a.alu(Alu::Add, R2, F::Number(i32::from(KEY)));
        a.call(MAP_LOOKUP);
        a.jump_if(If::Equal, R0, F::Number(0), out);
    }

    fn end(mut self) -> Vec<u64> {
        self.a.jump(self.finish);
        self.a.here(self.odd);
        self.count_one(state::ODD);
        self.a.here(self.finish);
        // Zero: the record is passed on to nobody.
        self.a.set(R0, F::Number(0));
        self.a.exit();
        self.a.finish()
    }
}
