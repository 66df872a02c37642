//! Pushing to a registry that misbehaves, and what refers to an image.

mod common;

use common::scripted::{Reply, Scripted, Seen};
use common::{CONFIG, Layout, MANIFEST, Tar, descriptor, plain};
use keelbox_image_spec::registry::{Client, Event, Pusher, Request, Response, Transport};
use keelbox_image_spec::{Digest, ErrorKind, Image};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn image() -> (Layout, Image) {
    let layout = Layout::tars(&[Tar::new().entry(common::Header::new(b'0', "filler"), &[7; 300_000])]);
    let image = layout.open();
    (layout, image)
}

fn client() -> Client {
    Client::new().retries(2).pause(Duration::from_millis(1), Duration::from_secs(1)).silence(Duration::from_millis(500))
}

/// A registry that keeps what it is sent.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    uploads: Vec<Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, (String, Vec<u8>)>,
}

impl Kept {
    fn answer(&self, seen: &Seen) -> Reply {
        let mut state = self.0.lock().expect("state");
        let last = seen.path().rsplit('/').next().unwrap_or_default().to_owned();
        let stated = |seen: &Seen| seen.header("content-type").unwrap_or_default().to_owned();
        match (seen.method.as_str(), seen.path()) {
            ("HEAD", path) if path.contains("/blobs/") => match state.blobs.get(&last) {
                Some(blob) => Reply::ok(blob.clone()),
                None => Reply::new(404),
            },
            ("POST", path) if path.ends_with("/blobs/uploads/") => {
                state.uploads.push(Vec::new());
                Reply::new(202).header("Location", format!("/v2/app/blobs/uploads/{}?state=x", state.uploads.len() - 1))
            }
            ("PATCH", _) => {
                let upload = &mut state.uploads[last.parse::<usize>().expect("an upload")];
                let start = seen.header("content-range").and_then(|range| range.split_once('-')?.0.parse().ok());
                if start != Some(upload.len()) {
                    return Reply::new(416);
                }
                upload.extend_from_slice(&seen.body);
                Reply::new(202).header("Location", seen.target.clone())
            }
            ("GET", path) if path.contains("/blobs/uploads/") => {
                let upload = &state.uploads[last.parse::<usize>().expect("an upload")];
                let end = upload.len().saturating_sub(1);
                Reply::new(204).header("Location", seen.target.clone()).header("Range", format!("0-{end}"))
            }
            ("PUT", path) if path.contains("/blobs/uploads/") => {
                let digest = seen.target.split("digest=").nth(1).expect("a digest").replace("%3A", ":");
                let upload = state.uploads[last.parse::<usize>().expect("an upload")].clone();
                let blob = [upload, seen.body.clone()].concat();
                if Digest::of(&blob).to_string() != digest {
                    return Reply::new(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                state.blobs.insert(digest, blob);
                Reply::new(201)
            }
            ("PUT", _) => {
                state.manifests.insert(last, (stated(seen), seen.body.clone()));
                Reply::new(201).header("Docker-Content-Digest", Digest::of(&seen.body).to_string())
            }
            ("GET", path) if path.contains("/manifests/") => match state.manifests.get(&last) {
                Some((media_type, text)) => Reply::ok(text.clone()).header("Content-Type", media_type),
                None => Reply::new(404),
            },
            _ => Reply::new(404),
        }
    }

    fn has(&self, image: &Image) -> bool {
        let state = self.0.lock().expect("state");
        let config = Digest::of(image.config().raw()).to_string();
        let layers = image.layers().iter().map(|layer| layer.digest().to_string());
        layers.chain([config]).all(|digest| state.blobs.contains_key(&digest))
            && state.manifests.get("1").is_some_and(|(_, text)| text == image.raw_manifest())
    }
}

/// Pushes to a registry that answers as `wrong` says, or as it should where that is `None`.
fn push(
    wrong: impl Fn(&Kept, &Seen, usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Result<Digest, ErrorKind>, Kept, Scripted) {
    let (_layout, image) = image();
    let kept = Kept::default();
    let own = kept.clone();
    let server = Scripted::start(move |seen, before| wrong(&own, seen, before).unwrap_or_else(|| own.answer(seen)));
    let pusher = Pusher::new().client(client()).piece(100_000);
    let answer = pusher.push(&image, &format!("{}/app:1", server.address)).map_err(|error| error.kind());
    assert_eq!(kept.has(&image), answer.is_ok(), "the manifest is there exactly when all of it is");
    (answer, kept, server)
}

#[test]
fn ds_uploads_that_break_go_on() {
    assert!(push(|_, _, _| None).0.is_ok());
    // Before the piece arrived, after it had arrived, and with the upload gone.
    let (answer, _, server) = push(|_, seen, before| (seen.method == "PATCH" && before == 1).then(|| Reply::raw("")));
    assert!(answer.is_ok());
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PATCH").count(), 5, "four pieces, one of them twice");
    let (answer, _, server) = push(|kept, seen, before| {
        (seen.method == "PATCH" && before == 1).then(|| {
            kept.answer(seen);
            Reply::raw("")
        })
    });
    assert!(answer.is_ok());
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PATCH").count(), 4, "what arrived is not sent again");
    let gone = |seen: &Seen| seen.method == "GET" && seen.path().ends_with("/uploads/0");
    let (answer, _, _) = push(move |_, seen, before| match seen.method.as_str() {
        "PATCH" if seen.path().ends_with("/0") && before == 1 => Some(Reply::raw("")),
        _ if gone(seen) => Some(Reply::new(404)),
        _ => None,
    });
    assert!(answer.is_ok(), "from the beginning, with another upload");
    for status in [500, 503, 429] {
        // Each upload has a place of its own, so that only the first of them fails, and the manifest.
        let first = |seen: &Seen| seen.path().ends_with("/0") || seen.path().contains("/manifests/");
        let put = move |_: &Kept, seen: &Seen, before| {
            (seen.method == "PUT" && before == 0 && first(seen)).then(|| Reply::new(status))
        };
        assert!(push(put).0.is_ok());
        assert!(
            push(move |_, seen, before| (seen.method == "POST" && before == 0).then(|| Reply::new(status))).0.is_ok()
        );
    }
    assert_eq!(push(|_, seen, _| (seen.method == "PATCH").then(|| Reply::new(503))).0, Err(ErrorKind::Unavailable));
}

#[test]
fn ds_a_registry_that_does_not_take_it_has_no_manifest() {
    for (method, part, reply, kind) in [
        ("POST", "uploads", Reply::new(401), ErrorKind::Denied),
        ("POST", "uploads", Reply::new(403), ErrorKind::Denied),
        ("POST", "uploads", Reply::new(405), ErrorKind::Unsupported),
        ("POST", "uploads", Reply::new(202), ErrorKind::Format),
        ("POST", "uploads", Reply::new(202).header("Location", "file:///etc/passwd"), ErrorKind::Format),
        ("POST", "uploads", Reply::new(202).header("Location", "http://169.254.169.254/x"), ErrorKind::Denied),
        ("POST", "uploads", Reply::new(307).header("Location", "http://127.0.0.2:1/x"), ErrorKind::Format),
        ("PATCH", "uploads", Reply::new(413), ErrorKind::Format),
        ("PUT", "uploads", Reply::new(400), ErrorKind::Format),
        ("HEAD", "blobs", Reply::new(403), ErrorKind::Denied),
        ("PUT", "manifests", Reply::new(400), ErrorKind::Format),
        ("PUT", "manifests", Reply::new(403), ErrorKind::Denied),
    ] {
        let found =
            push(move |_, seen, _| (seen.method == method && seen.path().contains(part)).then(|| reply.clone()));
        assert_eq!(found.0.as_ref().err(), Some(&kind), "{method} {part}");
    }
    // Another digest than what was sent: the name cannot be taken back, but the caller knows.
    let (_layout, image) = image();
    let kept = Kept::default();
    let server = Scripted::start(move |seen, _| match seen.method.as_str() {
        "PUT" if seen.path().contains("/manifests/") => {
            Reply::new(201).header("Docker-Content-Digest", Digest::of(b"x").to_string())
        }
        _ => kept.answer(seen),
    });
    let error = Pusher::new().client(client()).push(&image, &format!("{}/app:1", server.address)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[test]
fn ds_uploads_elsewhere_go_without_credentials() {
    let (_layout, image) = image();
    let kept = Kept::default();
    let own = kept.clone();
    let other = Scripted::at("127.0.0.2", move |seen, _| own.answer(seen));
    let (address, own) = (other.address.clone(), kept.clone());
    let server = Scripted::start(move |seen, _| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        (_, "POST") => {
            own.answer(seen);
            let count = own.0.lock().expect("state").uploads.len() - 1;
            Reply::new(202).header("Location", format!("http://{address}/v2/app/blobs/uploads/{count}"))
        }
        _ => own.answer(seen),
    });
    let client = client().login(&server.address, "me", "secret").login(&other.address, "me", "secret");
    Pusher::new().client(client).push(&image, &format!("{}/app:1", server.address)).expect("pushed");
    assert!(kept.has(&image));
    assert!(!other.seen().is_empty() && other.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[test]
fn is_70_layers_that_are_not_to_be_distributed_stay_here() {
    let layout = Layout::tars(&[Tar::new().file("own", "x")]);
    let text = String::from_utf8_lossy(layout.open().raw_manifest())
        .replace(common::PLAIN, "application/vnd.oci.image.layer.nondistributable.v1.tar");
    layout.add_blob(text.as_bytes());
    layout.index(&[descriptor(MANIFEST, text.as_bytes(), "")]);
    let kept = Kept::default();
    let own = kept.clone();
    let server = Scripted::start(move |seen, _| own.answer(seen));
    let events = Arc::new(Mutex::new(0));
    let told = Arc::clone(&events);
    let pusher = Pusher::new()
        .client(client())
        .progress(move |p| *told.lock().expect("count") += usize::from(matches!(p.event, Event::Withheld(_))));
    let image = layout.open();
    pusher.push(&image, &format!("{}/app:1", server.address)).expect("pushed");
    assert_eq!(*events.lock().expect("count"), 1);
    assert_eq!(server.count(image.layers()[0].digest().hex()), 0);
}

#[test]
fn ds_names_and_digests_that_do_not_fit_are_refused_before_anything_is_sent() {
    let (_layout, image) = image();
    let server = Scripted::start(|_, _| Reply::new(500));
    let other = format!("{}/app@{}", server.address, Digest::of(b"x"));
    assert_eq!(Pusher::new().push(&image, &other).unwrap_err().kind(), ErrorKind::Format);
    let name = format!("{}/app:1", server.address);
    for from in ["", "../x", "a b", "A", "x:1/y"] {
        let error = Pusher::new().from_repository(from).push(&image, &name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{from}");
    }
    assert!(server.seen().is_empty());
}

/// A manifest whose subject is `subject`.
fn referring(layout: &Layout, subject: &Digest) -> Image {
    let tar = plain(&Tar::new().file("sbom", "x"));
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        tar.diff_id
    );
    layout.add_blob(config.as_bytes());
    layout.add_blob(&tar.content);
    let subject = format!(r#"{{"mediaType":"{MANIFEST}","size":1,"digest":"{subject}"}}"#);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/spdx+json","config":{},"layers":[{}],"subject":{subject},"annotations":{{"a":"b"}}}}"#,
        descriptor(CONFIG, config.as_bytes(), ""),
        descriptor(tar.media_type, &tar.content, "")
    );
    layout.add_blob(manifest.as_bytes());
    layout.index(&[descriptor(MANIFEST, manifest.as_bytes(), "")]);
    layout.open()
}

#[test]
fn is_37_what_refers_to_an_image_is_listed_with_and_without_the_api() {
    let layout = Layout::empty();
    let subject = Digest::of(b"an image");
    let image = referring(&layout, &subject);
    let kept = Kept::default();
    let own = kept.clone();
    let server = Scripted::start(move |seen, _| own.answer(seen));
    let name = format!("{}/app@{subject}", server.address);
    assert_eq!(client().referrers(&name, None).expect("none yet"), []);
    // Twice, and listed once; what another client listed stays as it is.
    let tag = subject.to_string().replace(':', "-");
    let theirs = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"x/y","size":1,"digest":"{}","own":7}}]}}"#,
        common::INDEX,
        Digest::of(b"theirs")
    );
    kept.0.lock().expect("state").manifests.insert(tag.clone(), (common::INDEX.to_owned(), theirs.into_bytes()));
    for _ in 0..2 {
        Pusher::new().client(client()).push(&image, &format!("{}/app:sbom", server.address)).expect("pushed");
    }
    let text = String::from_utf8_lossy(&kept.0.lock().expect("state").manifests[&tag].1).into_owned();
    assert!(text.contains("\"own\":7"), "{text}");
    let list = client().referrers(&name, None).expect("listed");
    assert_eq!(list.len(), 2);
    let list = client().referrers(&name, Some("application/spdx+json")).expect("listed");
    assert_eq!(
        (list.len(), &list[0].digest, list[0].annotations.get("a").map(String::as_str)),
        (1, image.manifest_digest(), Some("b"))
    );
    assert_eq!(client().referrers(&format!("{}/app:1", server.address), None).unwrap_err().kind(), ErrorKind::Format);

