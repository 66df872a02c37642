/* The floor: what the kernel itself charges for the container that benches/launch.rs runs, with nothing in between.
 *
 *   floor ROOTFS FILTER|- [CGROUP-DIRECTORY…]     one run for every line on standard input, answered by its nanoseconds
 *
 * The same state is built as by keelbox's plan for an ordinary container (six namespaces, proc, /dev, five read-only and
 * twelve masked paths, capabilities, seccomp filter), by the fewest system calls and with every argument a constant.
 * A directory of cgroup version 1 or 2 is where a group is made for each run: memory and pids get their limits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_GROUPS = 4, MOST_INSTRUCTIONS = 4096 };
static const char *root;
static struct sock_filter code[MOST_INSTRUCTIONS];
static struct sock_fprog filter = {.filter = code};
static const char *hierarchies[MOST_GROUPS];
static char groups[MOST_GROUPS][512];
static int members[MOST_GROUPS];
static int count;
static char stack[1 << 16] __attribute__((aligned(16)));
static volatile int failed_line;

/* The child shares our memory, so this is all it takes to say where it failed. */
#define MUST(call) do { if ((call) < 0) { failed_line = __LINE__; syscall(SYS_exit_group, 1); } } while (0)
#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static void interfaces(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int socket_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    MUST(socket_);
    MUST(ioctl(socket_, SIOCSIFFLAGS, &request));
    MUST(close(socket_));
}

static void devices(void) {
    static const struct { const char *path; int major, minor; } nodes[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=0755,size=65536k"));
    for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
        MUST(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++) MUST(symlink(links[i][0], links[i][1]));
    MUST(mkdir("dev/pts", 0755));
    MUST(mkdir("dev/shm", 0755));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mount("tmpfs", "dev/shm", "tmpfs", QUIET, "mode=1777,size=67108864"));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", QUIET, 0));
}

static void hide(void) {
    static const char *const files[] = {"proc/interrupts", "proc/kcore", "proc/keys", "proc/latency_stats", "proc/sched_debug",
        "proc/timer_list", "proc/timer_stats"};
    static const char *const directories[] = {"proc/acpi", "proc/asound", "proc/scsi", "sys/devices/virtual/powercap", "sys/firmware"};
    static const char *const constants[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
    const char *empty = 0;
    for (unsigned i = 0; i < sizeof constants / sizeof *constants; i++)
        if (mount(constants[i], constants[i], 0, MS_BIND, 0) == 0)
            MUST(mount(0, constants[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | QUIET, 0));
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) mount("/dev/null", files[i], 0, MS_BIND, 0); /* if it is there */
    for (unsigned i = 0; i < sizeof directories / sizeof *directories; i++) {
        int done = empty ? mount(empty, directories[i], 0, MS_BIND, 0)
                         : mount("tmpfs", directories[i], "tmpfs", MS_RDONLY | QUIET, "mode=0555,nr_inodes=2");
        if (done == 0 && !empty) empty = directories[i];
    }
}

static void rights(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2] = {{0}};
    unsigned keep = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FSETID | 1u << CAP_FOWNER | 1u << CAP_SETGID | 1u << CAP_SETUID
        | 1u << CAP_SETPCAP | 1u << CAP_NET_BIND_SERVICE | 1u << CAP_SYS_CHROOT | 1u << CAP_KILL;
    for (int i = 0; i <= CAP_LAST_CAP; i++)
        if (i > 31 || !(keep >> i & 1)) prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    MUST(syscall(SYS_setgroups, 0, 0));
    MUST(syscall(SYS_setresgid, 0, 0, 0));
    MUST(syscall(SYS_setresuid, 0, 0, 0));
    sets[0].effective = sets[0].permitted = keep;
    MUST(syscall(SYS_capset, &header, sets));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    MUST(syscall(SYS_close_range, 3, ~0u, 4));
    if (filter.len) MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
}

static int child(void *unused) {
    (void)unused;
    char *const arguments[] = {"/bin/true", 0}, *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0};
    for (int i = 0; i < count; i++) MUST(write(members[i], "0", 1));
    interfaces();
    umask(0);
    MUST(mount(0, "/", 0, MS_REC | MS_SLAVE, 0));
    MUST(mount(root, root, 0, MS_BIND | MS_REC, 0));
    MUST(mount(0, root, 0, MS_REC | MS_PRIVATE, 0));
    MUST(chdir(root));
    MUST(mount("proc", "proc", "proc", QUIET, 0));
    devices();
    MUST(mount("sysfs", "sys", "sysfs", QUIET | MS_RDONLY, 0));
    hide();
    MUST(setsid());
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    umask(022);
    MUST(chdir("/"));
    rights();
    MUST(execve(arguments[0], arguments, environment));
    return 1;
}

static void put(const char *directory, const char *file, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int out = open(path, O_WRONLY | O_CLOEXEC);
    if (out < 0) return; /* a limit of another controller or version */
    if (write(out, text, strlen(text)) < 0) perror(path);
    close(out);
}

static int born(void) {
    int status, flags = CLONE_VM | CLONE_VFORK | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    for (int i = 0; i < count; i++) {
        char path[600];
        mkdir(groups[i], 0755);
        put(groups[i], "memory.limit_in_bytes", "67108864");
        put(groups[i], "memory.max", "67108864");
        put(groups[i], "pids.max", "32");
        snprintf(path, sizeof path, "%s/cgroup.procs", groups[i]);
        members[i] = open(path, O_WRONLY | O_CLOEXEC);
    }
    int pid = clone(child, stack + sizeof stack, flags | SIGCHLD, 0);
    if (pid < 0 || waitpid(pid, &status, 0) < 0) return -1;
    for (int i = 0; i < count; i++) {
        close(members[i]);
        rmdir(groups[i]);
    }
    return status;
}

int main(int argc, char **argv) {
    char line[16];
    if (argc < 3) return 2;
    root = argv[1];
    if (strcmp(argv[2], "-")) {
        FILE *file = fopen(argv[2], "rb");
        if (!file) return perror(argv[2]), 1;
        filter.len = fread(code, sizeof *code, MOST_INSTRUCTIONS, file);
        fclose(file);
    }
    for (count = 0; count + 3 < argc && count < MOST_GROUPS; count++) {
        hierarchies[count] = argv[count + 3];
        snprintf(groups[count], sizeof groups[count], "%s/keelbox-floor-%d", hierarchies[count], getpid());
    }
    while (fgets(line, sizeof line, stdin)) {
        struct timespec begun, ended;
        clock_gettime(CLOCK_MONOTONIC, &begun);
        int status = born();
        clock_gettime(CLOCK_MONOTONIC, &ended);
        if (status) return fprintf(stderr, "floor: status %d, line %d\n", status, failed_line), 1;
        printf("%lld\n", (ended.tv_sec - begun.tv_sec) * 1000000000LL + ended.tv_nsec - begun.tv_nsec);
        fflush(stdout);
    }
    return 0;
}
