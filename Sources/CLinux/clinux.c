#include "CLinux.h"
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int hull_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }
int hull_pidfd_send_signal(int pidfd, int signal) { return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0); }
int hull_pidfd_wait(int pidfd, int *status) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0) return -errno;
    if (info.si_pid == 0) return 0;
    *status = info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : (info.si_status & 0x7f) | (info.si_code == CLD_DUMPED ? 0x80 : 0);
    return 1;
}

struct hull_mount_attr { uint64_t set, clear, propagation, user_namespace; };
int hull_open_tree(int d, const char *p, unsigned f) { return (int)syscall(428, d, p, f); }
int hull_move_mount(int from, int to_directory, const char *to, unsigned flags) {
    return (int)syscall(429, from, "", to_directory, to, flags | 0x4 /* MOVE_MOUNT_F_EMPTY_PATH */);
}
int hull_mount_setattr(int d, const char *p, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation, int user_namespace) {
    struct hull_mount_attr a = { set, clear, propagation, user_namespace < 0 ? 0 : (uint64_t)user_namespace };
    return (int)syscall(442, d, p, flags, &a, sizeof a);
}
int hull_openat2(int d, const char *p, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
    return (int)syscall(SYS_openat2, d, p, &how, sizeof how);
}
int hull_pivot_root(const char *n, const char *o) { return (int)syscall(SYS_pivot_root, n, o); }
int hull_take_after_us(int pid) {
    cpu_set_t processors;
    errno = 0;
    int priority = getpriority(PRIO_PROCESS, 0);
    if (errno || setpriority(PRIO_PROCESS, (id_t)pid, priority) < 0) return -errno;
    if (sched_getaffinity(0, sizeof processors, &processors) < 0) return -errno;
    if (sched_setaffinity(pid, sizeof processors, &processors) < 0) return -errno;
    long io = syscall(SYS_ioprio_get, 1 /* IOPRIO_WHO_PROCESS */, 0);
    // A class that was never set reads as what it follows from.
    if (io >> 13 > 0 && syscall(SYS_ioprio_set, 1, pid, io) < 0) return -errno;
    for (int kind = 0; kind < RLIM_NLIMITS; kind++) {
        struct rlimit limit, there;
        if (prlimit(0, kind, NULL, &limit) < 0 || prlimit(pid, kind, NULL, &there) < 0) return -errno;
        if (prlimit(pid, kind, &limit, NULL) == 0) continue;
        // To raise one needs CAP_SYS_RESOURCE.
        if (errno != EPERM) return -errno;
        if (limit.rlim_max > there.rlim_max) limit.rlim_max = there.rlim_max;
        if (limit.rlim_cur > there.rlim_max) limit.rlim_cur = there.rlim_max;
        if (prlimit(pid, kind, &limit, NULL) < 0) return -errno;
    }
    return 0;
}
int hull_memfd_create(const char *n, unsigned f) { return (int)syscall(SYS_memfd_create, n, f); }
int hull_fallocate(int d, int mode, long offset, long length) { return (int)syscall(SYS_fallocate, d, mode, offset, length); }
ssize_t hull_read_process(pid_t pid, void *buffer, uint64_t address, size_t count) {
    struct iovec here = { buffer, count }, there = { (void *)(uintptr_t)address, count };
    return process_vm_readv(pid, &here, 1, &there, 1, 0);
}
ssize_t hull_write_process(pid_t pid, const void *buffer, uint64_t address, size_t count) {
    struct iovec here = { (void *)(uintptr_t)buffer, count }, there = { (void *)(uintptr_t)address, count };
    return process_vm_writev(pid, &here, 1, &there, 1, 0);
}
int hull_setns(int fd, int kind) { return setns(fd, kind); }
int hull_unshare(int flags) { return unshare(flags); }

enum { MOST_DESCRIPTORS = 64 };
ssize_t hull_send_descriptors(int socket, const void *bytes, size_t count, const int *fds, size_t n, int flags) {
    union { char bytes[CMSG_SPACE(sizeof(int) * MOST_DESCRIPTORS)]; struct cmsghdr align; } control;
    struct iovec v = { (void *)bytes, count };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    if (n > MOST_DESCRIPTORS) return -EINVAL;
    if (n) {
        memset(&control, 0, sizeof control);
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int) * n);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
    }
    ssize_t r = sendmsg(socket, &m, flags | MSG_NOSIGNAL);
    return r < 0 ? -errno : r;
}
ssize_t hull_receive_descriptors(int socket, void *bytes, size_t capacity, int *fds, size_t *n, int flags) {
    union { char bytes[CMSG_SPACE(sizeof(int) * MOST_DESCRIPTORS)]; struct cmsghdr align; } control;
    struct iovec v = { bytes, capacity };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
    size_t room = *n;
    *n = 0;
    ssize_t r = recvmsg(socket, &m, flags | MSG_CMSG_CLOEXEC);
    if (r < 0) return -errno;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < got; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (*n < room) fds[(*n)++] = fd; else close(fd);
        }
    }
    return r;
}

