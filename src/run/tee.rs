//! Captures of a run: what every tester port received, as a nanosecond pcap.
//!
//! Frames are copied into recycled buffers and written by a thread of their own; the queue between them is bounded,
//! and a full one is waited for: neither virtual nor elastic time minds. Stamps are nominal time since the start of
//! the run.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::RunError;
use super::engine::Tee;
use crate::frame::Frame;
use crate::frame::bytes::materialise;
use crate::units::Time;
use crate::wire::capture::CaptureWriter;

/// Frames between the run and the writer.
const QUEUE: usize = 1024;
/// Captures stop growing here; the rest of the run goes uncaptured and the file stays readable.
const BYTES_MAX: u64 = 8 << 30;

struct Copy {
    ts_ns: u64,
    bytes: Vec<u8>,
}

/// Writes frames to a capture file.
pub struct PcapTee {
    to_writer: Option<Sender<Copy>>,
    recycled: Receiver<Copy>,
    writer: Option<JoinHandle<()>>,
    bytes: u64,
}

impl PcapTee {
    /// Creates the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<PcapTee, RunError> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|e| RunError::Setup(format!("--pcap {name}: {e}")))?;
        let mut out = CaptureWriter::new(BufWriter::with_capacity(1 << 20, file))
            .map_err(|e| RunError::Setup(format!("--pcap {name}: {e}")))?;
        let (to_writer, from_run) = bounded::<Copy>(QUEUE);
        let (give_back, recycled) = bounded::<Copy>(2 * QUEUE);
        for _ in 0..QUEUE {
            let _ = give_back.try_send(Copy { ts_ns: 0, bytes: Vec::with_capacity(16 << 10) });
        }
        let writer = std::thread::spawn(move || {
            for copy in from_run {
                // A full disk ends the capture, not the run; the receiver going away tells the tee.
                if out.write(copy.ts_ns, &copy.bytes).is_err() {
                    return;
                }
                let _ = give_back.try_send(copy);
            }
            let _ = out.finish();
        });
        Ok(PcapTee { to_writer: Some(to_writer), recycled, writer: Some(writer), bytes: 0 })
    }
}

impl<F: Frame> Tee<F> for PcapTee {
    fn frame(&mut self, now: Time, frame: &F) {
        let Some(to_writer) = &self.to_writer else { return };
        let Ok(mut copy) = self.recycled.recv() else {
            self.to_writer = None;
            return;
        };
        copy.ts_ns = now.0 / 1000;
        if let Some(bytes) = frame.wire_bytes() {
            copy.bytes.clear();
            copy.bytes.extend_from_slice(bytes);
        } else if materialise(frame, &mut copy.bytes).is_err() {
            return;
        }
        self.bytes += copy.bytes.len() as u64;
        if to_writer.send(copy).is_err() || self.bytes > BYTES_MAX {
            self.to_writer = None;
        }
    }
}

impl Drop for PcapTee {
    fn drop(&mut self) {
        self.to_writer = None;
        if let Some(w) = self.writer.take() {
            let _ = w.join();
        }
    }
}
