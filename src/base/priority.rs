//! Which of this process's threads come first when there are fewer cores than work.
//!
//! What enters: how far behind the calling thread shall stand. What leaves: nothing; threads that it starts
//! from then on stand there too. Where the system has no such thing, or refuses, nothing changes: the work
//! matters more than its order.

/// Puts the calling thread `steps` of `nice` further behind than it stands. There is no way back.
pub fn stand_behind(steps: i32) {
    #[cfg(target_os = "linux")]
    {
        let me = Some(rustix::thread::gettid());
        let stands = rustix::process::getpriority_process(me).unwrap_or(0);
        if let Err(e) = rustix::process::setpriority_process(me, (stands + steps).min(19)) {
            tracing::debug!("cannot lower the priority of a thread: {e}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = steps;
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_and_those_that_it_starts_stand_behind_and_no_other() {
        let stands = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let before = stands();
        let inside = std::thread::spawn(move || {
            super::stand_behind(3);
            std::thread::spawn(stands).join().unwrap()
        });
        assert_eq!(inside.join().unwrap(), (before + 3).min(19));
        assert_eq!(stands(), before);
    }
}