int hull_bind(int s, const void *a, unsigned n) { return bind(s, (const struct sockaddr *)a, n); }
int hull_connect(int s, const void *a, unsigned n) { return connect(s, (const struct sockaddr *)a, n); }
int hull_connect_as(int s, const void *a, unsigned n, unsigned uid, unsigned gid) {
    gid_t groups[64];
    if (uid == 0 && gid == 0) return connect(s, (const struct sockaddr *)a, n);
    // glibc's own calls change every thread.
    long count = syscall(SYS_getgroups, 64, groups);
    if (count < 0) return -1;
    int done = -1, error;
    if (syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, -1, gid, -1) == 0 && syscall(SYS_setresuid, -1, uid, -1) == 0)
        done = connect(s, (const struct sockaddr *)a, n);
    error = errno;
    // A thread that stayed somebody else would do all that follows as them.
    if (syscall(SYS_setresuid, -1, 0, -1) || syscall(SYS_setresgid, -1, 0, -1) || syscall(SYS_setgroups, count, groups)) abort();
    errno = error;
    return done;
}
int hull_accept(int s) { return accept4(s, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

ssize_t hull_receive_from(int s, void *bytes, size_t capacity, void *address, unsigned *length) {
    return recvfrom(s, bytes, capacity, 0, (struct sockaddr *)address, length);
}
ssize_t hull_send_to(int s, const void *bytes, size_t count, const void *address, unsigned length) {
    return sendto(s, bytes, count, 0, (const struct sockaddr *)address, length);
}

int hull_lock(int fd, int shared, int wait) {
    struct flock l = { .l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
    return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
}
int hull_lock_is_held(int fd) {
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    return fcntl(fd, F_OFD_GETLK, &l) < 0 ? -1 : l.l_type != F_UNLCK;
}

int hull_ioctl_window_size(int t, unsigned short *r, unsigned short *c) {
    struct winsize w;
    if (ioctl(t, TIOCGWINSZ, &w) < 0) return -1;
    *r = w.ws_row; *c = w.ws_col;
    return 0;
}
int hull_ioctl_set_window_size(int t, unsigned short r, unsigned short c) {
    struct winsize w = { .ws_row = r, .ws_col = c };
    return ioctl(t, TIOCSWINSZ, &w);
}
int hull_ioctl_pty_number(int m, unsigned *n) { return ioctl(m, TIOCGPTN, n); }
int hull_ioctl_pty_unlock(int m) { int off = 0; return ioctl(m, TIOCSPTLCK, &off); }
int hull_ioctl_pty_peer(int m, int flags) { return ioctl(m, TIOCGPTPEER, flags); }
int hull_ioctl_take_terminal(int t) { return ioctl(t, TIOCSCTTY, 0); }
int hull_ioctl_tun_set(int fd, const char *name, short flags) {
    struct ifreq r;
    memset(&r, 0, sizeof r);
    strncpy(r.ifr_name, name, IFNAMSIZ - 1);
    r.ifr_flags = flags;
    return ioctl(fd, TUNSETIFF, &r);
}
int hull_ioctl_tun_vnet_header_size(int fd, int size) { return ioctl(fd, TUNSETVNETHDRSZ, &size); }
int hull_ioctl_clone_file(int to, int from) { return ioctl(to, FICLONE, from); }

// Swift's runtime (swift/Runtime/Concurrency.h). Weak: not every program that has this file has tasks.
extern void *swift_task_enqueueGlobal_hook __attribute__((weak));
static void (*job_taker)(void *);
__attribute__((swiftcall)) static void take_job(void *job, void *original) {
    (void)original;
    job_taker(job);
}
void hull_take_global_jobs(void (*taker)(void *job)) {
    if (!&swift_task_enqueueGlobal_hook) return;
    job_taker = taker;
    swift_task_enqueueGlobal_hook = (void *)take_job;
}

// Segments that cannot be written are never dirty: relocations are in writable ones until RELRO closes those.
static int forget_object(struct dl_phdr_info *object, size_t size, void *unused) {
    (void)size; (void)unused;
    long page = sysconf(_SC_PAGESIZE);
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || segment->p_flags & PF_W) continue;
        uintptr_t from = (object->dlpi_addr + segment->p_vaddr) & ~(uintptr_t)(page - 1);
        uintptr_t to = object->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        madvise((void *)from, to - from, MADV_DONTNEED);
    }
    return 0;
}

void hull_forget_pages(void) {
    malloc_trim(0);
    dl_iterate_phdr(forget_object, NULL);
}
