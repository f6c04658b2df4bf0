//! TLS with certificates on both sides.

use std::fs;

use hivemind_core::{ErrorKind, EtcdOptions, EtcdStore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::server::Server;
use crate::support::{connect, options, read, wait, write};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// An etcd for whoever has a certificate of `authority`.
fn start(authority: &Authority, name: &str) -> Option<(Server, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.sign(name);
    let [ca, cert, key] =
        [("ca", &authority.pem), ("cert", &certificate), ("key", &key)].map(|(name, pem)| {
            let path = dir.path().join(name);
            fs::write(&path, pem).unwrap();
            path.to_str().unwrap().to_owned()
        });
    let further = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth"];
    Some((Server::start(&further)?, dir))
}

fn refused(options: EtcdOptions) -> ErrorKind {
    wait("the connection", EtcdStore::connect(options)).unwrap_err().kind()
}

#[test]
fn both_sides_show_certificates() {
    let authority = Authority::new();
    let Some((server, _dir)) = start(&authority, "127.0.0.1") else { return };
    let base = options(&[server.endpoint()]);
    let (certificate, key) = authority.sign("client");
    let trusted = base.clone().with_tls(authority.pem.clone());
    let store = connect(&trusted.clone().with_identity(certificate.clone(), key.clone()).unwrap());
    write(&store, "+a=1");
    assert_eq!(read(&store, "a").as_deref(), Some("1"));

    assert_eq!(refused(trusted.clone()), ErrorKind::Unavailable, "no certificate");
    assert_eq!(refused(base.clone()), ErrorKind::Unavailable, "no TLS");
    let stranger = Authority::new();
    let untrusting = base.with_tls(stranger.pem.clone()).with_identity(certificate, key).unwrap();
    assert_eq!(refused(untrusting), ErrorKind::Unavailable, "a server that is not trusted");
    let (certificate, key) = stranger.sign("client");
    let untrusted = trusted.clone().with_identity(certificate, key).unwrap();
    assert_eq!(refused(untrusted), ErrorKind::Unavailable, "a client that is not trusted");
    let nonsense = trusted.with_identity("certificate", "secret").unwrap();
    assert_eq!(refused(nonsense), ErrorKind::Invalid, "a certificate that is none");
}

#[test]
fn a_server_may_have_another_name_than_its_address() {
    let authority = Authority::new();
    let Some((server, _dir)) = start(&authority, "etcd.example") else { return };
    let (certificate, key) = authority.sign("client");
    let base = options(&[server.endpoint()]).with_tls(authority.pem.clone());
    let base = base.with_identity(certificate, key).unwrap();
    assert_eq!(refused(base.clone()), ErrorKind::Unavailable);
    write(&connect(&base.with_server_name("etcd.example").unwrap()), "+a=1");
}
