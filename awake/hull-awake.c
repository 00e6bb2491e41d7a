// hull-awake.so: lets a QEMU that stands still make copies of itself, each in a confinement of its own (docs/adr/031).
//
// It is loaded before QEMU's other libraries (LD_PRELOAD). fork(2) copies the calling thread alone, so every other thread saves itself in a
// signal handler, the main thread makes the copy there, and the copy starts a thread for each that was saved, over its old stack: they
// return from their handlers as if nothing had happened. Nothing of a copy's runs before it is confined.
//
// No guest of a user's ever runs in the process that this serves; who may connect to its socket may do anything anyway (root's folder).
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL (SIGRTMIN + 12)
enum { THREADS = 128, DESCRIPTORS = 1024, PASSED = 64, INSTRUCTIONS = 1024, SETTINGS = 64, MAPPINGS = 16 };

// What a copy is to be. The descriptors come beside it: its pid namespace, its mount namespace, then one for each target.
// The same layout is in Sources/QEMUDriver/AwakeMachine.swift.
struct request {
    uint32_t version, count, user;
    int32_t targets[PASSED];
    char root[512], name[128];
};
_Static_assert(sizeof(struct request) == 908, "as AwakePlace writes it");
enum { VERSION = 1, MADE = 1, CONFINED = 2, FAILED = 3 };
struct answer { uint32_t kind; int32_t step, error; };

struct thread {
    unsigned long registers[8], base;  // base: of its thread-local storage
    void *robust;
    size_t robust_size;
    int number;
    atomic_uint saved;   // the turn in which its registers are what they were
    atomic_int state, is_server;
};
enum { FREE, STARTING, RUNNING, ENDING };
static struct thread threads[THREADS];  // the first is the main thread
static __thread struct thread *mine;
static pthread_key_t key;
static atomic_uint turn = 1, arrived;
static atomic_int is_copying;
static int is_copy;
static int listener = -1, connection = -1, own_namespace = -1, number_offset = -1;
static struct request request;
static struct sock_filter filter[INSTRUCTIONS];
static struct sock_fprog program = { 0, filter };
static int passed[PASSED + 2], passed_count;
static int made_descriptor, made_error;
static unsigned char events[DESCRIPTORS];
static char *shown_name;  // QEMU's own, in its command line
static struct { int file; unsigned long request; int value, used; } settings[SETTINGS];
static struct mapping { int file, protection, used; char *address; size_t length; off_t offset; } mappings[MAPPINGS];
static int share = -1;  // the connection to the share's server
extern ptrdiff_t __rseq_offset __attribute__((weak));
extern unsigned __rseq_size __attribute__((weak));

// Like setjmp and longjmp, for a thread that goes on in another process.
int hull_save(unsigned long *registers) __attribute__((returns_twice));
void hull_resume(unsigned long *registers) __attribute__((noreturn));
long hull_thread(unsigned long flags, unsigned long stack, int *number, int *clear, unsigned long base, unsigned long *registers);
long hull_process(unsigned long flags, unsigned long stack, int *descriptor, int (*body)(void));
__asm__(
    ".text\n"
    "hull_save:\n"
    " mov %rbx,0(%rdi)\n mov %rbp,8(%rdi)\n mov %r12,16(%rdi)\n mov %r13,24(%rdi)\n mov %r14,32(%rdi)\n mov %r15,40(%rdi)\n"
    " lea 8(%rsp),%rax\n mov %rax,48(%rdi)\n mov (%rsp),%rax\n mov %rax,56(%rdi)\n xor %eax,%eax\n ret\n"
    "hull_resume:\n"
    " mov 0(%rdi),%rbx\n mov 8(%rdi),%rbp\n mov 16(%rdi),%r12\n mov 24(%rdi),%r13\n mov 32(%rdi),%r14\n mov 40(%rdi),%r15\n"
    " mov 48(%rdi),%rsp\n mov $1,%eax\n jmp *56(%rdi)\n"
    "hull_thread:\n mov %rcx,%r10\n mov $56,%eax\n syscall\n test %rax,%rax\n jz 1f\n ret\n1: mov %r9,%rdi\n jmp hull_resume\n"
    "hull_process:\n mov %rcx,%r9\n xor %r10d,%r10d\n xor %r8d,%r8d\n mov $56,%eax\n syscall\n test %rax,%rax\n jz 1f\n ret\n"
    "1: xor %ebp,%ebp\n and $-16,%rsp\n call *%r9\n mov %eax,%edi\n mov $60,%eax\n syscall\n hlt\n");

