//! An owned packet of coded data.

use super::error::AvError;
use super::sys;
use bytes::Bytes;

/// A packet. Its data is reference-counted by libav: cloning and [`Packet::into_bytes`] copy nothing.
#[derive(Debug)]
pub struct Packet(*mut sys::AVPacket);

// SAFETY: a packet has no tie to a thread; its buffer's count is atomic.
unsafe impl Send for Packet {}
// SAFETY: shared references only read fields.
unsafe impl Sync for Packet {}

impl Packet {
    /// An empty packet.
    pub fn new() -> Result<Self, AvError> {
        // SAFETY: plain allocation; null is handled.
        let packet = unsafe { sys::av_packet_alloc() };
        if packet.is_null() { Err(AvError::NO_MEMORY) } else { Ok(Self(packet)) }
    }

    /// A packet with a copy of `data`.
    pub fn from_slice(data: &[u8]) -> Result<Self, AvError> {
        let packet = Self::new()?;
        let size = i32::try_from(data.len()).map_err(|_| AvError::NO_MEMORY)?;
        // SAFETY: on success the packet owns `size` writable bytes, which the copy fills exactly.
        unsafe {
            AvError::check(sys::av_new_packet(packet.0, size))?;
            if size > 0 {
                std::ptr::copy_nonoverlapping(data.as_ptr(), (*packet.0).data, data.len());
            }
        }
        Ok(packet)
    }

    pub(super) fn as_ptr(&self) -> *const sys::AVPacket {
        self.0
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut sys::AVPacket {
        self.0
    }

    fn get(&self) -> &sys::AVPacket {
        // SAFETY: never null, and owned by self.
        unsafe { &*self.0 }
    }

    fn get_mut(&mut self) -> &mut sys::AVPacket {
        // SAFETY: never null, and owned by self alone.
        unsafe { &mut *self.0 }
    }

    /// Lets go of the data.
    pub fn clear(&mut self) {
        // SAFETY: valid packet.
        unsafe { sys::av_packet_unref(self.0) }
    }

    /// The coded bytes.
    pub fn data(&self) -> &[u8] {
        let p = self.get();
        match usize::try_from(p.size) {
            // SAFETY: libav keeps `size` readable bytes at `data` while the packet holds its buffer.
            Ok(size) if size > 0 && !p.data.is_null() => unsafe { std::slice::from_raw_parts(p.data, size) },
            _ => &[],
        }
    }

    /// The packet's data as shared bytes, without copying.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(PacketData(self))
    }

    /// Presentation time in the stream's ticks.
    pub fn pts(&self) -> Option<i64> {
        known(self.get().pts)
    }

    /// A second packet on the same bytes.
    pub fn share(&self) -> Result<Self, AvError> {
        let mut other = Self::new()?;
        // SAFETY: both packets are valid, and the new one is empty.
        AvError::check(unsafe { sys::av_packet_ref(other.as_mut_ptr(), self.as_ptr()) })?;
        Ok(other)
    }

    /// Decode time in the stream's ticks.
    pub fn dts(&self) -> Option<i64> {
        known(self.get().dts)
    }

    /// Length in the stream's ticks; 0 if unknown.
    pub fn duration(&self) -> i64 {
        self.get().duration.max(0)
    }

    /// Where it begins in the file, if the demuxer tells.
    pub fn position(&self) -> Option<u64> {
        u64::try_from(self.get().pos).ok()
    }

    /// Which stream of the container it belongs to.
    pub fn stream(&self) -> usize {
        usize::try_from(self.get().stream_index).unwrap_or(usize::MAX)
    }

    /// Whether decoding can start here.
    pub fn is_key(&self) -> bool {
        self.get().flags & sys::AV_PKT_FLAG_KEY != 0
    }

    /// Whether the container says that it is damaged.
    pub fn is_corrupt(&self) -> bool {
        self.get().flags & sys::AV_PKT_FLAG_CORRUPT != 0
    }

    /// Sets times, stream and key flag, as a muxer wants them.
    pub fn set_times(&mut self, stream: usize, pts: i64, dts: i64, duration: i64, key: bool) {
        let p = self.get_mut();
        p.stream_index = i32::try_from(stream).unwrap_or(i32::MAX);
        (p.pts, p.dts, p.duration) = (pts, dts, duration);
        p.flags = if key { sys::AV_PKT_FLAG_KEY } else { 0 };
    }

    pub(super) fn rescale(&mut self, from: sys::AVRational, to: sys::AVRational) {
        // SAFETY: valid packet, plain arithmetic on its fields.
        unsafe { sys::av_packet_rescale_ts(self.0, from, to) }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        unsafe { sys::av_packet_free(&mut self.0) }
    }
}

struct PacketData(Packet);

impl AsRef<[u8]> for PacketData {
    fn as_ref(&self) -> &[u8] {
        self.0.data()
    }
}

pub(super) fn known(ticks: i64) -> Option<i64> {
    (ticks != sys::AV_NOPTS_VALUE).then_some(ticks)
}
