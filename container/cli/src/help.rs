//! What `--help` prints. Needs no kernel.

pub(crate) const TEXT: &str = "\
Usage: keelbox [--root DIRECTORY] COMMAND …

Runs OCI bundles: directories with a config.json and a root file system.

  plan BUNDLE [--explain]         what the kernel will be asked for, step by step; nothing is run
  run [--bundle B] ID             creates, starts, waits and deletes; ends as the program does
  create [--bundle B] ID          sets up a container, whose program waits for its start
  start ID                        lets the program run
  state ID                        the state, as JSON
  kill [--all] ID [SIGNAL]        sends a signal, by name or number; default: TERM
  delete [--force] ID             removes a container that has ended; by force, any
  list [--quiet | --format json]  the containers
  exec ID PROGRAM [ARGUMENT…]     one more program in a running container; ends as that does

Options of run and create:
  -b, --bundle DIRECTORY          the bundle; default: the current directory
      --pid-file FILE             gets the process id of the container
Options of exec, before the ID:
  -u, --user USER[:GROUP]         by name or number; default: the container's
  -e, --env NAME=VALUE            one more variable; may be repeated
      --cwd DIRECTORY             the working directory; default: the container's
Options of all:
      --root DIRECTORY            where states are kept; default: /run/keelbox, or for an
                                  ordinary user $XDG_RUNTIME_DIR/keelbox
  -h, --help                      this text
  -v, --version                   the version

Exit status: that of the program for run and exec, and 128 more than the signal that killed it; 126 if the
program cannot be executed, 127 if it is not there; 1 for everything else that fails.
";
