//! From the configuration of an image to the configuration of a container (image-spec, conversion.md).
//!
//! Left out on purpose: reading images, and looking up user names in the image's `/etc/passwd`; the caller has done both.
//! Needs no kernel.
use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Error;

/// The user an image wants, as numbers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ImageUser {
    /// The user id. Default: 0.
    pub uid: u32,
    /// The group id. Default: 0.
    pub gid: u32,
    /// The user's groups from the image's `/etc/group`, if the image names the user and no group. Default: none.
    pub additional_gids: Vec<u32>,
}

impl ImageUser {
    /// A user without additional groups.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid, gid, additional_gids: Vec::new() }
    }
}

/// What an image says about the containers made from it. Every field is empty by default, and then changes nothing.
///
/// ```
/// use keelbox_runtime_spec::{Config, ImageConfig};
///
/// let mut image = ImageConfig::default();
/// image.entrypoint = vec!["/bin/sh".into(), "-c".into()];
/// image.command = vec!["env".into()];
/// image.working_dir = "srv".into();
/// let config = Config::from_image(&image)?;
/// assert_eq!(config.property("/process/args").as_deref(), Some(r#"["/bin/sh","-c","env"]"#));
/// assert_eq!(config.property("/process/cwd").as_deref(), Some(r#""/srv""#));
/// # Ok::<(), keelbox_runtime_spec::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ImageConfig {
    /// `Entrypoint`: the beginning of the arguments.
    pub entrypoint: Vec<String>,
    /// `Cmd`: the rest of the arguments.
    pub command: Vec<String>,
    /// `Env`, each `NAME=value`.
    pub env: Vec<String>,
    /// `WorkingDir`. Empty leaves it as it is, which is `/` in [`Config::new`]; a relative path is taken from `/` (IS-95).
    pub working_dir: String,
    /// `User`, looked up. `None` leaves the user as it is.
    pub user: Option<ImageUser>,
    /// `Labels`, which become annotations. They come from whoever made the image: a program that obeys annotations must
    /// not obey these.
    pub labels: BTreeMap<String, String>,
    /// The names in `ExposedPorts`, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// The names in `Volumes`: absolute paths inside. Each becomes a tmpfs filled with what the image has there.
    pub volumes: Vec<String>,
    /// `StopSignal`, as it is spelled.
    pub stop_signal: Option<String>,
    /// `os`.
    pub os: Option<String>,
    /// `os.version`.
    pub os_version: Option<String>,
    /// `os.features`.
    pub os_features: Vec<String>,
    /// `architecture`.
    pub architecture: Option<String>,
    /// `variant`.
    pub variant: Option<String>,
    /// `author`.
    pub author: Option<String>,
    /// `created`, as it is spelled (RFC 3339).
    pub created: Option<String>,
}

impl Config {
    /// [`Config::new`] with what `image` says.
    ///
    /// # Errors
    ///
    /// As [`Config::apply_image`].
    pub fn from_image(image: &ImageConfig) -> Result<Self, Error> {
        let mut config = Self::new();
        config.apply_image(image)?;
        Ok(config)
    }

    /// Puts what `image` says into this configuration; afterwards the caller may change anything (IS-85).
    ///
    /// Arguments, environment, working directory and user are the image's. Environment variables that were there before
    /// stay behind the image's unless the image has one of the same name. An explicit label wins over the annotation that
    /// would be made from another field of the image.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Value`] if a text cannot be used, such as an argument with a NUL character. The configuration
    /// is then unchanged.
    pub fn apply_image(&mut self, image: &ImageConfig) -> Result<(), Error> {
        self.change(|raw| {
            image.process(&mut raw["process"]);
            let annotations = image.annotations();
            if !annotations.is_empty() {
                let place = &mut raw["annotations"];
                annotations.into_iter().for_each(|(name, value)| place[name] = value.into());
            }
            image.mounts(&mut raw["mounts"]);
        })
    }
}

impl ImageConfig {
    fn process(&self, process: &mut Value) {
        if !self.entrypoint.is_empty() || !self.command.is_empty() {
            let args: Vec<&String> = self.entrypoint.iter().chain(&self.command).collect();
            process["args"] = json!(args);
        }
        if !self.env.is_empty() {
            let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
            let taken: HashSet<String> = self.env.iter().map(|v| name(v)).collect();
            let before = process["env"].as_array().cloned().unwrap_or_default();
            let kept = before.into_iter().filter(|v| !taken.contains(&name(v.as_str().unwrap_or_default())));
            process["env"] = self.env.iter().map(|v| json!(v)).chain(kept).collect();
        }
        if !self.working_dir.is_empty() || process.get("cwd").is_none() {
            let slash = if self.working_dir.starts_with('/') { "" } else { "/" };
            process["cwd"] = json!(format!("{slash}{}", self.working_dir));
        }
        if let Some(user) = &self.user {
            process["user"] = json!({"uid": user.uid, "gid": user.gid});
            if !user.additional_gids.is_empty() {
                process["user"]["additionalGids"] = json!(user.additional_gids);
            }
        }
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let joined = |list: &[String]| (!list.is_empty()).then(|| list.join(","));
        let mut ports = self.exposed_ports.clone();
        ports.sort();
        let implicit = [
            ("os", self.os.clone()),
            ("os.version", self.os_version.clone()),
            ("os.features", joined(&self.os_features)),
            ("architecture", self.architecture.clone()),
            ("variant", self.variant.clone()),
            ("author", self.author.clone()),
            ("created", self.created.clone()),
            ("stopSignal", self.stop_signal.clone()),
            ("exposedPorts", joined(&ports)),
        ];
        let named = |(name, value): (&str, Option<String>)| Some((format!("org.opencontainers.image.{name}"), value?));
        let mut annotations: BTreeMap<_, _> = implicit.into_iter().filter_map(named).collect();
        annotations.extend(self.labels.clone());
        annotations
    }

