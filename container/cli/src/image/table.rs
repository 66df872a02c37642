//! The table of what can be done with images. Needs no kernel.

use crate::grammar::Count::{One, Optional, Rest};
use crate::grammar::{Command, Opt, Word};
use crate::table::word;

use super::{build, change, copy, list, remove, transfer, unpack, upkeep};

/// What `keelbox image --help` says beyond its line.
pub(crate) const MORE: &str = "COMMAND is pull, push, copy, save, load, ls, rm, tag, inspect, history, edit, build, unpack, gc, verify or du; keelbox image COMMAND --help tells \
    more of each. An IMAGE is a name in the store such as debian:12, or oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], \
    docker-archive:FILE[:NAME].";

const IMAGE: Word = word("IMAGE", "an image", One);

/// Where images are.
pub(crate) const STORE: &[Opt] = &[Opt::value(
    "store",
    "DIRECTORY",
    "where images are kept; default: /var/lib/keelbox, or for an ordinary user ~/.local/share/keelbox",
)];

const PLATFORM: Opt = Opt::value("platform", "OS/ARCHITECTURE", "the machine that the image is for; default: this one");

/// How registries are reached.
pub(crate) const REGISTRY: &[Opt] = &[
    PLATFORM,
    Opt::value("mirror", "REGISTRY=ADDRESS", "asks this web address before the registry; may be repeated"),
    Opt::flag("plain-http", "speaks HTTP with the registry, not HTTPS; with this machine itself that is so anyway"),
    Opt::value("authfile", "FILE", "credentials; default: where docker and podman keep them"),
    Opt::value("cert-authority", "FILE", "certificate authorities to trust in the place of the web's, PEM"),
    Opt::flag("quiet", "shows no progress").letter('q'),
];

const JSON: Opt = Opt::flag("json", "tells it as JSON");

const COMPRESSION: Opt =
    Opt::value("compression", "FORM", "of new layers, and with --recompress of all: gzip (default), zstd or none")
        .choices("gzip zstd none");

const EPOCH: Opt = Opt::value("epoch", "SECONDS", "when the image was made; default: $SOURCE_DATE_EPOCH, or now");

const EDIT: &[Opt] = &[
    Opt::value("env", "NAME=VALUE", "one variable of the environment; may be repeated").letter('e'),
    Opt::value("entrypoint", "WORDS", "what every command line begins with: words, or a JSON list"),
    Opt::value("cmd", "WORDS", "the default arguments: words, or a JSON list"),
    Opt::value("user", "USER[:GROUP]", "who programs run as").letter('u'),
    Opt::value("workdir", "DIRECTORY", "the working directory").letter('w'),
    Opt::value("label", "NAME=VALUE", "one label; may be repeated").letter('l'),
    Opt::value("expose", "PORT[/PROTOCOL]", "a port that programs listen on; may be repeated"),
    Opt::value("volume", "DIRECTORY", "a path whose data is not part of the container; may be repeated"),
    Opt::value("stop-signal", "SIGNAL", "the signal that asks the program to stop"),
    Opt::value("author", "TEXT", "who made the image"),
    Opt::value("annotation", "NAME=VALUE", "an annotation of the manifest; may be repeated"),
    Opt::value("add", "SOURCE:TARGET", "a layer with a file or directory of this machine; may be repeated"),
    Opt::value("add-layer", "FILE", "a layer that is there as a tar archive; may be repeated"),
    Opt::value("squash", "all|COUNT", "makes one layer of all, or of the uppermost ones"),
    Opt::value("rebase", "OLD,NEW", "puts what lies on the image OLD on top of the image NEW"),
    COMPRESSION,
    Opt::flag("recompress", "compresses all layers anew"),
    EPOCH,
];

const BUILD: &[Opt] = &[
    Opt::value("file", "FILE", "the build file; default: Dockerfile in the CONTEXT").letter('f'),
    Opt::value("tag", "NAME", "the name of the image; default: none").letter('t'),
    Opt::value("build-arg", "NAME[=VALUE]", "the value of an ARG; without a VALUE it is the caller's; may be repeated"),
    Opt::value("target", "STAGE", "the stage to build; default: the last one"),
    Opt::flag("no-cache", "does every step anew"),
    Opt::value("network", "NETWORK", "of the programs that run: none (default) or host").choices("none host"),
    COMPRESSION,
    EPOCH,
];

const COPY: &[Opt] = &[
    Opt::flag("docker", "in docker's form: for docker load, or for registries that want it"),
    Opt::flag("keep-form", "manifests as they are, so that every digest stays"),
    Opt::flag("all-platforms", "all platforms, with the index that lists them"),
];

