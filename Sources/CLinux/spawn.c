// The one place where a child process is made: audited, small, and C, because between clone3 and exec nothing of a
// language runtime may run, and because namespaces, credentials and death signals belong to a thread.
#include "CLinux.h"
#include <linux/sched.h>
#include <linux/capability.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct failure { int error; unsigned step; };
enum { NAMESPACE, ROOT, USER, SESSION, TERMINAL, DESCRIPTORS, LIMITS, OOM, CREDENTIALS, CAPABILITIES, DIRECTORY, PROFILE, LABEL, EXEC, EXEC_LABELLED, CLONE };
static const char *const steps[] = {
    "join a namespace", "enter its root", "enter its user namespace", "start a session", "take its terminal",
    "arrange its descriptors", "set its limits", "set its OOM score", "take its user id", "drop its capabilities",
    "enter its directory", "take its AppArmor profile", "take its SELinux label", "execute", "be executed under its SELinux label", "make a process",
};

static void fail(int report, unsigned step) {
    struct failure f = { errno ? errno : EINVAL, step };
    (void)!write(report, &f, sizeof f);
    _exit(127);
}

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = write(fd, text, strlen(text));
    int e = errno;
    close(fd);
    errno = e;
    return n < 0 ? -1 : 0;
}

static int drop_capabilities(uint64_t keep) {
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) < 0) return -1;
    for (int i = 0; i < 2; i++) {
        uint32_t k = (uint32_t)(keep >> (32 * i));
        data[i].effective &= k; data[i].permitted &= k; data[i].inheritable = 0;
    }
    return (int)syscall(SYS_capset, &head, data);
}

int hull_keep_capabilities(uint64_t keep) { return drop_capabilities(keep) < 0 ? -errno : 0; }

