//! Redis over TLS, with a certificate authority that the test creates.

use std::fs;

use larder::{ErrorKind, Tier};
use larder_testkit::{RedisServer, block_on, not_run, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Starts a server that only speaks TLS. Returns it with the file of its certificate authority, or
/// `None` if no server with TLS is installed.
fn start() -> Option<(RedisServer, String, TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    fs::write(file("ca.pem"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    fs::write(file("server.pem"), server.pem()).unwrap();
    fs::write(file("server.key"), key.serialize_pem()).unwrap();
    let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(file);
    if !speaks_tls() {
        not_run("this redis-server was built without TLS");
        return None;
    }
    let options = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let server = RedisServer::start_tls(&[&options[..], &["--tls-auth-clients", "no"]].concat(), &ca)?;
    Some((server, ca, dir))
}

/// Returns whether the installed server supports TLS: one without TLS refuses the option.
fn speaks_tls() -> bool {
    let asked = std::process::Command::new("redis-server").args(["--tls-port", "0", "--port", "x"]).output();
    asked.is_ok_and(|asked| {
        let told = [asked.stdout, asked.stderr].concat();
        !String::from_utf8_lossy(&told).contains("tls-port \"0\"")
    })
}

fn open(url: &str) -> larder::Result<RedisTier> {
    RedisTier::open(RedisOptions::new(url, "test", "cache"))
}

#[test]
fn server_with_a_known_certificate_authority_is_used() {
    let Some((server, ca, _dir)) = start() else { return };
    for host in ["localhost", "127.0.0.1"] {
        let tier = open(&format!("rediss://{host}:{}?ca={ca}", server.port())).unwrap();
        tier.check().unwrap();
        let key = sample::key(1);
        let frame = sample::frame(&key, sample::payload(1, 3 << 20));
        block_on(tier.put(&key, &frame)).unwrap();
        let found = block_on(tier.get(&key)).unwrap().unwrap();
        assert_eq!(found.len(), frame.len());
    }
}

#[test]
fn server_with_an_unknown_certificate_authority_is_refused() {
    let Some((server, _ca, _dir)) = start() else { return };
    let (_, other, _other_dir) = start().unwrap();
    let tier = open(&format!("rediss://localhost:{}?ca={other}", server.port())).unwrap();
    let error = tier.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = open(&format!("redis://localhost:{}", server.port())).unwrap();
    assert!(!plain.healthy(), "it speaks TLS alone");
}

#[test]
fn ca_file_without_certificates_is_a_config_error() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for ca in [empty.display().to_string(), "/nowhere/at/all".to_owned()] {
        let error = open(&format!("rediss://:hunter2@localhost?ca={ca}")).unwrap_err();
        let told = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            told.contains("option `redis`") && told.contains("`ca`") && !told.contains("hunter2"),
            "{told}"
        );
    }
}
