//! What executes a machine's instructions.
//!
//! A device file and a processor that says it can are no proof of KVM. In a virtual machine that lends it on badly, the
//! first instructions of the BIOS may never end, or those after it: one was seen where BIOS and GRUB did their work, and
//! neither UEFI nor a kernel said a word. So a few instructions are executed first in each mode that a boot passes
//! through: real mode, protected mode, and 64 bits with page tables.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    time::Duration,
};

use tokio::{sync::OnceCell, time::timeout};

use super::{MachineError, files, process};

/// It takes 100 ms where it works at all, with KVM or without.
const TEST_MAX: Duration = Duration::from_secs(2);
/// The device `isa-debug-exit` ends QEMU with twice the byte written to it, plus one.
const EXIT_BYTE: u8 = 0x10;
const EXIT_CODE: i32 = 0x21;
const ROM_LEN: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    Kvm,
    /// QEMU translates every instruction, which is 10 to 30 times slower.
    Tcg,
}

impl Accelerator {
    /// KVM if it works for a machine of ours, found out once per process. An error if no machine can be run at all.
    pub async fn best() -> Result<Self, MachineError> {
        static BEST: OnceCell<Accelerator> = OnceCell::const_new();
        let found = BEST.get_or_try_init(|| async {
            if Path::new("/dev/kvm").exists() && Self::Kvm.works().await? {
                return Ok(Self::Kvm);
            }
            if Self::Tcg.works().await? {
                return Ok(Self::Tcg);
            }
            Err(MachineError::Idle)
        });
        found.await.copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// Starts a machine whose firmware does nothing but count and end it.
    async fn works(self) -> Result<bool, MachineError> {
        let fault = |source: io::Error| MachineError::Process("test", source);
        let rom = files::memory_with(&counting_rom()).map_err(fault)?;
        let rom_path = files::path_of(rom.as_fd());
        let arguments = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "pc",
            "-cpu",
            "max",
            "-m",
            "16M",
            "-device",
            "isa-debug-exit,iobase=0xf4,iosize=1",
            "-accel",
            self.argument(),
            "-bios",
            &rom_path.to_string_lossy(),
        ]
        .map(str::to_owned);
        let mut qemu = process::spawn(&arguments, &[rom.as_raw_fd()])?;
        let ended = timeout(TEST_MAX, qemu.wait()).await;
        if let Ok(status) = ended {
            return Ok(status.map_err(fault)?.code() == Some(EXIT_CODE));
        }
        qemu.kill().await.map_err(fault)?;
        Ok(false)
    }
}

/// The last 256 bytes are code and its descriptors, which a processor in real mode has at 0xf000:0xff00 as well. It
/// begins sixteen bytes before the end.
fn counting_rom() -> Vec<u8> {
    let mut rom = vec![0xf4; ROM_LEN];
    rom[0xff00..0xff00 + CODE.len()].copy_from_slice(&CODE);
    // jmp 0xf000:0xff26
    rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0x26, 0xff, 0x00, 0xf0]);
    rom
}

#[rustfmt::skip]
const CODE: [u8; 205] = [
    // 00: the descriptors: none, 08: code of 32 bits, 10: data, 18: code of 64 bits
    0, 0, 0, 0, 0, 0, 0, 0,
    0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0,
    0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0,
    0xff, 0xff, 0, 0, 0, 0x9a, 0xaf, 0,
    // 20: where they are
    0x1f, 0, 0x00, 0xff, 0x0f, 0x00,
    // 26: real mode
    0xfa, // cli
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd0, // mov ss, ax
    0xbc, 0x00, 0x10, // mov sp, 0x1000
    0xb9, 0xe8, 0x03, // mov cx, 1000
    0x51, // push cx
    0x59, // pop cx
    0xe2, 0xfc, // loop to the push
    0x66, 0x2e, 0x0f, 0x01, 0x16, 0x20, 0xff, // lgdt cs:[0xff20]
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0c, 0x01, // or al, 1
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0x66, 0xea, 0x4c, 0xff, 0x0f, 0x00, 0x08, 0x00, // jmp 0x08:0xfff4c
    // 4c: protected mode
    0x66, 0xb8, 0x10, 0x00, // mov ax, 0x10
    0x8e, 0xd8, // mov ds, ax
    0x8e, 0xc0, // mov es, ax
    0x8e, 0xd0, // mov ss, ax
    0xbc, 0x00, 0x10, 0x00, 0x00, // mov esp, 0x1000
    0xbf, 0x00, 0x10, 0x00, 0x00, // mov edi, 0x1000
    0x31, 0xc0, // xor eax, eax
    0xb9, 0x00, 0x0c, 0x00, 0x00, // mov ecx, 0xc00
    0xfc, // cld
    0xf3, 0xab, // rep stosd
    // Three tables, by which the first two megabytes are where they are.
    0xc7, 0x05, 0x00, 0x10, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00, // mov dword [0x1000], 0x2003
    0xc7, 0x05, 0x00, 0x20, 0x00, 0x00, 0x03, 0x30, 0x00, 0x00, // mov dword [0x2000], 0x3003
    0xc7, 0x05, 0x00, 0x30, 0x00, 0x00, 0x83, 0x00, 0x00, 0x00, // mov dword [0x3000], 0x83
    0xb9, 0xe8, 0x03, 0x00, 0x00, // mov ecx, 1000
    0x51, // push ecx
    0x59, // pop ecx
    0xe2, 0xfc, // loop to the push
    0x0f, 0x20, 0xe0, // mov eax, cr4
    0x0c, 0x20, // or al, 0x20: entries of eight bytes
    0x0f, 0x22, 0xe0, // mov cr4, eax
    0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, 0x1000
    0x0f, 0x22, 0xd8, // mov cr3, eax
    0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080: EFER
    0x0f, 0x32, // rdmsr
    0x80, 0xcc, 0x01, // or ah, 1: 64 bits
    0x0f, 0x30, // wrmsr
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0d, 0x00, 0x00, 0x00, 0x80, // or eax, 0x80000000: page tables
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0xea, 0xbf, 0xff, 0x0f, 0x00, 0x18, 0x00, // jmp 0x18:0xfffbf
    // bf: 64 bits
    0xb9, 0xe8, 0x03, 0x00, 0x00, // mov ecx, 1000
    0x51, // push rcx
    0x59, // pop rcx
    0xe2, 0xfc, // loop to the push
    0xb0, EXIT_BYTE, // mov al, EXIT_BYTE
    0xe6, 0xf4, // out 0xf4, al
    0xf4, // hlt
];
