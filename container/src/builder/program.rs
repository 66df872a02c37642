//! Setters about the program: what it is, its environment, where and who it is.

use std::path::PathBuf;

use super::Container;
use crate::spec::UserChoice;

/// Anything that is a list of arguments.
pub trait IntoArguments {
    /// As a list of strings.
    fn into_arguments(self) -> Vec<String>;
}

impl<List: IntoIterator<Item: Into<String>>> IntoArguments for List {
    fn into_arguments(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl Container {
    /// The whole command line: the program, then its arguments. Default: the image's entrypoint and command.
    ///
    /// A program without a slash is looked for in the container's `PATH`.
    pub fn args(mut self, args: impl IntoArguments) -> Self {
        let args = args.into_arguments();
        self.check("an argument", &args);
        self.spec.process().set_args(Some(args));
        self
    }

    /// What comes after the image's entrypoint, in the place of its command, as in `docker run IMAGE COMMAND…`.
    pub fn command(mut self, command: impl IntoArguments) -> Self {
        let command = command.into_arguments();
        self.check("an argument", &command);
        self.spec.command = Some(command);
        self
    }

    /// One variable of the environment, which replaces an earlier one of that name. Default: the image's, or only `PATH`.
    pub fn env(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        if name.is_empty() || name.contains('=') {
            self.spec.refuse(format!("cannot set the variable {name:?}: that is no name"));
        }
        self.check("a variable", &[name.to_owned(), value.to_owned()]);
        crate::plan::set_variable(self.spec.process(), name, value);
        self
    }

    /// Several variables, as [`env`](Self::env).
    pub fn envs(self, variables: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> Self {
        variables.into_iter().fold(self, |container, (name, value)| container.env(name, value))
    }

    /// The working directory inside, which must exist. Default: the image's (made if missing), or `/`.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        if !directory.is_absolute() {
            self.spec.refuse(format!("the working directory {} is not absolute", directory.display()));
        }
        self.spec.process().set_cwd(directory);
        self.spec.directory_given = true;
        self
    }

    /// Who the program runs as: `name`, `uid`, `name:group` or `uid:gid`; names are those of the container's own
    /// `/etc/passwd` and `/etc/group`. Default: the image's user, or root inside.
    ///
    /// Started by an ordinary user, the container has one user and one group; they appear inside as whatever is asked for here.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.spec.user = UserChoice::Named(user.into());
        self
    }

    /// The host name inside. Default: the host's.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.spec.oci.set_hostname(Some(name.into()));
        self
    }

    /// The NIS domain name inside. Default: the host's.
    pub fn domainname(mut self, name: impl Into<String>) -> Self {
        self.spec.oci.set_domainname(Some(name.into()));
        self
    }

    fn check(&mut self, what: &str, values: &[String]) {
        if let Some(value) = values.iter().find(|value| value.contains('\0')) {
            self.spec.refuse(format!("{what} holds a NUL byte: {value:?}"));
        }
    }
}
