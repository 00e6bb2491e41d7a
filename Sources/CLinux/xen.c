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
