// io MODE FILE MEGABYTES: the one program that reads and writes on both sides of the benchmark; prints a rate.
//   write, read           sequential, 1 MiB at a time, MB/s (write ends with fsync)
//   randwrite, randread   4 KiB at random places with O_DIRECT where the file allows it, operations a second
//   tick                  FILE is not touched: so much memory is dirtied, then a line is printed every 2 ms, for ever
//   stat                  FILE is a folder, made with so many empty files (the third word): lstat of each, operations a second
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
