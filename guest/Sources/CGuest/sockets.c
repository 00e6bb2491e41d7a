// Unix sockets that stand for ones of the host: where the agent listens, and the relays of what comes there.
#include "CGuest.h"
#include <poll.h>
#include <sys/un.h>

int guest_listen(const char *path, int datagram, unsigned mode, unsigned uid, unsigned gid) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, (datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    unlink(path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || chown(path, uid, gid) < 0 || chmod(path, mode & 07777) < 0 ||
        (!datagram && listen(fd, 64) < 0)) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static void place(int listener, int input, int output) {
    listener = fcntl(listener, F_DUPFD, 10);
    input = fcntl(input, F_DUPFD, 10);
    output = fcntl(output, F_DUPFD, 10);
    dup2(input, 0);
    dup2(output, 1);
    dup2(listener, 2);
    close_range(3, ~0u, 0);
    signal(SIGPIPE, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void number(unsigned char *at, unsigned value) {
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (8 * i));
}

static void tell(const unsigned char *bytes, size_t count) {
    while (count) {
        ssize_t n = write(1, bytes, count);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(0);
        bytes += n;
        count -= (size_t)n;
    }
}

// One direction: what was read and is not written yet.
struct flow {
    unsigned char bytes[32768];
    size_t from, to;
    int open;
};

static int fill(struct flow *flow, int fd) {
    ssize_t n = read(fd, flow->bytes, sizeof flow->bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    flow->from = 0;
    flow->to = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static int drain(struct flow *flow, int fd) {
    ssize_t n = write(fd, flow->bytes + flow->from, flow->to - flow->from);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    flow->from += (size_t)n;
    return 1;
}

_Noreturn void guest_relay_connection(int listener, int input, int output) {
    static struct flow up, down;
    place(listener, input, output);
    int peer;
    while ((peer = accept(2, NULL, NULL)) < 0)
        if (errno != EINTR && errno != ECONNABORTED) _exit(1);
    close(2);
    struct ucred who = {0};
    socklen_t length = sizeof who;
    getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &length);
    unsigned char head[8];
    number(head, who.uid);
    number(head + 4, who.gid);
    tell(head, sizeof head);
    for (int fd = 0; fd < 2; fd++) fcntl(fd, F_SETFL, O_NONBLOCK);
    fcntl(peer, F_SETFL, O_NONBLOCK);
    up.open = down.open = 1;
    while (up.open || down.open) {
        int above = up.to - up.from > 0, below = down.to - down.from > 0;
        short wanted = (short)((up.open && !above ? POLLIN : 0) | (below ? POLLOUT : 0));
        // An end that has hung up says so all the time: it is asked only where that is of use.
        struct pollfd watched[3] = {
            {.fd = down.open && !below ? 0 : -1, .events = POLLIN},
            {.fd = up.open ? 1 : -1, .events = above ? POLLOUT : 0},
            {.fd = wanted || !up.open ? peer : -1, .events = wanted},
        };
        if (poll(watched, 3, -1) < 0) continue;
        if (watched[1].revents & POLLERR) {
            // The host's side reads no more.
            up.open = 0;
            up.from = up.to;
            shutdown(peer, SHUT_RD);
            close(1);
        } else if (above && watched[1].revents & POLLOUT && !drain(&up, 1)) {
            up.open = 0;
            up.from = up.to;
            shutdown(peer, SHUT_RD);
            close(1);
        } else if (up.open && !above && watched[2].revents & (POLLIN | POLLHUP | POLLERR) && !fill(&up, peer)) {
            up.open = 0;
            close(1);
        }
        if (below && watched[2].revents & (POLLOUT | POLLHUP | POLLERR)) {
            if (!drain(&down, peer)) down.open = 0;
        } else if (!below && watched[0].revents && !fill(&down, 0)) {
            shutdown(peer, SHUT_WR);
            down.open = 0;
        } else if (!below && !up.open && watched[2].revents & (POLLHUP | POLLERR)) {
            down.open = 0;  // nobody is there who could read what comes
        }
    }
    _exit(0);
}

_Noreturn void guest_relay_datagrams(int listener, int input, int output) {
    static unsigned char frame[4 + (208 << 10)];
    place(listener, input, output);
    while (1) {
        ssize_t n = recv(2, frame + 4, sizeof frame - 4, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) _exit(1);
        number(frame, (unsigned)n);
        tell(frame, 4 + (size_t)n);
    }
}
