//! The conformance suite, over S3, a map and a folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_opendal::ObjectStorage;
use larder_opendal::opendal::{Operator, services};
use larder_testkit::FaultyTier;
use larder_testkit::conformance::{Subject, run};

use super::server::Server;

#[test]
fn tier_over_s3_conforms() {
    let (server, next) = (Arc::new(Server::start()), AtomicU64::new(0));
    let subject = Subject::new("s3", move || {
        let prefix = format!("place {}", next.fetch_add(1, Ordering::Relaxed));
        let server = Arc::clone(&server);
        move || server.tier(&prefix)
    });
    run(&subject).assert_all();
}

#[test]
fn tier_over_a_map_conforms() {
    let subject = Subject::new("memory", || {
        let operator = Operator::new(services::Memory::default()).unwrap().finish();
        move || ObjectStorage::new("objects", operator.clone()).prefix("a/b").open().unwrap()
    });
    run(&subject).assert_all();
    run(&subject.through_arc()).assert_all();
    run(&subject.through_box()).assert_all();
    run(&subject.wrapped("with faults", |tier| Box::new(FaultyTier::new(tier)))).assert_all();
}

#[test]
fn tier_over_a_folder_conforms() {
    let subject = Subject::new("folder", || {
        let folder = tempfile::tempdir().unwrap();
        move || {
            let service = services::Fs::default()
                .root(folder.path().join("objects").to_str().unwrap())
                // Otherwise a file is written in place, and a reader sees a part of it.
                .atomic_write_dir(folder.path().join("temporary").to_str().unwrap());
            let operator = Operator::new(service).unwrap().finish();
            ObjectStorage::new("objects", operator).open().unwrap()
        }
    });
    run(&subject).assert_all();
}

#[test]
fn shared_tiers_see_the_objects_of_one_another() {
    let subject = Subject::new("shared", || {
        let operator = Operator::new(services::Memory::default()).unwrap().finish();
        move || ObjectStorage::new("objects", operator.clone()).shared().open().unwrap()
    });
    run(&subject).assert_all();
}
