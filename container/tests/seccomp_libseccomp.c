/* Builds one filter with libseccomp from lines of text and writes its BPF program to standard output.
 *
 *     arch <SCMP_ARCH_* in hex>        first line
 *     default <action in hex>          second line
 *     rule <action in hex> <name> <count> [<index> <operator> <value> <value two>]...
 *
 * Rules with the default action are passed over, as runc does it, because libseccomp refuses them. Names that libseccomp
 * does not know are passed over too, and written to standard error, one a line. Exit status 1 means that libseccomp refused
 * something else. */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void require(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(-result));
		exit(1);
	}
}

int main(void)
{
	unsigned arch, standard, action, count;
	char name[64];

	if (scanf(" arch %x default %x", &arch, &standard) != 2)
		return 2;
	scmp_filter_ctx filter = seccomp_init(standard);
	if (!filter)
		return 2;
	require(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "bad arch");
	if (arch != seccomp_arch_native()) {
		require(seccomp_arch_add(filter, arch), "add arch");
		require(seccomp_arch_remove(filter, seccomp_arch_native()), "remove arch");
	}
	while (scanf(" rule %x %63s %u", &action, name, &count) == 3) {
		struct scmp_arg_cmp arguments[6];
		for (unsigned i = 0; i < count && i < 6; i++) {
			unsigned index, operator;
			unsigned long long value, value_two;
			if (scanf("%u %u %llx %llx", &index, &operator, &value, &value_two) != 4)
				return 2;
			arguments[i] = (struct scmp_arg_cmp){ index, operator, value, value_two };
		}
		if (seccomp_syscall_resolve_name_arch(arch, name) < 0) {
			fprintf(stderr, "%s\n", name);
			continue;
		}
		/* Rules take the native number, and libseccomp translates it. */
		int number = seccomp_syscall_resolve_name(name);
		if (action != standard)
			require(seccomp_rule_add_exact_array(filter, action, number, count, arguments), name);
	}
	require(seccomp_export_bpf(filter, STDOUT_FILENO), "export");
	seccomp_release(filter);
	return 0;
}
