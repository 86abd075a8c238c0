//! Differences of counters: what happened after the warm-up. Maxima (`*_max`) are not subtracted; their owner resets
//! them when the measured part starts. And sums over the queues of a port.

use super::stats::{
    ClassStats, HostStats, PfcStats, QueueStats, SwitchPortStats, SwitchStats, WatchdogStats,
};

/// Counters joined one by one by a function of two.
macro_rules! join {
    ($type:ident, $one:expr, $other:expr, $by:expr, { $($count:ident),* $(,)? } keep { $($kept:ident : $value:expr),* $(,)? }) => {
        $type { $($count: $by($one.$count, $other.$count),)* $($kept: $value,)* }
    };
}

macro_rules! minus {
    ($type:ident, $now:expr, $base:expr, $($fields:tt)*) => {
        join!($type, $now, $base, |now, base| now - base, $($fields)*)
    };
}

fn each<T>(now: &[T], base: &[T], f: impl Fn(&T, &T) -> T) -> Vec<T> {
    now.iter().zip(base).map(|(n, b)| f(n, b)).collect()
}

impl HostStats {
    /// What was counted since `base`, an earlier state of the same port.
    pub fn since(&self, base: &HostStats) -> HostStats {
        let pfc = std::array::from_fn(|p| self.pfc[p].since(&base.pfc[p]));
        HostStats { pfc, ..self.join(base, |now, base| now - base) }
    }

    /// Counters of a port two of whose queues counted `self` and `other`. Pauses are those of `self`: each queue obeys all of
    /// them, and the first one counts.
    pub fn with(&self, other: &HostStats) -> HostStats {
        let rx_buffer_bytes_max = self.rx_buffer_bytes_max.max(other.rx_buffer_bytes_max);
        HostStats { rx_buffer_bytes_max, ..self.join(other, |one, other| one + other) }
    }

    /// Counters joined by a function; the maximum and the pauses are those of `self`.
    fn join(&self, other: &HostStats, by: impl Fn(u64, u64) -> u64) -> HostStats {
        join!(HostStats, self, other, by, {
            tx_frames, tx_bytes, rx_frames, rx_bytes, messages_started, messages_completed, messages_failed,
            local_messages, payload_bytes, retransmitted, nak_tx, nak_rx, rnr_nak_rx, timeouts, out_of_order,
            duplicates, ack_tx, ack_rx, cnp_tx, cnp_rx, ce_rx, rx_unknown, rx_malformed, pool_empty, stream_tx,
            stream_rx, stream_lost, read_tx, read_again, implied_nak, read_rx, rx_overflow, pfc_malformed_tx,
            rnr_nak_tx, credit_waits, datagram_tx, datagram_rx, datagram_lost,
        } keep {
            rx_buffer_bytes_max: self.rx_buffer_bytes_max,
            classes: each(&self.classes, &other.classes, |one, other| {
                join!(ClassStats, one, other, by, { transmissions, arrivals, retransmitted, ce } keep {})
            }),
            pfc: self.pfc,
        })
    }
}

impl PfcStats {
    fn since(&self, base: &PfcStats) -> PfcStats {
        minus!(PfcStats, self, base, { xoff_rx, refresh_rx, xon_rx, xoff_tx, refresh_tx, xon_tx } keep {})
    }
}

impl SwitchStats {
    /// What was counted since `base`, an earlier state of the same switch.
    pub fn since(&self, base: &SwitchStats) -> SwitchStats {
        minus!(SwitchStats, self, base, {
            rx_frames, rx_bytes, tx_frames, tx_bytes, drops, drop_bytes, drops_lossless, ce_marked,
        } keep {
            buffer_bytes_max: self.buffer_bytes_max,
            shared_bytes_max: self.shared_bytes_max,
            headroom_bytes_max: self.headroom_bytes_max,
            ingress_bytes_max: self.ingress_bytes_max,
            ports: each(&self.ports, &base.ports, SwitchPortStats::since),
        })
    }
}

impl SwitchPortStats {
    fn since(&self, base: &SwitchPortStats) -> SwitchPortStats {
        minus!(SwitchPortStats, self, base, { ingress_drops } keep {
            pfc: std::array::from_fn(|p| self.pfc[p].since(&base.pfc[p])),
            queues: std::array::from_fn(|p| self.queues[p].since(&base.queues[p])),
            watchdog: std::array::from_fn(|p| self.watchdog[p].since(&base.watchdog[p])),
        })
    }
}

impl QueueStats {
    fn since(&self, base: &QueueStats) -> QueueStats {
        minus!(QueueStats, self, base, { tx_frames, tx_bytes, ce_marked, drops } keep {
            depth_bytes_max: self.depth_bytes_max,
        })
    }
}

impl WatchdogStats {
    fn since(&self, base: &WatchdogStats) -> WatchdogStats {
        minus!(WatchdogStats, self, base, { storms, restored, tx_drops, rx_drops } keep {})
    }
}