static long futex(atomic_uint *word, int operation, unsigned value) { return syscall(SYS_futex, word, operation, value, NULL, NULL, 0); }
static int *number_of(struct thread *thread) { return (int *)((char *)thread->base + number_offset); }

// MARK: what is known of QEMU's threads and descriptors

static int is_gone(struct thread *thread) { return syscall(SYS_tgkill, getpid(), thread->number, 0) < 0 && errno == ESRCH; }

static void attach(struct thread *thread) {
    mine = thread;
    thread->number = (int)syscall(SYS_gettid);
    syscall(SYS_arch_prctl, ARCH_GET_FS, &thread->base);
}

// Its last steps in the C library are still to come; only when the kernel knows it no more is its place free.
static void ended(void *thread) { ((struct thread *)thread)->state = ENDING; }

struct start { void *(*routine)(void *); void *argument; struct thread *thread; };
static void *begin(void *pointer) {
    struct start start = *(struct start *)pointer;
    free(pointer);
    attach(start.thread);
    pthread_setspecific(key, start.thread);
    start.thread->state = RUNNING;
    return start.routine(start.argument);
}

#define REAL(name) ({ static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); real; })

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument) {
    if (is_copy || listener < 0) return REAL(pthread_create)(thread, attributes, routine, argument);
    struct start *start = malloc(sizeof *start);
    if (!start) return EAGAIN;
    struct thread *place = NULL;
    for (int i = 1; i < THREADS && !place; i++) {
        int no = FREE;
        if (atomic_compare_exchange_strong(&threads[i].state, &no, STARTING)) place = &threads[i];
        else if (no == ENDING && is_gone(&threads[i]) && atomic_compare_exchange_strong(&threads[i].state, &no, STARTING)) place = &threads[i];
    }
    if (!place) abort();
    place->is_server = 0;
    *start = (struct start){ routine, argument, place };
    int failure = REAL(pthread_create)(thread, attributes, begin, start);
    if (failure) {
        place->state = FREE;
        free(start);
    }
    return failure;
}

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t changed;
    if (set && how != SIG_UNBLOCK) {
        changed = *set;
        sigdelset(&changed, SIGNAL);
        set = &changed;
    }
    return REAL(pthread_sigmask)(how, set, old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    int failure = pthread_sigmask(how, set, old);
    if (failure) errno = failure;
    return failure ? -1 : 0;
}

// The guest's memory and its translations are what a copy is for.
int madvise(void *address, size_t length, int advice) {
    return advice == MADV_DONTFORK ? 0 : (int)syscall(SYS_madvise, address, length, advice);
}

int eventfd(unsigned int value, int flags) {
    int made = (int)syscall(SYS_eventfd2, value, flags);
    if (is_copy) return made;
    if (made >= DESCRIPTORS) abort();
    if (made >= 0) events[made] = flags & EFD_NONBLOCK ? 2 : 1;
    return made;
}

int close(int file) {
    if (file >= 0 && file < DESCRIPTORS) {
        events[file] = 0;
        for (int i = 0; i < SETTINGS; i++) if (settings[i].used && settings[i].file == file) settings[i].used = 0;
        for (int i = 0; i < MAPPINGS; i++) if (mappings[i].used && mappings[i].file == file) mappings[i].used = 0;
    }
    return (int)syscall(SYS_close, file);
}

