//! Which part of a plan a device does, and the same plan without it.
//!
//! What enters: a plan for the processor, the devices that may be used. What leaves: the plan with the best of
//! them in it. The timeline, the names and the sound are the same either way, so that what one has begun the
//! other may go on with. Nothing is opened here.

use super::encoders::add_x264_params;
use super::{Plan, Rendition, copied_video_codec};
use crate::av::encoder::{VideoSettings, bit_depth_of};
use crate::hardware::backend::{Ask, Kind, Speed, Takes};
use crate::hardware::inventory::{Inventory, Lease, Usable};
use crate::hardware::report::Direction;
use crate::media::both_sets::BothSets;
use crate::model::job::{Format, SegmentType};
use crate::model::track::VideoCodec;

/// What a device does of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDevice {
    /// Its kind.
    pub kind: Kind,
    /// Which of that kind.
    pub node: Option<String>,
    /// It decodes.
    pub decodes: bool,
    /// It scales.
    pub scales: bool,
    /// It encodes every rendition.
    pub encodes: bool,
}

impl OnDevice {
    /// Whether pictures have to get to it, or from it, by filters.
    pub fn needs_filters(&self) -> bool {
        self.decodes || self.scales || self.encodes && self.kind.backend().takes() == Takes::Surfaces
    }
}

/// The level of H.264 (`level_idc`) that an encoder in software gives itself with these settings.
pub type Level<'a> = &'a dyn Fn(&VideoSettings) -> Option<u8>;

/// How much of the work: the more the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    /// It scales, which is worth the way there and back only to who names the device.
    Scales,
    /// It decodes.
    Decodes,
    /// It encodes.
    Encodes,
    /// It does all.
    All,
}

impl Plan {
    /// The same work with what the best of `devices` can do of it: the first that does the whole, else the one
    /// that does most. `level` says which level of H.264 the encoder in software gives itself, so that the device's says
    /// the same. `None` when no device helps.
    pub fn on_devices(&self, devices: &[Usable], level: Level<'_>) -> Option<Self> {
        let mut best: Option<(Share, &Usable, OnDevice)> = None;
        for usable in devices {
            let Some((share, on)) = self.share_of(usable) else { continue };
            if best.as_ref().is_none_or(|(most, ..)| share > *most) {
                best = Some((share, usable, on));
            }
        }
        let (_, usable, on) = best?;
        self.with_device(on, usable, level)
    }

    /// [`Plan::on_devices`], with the encoders set aside that it needs. `None` also when they have gone meanwhile.
    pub fn leased(
        &self,
        inventory: &Inventory,
        devices: &[Usable],
        level: Level<'_>,
    ) -> Option<(Self, Lease)> {
        let plan = self.on_devices(devices, level)?;
        let lease = inventory.lease(plan.device.as_ref()?.kind, plan.device_encoders())?;
        Some((plan, lease))
    }

    /// The plan for the processor alone, on the same timeline.
    pub fn in_software(&self) -> Self {
        let mut plan = self.clone();
        plan.device = None;
        for rendition in &mut plan.renditions {
            if let Some(stand_in) = rendition.stand_in.take() {
                rendition.encode = Some(stand_in);
            }
        }
        plan
    }

    /// Whether software can go on behind segments that a device has made: in MPEG-TS always, in fragmented MP4 where
    /// the init segment that was written holds the parameter sets of both.
    pub fn can_go_on(&self) -> bool {
        let shares = |rendition: &Rendition| rendition.both_sets.as_ref().is_some_and(BothSets::are_known);
        self.format != Format::Hls(SegmentType::Fmp4) || self.renditions.iter().all(shares)
    }

    /// Nothing has been made: whoever begins now decides over the init segment.
    pub fn begin_anew(&mut self) {
        self.renditions.iter_mut().for_each(|rendition| rendition.both_sets = None);
    }

    /// Encoders on the device that a run of this plan opens.
    pub fn device_encoders(&self) -> u32 {
        let encodes = self.device.as_ref().is_some_and(|device| device.encodes);
        let renditions = u32::try_from(self.renditions.len()).unwrap_or(u32::MAX);
        if encodes { renditions } else { 0 }
    }

