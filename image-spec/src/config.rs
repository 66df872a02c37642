//! The image configuration: what an image says about itself and about the process to run.
//!
//! Job: a lenient, typed view of image-spec `config.md` with docker's extensions, beside the raw bytes. `null` is absent,
//! unknown fields are kept in the raw bytes, and a field of the wrong type is an error that names it. Leaves out what to
//! make of the values: that is `process.rs`.

use crate::json::{self, Field};
use crate::{Digest, Error, Platform, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A parsed image configuration.
///
/// ```
/// use keelbox_image_spec::ImageConfig;
/// let config = ImageConfig::parse(br#"{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]},
///     "rootfs":{"type":"layers","diff_ids":[]}}"#)?;
/// assert_eq!(config.cmd(), ["sh"]);
/// assert!(config.entrypoint().is_empty());
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageConfig {
    raw: Arc<[u8]>,
    platform: Platform,
    os_version: Option<String>,
    os_features: Vec<String>,
    created: Option<String>,
    author: Option<String>,
    diff_ids: Vec<Digest>,
    history: Vec<History>,
    run: Run,
}

/// The `config` object.
#[derive(Clone, Debug, Default)]
struct Run {
    user: String,
    exposed_ports: Vec<String>,
    env: Vec<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    volumes: Vec<String>,
    working_dir: String,
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    healthcheck: Option<String>,
}

/// One line of an image's history.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// When, in RFC 3339.
    pub created: Option<String>,
    /// Who.
    pub author: Option<String>,
    /// The command that did it.
    pub created_by: Option<String>,
    /// A remark.
    pub comment: Option<String>,
    /// True for a step that made no layer. Default false.
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Parses the JSON of an image configuration.
    ///
    /// # Errors
    /// `Format` naming the field by JSON pointer; `Unsupported` for a `diff_ids` entry of an algorithm unknown here.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_named(bytes.into(), "image configuration")
    }

    pub(crate) fn parse_named(raw: Arc<[u8]>, what: &str) -> Result<Self> {
        let value = json::parse(&raw, what)?;
        let root = Field::root(&value, what)?;
        let rootfs = root.require("rootfs")?;
        let kind = rootfs.require("type")?;
        if kind.text()? != "layers" {
            return Err(kind.error("is not \"layers\""));
        }
        let mut platform = Platform::new(root.require("os")?.text()?, root.require("architecture")?.text()?);
        if let Some(variant) = root.optional_text("variant")? {
            platform = platform.variant(variant);
        }
        Ok(Self {
            platform,
            os_version: root.optional_text("os.version")?,
            os_features: root.optional_texts("os.features")?,
            created: root.optional_text("created")?,
            author: root.optional_text("author")?,
            diff_ids: diff_ids(&rootfs)?,
            history: history(&root)?,
            run: root.get("config")?.as_ref().map(Run::parse).transpose()?.unwrap_or_default(),
            raw,
        })
    }

    /// The document as it came, byte for byte.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The image id: the SHA-256 of the document.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// Operating system, processor and variant.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The operating system, such as `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        self.platform.os()
    }

    /// The processor, such as `amd64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.platform.architecture()
    }

    /// When the image was made, in RFC 3339, unchecked.
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        self.created.as_deref()
    }

    /// Who made the image.
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        self.author.as_deref()
    }

    /// The digests of the uncompressed layers, bottom first.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.diff_ids
    }

    /// The history, oldest first.
    #[must_use]
    pub fn history(&self) -> &[History] {
        &self.history
    }

    /// `User` as written: a name or number, perhaps with a group. Empty: none. See [`User`](crate::User).
    #[must_use]
    pub fn user(&self) -> &str {
        &self.run.user
    }

    /// `ExposedPorts`, such as `80/tcp`, sorted.
    #[must_use]
    pub fn exposed_ports(&self) -> &[String] {
        &self.run.exposed_ports
    }

    /// `Env` as written, `NAME=VALUE` each.
    #[must_use]
    pub fn env(&self) -> &[String] {
        &self.run.env
    }

    /// `Entrypoint`: what every command line begins with. Empty: none.
    #[must_use]
    pub fn entrypoint(&self) -> &[String] {
        &self.run.entrypoint
    }

    /// `Cmd`: the default arguments. Empty: none.
    #[must_use]
    pub fn cmd(&self) -> &[String] {
        &self.run.cmd
    }

    /// `Volumes`: paths whose data should not be part of the container, sorted.
    #[must_use]
    pub fn volumes(&self) -> &[String] {
        &self.run.volumes
    }

    /// `WorkingDir` as written. Empty: none.
    #[must_use]
    pub fn working_dir(&self) -> &str {
        &self.run.working_dir
    }

    /// `Labels`.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.run.labels
    }

    /// `StopSignal` as written, such as `SIGTERM`.
    #[must_use]
    pub fn stop_signal(&self) -> Option<&str> {
        self.run.stop_signal.as_deref()
    }

    /// `Healthcheck`, docker's extension, as JSON text. Nothing here acts on it.
    #[must_use]
    pub fn healthcheck(&self) -> Option<&str> {
        self.run.healthcheck.as_deref()
    }

    /// The annotations that image-spec `conversion.md` derives from the configuration. A label of the same name wins.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::new();
        let mut add = |key: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                annotations.insert(format!("org.opencontainers.image.{key}"), value.to_owned());
            }
        };
        add("os", Some(self.os()));
        add("architecture", Some(self.architecture()));
        add("variant", Some(self.platform.variant_text()));
        add("os.version", self.os_version.as_deref());
        add("os.features", Some(&self.os_features.join(",")));
        add("author", self.author());
        add("created", self.created());
        add("stopSignal", self.stop_signal());
        add("exposedPorts", Some(&self.run.exposed_ports.join(",")));
        annotations.extend(self.run.labels.clone());
        annotations
    }

    /// The same document as `oci-spec`'s type, for programs that already use it. Docker's extensions are lost there.
    ///
    /// # Errors
    /// `Format` where that type is stricter than this one.
    pub fn to_oci_spec(&self) -> Result<oci_spec::image::ImageConfiguration> {
        oci_spec::image::ImageConfiguration::from_reader(&*self.raw)
            .map_err(|_| Error::format("image configuration does not fit the type of oci-spec"))
    }
}

