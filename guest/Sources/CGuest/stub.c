// What the program of a stubdomain needs beyond hull-init.
#include "CGuest.h"
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>

int guest_load_module(int fd, const char *parameters) { return syscall(SYS_finit_module, fd, parameters, 0) < 0 ? -errno : 0; }

int guest_make_raw(int terminal) {
    struct termios how;
    if (tcgetattr(terminal, &how) < 0) return -errno;
    cfmakeraw(&how);
    return tcsetattr(terminal, TCSANOW, &how) < 0 ? -errno : 0;
}

int guest_connect(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

int guest_spawn(char *const *arguments, const int *passed, unsigned count) {
    int child = fork();
    if (child != 0) return child < 0 ? -errno : child;
    // Out of the way of the places that they get.
    int kept[8];
    for (unsigned index = 0; index < count && index < 8; index++) kept[index] = fcntl(passed[index], F_DUPFD, 64);
    for (unsigned index = 0; index < count && index < 8; index++) {
        dup2(kept[index], 3 + (int)index);
        close(kept[index]);
    }
    char *const environment[] = {"PATH=/usr/bin", NULL};
    execve(arguments[0], arguments, environment);
    _exit(127);
}

int guest_poll(const int *files, unsigned count, int milliseconds) {
    struct pollfd all[8];
    if (count > 8) return -EINVAL;
    for (unsigned index = 0; index < count; index++) all[index] = (struct pollfd){.fd = files[index], .events = POLLIN};
    int ready = poll(all, count, milliseconds), result = 0;
    if (ready < 0 && errno != EINTR) return -errno;
    for (unsigned index = 0; ready > 0 && index < count; index++)
        if (all[index].revents) result |= 1 << index;
    return result;
}

void guest_power_off(void) {
    sync();
    reboot(RB_POWER_OFF);
}
