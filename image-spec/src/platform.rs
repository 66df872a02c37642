//! Platforms: parsing, normal form, and which images run on which machine.
//!
//! Job: an ordered list of acceptable platforms, first match wins, as containerd decides (its `platforms` package is the
//! most complete of the peers). Leaves out Windows versions: `os.version` is not compared.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// An operating system and a processor, in Go's names, perhaps with a variant of the processor.
///
/// ```
/// use keelbox_image_spec::Platform;
/// let arm: Platform = "linux/arm64/v8".parse()?;
/// assert_eq!(arm, Platform::new("linux", "aarch64"));
/// assert!(arm.rank(&Platform::new("linux", "arm").variant("v7")).is_some());
/// assert!(arm.rank(&Platform::new("linux", "amd64")).is_none());
/// # Ok::<(), keelbox_image_spec::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Empty: none said, or the one the architecture implies.
    variant: String,
    features: Vec<String>,
}

impl Platform {
    /// A platform without a variant. Both names are brought to the spelling that images use: `aarch64` becomes `arm64`.
    #[must_use]
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self {
            os: os.into().to_ascii_lowercase(),
            architecture: architecture.into(),
            variant: String::new(),
            features: Vec::new(),
        }
        .normal()
    }

    /// The platform this program was built for. An `arm64` is taken for a v8, an `amd64` for a v1, an `arm` for a v7.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH)
    }

    /// Parses `os/architecture[/variant]`.
    ///
    /// # Errors
    /// `Format` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        text.parse()
    }

    /// Sets the variant. Default: none, which is the oldest for `arm64` and `amd64` and v7 for `arm`.
    #[must_use]
    pub fn variant(mut self, variant: impl Into<String>) -> Self {
        self.variant = variant.into().to_ascii_lowercase();
        self.normal()
    }

    /// Features of the operating system that an image needs; a machine offers none by default.
    pub(crate) fn required_features(mut self, features: Vec<String>) -> Self {
        self.features = features;
        self
    }

    /// The operating system, `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The processor, such as `amd64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant in normal form, empty when the architecture implies it.
    pub(crate) fn variant_text(&self) -> &str {
        &self.variant
    }

    /// As a descriptor in an index has it.
    pub(crate) fn described(&self) -> serde_json::Value {
        let mut described = serde_json::json!({ "os": self.os, "architecture": self.architecture });
        if !self.variant.is_empty() {
            described["variant"] = self.variant.as_str().into();
        }
        described
    }

    /// How well an image for `image` runs on this machine: 0 is best, `None` is not at all.
    #[must_use]
    pub fn rank(&self, image: &Self) -> Option<usize> {
        if self.os != image.os || !image.features.iter().all(|feature| self.features.contains(feature)) {
            return None;
        }
        let wanted = (image.architecture.as_str(), image.variant.as_str());
        self.acceptable().iter().position(|(architecture, variant)| (architecture.as_str(), variant.as_str()) == wanted)
    }

    fn normal(mut self) -> Self {
        let architecture = self.architecture.to_ascii_lowercase();
        let (name, implied) = match architecture.as_str() {
            "aarch64" => ("arm64", ""),
            "x86_64" | "x86-64" => ("amd64", ""),
            "i386" | "x86" => ("386", ""),
            "armhf" => ("arm", "v7"),
            "armel" => ("arm", "v6"),
            other => (other, ""),
        };
        self.architecture = name.to_owned();
        if self.variant.is_empty() {
            implied.clone_into(&mut self.variant);
        }
        if self.variant.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
            self.variant.insert(0, 'v');
        }
        if matches!(
            (self.architecture.as_str(), self.variant.as_str()),
            ("arm64", "v8" | "v8.0") | ("amd64", "v1") | ("arm", "v7")
        ) {
            self.variant.clear();
        }
        self
    }

    /// Everything this machine runs, best first, in normal form.
    fn acceptable(&self) -> Vec<(String, String)> {
        let mut list = Vec::new();
        let mut add = |platform: Self| list.push((platform.architecture, platform.variant));
        let arm = |version: u32| Self::new("", "arm").variant(format!("v{version}"));
        match self.architecture.as_str() {
            "arm64" => {
                let (major, minor) = self.version().unwrap_or((8, 0));
                // Arm v9.x contains v8.(x+5).
                let below = if major >= 9 { minor + 5 } else { minor };
                if major >= 9 {
                    (0..=minor).rev().for_each(|m| add(Self::new("", "arm64").variant(dotted(9, m))));
                }
                (0..=below).rev().for_each(|m| add(Self::new("", "arm64").variant(dotted(8, m))));
                (5..=8).rev().for_each(|version| add(arm(version)));
            }
            "arm" => {
                let (major, _) = self.version().unwrap_or((7, 0));
                (5..=major).rev().for_each(|version| add(arm(version)));
            }
            "amd64" => {
                let (major, _) = self.version().unwrap_or((1, 0));
                (1..=major).rev().for_each(|version| add(Self::new("", "amd64").variant(format!("v{version}"))));
                add(Self::new("", "386"));
            }
            _ => add(self.clone()),
        }
        list
    }

    /// The numbers of a variant such as `v8` or `v9.2`, within what processors have.
    fn version(&self) -> Option<(u32, u32)> {
        let text = self.variant.strip_prefix('v')?;
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |text: &str| text.parse().ok().filter(|number| *number < 32);
        Some((number(major)?, number(minor)?))
    }
}

fn dotted(major: u32, minor: u32) -> String {
    if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !parts.iter().all(plain) {
            return Err(Error::format(format!("{text:?} is not a platform")));
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture)),
            [os, architecture, variant] => Ok(Self::new(os, architecture).variant(variant)),
            _ => Err(Error::format(format!("{text:?} is not a platform of the form os/architecture/variant"))),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect(text)
    }

    #[test]
    fn normal_forms() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(platform(text).to_string(), normal);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "li nux/amd64", "linux/amd64/\0"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn images_in_order_of_preference() {
        for (machine, images) in [
            ("linux/amd64", &["linux/amd64", "linux/386"][..]),
            ("linux/amd64/v3", &["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
            ("linux/arm64", &["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
            (
                "linux/arm64/v9",
                &["linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64/v8.1", "linux/arm64/v8", "linux/arm/v7"],
            ),
            ("linux/arm/v6", &["linux/arm/v6", "linux/arm/v5"]),
            ("linux/s390x", &["linux/s390x"]),
        ] {
            let ranks: Vec<_> = images.iter().map(|image| platform(machine).rank(&platform(image))).collect();
            assert!(ranks.iter().all(Option::is_some) && ranks.is_sorted(), "{machine}: {ranks:?}");
        }
        for (machine, image) in [
            ("linux/amd64", "linux/arm64"),
            ("linux/amd64", "windows/amd64"),
            ("linux/amd64", "linux/amd64/v2"),
            ("linux/arm/v6", "linux/arm/v7"),
            ("linux/386", "linux/amd64"),
        ] {
            assert_eq!(platform(machine).rank(&platform(image)), None, "{machine} {image}");
        }
        let picky = platform("linux/amd64").required_features(vec!["sse4".into()]);
        assert_eq!(platform("linux/amd64").rank(&picky), None);
    }

    #[test]
    fn absurd_variants_do_not_make_long_lists() {
        assert!(platform("linux/arm/v4000000000").acceptable().len() < 64);
        assert!(platform("linux/arm64/v9.4000000000").acceptable().len() < 64);
    }
}
