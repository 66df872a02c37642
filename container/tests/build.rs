//! Images that are built in containers, and changes that are committed; as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use keelbox::{Build, Changeset, Container, Edit, ErrorKind, Image, Store};
use keelbox_testkit::{self as testkit, as_user, require};

const EPOCH: i64 = 1_700_000_000;

struct Bench {
    directory: tempfile::TempDir,
    store: Store,
    base: Image,
}

impl Bench {
    fn new() -> testkit::Result<Self> {
        Self::at("store")
    }

    /// A store with a busybox as `base:1`.
    fn at(name: &str) -> testkit::Result<Self> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path().join(name))?;
        let root = testkit::busybox_root()?;
        let base = Edit::scratch(&store)
            .epoch(EPOCH)
            .add_dir(root.path(), "/")
            .env("PATH", "/bin")
            .cmd(["sh"])
            .commit("base:1")?;
        Ok(Self { directory, store, base })
    }

    fn write(&self, files: &[(&str, &str)]) -> PathBuf {
        let context = self.directory.path().join("context");
        for (path, content) in files {
            let path = context.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            fs::write(path, content).expect("write");
        }
        context.join("Dockerfile")
    }

    fn build(&self, dockerfile: &str) -> keelbox::Result<Build> {
        Ok(Build::from_dockerfile(self.write(&[("Dockerfile", dockerfile)]))?.store(self.store.path()).epoch(EPOCH))
    }

    fn container(&self, image: &Image) -> Container {
        Container::from_image(image).store(self.store.path())
    }

    /// What a command for the shell prints in an image.
    fn says(&self, image: &Image, command: &str) -> testkit::Result<String> {
        let out = self.container(image).args(["sh", "-c", command]).output()?;
        assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(out.text().into_owned())
    }
}

#[test]
fn changes_of_a_container_become_a_layer() -> testkit::Result {
    require!(Root, Program("busybox"));
    changes_of_a_container_become_a_layer_here()
}

#[test]
fn changes_of_a_container_become_a_layer_for_an_ordinary_user() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    changes_of_a_container_become_a_layer_here()
}

fn changes_of_a_container_become_a_layer_here() -> testkit::Result {
    let bench = Bench::new()?;
    let script = "echo hi > /result; rm /bin/yes; mkdir -p /new/dir; ln /result /new/link; chmod 700 /new/dir; rm -r /tmp; mkdir /tmp; echo t > /tmp/t";
    let out = bench.container(&bench.base).args(["sh", "-c", script]).keep_changes().output()?;
    assert!(out.status.success(), "{out:?}");
    let changes = out.changes()?;
    assert_eq!(changes.read("/result")?, b"hi\n");
    let image = changes.commit(&bench.base)?;
    assert_eq!(image.layers().len(), 2);
    let seen = bench.says(&image, "cat /result /new/link; ls /bin/yes; ls -ld /new/dir /result | cut -c1-10; ls /tmp; stat -c %u:%g /result; true")?;
    assert_eq!(
        seen,
        "hi\nhi\n-rw-r--r--\ndrwx------\nt\n0:0\n".replace("-rw-r--r--\ndrwx------", "drwx------\n-rw-r--r--")
    );
    let named = changes.edit(&bench.base)?.cmd(["cat", "/result"]).commit("result:1")?;
    assert_eq!(bench.container(&named).output()?.text(), "hi\n");
    Ok(())
}

#[test]
fn the_ids_of_an_ordinary_users_files_are_those_inside() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    let bench = Bench::new()?;
    let out =
        bench.container(&bench.base).user("33:44").args(["sh", "-c", "echo x > /tmp/x"]).keep_changes().output()?;
    assert!(out.status.success(), "{out:?}");
    let image = out.changes()?.commit(&bench.base)?;
    let blob = image.edit().recompress(keelbox::Compression::None).commit("x:1")?;
    let path = bench.store.path().join("blobs/sha256").join(blob.layers()[1].digest().hex());
    let listed = std::process::Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(path).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|line| line.contains("33/44") && line.ends_with("tmp/x")), "{listed}");
    Ok(())
}

#[test]
fn a_build_file_is_built() -> testkit::Result {
    require!(Root, Program("busybox"));
    a_build_file_is_built_here()
}

#[test]
fn a_build_file_is_built_for_an_ordinary_user() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    a_build_file_is_built_here()
}

