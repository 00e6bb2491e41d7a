// The relay of name queries: some loopback address of the guest's network is a name server's on the host's side of it (Docker's 127.0.0.11).
#include "CGuest.h"
#include <netinet/in.h>
#include <poll.h>

enum { DATAGRAMS = 256, CONNECTIONS = 16, ROOM = 65535 };
static unsigned char frame[4 + ROOM];

static int whole(int fd, int writing, unsigned char *bytes, size_t count) {
    while (count) {
        ssize_t n = writing ? write(fd, bytes, count) : read(fd, bytes, count);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        bytes += n;
        count -= (size_t)n;
    }
    return 0;
}

static void tell(size_t count, unsigned slot) {
    frame[0] = (unsigned char)count; frame[1] = (unsigned char)(count >> 8);
    frame[2] = (unsigned char)slot; frame[3] = (unsigned char)(slot >> 8);
    if (whole(1, 1, frame, 4 + count) < 0) _exit(0);
}

_Noreturn void guest_relay_names(const char *address, int input, int output) {
    static struct sockaddr_in askers[DATAGRAMS];
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct pollfd watched[3 + CONNECTIONS];
    unsigned next = 0;
    int on = 1;
    dup2(input, 0);
    dup2(output, 1);
    close_range(2, ~0u, 0);
    inet_pton(AF_INET, address, &own.sin_addr);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0), listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(datagrams, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(datagrams, (struct sockaddr *)&own, sizeof own) < 0) _exit(1);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) < 0 || listen(listener, CONNECTIONS) < 0) _exit(1);
    for (int i = 0; i < 3 + CONNECTIONS; i++) watched[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    watched[0].fd = 0; watched[1].fd = datagrams; watched[2].fd = listener;
    while (1) {
        if (poll(watched, 3 + CONNECTIONS, -1) < 0) continue;
        if (watched[0].revents) {
            if (whole(0, 0, frame, 4) < 0) _exit(0);
            size_t count = frame[0] | (size_t)frame[1] << 8;
            unsigned slot = frame[2] | (unsigned)frame[3] << 8;
            if (whole(0, 0, frame + 4, count) < 0) _exit(0);
            if (slot < DATAGRAMS) {
                sendto(datagrams, frame + 4, count, 0, (struct sockaddr *)&askers[slot], sizeof own);
            } else if (slot < DATAGRAMS + CONNECTIONS && watched[3 + slot - DATAGRAMS].fd >= 0) {
                frame[2] = (unsigned char)(count >> 8); frame[3] = (unsigned char)count;
                send(watched[3 + slot - DATAGRAMS].fd, frame + 2, count + 2, MSG_NOSIGNAL);
            }
        }
        if (watched[1].revents) {
            socklen_t length = sizeof own;
            ssize_t n = recvfrom(datagrams, frame + 4, ROOM, 0, (struct sockaddr *)&askers[next], &length);
            if (n > 0) { tell((size_t)n, next); next = (next + 1) % DATAGRAMS; }
        }
        if (watched[2].revents) {
            int asker = accept(listener, NULL, NULL), i = 3;
            while (i < 3 + CONNECTIONS && watched[i].fd >= 0) i++;
            struct timeval patience = {.tv_sec = 2};
            setsockopt(asker, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
            setsockopt(asker, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
            if (i < 3 + CONNECTIONS) watched[i].fd = asker; else close(asker);
        }
        for (int i = 3; i < 3 + CONNECTIONS; i++) {
            if (watched[i].fd < 0 || !watched[i].revents) continue;
            unsigned char head[2];
            size_t count = 0;
            if (whole(watched[i].fd, 0, head, 2) == 0) count = (size_t)head[0] << 8 | head[1];
            if (count && whole(watched[i].fd, 0, frame + 4, count) == 0) { tell(count, DATAGRAMS + (unsigned)i - 3); continue; }
            close(watched[i].fd);
            watched[i].fd = -1;
        }
    }
}
