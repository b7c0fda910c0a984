/* Makes one file operation below a folder fail, or kill its process: preloaded by the file campaign.
 *
 * FAULTS_BELOW   the folder; operations elsewhere are left alone and not counted
 * FAULTS_AT      the number of the first operation that is hit, from 1; 0 counts only
 * FAULTS_MANY    how many operations in a row are hit
 * FAULTS_HOW     KILL, ENOSPC or EIO
 * FAULTS_LIST    a file that gets a line for each operation: its number, name and path
 *
 * Read at the first operation, so a process that was forked from a warm one can still set them. A write that kills
 * writes half of its bytes first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int count;
static int at, many, list = -1;
static char below[PATH_MAX], how[16];
static pid_t owner;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int is_on(void) {
    if (owner) return owner == getpid();
    const char *folder = getenv("FAULTS_BELOW");
    if (!folder || !*folder) return 0;
    snprintf(below, sizeof below, "%s/", folder);
    at = atoi(getenv("FAULTS_AT") ?: "0");
    many = atoi(getenv("FAULTS_MANY") ?: "1");
    snprintf(how, sizeof how, "%s", getenv("FAULTS_HOW") ?: "");
    if (getenv("FAULTS_LIST"))
        list = (int)syscall(SYS_openat, AT_FDCWD, getenv("FAULTS_LIST"), O_WRONLY | O_CREAT | O_APPEND, 0666);
    owner = getpid(); /* data processes inherit the environment and have no part in this */
    return 1;
}

static int is_below(const char *path) {
    return strncmp(path, below, strlen(below)) == 0 ||
           (strlen(path) + 1 == strlen(below) && strncmp(path, below, strlen(path)) == 0);
}

/* The absolute path of a name in a folder; the name itself where it is absolute. */
static void locate(int folder, const char *name, char *path) {
    path[0] = 0;
    if (name[0] != '/') {
        char link[64];
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, path, PATH_MAX - 2);
        path[n > 0 ? n : 0] = 0;
        strncat(path, "/", PATH_MAX - strlen(path) - 1);
    }
    strncat(path, name, PATH_MAX - strlen(path) - 1);
}

/* Count an operation; return whether it is hit. */
static int counted(const char *name, const char *path) {
    int number = atomic_fetch_add(&count, 1) + 1;
    int is_hit = at && number >= at && number < at + many;
    if (list >= 0) {
        char line[PATH_MAX + 64];
        int n = snprintf(line, sizeof line, "%d %s %s%s\n", number, name, path, is_hit ? " HIT" : "");
        syscall(SYS_write, list, line, n);
    }
    return is_hit;
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* Return whether an operation on a path must fail, with errno set; does not return where it kills. */
static int fails(const char *name, int folder, const char *file) {
    int before = errno;
    char path[PATH_MAX];
    if (!is_on()) return 0;
    locate(folder, file, path);
    if (!is_below(path) || !counted(name, path)) {
        errno = before;
        return 0;
    }
    if (strcmp(how, "KILL") == 0) die();
    errno = strcmp(how, "EIO") == 0 ? EIO : ENOSPC;
    return 1;
}

/* The same for an open file; 2 where a write has to kill half-way. */
static int fails_open(const char *name, int descriptor) {
    int before = errno;
    char link[64], path[PATH_MAX];
    if (!is_on()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    if (!is_below(path) || !counted(name, path)) {
        errno = before;
        return 0;
    }
    if (strcmp(how, "KILL") == 0) return 2;
    errno = strcmp(how, "EIO") == 0 ? EIO : ENOSPC;
    return 1;
}

static int is_for_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

/* Operations that free room never fail for want of room. */
static int lacks_room(void) { return strcmp(how, "ENOSPC") == 0; }

#define OPEN(name) \
    int name(const char *file, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (is_for_writing(flags) && fails("open", AT_FDCWD, file)) return -1; \
        return real(file, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *file, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if (is_for_writing(flags) && fails("open", folder, file)) return -1; \
        return real(folder, file, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *file, const char *mode) { \
        REAL(name); \
        if (strpbrk(mode, "wa+") && fails("fopen", AT_FDCWD, file)) return NULL; \
        return real(file, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

size_t fwrite(const void *data, size_t size, size_t n, FILE *stream) {
    REAL(fwrite);
    switch (is_on() ? fails_open("fwrite", fileno(stream)) : 0) {
    case 1: return 0;
    case 2: real(data, size, n / 2, stream); fflush(stream); die();
    }
    return real(data, size, n, stream);
}

int fflush(FILE *stream) {
    REAL(fflush);
    int found = stream && is_on() ? fails_open("fflush", fileno(stream)) : 0;
    if (found == 2) die();
    return found ? EOF : real(stream);
}

#define WRITE(name, parameters, arguments, half) \
    ssize_t name parameters { \
        REAL(name); \
        switch (fails_open(#name, file)) { \
        case 1: return -1; \
        case 2: real half; die(); \
        } \
        return real arguments; \
    }
WRITE(write, (int file, const void *data, size_t n), (file, data, n), (file, data, n / 2))
WRITE(pwrite, (int file, const void *data, size_t n, off_t where), (file, data, n, where), (file, data, n / 2, where))
WRITE(pwrite64, (int file, const void *data, size_t n, off64_t where), (file, data, n, where),
      (file, data, n / 2, where))
WRITE(writev, (int file, const struct iovec *data, int n), (file, data, n), (file, data, n / 2))
WRITE(sendfile, (int file, int from, off_t *where, size_t n), (file, from, where, n), (file, from, where, n / 2))
WRITE(sendfile64, (int file, int from, off64_t *where, size_t n), (file, from, where, n), (file, from, where, n / 2))

#define ON_OPEN_FILE(name, parameters, arguments) \
    int name parameters { \
        REAL(name); \
        int found = fails_open(#name, file); \
        if (found == 2) die(); \
        return found ? -1 : real arguments; \
    }
ON_OPEN_FILE(fsync, (int file), (file))
ON_OPEN_FILE(fdatasync, (int file), (file))
ON_OPEN_FILE(ftruncate, (int file, off_t n), (file, n))
ON_OPEN_FILE(ftruncate64, (int file, off64_t n), (file, n))

#define ON_PATH(name, folder, parameters, arguments, target) \
    int name parameters { \
        REAL(name); \
        return fails(#name, folder, target) ? -1 : real arguments; \
    }
ON_PATH(mkdir, AT_FDCWD, (const char *file, mode_t mode), (file, mode), file)
ON_PATH(mkdirat, folder, (int folder, const char *file, mode_t mode), (folder, file, mode), file)
ON_PATH(rename, AT_FDCWD, (const char *from, const char *to), (from, to), to)
ON_PATH(renameat, folder, (int origin, const char *from, int folder, const char *to), (origin, from, folder, to), to)
ON_PATH(link, AT_FDCWD, (const char *from, const char *to), (from, to), to)
ON_PATH(symlink, AT_FDCWD, (const char *from, const char *to), (from, to), to)

#define ON_REMOVAL(name, folder, parameters, arguments, target) \
    int name parameters { \
        REAL(name); \
        return fails(#name, folder, target) && !lacks_room() ? -1 : real arguments; \
    }
ON_REMOVAL(unlink, AT_FDCWD, (const char *file), (file), file)
ON_REMOVAL(unlinkat, folder, (int folder, const char *file, int flags), (folder, file, flags), file)
ON_REMOVAL(rmdir, AT_FDCWD, (const char *file), (file), file)
ON_REMOVAL(chmod, AT_FDCWD, (const char *file, mode_t mode), (file, mode), file)
