/*
 * Loaded before the C library into User Mode Linux (labkit/machine.py), on processors with AMX.
 *
 * The host's kernel takes the floating point state of a traced process only whole (PTRACE_SETREGSET with NT_X86_XSTATE), and with
 * AMX it has 11008 bytes. User Mode Linux 6.1 knows 2696 bytes, all before AMX, and panics over "ptrace set fp regs failed".
 * So what it sets is put at the front of the whole state, without AMX, which nothing in the machine uses.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of the header's first word, which components the state has: all but AMX (bits 17 and 18), which begins behind User Mode Linux's part. */
#define HEADER 512
#define WITHOUT_AMX (~(UINT64_C(3) << 17))

/* Not on the stack: that of a process inside the machine has few pages. The kernel runs on one thread. */
static unsigned char whole[65536];

long ptrace(enum __ptrace_request request, ...)
{
    static long (*next)(enum __ptrace_request, ...);
    va_list words;
    va_start(words, request);
    pid_t pid = va_arg(words, pid_t);
    void *address = va_arg(words, void *);
    void *data = va_arg(words, void *);
    va_end(words);

    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE) {
        const struct iovec *given = data;
        struct iovec full = {whole, sizeof whole};
        if (syscall(SYS_ptrace, PTRACE_GETREGSET, (long)pid, address, &full) == 0 && full.iov_len > given->iov_len) {
            uint64_t components;
            memcpy(whole, given->iov_base, given->iov_len);
            memset(whole + given->iov_len, 0, full.iov_len - given->iov_len);
            memcpy(&components, whole + HEADER, sizeof components);
            components &= WITHOUT_AMX;
            memcpy(whole + HEADER, &components, sizeof components);
            return syscall(SYS_ptrace, PTRACE_SETREGSET, (long)pid, address, &full);
        }
    }
    if (!next)
        next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
    return next(request, pid, address, data);
}
