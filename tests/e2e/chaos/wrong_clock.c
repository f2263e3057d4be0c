/* Preloaded into a worker, sets its time of day wrong by as many seconds as stand in the file WRONG_CLOCK, of which 8 bytes are mapped:
 * a jump is there at once. What measures durations (CLOCK_MONOTONIC) is left alone, as it is on a host whose clock is set.
 *
 * Debian's libfaketime 0.9.10 was tried: with a monotonic clock left alone, Python's time.sleep fails in it (EINVAL). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t right_clock = 0;
static const volatile int64_t *seconds_off = &right_clock;

__attribute__((constructor)) static void look_up(void) {
    const char *name = getenv("WRONG_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *seconds_off, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) seconds_off = mapped;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(id, now);
    if (!outcome && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *seconds_off;
    return outcome;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int outcome = real(now, zone);
    if (!outcome && now) now->tv_sec += *seconds_off;
    return outcome;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

/* RocksDB waits until a time of day; Python, on the same call, until a monotonic one, which is below this for the first 30 years. */
#define A_TIME_OF_DAY 1000000000

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    /* By version: a condition of before 2003 is laid out otherwise, and dlsym may find its functions. */
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec right = *until;
    if (right.tv_sec > A_TIME_OF_DAY) right.tv_sec -= *seconds_off;
    return real(condition, mutex, &right);
}
