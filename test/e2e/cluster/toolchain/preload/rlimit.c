// SPDX-License-Identifier: Apache-2.0
//
// Lets CRIU read the resource limits of processes of other users without CAP_SYS_RESOURCE.
//
// CRIU asks with prlimit64(pid, resource, NULL, &old), which the kernel refuses for a process of another user unless the
// caller has that capability. /proc/PID/limits says the same to anyone who may read it. Only a refused question is
// answered from there; setting a limit and every other system call go to the kernel as they are.
//
// Numbers are parsed here rather than by the C library, whose newest functions would tie this file to a newer one than
// the node has.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

struct limit {
	uint64_t current;
	uint64_t maximum;
};

// The names in /proc/PID/limits, by resource number.
static const char *const names[] = {
	"Max cpu time",	      "Max file size",	  "Max data size",	"Max stack size",
	"Max core file size", "Max resident set", "Max processes",	"Max open files",
	"Max locked memory",  "Max address space", "Max file locks",	"Max pending signals",
	"Max msgqueue size",  "Max nice priority", "Max realtime priority", "Max realtime timeout",
};

typedef long (*syscall_function)(long, long, long, long, long, long, long);

static syscall_function next_syscall(void)
{
	static syscall_function next;
	if (!next)
		next = (syscall_function)dlsym(RTLD_NEXT, "syscall");
	return next;
}

static const char *skip_prefix(const char *text, const char *prefix)
{
	for (; *prefix; text++, prefix++)
		if (*text != *prefix)
			return NULL;
	return text;
}

// Parses a number or "unlimited", with spaces before it. Returns what follows, NULL when it is neither.
static const char *parse_limit(const char *text, uint64_t *value)
{
	const char *rest;

	while (*text == ' ')
		text++;
	rest = skip_prefix(text, "unlimited");
	if (rest) {
		*value = UINT64_MAX;
		return rest;
	}
	if (*text < '0' || *text > '9')
		return NULL;
	for (*value = 0; *text >= '0' && *text <= '9'; text++)
		*value = *value * 10 + (uint64_t)(*text - '0');
	return text;
}

// Writes "/proc/PID/limits" into path.
static void limits_path(long pid, char *path)
{
	char digits[20];
	int length = 0;

	for (const char *c = "/proc/"; *c; c++)
		*path++ = *c;
	do {
		digits[length++] = (char)('0' + pid % 10);
		pid /= 10;
	} while (pid);
	while (length)
		*path++ = digits[--length];
	for (const char *c = "/limits"; *c; c++)
		*path++ = *c;
	*path = 0;
}

static int read_limit(long pid, long resource, struct limit *limit)
{
	char path[48], text[4096];
	ssize_t length = 0, part;
	int fd;

	if (pid <= 0 || resource < 0 || resource >= (long)(sizeof(names) / sizeof(names[0])))
		return -1;
	limits_path(pid, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while ((part = read(fd, text + length, sizeof(text) - 1 - (size_t)length)) > 0)
		length += part;
	close(fd);
	text[length] = 0;
	for (const char *line = text; *line; line++) {
		const char *value = skip_prefix(line, names[resource]);
		if (value)
			value = parse_limit(value, &limit->current);
		if (value)
			return parse_limit(value, &limit->maximum) ? 0 : -1;
		while (*line && *line != '\n')
			line++;
		if (!*line)
			break;
	}
	return -1;
}

// Turns a refused question about limits into an answer. Takes and returns a result as syscall() has it.
static long answer(long result, long pid, long resource, const void *set, struct limit *old)
{
	int error = errno;

	if (result == 0 || error != EPERM || set || !old)
		return result;
	if (read_limit(pid, resource, old) == 0)
		return 0;
	errno = error;
	return result;
}

long syscall(long number, ...)
{
	va_list list;
	long argument[6], result;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		argument[i] = va_arg(list, long);
	va_end(list);
	result = next_syscall()(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
	if (number != SYS_prlimit64)
		return result;
	return answer(result, argument[0], argument[1], (const void *)argument[2], (struct limit *)argument[3]);
}

// CRIU's helpers (iptables-restore, nft) do not need this library.
__attribute__((constructor)) static void stay_alone(void)
{
	next_syscall();
	unsetenv("LD_PRELOAD");
}
