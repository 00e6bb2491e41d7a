// The kernel's interfaces that Swift cannot call itself: variadic functions, macros, and calls glibc does not wrap.
// Every function returns a value of zero or more, or a negated error number.
#ifndef HULL_CGUEST_H
#define HULL_CGUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

int guest_errno(void);
int guest_open(const char *path, int flags, unsigned mode);
int guest_openat(int at, const char *path, int flags, unsigned mode);
// openat2 with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: no link leads out of `root`.
int guest_open_in_root(int root, const char *path, int flags, unsigned mode);
int guest_fcntl(int fd, int command, long argument);
int guest_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int guest_pivot_root(const char *new_root, const char *put_old);
int guest_init_module(int fd, int compressed);
// clone3 without shared memory, like fork. cgroup < 0: the caller's. Returns the pid, 0 in the child.
int guest_clone(uint64_t flags, int cgroup, int *pidfd);
/// fork(2) by clone(2), which a container's seccomp filter allows, unlike clone3.
int guest_fork(void);
int guest_setns(int fd, int types);
int guest_pidfd_signal(int pidfd, int signal);
int guest_pidfd_open(int pid);
int guest_seccomp(const void *instructions, unsigned count, unsigned flags);
/* Binds a cgroup (a folder's descriptor) to a device program of that many instructions. */
int guest_bind_devices(int cgroup, const void *instructions, unsigned count);
int guest_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable);
int guest_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int guest_set_window(int fd, unsigned rows, unsigned columns);
int guest_controlling_terminal(int fd);
int guest_open_peer(int master);
int guest_add_entropy(int fd, const void *bytes, unsigned count);
int guest_send(int socket, const void *bytes, size_t count, int passed);
ssize_t guest_receive(int socket, void *bytes, size_t count, int *passed);
// The same, waiting for a message.
ssize_t guest_receive_waiting(int socket, void *bytes, size_t count, int *passed);
int guest_mknodat(int at, const char *path, unsigned mode, unsigned major, unsigned minor);
int guest_adjust_clock(long tick, long frequency);
int guest_kmsg(const char *bytes, size_t count);
uint64_t guest_clock(int which);
/// Relays queries at port 53 of a loopback address, UDP and TCP, to `output`, and answers from `input`: frames of a length, a slot (two
/// little-endian bytes each) and the message.
_Noreturn void guest_relay_names(const char *address, int input, int output);
/// Listens at a Unix socket with these permissions and owners.
int guest_listen(const char *path, int datagram, unsigned mode, unsigned uid, unsigned gid);
/// Waits for one connection at `listener`, says on `output` who it is (uid and gid, four little-endian bytes each), and carries bytes both
/// ways: what is read at `input` goes to it, what it says to `output`. The end of each direction is passed on by itself.
_Noreturn void guest_relay_connection(int listener, int input, int output);
/// Writes each message to `output`, its length (four little-endian bytes) before it.
_Noreturn void guest_relay_datagrams(int listener, int input, int output);
/// Enters a new user namespace with these maps, and a mount namespace that belongs to it. `own` is the caller's folder in /proc.
int guest_enter_user_namespace(int own, const char *users, const char *groups);
/// Whose the files are that the caller makes from now on. It loses the capabilities that go with that, and can take them again.
void guest_act_as(unsigned uid, unsigned gid);
/// sched_setattr(2), ioprio_set(2) and personality(2) of the caller.
int guest_set_scheduler(
    unsigned policy, int nice, unsigned priority, uint64_t flags, uint64_t runtime, uint64_t deadline, uint64_t period);
int guest_set_io_priority(unsigned priority);
int guest_set_personality(uint64_t personality);
int guest_exit_code(int status);
int guest_exit_signal(int status);
unsigned guest_device_major(uint64_t device);
unsigned guest_device_minor(uint64_t device);
int guest_netlink_socket(int protocol, unsigned groups);
int guest_execve(const char *path, char *const *arguments, char *const *environment);
char *const *guest_strings(const char *block, size_t count);
long guest_sysinfo_memory(void);
// Reads up to `wanted` bytes in one call into pieces of `piece` bytes, with `gap` untouched bytes before each. At most 8 pieces.
ssize_t guest_read_pieces(int fd, void *buffer, size_t wanted, size_t gap, size_t piece);
// Scheduling: with `batch` the caller is never woken into the middle of what runs, and has the highest weight.
void guest_schedule(int batch);
// Shares that many new pages (at most 64) with domain 0 of Xen, one behind the other; and the device through which its events come, bound to a
// channel. NULL where the drivers are not there. What was shared before is taken back; the device of its events stays open.
void *guest_share_memory(uint32_t *references, unsigned pages, int *events, uint32_t *channel);
// Asks Xen's store something of this domain's part (XS_*; at most 128 bytes). The length of the answer, or with `stays` the open connection,
// which does not block; -ENOENT for a refusal.
int guest_ask_store(unsigned kind, const uint8_t *bytes, unsigned count, int stays);
// Keeps an open file from being closed with this descriptor.
void guest_keep_open(int descriptor);
void guest_notify(int events, uint32_t channel);
// Takes all events that are there, so that more can come.
void guest_take_event(int events);
// How a signal is handled: ignored, or by default.
void guest_signal(int number, int ignored);
#endif