// Moves the wanted descriptors to their places; whatever stands in the way is lifted above all of them first.
static int arrange(const struct hull_spawn *how, int *report, int *executable) {
    int top = 2;
    for (size_t i = 0; i < how->descriptor_count; i++)
        if (how->descriptors[i].to > top) top = how->descriptors[i].to;
    int lifted[how->descriptor_count + 1];
    for (size_t i = 0; i < how->descriptor_count; i++)
        if ((lifted[i] = fcntl(how->descriptors[i].from, F_DUPFD_CLOEXEC, top + 1)) < 0) return -1;
    if ((*report = fcntl(*report, F_DUPFD_CLOEXEC, top + 1)) < 0) return -1;
    if (*executable >= 0 && (*executable = fcntl(*executable, F_DUPFD_CLOEXEC, top + 1)) < 0) return -1;
    for (int fd = 0; fd <= top; fd++) {
        size_t i = 0;
        while (i < how->descriptor_count && how->descriptors[i].to != fd) i++;
        if (i == how->descriptor_count) close(fd);
        else if (dup2(lifted[i], fd) < 0) return -1;
    }
    // All others, but for the two that this function still needs, go at exec.
    return (int)syscall(SYS_close_range, (unsigned)top + 1, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void child(const struct hull_spawn *how, int report) {
    sigset_t none;
    struct sigaction plain = { .sa_handler = SIG_DFL };
    for (int s = 1; s < NSIG; s++) sigaction(s, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (how->death_signal) {
        prctl(PR_SET_PDEATHSIG, how->death_signal, 0, 0, 0);
        // A parent that died before that line sends nothing any more; the pipe to it tells. (getppid is 0 in a new pid namespace.)
        struct pollfd parent = { .fd = report };
        if (poll(&parent, 1, 0) > 0 && parent.revents & POLLERR) _exit(127);
    }

    errno = 0;
    if (how->set_oom_score) {
        char text[16];
        snprintf(text, sizeof text, "%d", how->oom_score);
        if (write_file("/proc/self/oom_score_adj", text) < 0 && errno != EACCES) fail(report, OOM);
    }
    if (how->profile) {
        // For the program that is executed; only a process itself may ask, and later its root has no /proc.
        char text[512];
        if (snprintf(text, sizeof text, "exec %s", how->profile) >= (int)sizeof text) { errno = ENAMETOOLONG; fail(report, PROFILE); }
        if (write_file("/proc/self/attr/apparmor/exec", text) < 0 && (errno != ENOENT || write_file("/proc/self/attr/exec", text) < 0))
            fail(report, PROFILE);
    }
    // The same way; a host has one of the two.
    if (how->label && write_file("/proc/self/attr/exec", how->label) < 0) fail(report, LABEL);
    if (how->join_net >= 0 && setns(how->join_net, CLONE_NEWNET) < 0) fail(report, NAMESPACE);
    if (how->join_mount >= 0 && setns(how->join_mount, CLONE_NEWNS) < 0) fail(report, NAMESPACE);
    if (how->namespaces & CLONE_NEWNS && mount("", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        fail(report, ROOT);

    int executable = how->exec_descriptor;
    if (how->root) {
        if (chdir(how->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
            fail(report, ROOT);
    }
    if (how->join_user >= 0 && setns(how->join_user, CLONE_NEWUSER) < 0) fail(report, USER);
    if (how->new_session && setsid() < 0) fail(report, SESSION);
    if (arrange(how, &report, &executable) < 0) fail(report, DESCRIPTORS);
    if (how->new_session && how->controlling_terminal >= 0 && ioctl(how->controlling_terminal, TIOCSCTTY, 0) < 0)
        fail(report, TERMINAL);
    for (size_t i = 0; i < how->limit_count; i++) {
        struct rlimit l = { how->limits[i].soft, how->limits[i].hard };
        if (setrlimit(how->limits[i].resource, &l) < 0) fail(report, LIMITS);
    }
    if (how->directory && chdir(how->directory) < 0) fail(report, DIRECTORY);
    if (how->drop_capabilities) {
        // The bounding set goes while CAP_SETPCAP is still there; the ids after it, the rest last.
        for (int c = 0; c < 64; c++)
            if (!(how->keep_capabilities >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL)
                fail(report, CAPABILITIES);
    }
    if (how->set_ids) {
        if (!how->keep_groups && setgroups(how->group_count, how->groups) < 0) fail(report, CREDENTIALS);
        if (setresgid(how->gid, how->gid, how->gid) < 0 || setresuid(how->uid, how->uid, how->uid) < 0)
            fail(report, CREDENTIALS);
        // A change of ids clears the death signal.
        if (how->death_signal) prctl(PR_SET_PDEATHSIG, how->death_signal, 0, 0, 0);
    }
    if (how->drop_capabilities) {
        if (drop_capabilities(how->keep_capabilities) < 0) fail(report, CAPABILITIES);
    }
    if (how->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail(report, CAPABILITIES);
    if (executable >= 0) syscall(SYS_execveat, executable, "", how->argv, how->envp, AT_EMPTY_PATH);
    else execve(how->file, how->argv, how->envp);
    fail(report, how->label && (errno == EACCES || errno == EPERM) ? EXEC_LABELLED : EXEC);
}

int hull_spawn_process(const struct hull_spawn *how, pid_t *pid, int *pidfd, const char **step) {
    int report[2];
    *step = steps[CLONE];
    if (pipe2(report, O_CLOEXEC) < 0) return errno;
    // No signal may be handled in the child before its dispositions are plain.
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    struct clone_args args = { 0 };
    args.flags = how->namespaces | CLONE_PIDFD;
    args.pidfd = (uint64_t)(uintptr_t)pidfd;
    args.exit_signal = SIGCHLD;
    long made = syscall(SYS_clone3, &args, sizeof args);
    int error = errno;
    if (made == 0) { close(report[0]); child(how, report[1]); }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(report[1]);
    if (made < 0) { close(report[0]); return error; }
    struct failure f;
    ssize_t n;
    do n = read(report[0], &f, sizeof f); while (n < 0 && errno == EINTR);
    close(report[0]);
    if (n == (ssize_t)sizeof f) {
        int status;
        waitpid((pid_t)made, &status, 0);
        close(*pidfd);
        *step = f.step < sizeof steps / sizeof *steps ? steps[f.step] : "start";
        return f.error;
    }
    *pid = (pid_t)made;
    return 0;
}

pid_t hull_fork_apart(int keep) {
    sigset_t all, before, none;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    int error = errno;
    if (pid != 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        return pid < 0 ? -error : pid;
    }
    struct sigaction plain = { .sa_handler = SIG_DFL };
    for (int s = 1; s < NSIG; s++)
        if (s != SIGPIPE) sigaction(s, &plain, NULL);
    setsid();
    if ((keep != 3 && dup2(keep, 3) < 0) || fcntl(3, F_SETFD, FD_CLOEXEC) < 0) _exit(127);
    syscall(SYS_close_range, 4u, ~0u, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

// A child that only keeps the namespace alive until its descriptor is open. It says its number as the mounted /proc counts: in a
// pid namespace that sees the host's /proc, what clone3 returns is another process there.
int hull_user_namespace(const char *users, const char *groups) {
    int hold[2], ready[2];
    if (pipe2(hold, O_CLOEXEC) < 0) return -errno;
    if (pipe2(ready, O_CLOEXEC) < 0) { int e = errno; close(hold[0]); close(hold[1]); return -e; }
    struct clone_args args = { 0 };
    args.flags = CLONE_NEWUSER;
    args.exit_signal = SIGCHLD;
    long pid = syscall(SYS_clone3, &args, sizeof args);
    int result = pid < 0 ? -errno : 0;
    if (pid == 0) {
        char name[16], c;
        close(hold[1]);
        ssize_t length = readlink("/proc/self", name, sizeof name);
        if (length > 0) (void)!write(ready[1], name, (size_t)length);
        close(ready[1]);
        (void)!read(hold[0], &c, 1);
        _exit(0);
    }
    close(hold[0]); close(ready[1]);
    if (pid > 0) {
        char name[16] = "", path[64];
        ssize_t length;
        do length = read(ready[0], name, sizeof name - 1); while (length < 0 && errno == EINTR);
        if (length <= 0) result = -ENOENT;
        snprintf(path, sizeof path, "/proc/%s/uid_map", name);
        if (result == 0 && write_file(path, users) < 0) result = -errno;
        snprintf(path, sizeof path, "/proc/%s/gid_map", name);
        if (result == 0 && write_file(path, groups) < 0) result = -errno;
        snprintf(path, sizeof path, "/proc/%s/ns/user", name);
        if (result == 0 && (result = open(path, O_RDONLY | O_CLOEXEC)) < 0) result = -errno;
        close(hold[1]);
        int status;
        while (waitpid((pid_t)pid, &status, 0) < 0 && errno == EINTR) {}
    } else close(hold[1]);
    close(ready[0]);
    return result;
}

int hull_unmount_inside(int mount_namespace, const char *const *paths, size_t count) {
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) {
        if (setns(mount_namespace, CLONE_NEWNS) < 0) _exit(errno);
        for (size_t i = 0; i < count; i++)
            if (umount2(paths[i], MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT) _exit(errno);
        _exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) if (errno != EINTR) return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

int hull_mount_inside(int mount_namespace, int tree, const char *path, int file) {
    pid_t pid = fork();
    if (pid < 0) return errno;
    if (pid == 0) {
        if (setns(mount_namespace, CLONE_NEWNS) < 0) _exit(errno);
        int made = file ? open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444) : mkdir(path, 0755);
        if (made < 0 && errno != EEXIST) _exit(errno);
        _exit(hull_move_mount(tree, AT_FDCWD, path, 0) < 0 ? errno : 0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) if (errno != EINTR) return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}
