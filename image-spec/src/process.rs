//! From an image configuration to the process it describes (image-spec `conversion.md`).
//!
//! Job: pure rules: command line, environment, user, directory, stop signal. Leaves out looking the user up in the image's
//! files (`user.rs`) and everything a caller adds on top.

use crate::{Error, ImageConfig, Result, User};
use nix::sys::signal::Signal;
use std::str::FromStr;

/// The search path of a process whose image names none: what docker, podman and containerd use.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process an image describes, before the caller's own wishes.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ProcessSettings {
    /// Entrypoint and then command. Empty when the image has neither: the caller must say what to run.
    pub args: Vec<String>,
    /// The image's `NAME=VALUE` entries in its order, with [`DEFAULT_PATH`] in front if it has no `PATH`.
    pub env: Vec<String>,
    /// Entries of `Env` without a name or without `=`. They are not passed on: nothing may fill them in from the host.
    pub ignored_env: Vec<String>,
    /// The user as the image names it, or `None` for the default, 0:0.
    pub user: Option<User>,
    /// An absolute path without `.` and `..`. Default `/`.
    pub cwd: String,
    /// The number of the signal that asks the process to stop. Default: none, so the runtime's own, usually 15.
    pub stop_signal: Option<i32>,
}

impl ProcessSettings {
    /// Derives the process from `config`.
    ///
    /// ```
    /// use keelbox_image_spec::{ImageConfig, ProcessSettings};
    /// let config = ImageConfig::parse(br#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},
    ///     "config":{"Entrypoint":["/app"],"Cmd":["--help"],"WorkingDir":"srv"}}"#)?;
    /// let process = ProcessSettings::from_config(&config)?;
    /// assert_eq!(process.args, ["/app", "--help"]);
    /// assert_eq!(process.cwd, "/srv");
    /// # Ok::<(), keelbox_image_spec::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Format` for a user or signal that cannot be meant, and for a NUL byte in anything.
    pub fn from_config(config: &ImageConfig) -> Result<Self> {
        let no_nul = |field: &str, texts: &[String]| match texts.iter().any(|text| text.contains('\0')) {
            true => Err(Error::format(format!("image configuration: /config/{field} contains a NUL byte"))),
            false => Ok(()),
        };
        no_nul("Entrypoint", config.entrypoint())?;
        no_nul("Cmd", config.cmd())?;
        no_nul("WorkingDir", &[config.working_dir().to_owned()])?;
        let (mut env, ignored_env): (Vec<String>, Vec<String>) =
            config.env().iter().cloned().partition(|entry| well_formed(entry));
        if !env.iter().any(|entry| entry.starts_with("PATH=")) {
            env.insert(0, DEFAULT_PATH.to_owned());
        }
        let user = match config.user() {
            "" => None,
            text => Some(text.parse::<User>().map_err(|error| error.within("image configuration: /config/User"))?),
        };
        Ok(Self {
            args: [config.entrypoint(), config.cmd()].concat(),
            env,
            ignored_env,
            user,
            cwd: absolute(config.working_dir()),
            stop_signal: config.stop_signal().map(stop_signal).transpose()?,
        })
    }
}

/// `NAME=VALUE` with a name, and no NUL byte that would cut it short (CVE-2026-57231: podman filled in the rest).
fn well_formed(entry: &str) -> bool {
    entry.split_once('=').is_some_and(|(name, _)| !name.is_empty()) && !entry.contains('\0')
}

