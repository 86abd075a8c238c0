//! Capture files: reading pcap through libpcap, and writing nanosecond pcap of Ethernet frames.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file is missing or unreadable.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// File as named.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no capture libpcap knows.
    #[error("{} is not a pcap or pcapng file: {why}", path.display())]
    Format {
        /// File as named.
        path: PathBuf,
        /// What libpcap says.
        why: String,
    },
    /// The frames are not Ethernet.
    #[error("{} holds {found} frames, not Ethernet; capture on the port, not on \"any\"", path.display())]
    LinkType {
        /// File as named.
        path: PathBuf,
        /// Name of the link type.
        found: String,
    },
    /// A frame is cut off or damaged; the frames before it were good.
    #[error("{} is damaged at frame {frame}: {why}", path.display())]
    Damaged {
        /// File as named.
        path: PathBuf,
        /// Number of the frame, from 1.
        frame: u64,
        /// What libpcap says.
        why: String,
    },
}

/// One frame of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured<'a> {
    /// Number of the frame, from 1 as in Wireshark.
    pub index: u64,
    /// Nanoseconds since 1970; a multiple of 1,000 in microsecond files.
    pub ts_ns: u64,
    /// Length on the wire, larger than `bytes` when the capture cuts frames.
    pub wire_len: usize,
    /// Bytes from the destination MAC on.
    pub bytes: &'a [u8],
}

/// Reads a capture frame by frame.
pub struct CaptureReader {
    inner: pcap::Capture<pcap::Offline>,
    path: PathBuf,
    frames: u64,
}

impl CaptureReader {
    /// Opens a capture of Ethernet frames: pcap with microseconds or nanoseconds, or pcapng.
    ///
    /// # Errors
    /// [`CaptureError`] names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<CaptureReader, CaptureError> {
        // libpcap reports a missing file as text only; asking first gives the real reason.
        if let Err(source) = std::fs::File::open(path) {
            return Err(CaptureError::Open { path: path.into(), source });
        }
        let inner = pcap::Capture::from_file_with_precision(path, pcap::Precision::Nano)
            .map_err(|e| CaptureError::Format { path: path.into(), why: reason(&e) })?;
        let link = inner.get_datalink();
        if link != pcap::Linktype::ETHERNET {
            let found = link.get_name().unwrap_or_else(|_| format!("link type {}", link.0));
            return Err(CaptureError::LinkType { path: path.into(), found });
        }
        Ok(CaptureReader { inner, path: path.into(), frames: 0 })
    }

    /// The next frame; `None` at the end of the file.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`] names the frame at which the file breaks off.
    pub fn read(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        self.frames += 1;
        match self.inner.next_packet() {
            Ok(p) => Ok(Some(Captured {
                index: self.frames,
                ts_ns: timestamp_ns(p.header.ts.tv_sec, p.header.ts.tv_usec),
                wire_len: p.header.len as usize,
                bytes: p.data,
            })),
            Err(pcap::Error::NoMorePackets) => Ok(None),
            Err(e) => {
                Err(CaptureError::Damaged { path: self.path.clone(), frame: self.frames, why: reason(&e) })
            }
        }
    }
}

/// With nanosecond precision libpcap keeps nanoseconds where microseconds are otherwise. Damaged files hold any bits.
fn timestamp_ns(seconds: i64, nanoseconds: i64) -> u64 {
    let (seconds, nanoseconds) = (seconds.max(0).unsigned_abs(), nanoseconds.max(0).unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn reason(e: &pcap::Error) -> String {
    match e {
        pcap::Error::PcapError(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Longest frame a written capture announces.
const SNAPLEN: u32 = 65_535;

/// Writes a nanosecond pcap of Ethernet frames without FCS.
#[derive(Debug)]
pub struct CaptureWriter<W: Write> {
    out: W,
}

impl<W: Write> CaptureWriter<W> {
    /// Starts a capture on `out`, which should be buffered.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<CaptureWriter<W>> {
        // Magic of nanosecond files, version 2.4, UTC, no accuracy, snap length, link type Ethernet; little
        // endian.
        for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, SNAPLEN, 1u32] {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(CaptureWriter { out })
    }
    /// Appends one whole frame, seen at `ts_ns` nanoseconds since 1970 (or since the start of the run).
    ///
    /// # Errors
    /// Those of the output.
    pub fn write(&mut self, ts_ns: u64, frame: &[u8]) -> io::Result<()> {
        let len = frame.len().min(SNAPLEN as usize);
        let seconds = (ts_ns / 1_000_000_000) as u32;
        for word in [seconds, (ts_ns % 1_000_000_000) as u32, len as u32, frame.len() as u32] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(frame.get(..len).unwrap_or(frame))
    }
    /// Flushes and hands the output back.
    ///
    /// # Errors
    /// Those of the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
