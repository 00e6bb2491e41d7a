#include "CGuest.h"

#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>

#ifndef MODULE_INIT_COMPRESSED_FILE
#define MODULE_INIT_COMPRESSED_FILE 4
#endif

static int result(long value) { return value < 0 ? -errno : (int)value; }

int guest_errno(void) { return errno; }

int guest_open(const char *path, int flags, unsigned mode) { return result(open(path, flags | O_CLOEXEC, mode)); }

int guest_openat(int at, const char *path, int flags, unsigned mode) {
    return result(openat(at, path, flags | O_CLOEXEC, mode));
}

int guest_open_in_root(int root, const char *path, int flags, unsigned mode) {
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC), .mode = mode, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, root, path, &how, sizeof how);
        // "EAGAIN: ... could not ensure that a ".." component did not escape (due to a race condition)": openat2(2).
        if (fd < 0 && errno == EAGAIN && tries < 32) continue;
        return result(fd);
    }
}

int guest_fcntl(int fd, int command, long argument) { return result(fcntl(fd, command, argument)); }

int guest_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    return result(mount(source, target, type, flags, data));
}

int guest_pivot_root(const char *new_root, const char *put_old) { return result(syscall(SYS_pivot_root, new_root, put_old)); }

int guest_init_module(int fd, int compressed) {
    return result(syscall(SYS_finit_module, fd, "", compressed ? MODULE_INIT_COMPRESSED_FILE : 0));
}

int guest_clone(uint64_t flags, int cgroup, int *pidfd) {
    struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
    if (pidfd) {
        arguments.flags |= CLONE_PIDFD;
        arguments.pidfd = (uintptr_t)pidfd;
    }
    if (cgroup >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (unsigned)cgroup;
    }
    return result(syscall(SYS_clone3, &arguments, sizeof arguments));
}

int guest_setns(int fd, int types) { return result(setns(fd, types)); }
int guest_pidfd_signal(int pidfd, int signal) { return result(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0)); }
int guest_pidfd_open(int pid) { return result(syscall(SYS_pidfd_open, pid, 0)); }

int guest_seccomp(const void *instructions, unsigned count, unsigned flags) {
    struct sock_fprog program = {.len = (unsigned short)count, .filter = (struct sock_filter *)instructions};
    return result(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

int guest_bind_devices(int cgroup, const void *instructions, unsigned count) {
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = count, .insns = (uintptr_t)instructions, .license = (uintptr_t) "Apache-2.0"};
    int program = result(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    if (program < 0) return program;
    union bpf_attr attach = {
        .target_fd = (unsigned)cgroup, .attach_bpf_fd = (unsigned)program, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI};
    int attached = result(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(program);
    return attached;
}

int guest_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    return result(syscall(SYS_capset, &header, data));
}

int guest_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return result(prctl(option, a, b, c, d));
}

int guest_set_window(int fd, unsigned rows, unsigned columns) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    return result(ioctl(fd, TIOCSWINSZ, &size));
}

int guest_controlling_terminal(int fd) { return result(ioctl(fd, TIOCSCTTY, 0)); }

int guest_open_peer(int master) {
    int unlock = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0) return -errno;
    return result(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
}

int guest_add_entropy(int fd, const void *bytes, unsigned count) {
    if (count > 1024) count = 1024;
    union {
        struct rand_pool_info info;
        unsigned char room[sizeof(struct rand_pool_info) + 1024];
    } pool;
    pool.info.entropy_count = (int)count * 8;
    pool.info.buf_size = (int)count;
    memcpy(pool.room + sizeof(struct rand_pool_info), bytes, count);
    int added = result(ioctl(fd, RNDADDENTROPY, &pool));
    explicit_bzero(&pool, sizeof pool);
    if (added < 0) return added;
    return result(ioctl(fd, RNDRESEEDCRNG));
}

int guest_send(int socket, const void *bytes, size_t count, int passed) {
    struct iovec part = {(void *)bytes, count};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.room;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passed, sizeof(int));
    }
    return result(sendmsg(socket, &message, MSG_NOSIGNAL));
}

static ssize_t receive(int socket, void *bytes, size_t count, int *passed, int flags) {
    struct iovec part = {bytes, count};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    *passed = -1;
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
    if (got < 0) return -errno;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) memcpy(passed, CMSG_DATA(header), sizeof(int));
    return got;
}