// Memory that another process sees too, of which a copy has its own.
void *mmap(void *address, size_t length, int protection, int flags, int file, off_t offset) {
    void *place = (void *)syscall(SYS_mmap, address, length, protection, flags, file, offset);
    if (is_copy || place == MAP_FAILED || file < 0 || (flags & MAP_TYPE) == MAP_PRIVATE) return place;
    for (int i = 0; i < MAPPINGS; i++) {
        if (mappings[i].used) continue;
        mappings[i] = (struct mapping){ file, protection, 1, place, length, offset };
        return place;
    }
    abort();
}

void *mmap64(void *address, size_t length, int protection, int flags, int file, off_t offset) {
    return mmap(address, length, protection, flags, file, offset);
}

// What the share's server offers is to be what another one can take over: the memory told anew at each start (no slots), and no
// connection of its own to QEMU. The header of an answer and the rest are read one after the other (QEMU's docs/interop/vhost-user.rst).
ssize_t recvmsg(int socket, struct msghdr *message, int flags) {
    static int is_offer;
    ssize_t size = syscall(SYS_recvmsg, socket, message, flags);
    if (socket != share || size <= 0 || message->msg_iovlen != 1) return size;
    uint32_t *words = message->msg_iov->iov_base;
    if (is_offer && size == 8) words[0] &= ~(1u << 5 | 1u << 10 | 1u << 15);  // BACKEND_REQ, BACKEND_SEND_FD, CONFIGURE_MEM_SLOTS
    is_offer = size == 12 && words[0] == 15 && words[1] & 4;  // GET_PROTOCOL_FEATURES, and it is an answer
    return size;
}

// A tap keeps what it was told; a copy has another one.
static void note(int file, unsigned long what, void *pointer) {
    int value = what == TUNSETOFFLOAD ? (int)(intptr_t)pointer : *(int *)pointer, place = -1;
    for (int i = 0; i < SETTINGS; i++) {
        if (settings[i].used && settings[i].file == file && settings[i].request == what) { place = i; break; }
        if (!settings[i].used && place < 0) place = i;
    }
    if (place < 0) abort();
    settings[place].file = file;
    settings[place].request = what;
    settings[place].value = value;
    settings[place].used = 1;
}

int ioctl(int file, unsigned long what, ...) {
    va_list rest;
    va_start(rest, what);
    void *pointer = va_arg(rest, void *);
    va_end(rest);
    int result = (int)syscall(SYS_ioctl, file, what, pointer);
    if (!is_copy && result >= 0 && (what == TUNSETOFFLOAD || what == TUNSETVNETHDRSZ || what == TUNSETVNETLE || what == TUNSETVNETBE))
        note(file, what, pointer);
    return result;
}

// MARK: a copy

static void tell(struct answer answer, int descriptor) {
    char space[CMSG_SPACE(sizeof(int))] = { 0 };
    struct iovec piece = { &answer, sizeof answer };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
    if (descriptor >= 0) {
        message.msg_control = space;
        message.msg_controllen = sizeof space;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
    }
    (void)!sendmsg(connection, &message, MSG_NOSIGNAL);  // who asked may be gone; then its namespaces end the copy
}

static void check(long result, int step) {
    if (result >= 0) return;
    tell((struct answer){ FAILED, step, errno }, -1);
    _exit(127);
}

// The namespaces of its monitor, and then its own; a root with nothing in it.
static void enter(void) {
    check(setns(passed[1], CLONE_NEWNS), 1);
    check(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP), 2);
    check(mount("", "/", NULL, MS_REC | MS_SLAVE, NULL), 3);
    check(chdir(request.root), 4);
    check(syscall(SYS_pivot_root, ".", "."), 5);
    check(umount2(".", MNT_DETACH), 6);
    check(chdir("/"), 7);
    check(setsid(), 8);
}

