// What Xen's Dom0 offers to programs beside its tools: pages of other domains, events, and loop devices for their disks.
#include "CLinux.h"
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
typedef uint16_t domid_t; // the headers mean the hypervisor's
typedef uint32_t grant_ref_t;
#include <xen/evtchn.h>
#include <xen/gntdev.h>

int hull_xen_map(int device, unsigned domain, const uint32_t *references, size_t count, void **mapped) {
    enum { MOST = 64 };
    // The references follow the fields, as many as pages.
    uint64_t words[2 + MOST + 1] = {0};
    struct ioctl_gntdev_map_grant_ref *map = (void *)words;
    if (count == 0 || count > MOST) return -EINVAL;
    map->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        map->refs[i].domid = domain;
        map->refs[i].ref = references[i];
    }
    if (ioctl(device, IOCTL_GNTDEV_MAP_GRANT_REF, map) < 0) return -errno;
    *mapped = mmap(NULL, count * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)map->index);
    return *mapped == MAP_FAILED ? -errno : 0;
}

int hull_xen_bind(int events, unsigned domain, unsigned port) {
    struct ioctl_evtchn_bind_interdomain bind = {.remote_domain = domain, .remote_port = port};
    int local = ioctl(events, IOCTL_EVTCHN_BIND_INTERDOMAIN, &bind);
    return local < 0 ? -errno : local;
}

int hull_xen_notify(int events, unsigned port) {
    struct ioctl_evtchn_notify notify = {.port = port};
    return ioctl(events, IOCTL_EVTCHN_NOTIFY, &notify) < 0 ? -errno : 0;
}

// xen/privcmd.h, which includes a header that is not installed with it.
struct privcmd_hypercall {
    uint64_t op, arg[5];
};
#define IOCTL_PRIVCMD_HYPERCALL _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))

// A hypercall with a command, or none (0), and an argument of `size` bytes, which Xen may change. What it returns, or -errno.
static long hypercall(uint64_t number, uint64_t command, void *argument, size_t size) {
    int control = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC), pages = open("/dev/xen/hypercall", O_RDWR | O_CLOEXEC);
    long result = -errno;
    if (control >= 0 && pages >= 0) {
        // The kernel never moves such a page, not even while it makes room: Xen reads it by our page tables.
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, pages, 0);
        if (page == MAP_FAILED) {
            result = -errno;
        } else {
            memcpy(page, argument, size);
            struct privcmd_hypercall call = {.op = number, .arg = {command ? command : (uintptr_t)page, command ? (uintptr_t)page : 0}};
            result = ioctl(control, IOCTL_PRIVCMD_HYPERCALL, &call);
            if (result < 0) result = -errno;
            memcpy(argument, page, size);
            munmap(page, 4096);
        }
    }
    if (control >= 0) close(control);
    if (pages >= 0) close(pages);
    return result;
}

// Numbers of xen/include/public: xen.h, memory.h, domctl.h.
long hull_xen_pages(unsigned domain) {
    enum { MEMORY_OP = 12, CURRENT_RESERVATION = 4 };
    domid_t id = (domid_t)domain;
    return hypercall(MEMORY_OP, CURRENT_RESERVATION, &id, sizeof id);
}

// xen/include/public/domctl.h, as much of it as has been the same since 4.16.
struct domctl {
    uint32_t command, version;
    domid_t domain;
    uint16_t padding[3];
    union {
        struct {
            domid_t domain;
            uint16_t padding;
            uint32_t flags;
        } info;
        uint64_t all[16];
    };
};

static long domctl(struct domctl *control) {
    enum { DOMCTL = 36, OLDEST = 0x14, NEWEST = 0x17 };
    // The last one taken is asked first. Xen refuses each version but its own before it does anything.
    static uint32_t known = NEWEST;
    control->version = known;
    long result = hypercall(DOMCTL, 0, control, sizeof *control);
    for (uint32_t version = NEWEST; result == -EACCES && version >= OLDEST; version--) {
        control->version = version;
        result = hypercall(DOMCTL, 0, control, sizeof *control);
        if (result != -EACCES) known = version;
    }
    return result;
}

int hull_xen_pause(unsigned domain, int still) {
    enum { PAUSE = 3, UNPAUSE = 4 };
    struct domctl control = {.command = still ? PAUSE : UNPAUSE, .domain = (domid_t)domain};
    return (int)domctl(&control);
}

long hull_xen_state(unsigned domain) {
    enum { INFO = 5 };
    struct domctl control = {.command = INFO, .domain = (domid_t)domain};
    long result = domctl(&control);
    if (result < 0) return result;
    // Before 4.19 Xen goes on to the next domain where there is none of that number.
    return control.info.domain == domain ? (long)control.info.flags : -ESRCH;
}

int hull_loop_attach(int file, int read_only, unsigned *number) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0) return -errno;
    int result = -EBUSY;
    // Somebody else may be quicker to take the free one.
    for (int attempt = 0; attempt < 64 && result == -EBUSY; attempt++) {
        char path[32];
        int free = ioctl(control, LOOP_CTL_GET_FREE);
        if (free < 0) { result = -errno; break; }
        snprintf(path, sizeof path, "/dev/loop%d", free);
        int device = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        if (device < 0) { result = -errno; break; }
        struct loop_config config = {.fd = (uint32_t)file};
        config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0) {
            *number = (unsigned)free;
            result = device;
        } else {
            result = -errno;
            close(device);
        }
    }
    close(control);
    return result;
}

unsigned hull_device_major(uint64_t device) { return major(device); }
unsigned hull_device_minor(uint64_t device) { return minor(device); }
