//! Clocks, random bytes and the identity of this boot.
//!
//! Called by the controller and the bank. Must never read the wall clock: a restart policy that
//! follows it would be fooled by a change of date.

use std::io;

use rustix::rand::GetRandomFlags;
use rustix::time::ClockId;

/// Milliseconds since an arbitrary moment of this boot; never runs backwards.
///
/// Source: CLOCK_MONOTONIC in clock_gettime(2).
#[must_use]
pub fn now_monotonic_ms() -> u64 {
    now_monotonic_ns() / 1_000_000
}

/// Nanoseconds since an arbitrary moment of this boot; never runs backwards.
#[must_use]
pub fn now_monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Fills `buffer` from the kernel's random source.
///
/// # Errors
/// The kernel's (none in practice once the machine is up).
///
/// Source: getrandom(2).
pub fn random_bytes(buffer: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while let Some(rest) = buffer.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => at += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The random id of this boot: what is remembered of pids is worthless under another one.
///
/// # Errors
/// The kernel's when `/proc` is not mounted; `InvalidData` when the file holds no UUID.
///
/// Source: /proc/sys/kernel/random/boot_id in random(4).
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_same_at_every_look() {
        let id = boot_id().unwrap();
        assert_eq!(id, boot_id().unwrap());
        assert_ne!(id, [0; 16]);
    }

    #[test]
    fn random_bytes_fills_every_byte_of_the_buffer() {
        // A byte that stays zero in 64 draws would be one that is never written.
        let mut seen = [0u8; 300];
        for _ in 0..64 {
            let mut draw = [0u8; 300];
            random_bytes(&mut draw).unwrap();
            seen.iter_mut()
                .zip(draw)
                .for_each(|(all, byte)| *all |= byte);
        }
        assert!(seen.iter().all(|byte| *byte != 0));
    }

    #[test]
    fn the_monotonic_clock_does_not_run_backwards() {
        let before = now_monotonic_ns();
        assert!(now_monotonic_ns() >= before);
        assert!(now_monotonic_ms() > 0);
    }
}
