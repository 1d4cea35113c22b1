/* What figure P9 is compared with: plain memset and memcmp of anonymous shared memory, on as many threads as are asked for.
 *
 *   cc -O2 -pthread -o memory memory.c && ./memory [MIB] [THREADS] [ROUNDS]
 *
 * Prints the best of ROUNDS in GB/s (1e9). The Go side beside it, in the same run:
 *   go test -run '^$' -bench '^BenchmarkP9$' -benchtime 1x ./internal/driver/memory
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PIECE (16 << 10)

static char zeros[PIECE];
static char *memory;
static size_t size, threads;
static volatile int different;

static void *fill(void *n) {
	size_t share = size / threads;
	memset(memory + (size_t)n * share, 0, share);
	return 0;
}

static void *compare(void *n) {
	size_t share = size / threads;
	char *from = memory + (size_t)n * share;
	for (size_t i = 0; i + PIECE <= share; i += PIECE)
		if (memcmp(from + i, zeros, PIECE))
			different = 1;
	return 0;
}

static double once(void *(*work)(void *)) {
	pthread_t t[64];
	struct timespec a, b;
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (size_t i = 0; i < threads; i++)
		if (pthread_create(&t[i], 0, work, (void *)i))
			exit(1);
	for (size_t i = 0; i < threads; i++)
		pthread_join(t[i], 0);
	clock_gettime(CLOCK_MONOTONIC, &b);
	return size / ((b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9) / 1e9;
}

int main(int argc, char **argv) {
	size = (argc > 1 ? strtoul(argv[1], 0, 10) : 1024) << 20;
	threads = argc > 2 ? strtoul(argv[2], 0, 10) : (size_t)sysconf(_SC_NPROCESSORS_ONLN);
	int rounds = argc > 3 ? atoi(argv[3]) : 5;
	if (threads < 1 || threads > 64 || size < threads * PIECE) {
		fprintf(stderr, "memory: 1 to 64 threads, at least 16 KiB each\n");
		return 2;
	}
	int fd = memfd_create("bench", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size)) {
		perror("memory");
		return 1;
	}
	memory = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (memory == MAP_FAILED) {
		perror("memory");
		return 1;
	}
	memset(memory, 0x5a, size); /* A machine has written it. */
	double best[2] = {0, 0};
	for (int i = 0; i < rounds; i++) {
		double set = once(fill), cmp = once(compare);
		best[0] = set > best[0] ? set : best[0];
		best[1] = cmp > best[1] ? cmp : best[1];
	}
	printf("memset %.1f GB/s, memcmp %.1f GB/s, %zu MiB, %zu threads%s\n", best[0], best[1], size >> 20, threads, different ? ", DIFFERENT" : "");
	return 0;
}
