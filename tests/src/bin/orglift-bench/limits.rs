//! What the machine itself can do, and hence the time below which no first copy can be.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

use anyhow::Context;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rand::Rng;

use crate::{
    disk::{Aligned, BLOCK, open_direct},
    machine::settle,
    report::Report,
};

const GIB: f64 = (1_u64 << 30) as f64;
const PROCESSORS: f64 = 2.0;

/// What a TLS record holds.
const RECORD: usize = 16 << 10;

/// Bytes that each of the computations gets to do.
const SAMPLE: usize = 256 << 20;

/// Reports the limits, and the lower bound for a copy of `bytes` of which `data_bytes` are data.
pub fn measure(
    device: &Path,
    dir: &Path,
    bytes: u64,
    data_bytes: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let read_by_one = read(device, bytes, 1)?;
    let read_by_two = read(device, bytes, 2)?;
    let mut blocks = vec![0; SAMPLE];
    rand::rng().fill_bytes(&mut blocks);
    let write = write(&dir.join("written"), &blocks, data_bytes)?;
    let tcp = loopback(data_bytes)?;
    let aes = aes_256_gcm(&mut blocks)?;
    let blake3 = per_gib(SAMPLE, || {
        for block in blocks.chunks(BLOCK) {
            std::hint::black_box(blake3::hash(block));
        }
    });
    let lz4 = per_gib(SAMPLE, || {
        for block in blocks.chunks(BLOCK) {
            std::hint::black_box(lz4_flex::block::compress(block));
        }
    });
    let (gib, data_gib) = (bytes as f64 / GIB, data_bytes as f64 / GIB);
    // Both ends hash and both encrypt or decrypt; while loopback carries, both processors work.
    let computing = data_gib * (2.0 * (aes + blake3 + tcp) + write) + gib * read_by_one;
    let bound = (computing / PROCESSORS).max(data_gib * write);
    for (name, seconds_per_gib) in [
        ("reading the device directly, one thread", read_by_one),
        ("reading the device directly, two threads", read_by_two),
        ("writing and fsync to the file system", write),
        ("TCP over loopback", tcp),
        ("AES-256-GCM in records of 16 KiB, one thread", aes),
        ("BLAKE3 of blocks of 512 KiB, one thread", blake3),
        ("LZ4 of incompressible blocks, one thread", lz4),
    ] {
        report.note(format_args!("limit: {name}: {:.2} GiB/s", 1.0 / seconds_per_gib));
        report.figures(&format!("limit: {name}, s/GiB"), seconds_per_gib);
    }
    report.note(format_args!(
        "limit: no encrypted and verified copy on {PROCESSORS} processors takes less than {bound:.2} s: it reads \
         everything once, sends, encrypts, decrypts and writes the data, and hashes it at both ends"
    ));
    report.figures("limit: first copy, s", bound);
    Ok(())
}

/// Seconds per GiB of `work`, the better of two.
fn per_gib(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut timed = || {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    timed().min(timed()) * GIB / bytes as f64
}

fn read(device: &Path, bytes: u64, threads: u64) -> anyhow::Result<f64> {
    let file = open_direct(device)?;
    let read_part = |part: u64| {
        let mut block = Aligned::new(BLOCK);
        let mut at = part * BLOCK as u64;
        while at < bytes {
            file.read_exact_at(block.slice(), at)?;
            at += threads * BLOCK as u64;
        }
        std::io::Result::Ok(())
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|part| scope.spawn(move || read_part(part)))
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().expect("reading does not panic"))
    })
    .with_context(|| format!("cannot read {}", device.display()))?;
    Ok(began.elapsed().as_secs_f64() * GIB / bytes as f64)
}

fn write(path: &Path, blocks: &[u8], bytes: u64) -> anyhow::Result<f64> {
    settle();
    let began = Instant::now();
    let mut file = File::create_new(path)?;
    let mut left = usize::try_from(bytes)?;
    for block in blocks.chunks(BLOCK).cycle() {
        if left == 0 {
            break;
        }
        let len = left.min(block.len());
        file.write_all(&block[..len])?;
        left -= len;
    }
    file.sync_all()?;
    let seconds = began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(seconds * GIB / bytes as f64)
}

fn loopback(bytes: u64) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let mut block = vec![0; BLOCK];
            while receiver.read(&mut block)? > 0 {}
            std::io::Result::Ok(())
        });
        let block = vec![0; BLOCK];
        for _ in 0..bytes / BLOCK as u64 {
            sender.write_all(&block)?;
        }
        drop(sender);
        receiving.join().expect("receiving does not panic")
    })
    .context("cannot send over loopback")?;
    Ok(began.elapsed().as_secs_f64() * GIB / bytes as f64)
}

fn aes_256_gcm(blocks: &mut [u8]) -> anyhow::Result<f64> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).ok().context("no AES")?;
    let key = LessSafeKey::new(key);
    Ok(per_gib(blocks.len(), || {
        for record in blocks.chunks_mut(RECORD) {
            // The same nonce again and again: nobody reads this.
            let nonce = Nonce::assume_unique_for_key([1; 12]);
            let sealed = key.seal_in_place_separate_tag(nonce, Aad::empty(), record);
            std::hint::black_box(sealed.is_ok());
        }
    }))
}
