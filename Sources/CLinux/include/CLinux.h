// The kernel's interfaces that Glibc's module does not show to Swift, and the one audited place where a child
// process is made. Everything between clone3 and exec is C: no Swift runs there.
#ifndef HULL_CLINUX_H
#define HULL_CLINUX_H

// No _GNU_SOURCE here: Swift's own module of the C library is built without it, and two modules must not differ in what a
// struct is. The sources of this target define it for themselves.
// Only hull_take_global_jobs says what is never nil.
#pragma clang diagnostic ignored "-Wnullability-completeness"
#pragma clang diagnostic ignored "-Wnullability-completeness-on-arrays"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/mman.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <sys/resource.h>
#include <net/if.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/veth.h>
#include <linux/pkt_sched.h>
#include <linux/pkt_cls.h>
#include <linux/vm_sockets.h>
#include <linux/openat2.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <termios.h>
#include <time.h>
#include <fcntl.h>
#include <dirent.h>
#include <errno.h>

// What the C library shows under _GNU_SOURCE only (fcntl-linux.h, unistd.h).
#ifndef O_PATH
#define O_PATH 010000000
#endif
#ifndef O_TMPFILE
#define O_TMPFILE 020200000
#endif
int pipe2(int descriptors[2], int flags);
ssize_t copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count, unsigned flags);

struct hull_descriptor { int from, to; };
struct hull_limit { int resource; uint64_t soft, hard; };

/// How a child is made. Zeroed fields mean "leave as it is", but for the descriptors: -1 means none.
struct hull_spawn {
    const char *file;                 ///< what to exec, seen from inside `root`; used when exec_descriptor is -1
    int exec_descriptor;              ///< an open executable, or -1
    char *const *argv, *const *envp;
    const struct hull_descriptor *descriptors; size_t descriptor_count; ///< all others are closed
    uint64_t namespaces;              ///< CLONE_NEW*
    int join_user, join_net, join_mount; ///< namespaces to join, or -1
    const char *root;                 ///< a mount point that becomes `/`; the old root is detached
    const char *directory;            ///< the working directory, seen from inside `root`
    int set_ids; uid_t uid; gid_t gid; const gid_t *groups; size_t group_count; int keep_groups;
    int drop_capabilities;            ///< 1: every set emptied, the bounding set too
    uint64_t keep_capabilities;       ///< with drop_capabilities: those that stay (bounding, permitted, effective)
    int no_new_privileges;
    const char *profile;              ///< an AppArmor profile that the program is to run under
    const char *label;                ///< an SELinux label that the program is to run under
    int new_session;                  ///< setsid
    int controlling_terminal;         ///< with new_session: the child's descriptor to make the controlling terminal, or -1
    int death_signal;                 ///< PR_SET_PDEATHSIG: give it only from a thread that lives as long as the process
    int set_oom_score; int oom_score;
    const struct hull_limit *limits; size_t limit_count;
};

/// Makes a child. Returns 0, or an errno with `*step` naming what failed. `*pidfd` is close-on-exec.
int hull_spawn_process(const struct hull_spawn *how, pid_t *pid, int *pidfd, const char **step);

/// fork(2): a child in a session of its own, with plain signals and no descriptors but 0 to 2 and `keep`, which is its 3. Returns its
/// number, 0 in the child, or -errno.
pid_t hull_fork_apart(int keep);

/// Gives up all capabilities of this process but `keep`, a mask. 0 or -errno.
int hull_keep_capabilities(uint64_t keep);

/// A new user namespace that maps 0…count-1 to base…base+count-1, as a descriptor; or -errno.
int hull_user_namespace(const char *users, const char *groups);

/// From now on jobs of Swift tasks that belong to no executor go to `taker`, and none to libdispatch.
void hull_take_global_jobs(void (*_Nonnull taker)(void *_Nonnull job));

/// Detaches `paths` inside the mount namespace `mount_namespace`, from a child made for that. 0 or an errno.
int hull_unmount_inside(int mount_namespace, const char *const *paths, size_t count);

/// Attaches a detached mount at `path`, which is made (a file where `file`), inside the mount namespace. 0 or an errno.
int hull_mount_inside(int mount_namespace, int tree, const char *path, int file);

int hull_pidfd_open(pid_t pid);
int hull_pidfd_send_signal(int pidfd, int signal);
/// waitid(P_PIDFD, WEXITED|WNOHANG): 1 ended (status as wait's), 0 still there, -errno.
int hull_pidfd_wait(int pidfd, int *status);

