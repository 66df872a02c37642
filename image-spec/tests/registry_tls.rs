//! Registries behind TLS and behind a proxy.

mod common;

use common::distribution::Distribution;
use common::scripted::{Reply, Scripted};
use common::{Layout, MANIFEST, Tar, skip};
use keelbox_image_spec::registry::{Client, Puller, Pusher, Scheme};
use keelbox_image_spec::{Digest, ErrorKind, Image, Store};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Keys and certificates of a small authority: `ca.pem`, and for each name `NAME.pem` and `NAME.key`.
fn authority(names: &[&str]) -> Option<tempfile::TempDir> {
    let directory = tempfile::tempdir().expect("directory");
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(directory.path()).output().ok()?;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Some(())
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem"];
    if openssl(&[&ca[..], &key].concat()).is_none() {
        skip("no openssl(1)");
        return None;
    }
    fs::write(directory.path().join("names"), "subjectAltName=IP:127.0.0.1\n").expect("write");
    for name in names {
        let (csr, pem, own) = (format!("{name}.csr"), format!("{name}.pem"), format!("{name}.key"));
        let subject = format!("/CN={name}");
        openssl(&[&["req", "-subj", &subject, "-keyout", &own, "-out", &csr][..], &key].concat())?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            &pem,
        ])?;
    }
    Some(directory)
}

fn read(directory: &Path, name: &str) -> Vec<u8> {
    fs::read(directory.join(name)).expect(name)
}

fn image() -> (Layout, Image) {
    let layout = Layout::tars(&[Tar::new().file("hello", "world")]);
    let image = layout.open();
    (layout, image)
}

#[test]
fn ds_a_certificate_counts_only_if_somebody_vouches_for_it() {
    let Some(files) = authority(&["server", "client"]) else { return };
    let tls = |extra: &str| {
        let at = files.path().display();
        format!(
            "  tls:\n    certificate: {at}/server.pem\n    key: {at}/server.key\n{}",
            extra.replace("AT", &at.to_string())
        )
    };
    let Some(registry) = Distribution::start(&tls(""), "") else { return };
    let (_layout, image) = image();
    let name = format!("{}/app:1", registry.address);
    let trusting = || Client::new().authorities_of(&registry.address, read(files.path(), "ca.pem"));
    Pusher::new().client(trusting()).push(&image, &name).expect("pushed");
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(directory.path()).expect("store");
    Puller::new(&store).client(trusting()).pull(&name).expect("pulled").unpack(&store).expect("unpacked");
    store.remove_name(&name).expect("removed");
    // Nobody known vouches for it: an error at once, since that does not pass.
    let begun = Instant::now();
    for client in [
        Client::new().scheme(&registry.address, Scheme::Https),
        Client::new()
            .scheme(&registry.address, Scheme::Https)
            .authorities_of("127.0.0.1:1", read(files.path(), "ca.pem")),
        Client::new().authorities_of(&registry.address, read(files.path(), "client.pem")),
    ] {
        let error = Puller::new(&store).client(client).pull(&name).map(drop).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}: {source}");
        assert!(source.contains("certificate"), "{source}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    // For everybody instead of the web's; and another name than the certificate's.
    let all = Client::new().scheme(&registry.address, Scheme::Https).authorities(read(files.path(), "ca.pem"));
    Puller::new(&store).client(all.clone()).pull(&name).expect("pulled");
    let other = name.replace("127.0.0.1", "localhost");
    let host = registry.address.replace("127.0.0.1", "localhost");
    let error = Puller::new(&store).client(all.scheme(host, Scheme::Https)).pull(&other).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Plain text where TLS is spoken is no answer to go by.
    assert!(Puller::new(&store).client(Client::new().retries(0)).pull(&name).is_err());
}

#[test]
fn ds_a_client_certificate_is_shown_where_it_is_for() {
    let Some(files) = authority(&["server", "client"]) else { return };
    let at = files.path().display();
    let tls = format!(
        "  tls:\n    certificate: {at}/server.pem\n    key: {at}/server.key\n    clientcas:\n      - {at}/ca.pem\n"
    );
    let Some(registry) = Distribution::start(&tls, "") else { return };
    let (_layout, image) = image();
    let name = format!("{}/app:1", registry.address);
    let trusting = Client::new().retries(0).authorities_of(&registry.address, read(files.path(), "ca.pem"));
    assert_eq!(Pusher::new().client(trusting.clone()).push(&image, &name).unwrap_err().kind(), ErrorKind::Unavailable);
    let identity = [read(files.path(), "client.pem"), read(files.path(), "client.key")].concat();
    let known = trusting.clone().identity(&registry.address, identity);
    assert!(!format!("{known:?}").contains("PRIVATE"));
    Pusher::new().client(known).push(&image, &name).expect("pushed");
    // What is no pair is refused, not a panic at the first connection.
    for wrong in [
        [read(files.path(), "client.pem"), read(files.path(), "server.key")].concat(),
        read(files.path(), "client.pem"),
        read(files.path(), "client.key"),
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec(),
        Vec::new(),
    ] {
        let error =
            Pusher::new().client(trusting.clone().identity(&registry.address, wrong)).push(&image, &name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    }
}

/// A proxy that makes tunnels to `target`, whatever is asked for, and remembers the requests.
fn proxy(target: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, heads) = (listener.local_addr().expect("address").to_string(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&heads);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), seen, target) = (stream, Arc::clone(&seen), target.clone()) else { continue };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                seen.lock().expect("list").push(String::from_utf8_lossy(&head).into_owned());
                let mut there = TcpStream::connect(target).expect("target");
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("answer");
                let (mut from, mut to) = (there.try_clone().expect("clone"), stream.try_clone().expect("clone"));
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut stream, &mut there);
                let _ = there.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, heads)
}