    // With the API, in two pages, the second of which must not be elsewhere.
    let page = |kind: &str| {
        let entry = descriptor(MANIFEST, b"x", &format!(r#","artifactType":"{kind}""#));
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entry}]}}"#, common::INDEX)
    };
    let (one, two) = (page("a/b"), page("c/d"));
    let server = Scripted::start(move |seen, _| {
        let index = |text: &str| Reply::ok(text).header("Content-Type", common::INDEX);
        match &seen.target {
            target if target.contains("page=2") => index(&two),
            target if target.contains("away") => index(&one).header("Link", "<http://127.0.0.2:1/x>; rel=\"next\""),
            target if target.contains("endless") => index(&one).header("Link", format!("<{target}>; rel=\"next\"")),
            target if target.contains("/referrers/") => {
                index(&one).header("Link", format!("<{}?page=2>; rel=\"next\"", seen.path()))
            }
            _ => Reply::new(500),
        }
    });
    let list = |repository: &str, kind| client().referrers(&format!("{}/{repository}@{subject}", server.address), kind);
    assert_eq!(list("app", None).expect("listed").len(), 2);
    assert_eq!(list("app", Some("c/d")).expect("listed").len(), 1);
    assert_eq!(list("away", None).unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(list("endless", None).unwrap_err().kind(), ErrorKind::Limit);
}

/// A library of the caller's own.
#[derive(Debug)]
struct Own(Mutex<Vec<String>>);

impl Transport for Own {
    fn send(&self, request: &Request, body: &mut dyn Read) -> io::Result<Response> {
        let mut sent = Vec::new();
        body.read_to_end(&mut sent)?;
        assert_eq!(sent.len() as u64, request.body_bytes().unwrap_or(0));
        let mut list = self.0.lock().map_err(|_| io::ErrorKind::Other)?;
        list.push(format!("{} {}", request.method(), request.url()));
        let there =
            |status: u16, headers: Vec<(String, String)>| Ok(Response::new(status, headers, Box::new(io::empty())));
        match request.method() {
            "HEAD" => there(404, Vec::new()),
            "POST" => there(202, vec![("location".into(), "/upload/1".into())]),
            _ => there(201, Vec::new()),
        }
    }
}

#[test]
fn ds_a_transport_of_the_callers_own_is_used() {
    let (_layout, image) = image();
    let client = Client::new().transport(Own(Mutex::new(Vec::new())));
    Pusher::new().client(client.clone()).push(&image, "shop.invalid/app:1").expect("pushed");
    let text = format!("{client:?}");
    assert!(!text.is_empty());
}