// Memory of its own in the place of what the others see; with the same in it, unless that was made before.
static void fill(struct mapping *mapping, int file) {
    off_t data = mapping->offset, end = mapping->offset + (off_t)mapping->length;
    int is_empty = lseek(file, 0, SEEK_DATA) < 0;
    while (is_empty && (data = lseek(mapping->file, data, SEEK_DATA)) >= 0 && data < end) {
        off_t hole = lseek(mapping->file, data, SEEK_HOLE);
        check(hole, 18);
        if (hole > end) hole = end;
        while (data < hole) {
            ssize_t done = pwrite(file, mapping->address + (data - mapping->offset), (size_t)(hole - data), data);
            check(done, 18);
            data += done;
        }
    }
    void *place = (void *)syscall(SYS_mmap, mapping->address, mapping->length, mapping->protection,
        MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file, mapping->offset);
    check(place == MAP_FAILED ? -1 : 0, 18);
}

// Its own descriptors in the places of the old ones. An event that was under way is told again: one too many is harmless.
static void exchange(void) {
    for (uint32_t i = 0; i < request.count; i++) {
        int target = request.targets[i], flags = fcntl(target, F_GETFL);
        for (int j = 0; j < MAPPINGS; j++)
            if (mappings[j].used && mappings[j].file == target) fill(&mappings[j], passed[2 + i]);
        check(fcntl(passed[2 + i], F_SETFL, flags), 9);
        check(dup3(passed[2 + i], target, O_CLOEXEC), 9);
        for (int j = 0; j < SETTINGS; j++) {
            if (!settings[j].used || settings[j].file != target) continue;
            void *value = settings[j].request == TUNSETOFFLOAD ? (void *)(intptr_t)settings[j].value : &settings[j].value;
            check(syscall(SYS_ioctl, target, settings[j].request, value), 10);
        }
    }
    for (int i = 0; i < passed_count; i++) syscall(SYS_close, passed[i]);
    for (int file = 0; file < DESCRIPTORS; file++) {
        if (!events[file]) continue;
        int made = (int)syscall(SYS_eventfd2, 1, EFD_CLOEXEC | (events[file] == 2 ? EFD_NONBLOCK : 0));
        check(made, 11);
        check(dup3(made, file, O_CLOEXEC), 11);
        syscall(SYS_close, made);
    }
    syscall(SYS_close, listener);
    syscall(SYS_close, own_namespace);
}

static void give_up_rights(void) {
    struct rlimit none = { 0, 0 }, some;
    check(setrlimit(RLIMIT_CORE, &none), 12);
    check(getrlimit(RLIMIT_NPROC, &some), 12);
    if (some.rlim_max > 1024) some.rlim_max = 1024;
    some.rlim_cur = some.rlim_max;
    check(setrlimit(RLIMIT_NPROC, &some), 12);
    for (int c = 0; c < 64; c++)
        if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL) check(-1, 13);
    // By the kernel's own calls: the C library's would ask the other threads, which are not there yet.
    check(syscall(SYS_setgroups, 0, NULL), 14);
    check(syscall(SYS_setresgid, request.user, request.user, request.user), 14);
    check(syscall(SYS_setresuid, request.user, request.user, request.user), 14);
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2] = { { 0 }, { 0 } };
    check(syscall(SYS_capset, &head, data), 15);
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 16);
    check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0), 17);
}

static void belong_again(struct thread *thread) {
    syscall(SYS_set_robust_list, thread->robust, thread->robust_size);
    // A process has its parent's; a thread has none, and a kernel that finds it registered already says so.
    if (&__rseq_size && __rseq_size) {
        char *area = (char *)thread->base + __rseq_offset;
        *(int *)(area + 4) = -1;  // RSEQ_CPU_ID_UNINITIALIZED, until the kernel writes it
        syscall(SYS_rseq, area, 32, 0, 0x53053053);
    }
}

