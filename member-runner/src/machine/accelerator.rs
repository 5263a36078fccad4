//! What executes a machine's instructions.
//!
//! A device file and a processor that says it can are no proof of KVM: in a virtual machine that lends it on badly, the
//! first instructions of the BIOS never end. So a few instructions of real mode are executed first.

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

/// A processor begins sixteen bytes before the end of its firmware.
fn counting_rom() -> Vec<u8> {
    const CODE: [u8; 19] = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd0, // mov ss, ax
        0xbc, 0x00, 0x10, // mov sp, 0x1000
        0xb9, 0xe8, 0x03, // mov cx, 1000
        0x51, // push cx
        0x59, // pop cx
        0xe2, 0xfc, // loop to the push
        0xb0, EXIT_BYTE, // mov al, EXIT_BYTE
        0xe6, 0xf4, // out 0xf4, al
        0xf4, // hlt
    ];
    const CODE_AT: usize = 0xff00;
    const START_AT: usize = 0xfff0;
    let mut rom = vec![0xf4; ROM_LEN];
    rom[CODE_AT..CODE_AT + CODE.len()].copy_from_slice(&CODE);
    // jmp 0xf000:0xff00
    rom[START_AT..START_AT + 5].copy_from_slice(&[0xea, 0x00, 0xff, 0x00, 0xf0]);
    rom
}
