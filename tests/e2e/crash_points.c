/* Preloaded into one program under test: dies by SIGKILL at the N-th change it makes to files of one output, or stops
   by SIGSTOP when it has written something for the N-th time.

   CRASH_PREFIX  absolute path that the files' names begin with
   CRASH_RANK    only this rank counts (by default 0; a program without launcher is rank 0)
   CRASH_AT      die at this change, counted from 1; 0 or absent: never
   CRASH_HALF    set: a write at that point gets half of its bytes out first, anything else happens first
   CRASH_LOG     file to which every change is appended, one line each
   HOLD_TEXT     stop after the write that holds this text ...
   HOLD_AT       ... for the N-th time; SIGCONT lets the program go on, whatever it writes then
   HOLD_SECONDS  wait there so long, deaf to SIGCONT, instead of stopping */
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
#include <time.h>
#include <unistd.h>

static atomic_int changes;
static atomic_int texts;

static int is_chosen_rank(void) {
  const char *rank = getenv("OMPI_COMM_WORLD_RANK");
  const char *chosen = getenv("CRASH_RANK");
  return atoi(rank ? rank : "0") == atoi(chosen ? chosen : "0");
}

static int is_output(const char *path) {
  const char *prefix = getenv("CRASH_PREFIX");
  return prefix && path && strncmp(path, prefix, strlen(prefix)) == 0 && is_chosen_rank();
}

static const char *path_of(int fd, char *buffer) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, buffer, PATH_MAX - 1);
  if (length < 0) return NULL;
  buffer[length] = '\0';
  return buffer;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Counts a change; 1 when the program has to die in it. */
static int is_the_point(const char *call, const char *path) {
  const int number = atomic_fetch_add(&changes, 1) + 1;
  const char *log = getenv("CRASH_LOG");
  if (log) {
    FILE *file = fopen(log, "a");
    if (file) {
      fprintf(file, "%s %s\n", call, path);
      fclose(file);
    }
  }
  const char *at = getenv("CRASH_AT");
  const int dies = at && atoi(at) == number;
  if (dies && !getenv("CRASH_HALF")) die();
  return dies;
}

/* Stops the program where it has just written the chosen text for the chosen time. */
static void hold(const void *bytes, size_t count) {
  const char *text = getenv("HOLD_TEXT");
  const char *at = getenv("HOLD_AT");
  if (!text || !at || !memmem(bytes, count, text, strlen(text))) return;
  if (atomic_fetch_add(&texts, 1) + 1 != atoi(at)) return;
  const char *seconds = getenv("HOLD_SECONDS");
  if (!seconds) {
    kill(getpid(), SIGSTOP);
    return;
  }
  struct timespec left = {.tv_sec = atoi(seconds)};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static ssize_t positioned_write(ssize_t (*next)(int, const void *, size_t, off_t), int fd, const void *bytes,
                                size_t count, off_t offset) {
  char buffer[PATH_MAX];
  const char *path = path_of(fd, buffer);
  const int counts = is_output(path);
  if (counts && is_the_point("pwrite", path)) {
    next(fd, bytes, count / 2, offset);
    die();
  }
  const ssize_t written = next(fd, bytes, count, offset);
  if (counts) hold(bytes, count);
  return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  return positioned_write(NEXT(pwrite), fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) {
  return positioned_write(NEXT(pwrite64), fd, bytes, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  char buffer[PATH_MAX];
  const char *path = path_of(fd, buffer);
  const int counts = is_output(path);
  if (counts && is_the_point("write", path)) {
    NEXT(write)(fd, bytes, count / 2);
    die();
  }
  const ssize_t written = NEXT(write)(fd, bytes, count);
  if (counts) hold(bytes, count);
  return written;
}

#define ON_FD(name, parameters, arguments)                 \
  int name parameters {                                    \
    char buffer[PATH_MAX];                                 \
    const char *path = path_of(fd, buffer);                \
    const int dies = is_output(path) && is_the_point(#name, path); \
    const int result = NEXT(name) arguments;               \
    if (dies) die();                                       \
    return result;                                         \
  }

ON_FD(fsync, (int fd), (fd))
ON_FD(fdatasync, (int fd), (fd))
ON_FD(ftruncate, (int fd, off_t length), (fd, length))
ON_FD(ftruncate64, (int fd, off_t length), (fd, length))
ON_FD(fallocate, (int fd, int mode, off_t offset, off_t length), (fd, mode, offset, length))
ON_FD(fallocate64, (int fd, int mode, off_t offset, off_t length), (fd, mode, offset, length))

#define ON_PATH(name, parameters, arguments, path)        \
  int name parameters {                                   \
    const int dies = is_output(path) && is_the_point(#name, path); \
    const int result = NEXT(name) arguments;              \
    if (dies) die();                                      \
    return result;                                        \
  }

ON_PATH(unlink, (const char *path), (path), path)
ON_PATH(remove, (const char *path), (path), path)
ON_PATH(rename, (const char *from, const char *to), (from, to), to)

static int opened(int (*next)(const char *, int, ...), const char *path, int flags, mode_t mode) {
  const int dies = (flags & O_CREAT) && is_output(path) && is_the_point("open", path);
  const int fd = next(path, flags, mode);
  if (dies) die();
  return fd;
}

#define OPEN(name)                             \
  int name(const char *path, int flags, ...) { \
    va_list rest;                              \
    va_start(rest, flags);                     \
    const mode_t mode = va_arg(rest, mode_t);  \
    va_end(rest);                              \
    return opened(NEXT(name), path, flags, mode); \
  }

OPEN(open)
OPEN(open64)