    fn share_of(&self, usable: &Usable) -> Option<(Share, OnDevice)> {
        self.video.as_ref().filter(|video| !video.copy)?;
        let facts = self.facts.video.as_ref()?;
        let device = &usable.device;
        let depth = if facts.bit_depth > 8 { 10 } else { 8 };
        // What it was not tried with it does not know: the trials are of 4:2:0.
        let known =
            ["yuv420p", "yuvj420p", "yuv420p10le", "nv12", "p010le"].contains(&facts.pixel_format.as_str());
        let source = copied_video_codec(facts, Format::Mkv).ok().filter(|_| known);
        let decodes = source.is_some_and(|codec| device.proven(Direction::Decode, codec, depth).is_some());
        let encodes = self.can_encode(usable);
        let scales = device.scaling.is_proven();
        let share = match (decodes, encodes) {
            (true, true) if scales => Share::All,
            (_, true) => Share::Encodes,
            (true, false) => Share::Decodes,
            (false, false) if scales && usable.named => Share::Scales,
            (false, false) => return None,
        };
        let node = device.node.clone();
        // The way there and back is worth it only where the picture is there anyway, or has to go there.
        let there = decodes || encodes && device.kind.backend().takes() == Takes::Surfaces;
        let scales = scales && (there || usable.named);
        Some((share, OnDevice { kind: device.kind, node, decodes, scales, encodes }))
    }

    /// Whether every rendition can be encoded there at once, as it was asked for.
    fn can_encode(&self, usable: &Usable) -> bool {
        let can = |rendition: &Rendition| {
            let (Some(asked), Some(settings)) = (&rendition.asked, &rendition.encode) else { return false };
            let proven =
                usable.device.proven(Direction::Encode, asked.codec, bit_depth_of(&settings.pixel_format));
            let words_fit = asked.preset.as_deref().is_none_or(|word| Speed::of_preset(word).is_some());
            proven.is_some() && words_fit
        };
        let enough = self.renditions.len() <= usable.free_sessions as usize;
        !self.renditions.is_empty() && enough && self.renditions.iter().all(can)
    }

    fn with_device(&self, on: OnDevice, usable: &Usable, level: Level<'_>) -> Option<Self> {
        let mut plan = self.clone();
        if on.encodes {
            for rendition in &mut plan.renditions {
                give_to_device(rendition, usable, self.format, level)?;
            }
        }
        plan.device = Some(on);
        Some(plan)
    }
}

