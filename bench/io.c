// io MODE FILE MEGABYTES: the one program that reads and writes on both sides of the benchmark; prints a rate.
//   write, read           sequential, 1 MiB at a time, MB/s (write ends with fsync)
//   randwrite, randread   4 KiB at random places with O_DIRECT where the file allows it, operations a second
//   tick                  FILE is not touched: so much memory is dirtied, then a line is printed every 2 ms, for ever
//   stat                  FILE is a folder, made with so many empty files (the third word): lstat of each, operations a second
//   serve                 FILE is an IPv4 address: answers the following at port 9000, until it is killed
//   send, receive, turn   FILE is a server's address: so many megabytes there or back, MB/s; so many bytes there and back, µs each
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int stat_many(const char *folder, long files) {
    char path[256];
    struct stat status;
    mkdir(folder, 0755);
    for (long i = 0; i < files; i++) {
        snprintf(path, sizeof path, "%s/%ld", folder, i);
        int file = open(path, O_WRONLY | O_CREAT, 0644);
        if (file < 0) return fail(path);
        close(file);
    }
    sleep(2); // longer than a share's entries are good for
    double began = now();
    for (long i = 0; i < files; i++) {
        snprintf(path, sizeof path, "%s/%ld", folder, i);
        if (lstat(path, &status)) return fail(path);
    }
    printf("%.0f\n", files / (now() - began));
    return 0;
}

static char block[1 << 16];

// What is asked for comes first: a letter, and a number of bytes.
static void answer(int peer) {
    long asked[2], left;
    if (recv(peer, asked, sizeof asked, MSG_WAITALL) != sizeof asked) return;
    left = asked[1];
    if (asked[0] == 't') {
        while (left-- > 0 && read(peer, block, 1) == 1 && write(peer, block, 1) == 1) {}
        return;
    }
    while (left > 0) {
        ssize_t done = asked[0] == 's' ? read(peer, block, sizeof block) : write(peer, block, sizeof block);
        if (done <= 0) return;
        left -= done;
    }
    if (asked[0] == 's' && write(peer, block, 1) != 1) return;
    while (read(peer, block, 1) > 0) {}
}

static int network(const char *mode, const char *host, long amount) {
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9000) };
    int one = 1, peer = socket(AF_INET, SOCK_STREAM, 0);
    if (peer < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1) return fail(host);
    if (!strcmp(mode, "serve")) {
        setsockopt(peer, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(peer, (struct sockaddr *)&address, sizeof address) || listen(peer, 8)) return fail(host);
        signal(SIGCHLD, SIG_IGN);
        while ((one = accept(peer, NULL, NULL)) >= 0) {
            if (fork() == 0) {
                int flag = 1;
                setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &flag, sizeof flag);
                answer(one);
                _exit(0);
            }
            close(one);
        }
        return fail("accept");
    }
    if (connect(peer, (struct sockaddr *)&address, sizeof address)) return fail(host);
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    long asked[2] = { mode[0], amount * (mode[0] == 't' ? 1 : 1 << 20) }, left = asked[1];
    double began = now();
    if (write(peer, asked, sizeof asked) != sizeof asked) return fail(mode);
    if (mode[0] == 't') {
        while (left-- > 0)
            if (write(peer, block, 1) != 1 || read(peer, block, 1) != 1) return fail(mode);
        printf("%.1f\n", (now() - began) / amount * 1e6);
        return 0;
    }
    while (left > 0) {
        ssize_t done = mode[0] == 's' ? write(peer, block, sizeof block) : read(peer, block, sizeof block);
        if (done <= 0) return fail(mode);
        left -= done;
    }
    // Only what the other side says it has counts.
    if (mode[0] == 's' && read(peer, block, 1) != 1) return fail(mode);
    printf("%.1f\n", amount / (now() - began));
    return 0;
}

static int tick(long megabytes) {
    size_t bytes = (size_t)megabytes << 20;
    unsigned char *memory = malloc(bytes);
    if (!memory) return fail("memory");
    // No two pages alike, and none of zeros.
    unsigned value = 1;
    for (size_t i = 0; i < bytes; i += 4) {
        value = value * 1664525 + 1013904223;
        memcpy(memory + i, &value, 4);
    }
    struct timespec pause = {0, 2000000};
    for (;;) {
        if (write(1, "\n", 1) != 1) return 0;
        nanosleep(&pause, NULL);
    }
}

int main(int count, char **words) {
    if (count != 4) return 2;
    const char *mode = words[1], *path = words[2];
    long megabytes = atol(words[3]);
    if (!strcmp(mode, "tick")) return tick(megabytes);
    if (!strcmp(mode, "stat")) return stat_many(path, megabytes);
    if (strstr("serve send receive turn", mode)) return network(mode, path, megabytes);
    int scattered = strncmp(mode, "rand", 4) == 0, writing = strstr(mode, "write") != NULL;
    int flags = writing ? O_RDWR | O_CREAT | (scattered ? 0 : O_TRUNC) : O_RDONLY;
    int file = open(path, flags | (scattered ? O_DIRECT : 0), 0644);
    if (file < 0 && scattered) file = open(path, flags, 0644);
    if (file < 0) return fail(path);
    void *buffer;
    if (posix_memalign(&buffer, 4096, 1 << 20)) return fail("memory");
    memset(buffer, 'h', 1 << 20);

    double began = now();
    if (!scattered) {
        for (long i = 0; i < megabytes; i++) {
            ssize_t done = writing ? write(file, buffer, 1 << 20) : read(file, buffer, 1 << 20);
            if (done != 1 << 20) return fail(mode);
        }
        if (writing && fsync(file)) return fail("fsync");
        printf("%.1f\n", megabytes / (now() - began));
        return 0;
    }
    long operations = 2000, pages = megabytes * 256;
    srandom(1);
    for (long i = 0; i < operations; i++) {
        off_t at = (random() % pages) * 4096L;
        ssize_t done = writing ? pwrite(file, buffer, 4096, at) : pread(file, buffer, 4096, at);
        if (done != 4096) return fail(mode);
    }
    if (writing && fsync(file)) return fail("fsync");
    printf("%.0f\n", operations / (now() - began));
    return 0;
}