int hull_open_tree(int directory, const char *path, unsigned flags);
int hull_move_mount(int from, int to_directory, const char *to, unsigned flags);
int hull_mount_setattr(int directory, const char *path, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation, int user_namespace);
int hull_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int hull_pivot_root(const char *new_root, const char *put_old);
// Gives a process of one thread our priorities, processors and limits. 0 or -errno.
int hull_take_after_us(int pid);
int hull_memfd_create(const char *name, unsigned flags);
int hull_fallocate(int descriptor, int mode, long offset, long length);
/// process_vm_readv(2) of one range. Bytes, or -1 with errno.
ssize_t hull_read_process(pid_t pid, void *buffer, uint64_t address, size_t count);
/// process_vm_writev(2) of one range. Bytes, or -1 with errno.
ssize_t hull_write_process(pid_t pid, const void *buffer, uint64_t address, size_t count);
int hull_setns(int descriptor, int kind);
int hull_unshare(int flags);

/// sendmsg/recvmsg with descriptors (SCM_RIGHTS). Received ones are close-on-exec. Bytes moved, or -errno.
ssize_t hull_send_descriptors(int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count, int flags);
ssize_t hull_receive_descriptors(int socket, void *bytes, size_t capacity, int *descriptors, size_t *descriptor_count, int flags);

/// connect, bind, accept4(SOCK_CLOEXEC|SOCK_NONBLOCK), recvfrom and sendto, whose sockaddr argument is a transparent union under _GNU_SOURCE.
int hull_bind(int socket, const void *address, unsigned length);
int hull_connect(int socket, const void *address, unsigned length);
// The same as another user, by whose rights the path is opened and whom the other end sees (SO_PEERCRED). Of this thread alone.
int hull_connect_as(int socket, const void *address, unsigned length, unsigned uid, unsigned gid);
int hull_accept(int socket);
ssize_t hull_receive_from(int socket, void *bytes, size_t capacity, void *address, unsigned *length);
ssize_t hull_send_to(int socket, const void *bytes, size_t count, const void *address, unsigned length);

/// Open file description locks (F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK) on a whole file.
int hull_lock(int descriptor, int shared, int wait);
int hull_lock_is_held(int descriptor);

/// ioctls whose numbers are macros that Swift cannot import.
int hull_ioctl_window_size(int terminal, unsigned short *rows, unsigned short *columns);
int hull_ioctl_set_window_size(int terminal, unsigned short rows, unsigned short columns);
int hull_ioctl_pty_number(int master, unsigned *number);
int hull_ioctl_pty_unlock(int master);
int hull_ioctl_pty_peer(int master, int flags);
int hull_ioctl_take_terminal(int terminal);
int hull_ioctl_tun_set(int descriptor, const char *name, short flags);
int hull_ioctl_tun_vnet_header_size(int descriptor, int size);
int hull_ioctl_clone_file(int to, int from);

/// Xen (xen/gntdev.h, xen/evtchn.h): maps at most 64 pages of another domain, which it granted; binds to a channel of its, as one of ours; sends
/// an event. 0 (or our channel), or -errno.
int hull_xen_map(int device, unsigned domain, const uint32_t *references, size_t count, void *_Nullable *_Nonnull mapped);
int hull_xen_bind(int events, unsigned domain, unsigned port);
int hull_xen_notify(int events, unsigned port);
/// What Xen itself is asked in a Dom0 without a process of its tools (xen/privcmd.h): the pages that a domain has; and where Xen is of a version
/// (4.16 to 4.21) whose words for that are known here, to stand one still or let it go on, as `xl pause` and `unpause` have it done, and how it is:
/// XEN_DOMINF_* of its domctl.h. -errno where it refuses: -EACCES of another version, -ESRCH where there is no such domain.
long hull_xen_pages(unsigned domain);
int hull_xen_pause(unsigned domain, int still);
long hull_xen_state(unsigned domain);
/// A loop device over `file` that goes with its last user, open: its descriptor, and its number; or -errno.
int hull_loop_attach(int file, int read_only, unsigned *number);
unsigned hull_device_major(uint64_t device);
unsigned hull_device_minor(uint64_t device);

/// The CPU's time stamp counter; 0 where there is none that a program may read.
static inline uint64_t hull_timestamp_counter(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

/// Gives back to the kernel what an idle process does not need: free heap, and the pages of programs and libraries that were
/// mapped while it started. They are the page cache's, unchanged, and come back when they are touched.
void hull_forget_pages(void);

static inline int hull_wifexited(int s) { return WIFEXITED(s); }
static inline int hull_wexitstatus(int s) { return WEXITSTATUS(s); }
static inline int hull_wtermsig(int s) { return WTERMSIG(s); }

#endif