/// Makes a working directory absolute and takes out `.` and `..`, as docker does. Symbolic links are not looked at.
fn absolute(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The number of a signal written as `TERM`, `SIGTERM`, `SIGRTMIN+3`, `SIGRTMAX-1` or `15`.
pub(crate) fn stop_signal(text: &str) -> Result<i32> {
    // The C library keeps 32 and 33 for itself, so real-time signals begin at 34 for every program.
    const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;
    let wrong = || Error::format(format!("image configuration: /config/StopSignal {text:?} is not a signal"));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|_| digits)
    };
    if let Some(plain) = number(text) {
        return Some(plain).filter(|plain| (1..=64).contains(plain)).ok_or_else(wrong);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => Some((rest, 34, '+')),
        (_, Some(rest)) => Some((rest, 64, '-')),
        _ => None,
    };
    if let Some((rest, base, sign)) = realtime {
        let offset = match rest.strip_prefix(sign) {
            None if rest.is_empty() => 0,
            None => return Err(wrong()),
            Some(digits) => number(digits).filter(|offset| *offset <= 30).ok_or_else(wrong)?,
        };
        let signal = if sign == '+' { base + offset } else { base - offset };
        return Some(signal).filter(|signal| REALTIME.contains(signal)).ok_or_else(wrong);
    }
    Signal::from_str(&format!("SIG{name}")).map(|signal| signal as i32).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(config: &str) -> Result<ProcessSettings> {
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
        );
        ProcessSettings::from_config(&ImageConfig::parse(text.as_bytes()).expect("valid"))
    }

    #[test]
    fn command_lines() {
        for (config, args) in [
            (r#"{"Entrypoint":["a","b"],"Cmd":["c"]}"#, &["a", "b", "c"][..]),
            (r#"{"Cmd":["c","d"]}"#, &["c", "d"]),
            (r#"{"Entrypoint":["a"]}"#, &["a"]),
            (r#"{"Entrypoint":[],"Cmd":null}"#, &[]),
        ] {
            assert_eq!(process(config).expect(config).args, args);
        }
    }

    #[test]
    fn the_environment_keeps_its_order_and_gets_a_path_only_if_it_has_none() {
        let with = process(r#"{"Env":["B=1","PATH=/x","A=","B=2"]}"#).expect("valid");
        assert_eq!(with.env, ["B=1", "PATH=/x", "A=", "B=2"]);
        let without = process(r#"{"Env":["MYPATH=/x"]}"#).expect("valid");
        assert_eq!(without.env, [DEFAULT_PATH, "MYPATH=/x"]);
        let odd = process(r#"{"Env":["SECRET","*","=x","","A\u0000=b","SECRET*","A\n=b","C=\n"]}"#).expect("valid");
        assert_eq!(odd.env, [DEFAULT_PATH, "A\n=b", "C=\n"]);
        assert_eq!(odd.ignored_env, ["SECRET", "*", "=x", "", "A\0=b", "SECRET*"]);
    }

    #[test]
    fn working_directories() {
        for (text, cwd) in
            [("", "/"), ("/", "/"), ("srv", "/srv"), ("/a/./b/../c//", "/a/c"), ("../../x", "/x"), ("/..", "/")]
        {
            assert_eq!(process(&format!(r#"{{"WorkingDir":{text:?}}}"#)).expect(text).cwd, cwd);
        }
        assert!(process(r#"{"WorkingDir":"/a\u0000b"}"#).is_err());
        assert!(process(r#"{"Cmd":["a\u0000b"]}"#).is_err());
    }

    #[test]
    fn stop_signals() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("KILL", 9),
            ("15", 15),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMAX", 64),
            ("SIGQUIT", 3),
            ("WINCH", 28),
        ] {
            assert_eq!(
                process(&format!(r#"{{"StopSignal":"{text}"}}"#)).expect(text).stop_signal,
                Some(number),
                "{text}"
            );
        }
        for text in [
            "KILL -1",
            "-9",
            "+9",
            "0",
            "65",
            "SIG",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN+-1",
            "9x",
            "٩",
        ] {
            let error = process(&format!(r#"{{"StopSignal":"{text}"}}"#)).expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::Format);
        }
        assert_eq!(process("{}").expect("valid").stop_signal, None);
    }

    #[test]
    fn a_user_that_cannot_be_meant_is_refused() {
        assert_eq!(process("{}").expect("valid").user, None);
        assert!(process(r#"{"User":"www-data"}"#).expect("valid").user.is_some());
        for user in ["-1", "4294967295", "1:", ":1", " 1", "a:b:c"] {
            let error = process(&format!(r#"{{"User":"{user}"}}"#)).expect_err(user).to_string();
            assert!(error.starts_with("image configuration: /config/User: "), "{error}");
        }
    }
}
