//! Tests of the stand-ins: they behave as the originals, and detect faults of code over them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_listener::{Event, Listener};
use parking_lot::{Mutex, RwLock};
use standin::sync::OnceLock;
use standin::sync::atomic::{AtomicBool, AtomicUsize};

use crate::director::{ended, every_order, failure, orders, task, thread};

#[derive(Default)]
struct Door {
    open: AtomicBool,
    opened: Event,
}

impl Door {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.opened.notify(usize::MAX);
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        loop {
            let listener = self.opened.listen();
            if self.is_open() {
                return;
            }
            listener.wait();
        }
    }

    /// Checks before it listens, and so may miss the notification.
    fn pass_late(&self) {
        if !self.is_open() {
            self.opened.listen().wait();
        }
    }
}

fn with_a_door(pass: fn(&Door)) {
    let door = Arc::new(Door::default());
    let opens = Arc::clone(&door);
    let opens = thread(move || opens.open());
    pass(&door);
    opens.join().unwrap();
}

#[test]
fn listener_registered_before_the_check_is_always_notified() {
    every_order(|| with_a_door(Door::pass));
}

#[test]
fn listener_registered_after_the_check_is_found_to_deadlock() {
    let found = failure(|| with_a_door(Door::pass_late));
    assert!(found.is_some_and(|found| found.starts_with("deadlock!")));
}

/// A notification of a dropped listener passes to the next listener.
#[test]
fn notification_of_a_dropped_listener_goes_to_the_next() {
    every_order(|| {
        let event = Event::new();
        let (first, second) = (event.listen(), event.listen());
        let waits = thread(|| second.wait());
        event.notify(1);
        drop(first);
        waits.join().unwrap();
    });
}

#[test]
fn notification_reaches_only_earlier_listeners() {
    let found = failure(|| {
        let event = Event::new();
        let late = Arc::new(event);
        let notifies = Arc::clone(&late);
        let notifies = thread(move || notifies.notify(usize::MAX));
        late.listen().wait();
        notifies.join().unwrap();
    });
    assert!(found.is_some_and(|found| found.starts_with("deadlock!")));
}

#[test]
fn threads_and_tasks_wait_in_one_queue() {
    orders(|| {
        let event = Event::new();
        let (one, other) = (event.listen(), event.listen());
        let waits = thread(|| one.wait());
        let awaits = task(other);
        event.notify(2);
        waits.join().unwrap();
        ended(awaits);
    });
}

#[test]
fn once_lock_initializes_once() {
    every_order(|| {
        let (cell, made) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
        let make = |cell: &OnceLock<usize>, made: &AtomicUsize| {
            *cell.get_or_init(|| made.fetch_add(1, Ordering::SeqCst))
        };
        let other = (Arc::clone(&cell), Arc::clone(&made));
        let other = thread(move || make(&other.0, &other.1));
        assert_eq!((make(&cell, &made), other.join().unwrap()), (0, 0));
    });
}

#[test]
fn lost_update_is_found() {
    let found = failure(|| {
        let count = Arc::new(AtomicUsize::new(0));
        let add = |count: &AtomicUsize| count.store(count.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
        let other = Arc::clone(&count);
        let other = thread(move || add(&other));
        add(&count);
        other.join().unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2, "an update was lost");
    });
    assert!(found.is_some_and(|found| found.contains("an update was lost")));
}

#[test]
fn lock_order_inversion_is_found_to_deadlock() {
    let found = failure(|| {
        let locks = Arc::new((Mutex::new(()), Mutex::new(())));
        let other = Arc::clone(&locks);
        let other = thread(move || drop((other.1.lock(), other.0.lock())));
        drop((locks.0.lock(), locks.1.lock()));
        other.join().unwrap();
    });
    assert!(found.is_some_and(|found| found.starts_with("deadlock!")));
}

/// As in `parking_lot`, a waiting writer blocks new readers.
#[test]
fn recursive_read_lock_beside_a_writer_is_found_to_deadlock() {
    let found = failure(|| {
        let lock = Arc::new(RwLock::new(0));
        let writer = Arc::clone(&lock);
        let writer = thread(move || *writer.write() += 1);
        let once = lock.read();
        let twice = lock.read();
        drop((once, twice));
        writer.join().unwrap();
    });
    assert!(found.is_some_and(|found| found.starts_with("deadlock!")));
}

/// The macro of the prelude would be that of `std`, and its thread locals would be shared by all
/// simulated threads.
#[test]
fn sources_use_only_names_that_have_stand_ins() {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let mut seen = 0;
    for folder in ["engine/src", "larder/src"] {
        let mut folders = vec![crates.join(folder)];
        while let Some(folder) = folders.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.display();
                let bare = text.replace("std::thread_local!", "").contains("thread_local!");
                assert!(!bare, "{path}: write `std::thread_local!`");
                assert!(!text.contains("core::sync"), "{path}: write `std::sync`");
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen} files");
}