ssize_t guest_receive(int socket, void *bytes, size_t count, int *passed) {
    return receive(socket, bytes, count, passed, MSG_DONTWAIT);
}

ssize_t guest_receive_waiting(int socket, void *bytes, size_t count, int *passed) {
    return receive(socket, bytes, count, passed, 0);
}

int guest_mknodat(int at, const char *path, unsigned mode, unsigned major, unsigned minor) {
    return result(mknodat(at, path, mode, makedev(major, minor)));
}

int guest_adjust_clock(long tick, long frequency) {
    struct timex change = {.modes = ADJ_TICK | ADJ_FREQUENCY, .tick = tick, .freq = frequency};
    return result(adjtimex(&change));
}

int guest_kmsg(const char *bytes, size_t count) {
    static int log = -1;
    if (log < 0) log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    return log < 0 ? -errno : result(write(log, bytes, count));
}

uint64_t guest_clock(int which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int guest_exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 0; }
int guest_exit_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
unsigned guest_device_major(uint64_t device) { return major(device); }
unsigned guest_device_minor(uint64_t device) { return minor(device); }

int guest_netlink_socket(int protocol, unsigned groups) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0) return -errno;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int guest_execve(const char *path, char *const *arguments, char *const *environment) {
    return result(execve(path, arguments, environment));
}

// A vector of `count` pointers into consecutive NUL-terminated strings, ended by NULL; never freed (exec follows).
char *const *guest_strings(const char *block, size_t count) {
    char **vector = calloc(count + 1, sizeof *vector);
    if (!vector) return NULL;
    for (size_t index = 0; index < count; index++) {
        vector[index] = (char *)block;
        block += strlen(block) + 1;
    }
    return vector;
}

long guest_sysinfo_memory(void) {
    struct sysinfo info;
    return sysinfo(&info) < 0 ? 0 : (long)(info.totalram * info.mem_unit);
}

ssize_t guest_read_pieces(int fd, void *buffer, size_t wanted, size_t gap, size_t piece) {
    struct iovec pieces[8];
    int count = 0;
    for (char *at = buffer; wanted > 0 && count < 8; at += gap + piece, count++) {
        pieces[count].iov_base = at + gap;
        pieces[count].iov_len = wanted < piece ? wanted : piece;
        wanted -= pieces[count].iov_len;
    }
    return readv(fd, pieces, count);
}

void guest_signal(int number, int ignored) { signal(number, ignored ? SIG_IGN : SIG_DFL); }

void guest_schedule(int batch) {
    struct sched_param none = {0};
    sched_setscheduler(0, batch ? SCHED_BATCH : SCHED_OTHER, &none);
    setpriority(PRIO_PROCESS, 0, batch ? -20 : 0);
}

int guest_fork(void) { return (int)fork(); }

static int write_map(int folder, const char *name, const char *text) {
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    ssize_t n = write(fd, text, strlen(text));
    int error = n < 0 ? errno : 0;
    close(fd);
    return error;
}

int guest_enter_user_namespace(int own, const char *users, const char *groups) {
    int pair[2], status = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -errno;
    int writer = guest_fork();
    if (writer == 0) {
        // Only a process of the outer namespace may map more than itself.
        char mark;
        close(pair[0]);
        if (read(pair[1], &mark, 1) != 1) _exit(EPIPE);
        int error = write_map(own, "uid_map", users);
        _exit(error ? error : write_map(own, "gid_map", groups));
    }
    close(pair[1]);
    int done = writer < 0 ? -errno : result(unshare(CLONE_NEWUSER | CLONE_NEWNS));
    if (done == 0 && write(pair[0], "", 1) != 1) done = -errno;
    close(pair[0]);
    if (writer > 0) {
        while (waitpid(writer, &status, 0) < 0 && errno == EINTR) {}
        if (done == 0 && status != 0) done = WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
    }
    return done;
}

void guest_act_as(unsigned uid, unsigned gid) {
    syscall(SYS_setfsgid, gid);
    syscall(SYS_setfsuid, uid);
}

int guest_set_scheduler(
    unsigned policy, int nice, unsigned priority, uint64_t flags, uint64_t runtime, uint64_t deadline, uint64_t period) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {48, policy, flags, nice, priority, runtime, deadline, period};
    return result(syscall(SYS_sched_setattr, 0, &attributes, 0));
}

int guest_set_io_priority(unsigned priority) { return result(syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, priority)); }

int guest_set_personality(uint64_t value) { return result(personality((unsigned long)value)); }