/// All of it, in the order of an image's life.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "image pull",
        words: &[word("NAME", "the name of an image", One)],
        options: &[STORE, REGISTRY, &[JSON, Opt::flag("unpack", "unpacks it meanwhile, for its first container")]],
        about: "brings an image from a registry into the store",
        more: "What breaks off is taken up the next time. An image that is there and unchanged costs one request.",
        perform: transfer::pull,
    },
    Command {
        name: "image push",
        words: &[IMAGE, word("NAME", "a name in a registry", Optional)],
        options: &[STORE, REGISTRY, &[JSON]],
        about: "brings an image to a registry; as NAME, if that is given",
        more: "",
        perform: transfer::push,
    },
    Command {
        name: "image copy",
        words: &[word("SOURCE", "where an image is", One), word("TARGET", "where it shall be", One)],
        options: &[STORE, REGISTRY, COPY],
        about: "copies an image from one place to another",
        more: "A place is a name in the store, oci:DIRECTORY[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], or docker://NAME \
            for a registry.",
        perform: copy::copy,
    },
    Command {
        name: "image save",
        words: &[IMAGE, word("FILE", "a file", One)],
        options: &[STORE, COPY, &[PLATFORM]],
        about: "writes an image into an archive: OCI's, or with --docker docker's",
        more: "",
        perform: copy::save,
    },
    Command {
        name: "image load",
        words: &[word("SOURCE", "an archive or layout", One), word("NAME", "its name", Optional)],
        options: &[STORE, &[PLATFORM]],
        about: "brings an image from an archive or layout into the store",
        more: "Without NAME it gets the one that it has there.",
        perform: copy::load,
    },
    Command {
        name: "image ls",
        words: &[],
        options: &[STORE, &[JSON, Opt::flag("quiet", "the names alone").letter('q')]],
        about: "the images in the store",
        more: "",
        perform: list::list,
    },
    Command {
        name: "image rm",
        words: &[word("NAME", "names of images", Rest)],
        options: &[STORE],
        about: "takes names away",
        more: "",
        perform: remove::remove,
    },
    Command {
        name: "image tag",
        words: &[IMAGE, word("NAME", "a new name", One)],
        options: &[STORE],
        about: "gives an image one more name; one from outside is copied into the store",
        more: "",
        perform: change::tag,
    },
    Command {
        name: "image inspect",
        words: &[IMAGE],
        options: &[STORE],
        about: "manifest and configuration of an image, as JSON",
        more: "",
        perform: list::inspect,
    },
    Command {
        name: "image history",
        words: &[IMAGE],
        options: &[STORE, &[JSON]],
        about: "how an image was made, the latest first",
        more: "",
        perform: list::history,
    },
    Command {
        name: "image edit",
        words: &[IMAGE, word("NAME", "the name of the new image", One)],
        options: &[STORE, EDIT],
        about: "makes a new image of one that is there; with scratch as IMAGE, of nothing",
        more: "Layers come first, in the order add, add-layer, squash, rebase; then the settings. With the same input and --epoch the new \
            image is the same, bit by bit.",
        perform: change::edit,
    },
    Command {
        name: "image build",
        words: &[word("CONTEXT", "a directory", Optional)],
        options: &[STORE, REGISTRY, BUILD],
        about: "builds an image as a Dockerfile says; default CONTEXT: the current directory",
        more: "Steps whose input is the same as before are not done again. A base image that the store has not is pulled. Programs have no \
            network unless --network host says so.",
        perform: build::build,
    },
    Command {
        name: "image unpack",
        words: &[IMAGE],
        options: &[STORE, &[JSON]],
        about: "unpacks the layers in the store, and tells their directories, the lowest first",
        more: "They are as overlayfs takes them: joined by colons, the highest first, they make its lowerdir.",
        perform: unpack::unpack,
    },
    Command {
        name: "image gc",
        words: &[],
        options: &[
            STORE,
            &[
                JSON,
                Opt::value("grace", "TIME", "leaves alone what is newer than this, such as 1h; default: nothing"),
                Opt::flag("dry-run", "tells what would be removed").letter('n'),
            ],
        ],
        about: "removes what no name, container, pull or build uses",
        more: "",
        perform: upkeep::gc,
    },
    Command {
        name: "image verify",
        words: &[],
        options: &[STORE, &[Opt::flag("repair", "removes what is damaged, so that the next pull brings it anew")]],
        about: "looks for damage in the store",
        more: "Every blob is hashed, every name followed. Ends with 1 if something is wrong.",
        perform: upkeep::verify,
    },
    Command {
        name: "image du",
        words: &[],
        options: &[STORE, &[JSON]],
        about: "the room that images take",
        more: "",
        perform: upkeep::du,
    },
];
