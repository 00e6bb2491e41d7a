// mapped FILE: changes FILE through a mapping alone and ends without a word to the kernel; as PID 1 it leaves another process to be killed, which
// changes FILE.child.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 8 << 20 };

static char *map(const char *path) {
    int file = open(path, O_RDWR | O_CREAT, 0644);
    if (file < 0 || ftruncate(file, SIZE)) return NULL;
    char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? NULL : memory;
}

int main(int count, char **words) {
    int ready[2];
    char path[4096], go;
    if (count != 2 || pipe(ready)) return 2;
    snprintf(path, sizeof path, "%s.child", words[1]);
    pid_t child = fork();
    char *memory = map(child ? words[1] : path);
    if (child < 0 || !memory) return 3;
    memset(memory, child ? 'p' : 'c', SIZE);
    if (!child) return write(ready[1], "+", 1) == 1 ? pause() : 4;
    return read(ready[0], &go, 1) == 1 ? 0 : 5;
}
