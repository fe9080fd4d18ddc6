//! Huge pages, of which the processor's table of addresses needs one entry for 2 MiB rather than for 4 KiB.

use std::mem::MaybeUninit;

/// Asks for huge pages where nothing has been touched yet. Only whole ones within the room are asked for, so that it takes
/// no more memory than it did; a system that has none goes on without.
pub(in crate::kernel) fn prefer_huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    const HUGE: usize = 2 << 20;
    let bytes = size_of_val(room);
    if bytes < 2 * HUGE {
        return;
    }
    let start = room.as_mut_ptr().cast::<libc::c_void>();
    let skipped = start.addr().wrapping_neg() % HUGE;
    let length = (bytes - skipped) / HUGE * HUGE;
    // SAFETY: the range lies within memory that is borrowed exclusively, and the advice changes no contents.
    unsafe {
        libc::madvise(start.byte_add(skipped), length, libc::MADV_HUGEPAGE);
    }
}