// The copy's first steps, in its only thread.
static int copy(void) {
    char go;
    // From here on it is counted where it belongs.
    check(read(connection, &go, 1) - 1, 0);
    enter();
    exchange();
    give_up_rights();
    tell((struct answer){ CONFINED, 0, 0 }, -1);
    syscall(SYS_close, connection);
    if (shown_name) memcpy(shown_name, request.name, strnlen(request.name, strlen(shown_name)));
    *number_of(&threads[0]) = threads[0].number = (int)syscall(SYS_gettid);
    syscall(SYS_set_tid_address, number_of(&threads[0]));
    is_copy = 1;
    is_copying = 0;
    unsigned saved = turn++;
    for (int i = 1; i < THREADS; i++) {
        struct thread *thread = &threads[i];
        if (thread->is_server || thread->saved != saved) continue;
        unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS
            | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
        long number = hull_thread(flags, (thread->registers[6] - 32768) & ~15ul, number_of(thread), number_of(thread), thread->base,
            thread->registers);
        if (number < 0) _exit(127);
        thread->number = (int)number;
    }
    hull_resume(threads[0].registers);
}

// In the monitor's pid namespace, with QEMU's memory and without a life of its own: only from here can the copy get a pid namespace
// below the monitor's, and so end with it. When this ends, the copy is the monitor's child, as PID 1 of that namespace.
static char middle_stack[65536] __attribute__((aligned(16)));
static int middle(void) {
    long made = hull_process(CLONE_NEWPID | CLONE_PIDFD | SIGCHLD, 0, &made_descriptor, copy);
    made_error = made < 0 ? (int)-made : 0;
    return 0;
}

static void make_copy(void) {
    made_descriptor = -1;
    made_error = 0;
    if (setns(passed[0], CLONE_NEWPID) < 0) {
        made_error = errno;
        return;
    }
    int unused;
    long helper = hull_process(CLONE_VM | CLONE_FILES | CLONE_VFORK, (unsigned long)middle_stack + sizeof middle_stack, &unused, middle);
    if (helper < 0) made_error = (int)-helper;
    // Gone for good: the copy has its new parent.
    else while (syscall(SYS_wait4, helper, NULL, __WALL, NULL) < 0 && errno == EINTR) {}
    if (setns(own_namespace, CLONE_NEWPID) < 0) abort();
}

static long milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// Whether all threads but the server's stand where they were saved. One that begins or ends is not where it could go on.
static int all_stand(unsigned now) {
    for (int i = 1; i < THREADS; i++)
        if (threads[i].state != FREE && !threads[i].is_server && threads[i].saved != now) return 0;
    return 1;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number, (void)info, (void)context;
    int before = errno;
    struct thread *thread = mine;
    unsigned now = turn;
    if (!is_copying) return;  // too late for a copy that was given up
    syscall(SYS_get_robust_list, 0, &thread->robust, &thread->robust_size);
    if (hull_save(thread->registers)) {
        belong_again(mine);
    } else if (thread != &threads[0]) {
        thread->saved = now;
        arrived++;
        futex(&arrived, FUTEX_WAKE, 1);
        while (turn == now) futex(&turn, FUTEX_WAIT, now);
    } else {
        struct timespec little = { 0, 2000000 };
        long limit = milliseconds() + 100;
        unsigned have;
        made_error = EAGAIN;
        while (have = arrived, !all_stand(now) && milliseconds() < limit)
            syscall(SYS_futex, &arrived, FUTEX_WAIT, have, &little, NULL, 0);
        if (all_stand(now)) make_copy();
        is_copying = 0;
        turn++;
        futex(&turn, FUTEX_WAKE, 0x7fffffff);
    }
    errno = before;
}

// MARK: those who ask

static int receive(void) {
    char space[CMSG_SPACE(sizeof passed)];
    struct iovec piece = { &request, sizeof request };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
    ssize_t size = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    passed_count = 0;
    struct cmsghdr *head = size >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
        passed_count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(passed, CMSG_DATA(head), sizeof(int) * (size_t)passed_count);
    }
    return size == sizeof request && request.version == VERSION && request.count <= PASSED
        && passed_count == (int)request.count + 2 && memchr(request.root, 0, sizeof request.root)
        && memchr(request.name, 0, sizeof request.name);
}

