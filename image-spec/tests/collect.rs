//! Garbage, leases, damage, and the room that a store takes.

mod common;

use common::{Layout, MANIFEST, Tar, descriptor, gzip, plain};
use keelbox_image_spec::{Collector, Digest, ErrorKind, Image, Problem, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

fn tar(seed: usize, files: usize) -> Tar {
    (0..files).fold(Tar::new().directory("d"), |tar, index| tar.file(format!("d/{seed}-{index}"), "content"))
}

/// A layout with the images `0`, `1`, … that share their lowest layer.
fn images(count: usize) -> Layout {
    let layout = Layout::empty();
    let mut descriptors = Vec::new();
    for index in 0..count {
        let layers = [plain(&tar(100, 40)), plain(&tar(index, 20 + index))];
        let manifest = layout.add_image(&layers, &format!(r#"{{"Cmd":["{index}"]}}"#));
        let name = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{index}"}}"#);
        descriptors.push(descriptor(MANIFEST, &manifest, &name));
    }
    layout.index(&descriptors);
    layout
}

fn open(layout: &Layout, name: usize) -> Image {
    Image::open(&format!("{}:{name}", layout.source())).expect("an image")
}

fn below(path: PathBuf) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn clean(store: &Store) {
    let found = store.verify().expect("verified");
    assert!(found.problems.is_empty(), "{:?}", found.problems);
}

#[test]
fn what_no_name_leads_to_goes_and_the_rest_stays() {
    let layout = images(3);
    let store = layout.store();
    for index in 0..3 {
        store.add(&open(&layout, index), &format!("app:{index}")).expect("added").unpack(&store).expect("unpacked");
    }
    // Three layers of their own and a shared one, each packed and unpacked; three manifests, three configurations.
    assert_eq!((below(store.path().join("blobs/sha256")).len(), store.layers().expect("list").len()), (10, 4));
    assert_eq!(Collector::new(&store).collect().expect("collected").blobs, 0);
    store.remove_name("app:1").expect("removed");
    let preview = Collector::new(&store).preview().expect("looked");
    assert_eq!((preview.blobs, preview.layers), (3, 1));
    assert_eq!(store.usage().expect("measured").unused, preview.bytes);
    let patient = Collector::new(&store).grace(Duration::from_secs(3600)).collect().expect("collected");
    assert_eq!((patient.blobs, patient.layers, patient.bytes), (0, 0, 0));
    assert_eq!(Collector::new(&store).collect().expect("collected"), preview);
    assert_eq!((below(store.path().join("blobs/sha256")).len(), store.layers().expect("list").len()), (7, 3));
    assert!(below(store.path().join("trash")).is_empty());
    clean(&store);
    for name in ["app:0", "app:2"] {
        store.get(name).expect("there").unpack(&store).expect("unpacked");
        store.remove_name(name).expect("removed");
    }
    Collector::new(&store).collect().expect("collected");
    assert!(below(store.path().join("blobs/sha256")).is_empty() && store.layers().expect("list").is_empty());
    assert!(below(store.path().join("leases")).is_empty());
}

#[test]
fn what_is_used_stays_until_it_is_used_no_more() {
    let layout = images(1);
    let store = layout.store();
    store.add(&open(&layout, 0), "app").expect("added");
    let image = store.get("app").expect("there");
    store.remove_name("app").expect("removed");
    // Another opening of the same store, as another process would have it.
    let other = Store::open(store.path()).expect("store");
    let collect = || Collector::new(&other).collect().expect("collected");
    assert_eq!(collect().blobs, 0, "an image that is open");
    let unpacked = image.unpack(&store).expect("unpacked");
    drop(image);
    assert_eq!((collect().layers, below(store.path().join("blobs/sha256")).len()), (0, 0), "its blobs are not needed");
    unpacked.clone().pin("web-1", std::process::id()).expect("pinned");
    let paths: Vec<PathBuf> = unpacked.layers().iter().map(|layer| layer.path().to_owned()).collect();
    drop(unpacked);
    assert_eq!(collect().layers, 0, "a container's layers");
    store.unpin("web-1").expect("unpinned");
    assert!(paths.iter().all(|path| path.join("d").exists()));
    assert_eq!(collect().layers, 2);
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn what_refers_to_an_image_stays_with_it() {
    let layout = images(2);
    let store = layout.store();
    let image = store.add(&open(&layout, 0), "app").expect("added");
    let put = |content: &str| {
        let digest = Digest::of(content.as_bytes());
        fs::write(store.path().join("blobs/sha256").join(digest.hex()), content).expect("write");
        digest
    };
    let signature = put("signature");
    let empty = put("{}");
    let manifest = |subject: &Digest| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/x.sig","config":
            {{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"{empty}"}},"layers":
            [{{"mediaType":"x/y","size":9,"digest":"{signature}"}}],"subject":
            {{"mediaType":"{MANIFEST}","size":1,"digest":"{subject}"}}}}"#
        )
    };
    let first = put(&manifest(image.manifest_digest()));
    let second = put(&manifest(&first));
    let other = put(&manifest(&Digest::of(b"elsewhere")));
    drop(image);
    assert_eq!(Collector::new(&store).collect().expect("collected").blobs, 1);
    let there = |digest: &Digest| store.path().join("blobs/sha256").join(digest.hex()).exists();
    assert_eq!([&first, &second, &signature, &empty, &other].map(there), [true, true, true, true, false]);
    store.remove_name("app").expect("removed");
    // The subject is a weak link: it keeps nothing, and without it nothing is kept.
    Collector::new(&store).collect().expect("collected");
    assert!(below(store.path().join("blobs/sha256")).is_empty());
}

