//! Clips made in this process: libavfilter sources, encoded and muxed by the linked libav.
//!
//! What enters: a description of a clip. What leaves: the path of a file that is made once and kept
//! under cargo's own folder for test files; its name carries a hash of the description, of libav's
//! version and of this very file, so a kept clip is never a stale one.
//!
//! Where the linked libav lacks an encoder the test says so and does nothing: the stock libav of
//! some distributions has no x264.

use ffmpeg::{Dictionary, Packet, Rational, codec, encoder, filter, format, frame, picture};
use ffmpeg_next as ffmpeg;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

/// A picture track to be made.
#[derive(Clone, Debug, Hash)]
pub struct Video {
    encoder: &'static str,
    size: (u32, u32),
    rate: (i32, i32),
    frames: u32,
    pixel_format: &'static str,
    source: &'static str,
    /// Length of each frame in milliseconds, for a variable rate; empty for a constant one.
    lengths_ms: Vec<i64>,
    options: Vec<(String, String)>,
}

/// A picture track of 200 frames of a moving test picture, 160x90, 25 frames each second, a key frame
/// every 50 frames, no B-frames.
pub fn video(encoder: &'static str) -> Video {
    let clip = Video {
        encoder,
        size: (160, 90),
        rate: (25, 1),
        frames: 200,
        pixel_format: "yuv420p",
        source: "testsrc2",
        lengths_ms: Vec::new(),
        options: Vec::new(),
    };
    let clip = clip.gop(50).option("bf", "0").option("threads", "1");
    match encoder {
        "libx264" => clip.option("preset", "ultrafast").option("x264-params", "scenecut=0"),
        "libx265" => clip.option("preset", "ultrafast").option("x265-params", "log-level=error:scenecut=0"),
        "libvpx-vp9" => clip.option("deadline", "realtime").option("cpu-used", "8"),
        "libsvtav1" => clip.option("preset", "12"),
        "libaom-av1" => clip.option("usage", "realtime").option("cpu-used", "8"),
        _ => clip.option("q", "4"),
    }
}

/// H.264 with whichever encoder this libav has.
pub fn h264() -> Video {
    video(if has_encoder("libx264") { "libx264" } else { "libopenh264" })
}

