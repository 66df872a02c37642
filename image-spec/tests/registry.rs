//! Pulling and pushing with Debian's `docker-registry`, and what skopeo makes of it.

mod common;

use common::distribution::Distribution;
use common::scripted::{Reply, Scripted};
use common::{Blob, GZIP, Layout, MANIFEST, Tar, descriptor, gzip, plain, skip};
use keelbox_image_spec::registry::{Cancel, Client, Event, Present, Puller, Pusher};
use keelbox_image_spec::{Digest, ErrorKind, Image, OpenOptions, Platform, Store, UnpackOptions};
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image of three layers, one of them twice.
fn image() -> Layout {
    let base = Tar::new().file("base", "base").entry(common::Header::new(b'0', "noise"), &noise(300_000));
    let top = Tar::new().file("top", "top");
    let zipped = Blob { content: gzip(&top.bytes()), media_type: GZIP, diff_id: Digest::of(&top.bytes()) };
    let layout = Layout::empty();
    let manifest = layout.add_image(&[plain(&base), zipped, plain(&base)], r#"{"Cmd":["run"]}"#);
    layout.index(&[descriptor(MANIFEST, &manifest, r#","annotations":{"org.opencontainers.image.ref.name":"app:1"}"#)]);
    layout
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("directory");
    let store = Store::open(directory.path().join("store")).expect("store");
    (directory, store)
}

#[test]
fn ds_an_image_goes_to_a_registry_and_comes_back_the_same() {
    let Some(registry) = Distribution::plain() else { return };
    let (layout, name) = (image(), format!("{}/team/app:1", registry.address));
    let image = layout.open();
    let digest = Pusher::new().push(&image, &name).expect("pushed");
    assert_eq!(digest, *image.manifest_digest());
    let (_directory, store) = store();
    assert_eq!(store.get(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let pulled = Puller::new(&store).pull(&name).expect("pulled");
    assert_eq!(pulled.raw_manifest(), image.raw_manifest());
    assert_eq!(pulled.config().raw(), image.config().raw());
    let view = pulled.unpack(&store).expect("unpacked").view().expect("view");
    assert_eq!((view.read("base").expect("base"), view.read("top").expect("top")), (b"base".to_vec(), b"top".to_vec()));
    assert_eq!(store.get(&name).expect("named").manifest_digest(), image.manifest_digest());
    assert_eq!(store.names().expect("names"), [name.parse().expect("a name")]);
    // By digest as well, and under that name.
    let exact = format!("{}/team/app@{digest}", registry.address);
    assert_eq!(Puller::new(&store).pull(&exact).expect("pulled").manifest_digest(), &digest);
    assert_eq!(store.names().expect("names").len(), 2);
    store.remove_name(&name).expect("removed");
    assert_eq!(store.get(&name).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.get(&exact).is_ok());
}

#[test]
fn ds_what_is_there_is_not_moved_again() {
    let Some(registry) = Distribution::plain() else { return };
    let (layout, name) = (image(), format!("{}/app:1", registry.address));
    let image = layout.open();
    let events = |run: &dyn Fn(Arc<Mutex<Vec<Event>>>)| {
        let events = Arc::new(Mutex::new(Vec::new()));
        run(Arc::clone(&events));
        let mut counts = (0, 0);
        for event in events.lock().expect("events").iter() {
            match event {
                Event::Exists(_) => counts.0 += 1,
                Event::Done(_) => counts.1 += 1,
                _ => {}
            }
        }
        counts
    };
    let push = |from: Option<&'static str>, name: &str| {
        let (image, name) = (image.clone(), name.to_owned());
        events(&move |events| {
            let pusher = Pusher::new().progress(move |p| events.lock().expect("events").push(p.event.clone()));
            let pusher = from.map_or(pusher.clone(), |from| pusher.from_repository(from));
            pusher.push(&image, &name).expect("pushed");
        })
    };
    assert_eq!(push(None, &name), (0, 3), "everything is sent the first time, a repeated layer once");
    assert_eq!(push(None, &name), (3, 0), "nothing the second time");
    assert_eq!(push(Some("app"), &format!("{}/other:1", registry.address)), (3, 0), "taken from the other repository");
    assert_eq!(
        push(Some("none"), &format!("{}/third:1", registry.address)),
        (0, 3),
        "sent when there is nothing to take"
    );
    let (_directory, store) = store();
    let pull = |name: &str| {
        let (store, name) = (store.clone(), name.to_owned());
        events(&move |events| {
            let puller = Puller::new(&store).progress(move |p| events.lock().expect("events").push(p.event.clone()));
            puller.pull(&name).expect("pulled");
        })
    };
    assert_eq!(pull(&name), (0, 3));
    assert_eq!(pull(&name), (3, 0), "one request");
    assert_eq!(pull(&format!("{}/other:1", registry.address)), (2, 1), "the configuration is always counted as done");
}

#[test]
fn ds_a_large_blob_goes_in_pieces() {
    let Some(registry) = Distribution::plain() else { return };
    let big = Tar::new().entry(common::Header::new(b'0', "noise"), &noise(1_000_000));
    let layout = Layout::tars(&[big]);
    let name = format!("{}/big:1", registry.address);
    let moved = Arc::new(Mutex::new((0, 0)));
    let told = Arc::clone(&moved);
    let pusher = Pusher::new().piece(100_000).progress(move |p| {
        let mut moved = told.lock().expect("count");
        moved.0 += usize::from(matches!(p.event, Event::Moved(_)));
        moved.1 = p.bytes.max(moved.1);
        assert!(p.bytes <= p.total, "{p:?}");
    });
    pusher.push(&layout.open(), &name).expect("pushed");
    let size: u64 = layout.open().layers()[0].size() + layout.open().config().raw().len() as u64;
    let moved = *moved.lock().expect("count");
    assert!(moved.0 >= 11, "{moved:?}");
    assert_eq!(moved.1, size);
    let (_directory, store) = store();
    Puller::new(&store).pull(&name).expect("pulled").unpack(&store).expect("right in every byte");
}

#[test]
fn ds_an_index_gives_the_image_for_the_platform() {
    let Some(registry) = Distribution::plain() else { return };
    let layout = Layout::empty();
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let tar = Tar::new().file("architecture", architecture);
        let manifest =
            layout.add_image_for(&[plain(&tar)], "{}", &format!(r#""os":"linux","architecture":"{architecture}""#));
        entries.push(descriptor(
            MANIFEST,
            &manifest,
            &format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#),
        ));
        layout.index(&[descriptor(MANIFEST, &manifest, "")]);
        let single = format!("{}/multi:{architecture}", registry.address);
        Pusher::new().push(&layout.open(), &single).expect("pushed");
    }
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, common::INDEX, entries.join(","));
    put(&registry.address, "/v2/multi/manifests/1", common::INDEX, index.as_bytes());
    let (_directory, store) = store();
    let name = format!("{}/multi:1", registry.address);
    for architecture in ["arm64", "amd64", "arm64"] {
        let platform = Platform::new("linux", architecture);
        let image = Puller::new(&store).platform(platform).pull(&name).expect("pulled");
        assert_eq!(image.config().architecture(), architecture);
        assert_eq!(store.get(&name).expect("named").config().architecture(), architecture, "what was pulled is meant");
    }
    let error = Puller::new(&store).platform(Platform::new("linux", "s390x")).pull(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("linux/arm64"), "{error}");
}

/// One request by hand.
fn put(address: &str, path: &str, media_type: &str, body: &[u8]) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("connect");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[test]
fn ds_basic_authentication_and_credential_files() {
    let directory = tempfile::tempdir().expect("directory");
    let passwords = directory.path().join("htpasswd");
    fs::write(&passwords, format!("me:{BCRYPT}\n")).expect("write");
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", passwords.display());
    let Some(registry) = Distribution::start("", &auth) else { return };
    let (layout, name) = (image(), format!("{}/app:1", registry.address));
    let image = layout.open();
    let error = Pusher::new().push(&image, &name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let wrong = Client::new().login(&registry.address, "me", "wrong");
    let error = Pusher::new().client(wrong).push(&image, &name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let right = Client::new().login(&registry.address, "me", "p:w");
    Pusher::new().client(right).push(&image, &name).expect("pushed");
    let home = tempfile::tempdir().expect("directory");
    fs::create_dir(home.path().join(".docker")).expect("mkdir");
    // me:p:w
    let file = format!(r#"{{"auths":{{"{}":{{"auth":"bWU6cDp3"}}}}}}"#, registry.address);
    fs::write(home.path().join(".docker/config.json"), file).expect("write");
    let (_directory, store) = store();
    assert_eq!(Puller::new(&store).pull(&name).unwrap_err().kind(), ErrorKind::Denied);
    let client = Client::new().home(home.path());
    Puller::new(&store).client(client).pull(&name).expect("pulled").unpack(&store).expect("unpacked");
}

/// The password `p:w`, with cost 4.
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuMjP8rcRP9jDBaf.MqHtqTjAN61Q1x0.";

#[test]
fn ds_another_tool_reads_what_was_pushed_and_the_store() {
    let Some(registry) = Distribution::plain() else { return };
    let (layout, name) = (image(), format!("{}/app:1", registry.address));
    Pusher::new().push(&layout.open(), &name).expect("pushed");
    let (directory, store) = store();
    let pulled = Puller::new(&store).pull(&name).expect("pulled");
    let skopeo = |arguments: &[&str]| match Command::new("skopeo").arg("--insecure-policy").args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(_) => {
            skip("no skopeo(1)");
            None
        }
    };
    let remote = format!("docker://{name}");
    let Some(seen) = skopeo(&["inspect", "--tls-verify=false", &remote]) else { return };
    assert!(seen.contains(&pulled.manifest_digest().to_string()), "{seen}");
    let copy = format!("oci:{}:copy", directory.path().join("copy").display());
    skopeo(&["copy", "--src-tls-verify=false", "--preserve-digests", &remote, &copy]);
    assert_eq!(Image::open(&copy).expect("a layout").manifest_digest(), pulled.manifest_digest());
    // The store itself is a layout, for this crate and for others.
    let in_store = format!("oci:{}:{name}", store.path().display());
    assert_eq!(Image::open(&in_store).expect("a layout").manifest_digest(), pulled.manifest_digest());
    let copy = format!("oci:{}:again", directory.path().join("again").display());
    skopeo(&["copy", &in_store, &copy]);
    assert_eq!(Image::open(&copy).expect("a layout").layers().len(), 3);
    // And what the other tool pushed comes back.
    let theirs = format!("{}/theirs:1", registry.address);
    skopeo(&["copy", "--dest-tls-verify=false", "--format", "v2s2", &copy, &format!("docker://{theirs}")]);
    let image = Puller::new(&store).pull(&theirs).expect("pulled");
    assert_eq!(image.media_type(), "application/vnd.docker.distribution.manifest.v2+json");
    image.unpack(&store).expect("unpacked");
    // An archive of docker's, pushed by us.
    let archive = directory.path().join("saved.tar");
    skopeo(&["copy", &copy, &format!("docker-archive:{}:saved:1", archive.display())]);
    let saved = Image::open(&format!("docker-archive:{}", archive.display())).expect("an archive");
    let name = format!("{}/saved:1", registry.address);
    Pusher::new().push(&saved, &name).expect("pushed");
    Puller::new(&store).pull(&name).expect("pulled").unpack(&store).expect("unpacked");
    skopeo(&["inspect", "--tls-verify=false", &format!("docker://{name}")]);
}

#[test]
fn ds_a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let Some(registry) = Distribution::plain() else { return };
    let layout = image();
    Pusher::new().push(&layout.open(), &format!("{}/library/debian:12", registry.address)).expect("pushed");
    let (_directory, store) = store();
    let mirror = format!("http://{}", registry.address);
    let image = Puller::new(&store).mirror("docker.io", &mirror).pull("debian:12").expect("pulled");
    assert_eq!(store.get("docker.io/library/debian:12").expect("named").manifest_digest(), image.manifest_digest());
    assert_eq!(store.get("debian:12").expect("named").name(), Some("docker.io/library/debian:12"));
    // A mirror that lacks it, or is not there, costs nothing but time.
    let name = format!("{}/library/debian:12", registry.address);
    let client = Client::new()
        .retries(0)
        .mirror(&registry.address, "http://127.0.0.1:9")
        .mirror(&registry.address, format!("{mirror}/absent"));
    Puller::new(&store).client(client).pull(&name).expect("from the registry itself");
}

#[test]
fn ds_many_pull_at_once_and_each_blob_comes_once() {
    let Some(registry) = Distribution::plain() else { return };
    let (layout, name) = (image(), format!("{}/app:1", registry.address));
    Pusher::new().push(&layout.open(), &name).expect("pushed");
    let (_directory, store) = store();
    let moved = Arc::new(Mutex::new(0_u64));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            let (store, name, moved) = (&store, &name, Arc::clone(&moved));
            scope.spawn(move || {
                let puller = Puller::new(store).progress(move |p| {
                    if let Event::Done(_) = p.event {
                        *moved.lock().expect("count") += 1;
                    }
                });
                puller.pull(name).expect("pulled");
            });
        }
    });
    // Two layers; the configuration is counted as done by each.
    assert!(*moved.lock().expect("count") <= 2 + 16);
    store.get(&name).expect("named").unpack(&store).expect("right");
    let left: Vec<_> = fs::read_dir(store.path().join("ingest")).expect("list").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn ds_a_cancelled_pull_names_nothing_and_goes_on_the_next_time() {
    let Some(registry) = Distribution::plain() else { return };
    let big = Tar::new().entry(common::Header::new(b'0', "noise"), &noise(3_000_000));
    let layout = Layout::tars(&[big]);
    let name = format!("{}/big:1", registry.address);
    Pusher::new().push(&layout.open(), &name).expect("pushed");
    let (_directory, store) = store();
    let cancel = Cancel::new();
    let button = cancel.clone();
    let puller = Puller::new(&store).cancel(&cancel).progress(move |p| {
        if p.bytes > 500_000 {
            button.cancel();
        }
    });
    assert_eq!(puller.pull(&name).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(store.get(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let part = fs::read_dir(store.path().join("ingest")).expect("list").next().expect("kept").expect("entry");
    let kept = part.metadata().expect("stat").len();
    assert!(kept > 400_000, "{kept}");
    let moved = Arc::new(Mutex::new(0_usize));
    let told = Arc::clone(&moved);
    let puller = Puller::new(&store).progress(move |p| {
        *told.lock().expect("count") += usize::from(matches!(p.event, Event::Restarted(_)));
        assert!(p.bytes <= p.total);
    });
    puller.pull(&name).expect("pulled").unpack(&store).expect("right");
    assert_eq!(*moved.lock().expect("count"), 0, "nothing was thrown away");
}

#[test]
fn ds_layers_are_unpacked_while_they_come() {
    let Some(registry) = Distribution::plain() else { return };
    let (layout, name) = (image(), format!("{}/app:1", registry.address));
    Pusher::new().push(&layout.open(), &name).expect("pushed");
    let (_directory, store) = store();
    let puller = Puller::new(&store).unpack(UnpackOptions::new());
    let pulled = puller.pull(&name).expect("pulled");
    assert_eq!(store.layers().expect("layers").len(), 2, "a repeated layer is one");
    let view = pulled.unpack(&store).expect("unpacked").view().expect("view");
    assert_eq!((view.read("base").expect("base"), view.read("top").expect("top")), (b"base".to_vec(), b"top".to_vec()));
    // Once more, with a layer that somebody removed.
    let key = store.layers().expect("layers").remove(0);
    store.remove_layer(&key).expect("removed");
    puller.pull(&name).expect("pulled");
    assert_eq!(store.layers().expect("layers").len(), 2);
    // A listener that panics ends the pull, and nobody waits for what does not come.
    let (_other, fresh) = self::store();
    let puller =
        Puller::new(&fresh).unpack(UnpackOptions::new()).progress(|p| assert!(!matches!(p.event, Event::Moved(_))));
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| puller.pull(&name)));
    assert!(answer.is_err());
    assert_eq!(fresh.get(&name).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn is_51_a_blob_that_is_damaged_in_the_store_comes_anew_when_that_is_wanted() {
    let Some(registry) = Distribution::plain() else { return };
    let (layout, name) = (image(), format!("{}/app:1", registry.address));
    Pusher::new().push(&layout.open(), &name).expect("pushed");
    let (_directory, store) = store();
    let image = Puller::new(&store).pull(&name).expect("pulled");
    let blob = store.path().join("blobs/sha256").join(image.layers()[0].digest().hex());
    let mut content = fs::read(&blob).expect("blob");
    content[600] ^= 1;
    fs::remove_file(&blob).and_then(|()| fs::write(&blob, content)).expect("damage");
    let again = Puller::new(&store).pull(&name).expect("nothing to see by its size");
    assert_eq!(again.unpack(&store).map(drop).unwrap_err().kind(), ErrorKind::DigestMismatch);
    let image = Puller::new(&store).present(Present::Verify).pull(&name).expect("pulled");
    image.unpack(&store).expect("right again");
}

/// This test is also the process that it kills.
#[test]
fn ds_a_pull_that_is_killed_leaves_what_the_next_one_takes_up() {
    const NAME: &str = "ds_a_pull_that_is_killed_leaves_what_the_next_one_takes_up";
    if let (Ok(name), Ok(path)) = (std::env::var("KEELBOX_PULL"), std::env::var("KEELBOX_STORE")) {
        let store = Store::open(path).expect("store");
        let _ = Puller::new(&store).client(Client::new().silence(std::time::Duration::from_secs(100))).pull(&name);
        return;
    }
    let layout = Layout::tars(&[Tar::new().entry(common::Header::new(b'0', "noise"), &noise(500_000))]);
    let image = layout.open();
    let layer = fs::read(layout.blob_path_of(image.layers()[0].digest())).expect("blob");
    let server = {
        let (image, layer) = (image.clone(), layer.clone());
        Scripted::start(move |seen, before| match seen.path() {
            path if path.contains("/manifests/") => Reply::ok(image.raw_manifest()).header("Content-Type", MANIFEST),
            path if path.ends_with(&Digest::of(image.config().raw()).to_string()) => Reply::ok(image.config().raw()),
            // The first time a part, and then silence.
            _ if before == 0 => Reply::new(200).begun(&layer[..300_000], layer.len()),
            _ => {
                let range = format!("bytes={}-{}", 300_000, layer.len() - 1);
                assert_eq!(seen.header("range"), Some(range.as_str()));
                Reply::new(206)
                    .header("Content-Range", format!("bytes 300000-{}/{}", layer.len() - 1, layer.len()))
                    .body(&layer[300_000..])
            }
        })
    };
    let (_directory, store) = store();
    let name = format!("{}/app:1", server.address);
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", NAME])
        .env("KEELBOX_PULL", &name)
        .env("KEELBOX_STORE", store.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("another process");
    let part = store.path().join(format!("ingest/sha256-{}.part", image.layers()[0].digest().hex()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 300_000 {
        assert!(std::time::Instant::now() < end, "the other process does not get on");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(store.names().expect("names").is_empty());
    Puller::new(&store).pull(&name).expect("pulled").unpack(&store).expect("right in every byte");
    assert!(!part.exists());
}

#[test]
fn ds_layouts_and_archives_are_added_to_the_store_by_name() {
    let layout = image();
    let (_directory, store) = store();
    let image = store.add(&layout.open(), "app:1").expect("added");
    assert_eq!(image.manifest_digest(), layout.open().manifest_digest());
    assert_eq!(image.name(), Some("docker.io/library/app:1"));
    image.unpack(&store).expect("unpacked");
    assert!(OpenOptions::new().stored(&store, "app:1").is_ok());
    assert_eq!(store.add(&layout.open(), "App").unwrap_err().kind(), ErrorKind::Format);
    // Damaged on its way: no name, no blob.
    let blob = layout
        .blob_path(&fs::read(layout.path().join("blobs/sha256").join(image.layers()[1].digest().hex())).expect("blob"));
    let mut content = fs::read(&blob).expect("blob");
    content[20] ^= 1;
    fs::write(&blob, content).expect("write");
    let (_other, fresh) = self::store();
    assert_eq!(fresh.add(&layout.open(), "app:2").unwrap_err().kind(), ErrorKind::DigestMismatch);
    assert!(fresh.names().expect("names").is_empty());
}