#[test]
fn damage_is_found_repaired_and_brought_anew() {
    let layout = images(2);
    let store = layout.store();
    let add = |index: usize| store.add(&open(&layout, index), &format!("app:{index}")).expect("added");
    let images = [add(0), add(1)];
    let keys: Vec<String> =
        images[1].unpack(&store).expect("unpacked").layers().iter().map(|l| l.key().into()).collect();
    let blob = |digest: &Digest| store.path().join("blobs/sha256").join(digest.hex());
    let spoil = |path: &Path, text: &str| fs::remove_file(path).and_then(|()| fs::write(path, text)).expect("spoil");
    clean(&store);
    spoil(&blob(images[0].manifest_digest()), "not a manifest");
    spoil(&blob(images[1].layers()[1].digest()), "not a layer");
    fs::write(store.path().join("blobs/sha256/README"), "x").expect("write");
    fs::remove_file(store.path().join("layers").join(&keys[0]).join("done")).expect("remove");
    fs::write(store.path().join("layers").join(&keys[1]).join("layer.idx"), "").expect("write");
    fs::write(store.path().join("refs/broken"), "{").expect("write");
    let blobs = [images[0].manifest_digest().clone(), images[1].layers()[1].digest().clone()];
    drop(images);
    // Nobody knows what the broken name leads to, so nothing may go.
    let error = Collector::new(&store).collect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format, "{error}");
    let found = store.verify().expect("verified").problems;
    let is = |wanted: &dyn Fn(&Problem) -> bool| found.iter().any(wanted);
    for digest in &blobs {
        assert!(is(&|p| matches!(p, Problem::Blob { digest: own, .. } if own == digest)), "{found:?}");
    }
    assert!(is(&|p| matches!(p, Problem::Stray { path } if path == "sha256/README")), "{found:?}");
    assert!(is(&|p| matches!(p, Problem::Layer { key, .. } if *key == keys[0])), "{found:?}");
    assert!(is(&|p| matches!(p, Problem::Name { file, .. } if file == "broken")), "{found:?}");
    assert!(is(&|p| matches!(p, Problem::Incomplete { missing, .. } if *missing == blobs[1..])), "{found:?}");
    let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    assert!(text.contains(&format!("blob {} has digest sha256:", blobs[0])), "{text}");
    store.repair().expect("repaired");
    let left = store.verify().expect("verified").problems;
    assert!(matches!(&left[..], [Problem::Incomplete { .. }]), "{left:?}");
    assert_eq!(store.get("app:0").unwrap_err().kind(), ErrorKind::NotFound);
    add(0);
    add(1).unpack(&store).expect("unpacked");
    clean(&store);
    Collector::new(&store).collect().expect("collected");
    clean(&store);
}

