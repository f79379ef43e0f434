/* Preloaded into a process by the chaos tests (LD_PRELOAD): what a disk or a clock may do to it.
 *
 *   P2_FAULT_PREFIX=DIR       only files below DIR count; DIR is as the process names it
 *   P2_FAULT_WRITE=K[+]       the K-th write (from 1) fails with P2_FAULT_ERRNO (a number); +: every later one too
 *   P2_FAULT_SHORT=K          the K-th write takes half of its bytes
 *   P2_FAULT_SYNC=K[+]        the same for fsync and fdatasync
 *   P2_FAULT_NO_SYNC=all|dirs syncs of everything, or of directories, do nothing and report success
 *   P2_FAULT_COUNT=FILE       at exit: "WRITES SYNCS\n", how many there were
 *   P2_FAULT_CLOCK=FILE       eight bytes: nanoseconds that the wall clock is ahead; may change at any time
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char* prefix;
static long fail_write, fail_sync, short_write, fail_errno = EIO;
static int write_stays, sync_stays, no_sync; /* no_sync: 1 directories, 2 all */
static const char* count_file;
static atomic_long writes, syncs;
static _Atomic int64_t* clock_offset;

static ssize_t (*real_write)(int, const void*, size_t);
static ssize_t (*real_pwrite)(int, const void*, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec*, int);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_sync_range)(int, off64_t, off64_t, unsigned);
static int (*real_clock_gettime)(clockid_t, struct timespec*);
static int (*real_gettimeofday)(struct timeval*, void*);
static long (*real_syscall)(long, ...);

static long number(const char* name, int* stays) {
  const char* text = getenv(name);
  if (text == NULL) return 0;
  if (stays != NULL) *stays = strchr(text, '+') != NULL;
  return atol(text);
}

/* Other libraries' constructors may run before this one's, and write or look at the clock. */
__attribute__((constructor)) static void start(void) {
  if (real_syscall != NULL) return;
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_sync_range = dlsym(RTLD_NEXT, "sync_file_range");
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  real_gettimeofday = dlsym(RTLD_NEXT, "gettimeofday");
  real_syscall = dlsym(RTLD_NEXT, "syscall");
  prefix = getenv("P2_FAULT_PREFIX");
  fail_write = number("P2_FAULT_WRITE", &write_stays);
  fail_sync = number("P2_FAULT_SYNC", &sync_stays);
  short_write = number("P2_FAULT_SHORT", NULL);
  if (getenv("P2_FAULT_ERRNO") != NULL) fail_errno = number("P2_FAULT_ERRNO", NULL);
  const char* skip = getenv("P2_FAULT_NO_SYNC");
  if (skip != NULL) no_sync = strcmp(skip, "all") == 0 ? 2 : 1;
  count_file = getenv("P2_FAULT_COUNT");
  const char* clock = getenv("P2_FAULT_CLOCK");
  if (clock != NULL) {
    int fd = open(clock, O_RDONLY | O_CLOEXEC);
    void* page = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED) clock_offset = page;
  }
}

__attribute__((destructor)) static void end(void) {
  if (count_file == NULL) return;
  FILE* file = fopen(count_file, "w");
  if (file == NULL) return;
  fprintf(file, "%ld %ld\n", (long)writes, (long)syncs);
  fclose(file);
}

static int counts(int fd) {
  char link[64], path[4096];
  if (prefix == NULL) return 0;
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof(path) - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* 1: fail; 2: take half. */
static int verdict_on_write(int fd) {
  if ((fail_write == 0 && short_write == 0 && count_file == NULL) || !counts(fd)) return 0;
  long k = ++writes;
  if (fail_write != 0 && (k == fail_write || (write_stays && k > fail_write))) return 1;
  return k == short_write ? 2 : 0;
}

ssize_t write(int fd, const void* data, size_t size) {
  start();
  int verdict = verdict_on_write(fd);
  if (verdict == 1) return errno = (int)fail_errno, -1;
  return real_write(fd, data, verdict == 2 && size > 1 ? size / 2 : size);
}

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  start();
  int verdict = verdict_on_write(fd);
  if (verdict == 1) return errno = (int)fail_errno, -1;
  return real_pwrite(fd, data, verdict == 2 && size > 1 ? size / 2 : size, offset);
}

ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

ssize_t writev(int fd, const struct iovec* parts, int count) {
  start();
  if (verdict_on_write(fd) == 1) return errno = (int)fail_errno, -1;
  return real_writev(fd, parts, count);
}

static int sync_of(int fd, int (**call)(int)) {
  start();
  int (*real)(int) = *call;
  if (no_sync == 0 && fail_sync == 0 && count_file == NULL) return real(fd);
  if (!counts(fd)) return real(fd);
  long k = ++syncs;
  if (fail_sync != 0 && (k == fail_sync || (sync_stays && k > fail_sync))) return errno = (int)fail_errno, -1;
  struct stat info;
  if (no_sync == 2 || (no_sync == 1 && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode))) return 0;
  return real(fd);
}

int fsync(int fd) { return sync_of(fd, &real_fsync); }
int fdatasync(int fd) { return sync_of(fd, &real_fdatasync); }

int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags) {
  start();
  return no_sync == 2 && counts(fd) ? 0 : real_sync_range(fd, offset, size, flags);
}

static int64_t ahead(void) { return clock_offset == NULL ? 0 : *clock_offset; }

int clock_gettime(clockid_t id, struct timespec* time) {
  start();
  int result = real_clock_gettime(id, time);
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) && clock_offset != NULL) {
    int64_t ns = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + ahead();
    time->tv_sec = ns / 1000000000;
    time->tv_nsec = ns % 1000000000;
  }
  return result;
}

int gettimeofday(struct timeval* time, void* zone) {
  start();
  int result = real_gettimeofday(time, zone);
  if (result == 0 && clock_offset != NULL) {
    int64_t us = (int64_t)time->tv_sec * 1000000 + time->tv_usec + ahead() / 1000;
    time->tv_sec = us / 1000000;
    time->tv_usec = us % 1000000;
  }
  return result;
}

time_t time(time_t* out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != NULL) *out = now.tv_sec;
  return now.tv_sec;
}

/* abseil waits for an absolute wall-clock time by the futex call; the kernel's clock is not the one that jumps here, so
 * such a wait is done in pieces of 20 ms that look at this one. */
long syscall(long call, ...) {
  start();
  va_list list;
  va_start(list, call);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long), d = va_arg(list, long),
       e = va_arg(list, long), f = va_arg(list, long);
  va_end(list);
  const struct timespec* until = (const struct timespec*)d;
  if (call != SYS_futex || clock_offset == NULL || until == NULL || (b & FUTEX_CLOCK_REALTIME) == 0)
    return real_syscall(call, a, b, c, d, e, f);
  for (;;) {
    struct timespec real, faked;
    real_clock_gettime(CLOCK_REALTIME, &real);
    clock_gettime(CLOCK_REALTIME, &faked);
    int64_t seconds = (int64_t)until->tv_sec - faked.tv_sec; /* "For ever" is a number, too. */
    int64_t left = (seconds > 1000000000 ? 1000000000 : seconds) * 1000000000 + until->tv_nsec - faked.tv_nsec;
    if (left <= 0) return errno = ETIMEDOUT, -1;
    int64_t ns = (int64_t)real.tv_sec * 1000000000 + real.tv_nsec + (left < 20000000 ? left : 20000000);
    struct timespec piece = {ns / 1000000000, ns % 1000000000};
    long result = real_syscall(call, a, b, c, (long)&piece, e, f);
    if (result == 0 || errno != ETIMEDOUT) return result;
  }
}
