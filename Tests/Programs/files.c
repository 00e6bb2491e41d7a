// files DIR COUNT: what programs ask of a file system, inside of a container; a line for each: "ok NAME" or "FAILED NAME …".
// With COUNT, a tree of that many files is made, walked and removed too. Leaves `owned`, `hard`, `mapped` and `direct` for the host to look at.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define need(x) do { if (!(x)) { snprintf(why, sizeof why, "line %d: %s: %s", __LINE__, #x, strerror(errno)); return 0; } } while (0)
static char why[512];

static int put(const char *name, const char *text) {
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return 0;
    int good = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    return close(fd) == 0 && good;
}
static int holds(const char *name, const char *text) {
    char buffer[256] = {0};
    int fd = open(name, O_RDONLY);
    if (fd < 0) return 0;
    ssize_t got = read(fd, buffer, sizeof buffer - 1);
    close(fd);
    return got == (ssize_t)strlen(text) && memcmp(buffer, text, got) == 0;
}

static int ownership(void) {
    struct stat s;
    need(put("owned", "x"));
    need(chown("owned", 123, 456) == 0);
    need(chmod("owned", 04751) == 0);
    need(stat("owned", &s) == 0 && s.st_uid == 123 && s.st_gid == 456 && (s.st_mode & 07777) == 04751);
    struct timespec times[2] = {{1000000000, 5}, {1100000000, 7}};
    need(utimensat(AT_FDCWD, "owned", times, 0) == 0);
    need(stat("owned", &s) == 0 && s.st_mtim.tv_sec == 1100000000 && s.st_mtim.tv_nsec == 7);
    // An ordinary user is bound by it.
    need(put("mine", "x") && chmod("mine", 0600) == 0);
    pid_t child = fork();
    if (child == 0) _exit(setgid(1000) || setuid(1000) ? 9 : open("mine", O_RDONLY) >= 0 ? 1 : errno == EACCES ? 0 : 2);
    int status;
    need(waitpid(child, &status, 0) == child && status == 0);
    return 1;
}
static int attributes(void) {
    char value[16] = {0}, list[256];
    need(setxattr("owned", "user.hull", "value", 5, 0) == 0);
    need(getxattr("owned", "user.hull", value, sizeof value) == 5 && strcmp(value, "value") == 0);
    need(listxattr("owned", list, sizeof list) >= 10);
    need(setxattr("owned", "user.gone", "v", 1, 0) == 0 && removexattr("owned", "user.gone") == 0);
    need(getxattr("owned", "user.gone", value, sizeof value) == -1 && errno == ENODATA);
    return 1;
}
static int hard_links(void) {
    struct stat a, b;
    need(put("hard", "one"));
    need(link("hard", "hard2") == 0);
    need(stat("hard", &a) == 0 && stat("hard2", &b) == 0 && a.st_ino == b.st_ino && a.st_nlink == 2);
    need(put("hard2", "both") && holds("hard", "both"));
    return 1;
}
static int other_links(void) {
    char target[64];
    need(symlink("hard", "soft") == 0 && holds("soft", "both"));
    need(readlink("soft", target, sizeof target) == 4);
    need(mkfifo("pipe", 0600) == 0);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
    need(bind(s, (struct sockaddr *)&address, sizeof address) == 0 && listen(s, 1) == 0);
    int c = socket(AF_UNIX, SOCK_STREAM, 0);
    need(connect(c, (struct sockaddr *)&address, sizeof address) == 0);
    return close(c) == 0 && close(s) == 0;
}
static int mapping(void) {
    int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);
    need(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(map != MAP_FAILED);
    for (int i = 0; i < 256; i++) memset(map + i * 4096, 'a' + i % 26, 4096);
    need(msync(map, 1 << 20, MS_SYNC) == 0);
    char buffer[4096];
    need(pread(fd, buffer, sizeof buffer, 255 * 4096) == 4096 && buffer[0] == 'a' + 255 % 26 && buffer[4095] == buffer[0]);
    need(pwrite(fd, "Z", 1, 0) == 1 && map[0] == 'Z');
    char *copy = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    need(copy != MAP_FAILED);
    copy[1] = 'Y';
    need(map[1] == 'a');
    return munmap(map, 1 << 20) == 0 && munmap(copy, 4096) == 0 && close(fd) == 0;
}
static int locks(void) {
    int a = open("owned", O_RDWR), b = open("owned", O_RDWR);
    need(a >= 0 && b >= 0);
    need(flock(a, LOCK_EX) == 0);
    need(flock(b, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    need(flock(a, LOCK_UN) == 0 && flock(b, LOCK_EX | LOCK_NB) == 0);
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    need(fcntl(a, F_SETLK, &range) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct flock mine = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 12, .l_len = 1};
        int c = open("owned", O_RDWR);
        if (fcntl(c, F_SETLK, &mine) != -1) _exit(1);
        mine.l_start = 20;
        _exit(fcntl(c, F_SETLK, &mine) == 0 ? 0 : 2);
    }
    int status;
    need(waitpid(child, &status, 0) == child && status == 0);
    return close(a) == 0 && close(b) == 0;
}
static int direct(void) {
    int fd = open("direct", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0644);
    need(fd >= 0);
    char *buffer = aligned_alloc(4096, 65536);
    memset(buffer, 'd', 65536);
    need(pwrite(fd, buffer, 65536, 65536) == 65536);
    memset(buffer, 0, 65536);
    need(pread(fd, buffer, 65536, 65536) == 65536 && buffer[0] == 'd' && buffer[65535] == 'd');
    need(pread(fd, buffer, 65536, 0) == 65536 && buffer[0] == 0);
    free(buffer);
    return close(fd) == 0;
}
static int renaming(void) {
    char buffer[8] = {0};
    need(put("target", "old") && put("source", "new"));
    int fd = open("target", O_RDWR);
    need(fd >= 0 && rename("source", "target") == 0);
    need(read(fd, buffer, 8) == 3 && memcmp(buffer, "old", 3) == 0);
    need(holds("target", "new"));
    need(pwrite(fd, "OLD", 3, 0) == 3 && holds("target", "new"));
    need(unlink("target") == 0 && pread(fd, buffer, 8, 0) == 3 && memcmp(buffer, "OLD", 3) == 0);
    need(mkdir("dir", 0755) == 0 && put("dir/inside", "x") && rename("dir", "moved") == 0 && holds("moved/inside", "x"));
    need(rmdir("moved") == -1 && errno == ENOTEMPTY);
    need(put("x1", "1") && put("x2", "2") && renameat2(AT_FDCWD, "x1", AT_FDCWD, "x2", RENAME_NOREPLACE) == -1 && errno == EEXIST);
    return close(fd) == 0;
}
static int holes(void) {
    struct stat s;
    int fd = open("sparse", O_RDWR | O_CREAT, 0644);
    need(fd >= 0 && ftruncate(fd, 1L << 32) == 0 && pwrite(fd, "end", 3, (1L << 32) - 3) == 3);
    need(fstat(fd, &s) == 0 && s.st_size == 1L << 32 && s.st_blocks < 4096);
    need(fallocate(fd, 0, 0, 1 << 16) == 0);
    return close(fd) == 0 && unlink("sparse") == 0;
}
static int watching(void) {
    char buffer[4096];
    int w = inotify_init1(IN_NONBLOCK);
    need(w >= 0 && inotify_add_watch(w, ".", IN_CREATE | IN_DELETE) >= 0);
    need(put("watched", "x") && unlink("watched") == 0);
    ssize_t got = read(w, buffer, sizeof buffer);
    need(got > 0 && (((struct inotify_event *)buffer)->mask & IN_CREATE));
    return close(w) == 0;
}

static long wanted, found;
static int count_one(const char *path, const struct stat *s, int kind, struct FTW *f) {
    (void)path, (void)f;
    found += kind == FTW_F && s->st_size == 1;
    return 0;
}
static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f) {
    (void)s, (void)kind, (void)f;
    return remove(path);
}
static int tree(void) {
    char name[64];
    need(mkdir("tree", 0755) == 0);
    for (long i = 0; i < wanted; i++) {
        if (i % 1000 == 0) {
            sprintf(name, "tree/%ld", i / 1000);
            need(mkdir(name, 0755) == 0);
        }
        sprintf(name, "tree/%ld/file-%ld", i / 1000, i);
        need(put(name, "x"));
    }
    need(nftw("tree", count_one, 64, FTW_PHYS) == 0 && found == wanted);
    int fd = open("after", O_RDWR | O_CREAT, 0644);  // descriptors are left
    need(fd >= 0 && close(fd) == 0);
    need(nftw("tree", remove_one, 64, FTW_PHYS | FTW_DEPTH) == 0);
    need(access("tree", F_OK) == -1 && errno == ENOENT);
    return 1;
}

int main(int count, char **words) {
    struct { const char *name; int (*run)(void); } all[] = {
        {"ownership", ownership}, {"attributes", attributes}, {"hard links", hard_links}, {"other links", other_links},
        {"mapping", mapping}, {"locks", locks}, {"direct", direct}, {"renaming", renaming}, {"holes", holes}, {"watching", watching},
        {"tree", tree},
    };
    if (count != 3 || chdir(words[1]) != 0) return 2;
    wanted = atol(words[2]);
    umask(022);
    int bad = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        int good = all[i].run == tree && !wanted ? 1 : all[i].run();
        clock_gettime(CLOCK_MONOTONIC, &b);
        if (good) printf("ok %s (%.2f s)\n", all[i].name, b.tv_sec - a.tv_sec + (b.tv_nsec - a.tv_nsec) / 1e9);
        else printf("FAILED %s: %s\n", all[i].name, why);
        fflush(stdout);
        bad += !good;
    }
    return bad ? 1 : 0;
}