#[test]
fn room_is_told_by_image_and_counted_once() {
    let layout = Layout::empty();
    let big = |seed: u8| {
        plain(&Tar::new().entry(common::Header::new(b'0', "big"), &vec![seed; 1 << 20]).hard_link("same", "big"))
    };
    let mut descriptors = Vec::new();
    for index in 0..2u8 {
        let manifest = layout.add_image(&[big(9), big(index)], "{}");
        let name = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{index}"}}"#);
        descriptors.push(descriptor(MANIFEST, &manifest, &name));
    }
    layout.index(&descriptors);
    let store = layout.store();
    for (index, names) in [(0, vec!["a:1", "a:2"]), (1, vec!["b:1"])] {
        for name in names {
            store.add(&open(&layout, index), name).expect("added").unpack(&store).expect("unpacked");
        }
    }
    let usage = store.usage().expect("measured");
    let near = |bytes: u64, mebibytes: u64| bytes >= mebibytes << 20 && bytes < (mebibytes << 20) + (200 << 10);
    assert!(near(usage.blobs, 3) && near(usage.layers, 3) && near(usage.bytes, 6), "{usage:?}");
    assert_eq!((usage.images.len(), usage.images[0].names.len(), usage.unused), (2, 2, 0), "{usage:?}");
    for image in &usage.images {
        assert!(near(image.unique, 2) && near(image.shared, 2) && near(image.bytes(), 4), "{usage:?}");
    }
    let listed: Vec<String> = store.images().expect("list").iter().map(|image| image.name.familiar()).collect();
    assert_eq!(listed, ["a:1", "a:2", "b:1"]);
}

/// Not a test of its own: what `processes_work_at_once_and_die` starts and kills.
#[test]
fn child_that_works_on_a_store() {
    let Some(source) = std::env::var_os("KEELBOX_TEST_SOURCE") else { return };
    let source = source.to_string_lossy().into_owned();
    let store = Store::open(Path::new(&std::env::var_os("KEELBOX_TEST_STORE").expect("a store"))).expect("a store");
    let seed: usize = std::env::var("KEELBOX_TEST_SEED").expect("a seed").parse().expect("a number");
    for step in seed.. {
        let name = format!("app:{}", step * 7 % 3);
        match (step * 5 + seed) % 4 {
            0 => drop(Collector::new(&store).collect().expect("collected")),
            1 => match store.remove_name(&name) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            },
            _ => {
                let image = Image::open(&format!("{source}:{}", step * 7 % 3)).expect("an image");
                // Between the end of `add` and the opening in it somebody may take the name away.
                let added = match store.add(&image, &name) {
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Format) => continue,
                    added => added.expect("added"),
                };
                let unpacked = added.unpack(&store).expect("unpacked");
                std::thread::sleep(Duration::from_millis(step as u64 % 5));
                for layer in unpacked.layers() {
                    assert!(layer.path().join("d").is_dir(), "{} was collected", layer.path().display());
                    assert!(fs::read_dir(layer.path().join("d")).expect("list").count() >= 20);
                }
            }
        }
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_work_at_once_and_die() {
    let layout = images(3);
    let store = layout.store();
    let rounds = if std::env::var_os("KEELBOX_SOAK").is_some() { 400 } else { 6 };
    for round in 0..rounds {
        let start = |seed: usize| {
            let child = Command::new(std::env::current_exe().expect("this test"))
                .args(["--exact", "child_that_works_on_a_store", "--nocapture"])
                .env("KEELBOX_TEST_SOURCE", layout.source())
                .env("KEELBOX_TEST_STORE", store.path())
                .env("KEELBOX_TEST_SEED", (round * 3 + seed).to_string())
                .spawn();
            Killed(child.expect("a child"))
        };
        let mut children = [start(0), start(1), start(2)];
        let end = Instant::now() + Duration::from_millis(120 + (round as u64 * 37) % 300);
        while Instant::now() < end {
            let _ = Collector::new(&store).collect().expect("collected");
            std::thread::sleep(Duration::from_millis(3));
        }
        for child in &mut children {
            assert!(child.0.try_wait().expect("wait").is_none(), "a child failed by itself");
        }
        drop(children);
        // Whatever they were doing: what is named is whole, and what they used is used no more.
        clean(&store);
        for name in store.names().expect("list") {
            store.get(&name.to_string()).expect("whole").unpack(&store).expect("unpacked");
            store.remove_name(&name.to_string()).expect("removed");
        }
        Collector::new(&store).collect().expect("collected");
        store.sweep().expect("swept");
        assert!(store.layers().expect("list").is_empty() && below(store.path().join("blobs/sha256")).is_empty());
        assert!(below(store.path().join("leases")).is_empty(), "leases of the dead");
        assert!(below(store.path().join("trash")).is_empty() && below(store.path().join("layers")).is_empty());
    }
}

