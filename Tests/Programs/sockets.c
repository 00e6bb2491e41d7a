// What a client asks of a Unix socket: sockets PATH stream|message WORDS. A stream's answer goes to standard output, after our half was closed.
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count != 4) return 2;
    int isMessage = !strcmp(words[2], "message");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, isMessage ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("connect");
        return 1;
    }
    if (write(fd, words[3], strlen(words[3])) < 0) {
        perror("write");
        return 1;
    }
    if (isMessage) return 0;
    shutdown(fd, SHUT_WR);
    char bytes[4096];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0) fwrite(bytes, 1, (size_t)n, stdout);
    return n < 0;
}
