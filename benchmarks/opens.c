/* Opens every file named on stdin, one path a line, PASSES times over, on one thread; prints the
 * nanoseconds of each pass, a line each. "read" as second word also reads 4 KB of each. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    int passes = argc > 1 ? atoi(argv[1]) : 1;
    int reads = argc > 2 && !strcmp(argv[2], "read");
    char **names = NULL, *line = NULL, buffer[4096];
    size_t count = 0, room = 0;
    ssize_t length;

    while ((length = getline(&line, &room, stdin)) > 0) {
        if (!(count & (count + 1)))
            names = realloc(names, 2 * (count + 1) * sizeof *names);
        line[length - 1] = 0;
        names[count++] = strdup(line);
    }
    while (passes-- > 0) {
        long long started = now();
        for (size_t i = 0; i < count; i++) {
            int fd = open(names[i], O_RDONLY | O_CLOEXEC);
            if (fd < 0 || (reads && read(fd, buffer, sizeof buffer) < 0)) {
                perror(names[i]);
                return 1;
            }
            close(fd);
        }
        printf("%lld\n", now() - started);
    }
    return 0;
}