#[test]
fn ds_a_proxy_is_used_where_it_was_told_and_only_there() {
    let (layout, image) = image();
    let served = {
        let image = image.clone();
        Scripted::start(move |seen, _| match seen.path() {
            path if path.contains("/manifests/") => Reply::ok(image.raw_manifest()).header("Content-Type", MANIFEST),
            path if path.ends_with(&Digest::of(image.config().raw()).to_string()) => Reply::ok(image.config().raw()),
            _ => Reply::ok(fs::read(layout.blob_path_of(image.layers()[0].digest())).expect("blob")),
        })
    };
    let (address, heads) = proxy(served.address.clone());
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(directory.path()).expect("store");
    // A name that only the proxy could find.
    let client = || {
        Client::new().retries(0).scheme("shop.invalid:5000", Scheme::Http).proxy(format!("http://me:secret@{address}"))
    };
    assert!(!format!("{:?}", client()).contains("secret"));
    Puller::new(&store)
        .client(client())
        .pull("shop.invalid:5000/app:1")
        .expect("by way of the proxy")
        .unpack(&store)
        .expect("right");
    let seen = heads.lock().expect("list").clone();
    assert!(
        !seen.is_empty()
            && seen.iter().all(|head| head.starts_with("CONNECT shop.invalid:5000 ") && head.contains("bWU6c2VjcmV0")),
        "{seen:?}"
    );
    // Not for this machine, and not for what was excepted.
    Puller::new(&store).client(client()).pull(&format!("{}/app:1", served.address)).expect("direct");
    for list in [&["*"][..], &["invalid"], &[".invalid"], &["a.example", "shop.invalid"]] {
        let client = client().no_proxy(list.iter().copied());
        let error = Puller::new(&store).client(client).pull("shop.invalid:5000/app:2").map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{list:?}: {error}");
    }
    assert_eq!(heads.lock().expect("list").len(), seen.len());
    let client = client().no_proxy(["other.invalid", "op.invalid"]);
    Puller::new(&store).client(client).pull("shop.invalid:5000/app:2").expect("by way of the proxy");
    for wrong in ["", "ftp://x", "http://", "http://a b"] {
        let error =
            Puller::new(&store).client(Client::new().proxy(wrong)).pull("shop.invalid/app").map(drop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Unavailable), "{wrong}: {error}");
    }
}
