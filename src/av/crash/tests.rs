//! The line and the table, without dying. `tests/crash.rs` dies.

use super::*;

fn table() -> &'static Table {
    Box::leak(Box::new(Table::new()))
}

fn line(signal: c_int, ours: bool, thread: &str, table: &Table) -> String {
    let mut sheet = [0; LINE_BYTES];
    let mut line = Line { bytes: &mut sheet, length: 0 };
    describe(&mut line, signal, ours, thread.as_bytes(), table);
    String::from_utf8(line.written().to_vec()).unwrap()
}

#[test]
fn a_name_tells_its_run_or_that_it_is_a_codec_s_or_neither() {
    for (name, work) in [
        ("av-0-demux", Work::Run(0)),
        ("av-3-encode-0", Work::Run(3)),
        ("av-255-scale-15", Work::Run(255)),
        ("av-7-", Work::Run(7)),
        ("av-256-decode", Work::Codec),
        ("av-99999999999-", Work::Codec),
        ("av-18446744073709551616-x", Work::Codec),
        ("av-3", Work::Codec),
        ("av--decode", Work::Codec),
        ("av-+3-decode", Work::Codec),
        ("av-scale-0", Work::Codec),
        ("av-demux", Work::Codec),
        ("av:h264:df0", Work::Codec),
        ("av", Work::Codec),
        ("", Work::Codec),
        ("journal", Work::Other),
        ("tokio-rt-worker", Work::Other),
        ("xav-3-decode", Work::Other),
        ("Av-3-decode", Work::Other),
    ] {
        assert_eq!(tag_of_thread_name(name.as_bytes()), work, "{name}");
    }
}

#[test]
fn the_names_of_a_run_lead_back_to_it_within_what_the_system_keeps() {
    for tag in 0..SLOTS {
        for stage in ["demux", "decode", "scale-15", "enc-15", "mux-15", "audio", "copy", "job"] {
            let name = thread_name(u32::try_from(tag).ok(), stage);
            assert!(name.len() <= 15, "{name}");
            assert_eq!(tag_of_thread_name(name.as_bytes()), Work::Run(tag));
        }
    }
    assert_eq!(thread_name(None, "decode"), "av-decode");
}

#[test]
fn the_line_names_the_job_of_the_thread_and_all_that_ran() {
    let table = table();
    let (first, second) = (table.register("movie-42"), table.register("b.B_9"));
    assert_eq!((first.tag(), second.tag()), (0, 1));
    let known = line(11, true, "av-1-decode", table);
    assert_eq!(known, "signal=11 codec=1 thread=av-1-decode job=b.B_9 running=movie-42,b.B_9\n");
    let unknown = line(6, true, "av:h264:df0", table);
    assert_eq!(unknown, "signal=6 codec=1 thread=av:h264:df0 job= running=movie-42,b.B_9\n");
    let other = line(7, true, "tokio rt=1,2", table);
    assert_eq!(other, "signal=7 codec=0 thread=tokio_rt_1_2 job= running=movie-42,b.B_9\n");
    let sent = line(6, false, "av-1-decode", table);
    assert_eq!(sent, "signal=6 codec=0 thread=av-1-decode job= running=movie-42,b.B_9\n");
    drop(first);
    let gone = line(11, true, "av-0-decode", table);
    assert_eq!(gone, "signal=11 codec=1 thread=av-0-decode job= running=b.B_9\n");
    drop(second);
    assert_eq!(line(8, true, "", table), "signal=8 codec=1 thread= job= running=\n");
}

#[test]
fn a_full_table_has_its_line_and_says_that_there_are_more() {
    let table = table();
    let long = "x".repeat(ID_BYTES);
    let mut all: Vec<_> = (0..SLOTS).map(|_| table.register(&long)).collect();
    let tags: std::collections::BTreeSet<u32> = all.iter().map(Registration::tag).collect();
    assert_eq!(tags.len(), SLOTS);
    let more = table.register("more");
    assert_eq!(more.tag(), 256);
    let full = line(11, true, "av-255-scale-15", table);
    let head = format!("signal=11 codec=1 thread=av-255-scale-15 job={long} running=");
    assert_eq!(full, format!("{head}{}~\n", format!("{long},").repeat(SLOTS)));
    drop(more);
    assert!(line(11, true, "av-1-x", table).ends_with(&format!("{long}\n")));
    all.swap_remove(7);
    assert_eq!(table.register("again").tag(), 7);
}

#[test]
fn odd_ids_cannot_break_the_line() {
    let table = table();
    let ids = ["", "a b,c=d\n", "~vod", &"y".repeat(99)];
    let _all: Vec<_> = ids.iter().map(|id| table.register(id)).collect();
    let found = line(4, true, "av-x", table);
    let list = format!("_,a_b_c_d_,~vod,{}", "y".repeat(64));
    assert_eq!(found, format!("signal=4 codec=1 thread=av-x job= running={list}\n"));
}

#[test]
fn an_id_is_never_read_half() {
    let table = table();
    let ids = ["a".repeat(ID_BYTES), "b".repeat(ID_BYTES)];
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (whole, half) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for job in ids.iter().cycle() {
                table.next.store(0, Ordering::Relaxed);
                drop(table.register(job));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let (mut whole, mut half) = ([0u32; 2], 0u32);
        while whole.iter().any(|&n| n < 2000) && half == 0 {
            let mut id = [0; ID_BYTES];
            let Some(id) = table.slots[0].read(&mut id) else { continue };
            match ids.iter().position(|whole| whole.as_bytes() == id) {
                Some(which) => whole[which] += 1,
                None => half += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
        (whole, half)
    });
    assert_eq!(half, 0, "after {whole:?} whole ones");
}
