//! CPU time of a thread.

/// CPU seconds the calling thread has used, in user space and kernel (`CLOCK_THREAD_CPUTIME_ID`).
///
/// For work that never waits, such as the engine of virtual time. A worker that spins uses CPU whether or not
/// it has work: count its busy TSC instead. Cost: one system call, about 100 ns.
pub fn thread_cpu_s() -> f64 {
    super::clock(libc::CLOCK_THREAD_CPUTIME_ID).as_secs_f64()
}

/// How often the kernel has taken the core from the calling thread to give it to others (`ru_nivcsw`). Cost: one system
/// call, about 200 ns. 0 where the system does not tell.
#[cfg(target_os = "linux")]
pub fn thread_preemptions() -> u64 {
    // SAFETY: all zeroes are a valid rusage, which the call fills in; nothing else is touched.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_THREAD, &mut usage) != 0 {
            return 0;
        }
        usage
    };
    u64::try_from(usage.ru_nivcsw).unwrap_or(0)
}

/// How often the kernel has taken the core from the calling thread: not known here.
#[cfg(not(target_os = "linux"))]
pub fn thread_preemptions() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn work_counts_and_sleep_does_not() {
        let start = thread_cpu_s();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_cpu_s() - start < 0.02, "sleep was billed as CPU time");

        let start = thread_cpu_s();
        let end = Instant::now() + Duration::from_secs(5);
        while thread_cpu_s() - start < 0.01 {
            assert!(Instant::now() < end, "10 ms of CPU time were not billed within 5 s of work");
        }
    }
}