    fn mounts(&self, mounts: &mut Value) {
        let mut volumes = self.volumes.clone();
        volumes.sort();
        for path in volumes {
            let list = mounts.as_array().map(Vec::as_slice).unwrap_or_default();
            if list.iter().any(|mount| mount["destination"] == *path) {
                continue;
            }
            let mount = json!({
                "destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "tmpcopyup"],
            });
            match mounts.as_array_mut() {
                Some(list) => list.push(mount),
                None => *mounts = json!([mount]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        ImageConfig {
            command: vec!["top".into()],
            env: vec!["PATH=/opt".into(), "A=1".into(), "ODD".into()],
            user: Some(ImageUser { additional_gids: vec![7], ..ImageUser::new(5, 6) }),
            exposed_ports: vec!["80/tcp".into(), "53/udp".into()],
            volumes: vec!["/data".into(), "/proc".into()],
            os: Some("linux".into()),
            os_features: vec!["a".into(), "b".into()],
            stop_signal: Some("SIGQUIT".into()),
            created: Some("2026-01-02T03:04:05Z".into()),
            ..ImageConfig::default()
        }
    }

    fn text(config: &Config, pointer: &str) -> String {
        config.property(pointer).unwrap_or_default()
    }

    #[test]
    fn is_86_verbatim_fields() {
        let mut image = image();
        let config = Config::from_image(&image).unwrap();
        assert_eq!(text(&config, "/process/args"), r#"["top"]"#);
        assert_eq!(text(&config, "/process/cwd"), r#""/""#);
        image.entrypoint = vec!["tini".into(), "--".into()];
        image.working_dir = "/srv".into();
        let config = Config::from_image(&image).unwrap();
        assert_eq!(text(&config, "/process/args"), r#"["tini","--","top"]"#);
        assert_eq!(text(&config, "/process/cwd"), r#""/srv""#);
        assert!(config.check().iter().all(|p| p.severity() == crate::Severity::Warning));
    }

    #[test]
    fn is_87_added_variables_never_shadow() {
        let mut config = Config::new();
        config.insert("/process/env", r#"["PATH=/bin", "TERM=xterm"]"#).unwrap();
        config.apply_image(&image()).unwrap();
        assert_eq!(text(&config, "/process/env"), r#"["PATH=/opt","A=1","ODD","TERM=xterm"]"#);
    }

    #[test]
    fn is_88_and_89_annotations_and_labels() {
        let mut image = image();
        image.labels.insert("org.opencontainers.image.os".into(), "label".into());
        image.labels.insert("org.opencontainers.image.exposedPorts".into(), "mine".into());
        image.labels.insert("x".into(), String::new());
        let mut config = Config::new();
        config.insert("/annotations", r#"{"mine": "kept"}"#).unwrap();
        config.apply_image(&image).unwrap();
        let annotations = config.spec().annotations().as_ref().unwrap();
        let mut found: Vec<(&str, &str)> =
            annotations.iter().map(|(k, v)| (k.trim_start_matches("org.opencontainers.image."), v.as_str())).collect();
        found.sort();
        let expected = [
            ("created", "2026-01-02T03:04:05Z"),
            ("exposedPorts", "mine"),
            ("mine", "kept"),
            ("os", "label"),
            ("os.features", "a,b"),
            ("stopSignal", "SIGQUIT"),
            ("x", ""),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn is_91_to_94_user_ports_volumes() {
        let config = Config::from_image(&image()).unwrap();
        assert_eq!(text(&config, "/process/user"), r#"{"additionalGids":[7],"gid":6,"uid":5}"#);
        let ports = "/annotations/org.opencontainers.image.exposedPorts";
        assert_eq!(text(&config, ports), r#""53/udp,80/tcp""#);
        let mounts = config.spec().mounts().as_ref().unwrap();
        let at = |path: &str| mounts.iter().filter(|m| m.destination().as_os_str() == path).count();
        assert_eq!((at("/data"), at("/proc")), (1, 1));
    }

    #[test]
    fn unusable_text_changes_nothing() {
        let mut image = image();
        image.command = vec!["a\0b".into()];
        let mut config = Config::new();
        let error = config.apply_image(&image).unwrap_err();
        assert_eq!(error.pointer(), Some("/process/args/0"));
        assert_eq!(config, Config::new());
        // An image that says nothing leaves a configuration that says the same.
        config.apply_image(&ImageConfig::default()).unwrap();
        assert_eq!(config, Config::new());
    }
}
