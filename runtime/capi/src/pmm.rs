//! `pmm/chPmm.h`: blocks of persistent memory (SPEC H15 to H20).
//!
//! Called by any actor. A block stays mapped when its handle is dropped, until it is freed or the life ends
//! (see `refrain::Block`), so C holds nothing but the address. Must never write to `*addr` when it fails.

use std::ffi::{c_int, c_void};

use refrain::DeletionKey;

use crate::codes::{Code, Coded, K_OK, kn_error};
use crate::names::{PmmName, Wrong, key_of_block, key_to_free, name};
use crate::pointers::{Null, store};

fn wrong(why: &Wrong) -> c_int {
    kn_error(why.code(), why)
}

/// See `chPmm.h` (SPEC H15).
///
/// # Safety
/// As `chPmm.h` says: each pointer is null or points to what the header demands.
// SAFETY: the name is ChorusOS's, `chPmm.h` declares it.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn pmmAllocate(
    addr: *mut usize,
    block: *mut PmmName,
    size: usize,
    del_key: *const c_void,
    del_key_size: usize,
) -> c_int {
    if addr.is_null() {
        return wrong(&Null("addr").into());
    }
    // SAFETY: null or a `PmmName`, by this function's contract.
    let block = match unsafe { name(block, "blockName") } {
        Ok(block) => block,
        Err(why) => return wrong(&why),
    };
    // SAFETY: null or so many bytes, by this function's contract.
    let key = match unsafe { key_of_block(del_key, del_key_size) } {
        Ok(key) => key,
        Err(why) => return wrong(&why),
    };
    match allocate(block, size, key) {
        Ok(address) => {
            // SAFETY: not null, so a place for an address, by this function's contract.
            unsafe { store(addr, address) };
            K_OK
        }
        Err(code) => code,
    }
}

fn allocate(block: &str, size: usize, key: DeletionKey) -> Result<usize, c_int> {
    match refrain::pmm_allocate(block, size as u64, key) {
        Ok(block) => Ok(block.as_ptr().as_ptr().expose_provenance()),
        Err(why) => Err(kn_error(why.family(), &why)),
    }
}

/// See `chPmm.h` (SPEC H17).
///
/// # Safety
/// `block` is null or points to a `PmmName`.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn pmmFree(block: *mut PmmName) -> c_int {
    // SAFETY: by this function's contract.
    let block = match unsafe { name(block, "blockName") } {
        Ok(block) => block,
        Err(why) => return wrong(&why),
    };
    match refrain::pmm_free(block) {
        Ok(()) => K_OK,
        Err(why) => kn_error(why.family(), &why),
    }
}

/// See `chPmm.h` (SPEC H17).
///
/// # Safety
/// `del_key` is null or points to `del_key_size` bytes.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn pmmFreeAll(del_key: *const c_void, del_key_size: usize) -> c_int {
    // SAFETY: by this function's contract.
    let key = match unsafe { key_to_free(del_key, del_key_size) } {
        Ok(key) => key,
        Err(why) => return wrong(&why),
    };
    match refrain::pmm_free_all(key) {
        Ok(0) => kn_error(Code::Unknown, &"no block has this deletion key"),
        Ok(_) => K_OK,
        Err(why) => kn_error(why.family(), &why),
    }
}
