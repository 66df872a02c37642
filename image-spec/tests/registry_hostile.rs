//! A registry that misbehaves in one way at a time: for each the stated error, or the right image in the end; and never a
//! name, or a blob that is not what it is called.

mod common;

use common::scripted::{Reply, Scripted, Seen};
use common::{CONFIG, GZIP, INDEX, Layout, MANIFEST, Tar, descriptor, plain};
use keelbox_image_spec::registry::{Client, Event, Puller};
use keelbox_image_spec::{Digest, Durability, Error, ErrorKind, Image, Limits, Store, UnpackOptions};
use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// An image as a registry has it.
#[derive(Clone)]
struct Served {
    manifest: Vec<u8>,
    layer: Vec<u8>,
    config: Vec<u8>,
    documents: HashMap<String, (String, Vec<u8>)>,
}

impl Served {
    fn new() -> Self {
        let tar = Tar::new().file("hello", "world").entry(common::Header::new(b'0', "filler"), &[7; 70_000]);
        let layout = Layout::empty();
        let manifest = layout.add_image(&[plain(&tar)], "{}");
        layout.index(&[descriptor(MANIFEST, &manifest, "")]);
        let image = layout.open();
        let (config, layer) = (image.config().raw().to_vec(), tar.bytes());
        let documents = HashMap::from([
            ("1".to_owned(), (MANIFEST.to_owned(), manifest.clone())),
            (Digest::of(&manifest).to_string(), (MANIFEST.to_owned(), manifest.clone())),
        ]);
        Self { manifest, layer, config, documents }
    }

    fn add(mut self, name: &str, media_type: &str, text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        self.documents.insert(Digest::of(&text).to_string(), (media_type.to_owned(), text.clone()));
        self.documents.insert(name.to_owned(), (media_type.to_owned(), text));
        self
    }

    /// What a registry that is well answers.
    fn answer(&self, seen: &Seen) -> Reply {
        let last = seen.path().rsplit('/').next().unwrap_or_default();
        if seen.path().contains("/manifests/") {
            let Some((media_type, text)) = self.documents.get(last) else { return missing("MANIFEST_UNKNOWN") };
            return Reply::ok(text.clone())
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", Digest::of(text).to_string());
        }
        let blob = [&self.layer, &self.config].into_iter().find(|blob| Digest::of(blob).to_string() == last);
        let Some(blob) = blob.filter(|_| seen.path().contains("/blobs/")) else { return missing("BLOB_UNKNOWN") };
        match seen.header("range") {
            Some(range) => part(blob, range),
            None => Reply::ok(blob.clone()),
        }
    }

    fn is_layer(&self, seen: &Seen) -> bool {
        seen.path().ends_with(&Digest::of(&self.layer).to_string())
    }
}

fn missing(code: &str) -> Reply {
    Reply::new(404).body(format!(r#"{{"errors":[{{"code":"{code}","message":"ignored"}}]}}"#))
}

fn part(blob: &[u8], range: &str) -> Reply {
    let (start, end) = range.trim_start_matches("bytes=").split_once('-').expect("a closed range");
    let (start, end): (usize, usize) = (start.parse().expect("start"), end.parse().expect("a closed range"));
    Reply::new(206).body(&blob[start..=end]).header("Content-Range", format!("bytes {start}-{end}/{}", blob.len()))
}

struct Shop {
    directory: tempfile::TempDir,
    store: Store,
    /// Whether layers are unpacked while they come.
    unpack: bool,
}

impl Shop {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::open(directory.path().join("store")).expect("store");
        Self { directory, store, unpack: false }
    }

    /// Impatient, so that failing takes little time.
    fn client() -> Client {
        Client::new()
            .retries(2)
            .pause(Duration::from_millis(1), Duration::from_secs(2))
            .silence(Duration::from_millis(400))
    }

    fn pull(&self, server: &Scripted) -> Result<Image, Error> {
        self.pull_by(server, Self::client())
    }

    fn pull_by(&self, server: &Scripted, client: Client) -> Result<Image, Error> {
        let name = format!("{}/app:1", server.address);
        let puller = Puller::new(&self.store).client(client);
        let puller =
            if self.unpack { puller.unpack(UnpackOptions::new().durability(Durability::None)) } else { puller };
        let pulled = puller.pull(&name);
        let layers = self.store.layers().expect("layers").len();
        assert_eq!(layers, usize::from(self.unpack && pulled.is_ok()), "unpacked layers");
        let left = fs::read_dir(self.store.path().join("layers")).expect("list").count();
        assert_eq!(left, layers, "nothing half-made");
        self.check(pulled.is_ok().then_some(&name));
        pulled
    }

    /// Every blob is what it is called, and only what was pulled has a name.
    fn check(&self, name: Option<&String>) {
        for blob in fs::read_dir(self.store.path().join("blobs/sha256")).into_iter().flatten() {
            let blob = blob.expect("entry");
            let content = fs::read(blob.path()).expect("blob");
            assert_eq!(Digest::of(&content).hex(), blob.file_name().to_string_lossy());
        }
        let names: Vec<String> = self.store.names().expect("names").iter().map(ToString::to_string).collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), name.into_iter().collect::<Vec<_>>());
        assert_eq!(Image::open(&format!("oci:{}", self.store.path().display())).is_ok(), name.is_some());
    }
}

