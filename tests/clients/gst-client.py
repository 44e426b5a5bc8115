#!/usr/bin/env python3
"""Plays an HLS stream with GStreamer's playbin3: once through, then seeks. One JSON object on stdout.

What is counted are the buffers that arrive at the sinks, which do not wait for a clock. Every warning and
error on the bus counts, and so does whatever does not come within the limit.
"""

import argparse
import json
import sys
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

# Pictures looked at after a seek.
SEEK_FRAMES = 10
GST_PLAY_FLAG_VIDEO = 1
GST_PLAY_FLAG_AUDIO = 2
# Without it, playbin warns that the sink has no volume.
GST_PLAY_FLAG_SOFT_VOLUME = 16

DECODED_EARLY_S = 0.1


class Client:
    """One playbin3, with what came out of it."""

    def __init__(self, uri):
        self.reasons = []
        self.video_pts = []
        self.audio_buffers = 0
        self.player = Gst.ElementFactory.make("playbin3")
        if self.player is None:
            raise SystemExit("there is no playbin3: gstreamer1.0-plugins-base is missing")
        self.player.set_property("uri", uri)
        self.player.set_property("flags", GST_PLAY_FLAG_VIDEO | GST_PLAY_FLAG_AUDIO | GST_PLAY_FLAG_SOFT_VOLUME)
        self.video_sink = self.sink("video-sink", self.on_video)
        self.sink("audio-sink", self.on_audio)
        self.bus = self.player.get_bus()

    def sink(self, name, handler):
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("sync", False)
        sink.set_property("signal-handoffs", True)
        sink.connect("handoff", handler)
        self.player.set_property(name, sink)
        return sink

    def on_video(self, _sink, buffer, pad):
        # In time of the title: what is shown, not what the demuxer calls it.
        event = pad.get_sticky_event(Gst.EventType.SEGMENT, 0)
        _, position = event.parse_segment().to_stream_time_full(Gst.Format.TIME, buffer.pts)
        self.video_pts.append(position / Gst.SECOND)

    def on_audio(self, _sink, _buffer, _pad):
        self.audio_buffers += 1

    def wait(self, wanted, until, what):
        """Takes messages until `wanted` says so; False: an error or too late, which is noted."""
        kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR | Gst.MessageType.WARNING | Gst.MessageType.ASYNC_DONE
        while True:
            if time.monotonic() > until:
                self.reasons.append(f"{what}: not within the limit, {len(self.video_pts)} pictures so far")
                return False
            message = self.bus.timed_pop_filtered(20 * Gst.MSECOND, kinds)
            if message is not None and message.type in (Gst.MessageType.ERROR, Gst.MessageType.WARNING):
                kind = "error" if message.type == Gst.MessageType.ERROR else "warning"
                error, details = message.parse_error() if kind == "error" else message.parse_warning()
                self.reasons.append(f"{what}: {kind} from {message.src.get_name()}: {error.message} ({details})")
                if kind == "error":
                    return False
            if wanted(message):
                return True

    def stop(self):
        self.player.set_state(Gst.State.NULL)


def is_end(message):
    return message is not None and message.type == Gst.MessageType.EOS


def is_prerolled(message):
    return message is not None and message.type == Gst.MessageType.ASYNC_DONE


def play_through(uri, options, figures, reasons):
    client = Client(uri)
    begin = time.monotonic()
    client.player.set_state(Gst.State.PLAYING)
    client.wait(is_end, begin + options.limit, "play")
    client.stop()
    reasons += client.reasons
    pts = client.video_pts
    figures["video_frames"] = len(pts)
    figures["audio_buffers"] = client.audio_buffers
    figures["play_s"] = round(time.monotonic() - begin, 1)
    if len(pts) != options.frames:
        reasons.append(f"play: {len(pts)} pictures, and {options.frames} were expected")
    if options.audio and client.audio_buffers == 0:
        reasons.append("play: no sound")
    uneven = [late for early, late in zip(pts, pts[1:]) if abs(late - early - 1 / options.frame_rate) > 0.001]
    if uneven:
        reasons.append(f"play: {len(uneven)} pictures are not one frame after the one before, the first at {uneven[0]:.3f} s")
    # In MPEG-TS it counts from the first decode time, which lies before the first picture by the reordering.
    if pts and not -1 / options.frame_rate <= pts[0] <= 1 / options.frame_rate + DECODED_EARLY_S:
        reasons.append(f"play: the first picture is at {pts[0]:.3f} s")


def duration_reasons(client, options):
    known, duration = client.player.query_duration(Gst.Format.TIME)
    if not known:
        return ["the duration is not known"]
    if abs(duration / Gst.SECOND - options.duration) > 1 / options.frame_rate + 0.001:
        return [f"the duration is {duration / Gst.SECOND:.3f} s, and {options.duration} s were expected"]
    return []


def seek(client, target, options, limit):
    """One flushing, accurate seek, and a few pictures after it; None: it is of no use to go on."""
    what = f"seek to {target:.3f} s"
    begin = time.monotonic()
    client.player.set_state(Gst.State.PAUSED)
    client.video_pts.clear()
    flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
    if not client.player.seek_simple(Gst.Format.TIME, flags, int(target * Gst.SECOND)):
        client.reasons.append(f"{what}: refused")
        return None
    if not client.wait(is_prerolled, begin + limit, what):
        return None
    took_ms = round((time.monotonic() - begin) * 1000)
    client.player.set_state(Gst.State.PLAYING)
    # The end comes too if the target is near it.
    if not client.wait(lambda message: len(client.video_pts) >= SEEK_FRAMES or is_end(message), begin + limit, what):
        return None
    frame = 1 / options.frame_rate
    pts = list(client.video_pts)
    early = pts[0] - target if pts else float("nan")
    if not -frame - 0.001 < early < frame + 0.001:
        client.reasons.append(f"{what}: the first picture is that of {target + early:.3f} s")
    return took_ms


def seeks(uri, options, figures, reasons):
    client = Client(uri)
    client.player.set_state(Gst.State.PAUSED)
    took = []
    if client.wait(is_prerolled, time.monotonic() + 30, "preroll"):
        reasons += duration_reasons(client, options)
        for target in options.seeks:
            took_ms = seek(client, target, options, 30)
            if took_ms is None:
                break
            took.append(took_ms)
    client.stop()
    reasons += client.reasons
    figures["seeks"] = len(took)
    figures["seek_max_ms"] = max(took, default=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--frame-rate", type=float, required=True)
    parser.add_argument("--duration", type=float, required=True, help="seconds")
    parser.add_argument("--limit", type=float, default=120, help="seconds to play it through")
    parser.add_argument("--audio", action="store_true")
    parser.add_argument("--seeks", type=lambda text: [float(word) for word in text.split(",") if word], default=[])
    options = parser.parse_args()
    Gst.init(None)
    reasons, figures = [], {}
    play_through(options.uri, options, figures, reasons)
    if options.seeks:
        seeks(options.uri, options, figures, reasons)
    print(json.dumps({"version": Gst.version_string(), "reasons": reasons, "figures": figures}))
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
