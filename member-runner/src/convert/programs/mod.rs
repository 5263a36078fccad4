//! What only the guest's own programs can make, by the guest's own programs in a [sandbox](super::sandbox).
//!
//! - [`initramfs`]: an initramfs for every kernel, with the drivers of an instance.
//! - [`boot_loader`]: the menu of GRUB, and the way by which firmware finds it.

pub mod boot_loader;
pub mod initramfs;
