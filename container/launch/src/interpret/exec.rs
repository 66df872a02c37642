//! The last steps before the user's program, and its execution.

use core::ffi::CStr;

use super::Machine;
use super::flags::{AT_FDCWD, F_SETFD, O_DIRECTORY, O_PATH};
use crate::step::{Create, Slot, Step, Wire};
use crate::sys::calls::Pointers;
use crate::sys::{Call, Errno, Kernel};
use crate::wire::texts;

type Done = Result<(), Errno>;

/// How many arguments and variables fit without asking the kernel for room.
const FEW: usize = 256;

/// The variable whose value only the process itself knows (sd_listen_fds(3)): it is filled in if it is there without a value.
const OWN: &CStr = c"LISTEN_PID=";

impl<K: Kernel> Machine<'_, K> {
    /// Performs `step` if it is one of this family.
    pub(super) fn last_things(&mut self, step: &Step<Wire<'_>>) -> Option<Done> {
        Some(match step {
            Step::Descriptor { slot, number } => self.descriptor(*slot, *number as i32),
            Step::Terminal { console, rows, columns, user } => self.terminal(*console != 0, (*rows, *columns), *user),
            Step::Signals {} => self.signals(),
            Step::WorkingDirectory { path, create } => self.working_directory(path, *create != 0),
            Step::Exec { paths, arguments, environment } => self.execute(paths, arguments, environment),
            Step::Find { paths, .. } => self.find(paths),
            _ => return None,
        })
    }

    fn descriptor(&mut self, slot: Slot, number: i32) -> Done {
        let descriptor = self.slot(slot)?;
        if descriptor == number {
            return self.call(Call::fcntl(descriptor, F_SETFD, 0)).map(|_| ());
        }
        self.call(Call::dup3(descriptor, number, 0)).map(|_| ())
    }

    /// Execution resets handlers by itself, but what is ignored stays ignored: Rust programs ignore SIGPIPE, `nohup(1)` makes
    /// them ignore SIGHUP, and a host that ignores SIGCHLD would break every program that waits for children.
    fn signals(&mut self) -> Done {
        const SIGKILL: u32 = 9;
        const SIGSTOP: u32 = 19;
        /// Beyond it are the real-time signals that programs use by agreement; nobody leaves them ignored for strangers.
        const LAST_OF_LIBC: u32 = 33;
        for signal in (1..=LAST_OF_LIBC).filter(|signal| !matches!(*signal, SIGKILL | SIGSTOP)) {
            self.call(Call::default_action(signal, &[0; 4]))?;
        }
        self.call(Call::sigmask(&0)).map(|_| ())
    }

    fn working_directory(&mut self, path: &CStr, create: bool) -> Done {
        if path == c"/" && self.root >= 0 {
            // The root itself needs no search.
            return if self.at_root { Ok(()) } else { self.go(self.root) };
        }
        let create = if create { Create::Directory } else { Create::Nothing };
        let directory = self.target(path, O_PATH | O_DIRECTORY, create)?;
        let gone = self.go(directory);
        self.done(directory);
        gone?;
        // A directory outside the root reads "(unreachable)/…" (CVE-2024-21626).
        let mut bytes = [0u8; super::resolve::PATH_MAX];
        self.call(Call::getcwd(&mut bytes))?;
        if bytes.first() == Some(&b'/') { Ok(()) } else { Err(Errno::ENOENT) }
    }

    /// By the ids and the capabilities that the process has now. A directory passes: its execution says what is wrong with it.
    fn find(&mut self, paths: &[u8]) -> Done {
        const X_OK: i32 = 1;
        self.first(paths, |path| Call::faccessat(AT_FDCWD, path, X_OK))
    }

    /// Goes through the paths until a call succeeds, as `execvp(3)` does.
    fn first<'a>(&mut self, paths: &'a [u8], attempt: impl Fn(&'a CStr) -> Call<'a>) -> Done {
        let mut worst = Errno::ENOENT;
        for path in texts(paths) {
            match self.call(attempt(path)) {
                // Nothing comes back from a successful execution, except on the kernel of a test.
                Ok(_) => return Ok(()),
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::EACCES) => worst = Errno::EACCES,
                Err(errno) => return Err(errno),
            }
        }
        Err(worst)
    }

    fn execute(&mut self, paths: &[u8], arguments: &[u8], environment: &[u8]) -> Done {
        let count = texts(arguments).count() + texts(environment).count() + 2;
        let mut few = [0usize; FEW];
        if let Some(room) = few.get_mut(..count) {
            return self.execute_in(room, paths, arguments, environment);
        }
        let room = crate::sys::memory::words(count)?;
        self.execute_in(room, paths, arguments, environment)
    }

    fn execute_in(&mut self, room: &mut [usize], paths: &[u8], arguments: &[u8], environment: &[u8]) -> Done {
        let split = (texts(arguments).count() + 1).min(room.len());
        let (first, second) = room.split_at_mut(split);
        let mut own = [0u8; OWN.to_bytes().len() + 11];
        let own = match texts(environment).any(|variable| variable == OWN) {
            true => numbered(&mut own, self.call(Call::gettid())?)?,
            false => OWN,
        };
        let arguments = pointers(first, texts(arguments))?;
        let environment = texts(environment).map(|variable| if variable == OWN { own } else { variable });
        let environment = pointers(second, environment)?;
        self.first(paths, |path| Call::execve(path, &arguments, &environment))
    }
}

fn pointers<'a>(room: &'a mut [usize], mut list: impl Iterator<Item = &'a CStr>) -> Result<Pointers<'a>, Errno> {
    let mut pointers = Pointers::new(room).ok_or(Errno::E2BIG)?;
    if list.all(|text| pointers.push(text)) { Ok(pointers) } else { Err(Errno::E2BIG) }
}

/// The variable with a value: `number` in decimal.
fn numbered(room: &mut [u8; OWN.to_bytes().len() + 11], number: usize) -> Result<&CStr, Errno> {
    let name = OWN.to_bytes();
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    let value = room.iter_mut().skip(name.len()).take(10);
    for (place, digit) in value.zip((0..digits).rev()) {
        *place = b'0' + (number / 10usize.pow(digit) % 10) as u8;
    }
    for (place, byte) in room.iter_mut().zip(name) {
        *place = *byte;
    }
    CStr::from_bytes_until_nul(room).map_err(|_| Errno::EOVERFLOW)
}