/// Pulls from a server that answers as `handler` says.
fn pull(handler: impl Fn(&Served, &Seen, usize) -> Reply + Send + Sync + 'static) -> Result<Image, Error> {
    let served = Served::new();
    let server = Scripted::start(move |seen, before| handler(&served, seen, before));
    Shop::new().pull(&server)
}

/// It fails so, in the one way of pulling and in the other.
#[track_caller]
fn fails(kind: ErrorKind, text: &str, handler: impl Fn(&Served, &Seen, usize) -> Reply + Send + Sync + 'static) {
    let (served, handler) = (Served::new(), Arc::new(handler));
    for unpack in [false, true] {
        let begun = Instant::now();
        let (served, handler) = (served.clone(), Arc::clone(&handler));
        let server = Scripted::start(move |seen, before| handler(&served, seen, before));
        let shop = Shop { unpack, ..Shop::new() };
        let error = shop.pull(&server).map(|image| image.manifest_digest().clone()).expect_err(text);
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert_eq!(error.kind(), kind, "{error}: {source}");
        assert!(format!("{error}: {source}").contains(text), "{error}: {source}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

#[track_caller]
fn succeeds(handler: impl Fn(&Served, &Seen, usize) -> Reply + Send + Sync + 'static) {
    let (served, handler) = (Served::new(), Arc::new(handler));
    for unpack in [false, true] {
        let (own, handler) = (served.clone(), Arc::clone(&handler));
        let server = Scripted::start(move |seen, before| handler(&own, seen, before));
        let shop = Shop { unpack, ..Shop::new() };
        let image = shop.pull(&server).expect("pulled in the end");
        assert_eq!(image.raw_manifest(), served.manifest);
        let view = image.unpack(&shop.store).expect("unpacked").view().expect("view");
        assert_eq!(view.read("hello").expect("there"), b"world");
    }
}

/// What the layer's request gets; everything else is as it should be.
fn layer(
    reply: impl Fn(&Served, &Seen, usize) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Served, &Seen, usize) -> Reply {
    move |served, seen, before| if served.is_layer(seen) { reply(served, seen, before) } else { served.answer(seen) }
}

/// What the manifest's request gets.
fn document(
    reply: impl Fn(&Served, &Seen, usize) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Served, &Seen, usize) -> Reply {
    move |served, seen, before| {
        if seen.path().ends_with("/manifests/1") { reply(served, seen, before) } else { served.answer(seen) }
    }
}

#[test]
fn is_10_blobs_of_another_digest_or_size() {
    succeeds(|served, seen, _| served.answer(seen));
    let flipped = |served: &Served| {
        let mut wrong = served.layer.clone();
        wrong[600] ^= 1;
        wrong
    };
    fails(ErrorKind::DigestMismatch, "should have digest", layer(move |served, _, _| Reply::ok(flipped(served))));
    succeeds(layer(
        move |served, seen, before| if before == 0 { Reply::ok(flipped(served)) } else { served.answer(seen) },
    ));
    let length = Served::new().layer.len();
    for stated in ["0".to_owned(), (length - 1).to_string(), (length + 1).to_string(), u64::MAX.to_string()] {
        fails(
            ErrorKind::SizeMismatch,
            "should have",
            layer(move |served, _, _| Reply::ok(served.layer.clone()).length(&stated)),
        );
    }
    fails(
        ErrorKind::SizeMismatch,
        "or more",
        layer(|served, _, _| Reply::ok([&served.layer[..], b"x"].concat()).unmeasured()),
    );
    fails(ErrorKind::SizeMismatch, "or more", layer(|_, _, _| Reply::new(200).endless([0; 4096])));
    fails(ErrorKind::Unavailable, "too early", layer(|_, _, _| Reply::ok("short").unmeasured()));
    // The configuration is no different.
    let config = |served: &Served, seen: &Seen| seen.path().ends_with(&Digest::of(&served.config).to_string());
    fails(ErrorKind::DigestMismatch, "should have digest", move |served, seen, _| {
        let wrong = vec![b' '; served.config.len()];
        if config(served, seen) { Reply::ok(wrong) } else { served.answer(seen) }
    });
}

#[test]
fn ds_silence_and_slowness_end() {
    fails(
        ErrorKind::Unavailable,
        "cannot get blob",
        layer(|_, _, _| Reply::new(200).silence().length(Served::new().layer.len())),
    );
    fails(
        ErrorKind::Unavailable,
        "slowly",
        layer(|served, _, _| Reply::new(200).slow(served.layer.clone(), Duration::from_millis(30))),
    );
    fails(ErrorKind::Unavailable, "cannot", document(|_, _, _| Reply::new(200).silence()));
    fails(
        ErrorKind::Unavailable,
        "slowly",
        document(|served, _, _| {
            Reply::new(200).header("Content-Type", MANIFEST).slow(served.manifest.clone(), Duration::from_millis(30))
        }),
    );
}

#[test]
fn ds_a_connection_that_breaks_is_taken_up_where_it_broke() {
    // The first answers break off; each later one must continue.
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen_ranges = Arc::clone(&ranges);
    succeeds(layer(move |served, seen, before| {
        seen_ranges.lock().expect("list").push(seen.header("range").map(str::to_owned));
        let size = served.layer.len();
        match before {
            0 => Reply::ok(&served.layer[..20_000]).length(size),
            1 => Reply::new(206)
                .header("Content-Range", format!("bytes 20000-{}/{size}", size - 1))
                .body(&served.layer[20_000..30_000])
                .length(size - 20_000),
            _ => served.answer(seen),
        }
    }));
    let size = Served::new().layer.len() - 1;
    let expected = [None, Some(format!("bytes=20000-{size}")), Some(format!("bytes=30000-{size}"))];
    // Once for each way of pulling.
    assert_eq!(*ranges.lock().expect("list"), [expected.clone(), expected].concat());
    // One that never gets further has a last try.
    fails(
        ErrorKind::Unavailable,
        "cannot get blob",
        layer(|served, _, before| {
            let size = served.layer.len();
            if before == 0 {
                return Reply::ok(&served.layer[..100]).length(size);
            }
            Reply::new(206).header("Content-Range", format!("bytes 100-{}/{size}", size - 1)).length(size - 100)
        }),
    );
    // Broken before an answer: the request is repeated.
    succeeds(|served, seen, before| if before == 0 { Reply::raw("") } else { served.answer(seen) });
    fails(ErrorKind::Unavailable, "cannot get manifest", |_, _, _| Reply::raw(""));
    fails(ErrorKind::Unavailable, "cannot get manifest", |_, _, _| Reply::raw("SSH-2.0-OpenSSH\r\n\r\n"));
}

#[test]
fn ds_an_answer_to_a_range_has_to_be_that_range() {
    let broken = |reply: fn(&Served) -> Reply| {
        layer(move |served, seen, before| match (before, seen.header("range")) {
            (0, _) => Reply::ok(&served.layer[..20_000]).length(served.layer.len()),
            (_, Some(_)) => reply(served),
            (_, None) => served.answer(seen),
        })
    };
    let range = |text: &'static str| {
        move |served: &Served| {
            let body = &served.layer[20_000..];
            let text = text
                .replace("END", &(served.layer.len() - 1).to_string())
                .replace("SIZE", &served.layer.len().to_string());
            Reply::new(206).header("Content-Range", text).body(body)
        }
    };
    // From the beginning, where the registry cannot do ranges.
    succeeds(broken(|served| Reply::ok(served.layer.clone())));
    succeeds(broken(|_| Reply::new(416)));
    succeeds(broken(|served| part(&served.layer, &format!("bytes=20000-{}", served.layer.len() - 1))));
    for text in [
        "bytes 0-END/SIZE",
        "bytes 20001-END/SIZE",
        "bytes 20000-END/1",
        "bytes 20000-20001/SIZE",
        "20000-END/SIZE",
        "bytes */SIZE",
        "",
    ] {
        let reply = range(text);
        fails(
            ErrorKind::Format,
            "another part",
            layer(move |served, seen, before| match (before, seen.header("range")) {
                (0, _) => Reply::ok(&served.layer[..20_000]).length(served.layer.len()),
                (_, Some(_)) => reply(served),
                (_, None) => served.answer(seen),
            }),
        );
    }
}

#[test]
fn ds_what_an_earlier_run_left_is_used_if_it_is_right() {
    let served = Served::new();
    let server = Scripted::start({
        let served = served.clone();
        move |seen, _| served.answer(seen)
    });
    let name = format!("sha256-{}.part", Digest::of(&served.layer).hex());
    for (left, requests, restarts) in [
        (served.layer[..1000].to_vec(), 1, 0),
        (served.layer.clone(), 0, 0),
        (vec![9; 1000], 2, 1),
        (vec![9; served.layer.len()], 1, 1),
        (vec![9; served.layer.len() + 1], 1, 0),
    ] {
        let shop = Shop::new();
        fs::create_dir(shop.store.path().join("ingest")).expect("mkdir");
        fs::write(shop.store.path().join("ingest").join(&name), left).expect("write");
        let before = server.count(&Digest::of(&served.layer).to_string());
        let events = Arc::new(Mutex::new(0));
        let told = Arc::clone(&events);
        let pulled = format!("{}/app:1", server.address);
        let puller = Puller::new(&shop.store).client(Shop::client()).progress(move |p| {
            *told.lock().expect("count") += usize::from(matches!(p.event, Event::Restarted(_)));
            assert!(p.bytes <= p.total, "{p:?}");
        });
        puller.pull(&pulled).expect("pulled").unpack(&shop.store).expect("right");
        shop.check(Some(&pulled));
        assert_eq!(server.count(&Digest::of(&served.layer).to_string()) - before, requests);
        assert_eq!(*events.lock().expect("count"), restarts);
        assert_eq!(fs::read_dir(shop.store.path().join("ingest")).expect("list").count(), 0);
        drop(shop.directory);
    }
}

#[test]
fn ds_statuses_that_pass_and_those_that_stay() {
    for status in [408, 429, 500, 502, 503, 504] {
        succeeds(move |served, seen, before| if before < 2 { Reply::new(status) } else { served.answer(seen) });
    }
    fails(ErrorKind::Unavailable, "answers 503", |_, _, _| Reply::new(503));
    for (status, kind) in [
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (404, ErrorKind::NotFound),
        (400, ErrorKind::Format),
        (418, ErrorKind::Format),
        (204, ErrorKind::Format),
    ] {
        fails(kind, &status.to_string(), move |_, _, _| Reply::new(status));
    }
    fails(ErrorKind::NotFound, "(MANIFEST_UNKNOWN)", |_, _, _| missing("MANIFEST_UNKNOWN"));
    // What a stranger writes into an error is not repeated unless it is a plain word.
    let error = pull(|_, _, _| missing("a\\u001b[31m b")).expect_err("refused").to_string();
    assert!(error.ends_with("the answer is 404"), "{error:?}");
    // `Retry-After` is kept to, and what is beyond patience is a failure at once.
    let begun = Instant::now();
    succeeds(
        |served, seen, before| {
            if before == 0 { Reply::new(429).header("Retry-After", "1") } else { served.answer(seen) }
        },
    );
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let begun = Instant::now();
    fails(ErrorKind::Unavailable, "answers 429", |_, _, _| Reply::new(429).header("Retry-After", "86400"));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn is_30_manifests_that_are_too_large_or_something_else() {
    let with = |media_type: &'static str, text: fn(&Served) -> Vec<u8>| {
        document(move |served, _, _| Reply::ok(text(served)).header("Content-Type", media_type))
    };
    fails(
        ErrorKind::Limit,
        "bytes",
        document(|_, _, _| Reply::ok("x").header("Content-Type", MANIFEST).length(5 << 20)),
    );
    fails(
        ErrorKind::Limit,
        "bytes",
        document(|_, _, _| Reply::new(200).header("Content-Type", MANIFEST).endless([b' '; 65536])),
    );
    fails(ErrorKind::Format, "JSON", with(MANIFEST, |_| b"<html>".to_vec()));
    fails(ErrorKind::Format, "another kind", with(INDEX, |served| served.manifest.clone()));
    fails(ErrorKind::Unsupported, "text/html", with("text/html", |served| served.manifest.clone()));
    fails(
        ErrorKind::Unsupported,
        "prettyjws",
        with("application/vnd.docker.distribution.manifest.v1+prettyjws", |served| served.manifest.clone()),
    );
    fails(ErrorKind::Unsupported, "application/json", with("application/json", |served| served.manifest.clone()));
    let both =
        |served: &Served| String::from_utf8_lossy(&served.manifest).replacen('{', "{\"manifests\":[],", 1).into_bytes();
    fails(ErrorKind::Format, "another kind", with(MANIFEST, both));
    fails(ErrorKind::Format, "another kind", with(INDEX, both));
    let own = |served: &Served| {
        String::from_utf8_lossy(&served.manifest)
            .replacen('{', &format!("{{\"mediaType\":\"{INDEX}\","), 1)
            .into_bytes()
    };
    fails(ErrorKind::Format, "not what led here", with(MANIFEST, own));
    let twice = |served: &Served| {
        String::from_utf8_lossy(&served.manifest).replacen('{', "{\"schemaVersion\":2,", 1).into_bytes()
    };
    fails(ErrorKind::Format, "duplicate", with(MANIFEST, twice));
    // A general type, where the document says what it is; and parameters after the type.
    let said = |served: &Served| {
        String::from_utf8_lossy(&served.manifest)
            .replacen('{', &format!("{{\"mediaType\":\"{MANIFEST}\","), 1)
            .into_bytes()
    };
    assert!(pull(with("application/json", said)).is_ok());
    assert!(pull(with("application/vnd.oci.image.manifest.v1+json; charset=utf-8", said)).is_ok());
}

#[test]
fn ds_the_digest_in_the_header_is_one_and_fits() {
    for stated in ["sha256:0", "sha256:../../x", "SHA256:00", "x", ""] {
        fails(
            ErrorKind::Format,
            "digest",
            document(move |served, _, _| {
                Reply::ok(served.manifest.clone())
                    .header("Content-Type", MANIFEST)
                    .header("Docker-Content-Digest", stated)
            }),
        );
    }
    fails(
        ErrorKind::DigestMismatch,
        "should have digest",
        document(|served, _, _| {
            Reply::ok(served.manifest.clone())
                .header("Content-Type", MANIFEST)
                .header("Docker-Content-Digest", Digest::of(b"other").to_string())
        }),
    );
    fails(
        ErrorKind::Format,
        "encoded",
        document(|served, seen, _| served.answer(seen).header("Content-Encoding", "gzip")),
    );
}

/// Pulls what `documents` has under `1`.
fn pull_documents(served: Served, limits: Limits) -> Result<Image, Error> {
    let server = Scripted::start(move |seen, _| served.answer(seen));
    let shop = Shop::new();
    let name = format!("{}/app:1", server.address);
    let pulled = Puller::new(&shop.store).client(Shop::client()).limits(limits).pull(&name);
    shop.check(pulled.is_ok().then_some(&name));
    pulled
}

#[test]
fn is_24_documents_that_do_not_fit_together() {
    let served = Served::new();
    let text = String::from_utf8_lossy(&served.manifest).into_owned();
    let kind = |manifest: String| {
        let served = served.clone().add("1", MANIFEST, manifest);
        pull_documents(served, Limits::default()).map(drop).map_err(|error| error.kind())
    };
    assert_eq!(kind(text.clone()), Ok(()));
    let layer = descriptor(common::PLAIN, &served.layer, "");
    assert_eq!(kind(text.replace(&layer, "")), Err(ErrorKind::Format), "fewer layers than diff_ids");
    assert_eq!(kind(text.replace(CONFIG, "application/vnd.oci.empty.v1+json")), Err(ErrorKind::Unsupported));
    let size = format!("\"size\":{}", served.layer.len());
    assert_eq!(kind(text.replace(&size, "\"size\":7")), Err(ErrorKind::SizeMismatch));
    assert_eq!(kind(text.replace(&size, "\"size\":-1")), Err(ErrorKind::Format));
    assert_eq!(kind(text.replace(&size, "\"size\":9223372036854775807")), Err(ErrorKind::Limit));
    let hex = Digest::of(&served.layer).hex().to_owned();
    assert_eq!(kind(text.replace(&hex, "../../../../etc/passwd")), Err(ErrorKind::Format));
    assert_eq!(kind(text.replace("sha256:", "sha999:")), Err(ErrorKind::Unsupported));
    assert_eq!(kind(text.replace(&hex, Digest::of(b"absent").hex())), Err(ErrorKind::NotFound));
    // A wrong type of layer comes, and is refused when it is unpacked.
    assert_eq!(kind(text.replace(common::PLAIN, "application/vnd.example.layer")), Ok(()));
    assert_eq!(kind(text.replace(common::PLAIN, GZIP)), Ok(()));
    // Indexes: to the image, too deep, without one for us.
    let index = |of: &str, media_type: &str| {
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(media_type, of.as_bytes(), ""))
    };
    let mut chain = served.clone();
    let (mut below, mut media_type) = (text.clone(), MANIFEST);
    for depth in 1..=6 {
        below = index(&below, media_type);
        media_type = INDEX;
        chain = chain.add("1", INDEX, below.clone());
        let answer = pull_documents(chain.clone(), Limits::default()).map(drop).map_err(|error| error.kind());
        assert_eq!(answer, if depth <= 4 { Ok(()) } else { Err(ErrorKind::Limit) }, "{depth}");
    }
    let wrong = index(&text, INDEX);
    assert_eq!(
        pull_documents(served.clone().add("1", INDEX, wrong), Limits::default()).unwrap_err().kind(),
        ErrorKind::Format
    );
    let lies = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        descriptor(MANIFEST, text.as_bytes(), "").replace(&format!("\"size\":{}", text.len()), "\"size\":3")
    );
    assert_eq!(
        pull_documents(served.clone().add("1", INDEX, lies), Limits::default()).unwrap_err().kind(),
        ErrorKind::SizeMismatch
    );
    assert_eq!(
        pull_documents(served.clone().add("1", INDEX, r#"{"schemaVersion":2,"manifests":[]}"#), Limits::default())
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    assert_eq!(pull_documents(served.clone(), Limits::default().layers(0)).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(pull_documents(served.clone(), Limits::default().layer_bytes(10)).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(pull_documents(served, Limits::default().config_bytes(10)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn ds_a_name_with_a_digest_means_that_digest() {
    let served = Served::new();
    let (right, wrong) = (Digest::of(&served.manifest), Digest::of(b"other"));
    let other = served.clone().add("unused", MANIFEST, "{}");
    let server = Scripted::start(move |seen, _| {
        // Whatever is asked for, the same comes.
        if seen.path().contains("/manifests/") {
            Reply::ok(other.manifest.clone()).header("Content-Type", MANIFEST)
        } else {
            other.answer(seen)
        }
    });
    let shop = Shop::new();
    let pull = |digest: &Digest| {
        let name = format!("{}/app:2@{digest}", server.address);
        Puller::new(&shop.store).client(Shop::client()).pull(&name).map(drop).map_err(|error| error.kind())
    };
    assert_eq!(pull(&wrong), Err(ErrorKind::DigestMismatch));
    shop.check(None);
    assert_eq!(pull(&right), Ok(()));
}

/// A registry at one address that redirects blobs to another, which keeps what it was sent.
fn redirecting(
    status: u16,
    to: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (Result<Image, Error>, Vec<Seen>, Vec<Seen>) {
    let served = Served::new();
    let other = Scripted::at("127.0.0.2", {
        let served = served.clone();
        move |seen, _| served.answer(seen)
    });
    let address = other.address.clone();
    let server = Scripted::start(move |seen, _| match seen.header("authorization") {
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) if served.is_layer(seen) => {
            Reply::new(status).header("Location", to(&format!("{address}{}", seen.path())))
        }
        Some(_) => served.answer(seen),
    });
    let client = Shop::client().login(&server.address, "me", "secret");
    let answer = Shop::new().pull_by(&server, client);
    (answer, server.seen(), other.seen())
}

#[test]
fn ds_redirects_go_without_credentials_or_not_at_all() {
    for status in [301, 302, 303, 307, 308] {
        let (answer, own, other) = redirecting(status, |rest| format!("http://{rest}?signature=x"));
        answer.expect("pulled");
        assert!(own.iter().any(|seen| seen.header("authorization") == Some("Basic bWU6c2VjcmV0")));
        assert_eq!(other.len(), 1);
        assert!(
            other[0]
                .headers
                .iter()
                .all(|(name, _)| !name.eq_ignore_ascii_case("authorization") && !name.eq_ignore_ascii_case("cookie")),
            "{other:?}"
        );
    }
    let (answer, _, other) = redirecting(307, |rest| format!("//{rest}"));
    assert!(answer.is_ok() && other.len() == 1);
    for (location, kind) in [
        ("file:///etc/passwd", ErrorKind::Format),
        ("unix:/run/docker.sock", ErrorKind::Format),
        ("http://user:pass@REST", ErrorKind::Format),
        ("http://169.254.169.254/latest/meta-data", ErrorKind::Denied),
        ("http://[fd00:ec2::254]/", ErrorKind::Denied),
        ("gopher://x/", ErrorKind::Format),
        ("http://REST#x", ErrorKind::Format),
    ] {
        let (answer, _, other) = redirecting(302, move |rest| location.replace("REST", rest));
        let error = answer.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{location}: {error}");
        assert!(other.is_empty() && !error.to_string().contains("pass@"), "{error}");
    }
    // In a circle, also by way of another host and back: an end, and no credentials on the way back.
    let served = Served::new();
    let circle = Arc::new(Mutex::new(String::new()));
    let back = Arc::clone(&circle);
    let other = Scripted::at("127.0.0.2", move |seen, _| {
        Reply::new(302).header("Location", format!("http://{}{}", back.lock().expect("address"), seen.path()))
    });
    let address = other.address.clone();
    let server = Scripted::start(move |seen, _| {
        if served.is_layer(seen) {
            Reply::new(302).header("Location", format!("http://{address}{}", seen.path()))
        } else {
            served.answer(seen)
        }
    });
    circle.lock().expect("address").clone_from(&server.address);
    let client = Shop::client().login(&server.address, "me", "secret");
    let error = Shop::new().pull_by(&server, client).map(drop).unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    assert!(server.seen().len() + other.seen().len() < 20);
}

#[test]
fn ds_urls_in_descriptors_are_not_followed() {
    let other = Scripted::at("127.0.0.2", |_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let served = Served::new();
    let layer = descriptor(common::PLAIN, &served.layer, "");
    let foreign = layer.replacen('{', &format!("{{\"urls\":[\"http://{}/layer\"],", other.address), 1);
    let manifest = String::from_utf8_lossy(&served.manifest).replace(&layer, &foreign);
    let hidden = served.clone().add("1", MANIFEST, manifest);
    let server = Scripted::start(
        move |seen, _| if hidden.is_layer(seen) { missing("BLOB_UNKNOWN") } else { hidden.answer(seen) },
    );
    let client = Shop::client().login(&server.address, "me", "secret").login(&other.address, "me", "secret");
    assert_eq!(Shop::new().pull_by(&server, client).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(other.seen().is_empty());
}

/// A registry that wants tokens from a server of its own at `host`, which answers `token`.
fn with_tokens(
    host: &str,
    token: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    valid: &'static str,
) -> (Scripted, Scripted) {
    let tokens = Scripted::at(host, token);
    let realm = format!("http://{}/token", tokens.address);
    let served = Served::new();
    let server = Scripted::start(move |seen, _| match seen.header("authorization") {
        Some(header) if header == valid => served.answer(seen),
        _ => Reply::new(401).header(
            "WWW-Authenticate",
            format!("Bearer realm=\"{realm}\",service=\"shop\",scope=\"repository:other:*\""),
        ),
    });
    (server, tokens)
}

fn give(token: &str) -> Reply {
    Reply::ok(format!(r#"{{"token":"{token}","expires_in":300}}"#))
}

#[test]
fn ds_tokens_are_asked_for_once_and_for_what_is_needed() {
    let (server, tokens) = with_tokens("127.0.0.1", |_, _| give("abc"), "Bearer abc");
    let client = Shop::client().login(&server.address, "me", "secret");
    Shop::new().pull_by(&server, client).expect("pulled");
    let seen = tokens.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(
        seen[0].target.contains("service=shop&scope=repository%3Aapp%3Apull") && !seen[0].target.contains("other"),
        "{seen:?}"
    );
    assert_eq!(seen[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    // Without credentials a token for everybody.
    let (server, tokens) = with_tokens("127.0.0.1", |_, _| Reply::ok(r#"{"access_token":"abc"}"#), "Bearer abc");
    Shop::new().pull(&server).expect("pulled");
    assert_eq!(tokens.seen()[0].header("authorization"), None);
    // One that is not accepted any more is replaced, and one that never is ends it.
    let (server, tokens) =
        with_tokens("127.0.0.1", |_, before| if before == 0 { give("old") } else { give("abc") }, "Bearer abc");
    assert_eq!(Shop::new().pull(&server).map(drop).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(tokens.seen().len(), 1);
    assert!(server.seen().len() <= 3, "{:?}", server.seen());
    let (server, tokens) =
        with_tokens("127.0.0.1", |_, before| if before == 0 { Reply::new(503) } else { give("abc") }, "Bearer abc");
    Shop::new().pull(&server).expect("pulled");
    assert!(tokens.seen().len() >= 2);
    for (reply, kind) in [
        (Reply::new(401), ErrorKind::Denied),
        (Reply::ok("{}"), ErrorKind::Format),
        (Reply::ok("not json"), ErrorKind::Format),
        (give("a b"), ErrorKind::Format),
        (give("a\\r\\nX: y"), ErrorKind::Format),
        (Reply::ok("").length(9 << 20), ErrorKind::Limit),
        (Reply::new(302).header("Location", "http://127.0.0.2/"), ErrorKind::Format),
    ] {
        let (server, _tokens) = with_tokens("127.0.0.1", move |_, _| reply.clone(), "Bearer abc");
        assert_eq!(Shop::new().pull(&server).map(drop).unwrap_err().kind(), kind);
    }
}

#[test]
fn ds_a_refresh_token_is_taken_for_an_access_token() {
    let (server, tokens) = with_tokens("127.0.0.1", |_, _| give("abc"), "Bearer abc");
    let shop = Shop::new();
    let file = shop.directory.path().join("auth.json");
    fs::write(&file, format!(r#"{{"auths":{{"{}":{{"identitytoken":"re fresh"}}}}}}"#, server.address)).expect("write");
    shop.pull_by(&server, Shop::client().credentials(&file)).expect("pulled");
    let seen = tokens.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].header("authorization")), ("POST", None));
    let body = String::from_utf8_lossy(&seen[0].body);
    assert!(
        body.contains("grant_type=refresh_token")
            && body.contains("refresh_token=re%20fresh")
            && body.contains("scope=repository%3Aapp%3Apull"),
        "{body}"
    );
}

#[test]
fn ds_a_token_server_elsewhere_gets_no_credentials_unless_it_was_named() {
    let (server, tokens) = with_tokens("127.0.0.2", |_, _| give("abc"), "Bearer abc");
    let client = Shop::client().login(&server.address, "me", "secret");
    Shop::new().pull_by(&server, client.clone()).expect("with a token for everybody");
    assert!(tokens.seen().iter().all(|seen| seen.header("authorization").is_none()));
    let client = client.token_host(&server.address, "127.0.0.2");
    Shop::new().pull_by(&server, client).expect("pulled");
    assert_eq!(
        tokens.seen().last().and_then(|seen| seen.header("authorization").map(str::to_owned)).as_deref(),
        Some("Basic bWU6c2VjcmV0")
    );
    for realm in ["http://169.254.169.254/token", "ftp://x/", "http://u:p@127.0.0.1/", "http://127.0.0.1/#x", "", "x"] {
        let server = Scripted::start(move |_, _| {
            Reply::new(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let client = Shop::client().login(&server.address, "me", "secret");
        let error = Shop::new().pull_by(&server, client).map(drop).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Format), "{realm}: {error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn ds_being_asked_again_and_again_ends() {
    let server = Scripted::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let client = Shop::client().login(&server.address, "me", "hidden-word");
    let error = Shop::new().pull_by(&server, client.clone()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(server.seen().len(), 2);
    // Nothing that can be printed has the secret in it.
    let puller = Puller::new(&Shop::new().store).client(client);
    for text in [format!("{error:?}"), error.to_string(), format!("{puller:?}")] {
        assert!(!text.contains("hidden-word") && !text.contains("bWU6aGlkZGVu"), "{text}");
    }
    let server = Scripted::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Negotiate"));
    assert_eq!(Shop::new().pull(&server).map(drop).unwrap_err().kind(), ErrorKind::Denied);
    // Another host's challenge, behind a redirect, is answered by nobody.
    let other = Scripted::at("127.0.0.2", |_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let served = Served::new();
    let address = other.address.clone();
    let server = Scripted::start(move |seen, _| {
        if served.is_layer(seen) {
            Reply::new(307).header("Location", format!("http://{address}/x"))
        } else {
            served.answer(seen)
        }
    });
    let client = Shop::client().login(&server.address, "me", "secret").login(&other.address, "me", "secret");
    assert_eq!(Shop::new().pull_by(&server, client).map(drop).unwrap_err().kind(), ErrorKind::Denied);
    assert!(other.seen().len() == 1 && other.seen()[0].header("authorization").is_none());
}