/// Runs this test again in a mount namespace of its own, where `/mnt` is a small file system. True in there.
fn in_a_mount_namespace(test: &str, mount: &str) -> bool {
    if std::env::var_os("KEELBOX_TEST_INSIDE").is_some() {
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new("unshare");
    if !common::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = format!("{mount} || exit 77; exec \"$0\" --exact {test} --nocapture");
    let output = command
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .arg(program)
        .env("KEELBOX_TEST_INSIDE", "1")
        .output();
    match output {
        Ok(output) if output.status.code() == Some(77) => {
            common::skip(&format!("no mounts here: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && text.contains("1 passed"),
                "{text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Err(error) => common::skip(&format!("no unshare(1): {error}")),
    }
    false
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_broken() {
    if !in_a_mount_namespace("a_full_disk_is_an_error_and_nothing_is_broken", "mount -t tmpfs -o size=2500k none /mnt")
    {
        return;
    }
    let layout = Layout::empty();
    let incompressible: Vec<u8> =
        (0..1_500_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let large = Tar::new().directory("d").entry(common::Header::new(b'0', "d/large"), &incompressible);
    let small = Tar::new().directory("d").file("d/small", "x");
    let mut descriptors = Vec::new();
    for (name, layers) in [("small", vec![plain(&small)]), ("large", vec![plain(&small), plain(&large)])] {
        let manifest = layout.add_image(&layers, "{}");
        let name = format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#);
        descriptors.push(descriptor(MANIFEST, &manifest, &name));
    }
    layout.index(&descriptors);
    let image = |name: &str| Image::open(&format!("{}:{name}", layout.source())).expect("an image");
    let store = Store::open("/mnt/store").expect("store");
    store.add(&image("small"), "small").expect("fits").unpack(&store).expect("fits");
    let large = store.add(&image("large"), "large").expect("fits once");
    let full = large.unpack(&store).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Os(28), "{full}");
    clean(&store);
    assert_eq!(store.layers().expect("list").len(), 1);
    // To the last block: what is there can be used and collected all the same.
    let mut filler = fs::File::create("/mnt/filler").expect("create");
    while std::io::Write::write(&mut filler, &[1; 4096]).is_ok() {}
    let small = store.get("small").expect("opens");
    assert_eq!(small.layers().len(), 1);
    assert_eq!(store.add(&image("large"), "again:1").unwrap_err().kind(), ErrorKind::Os(28));
    drop((large, small));
    clean(&store);
    store.remove_name("large").unwrap_or_else(|error| assert_eq!(error.kind(), ErrorKind::Os(28), "{error}"));
    let collected = Collector::new(&store).collect().expect("collected");
    assert!(collected.bytes > 1_400_000, "{collected:?}");
    store.get("small").expect("opens").unpack(&store).expect("there is room again");
    clean(&store);
}

#[test]
fn a_store_that_cannot_be_written_can_be_used() {
    let mount = "mount -t tmpfs none /mnt";
    if !in_a_mount_namespace("a_store_that_cannot_be_written_can_be_used", mount) {
        return;
    }
    let layout = images(2);
    let store = Store::open("/mnt/store").expect("store");
    store.add(&open(&layout, 0), "app").expect("added").unpack(&store).expect("unpacked");
    drop(store);
    let remounted = Command::new("mount").args(["-o", "remount,bind,ro", "/mnt"]).status().expect("mount(8)");
    assert!(remounted.success());
    let store = Store::open("/mnt/store").expect("opens");
    let unpacked = store.get("app").expect("opens").unpack(&store).expect("is there");
    assert!(unpacked.layers()[0].path().join("d").is_dir());
    clean(&store);
    assert_eq!(store.usage().expect("measured").images.len(), 1);
    assert_eq!(store.images().expect("list").len(), 1);
    for error in [
        store.add(&open(&layout, 1), "other").unwrap_err(),
        open(&layout, 1).unpack(&store).unwrap_err(),
        store.remove_name("app").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Os(30), "{error}");
    }
}

#[test]
fn a_blob_with_garbage_at_its_end_gets_no_name() {
    let layout = Layout::of(&[common::Blob { content: gzip(&tar(1, 3).bytes()), ..plain(&tar(1, 3)) }]);
    let image = layout.open();
    let path = layout.blob_path_of(image.layers()[0].digest());
    let whole = fs::read(&path).expect("read");
    let store = layout.store();
    for (content, kind) in [
        ([&whole[..], b"garbage"].concat(), ErrorKind::SizeMismatch),
        (whole[..whole.len() - 5].to_vec(), ErrorKind::SizeMismatch),
        (vec![7; whole.len()], ErrorKind::DigestMismatch),
    ] {
        fs::write(&path, content).expect("write");
        let error = store.add(&layout.open(), "app").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&image.layers()[0].digest().to_string()), "{error}");
        assert!(store.names().expect("list").is_empty());
        clean(&store);
    }
    fs::write(&path, whole).expect("write");
    store.add(&layout.open(), "app").expect("whole again");
}

#[test]
fn everything_again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