impl Video {
    /// Width and height in pixels.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width, height);
        self
    }

    /// Frames each second.
    pub fn rate(mut self, num: i32, den: i32) -> Self {
        self.rate = (num, den);
        self
    }

    /// How many frames.
    pub fn frames(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// How many seconds, rounded to whole frames; give the rate first.
    pub fn seconds(self, seconds: f64) -> Self {
        let frames = seconds * f64::from(self.rate.0) / f64::from(self.rate.1);
        self.frames(frames.round() as u32)
    }

    /// Frames from one key frame to the next: that many, no fewer.
    pub fn gop(self, frames: u32) -> Self {
        self.option("g", &frames.to_string()).option("keyint_min", &frames.to_string())
    }

    /// Pictures before a key frame may refer to it: decoding that starts there loses them.
    pub fn open_gop(self) -> Self {
        self.option("flags", "-cgop")
    }

    /// Most B-frames in a row.
    pub fn bframes(self, count: u32) -> Self {
        self.option("bf", &count.to_string())
    }

    /// Pixel format by libav's name.
    pub fn pixel_format(mut self, name: &'static str) -> Self {
        self.pixel_format = name;
        self
    }

    /// Black, but for one white picture in 25, the first of each.
    pub fn flashing(mut self) -> Self {
        self.source = "color,drawbox=w=iw:h=ih:color=black:t=fill,drawbox=w=iw:h=ih:color=white:t=fill:enable='eq(mod(n,25),0)'";
        self
    }

    /// A variable rate: how long each frame is shown, in milliseconds; as many frames as lengths.
    pub fn lengths_ms(mut self, lengths: &[i64]) -> Self {
        self.frames = lengths.len() as u32;
        self.lengths_ms = lengths.to_vec();
        self
    }

    /// An option of the encoder, instead of an earlier one of the same name.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.options.retain(|(k, _)| k != key);
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A sound track to be made: each channel a sine of its own.
#[derive(Clone, Debug, Hash)]
pub struct Audio {
    encoder: &'static str,
    rate: u32,
    layout: &'static str,
    samples: u64,
    frequency: u32,
    beeping: bool,
    options: Vec<(String, String)>,
}

/// A sound track of 8 s in stereo at 48 kHz, 440 Hz on the left.
pub fn audio(encoder: &'static str) -> Audio {
    Audio {
        encoder,
        rate: 48_000,
        layout: "stereo",
        samples: 384_000,
        frequency: 440,
        beeping: false,
        options: Vec::new(),
    }
}

impl Audio {
    /// Samples each second; keeps the length in seconds.
    pub fn rate(mut self, rate: u32) -> Self {
        self.samples = self.samples * u64::from(rate) / u64::from(self.rate);
        self.rate = rate;
        self
    }

    /// Channels: `mono`, `stereo`, `5.1`.
    pub fn layout(mut self, layout: &'static str) -> Self {
        self.layout = layout;
        self
    }

    /// How many samples for each channel.
    pub fn samples(mut self, samples: u64) -> Self {
        self.samples = samples;
        self
    }

    /// How many seconds.
    pub fn seconds(self, seconds: f64) -> Self {
        let samples = (seconds * f64::from(self.rate)).round() as u64;
        self.samples(samples)
    }

    /// The lowest tone, in Hz; channel n has n times as much.
    pub fn frequency(mut self, hertz: u32) -> Self {
        self.frequency = hertz;
        self
    }

    /// Silent, but for the first tenth of each second.
    pub fn beeping(mut self) -> Self {
        self.beeping = true;
        self
    }

    /// An option of the encoder.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.options.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A file to be made.
#[derive(Clone, Debug, Default, Hash)]
pub struct Clip {
    video: Option<Video>,
    audio: Option<Audio>,
    start_ms: i64,
    mux_options: Vec<(String, String)>,
}

impl Clip {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this picture.
    pub fn video(mut self, video: Video) -> Self {
        self.video = Some(video);
        self
    }

    /// With this sound.
    pub fn audio(mut self, audio: Audio) -> Self {
        self.audio = Some(audio);
        self
    }

    /// Both tracks begin so many milliseconds after the container's zero.
    pub fn start_ms(mut self, start_ms: i64) -> Self {
        self.start_ms = start_ms;
        self
    }

    /// An option of the muxer.
    pub fn mux_option(mut self, key: &str, value: &str) -> Self {
        self.mux_options.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The file; its extension chooses the container. `None`, and a line that says why, where this
    /// libav cannot make it.
    #[track_caller]
    pub fn make(&self, name: &str) -> Option<PathBuf> {
        if let Some(missing) = self.encoders().into_iter().find(|name| !has_encoder(name)) {
            super::run::skip(&format!("no encoder {missing}"));
            return None;
        }
        Some(cached(&format!("{self:?}"), name, |path| {
            self.write(path).unwrap_or_else(|e| panic!("cannot make {}: {e}\n{self:#?}", path.display()));
        }))
    }

    fn encoders(&self) -> Vec<&'static str> {
        self.video.iter().map(|v| v.encoder).chain(self.audio.iter().map(|a| a.encoder)).collect()
    }

    fn write(&self, path: &Path) -> Result<(), ffmpeg::Error> {
        ffmpeg::log::set_level(ffmpeg::log::Level::Error);
        let mut output = format::output(path)?;
        let global_header = output.format().flags().contains(format::Flags::GLOBAL_HEADER);
        let mut tracks = Vec::new();
        if let Some(video) = &self.video {
            tracks.push(encode_video(video, global_header)?);
        }
        if let Some(audio) = &self.audio {
            tracks.push(encode_audio(audio, global_header)?);
        }
        for track in &tracks {
            track.announce(&mut output)?;
        }
        let mut options = dictionary(&self.mux_options);
        if path.extension().is_some_and(|e| e == "ts") {
            // Without it the muxer adds a delay of its own to every time.
            options.set("mpegts_copyts", "1");
        }
        output.write_header_with(options)?;
        self.write_packets(tracks, &mut output)?;
        output.write_trailer()
    }

    fn write_packets(
        &self,
        tracks: Vec<Track>,
        output: &mut format::context::Output,
    ) -> Result<(), ffmpeg::Error> {
        let mut all = Vec::new();
        for (index, track) in tracks.into_iter().enumerate() {
            let base = output.stream(index).ok_or(ffmpeg::Error::StreamNotFound)?.time_base();
            for mut packet in track.packets {
                packet.set_stream(index);
                // Opus and AAC start below zero for their priming; a common start keeps them together.
                let shift =
                    self.start_ms * i64::from(track.time_base.1) / (1000 * i64::from(track.time_base.0));
                packet.set_pts(packet.pts().map(|t| t + shift));
                packet.set_dts(packet.dts().map(|t| t + shift));
                let micros = packet.dts().unwrap_or(0) * 1_000_000 * i64::from(track.time_base.0)
                    / i64::from(track.time_base.1);
                packet.rescale_ts(track.time_base, base);
                all.push((micros, index, packet));
            }
        }
        all.sort_by_key(|(micros, index, _)| (*micros, *index));
        all.iter().try_for_each(|(_, _, packet)| packet.write_interleaved(output))
    }
}

/// An encoded track, whole.
struct Track {
    parameters: codec::Parameters,
    time_base: Rational,
    frame_rate: Option<Rational>,
    packets: Vec<Packet>,
}

impl Track {
    fn announce(&self, output: &mut format::context::Output) -> Result<(), ffmpeg::Error> {
        let mut stream = output.add_stream(codec::Id::None)?;
        stream.set_parameters(self.parameters.clone());
        stream.set_time_base(self.time_base);
        if let Some(rate) = self.frame_rate {
            stream.set_avg_frame_rate(rate);
            stream.set_rate(rate);
        }
        Ok(())
    }
}

/// A test picture as the bytes of a PNG file.
pub fn png(width: u32, height: u32) -> Vec<u8> {
    let still = video("png").size(width, height).frames(1).pixel_format("rgb24");
    let track = encode_video(&still, false).expect("libav always has PNG");
    track.packets.first().and_then(Packet::data).expect("a picture").to_vec()
}

/// Whether the linked libav has this encoder. What the program is told to act as if it had not does
/// not count: clips are sources, and those exist on any machine.
pub fn has_encoder(name: &str) -> bool {
    encoder::find_by_name(name).is_some()
}

/// A file made once for each description; `make` writes to the path that it is given.
pub fn cached(description: &str, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static MADE: OnceLock<Mutex<HashMap<PathBuf, Arc<OnceLock<()>>>>> = OnceLock::new();
    let mut hasher = DefaultHasher::new();
    (description, codec::version(), include_str!("clips.rs")).hash(&mut hasher);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("clips").join(format!("{:016x}", hasher.finish()));
    let path = folder.join(name);
    let slot = {
        let made = MADE.get_or_init(Mutex::default);
        let mut made = made.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        made.entry(path.clone()).or_default().clone()
    };
    slot.get_or_init(|| {
        if !path.exists() {
            // Made under another name: an interrupted run must not leave half a clip for the next.
            let draft = folder.join(format!("draft-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder for clips");
            make(&draft);
            std::fs::rename(&draft, &path).expect("the clip under its name");
        }
    });
    path
}

fn dictionary(pairs: &[(String, String)]) -> Dictionary<'static> {
    let mut dictionary = Dictionary::new();
    for (key, value) in pairs {
        dictionary.set(key, value);
    }
    dictionary
}

/// The options of an encoder, and its flags: as an option they add to the encoder's own defaults (such
/// as closed GOPs), where a setter would replace them.
fn encoder_options(pairs: &[(String, String)], global_header: bool) -> Dictionary<'static> {
    let mut options = dictionary(pairs);
    let own = pairs.iter().find(|(key, _)| key == "flags").map_or("", |(_, value)| value);
    let flags = format!("{own}{}", if global_header { "+global_header" } else { "" });
    if !flags.is_empty() {
        options.set("flags", &flags);
    }
    options
}

fn encode_video(spec: &Video, global_header: bool) -> Result<Track, ffmpeg::Error> {
    let rate = Rational(spec.rate.0, spec.rate.1);
    let variable = !spec.lengths_ms.is_empty();
    let time_base = if variable { Rational(1, 1000) } else { Rational(spec.rate.1, spec.rate.0) };
    let found = encoder::find_by_name(spec.encoder).ok_or(ffmpeg::Error::EncoderNotFound)?;
    let mut setup = codec::Context::new_with_codec(found).encoder().video()?;
    setup.set_width(spec.size.0);
    setup.set_height(spec.size.1);
    setup.set_format(pixel_format(spec.pixel_format));
    setup.set_time_base(time_base);
    setup.set_frame_rate(Some(rate));
    let mut encoder = setup.open_with(encoder_options(&spec.options, global_header))?;
    let (source_name, then) = spec.source.split_once(',').unwrap_or((spec.source, "null"));
    let description = format!(
        "{source_name}=size={}x{}:rate={}/{},{then},trim=end_frame={},format={}",
        spec.size.0, spec.size.1, spec.rate.0, spec.rate.1, spec.frames, spec.pixel_format
    );
    let mut graph = source("buffersink", &description)?;
    let mut sink = graph.get("out").ok_or(ffmpeg::Error::FilterNotFound)?;
    let mut packets = Vec::new();
    let mut lengths = HashMap::new();
    let mut next_pts = 0;
    for n in 0.. {
        let mut picture = frame::Video::empty();
        if sink.sink().frame(&mut picture).is_err() {
            break;
        }
        let length = spec.lengths_ms.get(n).copied().unwrap_or(1);
        lengths.insert(next_pts, length);
        picture.set_pts(Some(next_pts));
        // The sources mark every picture as I; the encoder has to choose by itself.
        picture.set_kind(picture::Type::None);
        next_pts += length;
        encoder.send_frame(&picture)?;
        take_packets(&mut encoder, &mut packets)?;
    }
    encoder.send_eof()?;
    take_packets(&mut encoder, &mut packets)?;
    for packet in &mut packets {
        let length = packet.pts().and_then(|pts| lengths.get(&pts).copied());
        packet.set_duration(length.unwrap_or(1));
    }
    let parameters = codec::Parameters::from(&encoder);
    Ok(Track { parameters, time_base, frame_rate: (!variable).then_some(rate), packets })
}

fn encode_audio(spec: &Audio, global_header: bool) -> Result<Track, ffmpeg::Error> {
    let sample_format = match spec.encoder {
        "flac" | "libopus" | "pcm_s16le" => "s16",
        _ => "fltp",
    };
    let found = encoder::find_by_name(spec.encoder).ok_or(ffmpeg::Error::EncoderNotFound)?;
    let mut setup = codec::Context::new_with_codec(found).encoder().audio()?;
    let time_base = Rational(1, spec.rate as i32);
    setup.set_rate(spec.rate as i32);
    setup.set_format(if sample_format == "s16" {
        format::Sample::I16(format::sample::Type::Packed)
    } else {
        format::Sample::F32(format::sample::Type::Planar)
    });
    setup.set_time_base(time_base);
    let mut options = encoder_options(&spec.options, global_header);
    // As an option it is the same in every libav; the field behind it is not.
    options.set("ch_layout", spec.layout);
    let mut encoder = setup.open_with(options)?;
    let channels = if spec.layout == "mono" {
        1
    } else if spec.layout == "5.1" {
        6
    } else {
        2
    };
    let gate = if spec.beeping { "lt(mod(t,1),0.1)*" } else { "" };
    let tones: Vec<String> =
        (1..=channels).map(|n| format!("{gate}0.4*sin(2*PI*{}*t)", n * spec.frequency)).collect();
    let description = format!(
        "aevalsrc=exprs='{}':sample_rate={}:channel_layout={},atrim=end_sample={},aformat=sample_fmts={sample_format}",
        tones.join("|"),
        spec.rate,
        spec.layout,
        spec.samples
    );
    let mut graph = source("abuffersink", &description)?;
    let mut sink = graph.get("out").ok_or(ffmpeg::Error::FilterNotFound)?;
    let chunk = match encoder.frame_size() {
        0 => 1024,
        size => size as usize,
    };
    let mut packets = Vec::new();
    let mut next_pts = 0;
    loop {
        let mut sound = frame::Audio::empty();
        if sink.sink().samples(&mut sound, chunk).is_err() {
            break;
        }
        sound.set_pts(Some(next_pts));
        next_pts += sound.samples() as i64;
        encoder.send_frame(&sound)?;
        take_packets(&mut encoder, &mut packets)?;
    }
    encoder.send_eof()?;
    take_packets(&mut encoder, &mut packets)?;
    Ok(Track { parameters: codec::Parameters::from(&encoder), time_base, frame_rate: None, packets })
}

fn source(sink: &str, description: &str) -> Result<filter::Graph, ffmpeg::Error> {
    let mut graph = filter::Graph::new();
    let sink = filter::find(sink).ok_or(ffmpeg::Error::FilterNotFound)?;
    graph.add(&sink, "out", "")?;
    graph.input("out", 0)?.parse(description)?;
    graph.validate()?;
    Ok(graph)
}

fn take_packets(encoder: &mut codec::encoder::Encoder, into: &mut Vec<Packet>) -> Result<(), ffmpeg::Error> {
    loop {
        let mut packet = Packet::empty();
        match encoder.receive_packet(&mut packet) {
            Ok(()) => into.push(packet),
            Err(ffmpeg::Error::Eof) => return Ok(()),
            Err(ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

fn pixel_format(name: &str) -> format::Pixel {
    match name {
        "yuv420p10le" => format::Pixel::YUV420P10LE,
        "rgb24" => format::Pixel::RGB24,
        "yuv444p" => format::Pixel::YUV444P,
        "yuvj420p" => format::Pixel::YUVJ420P,
        "yuv420p" => format::Pixel::YUV420P,
        other => panic!("add {other} here"),
    }
}