impl Run {
    fn parse(config: &Field<'_>) -> Result<Self> {
        let names = |key: &str| -> Result<Vec<String>> {
            let Some(object) = config.get(key)? else { return Ok(Vec::new()) };
            let mut names: Vec<String> = object.keys()?.map(str::to_owned).collect();
            names.sort_unstable();
            Ok(names)
        };
        Ok(Self {
            user: config.optional_text("User")?.unwrap_or_default(),
            exposed_ports: names("ExposedPorts")?,
            env: config.optional_texts("Env")?,
            entrypoint: config.optional_texts("Entrypoint")?,
            cmd: config.optional_texts("Cmd")?,
            volumes: names("Volumes")?,
            working_dir: config.optional_text("WorkingDir")?.unwrap_or_default(),
            labels: config.optional_map("Labels")?,
            stop_signal: config.optional_text("StopSignal")?.filter(|signal| !signal.is_empty()),
            healthcheck: config.get("Healthcheck")?.map(|check| check.value().to_string()),
        })
    }
}

fn diff_ids(rootfs: &Field<'_>) -> Result<Vec<Digest>> {
    let items = rootfs.require("diff_ids")?.items()?;
    let parse = |item: &Field<'_>| {
        item.text()?.parse::<Digest>().map_err(|error| match error.kind() {
            crate::ErrorKind::Unsupported => error,
            _ => item.error("is not a digest"),
        })
    };
    items.iter().map(parse).collect()
}

