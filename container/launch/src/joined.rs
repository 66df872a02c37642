//! Commands of the standard library that are born in a control group.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::stage;

/// A [`Command`] that runs `program` only after it has joined the control groups whose `cgroup.procs` files are given (of
/// version 1 better their `tasks`): the program's first instruction runs inside.
///
/// The command's own program is the stage, so [`Command::get_program`] shows that; arguments, environment and streams are added as
/// ever. A group that cannot be joined or a program that cannot be executed ends the child with code 126 or 127 and a line on
/// its standard error, as with `env(1)`. Joining by `cgroup.procs` costs some milliseconds after a pause of the machine (an RCU
/// grace period), by `tasks` it does not.
///
/// # Errors
///
/// If the stage cannot be put into memory or a file.
///
/// ```
/// let status = keelbox_launch::joined_command::<&str>(&[], "true")?.status()?;
/// assert!(status.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn joined_command<P: AsRef<Path>>(groups: &[P], program: impl AsRef<OsStr>) -> io::Result<Command> {
    let stage: Arc<File> = stage::descriptor()?;
    // This process keeps the stage for good, so the path stays good for as long as the command.
    let mut command = Command::new(stage::path(&*stage));
    command.arg("join").arg(groups.len().to_string()).args(groups.iter().map(AsRef::as_ref)).arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_behaves_like_the_program_itself() {
        let mut command = joined_command::<&str>(&[], "sh").expect("a stage");
        let output = command.args(["-c", "echo $A $0 $1; exit 7", "x", "y"]).env("A", "b").output().expect("a child");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"b x y\n"[..]));
    }

    #[test]
    fn what_cannot_be_done_is_told_on_standard_error() {
        let output = joined_command::<&str>(&[], "no-such-program").expect("a stage").output().expect("a child");
        assert_eq!(output.status.code(), Some(127));
        assert_eq!(output.stderr, b"keelbox: cannot execute no-such-program: errno 002\n");
        let output = joined_command(&["/nowhere/cgroup.procs"], "true").expect("a stage").output().expect("a child");
        assert_eq!(output.status.code(), Some(126));
        assert_eq!(output.stderr, b"keelbox: cannot join /nowhere/cgroup.procs: errno 002\n");
    }
}