// One try: who begins or ends just then spoils it.
static void try_to_copy(void) {
    pid_t process = getpid();
    for (int i = 1; i < THREADS; i++) {
        int ending = ENDING;
        if (threads[i].state == ENDING && is_gone(&threads[i])) atomic_compare_exchange_strong(&threads[i].state, &ending, FREE);
    }
    unsigned now = turn;
    is_copying = 1;
    for (int i = 0; i < THREADS; i++)
        if (threads[i].state == RUNNING && !threads[i].is_server) syscall(SYS_tgkill, process, threads[i].number, SIGNAL);
    while (turn == now) futex(&turn, FUTEX_WAIT, now);
}

static void *serve(void *unused) {
    (void)unused;
    mine->is_server = 1;
    sigset_t all;
    sigfillset(&all);
    REAL(pthread_sigmask)(SIG_SETMASK, &all, NULL);
    for (;;) {
        connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) {
            usleep(10000);
            continue;
        }
        // Nobody who is silent keeps the others waiting.
        struct timeval limit = { 1, 0 };
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        request.version = 0;
        if (receive()) {
            // The copy waits for a word on it, too, for as long as its monitor may take.
            limit.tv_sec = 10;
            setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
            for (int i = 0; i < 10; i++) {
                try_to_copy();
                if (made_error != EAGAIN) break;
                usleep(2000);
            }
            if (made_error) tell((struct answer){ FAILED, 0, made_error }, -1);
            else tell((struct answer){ MADE, 0, 0 }, made_descriptor);
            if (made_descriptor >= 0) syscall(SYS_close, made_descriptor);
            made_descriptor = -1;
        } else if (passed_count || request.version) tell((struct answer){ FAILED, 0, EPROTO }, -1);
        for (int i = 0; i < passed_count; i++) syscall(SYS_close, passed[i]);
        syscall(SYS_close, connection);
    }
    return NULL;
}

// The C library gives constructors what main gets.
__attribute__((constructor)) static void prepare(int count, char **words) {
    const char *word = getenv("HULL_AWAKE");
    if (!word) return;
    for (int i = 1; i + 1 < count; i++) if (!strcmp(words[i], "-name")) shown_name = words[i + 1];
    // The listening socket, our own pid namespace, the filter of the copies' calls, and the connection to the share's server, where there is one.
    int numbers[4] = { -1, -1, -1, -1 }, rules;
    for (int i = 0; i < 4 && *word; i++) {
        numbers[i] = (int)strtol(word, (char **)&word, 10);
        if (*word) word++;
    }
    for (int i = 0; i < 3; i++) fcntl(numbers[i], F_SETFD, FD_CLOEXEC);
    share = numbers[3];
    listener = numbers[0];
    fcntl(listener, F_SETFL, 0);  // it is waited at
    own_namespace = numbers[1];
    if ((rules = (int)pread(numbers[2], filter, sizeof filter, 0)) <= 0 || rules % sizeof *filter) abort();
    program.len = (unsigned short)((size_t)rules / sizeof *filter);
    syscall(SYS_close, numbers[2]);
    pthread_key_create(&key, ended);
    threads[0].state = RUNNING;
    attach(&threads[0]);
    // Where the C library keeps a thread's number, which it never says.
    for (int offset = 0; offset < 2304 && number_offset < 0; offset += 4)
        if (*(int *)((char *)threads[0].base + offset) == threads[0].number) number_offset = offset;
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigfillset(&action.sa_mask);
    pthread_t thread;
    if (number_offset < 0 || sigaction(SIGNAL, &action, NULL) || pthread_create(&thread, NULL, serve, NULL)) abort();
}