fn history(root: &Field<'_>) -> Result<Vec<History>> {
    let Some(history) = root.get("history")? else { return Ok(Vec::new()) };
    let parse = |item: &Field<'_>| {
        Ok(History {
            created: item.optional_text("created")?,
            author: item.optional_text("author")?,
            created_by: item.optional_text("created_by")?,
            comment: item.optional_text("comment")?,
            empty_layer: item.get("empty_layer")?.as_ref().map(Field::boolean).transpose()?.unwrap_or(false),
        })
    };
    history.items()?.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn document(config: &str, extra: &str) -> String {
        format!(
            r#"{{"os":"linux","architecture":"arm64","variant":"v8","config":{config},
                "rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}}{extra}}}"#
        )
    }

    #[test]
    fn every_field_is_read() {
        let text = document(
            r#"{"User":"www:7","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Env":["A=b"],"Entrypoint":["/e"],"Cmd":["c"],
                "Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"l":"m"},"StopSignal":"SIGINT",
                "Healthcheck":{"Test":["CMD","true"]},"Shell":["x"]}"#,
            r#","created":"2026-01-02T03:04:05Z","author":"me","os.features":["f","g"],
                "history":[{"created_by":"RUN x","empty_layer":true},{"comment":null}],"container_config":{}"#,
        );
        let config = ImageConfig::parse(text.as_bytes()).expect("valid");
        assert_eq!((config.os(), config.architecture()), ("linux", "arm64"));
        assert_eq!((config.user(), config.working_dir()), ("www:7", "/w"));
        assert_eq!(config.exposed_ports(), ["53/udp", "80/tcp"]);
        assert_eq!(
            (config.env(), config.entrypoint(), config.cmd()),
            (&["A=b".into()][..], &["/e".into()][..], &["c".into()][..])
        );
        assert_eq!(config.volumes(), ["/v"]);
        assert_eq!(config.stop_signal(), Some("SIGINT"));
        assert_eq!(config.healthcheck(), Some(r#"{"Test":["CMD","true"]}"#));
        assert_eq!(config.diff_ids()[0].to_string(), DIGEST);
        assert_eq!(config.history().len(), 2);
        assert!(config.history()[0].empty_layer && !config.history()[1].empty_layer);
        assert_eq!(config.raw(), text.as_bytes());
        assert_eq!(config.id(), Digest::of(text.as_bytes()));
        let oci = config.to_oci_spec().expect("fits");
        assert_eq!(oci.config().as_ref().and_then(|c| c.user().clone()), Some("www:7".to_owned()));
        let annotations = config.annotations();
        for (key, value) in [
            ("os", "linux"),
            ("author", "me"),
            ("stopSignal", "SIGINT"),
            ("exposedPorts", "53/udp,80/tcp"),
            ("os.features", "f,g"),
        ] {
            assert_eq!(annotations[&format!("org.opencontainers.image.{key}")], value);
        }
        assert_eq!(annotations["l"], "m");
    }

    #[test]
    fn a_label_wins_over_the_derived_annotation() {
        let text = document(r#"{"Labels":{"org.opencontainers.image.os":"mine"}}"#, "");
        assert_eq!(
            ImageConfig::parse(text.as_bytes()).expect("valid").annotations()["org.opencontainers.image.os"],
            "mine"
        );
    }

    #[test]
    fn null_is_absent_and_wrong_types_are_named() {
        let nulls =
            r#"{"User":null,"ExposedPorts":null,"Env":null,"Entrypoint":null,"Cmd":null,"Volumes":null,"Labels":null}"#;
        assert!(ImageConfig::parse(document(nulls, r#","history":null"#).as_bytes()).is_ok());
        assert!(ImageConfig::parse(document("null", "").as_bytes()).is_ok());
        for (config, field) in [
            (r#"{"Entrypoint":"sh"}"#, "/config/Entrypoint"),
            (r#"{"Env":[1]}"#, "/config/Env/0"),
            (r#"{"User":0}"#, "/config/User"),
            (r#"{"Volumes":["/x"]}"#, "/config/Volumes"),
            (r#"{"StopSignal":9}"#, "/config/StopSignal"),
            (r#"[]"#, "/config"),
        ] {
            let error = ImageConfig::parse(document(config, "").as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        for (rootfs, field) in [
            (r#"{"type":"x","diff_ids":[]}"#, "/rootfs/type"),
            (r#"{"type":"layers"}"#, "/rootfs/diff_ids"),
            (r#"{"type":"layers","diff_ids":["x"]}"#, "/rootfs/diff_ids/0"),
            ("null", "/rootfs"),
        ] {
            let text = format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{rootfs}}}"#);
            let error = ImageConfig::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