/// The rendition's encoder becomes the device's, and the one in software its stand-in. Both say the same of
/// themselves: profile and level stand in playlists.
fn give_to_device(
    rendition: &mut Rendition,
    usable: &Usable,
    format: Format,
    level: Level<'_>,
) -> Option<()> {
    let (asked, software) = (rendition.asked.as_ref()?, rendition.encode.clone()?);
    let backend = usable.device.kind.backend();
    let speed = asked.preset.as_deref().map_or(Some(Speed::Fast), Speed::of_preset)?;
    let words = backend.words(&Ask { codec: asked.codec, rate: asked.rate, speed });
    let depth = bit_depth_of(&software.pixel_format);
    let mut made = VideoSettings {
        encoder: backend.encoder(asked.codec)?.into(),
        pixel_format: backend.memory_format(depth).into(),
        bitrate_bps: words.bitrate_bps,
        max_rate_bps: words.max_rate_bps,
        buffer_bits: words.max_rate_bps,
        options: words.options,
        ..software.clone()
    };
    let mut stand_in = software;
    if stand_in.encoder != "libx264" {
        // It reorders nothing, or nobody knows: times must not go back where the device follows.
        made.options.push(("bf".into(), "0".into()));
    }
    if asked.codec == VideoCodec::H264 {
        let level = level(&stand_in)?;
        for settings in [&mut made, &mut stand_in] {
            settings.options.push(("profile".into(), "high".into()));
            settings.options.push(("level".into(), level.to_string()));
        }
    }
    if format == Format::Hls(SegmentType::Fmp4) && stand_in.encoder == "libx264" {
        // Its sets have names of their own, so that one init segment holds them beside the device's.
        add_x264_params(&mut stand_in, "sps-id=1");
        rendition.both_sets = Some(BothSets::default());
    }
    (rendition.encode, rendition.stand_in) = (Some(made), Some(stand_in));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{Machine, tests::film};
    use super::*;
    use crate::base::cancel::Cancel;
    use crate::hardware::report::{CodecReport, DeviceReport, Reason, Verdict};
    use crate::model::job::Wish;

    fn plan(wish: Wish) -> Plan {
        Plan::new("/f.mkv".into(), film(), &wish, Machine { cores: 4 }, &Cancel::new()).unwrap()
    }

    fn usable(kind: Kind, codecs: &[(Direction, VideoCodec)], scales: bool, named: bool) -> Usable {
        let codec = |(direction, codec): &(Direction, VideoCodec)| CodecReport {
            direction: *direction,
            codec: *codec,
            bit_depth: 8,
            name: "x".into(),
            verdict: Verdict::Proven,
            sessions: Some(8),
            took_ms: 0,
        };
        let refused = || Verdict::Refused(Reason::new("no_filter", "none"));
        let device = DeviceReport {
            kind,
            node: None,
            name: None,
            software: false,
            verdict: Verdict::Proven,
            scaling: if scales { Verdict::Proven } else { refused() },
            codecs: codecs.iter().map(codec).collect(),
        };
        Usable { device, named, free_sessions: 8 }
    }

    const ENCODE: (Direction, VideoCodec) = (Direction::Encode, VideoCodec::H264);
    const DECODE: (Direction, VideoCodec) = (Direction::Decode, VideoCodec::H264);

    #[test]
    fn the_first_device_that_does_all_is_taken_before_one_that_does_less() {
        let plan = plan(Wish::default());
        let less = usable(Kind::Nvenc, &[ENCODE], false, false);
        let all = usable(Kind::Vaapi, &[ENCODE, DECODE], true, false);
        let also = usable(Kind::Vulkan, &[ENCODE, DECODE], true, false);
        let chosen = plan.on_devices(&[less.clone(), all, also], &|_| Some(31)).unwrap().device.unwrap();
        assert_eq!(chosen.kind, Kind::Vaapi);
        assert!(chosen.decodes && chosen.scales && chosen.encodes);
        let mixed = plan.on_devices(&[less], &|_| Some(31)).unwrap().device.unwrap();
        assert!(mixed.encodes && !mixed.decodes && !mixed.scales);
        assert!(plan.on_devices(&[], &|_| Some(31)).is_none());
    }

    #[test]
    fn a_card_that_only_decodes_decodes_and_scales_and_the_processor_encodes() {
        let plan = plan(Wish::default());
        let card = usable(Kind::Nvenc, &[DECODE], true, false);
        let mixed = plan.on_devices(&[card], &|_| Some(31)).unwrap();
        let on = mixed.device.clone().unwrap();
        assert!(on.decodes && on.scales && !on.encodes);
        assert_eq!(mixed.renditions, plan.renditions);
        assert_eq!(mixed.device_encoders(), 0);
    }

    #[test]
    fn scaling_alone_is_for_who_names_the_device() {
        let plan = plan(Wish::default());
        assert!(plan.on_devices(&[usable(Kind::Vulkan, &[], true, false)], &|_| Some(31)).is_none());
        let named = plan.on_devices(&[usable(Kind::Vulkan, &[], true, true)], &|_| Some(31)).unwrap();
        assert!(named.device.is_some_and(|on| on.scales && !on.decodes && !on.encodes));
    }

    #[test]
    fn the_stand_in_is_on_the_same_timeline_and_says_the_same_of_itself() {
        let plan = plan(Wish::default());
        let made = plan.on_devices(&[usable(Kind::Vaapi, &[ENCODE], false, false)], &|_| Some(40)).unwrap();
        let back = made.in_software();
        assert_eq!((back.timeline.clone(), back.device.clone()), (plan.timeline.clone(), None));
        for ((made, back), plain) in made.renditions.iter().zip(&back.renditions).zip(&plan.renditions) {
            let (made, back) = (made.encode.as_ref().unwrap(), back.encode.as_ref().unwrap());
            assert_eq!((made.width, made.height), (back.width, back.height));
            assert_eq!(back.encoder, plain.encode.as_ref().unwrap().encoder);
            assert_ne!(made.encoder, back.encoder);
            for settings in [made, back] {
                assert!(settings.options.contains(&("level".into(), "40".into())), "{settings:?}");
            }
        }
    }

    #[test]
    fn too_few_sessions_or_a_word_that_no_device_has_is_left_to_the_processor() {
        let mut few = usable(Kind::Vaapi, &[ENCODE], false, false);
        few.free_sessions = 0;
        assert!(plan(Wish::default()).on_devices(&[few], &|_| Some(31)).is_none());
        let odd = plan(Wish { preset: Some("odd".into()), ..Wish::default() });
        assert!(odd.on_devices(&[usable(Kind::Vaapi, &[ENCODE], false, false)], &|_| Some(31)).is_none());
    }
}