fn a_build_file_is_built_here() -> testkit::Result {
    let bench = Bench::new()?;
    bench.write(&[
        ("src/a.txt", "a"),
        ("src/b.txt", "b"),
        ("src/skip.o", "o"),
        ("one", "1"),
        (".dockerignore", "**/*.o\n"),
    ]);
    symlink("one", bench.directory.path().join("context/link"))?;
    let text = r#"
ARG BASE=base:1
FROM ${BASE} AS maker
WORKDIR /work
COPY src/*.txt ./
RUN cat a.txt b.txt > made && \
    # a remark
    echo more >> made
COPY --chmod=755 <<'EOF' /bin/hello
#!/bin/sh
echo "hello $NAME"
EOF

FROM base:1 AS unused
RUN false

FROM base:1
ARG VERSION=1
ENV NAME="big world" V=$VERSION
LABEL made.by="me"
COPY --from=maker /work/made /srv/
COPY --from=maker /bin/hello /bin/hello
COPY --chown=12:34 src /srv/src
COPY link /srv/linked
RUN ["sh", "-c", "echo $V > /srv/v"]
RUN <<EOF
set -e
echo one > /srv/doc
echo two >> /srv/doc
EOF
USER 12:34
EXPOSE 80 53/udp
VOLUME ["/data"]
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/hello"]
"#;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&steps);
    let build =
        bench.build(text)?.argument("VERSION", "7").on_step(move |step| told.lock().expect("told").push(step.clone()));
    let image = build.commit("app:1")?;
    assert_eq!(bench.container(&image).output()?.text(), "hello big world\n");
    let root = |command: &str| -> testkit::Result<String> {
        Ok(bench.container(&image).user("0:0").args(["sh", "-c", command]).output()?.text().into_owned())
    };
    assert_eq!(
        root("cat /srv/made /srv/v /srv/doc /srv/linked; ls /srv/src; ls /work 2>&1 | wc -l")?,
        "abmore\n7\none\ntwo\n1a.txt\nb.txt\n1\n"
    );
    let config = image.config();
    assert_eq!((config.user(), config.stop_signal(), config.cmd()), ("12:34", Some("SIGINT"), &[][..]));
    assert_eq!(
        (config.exposed_ports(), config.volumes()),
        (&["53/udp".to_owned(), "80/tcp".into()][..], &["/data".to_owned()][..])
    );
    assert_eq!(config.labels()["made.by"], "me");
    let first: Vec<_> = std::mem::take(&mut *steps.lock().expect("told"));
    assert!(first.iter().all(|step| !step.cached && !step.text.contains("false")), "{first:?}");
    assert_eq!((first.len(), first[0].total, first[0].text.as_str()), (18, 18, "WORKDIR /work"));
    // Once more: everything is there, and other times of files change nothing.
    fs::write(bench.directory.path().join("context/one"), "1")?;
    let again = build.commit("app:2")?;
    assert_eq!(again.manifest_digest(), image.manifest_digest());
    let second: Vec<_> = std::mem::take(&mut *steps.lock().expect("told"));
    assert!(second.iter().all(|step| step.cached || step.text.starts_with("ARG")), "{second:?}");
    // What changes is done again from there on.
    fs::write(bench.directory.path().join("context/one"), "2")?;
    let other = build.commit("app:3")?;
    assert_ne!(other.manifest_digest(), image.manifest_digest());
    let third = steps.lock().expect("told");
    let anew: Vec<&str> =
        third.iter().filter(|step| !step.cached).map(|step| step.text.split(' ').next().expect("a word")).collect();
    assert_eq!(anew[0..3], ["ARG", "COPY", "RUN"], "{third:?}");
    Ok(())
}

#[test]
fn the_same_build_makes_the_same_image_anywhere() -> testkit::Result {
    require!(Root, Program("busybox"));
    the_same_build_makes_the_same_image_anywhere_here()
}

#[test]
fn the_same_build_makes_the_same_image_anywhere_for_an_ordinary_user() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    the_same_build_makes_the_same_image_anywhere_here()
}

fn the_same_build_makes_the_same_image_anywhere_here() -> testkit::Result {
    let text = "FROM base:1\nWORKDIR /srv\nCOPY . .\nRUN mkdir -p d && echo x > d/b && echo y > d/a && ln -s a d/l && rm /bin/yes\nCMD [\"sh\"]\n";
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        let bench = Bench::at(name)?;
        bench.write(&[("x/file", "content")]);
        let image = bench.build(text)?.commit("app:1")?;
        digests.push((image.manifest_digest().clone(), image.config().diff_ids().to_vec()));
    }
    assert_eq!(digests[0], digests[1]);
    Ok(())
}

#[test]
fn steps_by_calls_take_values_as_they_are() -> testkit::Result {
    require!(Root, Program("busybox"));
    steps_by_calls_take_values_as_they_are_here()
}

#[test]
fn steps_by_calls_take_values_as_they_are_for_an_ordinary_user() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    steps_by_calls_take_values_as_they_are_here()
}

fn steps_by_calls_take_values_as_they_are_here() -> testkit::Result {
    let bench = Bench::new()?;
    bench.write(&[("files/a", "a"), ("files/sub/b", "b")]);
    let context = bench.directory.path().join("context");
    let image = Build::from_image(&bench.base)
        .store(bench.store.path())
        .context(&context)
        .copy("files", "/srv")
        .workdir("/srv")
        .env("PRICE", "$5 \"or so\"")
        .run("cat a sub/b > both; printf %s \"$PRICE\" > price")
        .run_args(["ln", "-s", "both", "link"])
        .entrypoint(["cat"])
        .cmd(["link", "price"])
        .commit("app:1")?;
    assert_eq!(bench.container(&image).output()?.text(), "ab$5 \"or so\"");
    assert_eq!(image.config().working_dir(), "/srv");
    let scratch =
        Build::from_scratch().store(bench.store.path()).context(&context).copy("files/a", "/a").commit("tiny:1")?;
    assert_eq!(scratch.layers().len(), 1);
    Ok(())
}

#[test]
fn what_fails_says_where_and_names_nothing() -> testkit::Result {
    require!(Root, Program("busybox"));
    what_fails_says_where_and_names_nothing_here()
}

#[test]
fn what_fails_says_where_and_names_nothing_for_an_ordinary_user() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    what_fails_says_where_and_names_nothing_here()
}

fn what_fails_says_where_and_names_nothing_here() -> testkit::Result {
    let bench = Bench::new()?;
    bench.write(&[("file", "x"), ("secret.key", "s"), (".dockerignore", "*.key\n")]);
    symlink("/etc/passwd", bench.directory.path().join("context/outside"))?;
    for (text, kind, why) in [
        ("FROM nowhere:1", ErrorKind::NotFound, "line 1: cannot find the image nowhere:1"),
        (
            "FROM base:1\nRUN echo so; echo sad >&2; exit 3",
            ErrorKind::Failed,
            "line 2: RUN echo so; echo sad >&2; exit 3: the program ended with",
        ),
        ("FROM base:1\nRUN [\"/nothing\"]", ErrorKind::ProgramNotFound, "line 2: RUN [\"/nothing\"]"),
        ("FROM base:1\n\nCOPY missing /", ErrorKind::NotFound, "line 3: missing is no file of the context"),
        ("FROM base:1\nCOPY *.none /", ErrorKind::NotFound, "line 2: *.none means no file"),
        ("FROM base:1\nCOPY secret.key /", ErrorKind::NotFound, "line 2: secret.key is left out by .dockerignore"),
        ("FROM base:1\nCOPY outside /", ErrorKind::NotFound, "line 2: outside leads out of the context"),
        ("FROM base:1\nCOPY ../../../etc/passwd /", ErrorKind::NotFound, "line 2: ../../../etc/passwd is no file"),
        ("FROM base:1\nCOPY --from=base:1 /nothing /", ErrorKind::NotFound, "line 2: COPY"),
        (
            "FROM base:1\nCOPY --chown=nobody-here file /",
            ErrorKind::UnknownUser,
            "line 2: cannot find the owner \"nobody-here\"",
        ),
        ("FROM base:1\nENV A=${B!x}", ErrorKind::Invalid, "line 2: ${B!x}"),
        ("FROM base:1\nEXPOSE 99999", ErrorKind::Damaged, "line 2: EXPOSE 99999"),
        ("FROM --platform=linux/riscv64 base:1", ErrorKind::Unsupported, "line 1: base:1 is for linux/"),
    ] {
        let error = bench.build(text).and_then(|build| build.commit("app:1")).expect_err(why);
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(error.kind(), kind, "{error:#}");
        assert!(bench.store.get("app:1").is_err());
    }
    let error =
        bench.build("FROM base:1\nRUN echo so; echo sad >&2; exit 3")?.commit("app:1").expect_err("it must fail");
    assert_eq!(error.hint(), Some("so\nsad"));
    assert_eq!(
        bench.build("FROM base:1")?.target("none").commit("app:1").expect_err("it must fail").kind(),
        ErrorKind::NotFound
    );
    let runs = fs::read_dir(bench.store.path().join("runs"))?.count();
    assert_eq!(runs, 0, "the layers of failed runs are gone");
    Ok(())
}

#[test]
fn images_come_from_where_the_caller_says() -> testkit::Result {
    require!(UserNamespace, Program("busybox"));
    as_user!();
    let bench = Bench::new()?;
    let other =
        Edit::scratch(&bench.store).add_layer(Changeset::new().bytes("/f", "fetched", 0o644)).commit_unnamed()?;
    let fetched = other.clone();
    let build = bench.build("FROM base:1\nCOPY --from=far:1 /f /g\nCOPY --from=near:1 f /h")?;
    let build = build.image("near:1", &other).fetch(move |name| match name {
        "far:1" => Ok(fetched.clone()),
        _ => Err("unknown".into()),
    });
    assert_eq!(bench.says(&build.commit("app:1")?, "cat /g /h")?, "fetchedfetched");
    let error =
        bench.build("FROM far:2")?.fetch(|_| Err("no such thing".into())).commit("app:2").expect_err("it must fail");
    assert!(format!("{error:#}").ends_with("cannot find the image far:2: no such thing"), "{error:#}");
    assert!(Path::new(bench.store.path()).exists());
    Ok(())
}
