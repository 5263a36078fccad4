//! Writes BPF instructions: linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst.

/// A register. `R1` to `R5` do not survive a call, `R6` to `R9` do, and `R10` is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// What an instruction takes besides its destination.
#[derive(Debug, Clone, Copy)]
pub enum From {
    Reg(Reg),
    Number(i32),
}

/// 64-bit arithmetic.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Xor = 0xa0,
    Move = 0xb0,
}

/// Comparisons of 64-bit numbers without sign.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum If {
    Equal = 0x10,
    Above = 0x20,
    AtLeast = 0x30,
    NotEqual = 0x50,
    AtMost = 0xb0,
}

#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Size {
    U32 = 0x00,
    U8 = 0x10,
    U64 = 0x18,
}

/// Operations on a 64-bit word that other processors see as one.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Atomic {
    /// The only one before Linux 5.12.
    Add = 0x00,
    Or = 0x40,
    /// Stores the register if the word equals `R0`; then `R0` is what the word was.
    CompareExchange = 0xf1,
}

/// Calls of the kernel.
pub const MAP_LOOKUP: i32 = 1;

/// A place in the program.
#[derive(Debug, Clone, Copy)]
pub struct Label(usize);

#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn emit(&mut self, op: u8, dst: Reg, src: u8, offset: i16, number: i32) {
        let registers = dst as u8 | src << 4;
        self.code.push(
            u64::from(op)
                | u64::from(registers) << 8
                | u64::from(offset.cast_unsigned()) << 16
                | u64::from(number.cast_unsigned()) << 32,
        );
    }

    /// An instruction of class `op` whose second operand is a register or a number.
    fn emit_from(&mut self, op: u8, dst: Reg, from: From) {
        const SOURCE_IS_REGISTER: u8 = 0x08;
        match from {
            From::Reg(src) => self.emit(op | SOURCE_IS_REGISTER, dst, src as u8, 0, 0),
            From::Number(number) => self.emit(op, dst, 0, 0, number),
        }
    }

    pub fn alu(&mut self, op: Alu, dst: Reg, from: From) {
        self.emit_from(0x07 | op as u8, dst, from);
    }

    pub fn set(&mut self, dst: Reg, from: From) {
        self.alu(Alu::Move, dst, from);
    }

    pub fn set_wide(&mut self, dst: Reg, number: u64) {
        self.wide(dst, 0, number);
    }

    pub fn set_map(&mut self, dst: Reg, fd: i32) {
        const IS_MAP: u8 = 1;
        self.wide(dst, IS_MAP, u64::from(fd.cast_unsigned()));
    }

    /// The one instruction that takes two places.
    fn wide(&mut self, dst: Reg, src: u8, number: u64) {
        let low = (number & 0xffff_ffff) as u32;
        self.emit(0x18, dst, src, 0, low.cast_signed());
        self.code.push(number & 0xffff_ffff_0000_0000);
    }

    /// `dst` becomes what lies at `base + offset`.
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.emit(0x61 | size as u8, dst, base as u8, offset, 0);
    }

    pub fn store(&mut self, size: Size, base: Reg, offset: i16, src: Reg) {
        self.emit(0x63 | size as u8, base, src as u8, offset, 0);
    }

    pub fn atomic(&mut self, op: Atomic, base: Reg, offset: i16, src: Reg) {
        self.emit(0xc3 | Size::U64 as u8, base, src as u8, offset, op as i32);
    }

    pub fn call(&mut self, helper: i32) {
        self.emit(0x85, Reg::R0, 0, 0, helper);
    }

    pub fn exit(&mut self) {
        self.emit(0x95, Reg::R0, 0, 0, 0);
    }

    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label names the next instruction.
    pub fn here(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(0x05, Reg::R0, 0, 0, 0);
    }

    pub fn jump_if(&mut self, condition: If, reg: Reg, from: From, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit_from(0x05 | condition as u8, reg, from);
    }

    /// The program, its jumps resolved.
    pub fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label is placed");
            let distance =
                i16::try_from(target.wrapping_sub(at + 1).cast_signed()).expect("programs are short");
            self.code[at] |= u64::from(distance.cast_unsigned()) << 16;
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the bytes that `bpf_asm` and compilers write.
    #[test]
    fn instructions_are_those_of_the_instruction_set() {
        let mut a = Assembler::default();
        let (back, out) = (a.label(), a.label());
        a.here(back);
        a.load(Size::U8, Reg::R1, Reg::R6, 34);
        a.jump_if(If::Equal, Reg::R1, From::Number(0x52), out);
        a.set_map(Reg::R2, 7);
        a.alu(Alu::ShiftRight, Reg::R7, From::Reg(Reg::R1));
        a.store(Size::U64, Reg::R10, -8, Reg::R7);
        a.atomic(Atomic::Or, Reg::R0, 0, Reg::R3);
        a.call(MAP_LOOKUP);
        a.jump(back);
        a.here(out);
        a.exit();
        let expected: [u64; 10] = [
            0x0000_0000_0022_6171,
            0x0000_0052_0007_0115,
            0x0000_0007_0000_1218,
            0,
            0x0000_0000_0000_177f,
            0x0000_0000_fff8_7a7b,
            0x0000_0040_0000_30db,
            0x0000_0001_0000_0085,
            0x0000_0000_fff7_0005,
            0x0000_0000_0000_0095,
        ];
        assert_eq!(a.finish(), expected);
    }
}
