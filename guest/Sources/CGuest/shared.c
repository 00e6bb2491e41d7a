// Memory that this domain shares with domain 0 of Xen, and events between the two (Documentation: xen/gntalloc.h, xen/evtchn.h).
#include "CGuest.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
typedef uint16_t domid_t; // the header means the hypervisor's
#include <xen/evtchn.h>
#include <xen/gntalloc.h>

// What was shared last, and the device that it is granted by as long as that is open.
static void *shared;
static int grantor = -1;

void *guest_share_memory(uint32_t *references, unsigned pages, int *events, uint32_t *channel) {
    if (shared) {
        munmap(shared, pages * 4096ul);
        close(grantor);
        shared = NULL;
    }
    // The references follow the fields, as many as pages.
    uint32_t words[sizeof(struct ioctl_gntalloc_alloc_gref) / 4 + 64];
    struct ioctl_gntalloc_alloc_gref *grants = (void *)words;
    struct ioctl_evtchn_bind_unbound_port unbound = {.remote_domain = 0};
    int memory = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC), bound;
    *events = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (memory < 0 || *events < 0 || pages > 64) goto none;
    *grants = (struct ioctl_gntalloc_alloc_gref){.domid = 0, .flags = GNTALLOC_FLAG_WRITABLE, .count = pages};
    if (ioctl(memory, IOCTL_GNTALLOC_ALLOC_GREF, grants) < 0) goto none;
    void *mapped = mmap(NULL, pages * 4096ul, PROT_READ | PROT_WRITE, MAP_SHARED, memory, (off_t)grants->index);
    if (mapped == MAP_FAILED || (bound = ioctl(*events, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &unbound)) < 0) goto none;
    memcpy(references, grants->gref_ids, pages * 4ul);
    *channel = (uint32_t)bound;
    grantor = memory;
    return shared = mapped;
none:
    if (memory >= 0) close(memory);
    if (*events >= 0) close(*events);
    return NULL;
}

int guest_ask_store(unsigned kind, const uint8_t *bytes, unsigned count, int stays) {
    // struct xsd_sockmsg: what is asked, a number, no transaction, the length (xen/include/public/io/xs_wire.h).
    uint8_t message[16 + 128], answer[128];
    uint32_t head[4] = {kind, 1, 0, count};
    int result, store = open("/dev/xen/xenbus", O_RDWR | O_CLOEXEC);
    if (store < 0) return -errno;
    memcpy(message, head, 16);
    memcpy(message + 16, bytes, count);
    if (count > 128 || write(store, message, 16 + count) < 0 || read(store, answer, sizeof answer) < 16) result = -EIO;
    else if (memcpy(head, answer, 16), head[0] == 16) result = -ENOENT;
    else if (stays && fcntl(store, F_SETFL, O_RDWR | O_NONBLOCK) == 0) return store;
    else result = (int)head[3];
    close(store);
    return result;
}

void guest_keep_open(int descriptor) { fcntl(descriptor, F_DUPFD_CLOEXEC, 3); }

void guest_notify(int events, uint32_t channel) {
    struct ioctl_evtchn_notify notify = {.port = channel};
    ioctl(events, IOCTL_EVTCHN_NOTIFY, &notify);
}

void guest_take_event(int events) {
    uint32_t channel;
    // Written back, the channel is open for the next one.
    while (read(events, &channel, sizeof channel) == sizeof channel)
        if (write(events, &channel, sizeof channel) < 0) return;
}
