/* Installs a filter and makes system calls under it.
 *
 *     seccomp_kernel FLAGS CALL... < filter
 *
 * FLAGS are those of seccomp(2), or "none" to make the calls without a filter. A CALL is KIND:NUMBER:A:B:C:D:E:F in hex,
 * where KIND is n for a native call and i for the 32-bit one of x86 (int 0x80). Writes a line "installed N" with what
 * seccomp(2) returned, then one line for each call: its return value or minus its error number. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static long compat(unsigned number, const unsigned long *a)
{
#ifdef __x86_64__
	long result;
	/* The kernel zeroes r8 to r11 on the way back. Six arguments would need rbp; five are enough here. */
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
#else
	(void)number;
	(void)a;
	return -ENOSYS;
#endif
}

static long native(unsigned number, const unsigned long *a)
{
	long result = syscall((long)(int)number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return result == -1 ? -errno : result;
}

static void say(const char *text, long value)
{
	char line[64];
	int length = snprintf(line, sizeof line, "%s%ld\n", text, value);
	if (write(1, line, length) != length)
		_exit(3);
}

int main(int argc, char **argv)
{
	static struct sock_filter instructions[4096];
	size_t length = fread(instructions, sizeof *instructions, 4096, stdin);
	struct sock_fprog program = { length, instructions };

	if (argc < 2)
		return 2;
	if (strcmp(argv[1], "none") != 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
			return 2;
		long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, strtoul(argv[1], 0, 16), &program);
		say("installed ", result == -1 ? -errno : result);
		if (result == -1)
			return 1;
	}
	for (int i = 2; i < argc; i++) {
		unsigned number;
		unsigned long a[6] = { 0 };
		char kind;
		sscanf(argv[i], "%c:%x:%lx:%lx:%lx:%lx:%lx:%lx", &kind, &number, a, a + 1, a + 2, a + 3, a + 4, a + 5);
		say("", kind == 'i' ? compat(number, a) : native(number, a));
	}
	return 0;
}
