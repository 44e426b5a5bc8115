//! libav's and the drivers' words as reasons on which an operator can act.
//!
//! What enters: the lines that libav logged, and its code. What leaves: a [`Reason`]. Only what a driver says
//! in the same words everywhere is in the table; everything else is passed on as it is.

use super::report::Reason;
use crate::av::AvError;

/// A part of a line, and what it means: code, message, hint.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// What a driver says, the more telling first.
const KNOWN: &[Row] = &[
    (
        "incompatible client key",
        "session_limit",
        "the driver allows no more encoders at once",
        "consumer cards have a limit on sessions; another program may be using them",
    ),
    (
        "OpenEncodeSessionEx failed: out of memory",
        "session_limit",
        "the driver allows no more encoders at once, or the card's memory is full",
        "look at nvidia-smi for who uses the card",
    ),
    (
        "OpenEncodeSessionEx failed: unsupported device",
        "no_encoder",
        "this card has no encoder (NVENC)",
        "data centre cards such as the A100 and H100 decode only; encoding stays in software",
    ),
    (
        "No capable devices found",
        "no_encoder",
        "no card here has an encoder (NVENC) for this format",
        "an older card lacks the newer formats, a data centre card may lack all; encoding stays in software",
    ),
    (
        "required nvenc API version",
        "driver_too_old",
        "the NVIDIA driver is too old for this libav",
        "update the driver",
    ),
    (
        "Cannot load libcuda",
        "no_driver",
        "the NVIDIA driver's library libcuda.so.1 is not there",
        "install the driver; a container needs --gpus all with the capability compute",
    ),
    (
        "Cannot load libnvidia-encode",
        "no_driver",
        "the NVIDIA driver's library libnvidia-encode.so.1 is not there",
        "install the driver's encode library; a container needs NVIDIA_DRIVER_CAPABILITIES=all (or video)",
    ),
    (
        "Cannot load libnvcuvid",
        "no_driver",
        "the NVIDIA driver's library libnvcuvid.so.1 is not there",
        "install the driver's decode library; a container needs NVIDIA_DRIVER_CAPABILITIES=all (or video)",
    ),
    (
        "CUDA_ERROR_NO_DEVICE",
        "no_device",
        "the driver is there, but no NVIDIA card",
        "a container needs --gpus all; look at nvidia-smi",
    ),
    (
        "No VA display found",
        "no_device",
        "the render node is not there or is no GPU's",
        "set hardware.vaapi_device to one of /dev/dri/renderD*",
    ),
    (
        "Failed to initialise VAAPI connection",
        "no_driver",
        "there is no VA-API driver for this GPU",
        "install one: intel-media-va-driver or mesa-va-drivers (Debian), intel-media-driver or \
         mesa-va-drivers-freeworld (Fedora); vainfo shows what is found",
    ),
    (
        "No usable encoding entrypoint",
        "no_entry_point",
        "the driver does not encode this format",
        "the GPU may lack it, or the driver's build: Fedora's own Mesa leaves out H.264 and HEVC \
         (RPM Fusion: mesa-va-drivers-freeworld); vainfo lists the entry points",
    ),
    (
        "Encoding profile",
        "no_entry_point",
        "the driver does not encode this profile",
        "the GPU may lack it, or the driver's build; vainfo lists what it has",
    ),
    (
        "Error creating a MFX session",
        "no_driver",
        "there is no Quick Sync runtime for this GPU",
        "install libmfx-gen1.2 or libmfx1 and intel-media-va-driver (Debian), intel-vpl-gpu-rt (Fedora)",
    ),
    (
        "internal MFX session",
        "no_driver",
        "there is no Quick Sync runtime for this GPU",
        "install libmfx-gen1.2 or libmfx1 and intel-media-va-driver (Debian), intel-vpl-gpu-rt (Fedora)",
    ),
    (
        "Could not find a valid device",
        "no_device",
        "no V4L2 device encodes this format",
        "boards have such codecs; v4l2-ctl --list-devices shows them",
    ),
    (
        "VK_ERROR_INCOMPATIBLE_DRIVER",
        "no_driver",
        "there is no Vulkan driver",
        "install one (Debian: mesa-vulkan-drivers); vulkaninfo shows what is found",
    ),
    (
        "No devices found",
        "no_device",
        "there is no such device",
        "install its driver, or give it to this container",
    ),
];

/// What `lines` mean; libav's `code` speaks where they do not.
pub fn read(what: &str, lines: &[String], code: AvError) -> Reason {
    let known = KNOWN.iter().find(|(part, ..)| lines.iter().any(|line| line.contains(part)));
    let words = lines.join("; ");
    if let Some((_, code, message, hint)) = known {
        return Reason::new(code, *message).hint(*hint).libav(words);
    }
    Reason::new("refused", format!("{what}: {code}"))
        .hint("libav's words say more; a newer driver or libav may know better")
        .libav(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_says_becomes_what_to_do() {
        let lines = |line: &str| vec!["AVHWDeviceContext: something first".to_owned(), line.to_owned()];
        let limit =
            read("open", &lines("h264_nvenc: OpenEncodeSessionEx failed: out of memory (10)"), AvError(-1));
        assert_eq!(limit.code, "session_limit");
        let none = read(
            "open",
            &lines("h264_nvenc: OpenEncodeSessionEx failed: unsupported device (2)"),
            AvError(-1),
        );
        assert_eq!(none.code, "no_encoder");
        let strange = read("cannot open", &lines("a word never heard"), AvError::NO_MEMORY);
        assert_eq!(strange.code, "refused");
        assert!(strange.libav.unwrap().contains("a word never heard"));
        assert!(strange.message.starts_with("cannot open: "));
    }

    #[test]
    fn every_row_can_be_acted_on() {
        for (part, code, message, hint) in KNOWN {
            assert!(!part.is_empty() && !message.is_empty() && hint.len() > 10, "{part}");
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{code}");
        }
    }
}
